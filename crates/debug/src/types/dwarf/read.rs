//! One entry of `.debug_info`, read into a type or a variable.

use super::{DwarfTypes, Slice};
use crate::types::{Kind, Member, Tag, Type, TypeError, TypeRef, Variable};
use gimli::{AttributeValue, DebuggingInformationEntry, EndianSlice, Operation, Unit, UnitOffset};
use std::sync::Arc;
use vmcore_format::addr::VirtAddr;

/// Members, enumerators or dimensions that are read of one type.
const MAX_CHILDREN: usize = 1 << 16;

type Entry<'a> = DebuggingInformationEntry<Slice<'a>>;

impl<'a> DwarfTypes<'a> {
    pub(in crate::types) fn read(&self, offset: usize) -> Result<Type, TypeError> {
        let damaged = |reason: &str| TypeError::Damaged {
            offset,
            reason: reason.to_owned(),
        };
        let (unit, inside) = self.unit_of(offset).ok_or_else(|| damaged("no unit"))?;
        let entry = unit
            .entry(inside)
            .map_err(|error| damaged(&error.to_string()))?;
        let name = self.string(&unit, &entry, gimli::DW_AT_name);
        let size = number(&entry, gimli::DW_AT_byte_size);
        let target = || self.target(&unit, &entry, gimli::DW_AT_type);
        let declared = flag(&entry, gimli::DW_AT_declaration);
        let kind = match entry.tag() {
            gimli::DW_TAG_base_type => base(&entry),
            gimli::DW_TAG_unspecified_type => Kind::Void,
            gimli::DW_TAG_pointer_type
            | gimli::DW_TAG_reference_type
            | gimli::DW_TAG_rvalue_reference_type => {
                let size = size.or(Some(u64::from(unit.encoding().address_size)));
                let kind = Kind::Pointer(target()?);
                return Ok(Type { name, kind, size });
            }
            gimli::DW_TAG_structure_type | gimli::DW_TAG_class_type if declared => {
                Kind::Declared(Tag::Struct)
            }
            gimli::DW_TAG_union_type if declared => Kind::Declared(Tag::Union),
            gimli::DW_TAG_enumeration_type if declared => Kind::Declared(Tag::Enum),
            gimli::DW_TAG_structure_type | gimli::DW_TAG_class_type => {
                Kind::Struct(self.members(&unit, inside, offset)?)
            }
            gimli::DW_TAG_union_type => Kind::Union(self.members(&unit, inside, offset)?),
            gimli::DW_TAG_enumeration_type => Kind::Enum(self.enumerators(&unit, inside, offset)?),
            gimli::DW_TAG_typedef => Kind::Typedef(target()?),
            gimli::DW_TAG_const_type => Kind::Qualified("const", target()?),
            gimli::DW_TAG_volatile_type => Kind::Qualified("volatile", target()?),
            gimli::DW_TAG_restrict_type => Kind::Qualified("restrict", target()?),
            gimli::DW_TAG_atomic_type => Kind::Qualified("_Atomic", target()?),
            gimli::DW_TAG_array_type => return self.array(&unit, inside, offset, target()?, size),
            gimli::DW_TAG_subroutine_type | gimli::DW_TAG_subprogram => Kind::Function,
            tag => return Err(damaged(&format!("{tag} is no type"))),
        };
        Ok(Type { name, kind, size })
    }

    pub(in crate::types) fn read_variable(&self, offset: usize) -> Option<Variable> {
        let (unit, inside) = self.unit_of(offset)?;
        let entry = unit.entry(inside).ok()?;
        let address = self.address(&unit, &entry);
        let type_ = match entry.attr_value(gimli::DW_AT_type) {
            Some(_) => self.target(&unit, &entry, gimli::DW_AT_type).ok()?,
            None => {
                let AttributeValue::UnitRef(declaration) =
                    entry.attr_value(gimli::DW_AT_specification)?
                else {
                    return None;
                };
                let declaration = unit.entry(declaration).ok()?;
                self.target(&unit, &declaration, gimli::DW_AT_type).ok()?
            }
        };
        Some(Variable { type_, address })
    }

    /// The address of a static variable: the only operation of its location.
    fn address(&self, unit: &Unit<Slice<'a>>, entry: &Entry<'a>) -> Option<VirtAddr> {
        let location = entry.attr(gimli::DW_AT_location)?.exprloc_value()?;
        let operation = location.operations(unit.encoding()).next().ok()??;
        let address = match operation {
            Operation::Address { address } => address,
            Operation::AddressIndex { index } => self.dwarf.address(unit, index).ok()?,
            _ => return None,
        };
        Some(VirtAddr(address.wrapping_add(self.bias)))
    }

    fn string(
        &self,
        unit: &Unit<Slice<'a>>,
        entry: &Entry<'a>,
        name: gimli::DwAt,
    ) -> Option<String> {
        let value = entry.attr_value(name)?;
        let text = self.dwarf.attr_string(unit, value).ok()?;
        Some(text.to_string_lossy().into_owned())
    }

    /// The type that an attribute names; without the attribute, `void`.
    fn target(
        &self,
        unit: &Unit<Slice<'a>>,
        entry: &Entry<'a>,
        name: gimli::DwAt,
    ) -> Result<TypeRef, TypeError> {
        let offset = match entry.attr_value(name) {
            None => return Ok(TypeRef::Void),
            Some(AttributeValue::UnitRef(offset)) => offset
                .to_debug_info_offset(&unit.header)
                .map(|offset| offset.0),
            Some(AttributeValue::DebugInfoRef(offset)) => Some(offset.0),
            Some(_) => None,
        };
        let offset = offset.ok_or_else(|| TypeError::Damaged {
            offset: entry.offset().0,
            reason: "a reference of a kind that is not read here".to_owned(),
        })?;
        Ok(TypeRef::Id(self.id(offset)))
    }

    /// Calls `each` with every direct child of an entry.
    fn children(
        &self,
        unit: &Unit<Slice<'a>>,
        inside: UnitOffset,
        offset: usize,
        mut each: impl FnMut(&Entry<'a>) -> Result<(), TypeError>,
    ) -> Result<(), TypeError> {
        let damaged = |error: gimli::Error| TypeError::Damaged {
            offset,
            reason: error.to_string(),
        };
        let mut entries = unit.entries_at_offset(inside).map_err(damaged)?;
        let mut count = 0;
        entries.next_dfs().map_err(damaged)?;
        loop {
            let Some(entry) = entries.next_dfs().map_err(damaged)? else {
                return Ok(());
            };
            if entry.depth() <= 0 || count >= MAX_CHILDREN {
                return Ok(());
            }
            if entry.depth() == 1 {
                count += 1;
                each(entry)?;
            }
        }
    }

    fn members(
        &self,
        unit: &Unit<Slice<'a>>,
        inside: UnitOffset,
        offset: usize,
    ) -> Result<Vec<Member>, TypeError> {
        let mut members = Vec::new();
        self.children(unit, inside, offset, |entry| {
            if entry.tag() == gimli::DW_TAG_member || entry.tag() == gimli::DW_TAG_inheritance {
                members.push(self.member_of(unit, entry)?);
            }
            Ok(())
        })?;
        Ok(members)
    }

    fn member_of(&self, unit: &Unit<Slice<'a>>, entry: &Entry<'a>) -> Result<Member, TypeError> {
        let bits = number(entry, gimli::DW_AT_bit_size).and_then(|bits| u32::try_from(bits).ok());
        let start = match entry.attr_value(gimli::DW_AT_data_member_location) {
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
            if let Some(direct) = number(entry, gimli::DW_AT_data_bit_offset) {
                bit_offset = bit_offset.saturating_add(direct);
            } else if let Some(from_top) = number(entry, gimli::DW_AT_bit_offset) {
                // Up to DWARF 3: bits from the most significant end of a unit of this size.
                let unit_bits = match number(entry, gimli::DW_AT_byte_size) {
                    Some(bytes) => bytes.saturating_mul(8),
                    None => 32,
                };
                let from_bottom = unit_bits.wrapping_sub(from_top.wrapping_add(u64::from(bits)));
                bit_offset = bit_offset.saturating_add(from_bottom & 0xffff);
            }
        }
        Ok(Member {
            name: self.string(unit, entry, gimli::DW_AT_name),
            type_: self.target(unit, entry, gimli::DW_AT_type)?,
            bit_offset,
            bits,
        })
    }

    fn enumerators(
        &self,
        unit: &Unit<Slice<'a>>,
        inside: UnitOffset,
        offset: usize,
    ) -> Result<Vec<(String, i64)>, TypeError> {
        let mut values = Vec::new();
        self.children(unit, inside, offset, |entry| {
            let value = entry.attr(gimli::DW_AT_const_value);
            let value = value.and_then(|value| {
                value
                    .sdata_value()
                    .or_else(|| value.udata_value().map(u64::cast_signed))
            });
            if let (Some(name), Some(value)) = (self.string(unit, entry, gimli::DW_AT_name), value)
            {
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
        offset: usize,
        element: TypeRef,
        size: Option<u64>,
    ) -> Result<Type, TypeError> {
        let mut dimensions = Vec::new();
        self.children(unit, inside, offset, |entry| {
            if entry.tag() == gimli::DW_TAG_subrange_type {
                dimensions.push(
                    number(entry, gimli::DW_AT_count)
                        .or_else(|| number(entry, gimli::DW_AT_upper_bound)?.checked_add(1)),
                );
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
            kind: Kind::Array(inner, dimensions.pop().flatten()),
            size,
        })
    }
}

fn number(entry: &Entry<'_>, name: gimli::DwAt) -> Option<u64> {
    entry.attr(name)?.udata_value()
}

fn flag(entry: &Entry<'_>, name: gimli::DwAt) -> bool {
    entry.attr_value(name) == Some(AttributeValue::<EndianSlice<'_, _>, _>::Flag(true))
}

fn base(entry: &Entry<'_>) -> Kind {
    let encoding = match entry.attr_value(gimli::DW_AT_encoding) {
        Some(AttributeValue::Encoding(encoding)) => encoding,
        _ => gimli::DW_ATE_unsigned,
    };
    match encoding {
        gimli::DW_ATE_boolean => Kind::Bool,
        gimli::DW_ATE_float => Kind::Float,
        gimli::DW_ATE_signed => Kind::Int { signed: true },
        gimli::DW_ATE_signed_char => Kind::Char { signed: true },
        gimli::DW_ATE_unsigned_char | gimli::DW_ATE_UTF => Kind::Char { signed: false },
        _ => Kind::Int { signed: false },
    }
}
