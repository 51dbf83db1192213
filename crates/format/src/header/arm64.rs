//! `struct minidumphdr` of arm64, versions 1 to 3 (`sys/arm64/include/minidump.h`).
//!
//! Little-endian. Version 2 adds `dumpavailsize`, version 3 `flags`, whose two low bits give the
//! page size of every section, the header's included.

use super::{DirectMap, Header, HeaderError, MAGIC_LEN, check_version, read};
use crate::addr::{PageSize, PhysAddr, VirtAddr};
use crate::arch::Arch;
use crate::endian::Endian;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// On disk.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Minidumphdr {
    magic: [u8; MAGIC_LEN],
    version: U32,
    msgbufsize: U32,
    bitmapsize: U32,
    pmapsize: U32,
    kernbase: U64,
    dmapphys: U64,
    dmapbase: U64,
    dmapend: U64,
    dumpavailsize: U32,
    flags: U32,
}

const _: () = {
    assert!(size_of::<Minidumphdr>() == 80);
    assert!(core::mem::offset_of!(Minidumphdr, kernbase) == 40);
    assert!(core::mem::offset_of!(Minidumphdr, dmapphys) == 48);
    assert!(core::mem::offset_of!(Minidumphdr, dmapend) == 64);
    assert!(core::mem::offset_of!(Minidumphdr, dumpavailsize) == 72);
    assert!(core::mem::offset_of!(Minidumphdr, flags) == 76);
};

/// `MINIDUMP_FLAG_PS_MASK`: the page size in `flags`.
const FLAG_PS_MASK: u32 = 3;
/// `MINIDUMP_FLAG_PS_4K`.
const FLAG_PS_4K: u32 = 0;
/// `MINIDUMP_FLAG_PS_16K`.
const FLAG_PS_16K: u32 = 1;

pub(super) fn decode(bytes: &[u8]) -> Result<Header, HeaderError> {
    let raw: &Minidumphdr = read(bytes)?;
    let version = check_version(Arch::Arm64, raw.version.get())?;
    let flags = if version >= 3 {
        raw.flags.get() & FLAG_PS_MASK
    } else {
        FLAG_PS_4K
    };
    let page_size = match flags {
        FLAG_PS_4K => PageSize::SIZE_4K,
        FLAG_PS_16K => PageSize::SIZE_16K,
        other => return Err(HeaderError::PageSize(other)),
    };
    Ok(Header {
        arch: Arch::Arm64,
        version,
        endian: Endian::Little,
        page_size,
        msgbufsize: raw.msgbufsize.get(),
        bitmapsize: raw.bitmapsize.get(),
        pmapsize: raw.pmapsize.get(),
        dumpavailsize: (version >= 2).then(|| raw.dumpavailsize.get()),
        kernbase: VirtAddr(raw.kernbase.get()),
        direct_map: Some(DirectMap {
            base: VirtAddr(raw.dmapbase.get()),
            end: VirtAddr(raw.dmapend.get()),
            phys: PhysAddr(raw.dmapphys.get()),
        }),
        pae: false,
    })
}
