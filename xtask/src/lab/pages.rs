//! Two dumps of one crash, page by page: they are the same but for what a dump changes by being
//! written.
//!
//! The parts of a dump are found here once more, from the specification of the formats alone: the
//! reader does not judge itself.

use super::checks::places;
use crate::Result;
use std::path::Path;

const PAGE: usize = 4096;
/// Where the identity block is, and its parts: see `docs/format-extension.md`.
const IDENTITY: usize = 1024;
const IDENTITY_LEN: usize = 192;

/// What a page of the file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Headers: the same but for the identity block.
    Header,
    /// The message buffer, to which the kernel added what it said meanwhile.
    Messages,
    /// What describes the pages.
    Tables,
    /// A page of memory, by its physical address.
    Memory(u64),
    /// What follows the pages: checksums, registers.
    Extension,
}

/// A plain dump in memory, and what each of its pages is.
pub(super) struct Pages {
    bytes: Vec<u8>,
    parts: Vec<Part>,
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

fn usize_at(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
}

impl Pages {
    pub(super) fn read(file: &Path) -> Result<Self> {
        let bytes = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let parts = if bytes.starts_with(b"minidump FreeBSD/amd64\0") {
            minidump(&bytes)
        } else if bytes.starts_with(b"\x7fELF") {
            full_dump(&bytes)
        } else {
            None
        };
        match parts {
            Some(parts) => Ok(Self { bytes, parts }),
            None => Err(format!("{}: not a plain dump", file.display())),
        }
    }

    fn page(&self, index: usize) -> &[u8] {
        let end = (PAGE * (index + 1)).min(self.bytes.len());
        self.bytes.get(PAGE * index..end).unwrap_or_default()
    }

    /// The identity block: dump, boot, machine, build id, and why the kernel dumped.
    pub(super) fn identity(&self) -> &[u8] {
        let block = self.bytes.get(IDENTITY..IDENTITY + IDENTITY_LEN);
        block.unwrap_or_default()
    }

    /// Whether these bytes are anywhere in it.
    pub(super) fn holds(&self, wanted: &[u8]) -> bool {
        self.bytes
            .windows(wanted.len())
            .any(|window| window == wanted)
    }

    /// Demands that another dump of the same crash holds the same pages, with the same contents,
    /// outside the memory that `show dump memory` names. Returns how many pages of memory differ
    /// inside it.
    pub(super) fn same_as(&self, other: &Self, changing: &str) -> Result<usize> {
        if self.parts != other.parts {
            return Err("they do not hold the same pages".to_owned());
        }
        let changing = places(changing);
        let mut excused = 0;
        for (index, part) in self.parts.iter().enumerate() {
            let (own, theirs) = (self.page(index), other.page(index));
            let same = match part {
                Part::Header => {
                    let end = IDENTITY + IDENTITY_LEN;
                    own[..IDENTITY] == theirs[..IDENTITY] && own[end..] == theirs[end..]
                }
                Part::Messages | Part::Extension => true,
                Part::Tables => own == theirs,
                Part::Memory(pa) => {
                    let is_changing = changing
                        .iter()
                        .any(|(_, start, end)| (start..end).contains(&pa));
                    let same = own == theirs;
                    excused += usize::from(!same && is_changing);
                    same || is_changing
                }
            };
            if !same {
                return Err(format!("page {index} of the file differs: {part:x?}"));
            }
        }
        Ok(excused)
    }
}

/// The parts of a minidump of version 3: header, message buffer, `dump_avail`, bitmap, page tables,
/// and a page for each bit.
fn minidump(bytes: &[u8]) -> Option<Vec<Part>> {
    let pages = |at| Some(usize_at(bytes, at)?.div_ceil(PAGE));
    let (messages, bitmap, tables) = (pages(28)?, pages(32)?, pages(36)?);
    let avail_len = usize_at(bytes, 64)?;
    let avail = avail_len.div_ceil(PAGE);
    let mut parts = vec![Part::Header];
    parts.resize(1 + messages, Part::Messages);
    parts.resize(1 + messages + avail + bitmap + tables, Part::Tables);
    let avail_at = (1 + messages) * PAGE;
    let bitmap_at = avail_at + avail * PAGE;
    let mut bit = 0;
    for at in (avail_at..avail_at + avail_len).step_by(16) {
        let (start, end) = (u64_at(bytes, at)?, u64_at(bytes, at + 8)?);
        for pa in (start..end).step_by(PAGE) {
            let is_set = bytes.get(bitmap_at + bit / 8)? >> (bit % 8) & 1 == 1;
            if is_set {
                parts.push(Part::Memory(pa));
            }
            bit += 1;
        }
    }
    extension(bytes, parts)
}

/// The parts of a full dump: an ELF header and program headers, and each range of RAM.
fn full_dump(bytes: &[u8]) -> Option<Vec<Part>> {
    let table = usize::try_from(u64_at(bytes, 32)?).ok()?;
    let (size, count) = (usize_at(bytes, 54)? & 0xffff, usize_at(bytes, 56)? & 0xffff);
    let mut parts = Vec::new();
    for index in 0..count {
        let at = table + index * size;
        if usize_at(bytes, at)? != 1 {
            continue;
        }
        let first = usize::try_from(u64_at(bytes, at + 8)?).ok()? / PAGE;
        let (start, len) = (u64_at(bytes, at + 24)?, u64_at(bytes, at + 32)?);
        if first < parts.len() {
            return None;
        }
        parts.resize(first, Part::Header);
        parts.extend((start..start + len).step_by(PAGE).map(Part::Memory));
    }
    extension(bytes, parts)
}

/// What is left after the pages.
fn extension(bytes: &[u8], mut parts: Vec<Part>) -> Option<Vec<Part>> {
    let all = bytes.len().div_ceil(PAGE);
    if parts.len() > all {
        return None;
    }
    parts.resize(all, Part::Extension);
    Some(parts)
}
