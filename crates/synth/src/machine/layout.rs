//! Where things are in a synthetic machine, by architecture.

use super::{Options, Shape};
use crate::Arch;
use crate::hashed;
use crate::tables::Paging;

/// Number of pages of RAM at the low end; the last one is cut in the middle.
pub(super) const LOW_PAGES: u64 = 8;
/// Most pages of page tables.
pub(super) const TABLE_PAGES: u64 = 64;
/// Pages of the 1 GiB mapping that are RAM.
pub(super) const GIGA_PAGES: u64 = 4;
/// amd64: the kernel's base, 2 MiB before its image.
pub(super) const AMD64_KERNBASE: u64 = 0xffff_ffff_8000_0000;

/// powerpc64: groups of the hashed table; the fewest there can be.
pub(super) const HASHED_GROUPS: u64 = hashed::FEWEST_GROUPS;
/// sparc64: entries of the translation buffer, one for each page of the kernel map.
pub(super) const TSB_ENTRIES: u64 = 2048;

/// mips: the segment that leads to the lowest memory without tables.
const MIPS_KSEG0: u64 = 0x8000_0000;
const MIPS_KSEG_LEN: u64 = 0x2000_0000;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// The direct map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectMap {
    /// Its first address.
    pub base: u64,
    /// Its end.
    pub end: u64,
    /// Physical address of its first byte.
    pub phys: u64,
}

/// Addresses of a machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) paging: Paging,
    pub(crate) page: u64,
    /// Size of the kernel's large pages, or of what stands for them.
    pub(crate) large: u64,
    /// First and end address of the kernel map that a minidump describes.
    pub(crate) kernbase: u64,
    pub(crate) map_end: u64,
    /// The kernel image, where it runs: mapped by large pages, or in a linear part.
    pub(crate) image_va: u64,
    pub(crate) image_pa: u64,
    pub(crate) image_is_mapped: bool,
    /// How far it runs from where it is linked.
    pub(crate) displacement: u64,
    /// Where small pages are mapped: a large page's worth of room.
    pub(crate) small_va: u64,
    /// A large page of data.
    pub(crate) large_va: u64,
    pub(crate) large_pa: u64,
    /// A page of 1 GiB: virtual, physical.
    pub(crate) giga: Option<(u64, u64)>,
    pub(crate) direct_map: Option<DirectMap>,
    /// Another linear part, in which the image is.
    pub(crate) image_segment: Option<DirectMap>,
    /// Where the message buffer is, if not in the allocator's memory.
    pub(crate) msgbuf_pa: Option<u64>,
    /// RAM at the low end.
    pub(crate) low_pa: u64,
    /// Single pages.
    pub(crate) pool_pa: u64,
    /// Page tables.
    pub(crate) tables_pa: u64,
    /// Memory of the allocator, and the message buffer.
    pub(crate) heap_pa: u64,
    /// A device's registers: no RAM.
    pub(crate) device_pa: u64,
}

impl Layout {
    pub(super) fn of(options: &Options) -> Self {
        match options.arch {
            Arch::Amd64 => Self::amd64(options),
            Arch::Arm64 => Self::arm64(options),
            Arch::I386 => Self::i386(options),
            Arch::Riscv64 => Self::riscv64(),
            Arch::Armv7 | Arch::Armeb => Self::arm(),
            Arch::Mips | Arch::Mipsel => Self::mips(options),
            Arch::Mips64 | Arch::Mips64el => Self::mips64(),
            Arch::Powerpc64 | Arch::Powerpc64le => Self::powerpc64(options),
            Arch::Powerpc => Self::powerpc(),
            Arch::Sparc64 => Self::sparc64(),
        }
    }

    /// Parts that follow each other in physical memory from `start` on, each in a large page of
    /// its own.
    fn common(paging: Paging, start: u64, image_pa: u64) -> Self {
        let large = paging.span(1);
        Self {
            paging,
            page: paging.span(0),
            large,
            kernbase: 0,
            map_end: 0,
            image_va: 0,
            image_pa,
            image_is_mapped: true,
            displacement: 0,
            small_va: 0,
            large_va: 0,
            large_pa: image_pa + 4 * large,
            giga: None,
            direct_map: None,
            image_segment: None,
            msgbuf_pa: None,
            low_pa: start + paging.span(0),
            pool_pa: image_pa + large,
            tables_pa: image_pa + 2 * large,
            heap_pa: image_pa + 3 * large,
            device_pa: start + 0xfee0_0000,
        }
    }

    fn amd64(options: &Options) -> Self {
        let paging = if options.la57 {
            Paging::Amd64La57
        } else {
            Paging::Amd64
        };
        let common = Self::common(paging, 0, 2 * MIB + options.load_offset);
        let is_old = options.version == 1;
        let direct_map = match (is_old, options.la57) {
            (true, _) => (0xffff_ff00_0000_0000, 0xffff_ff80_0000_0000),
            (_, true) => (0xff01_0000_0000_0000, 0xff21_0000_0000_0000),
            _ => (0xffff_f800_0000_0000, 0xffff_fc00_0000_0000),
        };
        let is_compact = is_old || options.shape == Shape::Compact;
        let kernbase = if is_compact {
            AMD64_KERNBASE
        } else {
            0xffff_fe00_0000_0000
        };
        let small_va = if is_compact {
            AMD64_KERNBASE + 8 * MIB
        } else {
            kernbase + 0x4580_0000
        };
        let giga_va = if is_compact {
            AMD64_KERNBASE + GIB
        } else {
            kernbase + 2 * GIB
        };
        let has_giga = !is_old && options.has_giga;
        let map_end = match (is_old, is_compact) {
            (true, _) => AMD64_KERNBASE + 16 * MIB,
            (_, true) if has_giga => u64::MAX,
            _ => AMD64_KERNBASE + GIB,
        };
        Self {
            kernbase,
            map_end,
            image_va: AMD64_KERNBASE + 2 * MIB,
            small_va,
            large_va: small_va + 4 * MIB,
            giga: has_giga.then_some((giga_va, GIB)),
            direct_map: Some(DirectMap {
                base: direct_map.0,
                end: direct_map.1,
                phys: 0,
            }),
            ..common
        }
    }

    fn arm64(options: &Options) -> Self {
        let paging = if options.page_size == 16384 {
            Paging::Arm64Page16K
        } else {
            Paging::Arm64Page4K
        };
        let large = paging.span(1);
        let kernbase = 0xffff_0000_0000_0000;
        Self {
            kernbase,
            map_end: kernbase + 5 * large,
            image_va: kernbase,
            small_va: kernbase + 2 * large,
            large_va: kernbase + 4 * large,
            direct_map: Some(DirectMap {
                base: 0xffff_a000_0000_0000,
                end: 0xffff_ff00_0000_0000,
                phys: 0x4000_0000,
            }),
            device_pa: 0x0900_0000,
            ..Self::common(paging, 0x4000_0000, 0x4000_0000 + large)
        }
    }

    fn i386(options: &Options) -> Self {
        let paging = if options.pae {
            Paging::I386Pae
        } else {
            Paging::I386
        };
        let large = paging.span(1);
        let is_old = options.version == 1;
        let (kernbase, image_va, image_pa) = if is_old {
            (0xc000_0000, 0xc040_0000, 4 * MIB)
        } else {
            (8 * MIB, 8 * MIB, 8 * MIB)
        };
        Self {
            kernbase,
            map_end: image_va + 4 * large,
            image_va,
            small_va: image_va + large,
            large_va: image_va + 3 * large,
            ..Self::common(paging, 0, image_pa)
        }
    }

    /// The kernel map starts at the image; sections of 1 MiB map it.
    fn arm() -> Self {
        let paging = Paging::Arm;
        let large = paging.span(1);
        let kernbase = 0xc000_0000;
        Self {
            kernbase,
            map_end: kernbase + 8 * large,
            image_va: kernbase + large,
            small_va: kernbase + 2 * large,
            large_va: kernbase + 6 * large,
            device_pa: 0x1c09_0000,
            ..Self::common(paging, 0x8000_0000, 0x8000_0000 + large)
        }
    }

    fn riscv64() -> Self {
        let paging = Paging::Riscv64;
        let large = paging.span(1);
        let kernbase = 0xffff_ffc0_0000_0000;
        Self {
            kernbase,
            map_end: kernbase + 5 * large,
            image_va: kernbase,
            small_va: kernbase + 2 * large,
            large_va: kernbase + 4 * large,
            direct_map: Some(DirectMap {
                base: 0xffff_ffd0_0000_0000,
                end: 0xffff_fff0_0000_0000,
                phys: 0x8000_0000,
            }),
            device_pa: 0x1000_0000,
            ..Self::common(paging, 0x8000_0000, 0x8000_0000 + large)
        }
    }

    /// The image is in KSEG0, which leads to the lowest 512 MiB and is the direct map.
    fn mips(options: &Options) -> Self {
        let paging = if options.n32 {
            Paging::Mips64
        } else {
            Paging::Mips32
        };
        let large = paging.span(1);
        let kernbase = 0xc000_0000;
        Self {
            kernbase,
            map_end: kernbase + 3 * large,
            image_va: MIPS_KSEG0 + MIB,
            image_is_mapped: false,
            small_va: kernbase,
            large_va: kernbase + 2 * large,
            direct_map: Some(DirectMap {
                base: MIPS_KSEG0,
                end: MIPS_KSEG0 + MIPS_KSEG_LEN,
                phys: 0,
            }),
            device_pa: 0x1f00_0000,
            ..Self::common(paging, 0, MIB)
        }
    }

    /// The image is in KSEG0; the direct map is XKPHYS, cached.
    fn mips64() -> Self {
        let paging = Paging::Mips64;
        let large = paging.span(1);
        let (kernbase, kseg0) = (0xc000_0000_0000_0000, 0xffff_ffff_8000_0000);
        Self {
            kernbase,
            map_end: kernbase + 3 * large,
            image_va: kseg0 + MIB,
            image_is_mapped: false,
            small_va: kernbase,
            large_va: kernbase + 2 * large,
            direct_map: Some(DirectMap {
                base: 0x9800_0000_0000_0000,
                end: 0x9800_0100_0000_0000,
                phys: 0,
            }),
            image_segment: Some(DirectMap {
                base: kseg0,
                end: kseg0 + MIPS_KSEG_LEN,
                phys: 0,
            }),
            device_pa: 0x1f00_0000,
            ..Self::common(paging, 0, MIB)
        }
    }

    /// The image is linked at 1 MiB, and was moved into the direct map.
    fn powerpc64(options: &Options) -> Self {
        let paging = if options.radix {
            Paging::Radix
        } else {
            Paging::Hashed
        };
        let kernbase = if options.version == 1 {
            0xe000_0000_0000_0000
        } else {
            0xc008_0000_0000_0000
        };
        let (base, image_pa) = (0xc000_0000_0000_0000, 6 * MIB);
        let large = paging.span(1);
        let common = Self::common(paging, 0, image_pa);
        Self {
            kernbase,
            map_end: kernbase + 3 * large,
            // Addresses in it may look like those in the kernel file.
            heap_pa: if options.one_to_one {
                MIB
            } else {
                common.heap_pa
            },
            image_va: base + image_pa,
            image_is_mapped: false,
            displacement: base + image_pa - MIB,
            small_va: kernbase,
            large_va: kernbase + 2 * large,
            giga: options.radix.then_some((kernbase + GIB, GIB)),
            direct_map: Some(DirectMap {
                base,
                end: 0xc008_0000_0000_0000,
                phys: 0,
            }),
            ..common
        }
    }

    /// Its dumps have virtual addresses only, so that physical ones are the same here.
    fn powerpc() -> Self {
        let (image, small_va) = (MIB, 0xd000_0000);
        let paging = Paging::Virtual;
        Self {
            kernbase: image,
            image_va: image,
            small_va,
            pool_pa: small_va,
            heap_pa: small_va + small::HEAP * paging.span(0),
            msgbuf_pa: Some(4 * MIB),
            ..Self::common(paging, 0, image)
        }
    }

    /// The image is mapped by pages of 64 KiB; the direct map leads everywhere.
    fn sparc64() -> Self {
        let paging = Paging::Tsb;
        let large = paging.span(1);
        let kernbase = 0xc000_0000;
        Self {
            kernbase,
            map_end: kernbase + TSB_ENTRIES * paging.span(0),
            image_va: kernbase,
            small_va: kernbase + large,
            large_va: kernbase + 3 * large,
            large: 8 * paging.span(0),
            direct_map: Some(DirectMap {
                base: 0xffff_f800_0000_0000,
                end: u64::MAX,
                phys: 0,
            }),
            ..Self::common(paging, 0, 4 * MIB)
        }
    }

    /// Address in the direct map, if there is one that reaches so far.
    pub(crate) fn direct_va(&self, pa: u64) -> Option<u64> {
        let map = self.direct_map?;
        let va = map.base + pa.checked_sub(map.phys)?;
        (va < map.end).then_some(va)
    }

    /// Address of small page number `n`.
    pub(crate) const fn small(&self, n: u64) -> u64 {
        self.small_va + n * self.page
    }
}

/// Numbers of small pages that are mapped for something; stacks take every other one from 1 on.
pub(super) mod small {
    /// Memory of the allocator, on machines without a direct map.
    pub(in crate::machine) const HEAP: u64 = 128;
    /// A device.
    pub(in crate::machine) const DEVICE: u64 = 256;
    /// A page that must not be dumped.
    pub(in crate::machine) const NO_DUMP: u64 = 257;
    /// A page that is mapped twice: first address.
    pub(in crate::machine) const SHARED: u64 = 258;
    /// Second address.
    pub(in crate::machine) const SHARED_AGAIN: u64 = 300;
    /// Two consecutive pages whose frames are not.
    pub(in crate::machine) const NEIGHBOURS: u64 = 310;
    /// The last page of the first table.
    pub(in crate::machine) const LAST: u64 = 511;
}
