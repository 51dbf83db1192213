//! `struct minidumphdr` of arm64, versions 1 to 3 (`sys/arm64/include/minidump.h`).
//!
//! Little-endian. Version 2 adds `dumpavailsize`, version 3 `flags`, whose two low bits give the
//! page size of every section, the header's included.

use super::contents::{DirectMap, Header, HeaderError, HeaderFormat, MAGIC_LEN, Mmu, read, write};
use crate::addr::{PageSize, PhysAddr, VirtAddr};
use crate::arch::Arch;
use crate::endian::Endian;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// On disk.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
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

/// Bytes of the structure.
const LEN: usize = size_of::<Minidumphdr>();

const _: () = {
    assert!(LEN == 80);
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

pub(super) const FORMAT: HeaderFormat = HeaderFormat {
    arch: Arch::Arm64,
    magic: "minidump FreeBSD/arm64",
    dump_avail_since: 2,
    has_narrow_dump_avail: false,
    bitmap_of_words_since: 1,
    header_bytes: &[72, 76, LEN],
    decode,
    encode,
};

fn decode(bytes: &[u8]) -> Result<Header, HeaderError> {
    let raw: &Minidumphdr = read(bytes)?;
    let version = FORMAT.check_version(raw.version.get())?;
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
        mmu: Mmu::Usual,
    })
}

fn encode(header: &Header, page: &mut [u8]) -> Result<(), HeaderError> {
    let direct_map = header
        .direct_map
        .ok_or(HeaderError::Unwritable("no direct map"))?;
    let flags = match header.page_size {
        PageSize::SIZE_4K => FLAG_PS_4K,
        PageSize::SIZE_16K if header.version >= 3 => FLAG_PS_16K,
        _ => return Err(HeaderError::Unwritable("this page size")),
    };
    let raw = Minidumphdr {
        magic: FORMAT.magic_field(),
        version: U32::new(header.version),
        msgbufsize: U32::new(header.msgbufsize),
        bitmapsize: U32::new(header.bitmapsize),
        pmapsize: U32::new(header.pmapsize),
        kernbase: U64::new(header.kernbase.0),
        dmapphys: U64::new(direct_map.phys.0),
        dmapbase: U64::new(direct_map.base.0),
        dmapend: U64::new(direct_map.end.0),
        dumpavailsize: U32::new(header.dumpavailsize.unwrap_or(0)),
        flags: U32::new(flags),
    };
    write(&raw, page)
}
