//! Typed addresses: physical, virtual, page numbers and file offsets never mix by accident.
//!
//! All are `u64` inside, print in hexadecimal, and their arithmetic is checked: numbers come from
//! untrusted files.
//!
//! ```
//! use vmcore_format::addr::{PageSize, PhysAddr};
//! let pa = PhysAddr(0x1a34_123);
//! let page = PageSize::SIZE_4K;
//! assert_eq!(page.pfn(pa).0, 0x1a34);
//! assert_eq!(page.offset_in_page(pa.0), 0x123);
//! assert_eq!(pa.to_string(), "0x1a34123");
//! ```

use core::fmt;

/// Declares a `u64` newtype that prints in hexadecimal and has checked arithmetic.
macro_rules! address_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl $name {
            /// The value `bytes` further, or `None` beyond 2^64.
            #[must_use]
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(value) => Some(Self(value)),
                    None => None,
                }
            }

            /// The distance from `earlier` to here, or `None` if `earlier` is later.
            #[must_use]
            pub const fn checked_sub(self, earlier: Self) -> Option<u64> {
                self.0.checked_sub(earlier.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }

        /// Serialises as a hexadecimal string, as all addresses in our JSON do.
        #[cfg(feature = "serde")]
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

address_type! {
    /// A physical address, in bytes.
    PhysAddr
}
address_type! {
    /// A virtual address of the kernel that crashed, in bytes. 32-bit kernels zero-extend.
    VirtAddr
}
address_type! {
    /// A physical page number: physical address divided by the dump's page size.
    Pfn
}
address_type! {
    /// A position in the vmcore file, in bytes from the start of the dump (after a device header).
    FileOffset
}

/// A range of physical memory in bytes, `end` exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct PhysRange {
    /// First byte.
    pub start: PhysAddr,
    /// First byte after the range.
    pub end: PhysAddr,
}

impl PhysRange {
    /// Length in bytes; 0 for a reversed range.
    #[must_use]
    pub const fn len_bytes(self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }

    /// Whether `pa` is inside.
    #[must_use]
    pub const fn contains(self, pa: PhysAddr) -> bool {
        self.start.0 <= pa.0 && pa.0 < self.end.0
    }
}

impl fmt::Display for PhysRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end)
    }
}

/// The page size of a dump: a power of two from 4 KiB to 64 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize {
    shift: u32,
}

impl PageSize {
    /// 4096 bytes: every architecture but arm64 with the 16 KiB flag, and sparc64.
    pub const SIZE_4K: Self = Self { shift: 12 };
    /// 8192 bytes: sparc64.
    pub const SIZE_8K: Self = Self { shift: 13 };
    /// 16384 bytes: arm64 minidump version 3 with flag 1.
    pub const SIZE_16K: Self = Self { shift: 14 };

    /// log2 of the size.
    #[must_use]
    pub const fn shift(self) -> u32 {
        self.shift
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        1 << self.shift
    }

    /// The page that holds `pa`.
    #[must_use]
    pub const fn pfn(self, pa: PhysAddr) -> Pfn {
        Pfn(pa.0 >> self.shift)
    }

    /// The first byte of page `pfn`; wraps for page numbers that no address has.
    #[must_use]
    pub const fn base(self, pfn: Pfn) -> PhysAddr {
        PhysAddr(pfn.0 << self.shift)
    }

    /// The offset of `address` (physical or virtual) in its page, in bytes.
    #[must_use]
    pub const fn offset_in_page(self, address: u64) -> u64 {
        address & (self.bytes() - 1)
    }

    /// `length_bytes` rounded up to whole pages, or `None` beyond 2^64.
    #[must_use]
    pub const fn round_up(self, length_bytes: u64) -> Option<u64> {
        match length_bytes.checked_add(self.bytes() - 1) {
            Some(sum) => Some(sum & !(self.bytes() - 1)),
            None => None,
        }
    }

    /// Whole pages that `length_bytes` needs; never overflows.
    #[must_use]
    pub const fn pages(self, length_bytes: u64) -> u64 {
        length_bytes.div_ceil(self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    #[test]
    fn addresses_print_as_hexadecimal() {
        assert_eq!(format!("{}", PhysAddr(0x9f000)), "0x9f000");
        assert_eq!(format!("{:?}", VirtAddr(0)), "VirtAddr(0x0)");
        let range = PhysRange {
            start: PhysAddr(0),
            end: PhysAddr(0x9f000),
        };
        assert_eq!(format!("{range}"), "0x0-0x9f000");
    }

    #[test]
    fn arithmetic_at_the_end_of_the_address_space_is_checked() {
        assert_eq!(PhysAddr(u64::MAX).checked_add(1), None);
        assert_eq!(FileOffset(5).checked_sub(FileOffset(6)), None);
        assert_eq!(PageSize::SIZE_4K.round_up(u64::MAX), None);
        assert_eq!(PageSize::SIZE_4K.pages(u64::MAX), 1 << 52);
        assert_eq!(PageSize::SIZE_16K.round_up(1), Some(16384));
    }
}
