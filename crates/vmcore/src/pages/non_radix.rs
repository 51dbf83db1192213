//! Mappings of tables that have no levels: powerpc64's hashed page table, and sparc64's translation
//! storage buffer.

use super::{Adapter, MappingVisitor};
use crate::memory::{Memory, PageReadError};
use crate::pages;
use crate::translation::{Translation, Tsb, Window, WindowKind};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use vmcore_format::addr::{Pfn, VirtAddr};
use vmcore_format::paging::{Hashed, Leaf, Prot, Visitor as _};

/// Entries of a group of powerpc64's hashed page table.
const HASHED_SLOTS: u64 = 8;

/// Every mapping of powerpc64's hashed page table that `window` translates, and the pages that it
/// reaches although no entry names them. As many as the table has entries, and the dump pages.
pub(super) fn visit_hashed<V: MappingVisitor>(
    table: &Hashed,
    window: &Window,
    translation: &Translation,
    adapter: &mut Adapter<'_, V>,
) -> ControlFlow<()> {
    let memory = adapter.memory;
    let entries = table.groups.saturating_mul(HASHED_SLOTS);
    let mapping = |entry| {
        let found = table.mapping(memory, entry / HASHED_SLOTS, entry % HASHED_SLOTS)?;
        Ok(found.map(|found| (found.va, found.leaf)))
    };
    let is_first = |va| {
        translation
            .window(va)
            .is_some_and(|first| std::ptr::eq(first, window))
    };
    let WindowKind::Hashed(_, fallback) = &window.kind else {
        return ControlFlow::Continue(());
    };
    let mut unnamed = Vec::new();
    if let Some(map) = fallback.first() {
        let size = memory.page_size();
        let named = (0..entries)
            .map_while(|entry| mapping(entry).ok())
            .flatten();
        let named: BTreeSet<Pfn> = named.map(|(_, leaf)| size.pfn(leaf.pa)).collect();
        let pages = pages::all(memory).filter_map(|(pfn, _)| pfn);
        let pages = pages.filter(|pfn| !named.contains(pfn));
        let leaf = |pfn| Leaf {
            pa: size.base(pfn),
            size_shift: size.shift(),
            prot: Prot {
                write: true,
                execute: false,
            },
        };
        let at = |pfn| Some((map.virt_of(size.base(pfn))?, leaf(pfn)));
        unnamed.extend(pages.filter_map(at).filter(|(va, _)| is_first(*va)));
    }
    let inside = |entry| Ok(mapping(entry)?.filter(|(va, _)| is_first(*va)));
    visit(adapter, entries, unnamed, inside)
}

/// Every mapping of sparc64's translation storage buffer.
pub(super) fn visit_tsb<V: MappingVisitor>(
    tsb: &Tsb,
    memory: &Memory,
    adapter: &mut Adapter<'_, V>,
) -> ControlFlow<()> {
    // No more than the file can hold.
    let last = tsb.mask.min(memory.source().len() / Tsb::ENTRY_LEN);
    visit(adapter, last.saturating_add(1), Vec::new(), |entry| {
        tsb.mapping(memory, entry)
    })
}

/// Shows what the entries of a table map, and `others`, in the order of addresses, up to the first
/// entry that cannot be read. Takes no more memory than the entries have bytes: addresses and numbers.
fn visit<V: MappingVisitor>(
    adapter: &mut Adapter<'_, V>,
    entries: u64,
    others: Vec<(VirtAddr, Leaf)>,
    mapping: impl Fn(u64) -> Result<Option<(VirtAddr, Leaf)>, PageReadError>,
) -> ControlFlow<()> {
    let mut found = Vec::new();
    for entry in 0..entries {
        match mapping(entry) {
            Ok(Some((va, _))) => found.push((va, entry)),
            Ok(None) => {}
            Err(_) => {
                adapter.summary.unreadable_tables += 1;
                break;
            }
        }
    }
    found.extend(
        (entries..)
            .zip(&others)
            .map(|(number, (va, _))| (*va, number)),
    );
    found.sort_unstable();
    for (va, number) in found {
        let other = number
            .checked_sub(entries)
            .and_then(|index| usize::try_from(index).ok());
        let leaf = match other {
            Some(index) => others.get(index).map(|(_, leaf)| *leaf),
            None => mapping(number).ok().flatten().map(|(_, leaf)| leaf),
        };
        if let Some(leaf) = leaf {
            adapter.leaf(va, leaf)?;
        }
    }
    ControlFlow::Continue(())
}
