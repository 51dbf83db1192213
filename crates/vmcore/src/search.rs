//! Where bytes, a string or a pointer are in the memory of a dump.
//!
//! The pages are read in the order of the file, in large pieces. A pattern may run over the end of
//! a page into the physically following one. Each match comes with its physical address, its place
//! in the file and every virtual address of its page that is known.
//!
//! ```no_run
//! use vmcore::search::{Pattern, search};
//! use vmcore::session::KernelChoice;
//! use vmcore::{OpenOptions, Session};
//! let session = Session::open("vmcore.0".as_ref(), KernelChoice::None, &OpenOptions::default())?;
//! for found in search(&session, &Pattern::Bytes(b"panic: ".to_vec()), 10)?.matches {
//!     println!("{:?} at {} of the file", found.addresses, found.offset);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::memory::{Memory, PageReadError};
use crate::pages::{self, PageMap};
use crate::session::Session;
use memchr::memmem::Finder;
use serde::Serialize;
use std::ops::ControlFlow;
use thiserror::Error;
use vmcore_format::addr::{FileOffset, PhysAddr, VirtAddr};
use vmcore_format::endian::{Endian, Width};

/// The longest pattern, in bytes: it may cross one page boundary.
pub const MAX_PATTERN: usize = 4096;

/// The most addresses in the kernel map that are listed for a match: damaged tables may map one page
/// everywhere.
const MAX_ADDRESSES: usize = 64;

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// These bytes, at any address.
    Bytes(Vec<u8>),
    /// A word of the kernel with this value, at addresses that are multiples of its size.
    Pointer(VirtAddr),
}

/// A place where the pattern is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Match {
    /// Physical address; absent in a page that is not RAM of the machine.
    pub pa: Option<PhysAddr>,
    /// Where in the file.
    pub offset: FileOffset,
    /// Its virtual addresses: the first 64 in the kernel map, then that in the direct map.
    pub addresses: Vec<VirtAddr>,
}

/// What a search found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SearchResult {
    /// Matches, in the order of the file.
    pub matches: Vec<Match>,
    /// Whether there are more than were asked for.
    pub more: bool,
    /// Whether the virtual addresses are known: a full dump needs its kernel file for them.
    pub has_addresses: bool,
}

/// Why a search cannot begin or end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SearchError {
    /// Nothing to look for.
    #[error("the pattern is empty")]
    Empty,
    /// Too much to look for.
    #[error("the pattern has {len_bytes} bytes; {MAX_PATTERN} are the most")]
    TooLong {
        /// Bytes of the pattern.
        len_bytes: usize,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Absent(#[from] PageReadError),
}

/// Looks for `pattern` and returns its first `limit` places.
///
/// # Errors
/// Returns an error if the pattern is empty or too long, or the file cannot be read.
pub fn search(
    session: &Session,
    pattern: &Pattern,
    limit: usize,
) -> Result<SearchResult, SearchError> {
    let memory = session.dump().memory();
    let word = session.dump().arch().word();
    let (needle, align) = match pattern {
        Pattern::Bytes(bytes) => (bytes.clone(), 1),
        Pattern::Pointer(value) => (pointer(value.0, word, memory.endian()), word.bytes()),
    };
    if needle.is_empty() {
        return Err(SearchError::Empty);
    }
    if needle.len() > MAX_PATTERN {
        return Err(SearchError::TooLong {
            len_bytes: needle.len(),
        });
    }
    let mut scan = Scan {
        finder: Finder::new(&needle),
        tail: Vec::new(),
        hits: Hits {
            align,
            limit,
            offsets: Vec::new(),
        },
    };
    scan.run(memory)?;
    let mut offsets = scan.hits.offsets;
    let more = offsets.len() > limit;
    offsets.truncate(limit);
    let map = session.space().ok().map(PageMap::build).transpose()?;
    let matches = offsets
        .into_iter()
        .map(|offset| located(memory, map.as_ref(), offset));
    Ok(SearchResult {
        matches: matches.collect(),
        more,
        has_addresses: map.is_some(),
    })
}

/// A word as it is in memory.
fn pointer(value: u64, word: Width, endian: Endian) -> Vec<u8> {
    let little = value.to_le_bytes();
    let used = usize::try_from(word.bytes()).unwrap_or(little.len());
    let mut bytes = little.get(..used).unwrap_or(&little).to_vec();
    if endian == Endian::Big {
        bytes.reverse();
    }
    bytes
}

/// Attaches the addresses to a place in the file.
fn located(memory: &Memory, map: Option<&PageMap<'_>>, offset: FileOffset) -> Match {
    let Some((pa, start)) = pages::page_at(memory, offset) else {
        return Match {
            pa: None,
            offset,
            addresses: Vec::new(),
        };
    };
    let inside = offset.0 - start.0;
    let mut addresses = Vec::new();
    if let Some(page) = map.and_then(|map| map.page_at(offset)) {
        let mapped = page.mappings().map(|(va, _)| va);
        addresses.extend(mapped.take(MAX_ADDRESSES));
        addresses.extend(page.direct_map);
        addresses.dedup();
    }
    for address in &mut addresses {
        address.0 = address.0.wrapping_add(inside);
    }
    Match {
        pa: pa.map(|pa| PhysAddr(pa.0 + inside)),
        offset,
        addresses,
    }
}

/// The pass over the pages.
struct Scan<'n> {
    finder: Finder<'n>,
    /// The end of the page before, and then the start of this one.
    tail: Vec<u8>,
    hits: Hits,
}

/// The places found so far: one more than asked for, to know that there are more.
struct Hits {
    align: u64,
    limit: usize,
    offsets: Vec<FileOffset>,
}

/// Where bytes are: in memory, as far as it matters for alignment, and in the file.
#[derive(Clone, Copy)]
struct Position {
    address: u64,
    offset: u64,
}

impl Position {
    const fn further(self, bytes: usize) -> Self {
        Self {
            address: self.address.wrapping_add(bytes as u64),
            offset: self.offset.wrapping_add(bytes as u64),
        }
    }
}

impl Hits {
    fn is_full(&self) -> bool {
        self.offsets.len() > self.limit
    }

    /// Takes the matches in `bytes`, which are at `first`. A match that is not aligned may hide
    /// one that is, so the search goes on at the next aligned place; any others do not overlap.
    fn take(&mut self, finder: &Finder<'_>, bytes: &[u8], first: Position) {
        let mut at = 0;
        while !self.is_full()
            && let Some(found) = bytes.get(at..).and_then(|rest| finder.find(rest))
        {
            at += found;
            let place = first.further(at);
            let misaligned = place.address % self.align;
            if misaligned == 0 {
                self.offsets.push(FileOffset(place.offset));
            }
            at += match self.align {
                1 => finder.needle().len(),
                align => usize::try_from(align - misaligned).unwrap_or(1),
            };
        }
    }
}

impl Scan<'_> {
    fn run(&mut self, memory: &Memory) -> Result<(), PageReadError> {
        let overlap = self.finder.needle().len() - 1;
        // Where the tail is, and the address after it.
        let mut before: Option<(Position, PhysAddr)> = None;
        pages::scan(memory, |page| {
            let first = Position {
                address: page.pa.map_or(0, |pa| pa.0),
                offset: page.offset.0,
            };
            if let Some((tail, _)) = before.filter(|(_, end)| Some(*end) == page.pa) {
                let start = page.bytes.get(..overlap.min(page.bytes.len()));
                self.tail.extend_from_slice(start.unwrap_or_default());
                self.hits.take(&self.finder, &self.tail, tail);
            }
            self.hits.take(&self.finder, page.bytes, first);
            let keep = page.bytes.len().saturating_sub(overlap);
            self.tail.clear();
            self.tail
                .extend_from_slice(page.bytes.get(keep..).unwrap_or_default());
            let end = page
                .pa
                .and_then(|pa| pa.checked_add(page.bytes.len() as u64));
            before = end.map(|end| (first.further(keep), end));
            if self.hits.is_full() {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })
    }
}
