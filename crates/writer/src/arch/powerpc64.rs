//! powerpc64 with radix tables, of either byte order: version 2. The section is the root, as FreeBSD's
//! reader of such dumps expects (`lib/libkvm/kvm_minidump_powerpc64_radix.c`); its kernels write no
//! tables at all so far. What the header says of the kernel's place is the machine's to tell.

use super::{KernelPaging, MinidumpFormat};
use vmcore_format::addr::PageSize;
use vmcore_format::arch::Arch;
use vmcore_format::endian::Endian;
use vmcore_format::extension::kernel::TableKind;
use vmcore_format::paging::{Powerpc64Radix, Powerpc64RadixSwapped, ROOT_LEVEL};

const FORMATS: &[MinidumpFormat] = &[MinidumpFormat {
    version: 2,
    section_level: ROOT_LEVEL,
}];

impl KernelPaging for Powerpc64Radix {
    const TABLES: TableKind = TableKind::Powerpc64Radix;
    const ARCH: Arch = Arch::Powerpc64;
    const PAGE_SIZE: PageSize = PageSize::SIZE_4K;
    const ENDIAN: Endian = Endian::Big;
    const FORMATS: &'static [MinidumpFormat] = FORMATS;
    const HAS_FULL_DUMPS: bool = false;
}

impl KernelPaging for Powerpc64RadixSwapped {
    const TABLES: TableKind = TableKind::Powerpc64RadixSwapped;
    const ARCH: Arch = Arch::Powerpc64;
    const PAGE_SIZE: PageSize = PageSize::SIZE_4K;
    const FORMATS: &'static [MinidumpFormat] = FORMATS;
    const HAS_FULL_DUMPS: bool = false;
}
