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

use crate::expr::{EvalError, Evaluator, Location, Value};
use crate::types::{Kind, Member, Type, TypeRef};
use serde::Serialize;
use std::collections::HashSet;
use std::fmt;
use vmcore_format::addr::VirtAddr;

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
    };
    reader.shown(value, options.depth)
}

/// Follows a list from `start`, a structure, a pointer to one, or the head of a list, by the
/// member path `link` such as `p_list.le_next`.
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
        Kind::Pointer(_) => pointed(evaluator, start),
        Kind::Struct(members) => {
            let names = members.iter().filter_map(|member| member.name.as_deref());
            match names.clone().find(|name| HEADS.contains(name)) {
                Some(head) => pointed(evaluator, &evaluator.member(start, head)?),
                None => Ok(Some(start.clone())),
            }
        }
        _ => Err(EvalError::Unfit {
            type_: evaluator.types.name_of(&start.type_),
            reason: "is no list",
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
    pointed(evaluator, &at)
}

struct Reader<'a, 't> {
    evaluator: &'a Evaluator<'a, 't>,
    options: &'a Options,
    name_at: NameAt<'a>,
    /// Values that may still be read.
    left: usize,
}

impl Reader<'_, '_> {
    fn shown(&mut self, value: &Value, depth: usize) -> Shown {
        let address = match value.location {
            Location::Memory(address) => Some(address),
            Location::Bits { .. } | Location::Number(_) => None,
        };
        let content = if self.left == 0 {
            Content::Elided
        } else {
            self.left -= 1;
            match self.content(value, depth) {
                Ok(content) => content,
                Err(error) => Content::Unreadable(error.to_string()),
            }
        };
        Shown {
            type_: self.evaluator.types.name_of(&value.type_),
            address,
            content,
        }
    }

    fn content(&mut self, value: &Value, depth: usize) -> Result<Content, EvalError> {
        let (_, type_) = self.evaluator.types.resolve(&value.type_)?;
        Ok(match &type_.kind {
            Kind::Struct(members) | Kind::Union(members) => {
                if depth == 0 {
                    return Ok(Content::Elided);
                }
                self.members(value, members, depth)
            }
            Kind::Array(element, len) => return self.array(value, element, *len, depth),
            Kind::Enum(values) => {
                let number = self.evaluator.load(value)?;
                let name = values
                    .iter()
                    .find(|(_, known)| i128::from(*known) == number)
                    .map(|(name, _)| name.clone());
                Content::Enum { name, number }
            }
            Kind::Bool => match self.evaluator.load(value)? {
                0 => Content::Bool(false),
                1 => Content::Bool(true),
                other => Content::Number(other),
            },
            Kind::Float => self.float(value, &type_)?,
            Kind::Pointer(to) => {
                let to_type = to.clone();
                let number = self.evaluator.load(value)?;
                self.pointer(number, &to_type)
            }
            Kind::Void | Kind::Function => Content::Elided,
            _ => Content::Number(self.evaluator.load(value)?),
        })
    }

    fn members(&mut self, value: &Value, members: &[Member], depth: usize) -> Content {
        let base = match value.location {
            Location::Memory(base) => base,
            _ => return Content::Elided,
        };
        let mut shown = Vec::new();
        for member in members {
            if self.left == 0 {
                break;
            }
            let location = match member.bits {
                Some(bits) => Location::Bits {
                    base,
                    bit_offset: member.bit_offset,
                    bits: bits.min(64),
                },
                None => Location::Memory(VirtAddr(base.0.wrapping_add(member.bit_offset / 8))),
            };
            let inner = Value {
                type_: member.type_.clone(),
                location,
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
        let Location::Memory(base) = value.location else {
            return Ok(Content::Elided);
        };
        let types = self.evaluator.types;
        let (_, element_type) = types.resolve(element)?;
        let len = len.unwrap_or(0);
        if let (Kind::Char { .. }, Some(1)) = (&element_type.kind, element_type.size) {
            let max = usize::try_from(len)
                .unwrap_or(usize::MAX)
                .min(self.options.string_len);
            let text = self.evaluator.space.read_string(base, max)?;
            return Ok(Content::String(String::from_utf8_lossy(&text).into_owned()));
        }
        let size = types.size_of(element)?;
        let count = len.min(self.options.elements as u64);
        let mut elements = Vec::new();
        for position in 0..count {
            if self.left == 0 {
                break;
            }
            let offset = position.wrapping_mul(size);
            let inner = Value {
                type_: element.clone(),
                location: Location::Memory(VirtAddr(base.0.wrapping_add(offset))),
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
            && matches!(to.kind, Kind::Char { .. })
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
