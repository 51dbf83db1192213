//! Physical memory while a machine is being put together.

use crate::Arch;
use crate::bytes::index;
use std::collections::BTreeMap;

/// Bytes of memory with a virtual and a physical address, contiguous in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) va: u64,
    pub(crate) pa: u64,
}

impl Location {
    /// The place `offset` bytes further on.
    pub(crate) const fn at(self, offset: u64) -> Self {
        Self {
            va: self.va + offset,
            pa: self.pa + offset,
        }
    }
}

/// Pages by their physical address.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    pub(crate) page_size: u64,
    pub(crate) pages: BTreeMap<u64, Vec<u8>>,
}

impl Memory {
    pub(crate) const fn new(page_size: u64) -> Self {
        Self {
            page_size,
            pages: BTreeMap::new(),
        }
    }

    /// Writes bytes; pages appear as they are needed.
    pub(crate) fn write(&mut self, pa: u64, mut bytes: &[u8]) {
        let mut pa = pa;
        while !bytes.is_empty() {
            let inside = pa % self.page_size;
            let len = bytes.len().min(index(self.page_size - inside));
            let page_len = index(self.page_size);
            let page = self
                .pages
                .entry(pa - inside)
                .or_insert_with(|| vec![0; page_len]);
            page[index(inside)..index(inside) + len].copy_from_slice(&bytes[..len]);
            bytes = &bytes[len..];
            pa += len as u64;
        }
    }

    /// Writes a number as wide as a pointer.
    pub(crate) fn write_word(&mut self, arch: Arch, pa: u64, value: u64) {
        self.write(pa, &arch.word(value));
    }
}

/// A stretch of memory that is given away from its start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arena {
    next: Location,
}

impl Arena {
    pub(crate) const fn new(start: Location) -> Self {
        Self { next: start }
    }

    /// Takes bytes at an aligned address.
    pub(crate) fn take(&mut self, len: u64, align: u64) -> Location {
        let place = self
            .next
            .at(self.next.pa.next_multiple_of(align) - self.next.pa);
        self.next = place.at(len);
        place
    }

    /// Physical address of what is left.
    pub(crate) const fn end(&self) -> u64 {
        self.next.pa
    }
}
