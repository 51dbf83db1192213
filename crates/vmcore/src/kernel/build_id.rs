//! The build id of the kernel that crashed, as the dump has it.
//!
//! The identity block names it, if the dump has one. Else the kernel's own ELF header, which is
//! mapped at the start of its image with its notes, is the answer, if that page is in the dump. Else
//! the dump is searched for notes; kernel modules have them too, so several candidates may come out,
//! and none of them is chosen.

use crate::dump::{Dump, DumpFormat};
use crate::image;
use crate::memory::{Memory, PageReadError};
use crate::space::AddressSpace;
use crate::translation::Translation;
use serde::Serialize;
use std::fmt;
use vmcore_format::addr::{FileOffset, VirtAddr};
use vmcore_format::elf::{FileHeader, PT_NOTE};
use vmcore_format::endian::Endian;
use vmcore_format::layout::Section;

/// `NT_GNU_BUILD_ID`.
const NT_GNU_BUILD_ID: u32 = 3;
/// The owner of the note, which is between the type and the id.
const NOTE_OWNER: &[u8; 4] = b"GNU\0";
/// Bytes of type and owner.
const NOTE_TAIL_LEN: usize = 8;
/// Program headers of a kernel image: a handful.
const MAX_PROGRAM_HEADERS: u16 = 64;
/// The most bytes of notes that are looked at.
const MAX_NOTES: u64 = 64 << 10;
/// The most candidates that a search lists.
const MAX_CANDIDATES: usize = 64;
/// Bytes read in one go while searching.
const SEARCH_CHUNK: usize = 1 << 20;

/// A build id: up to 32 bytes, printed in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BuildId {
    bytes: [u8; 32],
    len: usize,
}

impl BuildId {
    /// A build id of these bytes; `None` if there are none or more than 32.
    #[must_use]
    pub fn new(id: &[u8]) -> Option<Self> {
        let mut bytes = [0; 32];
        bytes.get_mut(..id.len())?.copy_from_slice(id);
        (!id.is_empty()).then_some(Self {
            bytes,
            len: id.len(),
        })
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The first and last two bytes, for people.
    #[must_use]
    pub fn short(&self) -> String {
        let full = self.to_string();
        match (full.get(..4), full.get(full.len().saturating_sub(4)..)) {
            (Some(first), Some(last)) if full.len() > 12 => format!("{first}…{last}"),
            _ => full,
        }
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BuildId({self})")
    }
}

impl Serialize for BuildId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How the build ids were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// The identity block has it: the kernel's own.
    IdentityBlock,
    /// In the notes that the kernel's mapped ELF header names: the kernel's own.
    ElfHeader,
    /// By searching the dump for notes: the kernel's and its modules', in no order.
    NoteSearch,
}

/// The build ids that a dump holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DumpBuildIds {
    /// How they were found.
    pub evidence: Evidence,
    /// Any number, if by searching; else one.
    pub ids: Vec<BuildId>,
}

impl DumpBuildIds {
    /// The kernel's build id, if there is no doubt about it.
    #[must_use]
    pub fn certain(&self) -> Option<BuildId> {
        match (self.evidence, self.ids.as_slice()) {
            (Evidence::IdentityBlock | Evidence::ElfHeader, [id]) => Some(*id),
            _ => None,
        }
    }

    /// The build id in the identity block.
    pub(crate) fn from_identity(dump: &Dump) -> Option<Self> {
        let id = BuildId::new(dump.identity()?.build_id.bytes())?;
        Some(Self {
            evidence: Evidence::IdentityBlock,
            ids: vec![id],
        })
    }

    /// The build id from the kernel's mapped ELF header.
    pub(crate) fn from_elf_header(dump: &Dump, translation: Option<&Translation>) -> Option<Self> {
        let id = match (translation, dump.kind()) {
            (Some(translation), _) => {
                let space = AddressSpace::new(dump.memory(), dump.arch(), translation);
                image_starts(dump).into_iter().find_map(|start| {
                    from_image(start, |va, buf| space.read_exact(va, buf).is_ok())
                })
            }
            // Without the kernel file a full dump has only physical addresses.
            (None, DumpFormat::Full(header)) => {
                let image = image::fixed(header.arch)?;
                let start = header.delta.map_or(image.pa, |delta| delta.paddr);
                from_image(image.va, |va, buf| {
                    let pa = va
                        .checked_sub(image.va)
                        .and_then(|offset| start.checked_add(offset));
                    pa.is_some_and(|pa| dump.memory().read(pa, buf).error.is_none())
                })
            }
            (None, DumpFormat::Mini(_)) => None,
        }?;
        Some(Self {
            evidence: Evidence::ElfHeader,
            ids: vec![id],
        })
    }

    /// Every build id of a note in the dump's pages: reads the whole file once.
    pub(crate) fn by_note_search(memory: &Memory) -> Result<Self, PageReadError> {
        let pages_at = match (memory.sparse(), memory.segments()) {
            (Some(sparse), _) => sparse.layout().section(Section::Pages).offset.0,
            _ => 0,
        };
        let mut ids: Vec<BuildId> = Vec::new();
        let len = usize::try_from(memory.source().len()).unwrap_or(SEARCH_CHUNK);
        let mut chunk = vec![0; len.clamp(4096, SEARCH_CHUNK)];
        let mut offset = pages_at;
        loop {
            let read = memory
                .source()
                .read_positional(offset, &mut chunk)
                .map_err(|error| PageReadError::io(FileOffset(offset), &error))?;
            let bytes = chunk.get(..read).unwrap_or_default();
            for at in memchr::memmem::find_iter(bytes, &note_tail(memory.endian())) {
                if let Some(id) = note_around(bytes, at, memory.endian())
                    && !ids.contains(&id)
                    && ids.len() < MAX_CANDIDATES
                {
                    ids.push(id);
                }
            }
            if read < chunk.len() {
                ids.sort_unstable();
                return Ok(Self {
                    evidence: Evidence::NoteSearch,
                    ids,
                });
            }
            // Notes do not cross pages, and chunks are made of whole pages.
            offset += read as u64;
        }
    }
}

/// Where the image's ELF header may be mapped.
fn image_starts(dump: &Dump) -> Vec<VirtAddr> {
    image::starts(dump.arch(), dump.minidump())
}

/// The build id of the image whose ELF header is at `start`.
fn from_image(start: VirtAddr, read: impl Fn(VirtAddr, &mut [u8]) -> bool) -> Option<BuildId> {
    let mut header = [0; FileHeader::MAX_LEN];
    let header = read(start, &mut header)
        .then(|| FileHeader::parse(&header).ok())
        .flatten()?;
    let count = header.e_phnum.min(MAX_PROGRAM_HEADERS);
    let table = start.checked_add(header.e_phoff)?;
    (0..u64::from(count)).find_map(|index| {
        let mut raw = [0; 56];
        let raw = raw.get_mut(..header.phdr_len())?;
        let at = table.checked_add(index * header.phdr_len() as u64)?;
        let segment = read(at, raw).then(|| header.segment(raw)).flatten()?;
        if segment.p_type != PT_NOTE {
            return None;
        }
        let mut notes = vec![0; usize::try_from(segment.p_filesz.min(MAX_NOTES)).ok()?];
        // An image that runs elsewhere than it is linked has them as far from its start as its file.
        let moved = start.checked_add(segment.p_offset);
        let places = [Some(VirtAddr(segment.p_vaddr)), moved];
        places
            .into_iter()
            .flatten()
            .find_map(|at| read(at, &mut notes).then(|| in_notes(&notes, header.endian))?)
    })
}

/// The build id in the contents of a notes section.
pub(super) fn in_notes(notes: &[u8], endian: Endian) -> Option<BuildId> {
    memchr::memmem::find_iter(notes, &note_tail(endian))
        .find_map(|at| note_around(notes, at, endian))
}

/// What precedes the id in the note: type and owner.
fn note_tail(endian: Endian) -> [u8; NOTE_TAIL_LEN] {
    let ([a, b, c, d], [e, f, g, h]) = (endian.bytes32(NT_GNU_BUILD_ID), *NOTE_OWNER);
    [a, b, c, d, e, f, g, h]
}

/// The id of the note whose type and owner are at `at`.
fn note_around(bytes: &[u8], at: usize, endian: Endian) -> Option<BuildId> {
    let start = at.checked_sub(8)?;
    let namesz = endian.u32_at(bytes, start)?;
    let descsz = endian.u32_at(bytes, start + 4)?;
    let kind = endian.u32_at(bytes, start + 8)?;
    let len = usize::try_from(descsz)
        .ok()
        .filter(|len| (8..=32).contains(len))?;
    if namesz != 4 || kind != NT_GNU_BUILD_ID {
        return None;
    }
    let desc = at + NOTE_TAIL_LEN;
    BuildId::new(bytes.get(desc..desc + len)?)
}
