//! Every mapping of a tree of page tables, in ascending order of virtual addresses.

use super::{Entry, Leaf, Paging, Radix, TableRef, Tables, WalkError};
use crate::addr::{PhysAddr, VirtAddr};
use crate::endian::{Endian, Width};
use core::ops::ControlFlow;

/// How many tables a visit may load: damaged tables can be aliased a million times.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Table loads left.
    pub table_loads: u64,
}

/// Who is told what a visit finds. Any method may break the visit off.
pub trait Visitor<E> {
    /// A page of any size, mapped at `va`.
    fn leaf(&mut self, va: VirtAddr, leaf: Leaf) -> ControlFlow<()>;

    /// A table below the top array whose entries have this level. Called before its leaves.
    fn table(&mut self, pa: PhysAddr, level: u32) -> ControlFlow<()> {
        let _ = (pa, level);
        ControlFlow::Continue(())
    }

    /// The mappings from `va` on cannot be visited, because a table cannot be read.
    fn unreadable(&mut self, va: VirtAddr, error: WalkError<E>) -> ControlFlow<()> {
        let _ = (va, error);
        ControlFlow::Continue(())
    }
}

/// Visits every mapping below `radix`. Entries that name the root itself (x86's recursive slot)
/// are skipped. `buf` needs room for one table for each level: `level + 1` tables in all.
///
/// Returns `Break` if the visitor broke off or the budget ran out (`budget.table_loads` is 0 then).
pub fn visit<P: Paging, T: Tables>(
    radix: &Radix,
    tables: &T,
    buf: &mut [u8],
    budget: &mut Budget,
    visitor: &mut impl Visitor<T::Error>,
) -> ControlFlow<()> {
    visit_offsets::<P, T>(radix, tables, (0, u64::MAX), buf, budget, visitor)
}

/// As [`visit`], but only what maps addresses from `first` to `last`, both included; of a page that
/// reaches beyond, the whole page. Nothing is visited if the tables cannot cover both addresses.
pub fn visit_range<P: Paging, T: Tables>(
    radix: &Radix,
    tables: &T,
    (first, last): (VirtAddr, VirtAddr),
    buf: &mut [u8],
    budget: &mut Budget,
    visitor: &mut impl Visitor<T::Error>,
) -> ControlFlow<()> {
    match (radix.offset_of(first), radix.offset_of(last)) {
        (Some(low), Some(high)) => {
            visit_offsets::<P, T>(radix, tables, (low, high), buf, budget, visitor)
        }
        _ => ControlFlow::Continue(()),
    }
}

/// Visits the mappings whose distance from the radix's first address is within `bounds`.
fn visit_offsets<P: Paging, T: Tables>(
    radix: &Radix,
    tables: &T,
    bounds: (u64, u64),
    buf: &mut [u8],
    budget: &mut Budget,
    visitor: &mut impl Visitor<T::Error>,
) -> ControlFlow<()> {
    let per_chunk = 1u64 << P::INDEX_BITS;
    let shift = P::shift(radix.level);
    let mut first = bounds.0 >> shift;
    let end = radix.entries.min((bounds.1 >> shift) + 1);
    while first < end && radix.va_at(first << shift).is_some() {
        let count = per_chunk.min(end - first);
        let chunk = Chunk {
            table: radix.top,
            first,
            count,
            level: radix.level,
            offset: 0,
            bounds,
        };
        descend::<P, T>(radix, tables, chunk, buf, budget, visitor)?;
        first += count;
    }
    ControlFlow::Continue(())
}

/// A run of entries of one table.
#[derive(Clone, Copy)]
struct Chunk {
    table: TableRef,
    first: u64,
    count: u64,
    level: u32,
    /// Distance of the table's entry 0 from the radix's first address.
    offset: u64,
    /// The first and last distance that is wanted.
    bounds: (u64, u64),
}

impl Chunk {
    /// All of the next lower table at `offset`, as far as it is wanted.
    fn below<P: Paging>(&self, table: PhysAddr, offset: u64) -> Self {
        let level = self.level.saturating_sub(1);
        let shift = P::shift(level);
        let last_of_table = (1u64 << P::INDEX_BITS) - 1;
        let first = self.bounds.0.saturating_sub(offset) >> shift;
        let last = (self.bounds.1.saturating_sub(offset) >> shift).min(last_of_table);
        Self {
            table: TableRef::At(table),
            first,
            count: (last + 1).saturating_sub(first),
            level,
            offset,
            bounds: self.bounds,
        }
    }
}

/// Visits a run of entries, and the tables below. The recursion is as deep as the levels.
fn descend<P: Paging, T: Tables>(
    radix: &Radix,
    tables: &T,
    chunk: Chunk,
    buf: &mut [u8],
    budget: &mut Budget,
    visitor: &mut impl Visitor<T::Error>,
) -> ControlFlow<()> {
    let Chunk {
        table,
        first,
        count,
        level,
        offset,
        ..
    } = chunk;
    let needed = usize::try_from(P::ENTRY.bytes() << P::INDEX_BITS).unwrap_or(usize::MAX);
    let (own, below) = buf.split_at_mut_checked(needed).unwrap_or_default();
    // Entries past the last address map nothing, so nothing is missing there.
    let missing = |index: u64, source: T::Error| {
        let va = radix.va_at(offset + (index << P::shift(level)))?;
        let error = WalkError::Table {
            level,
            table,
            source,
        };
        Some((va, error))
    };
    let entries = match tables.load(table, first, count, P::ENTRY, own) {
        Ok(entries) => entries,
        Err(source) => return tell(visitor, missing(first, source)),
    };
    let endian = tables.endian();
    for (index, raw) in (first..).zip(raw_entries::<P>(entries)) {
        // Most are zero, in either byte order.
        if raw == 0 {
            continue;
        }
        let raw = match (endian, P::ENTRY) {
            (Endian::Little, _) => raw,
            (Endian::Big, Width::W32) => raw.swap_bytes() >> 32,
            (Endian::Big, Width::W64) => raw.swap_bytes(),
        };
        let offset = offset + (index << P::shift(level));
        // Entries past the last address map nothing.
        let Some(va) = radix.va_at(offset) else {
            return ControlFlow::Continue(());
        };
        match P::decode(level, raw) {
            Entry::Absent => {}
            Entry::Leaf(leaf) => visitor.leaf(va, own_part::<P>(level, offset, leaf))?,
            Entry::Table(next) if level == 0 || TableRef::At(next) == radix.top => {}
            Entry::Table(next) => {
                if budget.table_loads == 0 {
                    return ControlFlow::Break(());
                }
                budget.table_loads -= 1;
                visitor.table(next, level - 1)?;
                let next = chunk.below::<P>(next, offset);
                descend::<P, T>(radix, tables, next, below, budget, visitor)?;
            }
        }
    }
    // A table that the dump's end cuts has given the entries that are there.
    let given = entries.len() as u64 / P::ENTRY.bytes();
    if given < count
        && let Err(source) = tables.entry(table, first + given, P::ENTRY)
    {
        return tell(visitor, missing(first + given, source));
    }
    ControlFlow::Continue(())
}

/// The part of a page that an entry maps itself: arm repeats the entry of a page that is larger than
/// what an entry covers.
#[inline]
fn own_part<P: Paging>(level: u32, offset: u64, leaf: Leaf) -> Leaf {
    let shift = P::shift(level);
    if leaf.size_shift <= shift {
        return leaf;
    }
    Leaf {
        pa: PhysAddr(leaf.pa.0 | offset & (leaf.len_bytes() - 1)),
        size_shift: shift,
        ..leaf
    }
}

fn tell<E>(
    visitor: &mut impl Visitor<E>,
    missing: Option<(VirtAddr, WalkError<E>)>,
) -> ControlFlow<()> {
    missing.map_or(ControlFlow::Continue(()), |(va, error)| {
        visitor.unreadable(va, error)
    })
}

/// The entries of a loaded run, read as little-endian ones.
fn raw_entries<P: Paging>(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let width = usize::try_from(P::ENTRY.bytes()).unwrap_or(8);
    bytes.chunks_exact(width).map(move |raw| match P::ENTRY {
        Width::W32 => u64::from(Endian::Little.u32_at(raw, 0).unwrap_or(0)),
        Width::W64 => Endian::Little.u64_at(raw, 0).unwrap_or(0),
    })
}
