//! The plan: every size of the dump, before its first byte is written.

use crate::arch::{KernelPaging, MinidumpFormat};
use crate::damage;
use crate::error::PlanError;
use crate::machine::{Kernel, MAX_ENTRIES, Machine};
use crate::map::DumpMap;
use vmcore_format::addr::{FileOffset, PageSize};
use vmcore_format::extension::kernel::{
    ADDRESS_SPACE_LEN, MODULE_LEN, PROCESS_LEN, SYSTEM_LEN, TABLE_HEAD_LEN, THREAD_LEN,
};
use vmcore_format::extension::{
    CPU_HEAD_LEN, CPUS_HEAD_LEN, DAMAGE_ENTRY_LEN, DAMAGE_HEAD_LEN, LOCATOR_LEN, PAGES_HEAD_LEN,
    RecordHeader, RecordKind, SECTION_ENTRY_LEN,
};
use vmcore_format::header::{Header, has_dump_avail};
use vmcore_format::identity::IDENTITY_LEN;
use vmcore_format::layout::{Layout, Section};
use vmcore_format::paging::Paging;
use vmcore_format::registers;

/// A minidump's sizes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MiniPlan {
    pub(crate) header: Header,
    pub(crate) layout: Layout,
    /// Level of the entries in the page-table section.
    pub(crate) section_level: u32,
    /// Bytes of the kernel map that a table of the page-table section covers; `None` if the section is
    /// the root.
    pub(crate) slot_bytes: Option<u64>,
    /// Pages of the page-table section.
    pub(crate) section_pages: u64,
    pub(crate) extension: ExtensionPlan,
}

/// The extension's sizes, and those of the pages that it sums.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExtensionPlan {
    /// Where the pages start in the dump.
    pub(crate) pages: FileOffset,
    /// Where they end, and the extension starts.
    pub(crate) offset: FileOffset,
    /// Bytes that each checksum covers.
    pub(crate) run_bytes: u64,
    /// Checksums.
    pub(crate) runs: u64,
    /// Sections before the pages.
    pub(crate) sections: u64,
    /// CPUs.
    pub(crate) cpus: u32,
    /// Registers of each.
    pub(crate) registers: u32,
    /// What a self-describing dump tells of.
    pub(crate) described: Option<Described>,
    /// Bytes of the records.
    pub(crate) records_bytes: u64,
    /// Where the dump ends: the records and the locator, rounded up to pages.
    pub(crate) end: FileOffset,
}

/// What the records of a self-describing dump tell of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Described {
    /// Every page table is a page of the dump.
    pub(crate) tables_are_pages: bool,
    /// Processes, threads and modules.
    pub(crate) processes: u32,
    pub(crate) threads: u32,
    pub(crate) modules: u32,
}

impl Described {
    /// Counts what there is.
    pub(crate) fn count<M: Machine>(machine: &M, tables_are_pages: bool) -> Self {
        fn all<T>(next: impl Fn(&mut u64) -> Option<T>) -> u32 {
            let mut cursor = 0;
            let mut count = 0;
            while count < MAX_ENTRIES && next(&mut cursor).is_some() {
                count += 1;
            }
            count
        }
        Self {
            tables_are_pages,
            processes: all(|cursor| machine.process(cursor)),
            threads: all(|cursor| machine.thread(cursor)),
            modules: all(|cursor| machine.module(cursor)),
        }
    }
}

/// A record of the extension, and the bytes of its payload.
pub(crate) type PlannedRecord = (RecordKind, u64);

impl ExtensionPlan {
    /// The extension of a dump with `len_bytes` of pages from `pages` on.
    pub(crate) fn new<M: Machine>(
        machine: &M,
        pages: FileOffset,
        len_bytes: u64,
        sections: u64,
        slots: usize,
        described: Option<Described>,
    ) -> Result<Self, PlanError> {
        let too_large = PlanError::TooLarge("dump");
        let page_size = M::Paging::PAGE_SIZE;
        let offset = pages.checked_add(len_bytes).ok_or(too_large)?;
        let slots = (slots as u64).max(1);
        // The smallest power of two of pages with which the checksums suffice.
        let per_run = page_size.pages(len_bytes).div_ceil(slots).max(1);
        let per_run = per_run.checked_next_power_of_two().ok_or(too_large)?;
        let run_bytes = per_run.checked_mul(page_size.bytes()).ok_or(too_large)?;
        let names = registers::names(<M::Paging as KernelPaging>::ARCH);
        let mut plan = Self {
            pages,
            offset,
            run_bytes,
            runs: len_bytes.div_ceil(run_bytes.max(1)),
            sections,
            cpus: machine.cpus(),
            registers: u32::try_from(names.len()).map_err(|_| too_large)?,
            described,
            records_bytes: 0,
            end: offset,
        };
        let mut records_bytes = 0u64;
        for (kind, len_bytes) in plan.records().into_iter().flatten() {
            let record = RecordHeader::new(kind, len_bytes).record_bytes();
            records_bytes = record
                .and_then(|len| records_bytes.checked_add(len))
                .ok_or(too_large)?;
        }
        plan.records_bytes = records_bytes;
        let len = records_bytes.checked_add(LOCATOR_LEN as u64);
        let len = len
            .and_then(|len| page_size.round_up(len))
            .ok_or(too_large)?;
        plan.end = offset.checked_add(len).ok_or(too_large)?;
        Ok(plan)
    }

    /// The records, in their order.
    pub(crate) fn records(&self) -> [Option<PlannedRecord>; 10] {
        let entries = |head: usize, count: u64, len: u64| {
            (head as u64).saturating_add(count.saturating_mul(len))
        };
        let registers = u64::from(self.registers) * 8;
        let always = |kind, len_bytes| Some((kind, len_bytes));
        let table = |kind, count: fn(&Described) -> u32, len: u64| {
            let count = self.described.as_ref().map_or(0, count);
            (count > 0).then_some((kind, entries(TABLE_HEAD_LEN, count.into(), len)))
        };
        let fixed = |kind, len: usize| self.described.map(|_| (kind, len as u64));
        let sections = entries(0, self.sections, SECTION_ENTRY_LEN as u64);
        let sums = entries(PAGES_HEAD_LEN, self.runs, 8);
        let cpus = entries(
            CPUS_HEAD_LEN,
            self.cpus.into(),
            CPU_HEAD_LEN as u64 + registers,
        );
        let damage = DAMAGE_HEAD_LEN + damage::CAPACITY * DAMAGE_ENTRY_LEN;
        let thread = THREAD_LEN as u64 + registers;
        [
            always(RecordKind::Identity, IDENTITY_LEN as u64),
            always(RecordKind::Sections, sections),
            always(RecordKind::Pages, sums),
            always(RecordKind::Cpus, cpus),
            always(RecordKind::Damage, damage as u64),
            fixed(RecordKind::AddressSpace, ADDRESS_SPACE_LEN),
            fixed(RecordKind::System, SYSTEM_LEN),
            table(
                RecordKind::Processes,
                |all| all.processes,
                PROCESS_LEN as u64,
            ),
            table(RecordKind::Threads, |all| all.threads, thread),
            table(RecordKind::Modules, |all| all.modules, MODULE_LEN as u64),
        ]
    }

    /// Bytes of all pages.
    pub(crate) const fn len_bytes(&self) -> u64 {
        self.offset.0.saturating_sub(self.pages.0)
    }
}

/// The format that the settings ask for.
pub(crate) fn format<P: KernelPaging>(version: Option<u32>) -> Result<MinidumpFormat, PlanError> {
    let wanted = |format: &&MinidumpFormat| version.is_none_or(|version| version == format.version);
    P::FORMATS
        .iter()
        .find(wanted)
        .copied()
        .ok_or(PlanError::Version(version.unwrap_or(0)))
}

/// Plans a minidump with `set_bits` pages.
#[inline(never)]
pub(crate) fn minidump<M: Machine>(
    machine: &M,
    map: &DumpMap<'_>,
    format: MinidumpFormat,
    set_bits: u64,
    sums: usize,
    described: Option<Described>,
) -> Result<MiniPlan, PlanError> {
    let arch = <M::Paging as KernelPaging>::ARCH;
    let page_size = M::Paging::PAGE_SIZE;
    let kernel = machine.kernel();
    let dump_avail = has_dump_avail(arch, format.version);
    let is_root = format.section_level >= kernel.radix.level;
    let slot_bytes = (!is_root).then(|| 1u64 << M::Paging::shift(format.section_level + 1));
    let section_pages = section_pages::<M::Paging>(&kernel, slot_bytes)?;
    let section_bytes = section_pages
        .checked_mul(page_size.bytes())
        .ok_or(PlanError::TooLarge("kernel map"))?;
    let dumpavailsize = dump_avail
        .then(|| dump_avail_bytes(map, page_size))
        .transpose()?;
    let header = Header {
        arch,
        version: format.version,
        endian: <M::Paging as KernelPaging>::ENDIAN,
        page_size,
        msgbufsize: machine.message_buffer().len_bytes,
        bitmapsize: bitmap_bytes(map, page_size, dump_avail)?,
        pmapsize: u32::try_from(section_bytes)
            .map_err(|_| PlanError::SpanTooLarge { section_bytes })?,
        dumpavailsize,
        kernbase: kernel.kernbase,
        direct_map: kernel.direct_map,
        mmu: machine.mmu(),
    };
    let layout = Layout::of(&header);
    let pages = layout.section(Section::Pages).offset;
    let end = layout.end(set_bits).ok_or(PlanError::TooLarge("dump"))?;
    let sections = if dump_avail { 5 } else { 4 };
    let extension = ExtensionPlan::new(
        machine,
        pages,
        end.0.saturating_sub(pages.0),
        sections,
        sums,
        described,
    )?;
    let section_level = format.section_level;
    Ok(MiniPlan {
        header,
        layout,
        section_level,
        slot_bytes,
        section_pages,
        extension,
    })
}

/// Pages of the page-table section: of the root, or of the tables of all slots.
fn section_pages<P: KernelPaging>(
    kernel: &Kernel,
    slot_bytes: Option<u64>,
) -> Result<u64, PlanError> {
    let Some(slot_bytes) = slot_bytes else {
        let bytes = kernel.radix.entries.checked_mul(P::ENTRY.bytes());
        return Ok(P::PAGE_SIZE.pages(bytes.ok_or(PlanError::KernelMap)?));
    };
    let span = kernel
        .kernend
        .checked_sub(kernel.kernbase)
        .ok_or(PlanError::KernelMap)?;
    if kernel.kernbase.0 & (slot_bytes - 1) != 0 {
        return Err(PlanError::KernelMap);
    }
    // Tables that are smaller than a page share one.
    let table_bytes = P::ENTRY.bytes() << P::INDEX_BITS;
    let per_page = (P::PAGE_SIZE.bytes() / table_bytes.max(1)).max(1);
    Ok(span.div_ceil(slot_bytes.max(1)).div_ceil(per_page))
}

/// Bytes of `dump_avail`: a pair for each range and one of zeros.
fn dump_avail_bytes(map: &DumpMap<'_>, page_size: PageSize) -> Result<u32, PlanError> {
    let pairs = (map.ranges().len() as u64).saturating_add(1);
    let bytes = pairs
        .checked_mul(16)
        .and_then(|bytes| page_size.round_up(bytes));
    bytes
        .and_then(|bytes| u32::try_from(bytes).ok())
        .ok_or(PlanError::TooLarge("list of RAM ranges"))
}

/// Bytes of the bitmap: over the ranges, or from physical page 0.
fn bitmap_bytes(map: &DumpMap<'_>, page_size: PageSize, ranges: bool) -> Result<u32, PlanError> {
    let numbering = map.numbering();
    let bits = if ranges {
        numbering.total_pages()
    } else {
        numbering.ranges().last().map_or(0, |range| range.end.0)
    };
    let bytes = bits
        .div_ceil(64)
        .checked_mul(8)
        .and_then(|bytes| page_size.round_up(bytes));
    bytes
        .and_then(|bytes| u32::try_from(bytes).ok())
        .ok_or(PlanError::TooLarge("bitmap"))
}
