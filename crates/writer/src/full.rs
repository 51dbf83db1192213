//! Full dumps: an ELF core of all RAM, as `sys/kern/kern_dump.c` writes them, but without its limit of
//! ten ranges.

use crate::arch::KernelPaging;
use crate::damage::DamageList;
use crate::emit;
use crate::error::{DumpError, PlanError};
use crate::latch::Stage;
use crate::machine::Machine;
use crate::map::DumpMap;
use crate::plan::{Described, ExtensionPlan};
use crate::sink::Sink;
use crate::stream::Stream;
use vmcore_format::addr::FileOffset;
use vmcore_format::dump_avail::NumberedRange;
use vmcore_format::elf::{ET_CORE, FileHeader, PF_R, PN_XNUM, PT_DUMP_DELTA, PT_LOAD, Segment};
use vmcore_format::endian::Width;
use vmcore_format::identity::{IDENTITY_LEN, IDENTITY_OFFSET};

/// The number of the headers among the sections of the extension.
const SECTION_HEADERS: u32 = 1;

/// A full dump's sizes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FullPlan {
    header: FileHeader,
    pub(crate) extension: ExtensionPlan,
}

/// Pages of a range. Where two ranges meet inside a page, it belongs to the first.
fn pages_of<'r>(map: &DumpMap<'r>) -> impl Iterator<Item = NumberedRange> + use<'r> {
    let mut end = 0;
    map.numbering().ranges().iter().map(move |range| {
        let mut own = *range;
        own.first.0 = own.first.0.max(end).min(own.end.0);
        end = own.end.0;
        own
    })
}

/// Plans a full dump.
#[inline(never)]
pub(crate) fn plan<M: Machine>(
    machine: &M,
    map: &DumpMap<'_>,
    sums: usize,
    described: Option<Described>,
) -> Result<FullPlan, PlanError> {
    let arch = <M::Paging as KernelPaging>::ARCH;
    let page_size = M::Paging::PAGE_SIZE;
    if !<M::Paging as KernelPaging>::HAS_FULL_DUMPS {
        return Err(PlanError::Full("the tables of this architecture are"));
    }
    let auxiliary = usize::from(machine.kernel().image.is_some());
    let count = map.ranges().len().saturating_add(auxiliary);
    let e_phnum = u16::try_from(count).ok().filter(|count| *count < PN_XNUM);
    let (e_phoff, e_phentsize) = match arch.word() {
        Width::W32 => (52, 32),
        Width::W64 => (64, 56),
    };
    let header = FileHeader {
        class: arch.word(),
        endian: <M::Paging as KernelPaging>::ENDIAN,
        e_type: ET_CORE,
        e_machine: arch.elf_machine(),
        e_phoff,
        e_phentsize,
        e_phnum: e_phnum.ok_or(PlanError::TooLarge("list of RAM ranges"))?,
        e_shoff: 0,
    };
    let headers = e_phoff + u64::from(e_phentsize) * u64::from(header.e_phnum);
    let too_large = PlanError::TooLarge("RAM");
    let first = FileOffset(page_size.round_up(headers).ok_or(too_large)?);
    let pages = pages_of(map).fold(0u64, |sum, range| sum.saturating_add(range.len_pages()));
    let len_bytes = pages.checked_mul(page_size.bytes()).ok_or(too_large)?;
    let extension = ExtensionPlan::new(machine, first, len_bytes, 1, sums, described)?;
    let plan = FullPlan { header, extension };
    // Every segment must be expressible, before the first byte is written.
    let mut scratch = [0; 56];
    for segment in segments(machine, map, &plan) {
        segment
            .encode(header.class, header.endian, &mut scratch)
            .ok_or(PlanError::Full("RAM is above 4 GiB"))?;
    }
    Ok(plan)
}

/// The program headers: the RAM ranges, and where the kernel was loaded.
fn segments<'r, M: Machine>(
    machine: &M,
    map: &DumpMap<'r>,
    plan: &FullPlan,
) -> impl Iterator<Item = Segment> + use<'r, M> {
    let page_size = M::Paging::PAGE_SIZE;
    let mut offset = plan.extension.pages.0;
    let ranges = pages_of(map).map(move |range| {
        let start = page_size.base(range.first).0;
        let len = range.len_pages() << page_size.shift();
        let segment = Segment {
            p_type: PT_LOAD,
            p_flags: PF_R,
            p_offset: offset,
            p_vaddr: start,
            p_paddr: start,
            p_filesz: len,
            p_memsz: len,
            p_align: page_size.bytes(),
        };
        offset += len;
        segment
    });
    let image = machine.kernel().image.map(|image| Segment {
        p_type: PT_DUMP_DELTA,
        p_flags: PF_R,
        p_vaddr: image.vaddr.0,
        p_paddr: image.paddr.0,
        p_align: image.hole,
        ..Segment::default()
    });
    ranges.chain(image)
}

/// Puts in a full dump up to its last page. The caller has planned it and begun the sink.
#[inline(never)]
pub(crate) fn emit<'w, M: Machine, S: Sink>(
    stream: &mut Stream<'w, M, S>,
    map: &DumpMap<'_>,
    plan: &FullPlan,
    identity: &[u8; IDENTITY_LEN],
    sums: &'w mut [u64],
    damage: &mut DamageList,
) -> Result<(), DumpError> {
    let FileHeader { class, endian, .. } = plan.header;
    let unplanned = || PlanError::Full("RAM is above 4 GiB");
    stream.start(Stage::Header);
    let mut raw = [0; FileHeader::MAX_LEN];
    let len = plan
        .header
        .encode_full_dump(&mut raw)
        .ok_or_else(unplanned)?;
    stream.put(raw.get(..len).unwrap_or_default())?;
    for segment in segments(stream.machine, map, plan) {
        let len = segment
            .encode(class, endian, &mut raw)
            .ok_or_else(unplanned)?;
        stream.put(raw.get(..len).unwrap_or_default())?;
    }
    // With many ranges its place is taken; the extension has it all the same.
    if stream.position() <= IDENTITY_OFFSET {
        stream.put_zeros_to(IDENTITY_OFFSET)?;
        stream.put(identity)?;
    }
    stream.put_zeros_to(plan.extension.pages.0)?;
    stream.end_section(SECTION_HEADERS, plan.extension.pages.0)?;
    stream.start(Stage::Pages);
    stream.sum_runs(sums, plan.extension.run_bytes);
    for range in pages_of(map) {
        emit::run(stream, range.first, range.len_pages(), damage)?;
    }
    stream.expect(plan.extension.offset.0)
}
