//! Where everything is in the address space: FreeBSD's places for amd64 with four levels.

use vmcore_format::addr::{PageSize, PhysAddr, PhysRange, VirtAddr};

pub(crate) const PAGE: PageSize = PageSize::SIZE_4K;
pub(crate) const PAGE_SIZE: u64 = 4096;
pub(crate) const PAGE_2M: u64 = 2 << 20;
pub(crate) const PAGE_1G: u64 = 1 << 30;

/// Where all physical memory is mapped, and the end of the room for it: four terabytes.
pub(crate) const DMAP_MIN: VirtAddr = VirtAddr(0xffff_f800_0000_0000);
pub(crate) const DMAP_MAX: VirtAddr = VirtAddr(0xffff_fc00_0000_0000);
/// Where the kernel map begins; it goes up to the end of the image.
pub(crate) const KVA_MIN: VirtAddr = VirtAddr(0xffff_fe00_0000_0000);
/// Where the image is linked: its first byte, the ELF header, is 2 MiB above.
pub(crate) const KERNBASE: VirtAddr = VirtAddr(0xffff_ffff_8000_0000);
pub(crate) const KERNLOAD: u64 = 0x20_0000;

/// End of the addresses of user programs, of which there are none.
#[unsafe(no_mangle)]
static vm_maxuser_address: u64 = 0x100_0000_0000_0000;

/// A physical address in the direct map.
pub(crate) const fn dmap(pa: PhysAddr) -> *mut u8 {
    dmap_address(pa).0 as *mut u8
}

pub(crate) const fn dmap_address(pa: PhysAddr) -> VirtAddr {
    VirtAddr(DMAP_MIN.0 + pa.0)
}

/// The physical address of an address in the direct map or of the image.
pub(crate) fn physical(va: u64) -> Option<PhysAddr> {
    if (DMAP_MIN.0..DMAP_MAX.0).contains(&va) {
        Some(PhysAddr(va - DMAP_MIN.0))
    } else {
        va.checked_sub(KERNBASE.0).map(PhysAddr)
    }
}

unsafe extern "C" {
    static etext_start: u8;
    static etext: u8;
    static data_start: u8;
    static end: u8;
}

/// The parts of the image, as virtual addresses: headers and constants, code, variables.
pub(crate) struct Image {
    pub(crate) start: u64,
    pub(crate) text: u64,
    pub(crate) text_end: u64,
    pub(crate) data: u64,
    pub(crate) end: u64,
}

pub(crate) fn image() -> Image {
    Image {
        start: KERNBASE.0 + KERNLOAD,
        text: (&raw const etext_start).addr() as u64,
        text_end: (&raw const etext).addr() as u64,
        data: (&raw const data_start).addr() as u64,
        end: (&raw const end).addr() as u64,
    }
}

/// The image in physical memory.
pub(crate) fn image_range() -> PhysRange {
    PhysRange {
        start: PhysAddr(KERNLOAD),
        end: PhysAddr(image().end - KERNBASE.0),
    }
}
