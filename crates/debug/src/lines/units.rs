//! Which units of a file have code at an address.

use crate::budget::Spent;
use crate::dwarf::{Debug, ReadError};
use crate::lines::rows::Rows;
use gimli::{DebugInfoOffset, UnitType};
use std::collections::HashMap;

/// Bytes of a range in memory, twice because the list grows by doubling.
const RANGE_BYTES: u64 = 64;

/// A range of addresses of a unit.
#[derive(Clone, Copy, Debug)]
struct UnitRange {
    begin: u64,
    end: u64,
    unit: usize,
    /// The lowest beginning of this range and those after it.
    lowest: u64,
}

/// The ranges of all units.
#[derive(Debug, Default)]
pub(super) struct Units {
    /// By ascending end.
    ranges: Vec<UnitRange>,
}

impl Units {
    /// Reads them: as a unit gives them itself, or `.debug_aranges`, or the rows of its lines.
    pub(super) fn of(debug: &Debug<'_>) -> Self {
        let mut units = Self::default();
        let given = given(debug);
        for (position, header) in debug.headers().iter().enumerate() {
            let is_code = matches!(
                header.type_(),
                UnitType::Compilation | UnitType::Skeleton(_) | UnitType::SplitCompilation(_)
            );
            if is_code {
                let given = header.debug_info_offset().and_then(|at| given.get(&at));
                // What a damaged unit gives before the damage counts.
                let _ = units.add(debug, position, given.map_or(&[], Vec::as_slice));
            }
        }
        let ranges = &mut units.ranges;
        ranges.sort_unstable_by_key(|range| (range.end, range.unit));
        let mut lowest = u64::MAX;
        for range in ranges.iter_mut().rev() {
            lowest = lowest.min(range.begin);
            range.lowest = lowest;
        }
        units
    }

    fn add(
        &mut self,
        debug: &Debug<'_>,
        unit: usize,
        given: &[gimli::Range],
    ) -> Result<(), ReadError> {
        let (root, entry) = debug.root(unit)?;
        let listed = entry.attribute(gimli::DW_AT_ranges).is_some();
        let mut count = 0;
        let mut add = |range| {
            count += 1;
            self.push(debug, unit, range)
        };
        if !listed && !given.is_empty() {
            return Ok(given.iter().try_for_each(|range| add(*range))?);
        }
        debug.ranges(&root, &entry, &mut add)?;
        if count > 0 {
            return Ok(());
        }
        let rows = Rows::of(debug, &root, &entry)?;
        let added = rows
            .sequences()
            .try_for_each(|sequence| self.push(debug, unit, sequence));
        rows.give_back(debug.budget());
        Ok(added?)
    }

    fn push(&mut self, debug: &Debug<'_>, unit: usize, range: gimli::Range) -> Result<(), Spent> {
        debug.budget().memory(RANGE_BYTES)?;
        self.ranges.push(UnitRange {
            begin: range.begin,
            end: range.end,
            unit,
            lowest: 0,
        });
        Ok(())
    }

    /// The units with an address in one of their ranges.
    pub(super) fn at(&self, address: u64) -> impl Iterator<Item = usize> {
        let after = self.ranges.partition_point(|range| range.end <= address);
        let rest = self.ranges.get(after..).unwrap_or_default().iter();
        rest.take_while(move |range| range.lowest <= address)
            .filter(move |range| range.begin <= address)
            .map(|range| range.unit)
    }
}

/// The ranges in `.debug_aranges`, by unit.
fn given(debug: &Debug<'_>) -> HashMap<DebugInfoOffset, Vec<gimli::Range>> {
    let mut given: HashMap<_, Vec<_>> = HashMap::new();
    let mut headers = debug.sections.debug_aranges.headers();
    while let Ok(Some(header)) = headers.next() {
        let mut entries = header.entries();
        while let Some(entry) = entries.next().transpose() {
            let Ok(entry) = entry else { continue };
            let range = entry.range();
            if range.begin > 1 && range.begin < range.end {
                if debug.budget().memory(RANGE_BYTES).is_err() {
                    return given;
                }
                let unit = header.debug_info_offset();
                given.entry(unit).or_default().push(range);
            }
        }
    }
    given
}
