//! What records hold: checksums, the registers of the CPUs, the list of damage.

use super::ExtensionError;
use crate::addr::{FileOffset, PhysAddr, VirtAddr};
use crate::endian::Endian;
use crate::layout::Section;
use crate::numbered::numbered;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a section's entry in [`Sections`](super::RecordKind::Sections).
pub const SECTION_ENTRY_LEN: usize = 32;
/// Bytes before the checksums in [`Pages`](super::RecordKind::Pages).
pub const PAGES_HEAD_LEN: usize = 32;
/// Bytes before the CPUs in [`Cpus`](super::RecordKind::Cpus).
pub const CPUS_HEAD_LEN: usize = 16;
/// Bytes of a CPU before its registers.
pub const CPU_HEAD_LEN: usize = 16;
/// Bytes before the entries in [`Damage`](super::RecordKind::Damage).
pub const DAMAGE_HEAD_LEN: usize = 16;
/// Bytes of a damage entry.
pub const DAMAGE_ENTRY_LEN: usize = 32;

numbered! {
    /// What was wrong.
    DamageKind {
        /// An entry names a page-table page that is not RAM.
        TableNotRam = 1,
        /// A page-table page could not be read.
        TableUnreadable = 2,
        /// There are more page-table pages than the machine can have: aliases or cycles.
        TooManyTables = 3,
        /// The page could not be read; it is all zeros in the dump.
        PageUnreadable = 4,
        /// The message buffer could not be read; zeros stand for what is missing.
        MessageBuffer = 5,
    }
}

numbered! {
    /// What became of a CPU.
    CpuState {
        /// It did not stop when it was told to: its registers are not known, and it may have changed
        /// memory while the dump was written.
        Running = 0,
        /// It stopped and saved its registers.
        Stopped = 1,
        /// It wrote the dump; these are its registers where the trap or the call of panic was.
        Dumping = 2,
    }
}

/// On disk.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawSection {
    section: U32,
    reserved: U32,
    offset: U64,
    stored_bytes: U64,
    checksum: U64,
}

/// On disk.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawDamage {
    kind: U32,
    level: U32,
    va: U64,
    pa: U64,
    count: U64,
}

const _: () = {
    assert!(size_of::<RawSection>() == SECTION_ENTRY_LEN);
    assert!(size_of::<RawDamage>() == DAMAGE_ENTRY_LEN);
};

/// The checksum of a section before the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionSum {
    /// Which: the number of a [`Section`], see [`section_number`].
    pub section: u32,
    /// Where it starts in the dump.
    pub offset: FileOffset,
    /// Bytes that were summed: the section as stored, its padding included.
    pub stored_bytes: u64,
    /// Their checksum.
    pub checksum: u64,
}

/// The number of a section in [`Sections`](super::RecordKind::Sections).
#[must_use]
pub const fn section_number(section: Section) -> u32 {
    match section {
        Section::Header => 1,
        Section::MessageBuffer => 2,
        Section::DumpAvail => 3,
        Section::Bitmap => 4,
        Section::PageTables => 5,
        Section::Pages => 6,
    }
}

impl SectionSum {
    /// The entry's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; SECTION_ENTRY_LEN] {
        let raw = RawSection {
            section: U32::new(self.section),
            reserved: U32::new(0),
            offset: U64::new(self.offset.0),
            stored_bytes: U64::new(self.stored_bytes),
            checksum: U64::new(self.checksum),
        };
        zerocopy::transmute!(raw)
    }

    /// The entries of a [`Sections`](super::RecordKind::Sections) payload.
    pub fn parse_all(payload: &[u8]) -> impl Iterator<Item = Self> + '_ {
        let entries = payload.as_chunks::<SECTION_ENTRY_LEN>().0.iter();
        entries
            .filter_map(|entry| RawSection::ref_from_bytes(entry).ok())
            .map(|raw| Self {
                section: raw.section.get(),
                offset: FileOffset(raw.offset.get()),
                stored_bytes: raw.stored_bytes.get(),
                checksum: raw.checksum.get(),
            })
    }
}

/// Checksums of the pages: one for each run of `run_bytes`, the last run may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSums<'a> {
    /// Where the first page starts in the dump.
    pub offset: FileOffset,
    /// Bytes of all pages.
    pub len_bytes: u64,
    /// Bytes that a checksum covers.
    pub run_bytes: u64,
    sums: &'a [[u8; 8]],
}

impl<'a> PageSums<'a> {
    /// What precedes the checksums.
    #[must_use]
    pub fn encode_head(
        offset: FileOffset,
        len_bytes: u64,
        run_bytes: u64,
        sums: u64,
    ) -> [u8; PAGES_HEAD_LEN] {
        zerocopy::transmute!([
            U64::new(offset.0),
            U64::new(len_bytes),
            U64::new(run_bytes),
            U64::new(sums),
        ])
    }

    /// Decodes a [`Pages`](super::RecordKind::Pages) payload.
    ///
    /// # Errors
    /// Returns an error if the number of checksums is not that of the runs.
    pub fn parse(payload: &'a [u8]) -> Result<Self, ExtensionError> {
        let malformed = ExtensionError::Malformed("pages");
        let (head, sums) = payload
            .split_first_chunk::<PAGES_HEAD_LEN>()
            .ok_or(malformed)?;
        let field = |offset| Endian::Little.u64_at(head, offset).ok_or(malformed);
        let (sums, _) = sums.as_chunks::<8>();
        let (offset, len_bytes, run_bytes) = (FileOffset(field(0)?), field(8)?, field(16)?);
        let runs = (run_bytes > 0).then(|| len_bytes.div_ceil(run_bytes));
        if runs != Some(sums.len() as u64) || field(24)? != sums.len() as u64 {
            return Err(malformed);
        }
        Ok(Self {
            offset,
            len_bytes,
            run_bytes,
            sums,
        })
    }

    /// Each run: where it starts, its bytes, its checksum.
    pub fn runs(&self) -> impl Iterator<Item = (FileOffset, u64, u64)> + use<'a> {
        let (offset, len_bytes, run_bytes) = (self.offset, self.len_bytes, self.run_bytes);
        (0u64..).zip(self.sums).map_while(move |(index, sum)| {
            let start = index.checked_mul(run_bytes)?;
            let len = run_bytes.min(len_bytes.checked_sub(start)?);
            Some((offset.checked_add(start)?, len, u64::from_le_bytes(*sum)))
        })
    }
}

/// The registers of one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu<'a> {
    /// Its number in the kernel.
    pub cpu: u32,
    /// What became of it.
    pub state: CpuState,
    /// The thread that ran on it; 0 if it is not known.
    pub thread: u64,
    values: &'a [[u8; 8]],
}

impl<'a> Cpu<'a> {
    /// What precedes the CPUs: the architecture ([`crate::registers::layout_number`]), the
    /// number of CPUs, and the registers of each.
    #[must_use]
    pub fn encode_head(layout: u32, cpus: u32, registers: u32) -> [u8; CPUS_HEAD_LEN] {
        zerocopy::transmute!([
            U32::new(layout),
            U32::new(cpus),
            U32::new(registers),
            U32::new(0)
        ])
    }

    /// What precedes a CPU's registers.
    #[must_use]
    pub fn encode_cpu(cpu: u32, state: CpuState, thread: u64) -> [u8; CPU_HEAD_LEN] {
        let [a, b] = [U32::new(cpu), U32::new(state.number())];
        let [c, d]: [U32; 2] = zerocopy::transmute!(U64::new(thread));
        zerocopy::transmute!([a, b, c, d])
    }

    /// The register layout and the CPUs of a [`Cpus`](super::RecordKind::Cpus) payload.
    ///
    /// # Errors
    /// Returns an error if the head is cut.
    pub fn parse_all(
        payload: &'a [u8],
    ) -> Result<(u32, impl Iterator<Item = Self> + use<'a>), ExtensionError> {
        let malformed = ExtensionError::Malformed("cpus");
        let (head, cpus) = payload
            .split_first_chunk::<CPUS_HEAD_LEN>()
            .ok_or(malformed)?;
        let field = |offset| Endian::Little.u32_at(head, offset).ok_or(malformed);
        let registers = usize::try_from(field(8)?).map_err(|_| malformed)?;
        let stride = registers
            .checked_mul(8)
            .and_then(|len| len.checked_add(CPU_HEAD_LEN));
        let count = usize::try_from(field(4)?).map_err(|_| malformed)?;
        let cpus = cpus.chunks_exact(stride.ok_or(malformed)?).take(count);
        let parsed = cpus.filter_map(|raw| {
            Some(Self {
                cpu: Endian::Little.u32_at(raw, 0)?,
                state: CpuState::from_number(Endian::Little.u32_at(raw, 4)?),
                thread: Endian::Little.u64_at(raw, 8)?,
                values: raw.get(CPU_HEAD_LEN..)?.as_chunks().0,
            })
        });
        Ok((field(0)?, parsed))
    }

    /// Its registers, in the order of [`crate::registers::names`]; none if it did not stop.
    pub fn registers(&self) -> impl Iterator<Item = u64> + use<'a> {
        let known = if self.state == CpuState::Running {
            &[]
        } else {
            self.values
        };
        known.iter().map(|value| u64::from_le_bytes(*value))
    }
}

/// Something that the writer could not read, or found damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What was wrong.
    pub kind: DamageKind,
    /// Level of the page table, counted from the bottom; 0 for pages.
    pub level: u32,
    /// The virtual address whose mapping it is; 0 where there is none.
    pub va: VirtAddr,
    /// The page-table page, or the first page.
    pub pa: PhysAddr,
    /// How many in a row: pages for pages, else 1.
    pub count: u64,
}

impl Damage {
    /// What precedes the entries: how often there was damage, and how many entries tell of
    /// it, which are fewer if there was no room for more.
    #[must_use]
    pub fn encode_head(found: u64, entries: u64) -> [u8; DAMAGE_HEAD_LEN] {
        zerocopy::transmute!([U64::new(found), U64::new(entries)])
    }

    /// The entry's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; DAMAGE_ENTRY_LEN] {
        let raw = RawDamage {
            kind: U32::new(self.kind.number()),
            level: U32::new(self.level),
            va: U64::new(self.va.0),
            pa: U64::new(self.pa.0),
            count: U64::new(self.count),
        };
        zerocopy::transmute!(raw)
    }

    /// How often there was damage, and the entries of a [`Damage`](super::RecordKind::Damage) payload.
    ///
    /// # Errors
    /// Returns an error if the head is cut.
    pub fn parse_all(
        payload: &[u8],
    ) -> Result<(u64, impl Iterator<Item = Self> + '_), ExtensionError> {
        let malformed = ExtensionError::Malformed("damage");
        let (head, entries) = payload
            .split_first_chunk::<DAMAGE_HEAD_LEN>()
            .ok_or(malformed)?;
        let field = |offset| Endian::Little.u64_at(head, offset).ok_or(malformed);
        let count = usize::try_from(field(8)?).map_err(|_| malformed)?;
        let entries = entries.as_chunks::<DAMAGE_ENTRY_LEN>().0.iter().take(count);
        let parsed = entries
            .filter_map(|entry| RawDamage::ref_from_bytes(entry).ok())
            .map(|raw| Self {
                kind: DamageKind::from_number(raw.kind.get()),
                level: raw.level.get(),
                va: VirtAddr(raw.va.get()),
                pa: PhysAddr(raw.pa.get()),
                count: raw.count.get(),
            });
        Ok((field(0)?, parsed))
    }
}
