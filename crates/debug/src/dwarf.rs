//! The debug information of one file, unit by unit and entry by entry, within the file's budget.
//!
//! gimli decodes; what is decoded, how often and how much of it is kept is decided here. Nothing
//! recurses: entries come in the order of the file, with their depth.

mod abbreviations;

use crate::budget::{Budget, Spent, Steps};
use crate::object_file::ObjectFile;
use gimli::{
    Abbreviations, Attribute, AttributeValue, DebugTypeSignature, Dwarf, EndianSlice, EntriesRaw,
    RunTimeEndian, Unit, UnitHeader, UnitOffset, UnitSectionOffset, UnitType,
};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use thiserror::Error;
use vmcore_format::endian::Endian;

/// Bytes of a debug section.
pub(crate) type Slice<'a> = EndianSlice<'a, RunTimeEndian>;

/// The longest name that is read: those of generic types are long, but no one types longer ones.
pub(crate) const MAX_NAME: usize = 4096;
/// Bytes of a string that are searched in one step.
const NAME_STEP: usize = 64;
/// Units and their abbreviations that are kept open, in bytes.
const MAX_OPEN: u64 = 64 << 20;
/// Abbreviations whose sizes are kept: compilers number them from 1.
const MAX_SIZES: usize = 4096;
/// Bytes of a unit's header in memory, about.
const HEADER_BYTES: u64 = 128;

/// The byte order of a file, as gimli has it.
pub(crate) fn order_of(file: &ObjectFile) -> RunTimeEndian {
    match file.endian() {
        Endian::Little => RunTimeEndian::Little,
        Endian::Big => RunTimeEndian::Big,
    }
}

/// Why an entry cannot be read.
#[derive(Clone, Copy, Debug, Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Damaged(#[from] gimli::Error),
    #[error(transparent)]
    Spent(#[from] Spent),
}

/// The debug information of a file.
#[derive(Debug)]
pub(crate) struct Debug<'a> {
    pub(crate) file: &'a ObjectFile,
    pub(crate) sections: Dwarf<Slice<'a>>,
    /// Units of `.debug_info`, then those of `.debug_types`, by ascending offset.
    headers: OnceLock<Vec<UnitHeader<Slice<'a>>>>,
    /// Type units by their signatures.
    signatures: OnceLock<HashMap<DebugTypeSignature, usize>>,
    open: Mutex<Open<'a>>,
}

/// What is kept, because it will be asked for again.
#[derive(Debug, Default)]
struct Open<'a> {
    units: HashMap<usize, Arc<Unit<Slice<'a>>>>,
    tables: HashMap<usize, Arc<Abbreviations>>,
    bytes: u64,
}

/// An entry with its attributes.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) offset: UnitOffset,
    pub(crate) tag: gimli::DwTag,
    attributes: Vec<Attribute<Slice<'a>>>,
}

impl Default for Entry<'_> {
    fn default() -> Self {
        Self {
            offset: UnitOffset(0),
            tag: gimli::DW_TAG_null,
            attributes: Vec::new(),
        }
    }
}

impl<'a> Entry<'a> {
    /// Its attributes.
    pub(crate) fn attributes(&self) -> &[Attribute<Slice<'a>>] {
        &self.attributes
    }

    /// An attribute.
    pub(crate) fn attribute(&self, name: gimli::DwAt) -> Option<&Attribute<Slice<'a>>> {
        self.attributes
            .iter()
            .find(|attribute| attribute.name() == name)
    }

    /// The value of an attribute.
    pub(crate) fn value(&self, name: gimli::DwAt) -> Option<AttributeValue<Slice<'a>>> {
        self.attribute(name).map(Attribute::value)
    }

    /// The value of an attribute that is a number without a sign.
    pub(crate) fn number(&self, name: gimli::DwAt) -> Option<u64> {
        self.attribute(name)?.udata_value()
    }

    /// The value of an attribute that is true or false.
    pub(crate) fn flag(&self, name: gimli::DwAt) -> bool {
        self.value(name) == Some(AttributeValue::Flag(true))
    }
}

/// What is known of an entry before its attributes are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'u> {
    pub(crate) offset: UnitOffset,
    /// Levels below the entry that the walk started with.
    pub(crate) depth: isize,
    pub(crate) abbreviation: &'u gimli::Abbreviation,
}

impl Head<'_> {
    pub(crate) fn tag(&self) -> gimli::DwTag {
        self.abbreviation.tag()
    }
}

/// A walk through entries in the order of the file. After each [`Self::next`] comes one
/// [`Self::read`] or [`Self::skip`].
#[derive(Debug)]
pub(crate) struct Walk<'u, 'a> {
    unit: &'u Unit<Slice<'a>>,
    raw: EntriesRaw<'u, Slice<'a>>,
    steps: Steps<'u>,
    /// The depth of where `raw` started.
    base: isize,
    /// All entries of the unit.
    entries: Slice<'a>,
    /// What [`Self::size`] is, by the code of an abbreviation; `None` as long as nothing asked.
    sizes: Vec<Option<Option<usize>>>,
}

impl<'u, 'a> Walk<'u, 'a> {
    /// The next entry; `None` at the end of the unit.
    pub(crate) fn next(&mut self) -> Result<Option<Head<'u>>, ReadError> {
        while !self.raw.is_empty() {
            let (depth, offset) = (self.raw.next_depth(), self.raw.next_offset());
            let abbreviation = self.raw.read_abbreviation()?;
            self.steps.spend(cost(abbreviation))?;
            if let Some(abbreviation) = abbreviation {
                let depth = depth + self.base;
                return Ok(Some(Head {
                    offset,
                    depth,
                    abbreviation,
                }));
            }
        }
        Ok(None)
    }

    /// Reads the attributes of the entry that came last.
    pub(crate) fn read(&mut self, head: &Head<'u>, entry: &mut Entry<'a>) -> Result<(), ReadError> {
        entry.offset = head.offset;
        entry.tag = head.tag();
        self.raw
            .read_attributes(head.abbreviation.attributes(), &mut entry.attributes)?;
        Ok(())
    }

    /// Passes over the attributes of the entry that came last.
    pub(crate) fn skip(&mut self, head: &Head<'u>) -> Result<(), ReadError> {
        if let Some(size) = self.size(head.abbreviation) {
            return Ok(self.jump(self.raw.next_offset().0.saturating_add(size))?);
        }
        // One by one: together the lengths of blocks may be more than a number holds.
        for attribute in head.abbreviation.attributes() {
            self.raw.skip_attributes(std::slice::from_ref(attribute))?;
        }
        Ok(())
    }

    /// Bytes of the attributes of every entry with this abbreviation, if they are alike.
    fn size(&mut self, abbreviation: &gimli::Abbreviation) -> Option<usize> {
        let code = usize::try_from(abbreviation.code()).ok()?;
        if self.sizes.len() <= code && code < MAX_SIZES {
            self.sizes.resize(code + 1, None);
        }
        let header = &self.unit.header;
        *self.sizes.get_mut(code)?.get_or_insert_with(|| {
            let attributes = abbreviation.attributes().iter();
            attributes.map(|attribute| attribute.size(header)).sum()
        })
    }

    /// Goes to an offset, at the depth that the walk is at.
    fn jump(&mut self, offset: usize) -> Result<(), gimli::Error> {
        let mut input = self.entries;
        gimli::Reader::skip(
            &mut input,
            offset.saturating_sub(self.unit.header.header_size()),
        )?;
        self.base += self.raw.next_depth();
        let (encoding, abbreviations) = (self.unit.encoding(), &self.unit.abbreviations);
        self.raw = EntriesRaw::new(input, encoding, abbreviations, UnitOffset(offset));
        Ok(())
    }

    /// Passes over the children of an entry, if it says where they end.
    pub(crate) fn skip_children(&mut self, head: &Head<'u>, entry: &Entry<'a>) {
        if let Some(AttributeValue::UnitRef(sibling)) = entry.value(gimli::DW_AT_sibling)
            && sibling.0 > self.raw.next_offset().0
            && self.jump(sibling.0).is_ok()
        {
            self.base = head.depth;
        }
    }

    /// Passes over the children of an entry.
    pub(crate) fn pass(&mut self, head: &Head<'u>, entry: &Entry<'a>) -> Result<(), ReadError> {
        self.skip_children(head, entry);
        while self.raw.next_depth() + self.base > head.depth {
            let abbreviation = self.raw.read_abbreviation()?;
            self.steps.spend(cost(abbreviation))?;
            if let Some(abbreviation) = abbreviation {
                self.skip(&Head {
                    abbreviation,
                    ..*head
                })?;
            }
        }
        Ok(())
    }
}

/// Steps that an entry costs.
fn cost(abbreviation: Option<&gimli::Abbreviation>) -> u64 {
    1 + abbreviation.map_or(0, |abbreviation| abbreviation.attributes().len() as u64)
}

impl<'a> Debug<'a> {
    pub(crate) fn of(file: &'a ObjectFile) -> Self {
        let load = |id: gimli::SectionId| -> Result<Slice<'_>, gimli::Error> {
            Ok(EndianSlice::new(file.section(id.name()), order_of(file)))
        };
        Self {
            file,
            sections: Dwarf::load(load).unwrap_or_default(),
            headers: OnceLock::new(),
            signatures: OnceLock::new(),
            open: Mutex::default(),
        }
    }

    pub(crate) const fn budget(&self) -> &'a Budget {
        self.file.budget()
    }

    /// The headers of all units.
    pub(crate) fn headers(&self) -> &[UnitHeader<Slice<'a>>] {
        self.headers.get_or_init(|| {
            let mut headers = Vec::new();
            let mut keep = |header| {
                let paid = self.budget().memory(HEADER_BYTES).is_ok();
                if paid {
                    headers.push(header);
                }
                paid
            };
            // A damaged header ends the list: those before it are sound.
            let mut units = self.sections.units();
            while let Ok(Some(header)) = units.next() {
                if !keep(header) {
                    break;
                }
            }
            let mut units = self.sections.type_units();
            while let Ok(Some(header)) = units.next() {
                if !keep(header) {
                    break;
                }
            }
            headers
        })
    }

    /// Where an entry of a unit is: its offset in `.debug_info`, which `.debug_types` follows.
    pub(crate) fn place(&self, header: &UnitHeader<Slice<'a>>, offset: UnitOffset) -> usize {
        self.start(header).saturating_add(offset.0)
    }

    fn start(&self, header: &UnitHeader<Slice<'a>>) -> usize {
        match header.offset() {
            UnitSectionOffset(offset) if header.debug_info_offset().is_some() => offset,
            UnitSectionOffset(offset) => {
                let before = self.file.section(".debug_info").len();
                before.saturating_add(offset)
            }
        }
    }

    /// The unit that holds a place, and the offset in it.
    pub(crate) fn unit_at(
        &self,
        place: usize,
    ) -> Result<(Arc<Unit<Slice<'a>>>, UnitOffset), ReadError> {
        let headers = self.headers();
        let after = headers.partition_point(|header| self.start(header) <= place);
        let no_entry = gimli::Error::NoEntryAtGivenOffset(place as u64);
        let position = after.checked_sub(1).ok_or(no_entry)?;
        let unit = self.unit(position)?;
        let inside = UnitOffset(place - self.start(&unit.header));
        match inside.is_in_bounds(&unit.header) {
            true => Ok((unit, inside)),
            false => Err(no_entry.into()),
        }
    }

    /// The place of the type of a type unit.
    pub(crate) fn place_of_signature(&self, signature: DebugTypeSignature) -> Option<usize> {
        let signatures = self.signatures.get_or_init(|| {
            let mut places = HashMap::new();
            for header in self.headers() {
                let (UnitType::Type {
                    type_signature,
                    type_offset,
                }
                | UnitType::SplitType {
                    type_signature,
                    type_offset,
                }) = header.type_()
                else {
                    continue;
                };
                places
                    .entry(type_signature)
                    .or_insert_with(|| self.place(header, type_offset));
            }
            places
        });
        signatures.get(&signature).copied()
    }

    /// A unit, ready to be read.
    pub(crate) fn unit(&self, position: usize) -> Result<Arc<Unit<Slice<'a>>>, ReadError> {
        if let Some(unit) = self.lock().units.get(&position) {
            return Ok(unit.clone());
        }
        let (mut unit, _) = self.root(position)?;
        let mut open = self.lock();
        let at = unit.header.debug_abbrev_offset().0;
        unit.abbreviations = match open.tables.get(&at) {
            Some(table) => table.clone(),
            None => {
                let bytes = abbreviations::cost(self.section(".debug_abbrev"), at, self.budget())?;
                self.make_room(&mut open, bytes)?;
                let table = Arc::new(unit.header.abbreviations(&self.sections.debug_abbrev)?);
                open.tables.insert(at, table.clone());
                table
            }
        };
        self.make_room(&mut open, size_of::<Unit<Slice<'a>>>() as u64)?;
        let unit = Arc::new(unit);
        open.units.insert(position, unit.clone());
        Ok(unit)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open<'a>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pays for something that is kept open, for which others may have to go.
    fn make_room(&self, open: &mut Open<'a>, bytes: u64) -> Result<(), Spent> {
        if open.bytes > 0 && open.bytes + bytes > MAX_OPEN.min(self.budget().memory_left()) {
            self.budget().give_back(open.bytes);
            *open = Open::default();
        }
        self.budget().memory(bytes)?;
        open.bytes += bytes;
        Ok(())
    }

    /// A unit with its first entry, for which one abbreviation is enough.
    pub(crate) fn root(&self, position: usize) -> Result<(Unit<Slice<'a>>, Entry<'a>), ReadError> {
        let header = *self
            .headers()
            .get(position)
            .ok_or(gimli::Error::MissingUnitDie)?;
        let code = header.range_from(header.root_offset()..)?;
        let code = gimli::Reader::read_uleb128(&mut code.clone())?;
        let at = header.debug_abbrev_offset().0;
        let one = abbreviations::one(self.section(".debug_abbrev"), at, code, self.budget())?;
        let one = gimli::DebugAbbrev::new(one, order_of(self.file));
        let encoding = header.encoding();
        let kind = self.sections.file_type;
        let mut unit = Unit {
            header,
            abbreviations: Arc::new(one.abbreviations(gimli::DebugAbbrevOffset(0))?),
            name: None,
            comp_dir: None,
            low_pc: 0,
            str_offsets_base: gimli::DebugStrOffsetsBase::default_for_encoding_and_file(
                encoding, kind,
            ),
            addr_base: gimli::DebugAddrBase(0),
            loclists_base: gimli::DebugLocListsBase::default_for_encoding_and_file(encoding, kind),
            rnglists_base: gimli::DebugRngListsBase::default_for_encoding_and_file(encoding, kind),
            line_program: None,
            dwo_id: None,
        };
        let mut root = Entry::default();
        let mut walk = self.walk(&unit, None)?;
        if let Some(head) = walk.next()? {
            walk.read(&head, &mut root)?;
        }
        drop(walk);
        for attribute in root.attributes() {
            match attribute.value() {
                AttributeValue::DebugStrOffsetsBase(base) => unit.str_offsets_base = base,
                AttributeValue::DebugAddrBase(base) => unit.addr_base = base,
                AttributeValue::DebugRngListsBase(base) => unit.rnglists_base = base,
                AttributeValue::DebugLocListsBase(base) => unit.loclists_base = base,
                _ => {}
            }
        }
        if let Some(low) = root.value(gimli::DW_AT_low_pc) {
            unit.low_pc = self.sections.attr_address(&unit, low)?.unwrap_or(0);
        }
        let string = |name| Some(self.slice(self.string(&unit, root.value(name)?)?));
        let comp_dir = string(gimli::DW_AT_comp_dir);
        let name = string(gimli::DW_AT_name);
        unit.comp_dir = comp_dir;
        unit.name = name;
        Ok((unit, root))
    }

    fn section(&self, name: &str) -> &'a [u8] {
        self.file.section(name)
    }

    fn slice(&self, bytes: &'a [u8]) -> Slice<'a> {
        EndianSlice::new(bytes, order_of(self.file))
    }

    /// Walks through the entries of a unit, from an offset or from its first one.
    pub(crate) fn walk<'u>(
        &'u self,
        unit: &'u Unit<Slice<'a>>,
        from: Option<UnitOffset>,
    ) -> Result<Walk<'u, 'a>, ReadError> {
        Ok(Walk {
            raw: unit.entries_raw(from)?,
            unit,
            steps: self.budget().steps(),
            base: 0,
            entries: unit.header.range_from(unit.header.root_offset()..)?,
            sizes: Vec::new(),
        })
    }

    /// The entry at an offset.
    pub(crate) fn entry(
        &self,
        unit: &Unit<Slice<'a>>,
        offset: UnitOffset,
    ) -> Result<Entry<'a>, ReadError> {
        let mut walk = self.walk(unit, Some(offset))?;
        let mut entry = Entry::default();
        match walk.next()? {
            Some(head) if head.offset == offset => walk.read(&head, &mut entry)?,
            _ => return Err(gimli::Error::NoEntryAtGivenOffset(offset.0 as u64).into()),
        }
        Ok(entry)
    }

    /// The place that a reference points to.
    pub(crate) fn referred(
        &self,
        unit: &Unit<Slice<'a>>,
        value: &AttributeValue<Slice<'a>>,
    ) -> Option<usize> {
        match value {
            AttributeValue::UnitRef(offset) => Some(self.place(&unit.header, *offset)),
            AttributeValue::DebugInfoRef(offset) => Some(offset.0),
            AttributeValue::DebugTypesRef(signature) => self.place_of_signature(*signature),
            _ => None,
        }
    }

    /// The bytes of a string; `None` if it is damaged, longer than any name, or not paid for.
    pub(crate) fn string(
        &self,
        unit: &Unit<Slice<'a>>,
        value: AttributeValue<Slice<'a>>,
    ) -> Option<&'a [u8]> {
        let (section, offset) = match value {
            AttributeValue::String(text) => {
                return (text.len() <= MAX_NAME).then(|| text.slice());
            }
            AttributeValue::DebugStrRef(offset) => (".debug_str", offset.0),
            AttributeValue::DebugLineStrRef(offset) => (".debug_line_str", offset.0),
            AttributeValue::DebugStrOffsetsIndex(index) => {
                let offset = self.sections.string_offset(unit, index).ok()?;
                (".debug_str", offset.0)
            }
            _ => return None,
        };
        let text = self.section(section).get(offset..)?;
        let text = text.get(..MAX_NAME).unwrap_or(text);
        let len = memchr::memchr(0, text);
        let searched = len.unwrap_or(text.len());
        self.budget().work((searched / NAME_STEP) as u64 + 1).ok()?;
        text.get(..len?)
    }

    /// Calls `each` with every range of addresses of an entry that is not empty.
    pub(crate) fn ranges(
        &self,
        unit: &Unit<Slice<'a>>,
        entry: &Entry<'a>,
        mut each: impl FnMut(gimli::Range) -> Result<(), Spent>,
    ) -> Result<(), ReadError> {
        let mut steps = self.budget().steps();
        // Linkers leave functions that they have dropped at 0 or 1.
        let mut add = |range: gimli::Range| match range.begin > 1 && range.begin < range.end {
            true => each(range),
            false => Ok(()),
        };
        if let Some(list) = entry.value(gimli::DW_AT_ranges) {
            let Some(mut list) = self.sections.attr_ranges(unit, list)? else {
                return Ok(());
            };
            while let Some(range) = list.next()? {
                steps.spend(4)?;
                add(range)?;
            }
            return Ok(());
        }
        let (Some(low), Some(high)) = (
            entry.value(gimli::DW_AT_low_pc),
            entry.value(gimli::DW_AT_high_pc),
        ) else {
            return Ok(());
        };
        let Some(begin) = self.sections.attr_address(unit, low)? else {
            return Ok(());
        };
        let end = match self.sections.attr_address(unit, high)? {
            Some(end) => end,
            None => begin.wrapping_add(high.udata_value().unwrap_or(0)),
        };
        Ok(add(gimli::Range { begin, end })?)
    }
}
