//! The kernel's types: structures, their members, variables, as its debug information has them.
//!
//! Nothing is read before it is asked for. A search by name reads the debug information unit by
//! unit up to the first complete definition; a type is read from its own entry when somebody looks
//! into it, and then kept. All of it may be hostile: depth, numbers and loops are bounded.
//!
//! ```no_run
//! use vmcore_debug::object_file::ObjectFile;
//! use vmcore_debug::types::{Tag, Types};
//! let file = ObjectFile::open("kernel.debug".as_ref())?;
//! let types = Types::of(&[&file]);
//! if let Some(proc_) = types.find(Tag::Struct, "proc") {
//!     println!("struct proc has {} bytes", types.size_of(&proc_)?);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod ctf;
mod dwarf;

use crate::object_file::ObjectFile;
use ctf::CtfTypes;
use dwarf::DwarfTypes;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use thiserror::Error;
use vmcore_format::addr::VirtAddr;
use vmcore_format::endian::Width;

/// Typedefs and qualifiers that are followed in a row.
const MAX_CHAIN: usize = 64;
/// Anonymous structures that are looked into for one member.
const MAX_ANONYMOUS: usize = 1000;
/// How the members of Rust's atomics and pointers end, which only wrap one value.
const WRAPPERS: [&str; 2] = [".v.value", ".__0"];
/// Types that are kept.
const MAX_KEPT: usize = 1 << 16;

/// Why a type cannot be told.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TypeError {
    /// The debug information is damaged.
    #[error("damaged debug information at {offset:#x}: {reason}")]
    Damaged {
        /// Offset in `.debug_info`, or number in CTF.
        offset: usize,
        /// What is wrong.
        reason: String,
    },
    /// More debug information than a file of its size can have.
    #[error("the debug information at {offset:#x} costs too much to read for the size of its file")]
    TooCostly {
        /// Offset in `.debug_info`, or number in CTF.
        offset: usize,
    },
    /// Declared, never defined.
    #[error("{name} is declared, but its definition is not in the debug information")]
    Incomplete {
        /// The type.
        name: String,
    },
    /// Typedefs of typedefs without end.
    #[error("a type at {offset:#x} refers to itself")]
    Endless {
        /// Where.
        offset: usize,
    },
    /// It has no size: a function, `void`, an array without bounds.
    #[error("{name} has no size")]
    NoSize {
        /// The type.
        name: String,
    },
}

/// What kind of name is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tag {
    /// `struct NAME`.
    Struct,
    /// `union NAME`.
    Union,
    /// `enum NAME`.
    Enum,
    /// A typedef or a basic type.
    Plain,
}

/// A type that stands in debug information: which file, and where in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId {
    pub(crate) file: usize,
    pub(crate) offset: usize,
}

/// A type: one of the debug information, or made of one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TypeRef {
    /// `void`.
    Void,
    /// In the debug information.
    Id(TypeId),
    /// A pointer to another type.
    Pointer(Arc<TypeRef>),
    /// An array of so many elements.
    Array(Arc<TypeRef>, u64),
    /// An integer of so many bytes: numbers in an expression, registers.
    Int {
        /// 1, 2, 4 or 8.
        bytes: u8,
        /// Whether it has a sign.
        signed: bool,
    },
}

impl TypeRef {
    /// A pointer to this type.
    #[must_use]
    pub fn pointer(self) -> Self {
        Self::Pointer(Arc::new(self))
    }
}

/// A type, looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Type {
    /// Its name, without `struct` and the like; anonymous if `None`.
    pub name: Option<String>,
    /// What it is.
    pub kind: TypeKind,
    /// Its size in bytes, if it has one of its own.
    pub size: Option<u64>,
}

/// What a type is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeKind {
    /// `void`.
    Void,
    /// An integer.
    Int {
        /// Whether it has a sign.
        signed: bool,
    },
    /// A character.
    Char {
        /// Whether it has a sign.
        signed: bool,
    },
    /// A truth value.
    Bool,
    /// A floating-point number.
    Float,
    /// A pointer.
    Pointer(TypeRef),
    /// An array; `None`: as many elements as there are.
    Array(TypeRef, Option<u64>),
    /// A structure.
    Struct(Vec<Member>),
    /// A structure of which a part depends on a value in it: Rust's `enum` with data.
    Variants(Box<Variants>),
    /// A union.
    Union(Vec<Member>),
    /// Names for numbers.
    Enum(Vec<(String, i64)>),
    /// Another name.
    Typedef(TypeRef),
    /// `const`, `volatile` and the like.
    Qualified(&'static str, TypeRef),
    /// A function.
    Function,
    /// A structure, union or enumeration that is only declared here.
    Declared(Tag),
}

/// A member of a structure or union.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name; anonymous structures and unions have none.
    pub name: Option<String>,
    /// Its type.
    pub type_: TypeRef,
    /// Where it starts, in bits from the start of the structure.
    pub bit_offset: u64,
    /// Bits, if it is a bit field.
    pub bits: Option<u32>,
}

/// A structure of which a part depends on a value in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variants {
    /// The members that are always there.
    pub members: Vec<Member>,
    /// The member that decides; none, where there is but one variant.
    pub discriminant: Option<Member>,
    /// What may be there.
    pub variants: Vec<Variant>,
}

/// One of the things that a part of a structure can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The values of the discriminant, as ranges with both ends; `None`: all that no other has.
    pub values: Option<Vec<(i64, i64)>>,
    /// What is there.
    pub member: Member,
}

impl Variants {
    /// The variant for a value of the discriminant, which has so many bits.
    #[must_use]
    pub fn of(&self, value: i128, bits: u32) -> Option<&Variant> {
        let mask = 1_i128
            .checked_shl(bits.min(64))
            .map_or(-1, |above| above - 1);
        // Compilers write the values with or without a sign: the bits decide.
        let has = |variant: &&Variant| {
            let ranges = variant.values.iter().flatten();
            ranges
                .map(|(low, high)| (i128::from(*low), i128::from(*high)))
                .any(|(low, high)| {
                    (low..=high).contains(&value)
                        || (low & mask..=high & mask).contains(&(value & mask))
                })
        };
        let other = || {
            self.variants
                .iter()
                .find(|variant| variant.values.is_none())
        };
        self.variants.iter().find(has).or_else(other)
    }
}

/// A variable of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its type.
    pub type_: TypeRef,
    /// Its address, if the debug information has it.
    pub address: Option<VirtAddr>,
}

/// Where a member was found in a structure: anonymous structures in between are walked through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberPlace {
    /// Its type.
    pub type_: TypeRef,
    /// Bits from the start of the outermost structure.
    pub bit_offset: u64,
    /// Bits, if it is a bit field.
    pub bits: Option<u32>,
}

impl MemberPlace {
    /// Bytes from the start of the outermost structure.
    #[must_use]
    pub const fn offset_bytes(&self) -> u64 {
        self.bit_offset / 8
    }
}

/// The types of a kernel and its modules.
#[derive(Debug)]
pub struct Types<'a> {
    files: Vec<Source<'a>>,
    word: Width,
    kept: Mutex<HashMap<TypeId, Arc<Type>>>,
}

#[derive(Debug)]
enum Source<'a> {
    Dwarf(Box<DwarfTypes<'a>>),
    Ctf(Box<CtfTypes<'a>>),
}

impl<'a> Types<'a> {
    /// The types of these files; names are looked for in their order. DWARF is preferred to CTF.
    #[must_use]
    pub fn of(files: &[&'a ObjectFile]) -> Self {
        let mut sources = Vec::new();
        for file in files {
            let number = sources.len();
            if !file.section(".debug_info").is_empty() {
                sources.push(Source::Dwarf(Box::new(DwarfTypes::new(number, file))));
            } else if let Some(ctf) = CtfTypes::new(number, file) {
                sources.push(Source::Ctf(Box::new(ctf)));
            }
        }
        Self {
            files: sources,
            word: files.first().map_or(Width::W64, |file| file.arch().word()),
            kept: Mutex::default(),
        }
    }

    /// Whether there are none at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Where the kernel's types come from: `DWARF`, `CTF`, or nowhere.
    #[must_use]
    pub fn origin(&self) -> Option<&'static str> {
        self.files.first().map(|file| match file {
            Source::Dwarf(_) => "DWARF",
            Source::Ctf(_) => "CTF",
        })
    }

    /// A type by its name.
    #[must_use]
    pub fn find(&self, tag: Tag, name: &str) -> Option<TypeRef> {
        let found = self.files.iter().find_map(|file| match file {
            Source::Dwarf(file) => file.find(tag, name),
            Source::Ctf(file) => file.find(tag, name),
        });
        found.map(TypeRef::Id)
    }

    /// The type at a place in the debug information of a file.
    pub(crate) fn at(&self, file: &ObjectFile, place: usize) -> Option<TypeRef> {
        self.files.iter().find_map(|source| match source {
            Source::Dwarf(dwarf) if dwarf.is_of(file) => Some(TypeRef::Id(dwarf.id(place))),
            _ => None,
        })
    }

    /// A variable by its name; of several static ones, the one at `address`.
    #[must_use]
    pub fn variable(&self, name: &str, address: Option<VirtAddr>) -> Option<Variable> {
        self.files.iter().find_map(|file| match file {
            Source::Dwarf(file) => file.variable(name, address),
            Source::Ctf(file) => file.variable(name, address),
        })
    }

    /// The value of an enumerator.
    #[must_use]
    pub fn enumerator(&self, name: &str) -> Option<i64> {
        self.files.iter().find_map(|file| match file {
            Source::Dwarf(file) => file.enumerator(name),
            Source::Ctf(_) => None,
        })
    }

    /// A type, looked into.
    ///
    /// # Errors
    /// Returns an error if its debug information is damaged.
    pub fn get(&self, type_: &TypeRef) -> Result<Arc<Type>, TypeError> {
        let id = match type_ {
            TypeRef::Id(id) => *id,
            TypeRef::Void => return Ok(Arc::new(made(TypeKind::Void, None))),
            TypeRef::Pointer(to) => {
                let kind = TypeKind::Pointer(to.as_ref().clone());
                return Ok(Arc::new(made(kind, Some(self.word.bytes()))));
            }
            TypeRef::Array(element, len) => {
                let kind = TypeKind::Array(element.as_ref().clone(), Some(*len));
                return Ok(Arc::new(made(kind, None)));
            }
            TypeRef::Int { bytes, signed } => {
                let kind = TypeKind::Int { signed: *signed };
                let mut made = made(kind, Some(u64::from(*bytes)));
                let sign = if *signed { "" } else { "u" };
                made.name = Some(format!("{sign}int{}_t", u32::from(*bytes) * 8));
                return Ok(Arc::new(made));
            }
        };
        if let Some(kept) = self.lock().get(&id) {
            return Ok(kept.clone());
        }
        let read = match self.files.get(id.file) {
            Some(Source::Dwarf(file)) => file.read(id.offset)?,
            Some(Source::Ctf(file)) => file.read(id.offset)?,
            None => {
                let reason = "no such file".to_owned();
                let offset = id.offset;
                return Err(TypeError::Damaged { offset, reason });
            }
        };
        let read = Arc::new(read);
        let mut kept = self.lock();
        if kept.len() < MAX_KEPT {
            kept.insert(id, read.clone());
        }
        Ok(read)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TypeId, Arc<Type>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The type behind typedefs, qualifiers and declarations.
    ///
    /// # Errors
    /// Returns an error for damaged debug information, and for a type that is only declared.
    pub fn resolve(&self, type_: &TypeRef) -> Result<(TypeRef, Arc<Type>), TypeError> {
        let mut at = type_.clone();
        for _ in 0..MAX_CHAIN {
            let read = self.get(&at)?;
            at = match &read.kind {
                TypeKind::Typedef(to) | TypeKind::Qualified(_, to) => to.clone(),
                TypeKind::Declared(tag) => {
                    let name = read.name.clone().unwrap_or_default();
                    let found = self.find(*tag, &name).filter(|found| *found != at);
                    found.ok_or(TypeError::Incomplete { name })?
                }
                _ => return Ok((at, read)),
            };
        }
        let offset = match type_ {
            TypeRef::Id(id) => id.offset,
            _ => 0,
        };
        Err(TypeError::Endless { offset })
    }

    /// Bytes of an object of this type.
    ///
    /// # Errors
    /// Returns an error if it has no size, or its debug information is damaged.
    pub fn size_of(&self, type_: &TypeRef) -> Result<u64, TypeError> {
        let (mut at, mut read) = self.resolve(type_)?;
        let mut count = 1_u64;
        for _ in 0..MAX_CHAIN {
            let no_size = || TypeError::NoSize {
                name: self.name_of(type_),
            };
            match (&read.kind, read.size) {
                (TypeKind::Array(element, len), None) => {
                    let len = len.ok_or_else(no_size)?;
                    count = count.checked_mul(len).ok_or_else(no_size)?;
                    (at, read) = self.resolve(element)?;
                }
                (TypeKind::Function | TypeKind::Void, _) | (_, None) => return Err(no_size()),
                (_, Some(size)) => return count.checked_mul(size).ok_or_else(no_size),
            }
        }
        let offset = match at {
            TypeRef::Id(id) => id.offset,
            _ => 0,
        };
        Err(TypeError::Endless { offset })
    }

    /// Looks for a member, in anonymous structures and unions too.
    ///
    /// # Errors
    /// Returns an error for damaged debug information; `None`: it has no such member.
    pub fn member(&self, type_: &TypeRef, name: &str) -> Result<Option<MemberPlace>, TypeError> {
        let (_, read) = self.resolve(type_)?;
        let mut budget = MAX_ANONYMOUS;
        self.member_in(&read, name, 0, 0, &mut budget)
    }

    fn member_in(
        &self,
        read: &Type,
        name: &str,
        base_bits: u64,
        depth: usize,
        budget: &mut usize,
    ) -> Result<Option<MemberPlace>, TypeError> {
        let variants = match &read.kind {
            TypeKind::Variants(variants) => variants.variants.as_slice(),
            _ => &[],
        };
        let members = match &read.kind {
            TypeKind::Struct(members) | TypeKind::Union(members) => members.as_slice(),
            TypeKind::Variants(variants) => &variants.members,
            _ => &[],
        };
        let variants = variants.iter().map(|variant| &variant.member);
        for member in members.iter().chain(variants) {
            let bit_offset = base_bits.saturating_add(member.bit_offset);
            match &member.name {
                Some(known) if known == name => {
                    return Ok(Some(MemberPlace {
                        type_: member.type_.clone(),
                        bit_offset,
                        bits: member.bits,
                    }));
                }
                None if *budget > 0 && depth < MAX_CHAIN => {
                    *budget -= 1;
                    let (_, inner) = self.resolve(&member.type_)?;
                    let found = self.member_in(&inner, name, bit_offset, depth + 1, budget)?;
                    if found.is_some() {
                        return Ok(found);
                    }
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// What a pointer points to.
    pub(crate) fn pointee(&self, pointer: &TypeRef) -> Option<TypeRef> {
        match &self.resolve(pointer).ok()?.1.kind {
            TypeKind::Pointer(to) => Some(to.clone()),
            _ => None,
        }
    }

    /// The path of the member at an offset of the structure that a pointer points to: `p_list.le_next`,
    /// `ro_dst[2].sa_family`. `None` if nothing begins there.
    #[must_use]
    pub fn member_at(&self, pointer: &TypeRef, offset: u64) -> Option<String> {
        Some(self.part_at(pointer, offset)?.0)
    }

    /// The same with the type of the member.
    pub(crate) fn part_at(&self, pointer: &TypeRef, offset: u64) -> Option<(String, TypeRef)> {
        let (mut at, mut rest) = (self.pointee(pointer)?, offset);
        let mut path = String::new();
        for _ in 0..MAX_CHAIN {
            let (_, read) = self.resolve(&at).ok()?;
            match &read.kind {
                TypeKind::Struct(members) | TypeKind::Union(members) => {
                    let holds = |member: &&Member| {
                        let start = member.bit_offset / 8;
                        let size = self.size_of(&member.type_).unwrap_or(0);
                        (start..start.saturating_add(size)).contains(&rest)
                    };
                    let member = members.iter().find(holds)?;
                    if let Some(name) = &member.name {
                        let dot = if path.is_empty() { "" } else { "." };
                        path += &format!("{dot}{name}");
                    }
                    rest -= member.bit_offset / 8;
                    at = member.type_.clone();
                }
                TypeKind::Array(element, _) => {
                    let size = self.size_of(element).ok().filter(|size| *size > 0)?;
                    path += &format!("[{}]", rest / size);
                    rest %= size;
                    at = element.clone();
                }
                _ if path.is_empty() || rest != 0 => return None,
                _ => {
                    let path = WRAPPERS
                        .iter()
                        .fold(&*path, |path, end| path.trim_end_matches(end));
                    return Some((path.to_owned(), at));
                }
            }
        }
        None
    }

    /// The offset in bytes of a member path such as `td_lock` or `p_list.le_next` in a structure.
    #[must_use]
    pub fn offset_of(&self, structure: &str, path: &str) -> Option<u64> {
        let mut type_ = self.find(Tag::Struct, structure)?;
        let mut offset = 0_u64;
        for name in path.split('.') {
            let place = self.member(&type_, name).ok()??;
            offset = offset.checked_add(place.offset_bytes())?;
            type_ = place.type_;
        }
        Some(offset)
    }

    /// The name of a type as C writes it, without the place of an object's name.
    #[must_use]
    pub fn name_of(&self, type_: &TypeRef) -> String {
        self.name_within(type_, 0)
    }

    fn name_within(&self, type_: &TypeRef, depth: usize) -> String {
        let Ok(read) = self.get(type_) else {
            return "?".to_owned();
        };
        if depth > MAX_CHAIN {
            return "…".to_owned();
        }
        let tagged = |tag: &str| match &read.name {
            Some(name) => format!("{tag} {name}"),
            None => format!("{tag} {{…}}"),
        };
        match &read.kind {
            TypeKind::Pointer(to) => {
                let to = self.name_within(to, depth + 1);
                let space = if to.ends_with('*') { "" } else { " " };
                format!("{to}{space}*")
            }
            TypeKind::Array(..) => self.array_name(&read, depth),
            TypeKind::Qualified(qualifier, to) => {
                let to = self.name_within(to, depth + 1);
                if to.ends_with('*') {
                    format!("{to}{qualifier}")
                } else {
                    format!("{qualifier} {to}")
                }
            }
            TypeKind::Struct(_) | TypeKind::Variants(_) | TypeKind::Declared(Tag::Struct) => {
                tagged("struct")
            }
            TypeKind::Union(_) | TypeKind::Declared(Tag::Union) => tagged("union"),
            TypeKind::Enum(_) | TypeKind::Declared(Tag::Enum) => tagged("enum"),
            TypeKind::Void => "void".to_owned(),
            TypeKind::Function => "function".to_owned(),
            _ => read.name.clone().unwrap_or_else(|| "?".to_owned()),
        }
    }

    /// `int [2][3]`: the dimensions from the outermost one.
    fn array_name(&self, read: &Arc<Type>, depth: usize) -> String {
        let mut dimensions = String::new();
        let mut read = read.clone();
        for _ in 0..MAX_CHAIN {
            let TypeKind::Array(element, len) = &read.kind else {
                break;
            };
            dimensions += &len.map_or_else(|| "[]".to_owned(), |len| format!("[{len}]"));
            let inner = self.get(element);
            match inner {
                Ok(inner) if matches!(inner.kind, TypeKind::Array(..)) => read = inner,
                _ => {
                    let element = self.name_within(element, depth + 1);
                    return format!("{element} {dimensions}");
                }
            }
        }
        dimensions
    }
}

/// A type without a name.
const fn made(kind: TypeKind, size: Option<u64>) -> Type {
    Type {
        name: None,
        kind,
        size,
    }
}
