//! Which variables are declared where a program counter is: by function, inlined ones too, and by block.

use crate::dwarf::{Debug, Entry, ReadError, Slice};
use gimli::{AttributeValue, Unit, UnitOffset};
use std::collections::HashSet;
use std::sync::Arc;

/// Inlined functions in each other.
const MAX_FUNCTIONS: usize = 256;
/// Variables of a frame.
const MAX_VARIABLES: usize = 4096;
/// References that are followed from an entry to what it completes.
const MAX_ORIGINS: usize = 16;

/// The function that a program counter is in, as debug information describes it.
pub(super) struct Function<'c, 'a> {
    pub(super) debug: &'c Debug<'a>,
    pub(super) unit: Arc<Unit<Slice<'a>>>,
    /// Its entry.
    pub(super) entry: UnitOffset,
}

/// A variable as it is declared.
#[derive(Debug)]
pub(super) struct Declared<'a> {
    pub(super) name: String,
    pub(super) is_parameter: bool,
    pub(super) depth: usize,
    /// The place of its type.
    pub(super) type_: Option<usize>,
    pub(super) location: Option<AttributeValue<Slice<'a>>>,
    pub(super) constant: Option<AttributeValue<Slice<'a>>>,
}

/// The variables in scope.
#[derive(Debug, Default)]
pub(super) struct Scopes<'a> {
    /// By function, the innermost first.
    pub(super) functions: Vec<Vec<Declared<'a>>>,
}

/// A function or a block around the program counter.
struct Open {
    depth: isize,
    /// Its function's position in the list.
    function: usize,
    /// Blocks around it in that function.
    blocks: usize,
}

/// What is known of a function while its entry is read.
struct Level<'a> {
    declared: Vec<Declared<'a>>,
    /// Places of the abstract entries that its variables complete.
    completed: HashSet<usize>,
    /// Place of the abstract function.
    origin: Option<usize>,
    is_named: bool,
}

impl<'a> Scopes<'a> {
    /// Those at an address of the file.
    pub(super) fn at(function: &Function<'_, 'a>, address: u64) -> Result<Self, ReadError> {
        let (debug, unit) = (function.debug, &*function.unit);
        let mut walk = debug.walk(unit, Some(function.entry))?;
        let mut entry = Entry::default();
        let mut levels = Vec::new();
        let mut open = Vec::new();
        let mut count = 0;
        if let Some(head) = walk.next()? {
            walk.read(&head, &mut entry)?;
            levels.push(Level::of(debug, unit, &entry));
            open.push(Open {
                depth: head.depth,
                function: 0,
                blocks: 0,
            });
        }
        while let Some(head) = walk.next()?
            && head.depth > 0
            && count < MAX_VARIABLES
        {
            while open.last().is_some_and(|open| open.depth >= head.depth) {
                open.pop();
            }
            let Some(scope) = open.last() else { break };
            let (function, blocks) = (scope.function, scope.blocks);
            let is_child = head.depth == scope.depth + 1;
            match head.tag() {
                gimli::DW_TAG_formal_parameter | gimli::DW_TAG_variable if is_child => {
                    walk.read(&head, &mut entry)?;
                    count += 1;
                    if let Some(level) = levels.get_mut(function) {
                        level.declare(debug, unit, &entry, blocks);
                    }
                }
                gimli::DW_TAG_lexical_block
                | gimli::DW_TAG_try_block
                | gimli::DW_TAG_catch_block
                | gimli::DW_TAG_inlined_subroutine
                    if is_child =>
                {
                    walk.read(&head, &mut entry)?;
                    let mut is_here = false;
                    debug.ranges(unit, &entry, |range| {
                        is_here |= (range.begin..range.end).contains(&address);
                        Ok(())
                    })?;
                    let is_function = head.tag() == gimli::DW_TAG_inlined_subroutine;
                    if !is_here || is_function && levels.len() >= MAX_FUNCTIONS {
                        walk.pass(&head, &entry)?;
                        continue;
                    }
                    if is_function {
                        levels.push(Level::of(debug, unit, &entry));
                    }
                    open.push(Open {
                        depth: head.depth,
                        function: match is_function {
                            true => levels.len() - 1,
                            false => function,
                        },
                        blocks: if is_function { 0 } else { blocks + 1 },
                    });
                }
                _ if head.abbreviation.has_children() => {
                    walk.read(&head, &mut entry)?;
                    walk.pass(&head, &entry)?;
                }
                _ => walk.skip(&head)?,
            }
        }
        let mut functions: Vec<Vec<Declared<'a>>> = Vec::new();
        for level in levels {
            let is_named = level.is_named;
            let declared = level.finish(debug);
            match functions.last_mut() {
                // Backtraces do not show inlined functions without a name: the one around has theirs.
                Some(outer) if !is_named => outer.extend(declared),
                _ => functions.push(declared),
            }
        }
        functions.reverse();
        Ok(Self { functions })
    }
}

impl<'a> Level<'a> {
    fn of(debug: &Debug<'a>, unit: &Unit<Slice<'a>>, entry: &Entry<'a>) -> Self {
        let origin = entry.value(gimli::DW_AT_abstract_origin);
        Self {
            declared: Vec::new(),
            completed: HashSet::new(),
            origin: origin.and_then(|origin| debug.referred(unit, &origin)),
            is_named: name_of(debug, unit, entry).is_some(),
        }
    }

    fn declare(
        &mut self,
        debug: &Debug<'a>,
        unit: &Unit<Slice<'a>>,
        entry: &Entry<'a>,
        depth: usize,
    ) {
        if let Some(origin) = entry.value(gimli::DW_AT_abstract_origin)
            && let Some(place) = debug.referred(unit, &origin)
        {
            self.completed.insert(place);
        }
        // `extern` in a block: the variable is elsewhere.
        if entry.flag(gimli::DW_AT_declaration) {
            return;
        }
        self.declared.extend(declared(debug, unit, entry, depth));
    }

    /// Adds what the abstract function declares and this instance of it does not have, and puts the
    /// parameters first, in their order.
    fn finish(mut self, debug: &Debug<'a>) -> Vec<Declared<'a>> {
        if let Some(origin) = self.origin {
            // What a damaged entry has before the damage counts.
            let _ = self.inherit(debug, origin);
        }
        self.declared.sort_by_key(|one| !one.is_parameter);
        self.declared
    }

    fn inherit(&mut self, debug: &Debug<'a>, origin: usize) -> Result<(), ReadError> {
        let (unit, inside) = debug.unit_at(origin)?;
        let mut walk = debug.walk(&unit, Some(inside))?;
        let mut entry = Entry::default();
        if let Some(head) = walk.next()? {
            walk.skip(&head)?;
        }
        let mut count = 0;
        while let Some(head) = walk.next()?
            && head.depth > 0
            && count < MAX_VARIABLES
        {
            walk.read(&head, &mut entry)?;
            if head.depth > 1 || head.abbreviation.has_children() {
                walk.pass(&head, &entry)?;
            }
            let is_variable = matches!(
                entry.tag,
                gimli::DW_TAG_formal_parameter | gimli::DW_TAG_variable
            );
            let place = debug.place(&unit.header, entry.offset);
            let is_declared = entry.flag(gimli::DW_AT_declaration);
            if head.depth == 1 && is_variable && !is_declared && !self.completed.contains(&place) {
                count += 1;
                self.declared.extend(declared(debug, &unit, &entry, 0));
            }
        }
        Ok(())
    }
}

/// A variable of an entry; `None` without a name.
fn declared<'a>(
    debug: &Debug<'a>,
    unit: &Unit<Slice<'a>>,
    entry: &Entry<'a>,
    depth: usize,
) -> Option<Declared<'a>> {
    let mut location = entry.value(gimli::DW_AT_location);
    let mut constant = entry.value(gimli::DW_AT_const_value);
    let own_type = entry.value(gimli::DW_AT_type);
    let mut type_ = own_type.and_then(|type_| debug.referred(unit, &type_));
    let mut name = entry.value(gimli::DW_AT_name);
    let mut name = name.take().and_then(|name| debug.string(unit, name));
    let mut next = origin(debug, unit, entry);
    for _ in 0..MAX_ORIGINS {
        let Some(place) = next else { break };
        let (unit, inside) = debug.unit_at(place).ok()?;
        let entry = debug.entry(&unit, inside).ok()?;
        let value = |name| entry.value(name);
        name = name.or_else(|| debug.string(&unit, value(gimli::DW_AT_name)?));
        type_ = type_.or_else(|| debug.referred(&unit, &value(gimli::DW_AT_type)?));
        constant = constant.or_else(|| value(gimli::DW_AT_const_value));
        // A static variable of the function.
        location = location.or_else(|| match value(gimli::DW_AT_location)? {
            location @ AttributeValue::Exprloc(_) => Some(location),
            _ => None,
        });
        next = origin(debug, &unit, &entry);
    }
    Some(Declared {
        name: String::from_utf8_lossy(name?).into_owned(),
        is_parameter: entry.tag == gimli::DW_TAG_formal_parameter,
        depth,
        type_,
        location,
        constant,
    })
}

/// The entry that another one completes.
fn origin<'a>(debug: &Debug<'a>, unit: &Unit<Slice<'a>>, entry: &Entry<'a>) -> Option<usize> {
    let origin = entry.value(gimli::DW_AT_abstract_origin);
    let origin = origin.or_else(|| entry.value(gimli::DW_AT_specification));
    debug.referred(unit, &origin?)
}

/// The name of a function, as its source has it.
pub(super) fn name_of<'a>(
    debug: &Debug<'a>,
    unit: &Unit<Slice<'a>>,
    entry: &Entry<'a>,
) -> Option<&'a [u8]> {
    let own = |unit: &Unit<Slice<'a>>, entry: &Entry<'a>| {
        let names = [gimli::DW_AT_linkage_name, gimli::DW_AT_name];
        let value = names.iter().find_map(|name| entry.value(*name))?;
        debug.string(unit, value)
    };
    if let Some(name) = own(unit, entry) {
        return Some(name);
    }
    let mut place = origin(debug, unit, entry)?;
    for _ in 0..MAX_ORIGINS {
        let (unit, inside) = debug.unit_at(place).ok()?;
        let entry = debug.entry(&unit, inside).ok()?;
        if let Some(name) = own(&unit, &entry) {
            return Some(name);
        }
        place = origin(debug, &unit, &entry)?;
    }
    None
}
