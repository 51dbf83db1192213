//! One entry of `.debug_info`, read into a type or a variable.

use super::DwarfTypes;
use crate::dwarf::{Entry, ReadError, Slice};
use crate::types::{Member, Tag, Type, TypeError, TypeKind, TypeRef, Variable};
use gimli::{Attribute, AttributeValue, Operation, Unit, UnitOffset};
use std::sync::Arc;
use vmcore_format::addr::VirtAddr;
use vmcore_format::endian::Endian;

/// Members, enumerators or dimensions that are read of one type.
const MAX_CHILDREN: usize = 1 << 16;
/// Dimensions of an array.
const MAX_DIMENSIONS: usize = 32;
/// Bytes of a member or an enumerator, without its name.
const CHILD_BYTES: u64 = 96;

impl<'a> DwarfTypes<'a> {
    pub(in crate::types) fn read(&self, offset: usize) -> Result<Type, TypeError> {
        self.read_entry(offset).map_err(|error| match error {
            ReadError::Spent(_) => TypeError::TooCostly { offset },
            ReadError::Damaged(error) => TypeError::Damaged {
                offset,
                reason: error.to_string(),
            },
        })?
    }

    fn read_entry(&self, offset: usize) -> Result<Result<Type, TypeError>, ReadError> {
        let (unit, inside) = self.debug.unit_at(offset)?;
        let entry = self.debug.entry(&unit, inside)?;
        let name = self.text(&unit, &entry, gimli::DW_AT_name)?;
        let size = entry.number(gimli::DW_AT_byte_size);
        let target = || self.target(&unit, &entry);
        let declared = entry.flag(gimli::DW_AT_declaration);
        // A declaration may say in which type unit its definition is.
        if let Some(AttributeValue::DebugTypesRef(signature)) = entry.value(gimli::DW_AT_signature)
            && let Some(place) = self.debug.place_of_signature(signature)
            && place != offset
        {
            let kind = TypeKind::Typedef(TypeRef::Id(self.id(place)));
            return Ok(Ok(Type { name, kind, size }));
        }
        let kind = match entry.tag {
            gimli::DW_TAG_base_type => base(&entry),
            gimli::DW_TAG_unspecified_type => TypeKind::Void,
            gimli::DW_TAG_pointer_type
            | gimli::DW_TAG_reference_type
            | gimli::DW_TAG_rvalue_reference_type => {
                let size = size.or(Some(u64::from(unit.encoding().address_size)));
                let kind = TypeKind::Pointer(target()?);
                return Ok(Ok(Type { name, kind, size }));
            }
            gimli::DW_TAG_structure_type | gimli::DW_TAG_class_type if declared => {
                TypeKind::Declared(Tag::Struct)
            }
            gimli::DW_TAG_union_type if declared => TypeKind::Declared(Tag::Union),
            gimli::DW_TAG_enumeration_type if declared => TypeKind::Declared(Tag::Enum),
            gimli::DW_TAG_structure_type | gimli::DW_TAG_class_type => {
                self.structure(&unit, inside)?
            }
            gimli::DW_TAG_union_type => TypeKind::Union(self.members(&unit, inside)?),
            gimli::DW_TAG_enumeration_type => TypeKind::Enum(self.enumerators(&unit, inside)?),
            gimli::DW_TAG_typedef => TypeKind::Typedef(target()?),
            gimli::DW_TAG_const_type => TypeKind::Qualified("const", target()?),
            gimli::DW_TAG_volatile_type => TypeKind::Qualified("volatile", target()?),
            gimli::DW_TAG_restrict_type => TypeKind::Qualified("restrict", target()?),
            gimli::DW_TAG_atomic_type => TypeKind::Qualified("_Atomic", target()?),
            gimli::DW_TAG_array_type => {
                return Ok(Ok(self.array(&unit, inside, target()?, size)?));
            }
            gimli::DW_TAG_subroutine_type | gimli::DW_TAG_subprogram => TypeKind::Function,
            tag => {
                let reason = format!("{tag} is not a type");
                return Ok(Err(TypeError::Damaged { offset, reason }));
            }
        };
        Ok(Ok(Type { name, kind, size }))
    }

    pub(in crate::types) fn read_variable(&self, offset: usize) -> Option<Variable> {
        let (unit, inside) = self.debug.unit_at(offset).ok()?;
        let entry = self.debug.entry(&unit, inside).ok()?;
        let address = self.address(&unit, &entry);
        let type_ = match entry.attribute(gimli::DW_AT_type) {
            Some(_) => self.target(&unit, &entry).ok()?,
            None => {
                let AttributeValue::UnitRef(declaration) =
                    entry.value(gimli::DW_AT_specification)?
                else {
                    return None;
                };
                let declaration = self.debug.entry(&unit, declaration).ok()?;
                self.target(&unit, &declaration).ok()?
            }
        };
        Some(Variable { type_, address })
    }

    /// The address of a static variable: the only operation of its location.
    fn address(&self, unit: &Unit<Slice<'a>>, entry: &Entry<'a>) -> Option<VirtAddr> {
        let location = entry.attribute(gimli::DW_AT_location)?.exprloc_value()?;
        let operation = location.operations(unit.encoding()).next().ok()??;
        let address = match operation {
            Operation::Address { address } => address,
            Operation::AddressIndex { index } => self.debug.sections.address(unit, index).ok()?,
            _ => return None,
        };
        Some(VirtAddr(address.wrapping_add(self.bias)))
    }

    /// A name that is kept.
    fn text(
        &self,
        unit: &Unit<Slice<'a>>,
        entry: &Entry<'a>,
        name: gimli::DwAt,
    ) -> Result<Option<String>, ReadError> {
        let Some(text) = entry
            .value(name)
            .and_then(|value| self.debug.string(unit, value))
        else {
            return Ok(None);
        };
        self.debug.budget().memory(text.len() as u64)?;
        Ok(Some(String::from_utf8_lossy(text).into_owned()))
    }

    /// The type of an entry; `void` without the attribute.
    fn target(&self, unit: &Unit<Slice<'a>>, entry: &Entry<'a>) -> Result<TypeRef, ReadError> {
        let Some(value) = entry.value(gimli::DW_AT_type) else {
            return Ok(TypeRef::Void);
        };
        match self.debug.referred(unit, &value) {
            Some(place) => Ok(TypeRef::Id(self.id(place))),
            None => Err(gimli::Error::NoEntryAtGivenOffset(entry.offset.0 as u64).into()),
        }
    }

    /// Calls `each` with every entry right below another one, and with its depth below it if
    /// `deep` wants to look into it.
    pub(super) fn children(
        &self,
        unit: &Unit<Slice<'a>>,
        inside: UnitOffset,
        mut each: impl FnMut(&Entry<'a>) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let mut walk = self.debug.walk(unit, Some(inside))?;
        let mut entry = Entry::default();
        if let Some(parent) = walk.next()? {
            walk.skip(&parent)?;
        }
        let mut count = 0;
        while let Some(head) = walk.next()?
            && head.depth > 0
            && count < MAX_CHILDREN
        {
            if head.depth > 1 {
                walk.skip(&head)?;
                continue;
            }
            walk.read(&head, &mut entry)?;
            walk.skip_children(&head, &entry);
            count += 1;
            self.debug.budget().memory(CHILD_BYTES)?;
            each(&entry)?;
        }
        Ok(())
    }

    fn members(
        &self,
        unit: &Unit<Slice<'a>>,
        inside: UnitOffset,
    ) -> Result<Vec<Member>, ReadError> {
        let mut members = Vec::new();
        self.children(unit, inside, |entry| {
            if is_member(entry.tag) {
                members.push(self.member_of(unit, entry)?);
            }
            Ok(())
        })?;
        Ok(members)
    }

    pub(super) fn member_of(
        &self,
        unit: &Unit<Slice<'a>>,
        entry: &Entry<'a>,
    ) -> Result<Member, ReadError> {
        let bits = entry
            .number(gimli::DW_AT_bit_size)
            .and_then(|bits| u32::try_from(bits).ok());
        let start = match entry.value(gimli::DW_AT_data_member_location) {
            None => 0,
            Some(AttributeValue::Exprloc(expression)) => {
                match expression.operations(unit.encoding()).next() {
                    Ok(Some(Operation::PlusConstant { value })) => value,
                    Ok(Some(Operation::UnsignedConstant { value })) => value,
                    _ => 0,
                }
            }
            Some(value) => value.udata_value().unwrap_or(0),
        };
        let mut bit_offset = start.saturating_mul(8);
        if let Some(bits) = bits {
            if let Some(direct) = entry.number(gimli::DW_AT_data_bit_offset) {
                bit_offset = bit_offset.saturating_add(direct);
            } else if let Some(from_top) = entry.number(gimli::DW_AT_bit_offset) {
                // Up to DWARF 3: bits from the most significant end of a unit of this size, which is the
                // end that big-endian machines store first.
                let unit_bits = match entry.number(gimli::DW_AT_byte_size) {
                    Some(bytes) => bytes.saturating_mul(8),
                    None => 32,
                };
                let before = match self.debug.file.endian() {
                    Endian::Big => from_top,
                    Endian::Little => {
                        unit_bits.wrapping_sub(from_top.wrapping_add(u64::from(bits)))
                    }
                };
                bit_offset = bit_offset.saturating_add(before & 0xffff);
            }
        }
        Ok(Member {
            name: self.text(unit, entry, gimli::DW_AT_name)?,
            type_: self.target(unit, entry)?,
            bit_offset,
            bits,
        })
    }

    fn enumerators(
        &self,
        unit: &Unit<Slice<'a>>,
        inside: UnitOffset,
    ) -> Result<Vec<(String, i64)>, ReadError> {
        let mut values = Vec::new();
        self.children(unit, inside, |entry| {
            let value = entry.attribute(gimli::DW_AT_const_value).and_then(signed);
            if let (Some(name), Some(value)) = (self.text(unit, entry, gimli::DW_AT_name)?, value) {
                values.push((name, value));
            }
            Ok(())
        })?;
        Ok(values)
    }

    /// An array: one dimension a subrange, the outermost one first.
    fn array(
        &self,
        unit: &Unit<Slice<'a>>,
        inside: UnitOffset,
        element: TypeRef,
        size: Option<u64>,
    ) -> Result<Type, ReadError> {
        let mut dimensions = Vec::new();
        self.children(unit, inside, |entry| {
            if entry.tag == gimli::DW_TAG_subrange_type && dimensions.len() < MAX_DIMENSIONS {
                let count = entry.number(gimli::DW_AT_count);
                let upper = entry.number(gimli::DW_AT_upper_bound);
                dimensions.push(count.or_else(|| upper?.checked_add(1)));
            }
            Ok(())
        })?;
        let mut inner = element;
        while dimensions.len() > 1 {
            let len = dimensions.pop().flatten().unwrap_or(0);
            inner = TypeRef::Array(Arc::new(inner), len);
        }
        Ok(Type {
            name: None,
            kind: TypeKind::Array(inner, dimensions.pop().flatten()),
            size,
        })
    }
}

/// Whether an entry is a part of a structure that takes memory.
pub(super) fn is_member(tag: gimli::DwTag) -> bool {
    matches!(tag, gimli::DW_TAG_member | gimli::DW_TAG_inheritance)
}

/// The number of a constant.
pub(super) fn signed(value: &Attribute<Slice<'_>>) -> Option<i64> {
    let unsigned = || value.udata_value().map(u64::cast_signed);
    value.sdata_value().or_else(unsigned)
}

fn base(entry: &Entry<'_>) -> TypeKind {
    let encoding = match entry.value(gimli::DW_AT_encoding) {
        Some(AttributeValue::Encoding(encoding)) => encoding,
        _ => gimli::DW_ATE_unsigned,
    };
    match encoding {
        gimli::DW_ATE_boolean => TypeKind::Bool,
        gimli::DW_ATE_float => TypeKind::Float,
        gimli::DW_ATE_signed => TypeKind::Int { signed: true },
        gimli::DW_ATE_signed_char => TypeKind::Char { signed: true },
        gimli::DW_ATE_unsigned_char | gimli::DW_ATE_UTF => TypeKind::Char { signed: false },
        _ => TypeKind::Int { signed: false },
    }
}
