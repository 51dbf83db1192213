//! Mappings of tables that have no levels: powerpc64's hashed page table, and sparc64's translation
//! storage buffer.

use super::{Adapter, MappingVisitor};
use crate::memory::{Absence, Memory};
use crate::translation::Tsb;
use std::ops::ControlFlow;
use vmcore_format::addr::VirtAddr;
use vmcore_format::paging::{Hashed, Leaf, Visitor as _};

/// Entries of a group of powerpc64's hashed page table.
const HASHED_SLOTS: u64 = 8;

/// Every mapping of powerpc64's hashed page table. As many as it has entries.
pub(super) fn visit_hashed<V: MappingVisitor>(
    table: &Hashed,
    memory: &Memory,
    adapter: &mut Adapter<'_, V>,
) -> ControlFlow<()> {
    visit(
        adapter,
        table.groups.saturating_mul(HASHED_SLOTS),
        |entry| {
            let found = table.mapping(memory, entry / HASHED_SLOTS, entry % HASHED_SLOTS)?;
            Ok(found
                .filter(|found| (table.first..=table.last).contains(&found.va))
                .map(|found| (found.va, found.leaf)))
        },
    )
}

/// Every mapping of sparc64's translation storage buffer.
pub(super) fn visit_tsb<V: MappingVisitor>(
    tsb: &Tsb,
    memory: &Memory,
    adapter: &mut Adapter<'_, V>,
) -> ControlFlow<()> {
    // No more than the file can hold.
    let last = tsb.mask.min(memory.source().len() / Tsb::ENTRY_LEN);
    visit(adapter, last.saturating_add(1), |entry| {
        tsb.mapping(memory, entry)
    })
}

/// Shows what the entries of a table map, in the order of addresses, up to the first entry that cannot
/// be read. Takes no more memory than the entries have bytes: addresses and numbers.
fn visit<V: MappingVisitor>(
    adapter: &mut Adapter<'_, V>,
    entries: u64,
    mapping: impl Fn(u64) -> Result<Option<(VirtAddr, Leaf)>, Absence>,
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
    found.sort_unstable();
    for (va, entry) in found {
        if let Ok(Some((_, leaf))) = mapping(entry) {
            adapter.leaf(va, leaf)?;
        }
    }
    ControlFlow::Continue(())
}
