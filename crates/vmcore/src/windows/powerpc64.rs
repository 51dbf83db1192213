//! powerpc64: a hashed page table or radix tables; the kernel runs elsewhere than it is linked.
//!
//! The direct map comes first. Then the addresses in the kernel file, which lie below all others and
//! lead to where the kernel was moved; then the tables, if the dump has them.
//!
//! Without pages of 16 MiB (`hw_direct_map` is 0) the direct map holds only the kernel. The allocator
//! then maps each page at its physical address, one to one (`uma_small_alloc` in
//! `sys/powerpc/powerpc/uma_machdep.c`, `moea64_setup_direct_map` in `sys/powerpc/aim/mmu_oea64.c`):
//! below the direct map the table decides; what it has no entry for any more is where its address
//! says; and what is not a page of the dump may be an address in the kernel file.

use super::common::{FullDumps, Windows, direct_map, linear};
use crate::memory::Memory;
use crate::translation::{PagingMode, RootSymbols, Window, WindowKind};
use vmcore_format::addr::{PhysAddr, VirtAddr};
use vmcore_format::endian::{Endian, Width};
use vmcore_format::header::{DirectMap, Header, Mmu, Powerpc64Mmu};
use vmcore_format::paging::{GROUP_LEN, Hashed, ROOT_ENTRIES, ROOT_LEVEL, Radix, TableRef, Tables};

/// Entries of the hashed table that are looked at for their byte order.
const SAMPLED_ENTRIES: u64 = 1 << 15;
/// The first word's valid bit; the second word's page number.
const HPT_VALID: u64 = 1;
const HPT_FRAME: u64 = 0x0fff_ffff_ffff_f000;

pub(super) const WINDOWS: Windows = Windows {
    windows,
    full_dumps: FullDumps::Virtual,
    paging: |header| match header.mmu {
        Mmu::Powerpc64(mmu) if mmu.hashed => "hashed page table".to_owned(),
        _ if header.pmapsize == 0 => "radix, without tables in the dump".to_owned(),
        _ => "radix".to_owned(),
    },
};

fn windows(header: &Header, memory: &Memory, _: Option<&RootSymbols>) -> Vec<Window> {
    let Mmu::Powerpc64(mmu) = header.mmu else {
        return Vec::new();
    };
    let mut windows: Vec<Window> = direct_map(header).into_iter().collect();
    let linked = linked(header, mmu);
    let (first, fallback) = match mmu.hashed && !mmu.hw_direct_map {
        true => (
            VirtAddr(0),
            one_to_one(header).into_iter().chain(linked).collect(),
        ),
        false => {
            let window = |map: DirectMap| linear(map.base.0, map.end.0 - map.base.0, map.phys.0);
            windows.extend(linked.map(window));
            (header.kernbase, Vec::new())
        }
    };
    windows.push(Window {
        first,
        last: VirtAddr(u64::MAX),
        kind: match mmu.hashed {
            true => WindowKind::Hashed(hashed(header, mmu, memory), fallback),
            false => radix(header),
        },
    });
    windows
}

/// The addresses below the direct map, each the physical address of its page.
fn one_to_one(header: &Header) -> Option<DirectMap> {
    let end = header.direct_map?.base;
    Some(DirectMap {
        base: VirtAddr(0),
        end,
        phys: PhysAddr(0),
    })
}

/// The addresses that the kernel file has, if it runs in the direct map.
fn linked(header: &Header, mmu: Powerpc64Mmu) -> Option<DirectMap> {
    let PhysAddr(start) = header.direct_map?.phys_of(mmu.startkernel)?;
    let len = mmu.endkernel.0.checked_sub(mmu.startkernel.0)?;
    let is_low = Powerpc64Mmu::LINKED_AT.checked_add(len)? <= header.direct_map?.base.0;
    (is_low && len > 0).then(|| DirectMap {
        base: VirtAddr(Powerpc64Mmu::LINKED_AT),
        end: VirtAddr(Powerpc64Mmu::LINKED_AT + len),
        phys: PhysAddr(start),
    })
}

fn radix(header: &Header) -> WindowKind {
    // Tables are big-endian whatever the kernel is.
    let mode = match header.endian {
        Endian::Big => PagingMode::Powerpc64Radix,
        Endian::Little => PagingMode::Powerpc64RadixSwapped,
    };
    // The root covers a quarter of all addresses, of which the kernel has the last.
    let radix = Radix {
        top: TableRef::Section,
        level: ROOT_LEVEL,
        first_va: VirtAddr(3 << 62),
        entries: ROOT_ENTRIES.min(u64::from(header.pmapsize) / 8),
        va_bits: 64,
    };
    WindowKind::Radix { mode, radix }
}

fn hashed(header: &Header, mmu: Powerpc64Mmu, memory: &Memory) -> Hashed {
    Hashed {
        groups: u64::from(header.pmapsize) / GROUP_LEN,
        swapped: is_swapped(header, memory),
        last: mmu.kernend,
    }
}

/// Whether the table is in the byte order that the kernel does not have: hypervisors give the kernel
/// entries in its own, bare hardware has them big-endian. The order in which more entries are valid
/// and name RAM is right.
fn is_swapped(header: &Header, memory: &Memory) -> bool {
    let entries = (u64::from(header.pmapsize) / 16).min(SAMPLED_ENTRIES);
    let (mut own, mut other) = (0_u64, 0_u64);
    for index in 0..entries {
        let word = |index| memory.entry(TableRef::Section, index, Width::W64);
        let (Ok(hi), Ok(lo)) = (word(2 * index), word(2 * index + 1)) else {
            break;
        };
        let is_page = |hi: u64, lo: u64| {
            hi & HPT_VALID != 0 && lo != 0 && memory.is_ram(PhysAddr(lo & HPT_FRAME))
        };
        own += u64::from(is_page(hi, lo));
        other += u64::from(is_page(hi.swap_bytes(), lo.swap_bytes()));
    }
    other > own
}
