//! `struct minidumphdr` of arm, versions 1 and 2 (`sys/arm/include/minidump.h`).
//!
//! In the kernel's byte order; 32-bit addresses, no direct map. `arch` and `mmuformat` came in 2016
//! without a new version: they are 0 before, which counts as version 6 of the architecture.

use super::contents::{Header, HeaderError, HeaderFormat, MAGIC_LEN, Mmu, read, write};
use crate::addr::{PageSize, VirtAddr};
use crate::arch::Arch;
use crate::endian::Endian;
use zerocopy::byteorder::{BE, ByteOrder, LE, U32};
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
    kernbase: U32<O>,
    arch: U32<O>,
    mmuformat: U32<O>,
    dumpavailsize: U32<O>,
}

/// Bytes of the structure.
const LEN: usize = size_of::<Minidumphdr<LE>>();

const _: () = {
    assert!(LEN == 56);
    assert!(core::mem::offset_of!(Minidumphdr<LE>, kernbase) == 40);
    assert!(core::mem::offset_of!(Minidumphdr<LE>, mmuformat) == 48);
    assert!(core::mem::offset_of!(Minidumphdr<LE>, dumpavailsize) == 52);
};

/// `MINIDUMP_MMU_FORMAT_V4` and `MINIDUMP_MMU_FORMAT_V6`.
const MMU_FORMAT_V4: u32 = 1;
const MMU_FORMAT_V6: u32 = 2;
/// `__ARM_ARCH` of the kernels that are written for.
const ARM_ARCH: u32 = 7;

pub(super) const FORMAT: HeaderFormat = HeaderFormat {
    arch: Arch::Arm,
    magic: "minidump FreeBSD/arm",
    dump_avail_since: 2,
    has_narrow_dump_avail: true,
    bitmap_of_words_since: 1,
    header_bytes: &[52, LEN],
    decode,
    encode,
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
    Ok(Header {
        arch: Arch::Arm,
        version,
        endian,
        page_size: PageSize::SIZE_4K,
        msgbufsize: raw.msgbufsize.get(),
        bitmapsize: raw.bitmapsize.get(),
        pmapsize: raw.ptesize.get(),
        dumpavailsize: (version >= 2).then(|| raw.dumpavailsize.get()),
        kernbase: VirtAddr(u64::from(raw.kernbase.get())),
        direct_map: None,
        mmu: match raw.mmuformat.get() {
            MMU_FORMAT_V4 => Mmu::ArmV4,
            _ => Mmu::Usual,
        },
    })
}

fn encode(header: &Header, page: &mut [u8]) -> Result<(), HeaderError> {
    match header.endian {
        Endian::Little => encode_in::<LE>(header, page),
        Endian::Big => encode_in::<BE>(header, page),
    }
}

fn encode_in<O: ByteOrder>(header: &Header, page: &mut [u8]) -> Result<(), HeaderError> {
    let kernbase = u32::try_from(header.kernbase.0)
        .map_err(|_| HeaderError::Unwritable("a kernel map above 4 GiB"))?;
    let (arch, mmuformat) = match header.mmu {
        Mmu::ArmV4 => (4, MMU_FORMAT_V4),
        _ => (ARM_ARCH, MMU_FORMAT_V6),
    };
    let raw = Minidumphdr::<O> {
        magic: FORMAT.magic_field(),
        version: U32::new(header.version),
        msgbufsize: U32::new(header.msgbufsize),
        bitmapsize: U32::new(header.bitmapsize),
        ptesize: U32::new(header.pmapsize),
        kernbase: U32::new(kernbase),
        arch: U32::new(arch),
        mmuformat: U32::new(mmuformat),
        dumpavailsize: U32::new(header.dumpavailsize.unwrap_or(0)),
    };
    write(&raw, page)
}
