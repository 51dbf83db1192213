//! Damaging the kernel's page tables on purpose, as a stray write would.

use crate::ddb::split;
use crate::kern::console::printf;
use crate::vm::layout::KVA_MIN;
use crate::vm::{kmem, pmap};
use core::sync::atomic::Ordering;
use vmcore_format::addr::VirtAddr;

/// Entries that lead nowhere: a table beyond all RAM, and one with every reserved bit.
const TABLE_BEYOND_RAM: u64 = 0x000f_00de_adbe_e003;
const STRAY_WORDS: [u64; 3] = [TABLE_BEYOND_RAM, 0xffff_ffff_ffff_fe7f, 0x0000_0dea_dc0d_e003];

pub(super) fn command(what: &str) {
    match split(what) {
        ("pagetables", "") => page_tables(),
        ("pagetables", "root") => root(),
        _ => printf!("corrupt pagetables [root]\n"),
    }
}

/// Overwrites three page-directory entries of the kernel map, and makes a fourth one a cycle. The
/// image and the direct map stay as they are, and so do the tables that this processor remembers.
fn page_tables() {
    let end = kmem::end_of_use().0;
    // Behind what is in use: threads and their stacks, at the start of the map, stay mapped.
    let first = (end - 1) & !0x1f_ffff;
    let places = [first + (2 << 20), first + (4 << 20), first + (6 << 20)];
    for (va, raw) in places.into_iter().zip(STRAY_WORDS) {
        damage(VirtAddr(va), raw);
    }
    let root_as_table = pmap::root().0 | pmap::PG_V | pmap::PG_RW;
    damage(VirtAddr(first + (8 << 20)), root_as_table);
}

fn damage(va: VirtAddr, raw: u64) {
    match pmap::entry_at(va, 1) {
        Some(entry) => {
            let old = entry.swap(raw, Ordering::AcqRel);
            printf!("page directory entry of {va}: {old:#018x} -> {raw:#018x}\n");
        }
        None => printf!("{va} has no page directory\n"),
    }
}

/// Overwrites the root's entries of the kernel map. The processor goes on with what it remembers, and
/// with the entries of the image and of the direct map, which stay.
fn root() {
    for slot in 0..3 {
        let va = VirtAddr(KVA_MIN.0 + (slot << 39));
        if let Some(entry) = pmap::entry_at(va, 3) {
            let old = entry.swap(TABLE_BEYOND_RAM, Ordering::AcqRel);
            printf!("root entry of {va}: {old:#018x} -> {TABLE_BEYOND_RAM:#018x}\n");
        }
    }
}
