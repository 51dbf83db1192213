//! What a caller says of the call that made a frame: the values that it passed in registers.

use super::locate::Locator;
use super::scope::{Function, name_of};
use crate::dwarf::{Entry, ReadError, Slice};
use gimli::{AttributeValue, Expression, Operation, Register, UnitOffset};

/// Parameters of a call that are looked at.
const MAX_PARAMETERS: usize = 256;

/// How a parameter of a call is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// By the register that it was passed in.
    In(Register),
    /// By the place of its entry in the called function.
    As(usize),
}

/// The value that a call passed, as an expression over the caller's registers.
pub(super) fn passed<'a>(
    callee: &Locator<'_, 'a>,
    caller: &Locator<'_, 'a>,
    wanted: Passed,
) -> Result<Option<Expression<Slice<'a>>>, ReadError> {
    let Function { debug, unit, entry } = &caller.function;
    let mut walk = debug.walk(unit, Some(*entry))?;
    let mut entry = Entry::default();
    if let Some(function) = walk.next()? {
        walk.skip(&function)?;
    }
    // The depth of the call site, once it is found.
    let mut is_here = None;
    let mut count = 0;
    while let Some(head) = walk.next()?
        && head.depth > 0
        && count < MAX_PARAMETERS
    {
        if is_here.is_some_and(|depth| head.depth <= depth) {
            return Ok(None);
        }
        match head.tag() {
            gimli::DW_TAG_call_site | gimli::DW_TAG_GNU_call_site if is_here.is_none() => {
                walk.read(&head, &mut entry)?;
                if caller.returns_to(&entry)? {
                    if !caller.calls(&entry, callee)? {
                        return Ok(None);
                    }
                    is_here = Some(head.depth);
                } else if head.abbreviation.has_children() {
                    walk.pass(&head, &entry)?;
                }
            }
            gimli::DW_TAG_call_site_parameter | gimli::DW_TAG_GNU_call_site_parameter
                if is_here.is_some() =>
            {
                walk.read(&head, &mut entry)?;
                count += 1;
                if caller.names(&entry, wanted) {
                    let names = [gimli::DW_AT_call_value, gimli::DW_AT_GNU_call_site_value];
                    let value = names.iter().find_map(|name| entry.attribute(*name));
                    return Ok(value.and_then(|value| value.exprloc_value()));
                }
            }
            _ => walk.skip(&head)?,
        }
    }
    Ok(None)
}

impl<'a> Locator<'_, 'a> {
    /// Whether a call site returns to where this frame is.
    fn returns_to(&self, site: &Entry<'a>) -> Result<bool, ReadError> {
        let Function { debug, unit, .. } = &self.function;
        let value = site.value(gimli::DW_AT_call_return_pc);
        let Some(value) = value.or_else(|| site.value(gimli::DW_AT_low_pc)) else {
            return Ok(false);
        };
        let address = debug.sections.attr_address(unit, value)?;
        // The address looked up is the one before the return address.
        Ok(address == Some(self.address.wrapping_add(1)))
    }

    /// Whether a call site calls the function of another frame, and not one that ended in a jump to it.
    fn calls(&self, site: &Entry<'a>, callee: &Self) -> Result<bool, ReadError> {
        let Function { debug, unit, .. } = &self.function;
        let origin = site.value(gimli::DW_AT_call_origin);
        let origin = origin.or_else(|| site.value(gimli::DW_AT_abstract_origin));
        if let Some(place) = origin.and_then(|origin| debug.referred(unit, &origin)) {
            let (unit, inside) = debug.unit_at(place)?;
            let called = name_of(debug, &unit, &debug.entry(&unit, inside)?);
            let Function { debug, unit, entry } = &callee.function;
            let entered = name_of(debug, unit, &debug.entry(unit, *entry)?);
            return Ok(called.is_some() && called == entered);
        }
        let target = site.attribute(gimli::DW_AT_call_target);
        let target = target.or_else(|| site.attribute(gimli::DW_AT_GNU_call_site_target));
        let target = target.and_then(|target| target.exprloc_value());
        let target = target.and_then(|target| self.number(target).ok());
        let Function { debug, unit, entry } = &callee.function;
        let start = debug.entry(unit, *entry)?.value(gimli::DW_AT_low_pc);
        let start = match start {
            Some(start) => debug.sections.attr_address(unit, start)?,
            None => None,
        };
        let start = start.map(|start| start.wrapping_add(debug.file.bias()));
        Ok(target.is_some() && target == start)
    }

    /// Whether a parameter of a call site is the wanted one.
    fn names(&self, parameter: &Entry<'a>, wanted: Passed) -> bool {
        let Function { debug, unit, .. } = &self.function;
        match wanted {
            Passed::In(register) => {
                let location = parameter.attribute(gimli::DW_AT_location);
                let location = location.and_then(|location| location.exprloc_value());
                location.and_then(|location| register_of(location, unit.encoding()))
                    == Some(register)
            }
            Passed::As(place) => {
                let named = parameter.value(gimli::DW_AT_call_parameter);
                named.and_then(|named| debug.referred(unit, &named)) == Some(place)
            }
        }
    }
}

/// The register that an expression is, if it is one.
pub(super) fn register_of(
    expression: Expression<Slice<'_>>,
    encoding: gimli::Encoding,
) -> Option<Register> {
    let mut operations = expression.operations(encoding);
    match (operations.next().ok()??, operations.next().ok()?) {
        (Operation::Register { register }, None) => Some(register),
        (
            Operation::RegisterOffset {
                register,
                offset: 0,
                base_type: UnitOffset(0),
            },
            None,
        ) => Some(register),
        _ => None,
    }
}

/// The expression of an attribute, if it is one.
pub(super) fn expression<'a>(value: AttributeValue<Slice<'a>>) -> Option<Expression<Slice<'a>>> {
    match value {
        AttributeValue::Exprloc(expression) => Some(expression),
        AttributeValue::Block(bytes) => Some(Expression(bytes)),
        _ => None,
    }
}
