//! Emission of a minidump: header, message buffer, RAM ranges, bitmap, page tables, pages.

use crate::arch::KernelPaging;
use crate::bits;
use crate::damage::DamageList;
use crate::error::{DumpError, PlanError};
use crate::latch::Stage;
use crate::machine::{Kernel, Machine};
use crate::map::DumpMap;
use crate::plan::MiniPlan;
use crate::select::{MachineTables, TableFault};
use crate::sink::Sink;
use crate::stream::Stream;
use vmcore_format::addr::{PageSize, Pfn, PhysAddr, VirtAddr};
use vmcore_format::endian::Width;
use vmcore_format::extension::{DamageKind, section_number};
use vmcore_format::identity::{IDENTITY_LEN, IDENTITY_OFFSET};
use vmcore_format::layout::Section;
use vmcore_format::paging::{Covering, Entry, Paging, TableRef, WalkError, table_for};

/// Puts in a minidump up to its last page. The caller has planned it and begun the sink.
#[inline(never)]
pub(crate) fn minidump<'w, M: Machine, S: Sink>(
    stream: &mut Stream<'w, M, S>,
    map: &DumpMap<'_>,
    plan: &MiniPlan,
    identity: &[u8; IDENTITY_LEN],
    private: &[u64],
    sums: &'w mut [u64],
    damage: &mut DamageList,
) -> Result<(), DumpError> {
    let end = |section| plan.layout.section(section).end().0;
    stream.start(Stage::Header);
    header(stream, plan, identity)?;
    stream.end_section(section_number(Section::Header), end(Section::Header))?;
    stream.start(Stage::MessageBuffer);
    message_buffer(stream, map, damage)?;
    stream.end_section(
        section_number(Section::MessageBuffer),
        end(Section::MessageBuffer),
    )?;
    if plan.header.dumpavailsize.is_some() {
        stream.start(Stage::DumpAvail);
        for range in map.ranges() {
            let endian = plan.header.endian;
            stream.put(&endian.bytes64(range.start.0))?;
            stream.put(&endian.bytes64(range.end.0))?;
        }
        stream.put_zeros_to(end(Section::DumpAvail))?;
        stream.end_section(section_number(Section::DumpAvail), end(Section::DumpAvail))?;
    }
    stream.start(Stage::Bitmap);
    bitmap(stream, map, plan, private)?;
    stream.put_zeros_to(end(Section::Bitmap))?;
    stream.end_section(section_number(Section::Bitmap), end(Section::Bitmap))?;
    stream.start(Stage::PageTables);
    page_tables(stream, map, plan, damage)?;
    stream.end_section(
        section_number(Section::PageTables),
        end(Section::PageTables),
    )?;
    stream.start(Stage::Pages);
    stream.sum_runs(sums, plan.extension.run_bytes);
    pages(stream, map, private, damage)?;
    stream.expect(plan.extension.offset.0)
}

/// The header page: the header, and the identity block after it.
fn header<M: Machine, S: Sink>(
    stream: &mut Stream<'_, M, S>,
    plan: &MiniPlan,
    identity: &[u8; IDENTITY_LEN],
) -> Result<(), DumpError> {
    let page = page_bytes(M::Paging::PAGE_SIZE);
    let room = stream.room()?.get_mut(..page).unwrap_or_default();
    plan.header.encode(room).map_err(|_| PlanError::Header)?;
    let at = usize::try_from(IDENTITY_OFFSET).unwrap_or(usize::MAX);
    for (to, from) in room.iter_mut().skip(at).zip(identity) {
        *to = *from;
    }
    stream.commit(page)
}

/// The message buffer and what follows it up to the end of its last page.
fn message_buffer<M: Machine, S: Sink>(
    stream: &mut Stream<'_, M, S>,
    map: &DumpMap<'_>,
    damage: &mut DamageList,
) -> Result<(), DumpError> {
    let page_size = M::Paging::PAGE_SIZE;
    let page = page_bytes(page_size);
    let machine = stream.machine;
    let buffer = machine.message_buffer();
    let numbering = map.numbering();
    let is_ram = |pa: PhysAddr| numbering.bit_of(page_size.pfn(pa)).is_some();
    let pages = page_size.pages(u64::from(buffer.len_bytes));
    for index in 0..pages {
        let to = stream.room()?.get_mut(..page).unwrap_or_default();
        // A ring that does not start on a page boundary has a part of each stored page on two pages.
        let start = buffer.start.checked_add(index * page_size.bytes());
        let inside = start.map_or(0, |start| page_size.offset_in_page(start.0));
        let first_len = usize::try_from(page_size.bytes() - inside).unwrap_or(page);
        let (first, second) = to.split_at_mut_checked(first_len).unwrap_or_default();
        let mut copy = |from: Option<PhysAddr>, to: &mut [u8]| {
            let readable = from.is_some_and(|from| {
                to.is_empty() || (is_ram(from) && machine.copy(from, to).is_ok())
            });
            if !readable {
                to.fill(0);
                let pa = from.unwrap_or(PhysAddr(u64::MAX));
                damage.add_page(DamageKind::MessageBuffer, pa, page_size);
            }
        };
        copy(start, first);
        copy(
            start.and_then(|start| start.checked_add(first_len as u64)),
            second,
        );
        stream.commit(page)?;
    }
    Ok(())
}

/// The bitmap, over the RAM ranges or from physical page 0 on.
fn bitmap<M: Machine, S: Sink>(
    stream: &mut Stream<'_, M, S>,
    map: &DumpMap<'_>,
    plan: &MiniPlan,
    private: &[u64],
) -> Result<(), DumpError> {
    let numbering = map.numbering();
    let order = plan.header.bitmap_order();
    if plan.header.dumpavailsize.is_some() {
        let word = |index| {
            let index = usize::try_from(index).unwrap_or(usize::MAX);
            order.encode(private.get(index).copied().unwrap_or(0))
        };
        return stream.put_words(numbering.total_pages().div_ceil(64), word);
    }
    let pages = numbering.ranges().last().map_or(0, |range| range.end.0);
    let word = |index| order.encode(bits::linear_word(private, &numbering, index));
    stream.put_words(pages.div_ceil(64), word)
}

/// The page-table section: the root; or for each slot of the kernel map the table itself, entries
/// made up for a larger page, or zeros.
fn page_tables<M: Machine, S: Sink>(
    stream: &mut Stream<'_, M, S>,
    map: &DumpMap<'_>,
    plan: &MiniPlan,
    damage: &mut DamageList,
) -> Result<(), DumpError> {
    let page = page_bytes(M::Paging::PAGE_SIZE);
    let machine = stream.machine;
    let kernel = machine.kernel();
    for index in 0..plan.section_pages {
        let to = stream.room()?.get_mut(..page).unwrap_or_default();
        match plan.slot_bytes {
            Some(slot_bytes) => {
                // Most tables are a page.
                let tables = to.chunks_exact_mut(page.min(table_bytes::<M::Paging>()).max(1));
                let first = index * tables.len() as u64;
                for (slot, to) in (first..).zip(tables) {
                    // Slots are about the end of the kernel map: where the address overflows, there
                    // is nothing.
                    let va = VirtAddr(kernel.kernbase.0.saturating_add(slot * slot_bytes));
                    if let Err((pa, level, fault)) = table(machine, map, &kernel, va, plan, to) {
                        to.fill(0);
                        damage.add_table(fault.damage_kind(), level, va, pa);
                    }
                }
            }
            None => root_page(machine, map, &kernel, index, to, damage),
        }
        stream.commit(page)?;
    }
    Ok(())
}

/// Bytes of a table.
fn table_bytes<P: Paging>() -> usize {
    usize::try_from(P::ENTRY.bytes() << P::INDEX_BITS).unwrap_or(usize::MAX)
}

/// Page number `index` of the root.
fn root_page<M: Machine>(
    machine: &M,
    map: &DumpMap<'_>,
    kernel: &Kernel,
    index: u64,
    to: &mut [u8],
    damage: &mut DamageList,
) {
    let tables = MachineTables {
        machine,
        numbering: map.numbering(),
    };
    let offset = index * M::Paging::PAGE_SIZE.bytes();
    if let Err(fault) = tables.copy(kernel.radix.top, offset, to) {
        to.fill(0);
        let root = match kernel.radix.top {
            TableRef::At(pa) => pa,
            TableRef::Section => PhysAddr(0),
        };
        let pa = PhysAddr(root.0.saturating_add(offset));
        damage.add_table(fault.damage_kind(), kernel.radix.level, kernel.kernbase, pa);
    }
}

/// One table of the section. Fails with the table that could not be read, and its level.
fn table<M: Machine>(
    machine: &M,
    map: &DumpMap<'_>,
    kernel: &Kernel,
    va: VirtAddr,
    plan: &MiniPlan,
    to: &mut [u8],
) -> Result<(), (PhysAddr, u32, TableFault)> {
    let section_level = plan.section_level;
    let tables = MachineTables {
        machine,
        numbering: map.numbering(),
    };
    match table_for::<M::Paging, _>(&kernel.radix, &tables, va, section_level) {
        Ok(Covering::Table(pa)) => {
            let fault = |fault| (pa, section_level, fault);
            map.numbering()
                .bit_of(M::Paging::PAGE_SIZE.pfn(pa))
                .ok_or(fault(TableFault::NotRam))?;
            machine
                .copy(pa, to)
                .map_err(|_| fault(TableFault::Unreadable))
        }
        Ok(Covering::Leaf { level, raw }) => {
            // arm's largest pages take several entries of their level.
            let shift = match M::Paging::decode(level, raw) {
                Entry::Leaf(leaf) => leaf.size_shift.min(63),
                _ => M::Paging::shift(level),
            };
            let inside = va.0 & !(u64::MAX << shift);
            let first = inside >> M::Paging::shift(section_level);
            let entry = |k: u64| M::Paging::fabricate(level, raw, section_level, k);
            fill_entries::<M::Paging>(to, first, entry);
            Ok(())
        }
        Err(WalkError::Table {
            level,
            table: TableRef::At(pa),
            source,
        }) => Err((pa, level, source)),
        Ok(Covering::Absent) | Err(_) => {
            to.fill(0);
            Ok(())
        }
    }
}

/// Fills a table with made-up entries, the first of which is number `first` of its large page.
fn fill_entries<P: KernelPaging>(table: &mut [u8], first: u64, entry: impl Fn(u64) -> u64) {
    match P::ENTRY {
        Width::W32 => {
            for (k, to) in (first..).zip(table.as_chunks_mut::<4>().0) {
                let [a, b, c, d, ..] = entry(k).to_le_bytes();
                *to = P::ENDIAN.bytes32(u32::from_le_bytes([a, b, c, d]));
            }
        }
        Width::W64 => {
            for (k, to) in (first..).zip(table.as_chunks_mut::<8>().0) {
                *to = P::ENDIAN.bytes64(entry(k));
            }
        }
    }
}

/// The pages of the private map, in the order of their bits.
fn pages<M: Machine, S: Sink>(
    stream: &mut Stream<'_, M, S>,
    map: &DumpMap<'_>,
    private: &[u64],
    damage: &mut DamageList,
) -> Result<(), DumpError> {
    let numbering = map.numbering();
    for range in numbering.ranges() {
        let end = range.first_bit + range.len_pages();
        let mut from = range.first_bit;
        while let Some((first, count)) = bits::next_run(private, from, end) {
            let pfn = Pfn(range.first.0 + (first - range.first_bit));
            run(stream, pfn, count, damage)?;
            from = first + count;
        }
    }
    Ok(())
}

/// `count` pages in a row. A page that cannot be read is all zeros, and is recorded.
pub(crate) fn run<M: Machine, S: Sink>(
    stream: &mut Stream<'_, M, S>,
    first: Pfn,
    count: u64,
    damage: &mut DamageList,
) -> Result<(), DumpError> {
    let page_size = M::Paging::PAGE_SIZE;
    let page = page_bytes(page_size);
    let machine = stream.machine;
    let mut pfn = first;
    let mut left = count;
    while left > 0 {
        let room = stream.room()?;
        let fit = (room.len() as u64) >> page_size.shift();
        let pages = fit.min(left).max(1);
        let len = usize::try_from(pages).unwrap_or(1).saturating_mul(page);
        let to = room.get_mut(..len).unwrap_or_default();
        if machine.copy(page_size.base(pfn), to).is_err() {
            for (index, to) in (0..).zip(to.chunks_exact_mut(page.max(1))) {
                let pa = page_size.base(Pfn(pfn.0 + index));
                if machine.copy(pa, to).is_err() {
                    let good = machine.copy_beginning(pa, to);
                    to.get_mut(good..).unwrap_or_default().fill(0);
                    damage.add_page(DamageKind::PageUnreadable, pa, page_size);
                }
            }
        }
        stream.commit(len)?;
        pfn = Pfn(pfn.0 + pages);
        left -= pages;
    }
    Ok(())
}

fn page_bytes(page_size: PageSize) -> usize {
    usize::try_from(page_size.bytes()).unwrap_or(usize::MAX)
}
