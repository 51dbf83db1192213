//! Types from DWARF, versions 2 to 5.
//!
//! Units are indexed in the order of the file, and only as far as a search needs: most kernel
//! structures are complete in one of the first units. An index entry is a name, which stays in the
//! file, and the offset of its entry.

mod read;

use super::{Tag, TypeId, Variable};
use crate::object_file::ObjectFile;
use gimli::{
    Attribute, AttributeValue, DebugInfoOffset, DebuggingInformationEntry, Dwarf, EndianSlice,
    RunTimeEndian, Unit, UnitHeader, UnitOffset,
};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use vmcore_format::addr::VirtAddr;
use vmcore_format::endian::Endian;

/// Bytes of a debug section. All architectures here are little-endian.
pub(crate) type Slice<'a> = EndianSlice<'a, RunTimeEndian>;

/// Units that are kept open.
const MAX_OPEN_UNITS: usize = 4096;
/// Variables of one name that are told apart.
const MAX_SAME_NAME: usize = 64;

/// The byte order of a file, as gimli has it.
pub(crate) fn order_of(file: &ObjectFile) -> RunTimeEndian {
    match file.endian() {
        Endian::Little => RunTimeEndian::Little,
        Endian::Big => RunTimeEndian::Big,
    }
}

/// The debug information of a file, as gimli has it.
pub(crate) fn dwarf_of(file: &ObjectFile) -> Dwarf<Slice<'_>> {
    let load = |id: gimli::SectionId| -> Result<Slice<'_>, gimli::Error> {
        Ok(EndianSlice::new(file.section(id.name()), order_of(file)))
    };
    Dwarf::load(load).unwrap_or_default()
}

/// The types of one file.
#[derive(Debug)]
pub(super) struct DwarfTypes<'a> {
    /// Its number among the files.
    number: usize,
    bias: u64,
    dwarf: Dwarf<Slice<'a>>,
    /// The unit headers, by ascending offset.
    headers: OnceLock<Vec<UnitHeader<Slice<'a>>>>,
    open: Mutex<HashMap<usize, Arc<Unit<Slice<'a>>>>>,
    index: Mutex<Index<'a>>,
}

/// What has been read so far.
#[derive(Debug, Default)]
struct Index<'a> {
    /// Units that are in the index.
    done: usize,
    types: HashMap<(Tag, &'a [u8]), usize>,
    /// Definitions; and declarations, which only count where there is no definition.
    variables: HashMap<&'a [u8], Vec<(usize, bool)>>,
    enumerators: HashMap<&'a [u8], i64>,
}

impl<'a> DwarfTypes<'a> {
    pub(super) fn new(number: usize, file: &'a ObjectFile) -> Self {
        Self {
            number,
            bias: file.bias(),
            dwarf: dwarf_of(file),
            headers: OnceLock::new(),
            open: Mutex::default(),
            index: Mutex::default(),
        }
    }

    fn id(&self, offset: usize) -> TypeId {
        TypeId {
            file: self.number,
            offset,
        }
    }

    fn headers(&self) -> &[UnitHeader<Slice<'a>>] {
        self.headers.get_or_init(|| {
            let mut headers = Vec::new();
            let mut units = self.dwarf.units();
            // A damaged header ends the list: what stands before it is good.
            while let Ok(Some(header)) = units.next() {
                headers.push(header);
            }
            headers
        })
    }

    /// The unit that holds an offset of `.debug_info`, and the offset in it.
    fn unit_of(&self, offset: usize) -> Option<(Arc<Unit<Slice<'a>>>, UnitOffset)> {
        let headers = self.headers();
        let start =
            |header: &UnitHeader<Slice<'a>>| header.debug_info_offset().map_or(0, |at| at.0);
        let after = headers.partition_point(|header| start(header) <= offset);
        let position = after.checked_sub(1)?;
        let unit = self.open_unit(position)?;
        let inside = DebugInfoOffset(offset).to_unit_offset(&unit.header)?;
        Some((unit, inside))
    }

    fn open_unit(&self, position: usize) -> Option<Arc<Unit<Slice<'a>>>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(unit) = open.get(&position) {
            return Some(unit.clone());
        }
        let header = *self.headers().get(position)?;
        let unit = Arc::new(self.dwarf.unit(header).ok()?);
        if open.len() >= MAX_OPEN_UNITS {
            open.clear();
        }
        open.insert(position, unit.clone());
        Some(unit)
    }

    /// Reads on in the units until `found` has an answer.
    fn search<T>(&self, found: impl Fn(&Index<'a>) -> Option<T>) -> Option<T> {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(answer) = found(&index) {
                return Some(answer);
            }
            let header = *self.headers().get(index.done)?;
            index.done += 1;
            // What a damaged unit holds in front of the damage is in the index.
            let _ = self.index_unit(&header, &mut index);
        }
    }

    pub(super) fn find(&self, tag: Tag, name: &str) -> Option<TypeId> {
        let offset = self.search(|index| index.types.get(&(tag, name.as_bytes())).copied())?;
        Some(self.id(offset))
    }

    pub(super) fn enumerator(&self, name: &str) -> Option<i64> {
        self.search(|index| index.enumerators.get(name.as_bytes()).copied())
    }

    pub(super) fn variable(&self, name: &str, address: Option<VirtAddr>) -> Option<Variable> {
        let fits = |offset: usize| {
            let variable = self.read_variable(offset)?;
            let is_it = match (address, variable.address) {
                (Some(wanted), Some(known)) => wanted == known,
                (None, Some(_)) => true,
                _ => false,
            };
            is_it.then_some(variable)
        };
        let definition = self.search(|index| {
            let known = index.variables.get(name.as_bytes())?;
            let defined = known.iter().filter(|(_, defined)| *defined);
            defined.copied().find_map(|(offset, _)| fits(offset))
        });
        // Else any of that name: its type is still worth something.
        definition.or_else(|| {
            self.search(|index| {
                let (offset, _) = index.variables.get(name.as_bytes())?.first()?;
                self.read_variable(*offset)
            })
        })
    }

    fn index_unit(
        &self,
        header: &UnitHeader<Slice<'a>>,
        index: &mut Index<'a>,
    ) -> gimli::Result<()> {
        let unit_start = header.debug_info_offset().map_or(0, |offset| offset.0);
        let unit = self.dwarf.unit(*header)?;
        let mut raw = unit.header.entries_raw(&unit.abbreviations, None)?;
        // The deepest namespace that is open; what stands right below it has a global name.
        let mut scope = 0;
        let mut enumeration = None;
        while !raw.is_empty() {
            let depth = raw.next_depth();
            let offset = raw.next_offset();
            let Some(abbreviation) = raw.read_abbreviation()? else {
                continue;
            };
            if depth <= scope {
                scope = (depth - 1).max(0);
            }
            let attributes = abbreviation.attributes();
            let global = depth == scope + 1;
            if global {
                enumeration = None;
            }
            let wanted = match abbreviation.tag() {
                gimli::DW_TAG_namespace if global => {
                    scope = depth;
                    None
                }
                gimli::DW_TAG_structure_type | gimli::DW_TAG_class_type if global => {
                    Some(Name::Type(Tag::Struct))
                }
                gimli::DW_TAG_union_type if global => Some(Name::Type(Tag::Union)),
                gimli::DW_TAG_enumeration_type if global => {
                    enumeration = Some(depth);
                    Some(Name::Type(Tag::Enum))
                }
                gimli::DW_TAG_typedef | gimli::DW_TAG_base_type if global => {
                    Some(Name::Type(Tag::Plain))
                }
                gimli::DW_TAG_variable if global => Some(Name::Variable),
                gimli::DW_TAG_enumerator if enumeration == Some(depth - 1) => {
                    Some(Name::Enumerator)
                }
                _ => None,
            };
            let Some(wanted) = wanted else {
                raw.skip_attributes(attributes)?;
                continue;
            };
            let mut entry = Indexed::default();
            for specification in attributes {
                let attribute = raw.read_attribute(*specification)?;
                self.note(&unit, &attribute, &mut entry);
            }
            let at = unit_start.saturating_add(offset.0);
            index.add(wanted, at, &entry);
        }
        Ok(())
    }

    /// Keeps what the index needs of an attribute.
    fn note(
        &self,
        unit: &Unit<Slice<'a>>,
        attribute: &Attribute<Slice<'a>>,
        entry: &mut Indexed<'a>,
    ) {
        match attribute.name() {
            gimli::DW_AT_name => {
                entry.name = self
                    .dwarf
                    .attr_string(unit, attribute.value())
                    .ok()
                    .map(|name| name.slice());
            }
            gimli::DW_AT_declaration => {
                entry.declared = attribute.value() == AttributeValue::Flag(true);
            }
            gimli::DW_AT_location => entry.located = true,
            gimli::DW_AT_const_value => {
                entry.value = attribute
                    .sdata_value()
                    .or_else(|| attribute.udata_value().map(u64::cast_signed));
            }
            // The definition of a variable may leave its name to the declaration.
            gimli::DW_AT_specification => {
                entry.name = entry.name.or_else(|| self.name_at(unit, attribute));
            }
            _ => {}
        }
    }

    /// The name of the entry that an attribute refers to.
    fn name_at(
        &self,
        unit: &Unit<Slice<'a>>,
        attribute: &Attribute<Slice<'a>>,
    ) -> Option<&'a [u8]> {
        let AttributeValue::UnitRef(offset) = attribute.value() else {
            return None;
        };
        let entry: DebuggingInformationEntry<Slice<'a>> = unit.entry(offset).ok()?;
        let name = entry.attr_value(gimli::DW_AT_name)?;
        Some(self.dwarf.attr_string(unit, name).ok()?.slice())
    }
}

/// What a name in the index is the name of.
#[derive(Clone, Copy)]
enum Name {
    Type(Tag),
    Variable,
    Enumerator,
}

/// What the index needs of an entry.
#[derive(Default)]
struct Indexed<'a> {
    name: Option<&'a [u8]>,
    declared: bool,
    located: bool,
    value: Option<i64>,
}

impl<'a> Index<'a> {
    fn add(&mut self, what: Name, offset: usize, entry: &Indexed<'a>) {
        let Some(name) = entry.name else { return };
        match what {
            Name::Type(tag) if !entry.declared => {
                self.types.entry((tag, name)).or_insert(offset);
            }
            Name::Type(_) => {}
            Name::Variable => {
                let same = self.variables.entry(name).or_default();
                if same.len() < MAX_SAME_NAME {
                    same.push((offset, entry.located));
                }
            }
            Name::Enumerator => {
                if let Some(value) = entry.value {
                    self.enumerators.entry(name).or_insert(value);
                }
            }
        }
    }
}
