//! `struct minidumphdr` of powerpc64, versions 1 and 2 (`sys/powerpc/include/minidump.h`).
//!
//! In the kernel's byte order. Magic and the name of the MMU have 32 bytes each, so that all other
//! fields are elsewhere than in other architectures' headers.

use super::contents::{
    DirectMap, Header, HeaderError, HeaderFormat, Mmu, Powerpc64Mmu, padded, read, write,
};
use crate::addr::{PageSize, PhysAddr, VirtAddr};
use crate::arch::Arch;
use crate::endian::Endian;
use zerocopy::byteorder::{BE, ByteOrder, I32, LE, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of the magic, and of the MMU's name.
const NAME_LEN: usize = 32;
/// Bytes of a group of a hashed page table.
const GROUP_LEN: u32 = 128;
/// `mmu_name` of kernels with radix tables; the others have hashed ones.
const MMU_RADIX: &[u8] = b"mmu_radix";
const MMU_PHYP: &[u8] = b"mmu_phyp";

/// On disk.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Minidumphdr<O: ByteOrder> {
    magic: [u8; NAME_LEN],
    mmu_name: [u8; NAME_LEN],
    version: U32<O>,
    msgbufsize: U32<O>,
    bitmapsize: U32<O>,
    pmapsize: U32<O>,
    kernbase: U64<O>,
    kernend: U64<O>,
    dmapbase: U64<O>,
    dmapend: U64<O>,
    hw_direct_map: I32<O>,
    padding: [u8; 4],
    startkernel: U64<O>,
    endkernel: U64<O>,
    dumpavailsize: U32<O>,
}

/// Bytes of the structure.
const LEN: usize = size_of::<Minidumphdr<LE>>();

const _: () = {
    assert!(LEN == 140);
    assert!(core::mem::offset_of!(Minidumphdr<LE>, version) == 64);
    assert!(core::mem::offset_of!(Minidumphdr<LE>, kernbase) == 80);
    assert!(core::mem::offset_of!(Minidumphdr<LE>, dmapend) == 104);
    assert!(core::mem::offset_of!(Minidumphdr<LE>, startkernel) == 120);
    assert!(core::mem::offset_of!(Minidumphdr<LE>, dumpavailsize) == 136);
};

pub(super) const FORMAT: HeaderFormat = HeaderFormat {
    arch: Arch::Powerpc64,
    magic: "minidump FreeBSD/powerpc64",
    dump_avail_since: 2,
    has_narrow_dump_avail: false,
    bitmap_of_words_since: 1,
    header_bytes: &[136, LEN],
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
    let hashed = !raw.mmu_name.starts_with(MMU_RADIX);
    let pmapsize = raw.pmapsize.get();
    if hashed && !(pmapsize >= GROUP_LEN && pmapsize.is_power_of_two()) {
        return Err(HeaderError::HashedTable(pmapsize));
    }
    Ok(Header {
        arch: Arch::Powerpc64,
        version,
        endian,
        page_size: PageSize::SIZE_4K,
        msgbufsize: raw.msgbufsize.get(),
        bitmapsize: raw.bitmapsize.get(),
        pmapsize,
        dumpavailsize: (version >= 2).then(|| raw.dumpavailsize.get()),
        kernbase: VirtAddr(raw.kernbase.get()),
        direct_map: Some(DirectMap {
            base: VirtAddr(raw.dmapbase.get()),
            // The header names the last address, not the one after it.
            end: VirtAddr(raw.dmapend.get().saturating_add(1)),
            phys: PhysAddr(0),
        }),
        mmu: Mmu::Powerpc64(Powerpc64Mmu {
            hashed,
            kernend: VirtAddr(raw.kernend.get()),
            hw_direct_map: raw.hw_direct_map.get() != 0,
            startkernel: VirtAddr(raw.startkernel.get()),
            endkernel: VirtAddr(raw.endkernel.get()),
        }),
    })
}

fn encode(header: &Header, page: &mut [u8]) -> Result<(), HeaderError> {
    match header.endian {
        Endian::Little => encode_in::<LE>(header, page),
        Endian::Big => encode_in::<BE>(header, page),
    }
}

fn encode_in<O: ByteOrder>(header: &Header, page: &mut [u8]) -> Result<(), HeaderError> {
    let (Mmu::Powerpc64(mmu), Some(direct_map)) = (header.mmu, header.direct_map) else {
        return Err(HeaderError::Unwritable("no kind of page tables"));
    };
    let raw = Minidumphdr::<O> {
        magic: FORMAT.magic_field(),
        mmu_name: padded(if mmu.hashed { MMU_PHYP } else { MMU_RADIX }),
        version: U32::new(header.version),
        msgbufsize: U32::new(header.msgbufsize),
        bitmapsize: U32::new(header.bitmapsize),
        pmapsize: U32::new(header.pmapsize),
        kernbase: U64::new(header.kernbase.0),
        kernend: U64::new(mmu.kernend.0),
        dmapbase: U64::new(direct_map.base.0),
        dmapend: U64::new(direct_map.end.0.saturating_sub(1)),
        hw_direct_map: I32::new(i32::from(mmu.hw_direct_map)),
        padding: [0; 4],
        startkernel: U64::new(mmu.startkernel.0),
        endkernel: U64::new(mmu.endkernel.0),
        dumpavailsize: U32::new(header.dumpavailsize.unwrap_or(0)),
    };
    write(&raw, page)
}
