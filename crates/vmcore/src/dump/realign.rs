//! Dumps whose writer lost pages on the way.
//!
//! When a running system is dumped, a page may be freed between the moment when the bitmap is
//! written and the moment when the pages are. FreeBSD's kernel then leaves it out, and every later
//! page lies one page lower than the bitmap says. Such a file is whole, as its container vouches, but
//! too short by a few pages. Where they are missing the page tables tell: the page-table pages that
//! the page-table section names are known by their look, and each says by how much it is shifted.

use super::warning::Warning;
use crate::container::{DeviceHeader, Layer};
use crate::memory::{LostPage, Memory, SparseMemory, Store};
use crate::translation::with_paging;
use crate::windows::tables_in_section;
use vmcore_format::addr::{FileOffset, PhysAddr};
use vmcore_format::header::Header;
use vmcore_format::layout::Section;
use vmcore_format::paging::{Entry, Paging};

/// The most pages that are looked for.
const LOST_MAX: u64 = 64;
/// The most page-table pages that are looked at, spread over the dump.
const WITNESSES: usize = 4096;

/// A page-table page: its number among the pages, its address, and by how many pages it is shifted.
struct Witness {
    rank: u64,
    pa: PhysAddr,
    shift: u64,
}

/// Takes pages out of the bitmap that the writer lost, if the file is too short and its container
/// says that it is whole.
pub(super) fn realign(
    memory: Memory,
    header: &Header,
    layers: &[Layer],
    device: Option<&DeviceHeader>,
    warnings: &mut Vec<Warning>,
) -> Memory {
    let Some((lost, places)) = find(&memory, header, layers, device) else {
        return memory;
    };
    let Memory {
        source,
        store,
        page_size,
        endian,
    } = memory;
    let Store::Sparse(sparse) = store else {
        return Memory {
            source,
            store,
            page_size,
            endian,
        };
    };
    warnings.push(Warning::PagesLost {
        pages: lost,
        places: places.as_ref().map(|places| places.named),
    });
    let sparse = sparse.without(places.map_or_else(Vec::new, |places| places.lost));
    Memory {
        source,
        store: Store::Sparse(sparse),
        page_size,
        endian,
    }
}

/// Where pages are missing.
struct Places {
    lost: Vec<LostPage>,
    /// The addresses between which the first is missing.
    named: (PhysAddr, PhysAddr),
}

/// How many pages are missing, and where if known; `None` if none are.
fn find(
    memory: &Memory,
    header: &Header,
    layers: &[Layer],
    device: Option<&DeviceHeader>,
) -> Option<(u64, Option<Places>)> {
    let source = &memory.source;
    let sparse = memory.sparse()?;
    let is_packed = |layer: &Layer| matches!(layer, Layer::Zstd | Layer::Gzip);
    let is_packed = layers.iter().any(is_packed);
    if !is_packed && device.is_none() {
        // Nobody vouches for the length of a plain file.
        return None;
    }
    let end = sparse.layout().end(sparse.set_bits(source).ok()?)?.0;
    if source.reaches(end) {
        return None;
    }
    let len = source.len();
    let vouched = is_packed || device.is_some_and(|device| device.dumplength == len);
    let missing = end - len;
    let page = memory.page_size().bytes();
    let lost = missing / page;
    let is_whole = vouched && source.damage().is_none() && missing.is_multiple_of(page);
    if !is_whole || lost > LOST_MAX {
        return None;
    }
    let witnesses = match tables_in_section(header, memory) {
        Some((mode, level)) => {
            with_paging!(mode, P => witnesses::<P>(memory, sparse, level, lost))
        }
        None => Vec::new(),
    };
    if !witnesses.is_empty() && witnesses.iter().all(|witness| witness.shift == 0) {
        // It was cut before it was compressed.
        return None;
    }
    Some((lost, places(memory, &witnesses, lost)))
}

/// Where `lost` pages are missing, by the page-table pages.
fn places(memory: &Memory, witnesses: &[Witness], lost: u64) -> Option<Places> {
    let sparse = memory.sparse()?;
    let mut ranks = Vec::new();
    for number in 1..=lost {
        let first = first_of(witnesses, number)?;
        let after = witnesses.get(first)?;
        let before = first.checked_sub(1).and_then(|last| witnesses.get(last));
        let from = before.map_or(PhysAddr(0), |before| before.pa);
        // The page before the first that is shifted is as good a guess as any between the two.
        ranks.push((after.rank.checked_sub(1)?, from, after.pa));
    }
    ranks.sort_unstable();
    let named = ranks.first().map(|(_, from, to)| (*from, *to))?;
    let mut lost = Vec::new();
    let mut end = u64::MAX;
    for (rank, from, to) in ranks.into_iter().rev() {
        // Two pages may be missing between the same two witnesses.
        end = rank.min(end.checked_sub(1)?);
        let bit = sparse.bit_of_rank(&memory.source, end)?;
        lost.push(LostPage { bit, from, to });
    }
    lost.reverse();
    Some(Places { lost, named })
}

/// The witness from which on pages are shifted by `number` or more: where the fewest say otherwise.
fn first_of(witnesses: &[Witness], number: u64) -> Option<usize> {
    let is_shifted = |witness: &Witness| witness.shift >= number;
    let mut wrong = witnesses
        .iter()
        .filter(|witness| !is_shifted(witness))
        .count();
    let mut best = None;
    // All from the first on would be shifted; then one less at a time.
    for (index, witness) in witnesses.iter().enumerate() {
        if is_shifted(witness) && best.is_none_or(|(least, _)| wrong < least) {
            best = Some((wrong, index));
        }
        match is_shifted(witness) {
            true => wrong += 1,
            false => wrong -= 1,
        }
    }
    best.map(|(_, index)| index)
}

/// What the page-table pages say that the section's entries, of `level`, name: in the order of the file.
fn witnesses<P: Paging>(
    memory: &Memory,
    sparse: &SparseMemory,
    level: u32,
    lost: u64,
) -> Vec<Witness> {
    let source = &memory.source;
    let extent = sparse.layout().section(Section::PageTables);
    let mut tables = Vec::new();
    let mut part = vec![0; 1 << 16];
    let mut at = extent.offset.0;
    let end = at + extent.len_bytes;
    while at < end {
        let want = usize::try_from(end - at)
            .unwrap_or(part.len())
            .min(part.len());
        let part = part.get_mut(..want).unwrap_or_default();
        if source.read_positional(at, part).ok() != Some(want) {
            break;
        }
        tables.extend(
            entries::<P>(memory, part).filter_map(|raw| match P::decode(level, raw) {
                Entry::Table(pa) => Some(pa),
                _ => None,
            }),
        );
        at += want as u64;
    }
    tables.sort_unstable();
    tables.dedup();
    let step = tables.len().div_ceil(WITNESSES).max(1);
    let page = memory.page_size();
    let tables = tables.iter().step_by(step);
    let mut found = Vec::new();
    for pa in tables {
        let Ok(offset) = sparse.page_offset(source, page.pfn(*pa)) else {
            continue;
        };
        let mut best: Option<(i64, u64)> = None;
        let mut is_clear = true;
        for shift in 0..=lost {
            let Some(at) = offset.0.checked_sub(shift << page.shift()) else {
                continue;
            };
            let score = table_score::<P>(memory, sparse, level - 1, FileOffset(at));
            match best {
                Some((most, _)) if score < most => {}
                Some((most, _)) if score == most => is_clear = false,
                _ => (best, is_clear) = (Some((score, shift)), true),
            }
        }
        if let (Some((1.., shift)), true) = (best, is_clear) {
            let rank = (offset.0 - sparse.offset_of_rank(0).0) >> page.shift();
            found.push(Witness {
                rank,
                pa: *pa,
                shift,
            });
        }
    }
    found
}

/// The entries of a table.
fn entries<P: Paging>(memory: &Memory, table: &[u8]) -> impl Iterator<Item = u64> {
    (0..).map_while(move |index| P::ENTRY.item(memory.endian, table, index))
}

/// How much the page at `at` looks like a table of `level`: entries that name RAM count for it, whatever
/// else is not zero counts against it.
fn table_score<P: Paging>(
    memory: &Memory,
    sparse: &SparseMemory,
    level: u32,
    at: FileOffset,
) -> i64 {
    let mut bytes = [0; 4096];
    if memory.source.read_positional(at.0, &mut bytes).ok() != Some(bytes.len()) {
        return -1;
    }
    entries::<P>(memory, &bytes)
        .filter(|raw| *raw != 0)
        .map(|raw| {
            let named = match P::decode(level, raw) {
                Entry::Absent => None,
                Entry::Table(pa) => Some(pa),
                Entry::Leaf(leaf) => Some(leaf.pa),
            };
            let is_ram = |pa| {
                sparse
                    .numbering()
                    .bit_of(memory.page_size().pfn(pa))
                    .is_some()
            };
            match named.is_some_and(is_ram) {
                true => 1,
                false => -4,
            }
        })
        .sum()
}
