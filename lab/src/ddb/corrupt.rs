//! Damaging the kernel's page tables on purpose, as a stray write would.

use crate::arch::layout::PAGE_2M;
use crate::ddb::split;
use crate::kern::load;
use crate::sys::console::printf;
use crate::vm::{kmem, pmap};
use core::sync::atomic::Ordering;
use vmcore_format::addr::VirtAddr;

/// Entries that lead nowhere: a table beyond all RAM, and one with every reserved bit.
const TABLE_BEYOND_RAM: u64 = 0x000f_00de_adbe_e003;
const STRAY_WORDS: [u64; 3] = [
    TABLE_BEYOND_RAM,
    0xffff_ffff_ffff_fe7f,
    0x0000_0dea_dc0d_e003,
];

pub(super) fn command(what: &str) {
    match split(what) {
        ("pagetables", "") => page_tables(),
        ("pagetables", "root") => root(),
        _ => printf!("corrupt pagetables [root]\n"),
    }
}

/// Overwrites page-directory entries of the kernel map: one that maps some of the load, three after
/// what is in use, and makes a fifth one a cycle. The image and the direct map stay as they are, and
/// so do the stacks.
fn page_tables() {
    let first = (kmem::end_of_use().0 - 1) & !(PAGE_2M - 1);
    let places = [1, 2, 3].map(|number| VirtAddr(first + number * PAGE_2M));
    if let Some(used) = load::first_page() {
        damage(used, TABLE_BEYOND_RAM);
    }
    for (va, raw) in places.into_iter().zip(STRAY_WORDS) {
        damage(va, raw);
    }
    let root_as_table = pmap::root().0 | pmap::PG_V | pmap::PG_RW;
    damage(VirtAddr(first + 4 * PAGE_2M), root_as_table);
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

/// Fills the page that is known as the root with stray words. The processor goes on with a copy of
/// it, or no CPU would be left to dump.
fn root() {
    let known = pmap::move_to_copy_of_root();
    for (index, entry) in known.iter().enumerate() {
        entry.store(STRAY_WORDS[index % STRAY_WORDS.len()], Ordering::Relaxed);
    }
    printf!("the root at {} is full of stray words\n", pmap::root());
}
