//! From the tree of an expression to its value.

use super::{EvalError, Expr, NoValue, TypeName, parse};
use crate::types::{Member, Tag, TypeKind, TypeRef, Types, Variant, Variants};
use crate::variables::Variable;
use std::ops::Range;
use std::sync::Arc;
use vmcore::space::AddressSpace;
use vmcore_format::addr::VirtAddr;
use vmcore_format::endian::Endian;

/// Names for the spellings that compilers give to basic types.
const SPELLINGS: [(&str, &[&str]); 8] = [
    ("unsigned int", &["unsigned int", "uint32_t"]),
    ("unsigned long", &["unsigned long", "long unsigned int"]),
    ("long", &["long", "long int"]),
    ("unsigned short", &["unsigned short", "short unsigned int"]),
    ("short", &["short", "short int"]),
    ("long long", &["long long", "long long int"]),
    (
        "unsigned long long",
        &["unsigned long long", "long long unsigned int"],
    ),
    ("bool", &["_Bool", "bool"]),
];

/// A typed value: in memory, or computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Its type.
    pub type_: TypeRef,
    /// Where it is.
    pub location: Location,
}

/// Where a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In memory.
    Memory(VirtAddr),
    /// In a few bits of memory.
    Bits {
        /// Start of the structure.
        base: VirtAddr,
        /// First bit behind it.
        bit_offset: u64,
        /// How many, up to 64.
        bits: u32,
    },
    /// Nowhere: it was computed.
    Number(i128),
    /// In an object that was put together: of registers, constants and pieces of memory.
    Pieces {
        /// The object.
        of: Arc<Pieces>,
        /// First bit of the value in it.
        bit_offset: u64,
        /// How many bits, if it is a bit field.
        bits: Option<u32>,
    },
    /// Nowhere: a pointer whose value the compiler did not keep, to an object whose value it did.
    Synthetic {
        /// The object.
        to: Arc<Location>,
        /// Bytes from the start of it.
        offset: i64,
    },
}

/// An object whose bytes are not in memory in one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pieces {
    /// Its bytes, in the byte order of the machine.
    pub bytes: Vec<u8>,
    /// Bits that have no value, and why.
    pub gaps: Vec<(Range<u64>, NoValue)>,
}

impl Location {
    /// The location of a part that starts so many bits after this location; `None` for what has no parts.
    pub(crate) fn part(&self, offset: u64, bits: Option<u32>) -> Option<Self> {
        let bits = bits.map(|bits| bits.min(64));
        Some(match (self, bits) {
            (Self::Memory(base), Some(bits)) => Self::Bits {
                base: *base,
                bit_offset: offset,
                bits,
            },
            (Self::Memory(base), None) => Self::Memory(VirtAddr(base.0.wrapping_add(offset / 8))),
            (Self::Pieces { of, bit_offset, .. }, bits) => Self::Pieces {
                of: of.clone(),
                bit_offset: bit_offset.saturating_add(offset),
                bits,
            },
            (Self::Bits { .. } | Self::Number(_) | Self::Synthetic { .. }, _) => return None,
        })
    }

    /// The address, if it is memory.
    pub(crate) const fn address(&self) -> Option<VirtAddr> {
        match self {
            Self::Memory(address) => Some(*address),
            _ => None,
        }
    }
}

/// Where variables get their addresses from.
pub trait SymbolSource {
    /// The address of a symbol.
    fn symbol(&self, name: &str) -> Option<VirtAddr>;
}

/// Evaluates expressions over the memory of a dump.
#[derive(Clone, Copy)]
pub struct Evaluator<'a, 't> {
    /// The memory.
    pub space: AddressSpace<'a>,
    /// The types.
    pub types: &'a Types<'t>,
    /// The symbols.
    pub symbols: &'a dyn SymbolSource,
    /// Variables of a frame, which come before all others; of equal names the last counts.
    pub locals: &'a [Variable],
}

impl std::fmt::Debug for Evaluator<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evaluator").finish_non_exhaustive()
    }
}

impl Evaluator<'_, '_> {
    /// The value of an expression.
    ///
    /// # Errors
    /// Returns an error if it is no expression, or a name, a type or memory is missing.
    pub fn evaluate(&self, text: &str) -> Result<Value, EvalError> {
        let is_type = |name: &str| match self.types.find(Tag::Plain, name) {
            _ if self.local(name).is_some() => false,
            Some(_) => true,
            // Rust and C++ leave out `struct`.
            None => self.symbols.symbol(name).is_none() && self.untagged(name).is_some(),
        };
        self.eval(&parse(text, &is_type)?)
    }

    fn eval(&self, expr: &Expr) -> Result<Value, EvalError> {
        match expr {
            Expr::Number(value) => Ok(number(i128::from(*value))),
            Expr::Name(name) => self.variable(name),
            Expr::Member(of, name) => {
                let of = self.eval(of)?;
                self.member(&of, name)
            }
            Expr::Index(of, index) => {
                let (of, index) = (self.eval(of)?, self.eval(index)?);
                let index = self.load(&index)?;
                self.element(&of, index)
            }
            Expr::Deref(of) => {
                let of = self.eval(of)?;
                self.element(&of, 0)
            }
            Expr::AddressOf(of) => self.address_of(of),
            Expr::Unary(operator, of) => {
                let of = self.eval(of)?;
                let value = self.load(&of)?;
                Ok(match operator {
                    '-' => number(value.wrapping_neg()),
                    '~' => number(!value),
                    _ => number(i128::from(value == 0)),
                })
            }
            Expr::Binary(operator, left, right) => {
                let (left, right) = (self.eval(left)?, self.eval(right)?);
                self.binary(operator, &left, &right)
            }
            Expr::Cast(type_, of) => {
                let type_ = self.type_named(type_)?;
                self.cast(type_, self.eval(of)?)
            }
            Expr::SizeOfType(type_) => {
                let type_ = self.type_named(type_)?;
                Ok(number(i128::from(self.types.size_of(&type_)?)))
            }
            Expr::SizeOf(of) => {
                let of = self.eval(of)?;
                Ok(number(i128::from(self.types.size_of(&of.type_)?)))
            }
        }
    }

    fn local(&self, name: &str) -> Option<&Variable> {
        self.locals.iter().rev().find(|local| local.name == name)
    }

    fn variable(&self, name: &str) -> Result<Value, EvalError> {
        if let Some(local) = self.local(name) {
            return Ok(local.value.clone()?);
        }
        let symbol = self.symbols.symbol(name);
        if let Some(variable) = self.types.variable(name, symbol)
            && let Some(address) = symbol.or(variable.address)
        {
            return Ok(Value {
                type_: variable.type_,
                location: Location::Memory(address),
            });
        }
        if let Some(value) = self.types.enumerator(name) {
            return Ok(number(i128::from(value)));
        }
        let name = name.to_owned();
        Err(match symbol {
            Some(_) => EvalError::Untyped { name },
            None => EvalError::Unknown {
                what: "variable",
                name,
            },
        })
    }

    /// `&x` works for a symbol without a type too.
    fn address_of(&self, of: &Expr) -> Result<Value, EvalError> {
        let value = match (self.eval(of), of) {
            (Ok(value), _) => value,
            (Err(EvalError::Untyped { .. }), Expr::Name(name)) => Value {
                type_: TypeRef::Void,
                location: Location::Memory(self.symbols.symbol(name).unwrap_or_default()),
            },
            (Err(error), _) => return Err(error),
        };
        match value.location {
            Location::Memory(address) => Ok(Value {
                type_: value.type_.pointer(),
                location: Location::Number(i128::from(address.0)),
            }),
            _ => Err(self.unfit(&value.type_, "has no address here")),
        }
    }

    fn unfit(&self, type_: &TypeRef, reason: &'static str) -> EvalError {
        EvalError::Unfit {
            type_: self.types.name_of(type_),
            reason,
        }
    }

    /// The type that a name in an expression stands for.
    ///
    /// # Errors
    /// Returns an error if there is no such type.
    pub fn type_named(&self, wanted: &TypeName) -> Result<TypeRef, EvalError> {
        let mut found = self.base_type(wanted)?;
        for _ in 0..wanted.pointers.min(16) {
            found = found.pointer();
        }
        for len in wanted.dimensions.iter().rev() {
            found = TypeRef::Array(Arc::new(found), *len);
        }
        Ok(found)
    }

    /// A structure, an enumeration or a union by its name alone.
    fn untagged(&self, name: &str) -> Option<TypeRef> {
        [Tag::Struct, Tag::Enum, Tag::Union]
            .into_iter()
            .find_map(|tag| self.types.find(tag, name))
    }

    fn base_type(&self, wanted: &TypeName) -> Result<TypeRef, EvalError> {
        if wanted.tag == Tag::Plain && wanted.name == "void" {
            return Ok(TypeRef::Void);
        }
        if let Some(found) = self.types.find(wanted.tag, &wanted.name) {
            return Ok(found);
        }
        let spelling = SPELLINGS.iter().find(|(name, _)| *name == wanted.name);
        if let (Tag::Plain, Some((_, names))) = (wanted.tag, spelling) {
            let mut names = names.iter();
            if let Some(found) = names.find_map(|name| self.types.find(Tag::Plain, name)) {
                return Ok(found);
            }
        }
        let bytes = match wanted
            .name
            .trim_start_matches("unsigned ")
            .trim_start_matches("signed ")
        {
            "char" => Some(1),
            "short" => Some(2),
            "int" => Some(4),
            "long" => u8::try_from(self.space.word().bytes()).ok(),
            "long long" => Some(8),
            _ => None,
        };
        if let (Tag::Plain, Some(bytes)) = (wanted.tag, bytes) {
            let signed = !wanted.name.starts_with("unsigned");
            return Ok(TypeRef::Int { bytes, signed });
        }
        if wanted.tag == Tag::Plain
            && let Some(found) = self.untagged(&wanted.name)
        {
            return Ok(found);
        }
        let what = match wanted.tag {
            Tag::Struct => "struct",
            Tag::Union => "union",
            Tag::Enum => "enum",
            Tag::Plain => "type",
        };
        Err(EvalError::Unknown {
            what,
            name: wanted.name.clone(),
        })
    }

    /// A member of a structure, or of the structure that a pointer points to.
    ///
    /// # Errors
    /// Returns an error if there is no such member, or the pointer cannot be read.
    pub fn member(&self, of: &Value, name: &str) -> Result<Value, EvalError> {
        let (_, type_) = self.types.resolve(&of.type_)?;
        let (structure, base) = match &type_.kind {
            TypeKind::Pointer(to) => (to.clone(), self.pointed_at(of, 0)?),
            TypeKind::Struct(_) | TypeKind::Union(_) | TypeKind::Variants(_) => {
                (of.type_.clone(), of.location.clone())
            }
            _ => return Err(self.unfit(&of.type_, "has no members")),
        };
        let Some(place) = self.types.member(&structure, name)? else {
            return Err(EvalError::NoMember {
                type_: self.types.name_of(&structure),
                member: name.to_owned(),
            });
        };
        if let TypeKind::Variants(variants) = &self.types.resolve(&structure)?.1.kind {
            self.require_variant(variants, &base, name)?;
        }
        match base.part(place.bit_offset, place.bits) {
            Some(location) => Ok(Value {
                type_: place.type_,
                location,
            }),
            None => Err(self.unfit(&of.type_, "has no members")),
        }
    }

    /// The variant that the discriminant of a structure gives.
    ///
    /// # Errors
    /// Returns an error if the discriminant cannot be read.
    pub fn variant<'v>(
        &self,
        variants: &'v Variants,
        base: &Location,
    ) -> Result<Option<&'v Variant>, EvalError> {
        let Some(discriminant) = &variants.discriminant else {
            return Ok(variants.of(0, 64));
        };
        let size = self.types.size_of(&discriminant.type_)?;
        let bits = u32::try_from(size.min(8) * 8).unwrap_or(64);
        let Some(value) = member_value(base, discriminant) else {
            return Ok(None);
        };
        Ok(variants.of(self.load(&value)?, bits))
    }

    /// Refuses a member of a variant that is not there.
    fn require_variant(
        &self,
        variants: &Variants,
        base: &Location,
        name: &str,
    ) -> Result<(), EvalError> {
        let is_named = |member: &Member| member.name.as_deref() == Some(name);
        let mut others = variants.variants.iter().map(|variant| &variant.member);
        if variants.members.iter().any(is_named) || !others.any(is_named) {
            return Ok(());
        }
        let present = self.variant(variants, base)?.map(|variant| &variant.member);
        match present {
            Some(member) if is_named(member) => Ok(()),
            _ => Err(EvalError::OtherVariant {
                asked: name.to_owned(),
                present: present.and_then(|member| member.name.clone()),
            }),
        }
    }

    /// Element `index` of an array, or of what a pointer points to.
    ///
    /// # Errors
    /// Returns an error if it is neither, or the pointer cannot be read.
    pub fn element(&self, of: &Value, index: i128) -> Result<Value, EvalError> {
        let (_, type_) = self.types.resolve(&of.type_)?;
        let (element, is_pointer) = match &type_.kind {
            TypeKind::Pointer(to) => (to.clone(), true),
            TypeKind::Array(element, _) => (element.clone(), false),
            _ => return Err(self.unfit(&of.type_, "is neither a pointer nor an array")),
        };
        let is_void = |kind: &TypeKind| matches!(kind, TypeKind::Void);
        if matches!(self.types.resolve(&element), Ok((_, to)) if is_void(&to.kind)) {
            return Err(self.unfit(&of.type_, "points to nothing known: cast it first"));
        }
        let offset = match index {
            0 => 0,
            _ => i128::from(self.types.size_of(&element)?).wrapping_mul(index),
        };
        let location = match is_pointer {
            true => self.pointed_at(of, offset)?,
            false => self.after(of, &of.location, offset)?,
        };
        Ok(Value {
            type_: element,
            location,
        })
    }

    /// What is so many bytes after what a pointer points to.
    fn pointed_at(&self, pointer: &Value, offset: i128) -> Result<Location, EvalError> {
        match &pointer.location {
            Location::Synthetic { to, offset: start } => {
                self.after(pointer, to, offset.wrapping_add(i128::from(*start)))
            }
            _ => {
                let at = self.load(pointer)?.wrapping_add(offset);
                Ok(Location::Memory(VirtAddr(low64(at))))
            }
        }
    }

    /// What is so many bytes after a location.
    fn after(&self, of: &Value, base: &Location, offset: i128) -> Result<Location, EvalError> {
        if let Location::Memory(base) = base {
            let at = i128::from(base.0).wrapping_add(offset);
            return Ok(Location::Memory(VirtAddr(low64(at))));
        }
        let bits = u64::try_from(offset).ok();
        let bits = bits.and_then(|offset| offset.checked_mul(8));
        let part = bits.and_then(|bits| base.part(bits, None));
        part.ok_or_else(|| self.unfit(&of.type_, "has no such element"))
    }

    /// A scalar as a number; an array as its address.
    ///
    /// # Errors
    /// Returns an error for a structure, and if memory is missing.
    pub fn load(&self, value: &Value) -> Result<i128, EvalError> {
        let (_, type_) = self.types.resolve(&value.type_)?;
        let signed = match &type_.kind {
            TypeKind::Int { signed } | TypeKind::Char { signed } => *signed,
            TypeKind::Enum(values) => values.iter().any(|(_, value)| *value < 0),
            TypeKind::Bool | TypeKind::Pointer(_) | TypeKind::Float => false,
            TypeKind::Array(..) | TypeKind::Function => {
                return match value.location {
                    Location::Memory(address) => Ok(i128::from(address.0)),
                    _ => Err(self.unfit(&value.type_, "has no address here")),
                };
            }
            _ => return Err(self.unfit(&value.type_, "is not a number")),
        };
        let all = u32::try_from(type_.size.unwrap_or(0).min(8) * 8).unwrap_or(64);
        let (bit_offset, bits) = match &value.location {
            Location::Number(number) => return Ok(*number),
            Location::Synthetic { .. } => return Err(NoValue::Synthetic.into()),
            Location::Memory(_) => (0, all),
            Location::Bits {
                bit_offset, bits, ..
            } => (*bit_offset, *bits),
            Location::Pieces {
                bit_offset, bits, ..
            } => (*bit_offset, bits.unwrap_or(all)),
        };
        let before = bit_offset % 8;
        let end = before + u64::from(bits);
        let len = end.div_ceil(8);
        let mut bytes = [0; 16];
        let wanted = usize::try_from(len)
            .ok()
            .and_then(|len| bytes.get_mut(..len));
        let wanted = wanted.unwrap_or_default();
        match &value.location {
            Location::Pieces { of, .. } => of.read(bit_offset, u64::from(bits), wanted)?,
            Location::Memory(base) | Location::Bits { base, .. } => {
                let first = VirtAddr(base.0.wrapping_add(bit_offset / 8));
                self.space.read_exact(first, wanted)?;
            }
            Location::Number(_) | Location::Synthetic { .. } => {}
        }
        // Bits are counted from the end of the byte that the machine stores first.
        let shift = match self.space.endian() {
            Endian::Little => before,
            Endian::Big => {
                wanted.reverse();
                len * 8 - end
            }
        };
        let raw = u128::from_le_bytes(bytes) >> shift & mask(bits);
        let raw = u64::try_from(raw).unwrap_or(0);
        Ok(extend(raw, u64::from(bits), signed))
    }

    fn cast(&self, type_: TypeRef, of: Value) -> Result<Value, EvalError> {
        let (_, to) = self.types.resolve(&type_)?;
        if matches!(
            to.kind,
            TypeKind::Struct(_) | TypeKind::Union(_) | TypeKind::Variants(_) | TypeKind::Array(..)
        ) {
            // As debuggers do: the bytes of a variable, seen as something else.
            return match of.location {
                Location::Memory(_) | Location::Pieces { .. } => Ok(Value { type_, ..of }),
                _ => Err(self.unfit(&type_, "cannot be made of a number: cast to a pointer")),
            };
        }
        let value = self.load(&of)?;
        let bits = to.size.unwrap_or(8).min(8) * 8;
        let signed = matches!(
            to.kind,
            TypeKind::Int { signed: true } | TypeKind::Char { signed: true } | TypeKind::Enum(_)
        );
        let value = extend(low64(value), bits, signed);
        Ok(Value {
            type_,
            location: Location::Number(value),
        })
    }

    fn binary(&self, operator: &str, left: &Value, right: &Value) -> Result<Value, EvalError> {
        let (a, b) = (self.load(left)?, self.load(right)?);
        if let ("+" | "-", Some(element)) = (operator, self.pointed_to(left)?) {
            let size = i128::from(self.types.size_of(&element).unwrap_or(1).max(1));
            if let ("-", Some(_)) = (operator, self.pointed_to(right)?) {
                return Ok(number(a.wrapping_sub(b) / size));
            }
            let step = size.wrapping_mul(b);
            let sum = if operator == "+" {
                a.wrapping_add(step)
            } else {
                a.wrapping_sub(step)
            };
            return Ok(Value {
                type_: element.pointer(),
                location: Location::Number(i128::from(low64(sum))),
            });
        }
        let shift = u32::try_from(b).unwrap_or(127).min(127);
        let truth = |is: bool| i128::from(is);
        Ok(number(match operator {
            "+" => a.wrapping_add(b),
            "-" => a.wrapping_sub(b),
            "*" => a.wrapping_mul(b),
            "/" | "%" if b == 0 => return Err(EvalError::DivisionByZero),
            "/" => a.wrapping_div(b),
            "%" => a.wrapping_rem(b),
            "<<" => a.checked_shl(shift).unwrap_or(0),
            ">>" => a >> shift,
            "&" => a & b,
            "|" => a | b,
            "^" => a ^ b,
            "==" => truth(a == b),
            "!=" => truth(a != b),
            "<" => truth(a < b),
            ">" => truth(a > b),
            "<=" => truth(a <= b),
            ">=" => truth(a >= b),
            "&&" => truth(a != 0 && b != 0),
            _ => truth(a != 0 || b != 0),
        }))
    }

    /// What a pointer or an array consists of.
    fn pointed_to(&self, value: &Value) -> Result<Option<TypeRef>, EvalError> {
        let (_, type_) = self.types.resolve(&value.type_)?;
        Ok(match &type_.kind {
            TypeKind::Pointer(to) | TypeKind::Array(to, _) => Some(to.clone()),
            _ => None,
        })
    }
}

/// A number of an expression: 64 bits wide, as all that can be written.
fn number(value: i128) -> Value {
    let fits = i64::try_from(value).is_ok();
    let kept = if fits {
        value
    } else {
        i128::from(low64(value))
    };
    Value {
        type_: TypeRef::Int {
            bytes: 8,
            signed: fits,
        },
        location: Location::Number(kept),
    }
}

/// The low 64 bits.
const fn low64(value: i128) -> u64 {
    let bytes = value.to_le_bytes();
    let [a, b, c, d, e, f, g, h, ..] = bytes;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

const fn mask(bits: u32) -> u128 {
    match 1_u128.checked_shl(bits) {
        Some(above) => above - 1,
        None => u128::MAX,
    }
}

/// A number of so many bits, with its sign if it has one.
fn extend(raw: u64, bits: u64, signed: bool) -> i128 {
    let bits = u32::try_from(bits).unwrap_or(64).min(64);
    let value = u128::from(raw) & mask(bits);
    let negative = signed && bits > 0 && value >> (bits - 1) & 1 == 1;
    let above = if negative { !mask(bits) } else { 0 };
    (value | above).cast_signed()
}

/// A member of the structure at `base`.
pub(crate) fn member_value(base: &Location, member: &Member) -> Option<Value> {
    Some(Value {
        type_: member.type_.clone(),
        location: base.part(member.bit_offset, member.bits)?,
    })
}

impl Pieces {
    /// Copies the bytes that hold so many bits.
    pub(crate) fn read(&self, bit_offset: u64, bits: u64, to: &mut [u8]) -> Result<(), NoValue> {
        let end = bit_offset.saturating_add(bits);
        let mut gaps = self.gaps.iter();
        if let Some((_, why)) = gaps.find(|(gap, _)| gap.start < end && bit_offset < gap.end) {
            return Err(why.clone());
        }
        let start = usize::try_from(bit_offset / 8).unwrap_or(usize::MAX);
        let from = self
            .bytes
            .get(start..)
            .and_then(|rest| rest.get(..to.len()));
        to.copy_from_slice(from.ok_or(NoValue::OptimizedOut)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_sign_at_every_width() {
        assert_eq!(extend(0xff, 8, true), -1);
        assert_eq!(extend(0xff, 8, false), 255);
        assert_eq!(extend(0x1ff, 8, false), 255);
        assert_eq!(extend(u64::MAX, 64, true), -1);
        assert_eq!(extend(u64::MAX, 64, false), i128::from(u64::MAX));
        assert_eq!(extend(5, 0, true), 0);
        assert_eq!(low64(-1), u64::MAX);
    }
}
