//! Page tables: entries bit by bit, and the descent against a walker that knows nothing of it.

mod decode;
mod random;
mod walk;

use super::*;
use core::ops::ControlFlow;
use std::collections::BTreeMap;
use std::{vec, vec::Vec};

/// Memory of a test: a page-table section, and pages at physical addresses.
#[derive(Default)]
struct Memory {
    section: Vec<u8>,
    pages: BTreeMap<u64, Vec<u8>>,
}

/// Why the memory of a test cannot be read: this table has no bytes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Missing(TableRef);

impl Memory {
    fn with_section(entries: &[u64], width: Width) -> Self {
        Self {
            section: encode(entries, width),
            ..Self::default()
        }
    }

    /// A table at `pa` with these entries; all others are zero.
    fn table<P: Paging>(&mut self, pa: u64, entries: &[(usize, u64)]) -> &mut Self {
        let mut all = vec![0; 1 << P::INDEX_BITS];
        for (index, raw) in entries {
            all[*index] = *raw;
        }
        self.pages.insert(pa, encode(&all, P::ENTRY));
        self
    }

    fn bytes(&self, table: TableRef) -> Result<&[u8], Missing> {
        match table {
            TableRef::Section => Ok(&self.section),
            TableRef::At(pa) => self
                .pages
                .get(&pa.0)
                .map(Vec::as_slice)
                .ok_or(Missing(table)),
        }
    }
}

fn encode(entries: &[u64], width: Width) -> Vec<u8> {
    let bytes = entries.iter().map(|raw| raw.to_le_bytes());
    match width {
        Width::W32 => bytes
            .flat_map(|raw| [raw[0], raw[1], raw[2], raw[3]])
            .collect(),
        Width::W64 => bytes.flatten().collect(),
    }
}

impl Tables for Memory {
    type Error = Missing;

    fn entry(&self, table: TableRef, index: u64, width: Width) -> Result<u64, Missing> {
        let index = usize::try_from(index).map_err(|_| Missing(table))?;
        let item = width.item(crate::endian::Endian::Little, self.bytes(table)?, index);
        item.ok_or(Missing(table))
    }

    fn load<'b>(
        &'b self,
        table: TableRef,
        first: u64,
        count: u64,
        width: Width,
        buf: &'b mut [u8],
    ) -> Result<&'b [u8], Missing> {
        let range = |number: u64| usize::try_from(number * width.bytes()).unwrap();
        let bytes = self.bytes(table)?;
        let end = range(first + count).min(bytes.len());
        let bytes = &bytes[range(first).min(end)..end];
        let buf = &mut buf[..bytes.len()];
        buf.copy_from_slice(bytes);
        Ok(buf)
    }
}

/// What a visit was told, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Leaf(VirtAddr, Leaf),
    Table(PhysAddr, u32),
    Unreadable(VirtAddr, TableRef),
}

/// Notes everything, and breaks off after so many leaves.
struct Recorder {
    events: Vec<Event>,
    leaves_left: usize,
}

impl Visitor<Missing> for Recorder {
    fn leaf(&mut self, va: VirtAddr, leaf: Leaf) -> ControlFlow<()> {
        self.events.push(Event::Leaf(va, leaf));
        self.leaves_left -= 1;
        if self.leaves_left == 0 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn table(&mut self, pa: PhysAddr, level: u32) -> ControlFlow<()> {
        self.events.push(Event::Table(pa, level));
        ControlFlow::Continue(())
    }

    fn unreadable(&mut self, va: VirtAddr, error: WalkError<Missing>) -> ControlFlow<()> {
        let WalkError::Table { table, .. } = error else {
            panic!("a visit reports tables, not {error:?}");
        };
        self.events.push(Event::Unreadable(va, table));
        ControlFlow::Continue(())
    }
}

/// All that a visit with `table_loads` says, whether it broke off, and the loads that are left.
fn visited<P: Paging>(
    radix: &Radix,
    memory: &Memory,
    table_loads: u64,
) -> (Vec<Event>, ControlFlow<()>, u64) {
    let mut recorder = Recorder {
        events: Vec::new(),
        leaves_left: usize::MAX,
    };
    let mut budget = Budget { table_loads };
    let mut buf = vec![0; MAX_LEVELS << (P::INDEX_BITS + 3)];
    let flow = visit::<P, _>(radix, memory, &mut buf, &mut budget, &mut recorder);
    (recorder.events, flow, budget.table_loads)
}
