//! Mappings of tables that have no levels: powerpc64's hashed page table, and sparc64's translation
//! storage buffer.

use super::{Adapter, MappingVisitor};
use crate::memory::Memory;
use crate::translation::Tsb;
use std::ops::ControlFlow;
use vmcore_format::paging::{Hashed, Visitor as _};

/// Entries of a group of powerpc64's hashed page table.
const HASHED_SLOTS: u64 = 8;

/// Every mapping of powerpc64's hashed page table, in the table's order. As many as it has entries.
pub(super) fn visit_hashed<V: MappingVisitor>(
    table: &Hashed,
    memory: &Memory,
    adapter: &mut Adapter<'_, V>,
) -> ControlFlow<()> {
    for group in 0..table.groups {
        for slot in 0..HASHED_SLOTS {
            match table.mapping(memory, group, slot) {
                Ok(None) => {}
                Ok(Some(found)) => {
                    if found.va >= table.first && found.va <= table.last {
                        adapter.leaf(found.va, found.leaf)?;
                    }
                }
                Err(_) => {
                    adapter.summary.unreadable_tables += 1;
                    return ControlFlow::Continue(());
                }
            }
        }
    }
    ControlFlow::Continue(())
}

/// Every mapping of sparc64's translation storage buffer, in the buffer's order.
pub(super) fn visit_tsb<V: MappingVisitor>(
    tsb: &Tsb,
    memory: &Memory,
    adapter: &mut Adapter<'_, V>,
) -> ControlFlow<()> {
    // No more than the file can hold.
    let last = tsb.mask.min(memory.source().len() / Tsb::ENTRY_LEN);
    for index in 0..=last {
        match tsb.mapping(memory, index) {
            Ok(Some((va, leaf))) => adapter.leaf(va, leaf)?,
            Ok(None) => {}
            Err(_) => {
                adapter.summary.unreadable_tables += 1;
                return ControlFlow::Continue(());
            }
        }
    }
    ControlFlow::Continue(())
}
