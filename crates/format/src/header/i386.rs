//! `struct minidumphdr` of i386, versions 1 and 2 (`sys/i386/include/minidump.h`).
//!
//! Little-endian, 32-bit addresses, no direct map. Any non-zero `paemode` counts as PAE, as in
//! FreeBSD's reader.

use super::contents::{Header, HeaderError, HeaderFormat, MAGIC_LEN, Mmu, read, write};
use crate::addr::{PageSize, VirtAddr};
use crate::arch::Arch;
use crate::endian::Endian;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// On disk.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
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

/// Bytes of the structure.
const LEN: usize = size_of::<Minidumphdr>();

const _: () = {
    assert!(LEN == 52);
    assert!(core::mem::offset_of!(Minidumphdr, ptesize) == 36);
    assert!(core::mem::offset_of!(Minidumphdr, kernbase) == 40);
    assert!(core::mem::offset_of!(Minidumphdr, paemode) == 44);
    assert!(core::mem::offset_of!(Minidumphdr, dumpavailsize) == 48);
};

pub(super) const FORMAT: HeaderFormat = HeaderFormat {
    arch: Arch::I386,
    magic: "minidump FreeBSD/i386",
    dump_avail_since: 2,
    has_narrow_dump_avail: false,
    bitmap_of_words_since: 1,
    header_bytes: &[48, LEN],
    decode,
    encode,
};

fn decode(bytes: &[u8]) -> Result<Header, HeaderError> {
    let raw: &Minidumphdr = read(bytes)?;
    let version = FORMAT.check_version(raw.version.get())?;
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
        mmu: match raw.paemode.get() {
            0 => Mmu::Usual,
            _ => Mmu::Pae,
        },
    })
}

fn encode(header: &Header, page: &mut [u8]) -> Result<(), HeaderError> {
    let kernbase = u32::try_from(header.kernbase.0)
        .map_err(|_| HeaderError::Unwritable("a kernel map above 4 GiB"))?;
    let raw = Minidumphdr {
        magic: FORMAT.magic_field(),
        version: U32::new(header.version),
        msgbufsize: U32::new(header.msgbufsize),
        bitmapsize: U32::new(header.bitmapsize),
        ptesize: U32::new(header.pmapsize),
        kernbase: U32::new(kernbase),
        paemode: U32::new(u32::from(header.is_pae())),
        dumpavailsize: U32::new(header.dumpavailsize.unwrap_or(0)),
    };
    write(&raw, page)
}
