//! The functions of a unit, and those that were inlined into them.

use super::MAX_INLINED;
use crate::dwarf::{Debug, Entry, ReadError, Slice};
use gimli::{AttributeValue, Unit, UnitOffset};

/// Bytes of a range in memory, twice because the list grows by doubling.
const RANGE_BYTES: u64 = 64;
/// References that are followed for a name.
const MAX_ORIGINS: usize = 16;
/// Ranges of functions that may overlap at one address.
const MAX_OVERLAP: usize = 16;

/// A range of addresses of a function.
#[derive(Clone, Copy, Debug)]
struct FunctionRange {
    begin: u64,
    end: u64,
    entry: UnitOffset,
}

/// The functions of a unit.
#[derive(Debug, Default)]
pub(super) struct Functions {
    /// By ascending start.
    ranges: Vec<FunctionRange>,
}

/// A function at an address, with the place in the next outer one that it was inlined at.
#[derive(Debug)]
pub(super) struct FoundFunction {
    pub(super) name: Option<String>,
    /// File and line of the call; nothing for the outermost function.
    pub(super) call: (Option<u64>, Option<u32>),
}

impl Functions {
    pub(super) fn of<'a>(debug: &Debug<'a>, unit: &Unit<Slice<'a>>) -> Result<Self, ReadError> {
        let mut functions = Self::default();
        let end = functions.read(debug, unit);
        functions.ranges.sort_by_key(|range| range.begin);
        match end {
            // What a damaged unit has before the damage counts.
            Err(ReadError::Damaged(_)) | Ok(()) => Ok(functions),
            Err(spent) => Err(spent),
        }
    }

    fn read<'a>(&mut self, debug: &Debug<'a>, unit: &Unit<Slice<'a>>) -> Result<(), ReadError> {
        let mut walk = debug.walk(unit, None)?;
        let mut entry = Entry::default();
        while let Some(head) = walk.next()? {
            if head.tag() != gimli::DW_TAG_subprogram {
                walk.skip(&head)?;
                continue;
            }
            walk.read(&head, &mut entry)?;
            debug.ranges(unit, &entry, |range| {
                debug.budget().memory(RANGE_BYTES)?;
                self.ranges.push(FunctionRange {
                    begin: range.begin,
                    end: range.end,
                    entry: head.offset,
                });
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The entry of the function at an address.
    pub(super) fn entry_at(&self, address: u64) -> Option<UnitOffset> {
        let after = self.ranges.partition_point(|range| range.begin <= address);
        let before = self.ranges.get(..after).unwrap_or_default();
        let mut candidates = before.iter().rev().take(MAX_OVERLAP);
        let function = candidates.find(|range| address < range.end)?;
        Some(function.entry)
    }

    /// The functions at an address, the innermost inlined one first; none if no function is there.
    pub(super) fn at<'a>(
        &self,
        debug: &Debug<'a>,
        unit: &Unit<Slice<'a>>,
        address: u64,
    ) -> Result<Vec<FoundFunction>, ReadError> {
        let Some(function) = self.entry_at(address) else {
            return Ok(Vec::new());
        };
        let mut walk = debug.walk(unit, Some(function))?;
        let mut entry = Entry::default();
        let mut found = Vec::new();
        if let Some(head) = walk.next()? {
            walk.read(&head, &mut entry)?;
            found.push(FoundFunction {
                name: name(debug, unit, &entry),
                call: (None, None),
            });
        }
        // The depth of the function that the address was found in last.
        let mut inside = 0;
        while let Some(head) = walk.next()?
            && head.depth > inside
            && found.len() < MAX_INLINED
        {
            let inlined = head.tag() == gimli::DW_TAG_inlined_subroutine;
            if !inlined && head.tag() != gimli::DW_TAG_subprogram {
                walk.skip(&head)?;
                continue;
            }
            walk.read(&head, &mut entry)?;
            let mut here = false;
            if inlined {
                debug.ranges(unit, &entry, |range| {
                    here |= (range.begin..range.end).contains(&address);
                    Ok(())
                })?;
            }
            if here {
                inside = head.depth;
                let line = entry.number(gimli::DW_AT_call_line);
                found.push(FoundFunction {
                    name: name(debug, unit, &entry),
                    call: (
                        call_file(unit, &entry),
                        line.and_then(|line| line.try_into().ok()),
                    ),
                });
            } else if head.abbreviation.has_children() {
                walk.pass(&head, &entry)?;
            }
        }
        found.reverse();
        Ok(found)
    }
}

/// The number of the file with the call; up to DWARF 4 there is no file 0.
fn call_file(unit: &Unit<Slice<'_>>, entry: &Entry<'_>) -> Option<u64> {
    match entry.value(gimli::DW_AT_call_file)? {
        AttributeValue::FileIndex(file) if file > 0 || unit.header.version() >= 5 => Some(file),
        _ => None,
    }
}

/// The name of a function, that of the linker first: it says which one of several it is.
fn name<'a>(debug: &Debug<'a>, unit: &Unit<Slice<'a>>, entry: &Entry<'a>) -> Option<String> {
    if let Some(name) = own_name(debug, unit, entry) {
        return Some(name);
    }
    let origin = |entry: &Entry<'a>| {
        let origin = entry.value(gimli::DW_AT_abstract_origin);
        origin.or_else(|| entry.value(gimli::DW_AT_specification))
    };
    let mut place = debug.referred(unit, &origin(entry)?)?;
    for _ in 0..MAX_ORIGINS {
        let (unit, inside) = debug.unit_at(place).ok()?;
        let entry = debug.entry(&unit, inside).ok()?;
        if let Some(name) = own_name(debug, &unit, &entry) {
            return Some(name);
        }
        place = debug.referred(&unit, &origin(&entry)?)?;
    }
    None
}

fn own_name<'a>(debug: &Debug<'a>, unit: &Unit<Slice<'a>>, entry: &Entry<'a>) -> Option<String> {
    let names = [
        gimli::DW_AT_linkage_name,
        gimli::DW_AT_MIPS_linkage_name,
        gimli::DW_AT_name,
    ];
    let value = names.iter().find_map(|name| entry.value(*name))?;
    let name = debug.string(unit, value)?;
    Some(super::demangled(&String::from_utf8_lossy(name)))
}
