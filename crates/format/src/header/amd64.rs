//! `struct minidumphdr` of amd64, versions 1 to 3 (`sys/amd64/include/minidump.h`).
//!
//! Little-endian. All versions agree up to byte 63; version 3 (r365978, 2020) adds
//! `dumpavailsize`. Version 1 calls `pmapsize` `ptesize`: it counts 4 KiB entries there.

use super::contents::{DirectMap, Header, HeaderError, HeaderFormat, MAGIC_LEN, Mmu, read, write};
use crate::addr::{PageSize, PhysAddr, VirtAddr};
use crate::arch::Arch;
use crate::endian::Endian;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// On disk; trailing bytes of the header page are zero.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
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

/// Bytes of the structure.
const LEN: usize = size_of::<Minidumphdr>();

const _: () = {
    assert!(LEN == 68);
    assert!(core::mem::offset_of!(Minidumphdr, version) == 24);
    assert!(core::mem::offset_of!(Minidumphdr, pmapsize) == 36);
    assert!(core::mem::offset_of!(Minidumphdr, kernbase) == 40);
    assert!(core::mem::offset_of!(Minidumphdr, dmapend) == 56);
    assert!(core::mem::offset_of!(Minidumphdr, dumpavailsize) == 64);
};

pub(super) const FORMAT: HeaderFormat = HeaderFormat {
    arch: Arch::Amd64,
    magic: "minidump FreeBSD/amd64",
    dump_avail_since: 3,
    has_narrow_dump_avail: false,
    bitmap_of_words_since: 1,
    header_bytes: &[64, 64, LEN],
    decode,
    encode,
};

fn decode(bytes: &[u8]) -> Result<Header, HeaderError> {
    let raw: &Minidumphdr = read(bytes)?;
    let version = FORMAT.check_version(raw.version.get())?;
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
        mmu: Mmu::Usual,
    })
}

fn encode(header: &Header, page: &mut [u8]) -> Result<(), HeaderError> {
    let direct_map = header
        .direct_map
        .ok_or(HeaderError::Unwritable("no direct map"))?;
    if direct_map.phys != PhysAddr(0) {
        return Err(HeaderError::Unwritable(
            "a direct map that does not start at physical 0",
        ));
    }
    let raw = Minidumphdr {
        magic: FORMAT.magic_field(),
        version: U32::new(header.version),
        msgbufsize: U32::new(header.msgbufsize),
        bitmapsize: U32::new(header.bitmapsize),
        pmapsize: U32::new(header.pmapsize),
        kernbase: U64::new(header.kernbase.0),
        dmapbase: U64::new(direct_map.base.0),
        dmapend: U64::new(direct_map.end.0),
        dumpavailsize: U32::new(header.dumpavailsize.unwrap_or(0)),
    };
    write(&raw, page)
}
