//! `struct minidumphdr` of mips, versions 1 and 2 (`sys/mips/include/minidump.h`).
//!
//! In the kernel's byte order, and the same for 32-bit and 64-bit kernels: where the kernel map
//! starts tells them apart. Its direct map fields are 0; the unmapped segments of the address space
//! are the architecture's own.

use super::contents::{Header, HeaderError, HeaderFormat, MAGIC_LEN, Mmu, read, write};
use crate::addr::{PageSize, VirtAddr};
use crate::arch::Arch;
use crate::endian::Endian;
use zerocopy::byteorder::{BE, ByteOrder, LE, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// On disk.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Minidumphdr<O: ByteOrder> {
    magic: [u8; MAGIC_LEN],
    version: U32<O>,
    msgbufsize: U32<O>,
    bitmapsize: U32<O>,
    ptesize: U32<O>,
    kernbase: U64<O>,
    dmapbase: U64<O>,
    dmapend: U64<O>,
    dumpavailsize: U32<O>,
}

/// Bytes of the structure.
const LEN: usize = size_of::<Minidumphdr<LE>>();

const _: () = {
    assert!(LEN == 68);
    assert!(core::mem::offset_of!(Minidumphdr<LE>, kernbase) == 40);
    assert!(core::mem::offset_of!(Minidumphdr<LE>, dmapend) == 56);
    assert!(core::mem::offset_of!(Minidumphdr<LE>, dumpavailsize) == 64);
};

/// `VM_MIN_KERNEL_ADDRESS` of 64-bit kernels is in this segment (XKSEG).
const XKSEG: u64 = 3;

pub(super) const FORMAT: HeaderFormat = HeaderFormat {
    arch: Arch::Mips,
    magic: "minidump FreeBSD/mips",
    dump_avail_since: 2,
    has_narrow_dump_avail: true,
    bitmap_of_words_since: 1,
    header_bytes: &[64, LEN],
    decode,
    encode,
};
/// 64-bit kernels have the same header.
pub(super) const FORMAT_64: HeaderFormat = HeaderFormat {
    arch: Arch::Mips64,
    has_narrow_dump_avail: false,
    bitmap_of_words_since: 2,
    ..FORMAT
};

fn decode(bytes: &[u8]) -> Result<Header, HeaderError> {
    let raw: &Minidumphdr<LE> = read(bytes)?;
    match FORMAT.order_of(raw.version.to_bytes()) {
        Endian::Little => decode_in::<LE>(bytes, Endian::Little),
        Endian::Big => decode_in::<BE>(bytes, Endian::Big),
    }
}

fn decode_in<O: ByteOrder>(bytes: &[u8], endian: Endian) -> Result<Header, HeaderError> {
    let raw: &Minidumphdr<O> = read(bytes)?;
    let version = FORMAT.check_version(raw.version.get())?;
    let kernbase = raw.kernbase.get();
    // A 32-bit kernel may have sign-extended its 32 bits.
    let is_wide = kernbase >> 62 == XKSEG && kernbase >> 32 != u64::from(u32::MAX);
    let (arch, kernbase) = if is_wide {
        (Arch::Mips64, kernbase)
    } else {
        (Arch::Mips, kernbase & u64::from(u32::MAX))
    };
    Ok(Header {
        arch,
        version,
        endian,
        page_size: PageSize::SIZE_4K,
        msgbufsize: raw.msgbufsize.get(),
        bitmapsize: raw.bitmapsize.get(),
        pmapsize: raw.ptesize.get(),
        dumpavailsize: (version >= 2).then(|| raw.dumpavailsize.get()),
        kernbase: VirtAddr(kernbase),
        direct_map: None,
        mmu: Mmu::Usual,
    })
}

fn encode(header: &Header, page: &mut [u8]) -> Result<(), HeaderError> {
    match header.endian {
        Endian::Little => encode_in::<LE>(header, page),
        Endian::Big => encode_in::<BE>(header, page),
    }
}

fn encode_in<O: ByteOrder>(header: &Header, page: &mut [u8]) -> Result<(), HeaderError> {
    let raw = Minidumphdr::<O> {
        magic: FORMAT.magic_field(),
        version: U32::new(header.version),
        msgbufsize: U32::new(header.msgbufsize),
        bitmapsize: U32::new(header.bitmapsize),
        ptesize: U32::new(header.pmapsize),
        kernbase: U64::new(header.kernbase.0),
        dmapbase: U64::new(0),
        dmapend: U64::new(0),
        dumpavailsize: U32::new(header.dumpavailsize.unwrap_or(0)),
    };
    write(&raw, page)
}
