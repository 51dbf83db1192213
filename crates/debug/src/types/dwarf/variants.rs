//! Structures of which a part depends on a value in them: Rust's enumerations with data.
//!
//! A variant part names the member that decides; each variant says for which of its values it is
//! there. The variant without one is there for all others: a niche, such as the pointers of an
//! `Option<&T>` that are not null.

use super::DwarfTypes;
use super::read::{is_member, signed};
use crate::dwarf::{Entry, ReadError, Slice};
use crate::types::{TypeKind, Variant, Variants};
use gimli::{AttributeValue, Unit, UnitOffset};

/// Variants of one structure.
const MAX_VARIANTS: usize = 1 << 12;

impl<'a> DwarfTypes<'a> {
    /// A structure, with its variants if it has any.
    pub(super) fn structure(
        &self,
        unit: &Unit<Slice<'a>>,
        inside: UnitOffset,
    ) -> Result<TypeKind, ReadError> {
        let (mut members, mut part) = (Vec::new(), None);
        self.children(unit, inside, |entry| {
            if is_member(entry.tag) {
                members.push(self.member_of(unit, entry)?);
            } else if entry.tag == gimli::DW_TAG_variant_part {
                part = part.or(Some((entry.offset, entry.value(gimli::DW_AT_discr))));
            }
            Ok(())
        })?;
        let Some((offset, discriminant)) = part else {
            return Ok(TypeKind::Struct(members));
        };
        let discriminant = match discriminant {
            Some(AttributeValue::UnitRef(at)) => {
                let entry = self.debug.entry(unit, at)?;
                Some(self.member_of(unit, &entry)?)
            }
            _ => None,
        };
        let mut found = Vec::new();
        self.children(unit, offset, |entry| {
            if entry.tag == gimli::DW_TAG_variant && found.len() < MAX_VARIANTS {
                found.push((entry.offset, values(entry)));
            }
            Ok(())
        })?;
        let mut variants = Vec::new();
        for (offset, values) in found {
            let mut member = None;
            self.children(unit, offset, |entry| {
                if is_member(entry.tag) && member.is_none() {
                    member = Some(self.member_of(unit, entry)?);
                }
                Ok(())
            })?;
            variants.extend(member.map(|member| Variant { values, member }));
        }
        Ok(TypeKind::Variants(Box::new(Variants {
            members,
            discriminant,
            variants,
        })))
    }
}

/// The values of the discriminant for which a variant is there, as ranges with both ends; `None`
/// for all that no other variant has.
fn values(entry: &Entry<'_>) -> Option<Vec<(i64, i64)>> {
    if let Some(value) = entry.attribute(gimli::DW_AT_discr_value) {
        let value = signed(value)?;
        return Some(vec![(value, value)]);
    }
    let AttributeValue::Block(list) = entry.value(gimli::DW_AT_discr_list)? else {
        return None;
    };
    let mut list = list;
    let mut ranges = Vec::new();
    let mut next = || gimli::Reader::read_sleb128(&mut list).ok();
    while let Some(kind) = next()
        && ranges.len() < MAX_VARIANTS
    {
        let low = next()?;
        let high = match kind {
            i if i == i64::from(gimli::DW_DSC_range.0) => next()?,
            _ => low,
        };
        ranges.push((low, high));
    }
    Some(ranges)
}
