//! Values for people and for machines: structures with their members, pointers with the symbol or
//! the string they point to, lists walked to their end.
//!
//! A [`Shown`] is a tree that prints as C writes it and serialises. It is bounded in depth, in
//! elements and in all: memory may hold anything.
//!
//! ```
//! use vmcore_debug::show::{Content, Shown};
//! let shown = Shown { type_: "int".into(), address: None, content: Content::Number(-5) };
//! assert_eq!(shown.to_string(), "-5");
//! ```

mod rust;

use crate::expr::{EvalError, Evaluator, Location, Value, member_value};
use crate::types::{Member, Type, TypeKind, TypeRef, Variants};
use serde::Serialize;
use std::collections::HashSet;
use std::fmt;
use vmcore_format::addr::VirtAddr;
use vmcore_format::endian::Width;

/// Levels of values in values, whatever is asked for: arrays of arrays count too.
const MAX_LEVELS: usize = 100;
/// Characters that count as much as a value.
const TEXT_STEP: usize = 64;

/// How much is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Levels of structures inside structures.
    pub depth: usize,
    /// Elements of an array.
    pub elements: usize,
    /// Bytes of a string.
    pub string_len: usize,
    /// Values in all.
    pub values: usize,
}

impl Options {
    /// A value in a line, as an argument in a backtrace.
    pub const BRIEF: Self = Self {
        depth: 1,
        elements: 8,
        string_len: 48,
        values: 32,
    };
}

impl Default for Options {
    fn default() -> Self {
        Self {
            depth: 4,
            elements: 200,
            string_len: 200,
            values: 50_000,
        }
    }
}

/// A value, read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shown {
    /// The name of its type.
    #[serde(rename = "type")]
    pub type_: String,
    /// Where it is in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<VirtAddr>,
    /// What it is.
    #[serde(flatten)]
    pub content: Content,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "value")]
pub enum Content {
    /// An integer; as text in JSON, where large numbers lose digits.
    #[serde(serialize_with = "as_text")]
    Number(i128),
    /// An integer that is an address: of such a type, or in the kernel.
    Address(VirtAddr),
    /// A truth value.
    Bool(bool),
    /// A floating-point number.
    Float(f64),
    /// An enumerator and its number.
    Enum {
        /// Its name, if the number has one.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// The number.
        #[serde(serialize_with = "as_text")]
        number: i128,
    },
    /// A pointer.
    Pointer {
        /// Where to.
        to: VirtAddr,
        /// The symbol there: `name+0x10`.
        #[serde(skip_serializing_if = "Option::is_none")]
        symbol: Option<String>,
        /// The string there.
        #[serde(skip_serializing_if = "Option::is_none")]
        string: Option<String>,
    },
    /// An array of characters, up to its NUL.
    String(String),
    /// An array.
    Array {
        /// The first elements.
        elements: Vec<Shown>,
        /// How many follow them.
        omitted: u64,
    },
    /// A structure or union: its members by name, in their order.
    Struct(Vec<(String, Shown)>),
    /// One of the variants of a Rust `enum`: `State::Busy { since: 99 }`.
    Variant {
        /// Its name.
        name: String,
        /// What it holds, by name.
        members: Vec<(String, Shown)>,
    },
    /// Deeper than asked for.
    Elided,
    /// It cannot be read; and why.
    Unreadable(String),
}

/// Integers as text.
fn as_text<S: serde::Serializer>(number: &i128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

/// Names the symbol at an address.
pub type NameAt<'a> = &'a dyn Fn(VirtAddr) -> Option<String>;

/// The end of a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "end")]
pub enum ListEnd {
    /// A null pointer, or back at the start.
    Complete,
    /// As many elements as were asked for.
    Limit,
    /// An element that was there before: the list is damaged.
    Loop {
        /// It.
        at: VirtAddr,
    },
    /// A link that cannot be read.
    Unreadable {
        /// Why.
        reason: String,
    },
}

/// A list, walked.
#[derive(Clone, Debug, PartialEq)]
pub struct Walked {
    /// Its elements: structures in memory.
    pub elements: Vec<Value>,
    /// How it ended.
    pub end: ListEnd,
}

/// Typedefs of integers that are addresses, or registers, which mostly hold some.
const ADDRESSES: [&str; 14] = [
    "register_t",
    "__register_t",
    "u_register_t",
    "__u_register_t",
    "vm_offset_t",
    "__vm_offset_t",
    "vm_paddr_t",
    "__vm_paddr_t",
    "uintptr_t",
    "__uintptr_t",
    "intptr_t",
    "__intptr_t",
    "caddr_t",
    "db_addr_t",
];

/// The members of a link, by which a list goes on: of LIST, TAILQ, SLIST and STAILQ.
const NEXTS: [&str; 4] = ["le_next", "tqe_next", "sle_next", "stqe_next"];
/// Members that head a list of FreeBSD's `queue.h`.
const HEADS: [&str; 4] = ["lh_first", "tqh_first", "slh_first", "stqh_first"];

/// Reads a value.
#[must_use]
pub fn show(
    evaluator: &Evaluator<'_, '_>,
    value: &Value,
    options: &Options,
    name_at: NameAt<'_>,
) -> Shown {
    let mut reader = Reader {
        evaluator,
        options,
        name_at,
        left: options.values,
        level: 0,
    };
    reader.shown(value, options.depth)
}

/// Follows a list from `start`, a structure, a pointer to one, or the head of a list, by the
/// member path `link` such as `p_list` or `p_list.le_next`.
///
/// # Errors
/// Returns an error if the start is nothing that a list can start with, or has no such link.
pub fn walk(
    evaluator: &Evaluator<'_, '_>,
    start: &Value,
    link: &str,
    limit: usize,
) -> Result<Walked, EvalError> {
    let mut walked = Walked {
        elements: Vec::new(),
        end: ListEnd::Complete,
    };
    let mut next = first(evaluator, start)?;
    let mut seen = HashSet::new();
    while let Some(element) = next {
        let Location::Memory(address) = element.location else {
            break;
        };
        if walked.elements.len() >= limit {
            walked.end = ListEnd::Limit;
            break;
        }
        if !seen.insert(address) {
            // Some lists are rings.
            let is_first = walked.elements.first() == Some(&element);
            if !is_first {
                walked.end = ListEnd::Loop { at: address };
            }
            break;
        }
        let followed = follow(evaluator, &element, link);
        let is_first = walked.elements.is_empty();
        walked.elements.push(element);
        next = match followed {
            Ok(next) => next,
            Err(error @ EvalError::NoMember { .. }) if is_first => return Err(error),
            Err(error) => {
                let reason = error.to_string();
                walked.end = ListEnd::Unreadable { reason };
                break;
            }
        };
    }
    Ok(walked)
}

/// The first element of a list.
fn first(evaluator: &Evaluator<'_, '_>, start: &Value) -> Result<Option<Value>, EvalError> {
    let (_, type_) = evaluator.types.resolve(&start.type_)?;
    match &type_.kind {
        TypeKind::Pointer(_) => pointed(evaluator, start),
        TypeKind::Struct(members) => {
            let names = members.iter().filter_map(|member| member.name.as_deref());
            match names.clone().find(|name| HEADS.contains(name)) {
                Some(head) => pointed(evaluator, &evaluator.member(start, head)?),
                None => Ok(Some(start.clone())),
            }
        }
        _ => Err(EvalError::Unfit {
            type_: evaluator.types.name_of(&start.type_),
            reason: "is not a list",
        }),
    }
}

/// What a pointer points to; `None` for a null pointer.
fn pointed(evaluator: &Evaluator<'_, '_>, pointer: &Value) -> Result<Option<Value>, EvalError> {
    match evaluator.load(pointer)? {
        0 => Ok(None),
        _ => evaluator.element(pointer, 0).map(Some),
    }
}

fn follow(
    evaluator: &Evaluator<'_, '_>,
    element: &Value,
    link: &str,
) -> Result<Option<Value>, EvalError> {
    let mut at = element.clone();
    for name in link.split('.') {
        at = evaluator.member(&at, name)?;
    }
    // The name of the link itself, such as `p_list`, is enough.
    let (_, type_) = evaluator.types.resolve(&at.type_)?;
    if let TypeKind::Struct(members) = &type_.kind {
        let mut names = members.iter().filter_map(|member| member.name.as_deref());
        if let Some(next) = names.find(|name| NEXTS.contains(name)) {
            at = evaluator.member(&at, next)?;
        }
    }
    pointed(evaluator, &at)
}

/// Whether a typedef names integers that are addresses or registers.
fn is_address_name(name: Option<&str>) -> bool {
    name.is_some_and(|name| ADDRESSES.contains(&name))
}

struct Reader<'a, 't> {
    evaluator: &'a Evaluator<'a, 't>,
    options: &'a Options,
    name_at: NameAt<'a>,
    /// Values that may still be read.
    left: usize,
    /// Values that this one is in.
    level: usize,
}

impl Reader<'_, '_> {
    fn shown(&mut self, value: &Value, depth: usize) -> Shown {
        let address = value.location.address();
        let type_ = self.evaluator.types.name_of(&value.type_);
        let content = if self.left == 0 || self.level >= MAX_LEVELS {
            Content::Elided
        } else {
            self.left = self.left.saturating_sub(1 + type_.len() / TEXT_STEP);
            self.level += 1;
            let content = self.content(value, depth);
            self.level -= 1;
            content.unwrap_or_else(|error| Content::Unreadable(error.to_string()))
        };
        Shown {
            type_,
            address,
            content,
        }
    }

    fn content(&mut self, value: &Value, depth: usize) -> Result<Content, EvalError> {
        let (_, type_) = self.evaluator.types.resolve(&value.type_)?;
        Ok(match &type_.kind {
            TypeKind::Struct(members) | TypeKind::Union(members) => {
                let name = type_.name.as_deref().unwrap_or_default();
                if let Some(known) = self.of_rust(value, name, members, depth) {
                    return known;
                }
                if depth == 0 {
                    return Ok(Content::Elided);
                }
                self.members(value, members, depth)
            }
            TypeKind::Variants(variants) => {
                if depth == 0 {
                    return Ok(Content::Elided);
                }
                return self.variant(value, &type_, variants, depth);
            }
            TypeKind::Array(element, len) => return self.array(value, element, *len, depth),
            TypeKind::Enum(values) => {
                let number = self.evaluator.load(value)?;
                let name = values
                    .iter()
                    .find(|(_, known)| i128::from(*known) == number)
                    .map(|(name, _)| name.clone());
                Content::Enum { name, number }
            }
            TypeKind::Bool => match self.evaluator.load(value)? {
                0 => Content::Bool(false),
                1 => Content::Bool(true),
                other => Content::Number(other),
            },
            TypeKind::Float => self.float(value, &type_)?,
            TypeKind::Pointer(to) => {
                let to_type = to.clone();
                let number = self.evaluator.load(value)?;
                self.pointer(number, &to_type)
            }
            TypeKind::Void | TypeKind::Function => Content::Elided,
            _ => self.number(value, self.evaluator.load(value)?),
        })
    }

    /// An integer: as an address, if its type or its value says that it is one.
    fn number(&self, value: &Value, number: i128) -> Content {
        let word = self.evaluator.space.word();
        let bits = u32::try_from(8 * word.bytes()).unwrap_or(64);
        let unsigned = number & ((1_i128 << bits) - 1);
        let (Ok(address), Ok(size)) = (
            u64::try_from(unsigned).map(VirtAddr),
            self.evaluator.types.size_of(&value.type_),
        ) else {
            return Content::Number(number);
        };
        let in_memory = !matches!(value.location, Location::Number(_));
        let in_kernel = || match word {
            // The upper part of what a register holds; and not a small number below 0.
            Width::W64 => address.0 >> 47 == 0x1_ffff && address.0 >> 20 != u64::MAX >> 20,
            Width::W32 => (self.name_at)(address).is_some() && address.0 >> 16 != 0,
        };
        let whole = size == word.bytes() && in_memory;
        match whole && (self.is_address(&value.type_) || in_kernel()) {
            true => Content::Address(address),
            false => Content::Number(number),
        }
    }

    /// Whether a type is one that holds addresses.
    fn is_address(&self, type_: &TypeRef) -> bool {
        let mut at = type_.clone();
        for _ in 0..MAX_LEVELS {
            let Ok(read) = self.evaluator.types.get(&at) else {
                return false;
            };
            at = match &read.kind {
                TypeKind::Typedef(_) if is_address_name(read.name.as_deref()) => return true,
                TypeKind::Typedef(to) | TypeKind::Qualified(_, to) => to.clone(),
                _ => return false,
            };
        }
        false
    }

    /// The variant of a structure that its discriminant says.
    fn variant(
        &mut self,
        value: &Value,
        type_: &Type,
        variants: &Variants,
        depth: usize,
    ) -> Result<Content, EvalError> {
        let chosen = self.evaluator.variant(variants, &value.location)?;
        let mut members = match self.members(value, &variants.members, depth) {
            Content::Struct(members) => members,
            _ => Vec::new(),
        };
        let Some(chosen) = chosen else {
            return Ok(Content::Struct(members));
        };
        let Some(inner) = member_value(&value.location, &chosen.member) else {
            return Ok(Content::Elided);
        };
        let shown = self.shown(&inner, depth);
        match shown.content {
            Content::Struct(own) => members.extend(own),
            _ => members.push((String::new(), shown)),
        }
        let variant = chosen.member.name.as_deref().unwrap_or("?");
        let name = match type_
            .name
            .as_deref()
            .and_then(|name| name.split('<').next())
        {
            // These are known without their type.
            None | Some("Option" | "Result") => variant.to_owned(),
            Some(name) => format!("{name}::{variant}"),
        };
        Ok(Content::Variant { name, members })
    }

    fn members(&mut self, value: &Value, members: &[Member], depth: usize) -> Content {
        let mut shown = Vec::new();
        for member in members {
            if self.left == 0 {
                break;
            }
            let Some(inner) = member_value(&value.location, member) else {
                return Content::Elided;
            };
            let name = member.name.clone().unwrap_or_default();
            shown.push((name, self.shown(&inner, depth - 1)));
        }
        Content::Struct(shown)
    }

    fn array(
        &mut self,
        value: &Value,
        element: &TypeRef,
        len: Option<u64>,
        depth: usize,
    ) -> Result<Content, EvalError> {
        let types = self.evaluator.types;
        let (_, element_type) = types.resolve(element)?;
        let len = len.unwrap_or(0);
        if let (TypeKind::Char { .. }, Some(1)) = (&element_type.kind, element_type.size) {
            let max = usize::try_from(len)
                .unwrap_or(usize::MAX)
                .min(self.options.string_len);
            let text = match &value.location {
                Location::Memory(base) => self.evaluator.space.read_string(*base, max)?,
                Location::Pieces { of, bit_offset, .. } => {
                    let mut bytes = vec![0; max.min(of.bytes.len())];
                    of.read(*bit_offset, 8 * bytes.len() as u64, &mut bytes)?;
                    let end = bytes.iter().position(|byte| *byte == 0);
                    bytes.truncate(end.unwrap_or(bytes.len()));
                    bytes
                }
                _ => return Ok(Content::Elided),
            };
            return Ok(Content::String(String::from_utf8_lossy(&text).into_owned()));
        }
        let size = types.size_of(element)?;
        let count = len.min(self.options.elements as u64);
        let mut elements = Vec::new();
        for position in 0..count {
            if self.left == 0 {
                break;
            }
            let offset = position.wrapping_mul(size).wrapping_mul(8);
            let Some(location) = value.location.part(offset, None) else {
                return Ok(Content::Elided);
            };
            let inner = Value {
                type_: element.clone(),
                location,
            };
            elements.push(self.shown(&inner, depth));
        }
        let omitted = len.saturating_sub(elements.len() as u64);
        Ok(Content::Array { elements, omitted })
    }

    fn float(&self, value: &Value, type_: &Type) -> Result<Content, EvalError> {
        let bits = u64::try_from(self.evaluator.load(value)?).unwrap_or(0);
        Ok(match type_.size {
            Some(4) => {
                let bits = u32::try_from(bits).unwrap_or(0);
                Content::Float(f64::from(f32::from_bits(bits)))
            }
            Some(8) => Content::Float(f64::from_bits(bits)),
            _ => Content::Elided,
        })
    }

    fn pointer(&self, number: i128, to: &TypeRef) -> Content {
        let to_address = VirtAddr(u64::try_from(number).unwrap_or(0));
        let mut string = None;
        if let (Ok((_, to)), true) = (self.evaluator.types.resolve(to), to_address.0 != 0)
            && matches!(to.kind, TypeKind::Char { .. })
        {
            let text = self
                .evaluator
                .space
                .read_string(to_address, self.options.string_len);
            string = text
                .ok()
                .map(|text| String::from_utf8_lossy(&text).into_owned());
        }
        let symbol = if to_address.0 == 0 || string.is_some() {
            None
        } else {
            (self.name_at)(to_address)
        };
        Content::Pointer {
            to: to_address,
            symbol,
            string,
        }
    }
}

impl Shown {
    fn write(&self, f: &mut fmt::Formatter<'_>, indent: usize) -> fmt::Result {
        match &self.content {
            Content::Number(number) => write!(f, "{number}"),
            Content::Address(address) => write!(f, "{address}"),
            Content::Variant { name, members } => write_variant(f, name, members, indent),
            Content::Bool(value) => write!(f, "{value}"),
            Content::Float(value) => write!(f, "{value}"),
            Content::Enum {
                name: Some(name), ..
            } => write!(f, "{name}"),
            Content::Enum { number, .. } => write!(f, "{number}"),
            Content::Pointer { to, symbol, string } => {
                write!(f, "{to}")?;
                if let Some(symbol) = symbol {
                    write!(f, " <{symbol}>")?;
                }
                if let Some(string) = string {
                    write!(f, " {string:?}")?;
                }
                Ok(())
            }
            Content::String(text) => write!(f, "{text:?}"),
            Content::Array { elements, omitted } => write_array(f, elements, *omitted, indent),
            Content::Struct(members) => {
                writeln!(f, "{{")?;
                for (name, member) in members {
                    write!(f, "{:width$}", "", width = indent + 2)?;
                    if !name.is_empty() {
                        write!(f, "{name} = ")?;
                    }
                    member.write(f, indent + 2)?;
                    writeln!(f, ",")?;
                }
                write!(f, "{:indent$}}}", "")
            }
            Content::Elided => write!(f, "{{…}}"),
            Content::Unreadable(reason) => write!(f, "<{reason}>"),
        }
    }
}

/// A variant in one line, as Rust writes it: `Busy { since: 99 }`, `Some(5)`, `Idle`.
fn write_variant(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    members: &[(String, Shown)],
    indent: usize,
) -> fmt::Result {
    write!(f, "{name}")?;
    let is_tuple = members.iter().all(|(name, _)| name.starts_with("__"));
    let (open, close) = match (members.is_empty(), is_tuple) {
        (true, _) => return Ok(()),
        (_, true) => ("(", ")"),
        (_, false) => (" { ", " }"),
    };
    write!(f, "{open}")?;
    for (position, (name, member)) in members.iter().enumerate() {
        if position > 0 {
            write!(f, ", ")?;
        }
        if !is_tuple && !name.is_empty() {
            write!(f, "{name}: ")?;
        }
        member.write(f, indent)?;
    }
    write!(f, "{close}")
}

/// Equal neighbours are written once.
fn write_array(
    f: &mut fmt::Formatter<'_>,
    elements: &[Shown],
    omitted: u64,
    indent: usize,
) -> fmt::Result {
    write!(f, "{{")?;
    let mut rest = elements;
    let mut first = true;
    while let Some(element) = rest.first() {
        let same = rest
            .iter()
            .take_while(|other| other.content == element.content)
            .count();
        if !first {
            write!(f, ", ")?;
        }
        first = false;
        element.write(f, indent)?;
        if same > 1 {
            write!(f, " ({same} times)")?;
        }
        rest = rest.get(same..).unwrap_or_default();
    }
    if omitted > 0 {
        write!(f, "{}and {omitted} more", if first { "" } else { ", " })?;
    }
    write!(f, "}}")
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}
