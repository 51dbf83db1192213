//! `struct minidumphdr` of amd64, versions 1 to 3 (`sys/amd64/include/minidump.h`).
//!
//! Little-endian. All versions agree up to byte 63; version 3 (r365978, 2020) adds
//! `dumpavailsize`. Version 1 calls `pmapsize` `ptesize`: it counts 4 KiB entries there.

use super::{DirectMap, Header, HeaderError, MAGIC_LEN, check_version, read};
use crate::addr::{PageSize, PhysAddr, VirtAddr};
use crate::arch::Arch;
use crate::endian::Endian;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// On disk; trailing bytes of the header page are zero.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Minidumphdr {
    magic: [u8; MAGIC_LEN],
    version: U32,
    msgbufsize: U32,
    bitmapsize: U32,
    pmapsize: U32,
    kernbase: U64,
    dmapbase: U64,
    dmapend: U64,
    dumpavailsize: U32,
}

const _: () = {
    assert!(size_of::<Minidumphdr>() == 68);
    assert!(core::mem::offset_of!(Minidumphdr, version) == 24);
    assert!(core::mem::offset_of!(Minidumphdr, pmapsize) == 36);
    assert!(core::mem::offset_of!(Minidumphdr, kernbase) == 40);
    assert!(core::mem::offset_of!(Minidumphdr, dmapend) == 56);
    assert!(core::mem::offset_of!(Minidumphdr, dumpavailsize) == 64);
};

pub(super) fn decode(bytes: &[u8]) -> Result<Header, HeaderError> {
    let raw: &Minidumphdr = read(bytes)?;
    let version = check_version(Arch::Amd64, raw.version.get())?;
    Ok(Header {
        arch: Arch::Amd64,
        version,
        endian: Endian::Little,
        page_size: PageSize::SIZE_4K,
        msgbufsize: raw.msgbufsize.get(),
        bitmapsize: raw.bitmapsize.get(),
        pmapsize: raw.pmapsize.get(),
        dumpavailsize: (version >= 3).then(|| raw.dumpavailsize.get()),
        kernbase: VirtAddr(raw.kernbase.get()),
        direct_map: Some(DirectMap {
            base: VirtAddr(raw.dmapbase.get()),
            end: VirtAddr(raw.dmapend.get()),
            phys: PhysAddr(0),
        }),
        pae: false,
    })
}
