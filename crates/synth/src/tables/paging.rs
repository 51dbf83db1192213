//! The kinds of page tables: their levels, and the entries of each.

use super::Mapping;

/// Kinds of page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paging {
    /// amd64, 4 levels.
    Amd64,
    /// amd64, 5 levels.
    Amd64La57,
    /// arm64, 4 KiB pages.
    Arm64Page4K,
    /// arm64, 16 KiB pages.
    Arm64Page16K,
    /// i386 without PAE.
    I386,
    /// i386 with PAE.
    I386Pae,
    /// riscv64, Sv39.
    Riscv64,
    /// arm, descriptors of version 6.
    Arm,
    /// mips with entries of 4 bytes.
    Mips32,
    /// mips with entries of 8 bytes: 64-bit kernels, and n32.
    Mips64,
    /// powerpc64's radix tables, which are big-endian in every machine.
    Radix,
    /// powerpc64's hashed table: see [`crate::hashed`].
    Hashed,
    /// sparc64's translation buffer: see [`crate::sparc64`].
    Tsb,
    /// None that a dump has: powerpc's dumps hold virtual memory.
    Virtual,
}

/// The entry of an address in the tables.
pub(super) enum TableEntry {
    Absent,
    Table(u64),
    Leaf { level: u32, raw: u64 },
}

/// amd64 and i386: valid, writable, accessed, dirty, large page.
const X86_V: u64 = 0x1;
const X86_RW: u64 = 0x2;
const X86_A: u64 = 0x20;
const X86_M: u64 = 0x40;
const X86_PS: u64 = 0x80;
const X86_NX: u64 = 1 << 63;
/// What kernels put into fabricated entries and into entries for tables.
const X86_RWAM: u64 = X86_V | X86_RW | X86_A | X86_M;
/// arm64: accessed, inner shareable, read-only, no execution.
const ARM64_AF: u64 = 0x400;
const ARM64_SH: u64 = 0x300;
const ARM64_RO: u64 = 0x80;
const ARM64_XN: u64 = 3 << 53;
/// riscv: valid, readable, writable, executable, global, accessed, dirty.
const RISCV_V: u64 = 0x1;
const RISCV_R: u64 = 0x2;
const RISCV_W: u64 = 0x4;
const RISCV_X: u64 = 0x8;
const RISCV_GAD: u64 = 0xe0;

/// arm: tables and sections of the first level; small pages of the second.
const ARM_COARSE: u64 = 1;
const ARM_SECTION: u64 = 2;
const ARM_SECTION_RO: u64 = 1 << 13;
const ARM_SECTION_XN: u64 = 1 << 4;
const ARM_SMALL: u64 = 0x12;
const ARM_SMALL_XN: u64 = 1;
const ARM_RO: u64 = 0x80;
/// mips: global, valid, dirty (may be written), cached; read-only, by width. Tables are named by
/// their address in an unmapped segment.
const MIPS_GVC: u64 = 0x1b;
const MIPS_D: u64 = 0x4;
const MIPS32_RO: u64 = 1 << 29;
const MIPS64_RO: u64 = 1 << 55;
const MIPS_KSEG0: u64 = 0x8000_0000;
const MIPS_XKPHYS: u64 = 0x9800_0000_0000_0000;
/// powerpc64's radix tables: valid, leaf, log2 of the entries of a table; readable, writable,
/// executable.
const RADIX_V: u64 = 1 << 63;
const RADIX_LEAF: u64 = 1 << 62;
const RADIX_BITS: u64 = 9;
const RADIX_R: u64 = 4;
const RADIX_W: u64 = 2;
const RADIX_X: u64 = 1;

impl Paging {
    /// Number of levels; 0 for tables that are not a tree.
    #[must_use]
    pub const fn levels(self) -> u32 {
        match self {
            Self::Hashed | Self::Tsb | Self::Virtual => 0,
            Self::I386 | Self::Arm | Self::Mips32 => 2,
            Self::I386Pae | Self::Riscv64 | Self::Mips64 => 3,
            Self::Amd64 | Self::Arm64Page4K | Self::Arm64Page16K | Self::Radix => 4,
            Self::Amd64La57 => 5,
        }
    }

    /// Whether one entry, or one entry for each of its small pages, maps a page of `size` bytes.
    #[must_use]
    pub fn has_page(self, size: u64) -> bool {
        match self {
            Self::Mips32 | Self::Mips64 | Self::Hashed | Self::Virtual => size == self.span(0),
            Self::Tsb => (0..4).any(|step| size == self.span(0) << (3 * step)),
            _ => (0..self.levels()).any(|level| size == self.span(level)),
        }
    }

    /// Whether entries are big-endian on a machine of this byte order.
    #[must_use]
    pub const fn is_big_endian(self, machine_is: bool) -> bool {
        matches!(self, Self::Radix) || machine_is
    }

    /// log2 of the smallest page.
    const fn page_shift(self) -> u32 {
        match self {
            Self::Arm64Page16K => 14,
            Self::Tsb => 13,
            _ => 12,
        }
    }

    /// log2 of the entries of a table.
    const fn index_bits(self) -> u32 {
        match self {
            Self::Arm64Page16K => 11,
            Self::I386 | Self::Mips32 => 10,
            Self::Arm => 8,
            _ => 9,
        }
    }

    /// Bits of an address that are translated.
    const fn va_bits(self) -> u32 {
        match self {
            Self::Amd64 | Self::Arm64Page4K | Self::Arm64Page16K => 48,
            Self::Amd64La57 => 57,
            Self::I386 | Self::I386Pae | Self::Arm | Self::Mips32 | Self::Virtual => 32,
            Self::Riscv64 | Self::Mips64 => 39,
            Self::Radix => 52,
            Self::Hashed | Self::Tsb => 63,
        }
    }

    /// Bytes of an entry.
    #[must_use]
    pub const fn entry_bytes(self) -> u64 {
        if matches!(self, Self::I386 | Self::Arm | Self::Mips32) {
            4
        } else {
            8
        }
    }

    /// Bytes that an entry at `level` covers.
    #[must_use]
    pub const fn span(self, level: u32) -> u64 {
        1 << (self.page_shift() + level * self.index_bits())
    }

    /// Number of the entry for `va` in a table at `level`.
    pub(super) const fn entry_index(self, va: u64, level: u32) -> u64 {
        let translated = va & ((1 << self.va_bits()) - 1);
        let index = translated / self.span(level);
        // The first level of arm and of radix tables has an entry for all addresses.
        if matches!((self, level), (Self::Arm, 1) | (Self::Radix, 3)) {
            return index;
        }
        index & ((1 << self.index_bits()) - 1)
    }

    /// The entry that leads to the next table, in a table at `level`.
    pub(super) fn table_entry(self, level: u32, pa: u64) -> u64 {
        match self {
            Self::I386Pae if level == 2 => pa | X86_V,
            Self::Amd64 | Self::Amd64La57 | Self::I386 | Self::I386Pae => pa | X86_RWAM,
            Self::Arm64Page4K | Self::Arm64Page16K => pa | 3,
            Self::Riscv64 => pa >> 2 | RISCV_V,
            Self::Arm => pa | ARM_COARSE,
            Self::Mips32 => pa | MIPS_KSEG0,
            Self::Mips64 => pa | MIPS_XKPHYS,
            Self::Radix => pa | RADIX_V | RADIX_BITS,
            Self::Hashed | Self::Tsb | Self::Virtual => 0,
        }
    }

    /// The entry of a page, in a table at `level`.
    #[must_use]
    pub fn leaf_entry(self, level: u32, mapping: &Mapping) -> u64 {
        let Mapping {
            pa, write, execute, ..
        } = *mapping;
        let if_set = |condition: bool, bits: u64| if condition { bits } else { 0 };
        match self {
            Self::Amd64 | Self::Amd64La57 | Self::I386Pae | Self::I386 => {
                let has_nx = self != Self::I386;
                pa | X86_V
                    | X86_A
                    | if_set(write, X86_RW | X86_M)
                    | if_set(level > 0, X86_PS)
                    | if_set(has_nx && !execute, X86_NX)
            }
            Self::Arm64Page4K | Self::Arm64Page16K => {
                let descriptor = if level == 0 { 3 } else { 1 };
                pa | descriptor
                    | ARM64_AF
                    | ARM64_SH
                    | if_set(!write, ARM64_RO)
                    | if_set(!execute, ARM64_XN)
            }
            Self::Riscv64 => {
                pa >> 2
                    | RISCV_V
                    | RISCV_R
                    | RISCV_GAD
                    | if_set(write, RISCV_W)
                    | if_set(execute, RISCV_X)
            }
            Self::Arm if level == 1 => {
                pa | ARM_SECTION | if_set(!write, ARM_SECTION_RO) | if_set(!execute, ARM_SECTION_XN)
            }
            Self::Arm => pa | ARM_SMALL | if_set(!write, ARM_RO) | if_set(!execute, ARM_SMALL_XN),
            Self::Mips32 | Self::Mips64 => {
                let read_only = if self == Self::Mips32 {
                    MIPS32_RO
                } else {
                    MIPS64_RO
                };
                pa >> 12 << 6 | MIPS_GVC | if_set(write, MIPS_D) | if_set(!write, read_only)
            }
            Self::Radix => {
                let may = RADIX_R | if_set(write, RADIX_W) | if_set(execute, RADIX_X);
                pa | RADIX_V | RADIX_LEAF | may
            }
            Self::Hashed | Self::Tsb | Self::Virtual => 0,
        }
    }

    /// What an entry at `level` says.
    pub(super) fn decode(self, level: u32, raw: u64) -> TableEntry {
        if self == Self::Arm {
            return match (raw & 3, level) {
                (0, _) => TableEntry::Absent,
                (ARM_COARSE, 1) => TableEntry::Table(raw & 0xffff_fc00),
                _ => TableEntry::Leaf { level, raw },
            };
        }
        if matches!(self, Self::Mips32 | Self::Mips64) {
            return match (raw, level) {
                (0, _) => TableEntry::Absent,
                (_, 0) => TableEntry::Leaf { level, raw },
                (pointer, _) => TableEntry::Table(pointer & 0x1fff_ffff),
            };
        }
        let is_valid = match self {
            Self::Radix => raw & RADIX_V != 0,
            _ => raw & 1 == 1,
        };
        let is_leaf = level == 0
            || match self {
                Self::Amd64 | Self::Amd64La57 | Self::I386 | Self::I386Pae => raw & X86_PS != 0,
                Self::Arm64Page4K | Self::Arm64Page16K => raw & 3 == 1,
                Self::Riscv64 => raw & (RISCV_R | RISCV_W | RISCV_X) != 0,
                Self::Radix => raw & RADIX_LEAF != 0,
                _ => true,
            };
        match (is_valid, is_leaf) {
            (false, _) => TableEntry::Absent,
            (true, false) => TableEntry::Table(self.frame(0, raw)),
            (true, true) => TableEntry::Leaf { level, raw },
        }
    }

    /// Physical address in an entry at `level`.
    pub(super) fn frame(self, level: u32, raw: u64) -> u64 {
        let bits = match self {
            Self::Riscv64 => (raw & 0x003f_ffff_ffff_fc00) << 2,
            Self::I386 | Self::Arm => raw & 0xffff_f000,
            Self::Amd64 | Self::Amd64La57 | Self::I386Pae => raw & 0x000f_ffff_ffff_f000,
            Self::Arm64Page4K | Self::Arm64Page16K => raw & 0x0000_ffff_ffff_f000,
            Self::Mips32 => (raw & 0x1fff_ffc0) << 6,
            Self::Mips64 => (raw & 0x3_ffff_ffc0) << 6,
            Self::Radix => raw & 0x00ff_ffff_ffff_f000,
            Self::Hashed | Self::Tsb | Self::Virtual => 0,
        };
        bits / self.span(level) * self.span(level)
    }

    /// Level of the entries in a minidump's page-table section.
    #[must_use]
    pub const fn section_level(self, version: u32) -> u32 {
        match self {
            Self::Amd64 | Self::Amd64La57 if version >= 2 => 1,
            // The root.
            Self::Radix => 3,
            _ => 0,
        }
    }

    /// Entry `k` of a page of the section, made from the large page `raw` at `level`, whose part
    /// `inside` bytes from its start the section's page covers.
    pub(super) fn fabricated(
        self,
        level: u32,
        raw: u64,
        section_level: u32,
        inside: u64,
        k: u64,
    ) -> u64 {
        let distance = inside + k * self.span(section_level);
        let frame = self.frame(level, raw) + distance;
        match self {
            Self::Amd64 | Self::Amd64La57 if section_level == 1 => raw + distance,
            Self::Amd64 | Self::Amd64La57 | Self::I386 | Self::I386Pae => frame | X86_RWAM,
            Self::Arm64Page4K | Self::Arm64Page16K => frame | ARM64_AF | ARM64_SH | 3,
            Self::Riscv64 => raw | distance >> 2,
            // The kernel asks its pmap for each page.
            Self::Arm => {
                let read_only = if raw & ARM_SECTION_RO == 0 { 0 } else { ARM_RO };
                let no_execution = if raw & ARM_SECTION_XN == 0 {
                    0
                } else {
                    ARM_SMALL_XN
                };
                frame | ARM_SMALL | read_only | no_execution
            }
            // The root of radix tables is copied, and the others have no large pages.
            _ => 0,
        }
    }
}
