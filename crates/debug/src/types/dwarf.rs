//! Types from DWARF, versions 2 to 5.
//!
//! Units are indexed in the order of the file, and only as far as a search needs: most kernel
//! structures are complete in one of the first units. An index entry is a name, which stays in the
//! file, and the place of its entry. What is in a namespace has its whole name too: `a::b::C`.

mod read;
mod variants;

use super::{Tag, TypeId, Variable};
use crate::budget::Steps;
use crate::dwarf::{Debug, Entry, MAX_NAME, ReadError, Slice};
use crate::object_file::ObjectFile;
use gimli::{AttributeValue, Unit};
use std::collections::HashMap;
use std::collections::hash_map::Entry::Vacant;
use std::sync::{Mutex, PoisonError};
use vmcore_format::addr::VirtAddr;

/// Variables of one name that are told apart.
const MAX_SAME_NAME: usize = 64;
/// Namespaces in namespaces.
const MAX_SCOPES: usize = 64;
/// Bytes of an entry of the index.
const INDEXED_BYTES: u64 = 96;
/// Bytes of a name that are hashed in one step.
const HASH_STEP: usize = 4;

/// The types of one file.
#[derive(Debug)]
pub(super) struct DwarfTypes<'a> {
    /// Its number among the files.
    number: usize,
    bias: u64,
    debug: Debug<'a>,
    index: Mutex<Index<'a>>,
}

/// What has been read so far.
#[derive(Debug, Default)]
struct Index<'a> {
    /// Units that are in the index.
    done: usize,
    types: HashMap<(Tag, &'a [u8]), usize>,
    /// Types in namespaces, by their whole name.
    scoped: HashMap<(Tag, Vec<u8>), usize>,
    /// Definitions; and declarations, which only count where there is no definition.
    variables: HashMap<&'a [u8], Vec<(usize, bool)>>,
    /// Variables in namespaces, by their whole name.
    scoped_variables: HashMap<Vec<u8>, usize>,
    enumerators: HashMap<&'a [u8], i64>,
}

impl<'a> DwarfTypes<'a> {
    pub(super) fn new(number: usize, file: &'a ObjectFile) -> Self {
        Self {
            number,
            bias: file.bias(),
            debug: Debug::of(file),
            index: Mutex::default(),
        }
    }

    /// Whether these are the types of that file.
    pub(super) fn is_of(&self, file: &ObjectFile) -> bool {
        std::ptr::eq(self.debug.file, file)
    }

    pub(super) const fn id(&self, offset: usize) -> TypeId {
        TypeId {
            file: self.number,
            offset,
        }
    }

    /// Reads on in the units until `found` has an answer.
    fn search<T>(&self, found: impl Fn(&Index<'a>) -> Option<T>) -> Option<T> {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(answer) = found(&index) {
                return Some(answer);
            }
            let position = index.done;
            self.debug.headers().get(position)?;
            index.done += 1;
            // What a damaged unit holds before the damage is in the index.
            let _ = self.index_unit(position, &mut index);
        }
    }

    pub(super) fn find(&self, tag: Tag, name: &str) -> Option<TypeId> {
        let bytes = name.as_bytes();
        let offset = match name.contains("::") {
            false => self.search(|index| index.types.get(&(tag, bytes)).copied()),
            true => {
                let key = (tag, bytes.to_vec());
                self.search(|index| {
                    let scoped = index.scoped.get(&key).copied();
                    scoped.or_else(|| index.types.get(&(tag, bytes)).copied())
                })
            }
        };
        Some(self.id(offset?))
    }

    pub(super) fn enumerator(&self, name: &str) -> Option<i64> {
        self.search(|index| index.enumerators.get(name.as_bytes()).copied())
    }

    pub(super) fn variable(&self, name: &str, address: Option<VirtAddr>) -> Option<Variable> {
        if name.contains("::") {
            let found = self.search(|index| index.scoped_variables.get(name.as_bytes()).copied());
            return self.read_variable(found?);
        }
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

    fn index_unit(&self, position: usize, index: &mut Index<'a>) -> Result<(), ReadError> {
        let unit = self.debug.unit(position)?;
        let mut walk = self.debug.walk(&unit, None)?;
        let mut steps = self.debug.budget().steps();
        // The namespaces that are open, and their depths; what is right below the innermost one has
        // a global name.
        let mut scopes: Vec<(isize, &'a [u8])> = Vec::new();
        let mut enumeration = None;
        let mut entry = Entry::default();
        while let Some(head) = walk.next()? {
            while scopes.last().is_some_and(|(depth, _)| *depth >= head.depth) {
                scopes.pop();
            }
            let scope = scopes.last().map_or(0, |(depth, _)| *depth);
            let global = head.depth == scope + 1;
            if global {
                enumeration = None;
            }
            let wanted = match head.tag() {
                gimli::DW_TAG_namespace if global && scopes.len() < MAX_SCOPES => {
                    walk.read(&head, &mut entry)?;
                    let name = entry.value(gimli::DW_AT_name);
                    let name = name.and_then(|name| self.debug.string(&unit, name));
                    scopes.push((head.depth, name.unwrap_or_default()));
                    continue;
                }
                gimli::DW_TAG_structure_type | gimli::DW_TAG_class_type if global => {
                    Name::Type(Tag::Struct)
                }
                gimli::DW_TAG_union_type if global => Name::Type(Tag::Union),
                gimli::DW_TAG_enumeration_type if global => {
                    enumeration = Some(head.depth);
                    Name::Type(Tag::Enum)
                }
                gimli::DW_TAG_typedef | gimli::DW_TAG_base_type if global => Name::Type(Tag::Plain),
                gimli::DW_TAG_variable if global => Name::Variable,
                gimli::DW_TAG_enumerator if enumeration == Some(head.depth - 1) => Name::Enumerator,
                _ if global && head.abbreviation.has_children() => {
                    walk.read(&head, &mut entry)?;
                    walk.pass(&head, &entry)?;
                    continue;
                }
                _ => {
                    walk.skip(&head)?;
                    continue;
                }
            };
            walk.read(&head, &mut entry)?;
            if let Some(indexed) = self.indexed(&unit, &entry) {
                let at = self.debug.place(&unit.header, head.offset);
                self.add(index, &mut steps, wanted, at, &indexed, &scopes)?;
            }
            if enumeration.is_none() {
                walk.pass(&head, &entry)?;
            }
        }
        Ok(())
    }

    /// What the index needs of an entry; nothing of one without a name.
    fn indexed(&self, unit: &Unit<Slice<'a>>, entry: &Entry<'a>) -> Option<Indexed<'a>> {
        let name = match entry.value(gimli::DW_AT_name) {
            Some(name) => self.debug.string(unit, name),
            // The definition of a variable may leave its name to the declaration.
            None => self.name_of_specification(unit, entry),
        };
        let value = entry.attribute(gimli::DW_AT_const_value);
        Some(Indexed {
            name: name?,
            declared: entry.flag(gimli::DW_AT_declaration),
            located: entry.attribute(gimli::DW_AT_location).is_some(),
            value: value.and_then(read::signed),
        })
    }

    /// The name of the entry that another one completes.
    fn name_of_specification(&self, unit: &Unit<Slice<'a>>, entry: &Entry<'a>) -> Option<&'a [u8]> {
        let AttributeValue::UnitRef(offset) = entry.value(gimli::DW_AT_specification)? else {
            return None;
        };
        let declaration = self.debug.entry(unit, offset).ok()?;
        self.debug
            .string(unit, declaration.value(gimli::DW_AT_name)?)
    }

    fn add(
        &self,
        index: &mut Index<'a>,
        steps: &mut Steps<'_>,
        what: Name,
        offset: usize,
        entry: &Indexed<'a>,
        scopes: &[(isize, &'a [u8])],
    ) -> Result<(), ReadError> {
        let name = entry.name;
        let budget = self.debug.budget();
        steps.spend((name.len() / HASH_STEP) as u64)?;
        match what {
            Name::Type(tag) if !entry.declared => {
                if let Vacant(free) = index.types.entry((tag, name)) {
                    budget.memory(INDEXED_BYTES)?;
                    free.insert(offset);
                }
                for whole in whole_names(scopes, name) {
                    budget.memory(INDEXED_BYTES + whole.len() as u64)?;
                    index.scoped.entry((tag, whole)).or_insert(offset);
                }
            }
            Name::Type(_) => {}
            Name::Variable => {
                let same = index.variables.entry(name).or_default();
                if same.len() < MAX_SAME_NAME {
                    budget.memory(INDEXED_BYTES)?;
                    same.push((offset, entry.located));
                }
                for whole in whole_names(scopes, name) {
                    budget.memory(INDEXED_BYTES + whole.len() as u64)?;
                    index.scoped_variables.entry(whole).or_insert(offset);
                }
            }
            Name::Enumerator => {
                if let (Some(value), Vacant(free)) = (entry.value, index.enumerators.entry(name)) {
                    budget.memory(INDEXED_BYTES)?;
                    free.insert(value);
                }
            }
        }
        Ok(())
    }
}

/// The name with its namespaces: with all of them, without the crate, with the innermost one.
fn whole_names(scopes: &[(isize, &[u8])], name: &[u8]) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    if scopes.is_empty() {
        return names;
    }
    let mut whole = name.to_vec();
    for (position, (_, scope)) in scopes.iter().enumerate().rev() {
        if whole.len() + scope.len() > MAX_NAME {
            break;
        }
        whole = [scope, b"::".as_slice(), &whole].concat();
        if position < 2 || position + 1 == scopes.len() {
            names.push(whole.clone());
        }
    }
    names
}

/// What a name in the index is the name of.
#[derive(Clone, Copy)]
enum Name {
    Type(Tag),
    Variable,
    Enumerator,
}

/// What the index needs of an entry.
struct Indexed<'a> {
    name: &'a [u8],
    declared: bool,
    located: bool,
    value: Option<i64>,
}
