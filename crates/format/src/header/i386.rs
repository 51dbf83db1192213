//! `struct minidumphdr` of i386, versions 1 and 2 (`sys/i386/include/minidump.h`).
//!
//! Little-endian, 32-bit addresses, no direct map. Any non-zero `paemode` counts as PAE, as in
//! FreeBSD's reader.

use super::{Header, HeaderError, MAGIC_LEN, check_version, read};
use crate::addr::{PageSize, VirtAddr};
use crate::arch::Arch;
use crate::endian::Endian;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// On disk.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Minidumphdr {
    magic: [u8; MAGIC_LEN],
    version: U32,
    msgbufsize: U32,
    bitmapsize: U32,
    ptesize: U32,
    kernbase: U32,
    paemode: U32,
    dumpavailsize: U32,
}

const _: () = {
    assert!(size_of::<Minidumphdr>() == 52);
    assert!(core::mem::offset_of!(Minidumphdr, ptesize) == 36);
    assert!(core::mem::offset_of!(Minidumphdr, kernbase) == 40);
    assert!(core::mem::offset_of!(Minidumphdr, paemode) == 44);
    assert!(core::mem::offset_of!(Minidumphdr, dumpavailsize) == 48);
};

pub(super) fn decode(bytes: &[u8]) -> Result<Header, HeaderError> {
    let raw: &Minidumphdr = read(bytes)?;
    let version = check_version(Arch::I386, raw.version.get())?;
    Ok(Header {
        arch: Arch::I386,
        version,
        endian: Endian::Little,
        page_size: PageSize::SIZE_4K,
        msgbufsize: raw.msgbufsize.get(),
        bitmapsize: raw.bitmapsize.get(),
        pmapsize: raw.ptesize.get(),
        dumpavailsize: (version >= 2).then(|| raw.dumpavailsize.get()),
        kernbase: VirtAddr(u64::from(raw.kernbase.get())),
        direct_map: None,
        pae: raw.paemode.get() != 0,
    })
}
