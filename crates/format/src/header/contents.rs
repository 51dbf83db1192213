//! A decoded minidump header, and what every architecture's structure is read and written with.

use crate::addr::{PageSize, PhysAddr, VirtAddr};
use crate::arch::Arch;
use crate::endian::Endian;
use core::fmt;
use thiserror::Error;

/// Bytes of the magic field, except on powerpc64.
pub(super) const MAGIC_LEN: usize = 24;

/// The minidump header of an architecture.
pub(super) struct HeaderFormat {
    /// The architecture.
    pub(super) arch: Arch,
    /// The full magic.
    pub(super) magic: &'static str,
    /// The first version that numbers its pages by `dump_avail`.
    pub(super) dump_avail_since: u32,
    /// Whether some kernels wrote the addresses of `dump_avail` in 32 bits.
    pub(super) has_narrow_dump_avail: bool,
    /// The first version whose bitmap consists of the kernel's words; earlier ones have 32-bit words.
    pub(super) bitmap_of_words_since: u32,
    /// Bytes of the structure of each version, from 1 on.
    pub(super) header_bytes: &'static [usize],
    /// Decodes the header's structure.
    pub(super) decode: fn(&[u8]) -> Result<Header, HeaderError>,
    /// Encodes it.
    pub(super) encode: fn(&Header, &mut [u8]) -> Result<(), HeaderError>,
}

impl HeaderFormat {
    /// The newest version.
    pub(super) fn newest(&self) -> u32 {
        u32::try_from(self.header_bytes.len()).unwrap_or(0)
    }

    /// Checks a version against the newest one, recognising a swapped one.
    pub(super) fn check_version(&self, version: u32) -> Result<u32, HeaderError> {
        let (arch, newest) = (self.arch.name(), self.newest());
        if (1..=newest).contains(&version) {
            return Ok(version);
        }
        let swapped = version.swap_bytes();
        if (1..=newest).contains(&swapped) {
            return Err(HeaderError::OtherEndian {
                arch,
                version: swapped,
            });
        }
        Err(HeaderError::BadVersion {
            arch,
            version,
            newest,
        })
    }

    /// The byte order in which `version` is known, for architectures with both; little-endian if it
    /// is known in neither.
    pub(super) fn order_of(&self, version: [u8; 4]) -> Endian {
        match Endian::Big.u32(version) {
            big if (1..=self.newest()).contains(&big) => Endian::Big,
            _ => Endian::Little,
        }
    }

    /// The magic, padded with NULs.
    pub(super) fn magic_field<const LEN: usize>(&self) -> [u8; LEN] {
        padded(self.magic.as_bytes())
    }
}

/// Text in a field, padded with NULs.
pub(super) fn padded<const LEN: usize>(text: &[u8]) -> [u8; LEN] {
    let mut field = [0; LEN];
    for (to, from) in field.iter_mut().zip(text) {
        *to = *from;
    }
    field
}

/// How the kernel's addresses are translated, where an architecture has more than one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mmu {
    /// In the architecture's only way.
    Usual,
    /// i386: 64-bit entries.
    Pae,
    /// arm before version 6: descriptors of type 3 are tiny pages.
    ArmV4,
    /// powerpc64.
    Powerpc64(Powerpc64Mmu),
}

/// What powerpc64's header says besides the sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Powerpc64Mmu {
    /// The section is a hashed page table, not the root of a radix tree.
    pub hashed: bool,
    /// `kernend`: the last address of the kernel map.
    pub kernend: VirtAddr,
    /// `hw_direct_map`: hashed entries of the direct map are for 16 MiB pages.
    pub hw_direct_map: bool,
    /// `startkernel`: where the kernel, linked at [`Powerpc64Mmu::LINKED_AT`], ran.
    pub startkernel: VirtAddr,
    /// `endkernel`.
    pub endkernel: VirtAddr,
}

impl Powerpc64Mmu {
    /// The address that powerpc64 kernels are linked at.
    pub const LINKED_AT: u64 = 0x10_0100;

    /// How far the kernel ran from where it was linked.
    #[must_use]
    pub const fn displacement(&self) -> u64 {
        self.startkernel.0.wrapping_sub(Self::LINKED_AT)
    }
}

/// The linear mapping of physical memory in the kernel's address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct DirectMap {
    /// First virtual address.
    pub base: VirtAddr,
    /// First virtual address after it.
    pub end: VirtAddr,
    /// Physical address that `base` maps.
    pub phys: PhysAddr,
}

impl DirectMap {
    /// The physical address of `va`, or `None` outside the direct map.
    #[inline]
    #[must_use]
    pub const fn phys_of(&self, va: VirtAddr) -> Option<PhysAddr> {
        if va.0 < self.base.0 || va.0 >= self.end.0 {
            return None;
        }
        self.phys.checked_add(va.0 - self.base.0)
    }

    /// The virtual address of `pa`, or `None` if the direct map does not reach it.
    #[inline]
    #[must_use]
    pub const fn virt_of(&self, pa: PhysAddr) -> Option<VirtAddr> {
        let Some(offset) = pa.checked_sub(self.phys) else {
            return None;
        };
        match self.base.checked_add(offset) {
            Some(va) if va.0 < self.end.0 => Some(va),
            _ => None,
        }
    }
}

/// A minidump header of any architecture and version, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Architecture, from the magic.
    pub arch: Arch,
    /// Version of the header, 1 to [`newest_version`](super::newest_version).
    pub version: u32,
    /// Byte order of the header, `dump_avail` and the page tables.
    pub endian: Endian,
    /// Page size of every section.
    pub page_size: PageSize,
    /// Bytes of the message buffer's ring.
    pub msgbufsize: u32,
    /// Bytes of the page bitmap.
    pub bitmapsize: u32,
    /// Bytes of the page-table section (`ptesize` in older versions).
    pub pmapsize: u32,
    /// Bytes of the `dump_avail` array; `None` in versions without it.
    pub dumpavailsize: Option<u32>,
    /// First virtual address that the page-table section covers.
    pub kernbase: VirtAddr,
    /// The direct map; `None` where the architecture has none.
    pub direct_map: Option<DirectMap>,
    /// How addresses are translated, where the architecture has more than one way.
    pub mmu: Mmu,
}

impl Header {
    /// Whether the page-table section holds 64-bit entries of an i386.
    #[must_use]
    pub const fn is_pae(&self) -> bool {
        matches!(self.mmu, Mmu::Pae)
    }

    /// How far the kernel ran from the addresses in its file.
    #[must_use]
    pub const fn displacement(&self) -> u64 {
        match &self.mmu {
            Mmu::Powerpc64(mmu) => mmu.displacement(),
            _ => 0,
        }
    }
}

/// Why bytes are not a minidump header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The file does not start with `minidump`.
    #[error("not a minidump: it does not start with \"minidump\"")]
    NotMinidump,
    /// The magic field has no terminating NUL, or names nothing known.
    #[error("a minidump with the unknown magic \"{}\"", printable(.0))]
    UnknownMagic([u8; MAGIC_LEN]),
    /// A minidump of a system that is known but not read.
    #[error("a dump with the magic \"{0}\", which is not supported yet")]
    UnsupportedArch(&'static str),
    /// The file ends inside the header.
    #[error("truncated inside the minidump header: {have} bytes, {need} needed")]
    Truncated {
        /// Bytes there are.
        have: usize,
        /// Bytes that the header has.
        need: usize,
    },
    /// Unknown version.
    #[error("{arch} minidump version {version}; versions 1 to {newest} are known")]
    BadVersion {
        /// Name of the architecture.
        arch: &'static str,
        /// The version in the file.
        version: u32,
        /// The newest version known.
        newest: u32,
    },
    /// The version makes sense only in the other byte order.
    #[error(
        "{arch} minidump version {version} in the other byte order: not a {arch} kernel's dump"
    )]
    OtherEndian {
        /// Name of the architecture.
        arch: &'static str,
        /// The version after swapping its bytes.
        version: u32,
    },
    /// arm64 with a page size that FreeBSD has not defined.
    #[error("unsupported page size: the page-size flags are {0}")]
    PageSize(u32),
    /// powerpc64: a hashed page table is a power of two of groups, 128 bytes each.
    #[error("the hashed page table has {0} bytes, not a power of two of 128-byte groups")]
    HashedTable(u32),
    /// A header to be written says what its architecture and version cannot.
    #[error("this minidump version cannot express {0}")]
    Unwritable(&'static str),
}

/// The bytes before the first NUL.
pub(super) fn until_nul(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A magic for people: a file may hold anything there.
fn printable(magic: &[u8]) -> impl fmt::Display + '_ {
    until_nul(magic).escape_ascii()
}

/// The structure at the start of `bytes`.
pub(super) fn read<T>(bytes: &[u8]) -> Result<&T, HeaderError>
where
    T: zerocopy::FromBytes + zerocopy::KnownLayout + zerocopy::Immutable + zerocopy::Unaligned,
{
    T::ref_from_prefix(bytes)
        .map(|(header, _)| header)
        .map_err(|_| HeaderError::Truncated {
            have: bytes.len(),
            need: size_of::<T>(),
        })
}

/// Writes a structure to the start of `page`.
pub(super) fn write<T>(raw: &T, page: &mut [u8]) -> Result<(), HeaderError>
where
    T: zerocopy::IntoBytes + zerocopy::Immutable,
{
    let have = page.len();
    raw.write_to_prefix(page)
        .map_err(|_| HeaderError::Truncated {
            have,
            need: size_of::<T>(),
        })
}
