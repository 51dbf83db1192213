//! The byte order of the kernel that wrote a dump, and integers read in it.
//!
//! ```
//! use vmcore_format::endian::Endian;
//! assert_eq!(Endian::Little.u32([1, 0, 0, 0]), 1);
//! assert_eq!(Endian::Big.u32_at(&[9, 0, 0, 0, 1], 1), Some(1));
//! assert_eq!(Endian::Big.u32_at(&[9, 0, 0, 0, 1], 2), None);
//! ```

/// Byte order of the kernel's integers (EI_DATA of its ELF file).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "lowercase")
)]
pub enum Endian {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

impl Endian {
    /// A 32-bit integer.
    #[inline]
    #[must_use]
    pub const fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    /// A 64-bit integer.
    #[inline]
    #[must_use]
    pub const fn u64(self, bytes: [u8; 8]) -> u64 {
        match self {
            Self::Little => u64::from_le_bytes(bytes),
            Self::Big => u64::from_be_bytes(bytes),
        }
    }

    /// The bytes of a 32-bit integer.
    #[inline]
    #[must_use]
    pub const fn bytes32(self, value: u32) -> [u8; 4] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }

    /// The bytes of a 64-bit integer.
    #[inline]
    #[must_use]
    pub const fn bytes64(self, value: u64) -> [u8; 8] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }

    /// The 32-bit integer at byte `offset` of `bytes`, or `None` beyond its end.
    #[inline]
    #[must_use]
    pub fn u32_at(self, bytes: &[u8], offset: usize) -> Option<u32> {
        Some(self.u32(*bytes.get(offset..)?.first_chunk()?))
    }

    /// The 64-bit integer at byte `offset` of `bytes`, or `None` beyond its end.
    #[inline]
    #[must_use]
    pub fn u64_at(self, bytes: &[u8], offset: usize) -> Option<u64> {
        Some(self.u64(*bytes.get(offset..)?.first_chunk()?))
    }
}

/// How wide a page-table entry or a machine word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 32 bits.
    W32,
    /// 64 bits.
    W64,
}

impl Width {
    /// Bytes of an item.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::W32 => 4,
            Self::W64 => 8,
        }
    }

    /// Item number `index` of a table, zero-extended, or `None` beyond its end.
    #[inline]
    #[must_use]
    pub fn item(self, endian: Endian, table: &[u8], index: usize) -> Option<u64> {
        match self {
            Self::W32 => endian.u32_at(table, index.checked_mul(4)?).map(u64::from),
            Self::W64 => endian.u64_at(table, index.checked_mul(8)?),
        }
    }
}
