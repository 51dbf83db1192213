//! Types from CTF, the compact form that kernels carry for DTrace: versions 2 and 3 of ctf(5).
//!
//! The header is followed by sections, compressed as one if a flag says so: for each variable in
//! the symbol table the number of its type, the same for functions, the types, the strings. Types
//! are numbered from 1 in their order; version 3 is version 2 with wider numbers. Members are
//! narrow in structures below a certain size. All integers are in the kernel's byte order, which
//! is little-endian on all architectures here.

use super::{Member, Tag, Type, TypeError, TypeId, TypeKind, TypeRef, Variable};
use crate::budget::Budget;
use crate::dwarf::MAX_NAME;
use crate::object_file::ObjectFile;
use object::{Object as _, ObjectSymbol as _, SymbolFlags, elf};
use std::borrow::Cow;
use std::collections::HashMap;
use vmcore_format::addr::VirtAddr;
use vmcore_format::endian::Endian;

const MAGIC: u16 = 0xcff1;
const HEADER_LEN: usize = 36;
/// Flag: what follows the header is a zlib stream.
const COMPRESSED: u8 = 1;
/// Bytes of a name that is kept, without its characters.
const NAME_BYTES: u64 = 96;

/// The types of one file.
#[derive(Debug)]
pub(super) struct CtfTypes<'a> {
    number: usize,
    budget: &'a Budget,
    layout: Layout,
    word_bytes: u64,
    data: Cow<'a, [u8]>,
    strings: usize,
    /// Where each type stands, from number 1 on.
    types: Vec<usize>,
    names: HashMap<(Tag, String), usize>,
    /// Variables: number of the type, address.
    variables: HashMap<String, (usize, u64)>,
}

/// What differs between the versions.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// Bytes of a type's number.
    id: usize,
    /// Bytes of a type without its details, if its size is small.
    short: usize,
    /// The size that says: the size follows.
    size_follows: u64,
    /// Structures from this size on have wide members.
    wide_from: u64,
    kind_shift: u32,
    kind_mask: u64,
    len_mask: u64,
    /// Numbers from here on belong to a module, the others to the kernel.
    child: usize,
    /// Whether the arguments of a function are padded to an even number.
    even_arguments: bool,
}

const V2: Layout = Layout {
    id: 2,
    short: 8,
    size_follows: 0xffff,
    wide_from: 8192,
    kind_shift: 11,
    kind_mask: 0x1f,
    len_mask: 0x3ff,
    child: 0x8000,
    even_arguments: true,
};
const V3: Layout = Layout {
    id: 4,
    short: 12,
    size_follows: 0xffff_ffff,
    wide_from: 1 << 29,
    kind_shift: 26,
    kind_mask: 0x3f,
    len_mask: 0x1ff_ffff,
    child: 0x8000_0000,
    even_arguments: true,
};

/// A type's fixed part.
#[derive(Clone, Copy, Debug)]
struct Head {
    name: u64,
    kind: u64,
    /// Members, arguments or enumerators.
    len: usize,
    /// Bytes of an object, or the number of another type.
    size: u64,
    /// Where the details start.
    details: usize,
}

impl<'a> CtfTypes<'a> {
    /// The types of a file; `None` if it has none, or they are damaged.
    pub(super) fn new(number: usize, file: &'a ObjectFile) -> Option<Self> {
        let section = file.section(".SUNW_ctf");
        let header = section.get(..HEADER_LEN)?;
        if u16::from_le_bytes(*header.first_chunk()?) != MAGIC {
            return None;
        }
        let field = |position: usize| {
            let value = Endian::Little.u32_at(header, 4 + 4 * position)?;
            usize::try_from(value).ok()
        };
        let (objects, functions) = (field(3)?, field(4)?);
        let (types, strings, strings_len) = (field(5)?, field(6)?, field(7)?);
        let data = inflate(
            section.get(HEADER_LEN..)?,
            header.get(3)? & COMPRESSED != 0,
            strings.checked_add(strings_len)?,
            file.budget(),
        )?;
        let layouts: &[Layout] = match header.get(2)? {
            2 => &[V2],
            3 => &[
                V3,
                Layout {
                    even_arguments: false,
                    ..V3
                },
            ],
            _ => return None,
        };
        let mut found = Self {
            number,
            budget: file.budget(),
            layout: *layouts.first()?,
            word_bytes: file.arch().word().bytes(),
            data,
            strings,
            types: Vec::new(),
            names: HashMap::new(),
            variables: HashMap::new(),
        };
        // Not every writer pads arguments: the right reading is the one that ends at the end.
        let whole = layouts.iter().any(|layout| {
            found.layout = *layout;
            found.index(types, strings)
        });
        if !whole {
            found.layout = *layouts.first()?;
            found.index(types, strings);
        }
        found.index_variables(file, objects, functions);
        (!found.types.is_empty()).then_some(found)
    }

    fn number_at(&self, at: usize, bytes: usize) -> Option<u64> {
        if bytes == 2 {
            let raw = self.data.get(at..at.checked_add(2)?)?;
            return Some(u64::from(u16::from_le_bytes(*raw.first_chunk()?)));
        }
        Endian::Little.u32_at(&self.data, at).map(u64::from)
    }

    fn head(&self, at: usize) -> Option<Head> {
        let layout = self.layout;
        let name = self.number_at(at, 4)?;
        let info = self.number_at(at + 4, layout.id)?;
        let mut size = self.number_at(at + 4 + layout.id, layout.id)?;
        let mut details = at + layout.short;
        if size == layout.size_follows {
            size = self.number_at(details, 4)? << 32 | self.number_at(details + 4, 4)?;
            details += 8;
        }
        Some(Head {
            name,
            kind: info >> layout.kind_shift & layout.kind_mask,
            len: usize::try_from(info & layout.len_mask).ok()?,
            size,
            details,
        })
    }

    /// Bytes of a type's details.
    fn details_len(&self, head: &Head) -> Option<usize> {
        let id = self.layout.id;
        let bytes = match head.kind {
            1 | 2 => 4,
            4 => 2 * id + 4,
            5 if self.layout.even_arguments => id * (head.len + head.len % 2),
            5 => id * head.len,
            6 | 7 if head.size >= self.layout.wide_from => 16 * head.len,
            6 | 7 => (4 + 2 * id) * head.len,
            8 => 8 * head.len,
            0 | 3 | 9..=13 => 0,
            _ => return None,
        };
        Some(bytes)
    }

    /// Finds where each type stands; whether the last one ends where the types end.
    fn index(&mut self, start: usize, end: usize) -> bool {
        self.types.clear();
        self.names.clear();
        let end = end.min(self.data.len());
        let mut at = start;
        while at < end {
            let Some(head) = self.head(at) else {
                return false;
            };
            let Some(len) = self.details_len(&head) else {
                return false;
            };
            self.types.push(at);
            let tag = match head.kind {
                6 => Some(Tag::Struct),
                7 => Some(Tag::Union),
                8 => Some(Tag::Enum),
                1 | 2 | 10 => Some(Tag::Plain),
                _ => None,
            };
            if let (Some(tag), Some(name)) = (tag, self.text(head.name)) {
                let number = self.types.len();
                self.names.entry((tag, name)).or_insert(number);
            }
            at = head.details.saturating_add(len);
        }
        at == end
    }

    /// A string by its reference; those in the file's symbol strings are not used for types.
    fn text(&self, reference: u64) -> Option<String> {
        let offset = usize::try_from(reference).ok()?;
        if reference == 0 || reference >> 31 != 0 {
            return None;
        }
        let text = self.data.get(self.strings.checked_add(offset)?..)?;
        let text = text.get(..MAX_NAME).unwrap_or(text);
        let text = text.get(..memchr::memchr(0, text).unwrap_or(text.len()))?;
        self.budget.memory(NAME_BYTES + text.len() as u64).ok()?;
        (!text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned())
    }

    /// The objects of the symbol table, in its order, have a type each.
    fn index_variables(&mut self, file: &ObjectFile, start: usize, end: usize) {
        let Some(elf) = file.elf() else { return };
        let mut at = start;
        for symbol in elf.symbols() {
            let SymbolFlags::Elf { st_info, .. } = symbol.flags() else {
                continue;
            };
            if st_info.0 & 0xf != elf::STT_OBJECT.0 || symbol.is_undefined() {
                continue;
            }
            let Ok(name) = symbol.name() else { continue };
            let absolute = symbol.section_index().is_none() && symbol.address() == 0;
            if name.is_empty() || name == "_START_" || name == "_END_" || absolute {
                continue;
            }
            if at >= end || self.budget.memory(NAME_BYTES + name.len() as u64).is_err() {
                return;
            }
            let Some(number) = self.number_at(at, self.layout.id) else {
                return;
            };
            at += self.layout.id;
            if let Ok(number) = usize::try_from(number) {
                let address = symbol.address().wrapping_add(file.bias());
                self.variables
                    .entry(name.to_owned())
                    .or_insert((number, address));
            }
        }
    }

    pub(super) fn find(&self, tag: Tag, name: &str) -> Option<TypeId> {
        let number = self.names.get(&(tag, name.to_owned()))?;
        Some(TypeId {
            file: self.number,
            offset: *number,
        })
    }

    pub(super) fn variable(&self, name: &str, address: Option<VirtAddr>) -> Option<Variable> {
        let (number, known) = self.variables.get(name)?;
        let type_ = self.type_ref(*number as u64);
        (type_ != TypeRef::Void).then(|| Variable {
            type_,
            address: address.or(Some(VirtAddr(*known))),
        })
    }

    /// Numbers of the kernel's types in a module are those of the first file.
    fn type_ref(&self, number: u64) -> TypeRef {
        let Ok(number) = usize::try_from(number) else {
            return TypeRef::Void;
        };
        let child = self.layout.child;
        let (file, offset) = if number >= child {
            (self.number, number - child)
        } else if self.number > 0 && number > 0 {
            (0, number)
        } else {
            (self.number, number)
        };
        if offset == 0 {
            return TypeRef::Void;
        }
        TypeRef::Id(TypeId { file, offset })
    }

    pub(super) fn read(&self, number: usize) -> Result<Type, TypeError> {
        let damaged = || TypeError::Damaged {
            offset: number,
            reason: "no such CTF type".to_owned(),
        };
        let at = number.checked_sub(1).and_then(|at| self.types.get(at));
        let head = at.and_then(|at| self.head(*at)).ok_or_else(damaged)?;
        let name = self.text(head.name);
        let target = || self.type_ref(head.size);
        let (kind, size) = match head.kind {
            1 => (self.integer(&head).ok_or_else(damaged)?, Some(head.size)),
            2 => (TypeKind::Float, Some(head.size)),
            3 => (TypeKind::Pointer(target()), Some(self.word_bytes)),
            4 => (self.array(&head).ok_or_else(damaged)?, None),
            6 => (
                TypeKind::Struct(self.members(&head).ok_or_else(damaged)?),
                Some(head.size),
            ),
            7 => (
                TypeKind::Union(self.members(&head).ok_or_else(damaged)?),
                Some(head.size),
            ),
            8 => (
                TypeKind::Enum(self.enumerators(&head).ok_or_else(damaged)?),
                Some(head.size.max(1)),
            ),
            9 => {
                let tag = match head.size {
                    7 => Tag::Union,
                    8 => Tag::Enum,
                    _ => Tag::Struct,
                };
                (TypeKind::Declared(tag), None)
            }
            10 => (TypeKind::Typedef(target()), None),
            11 => (TypeKind::Qualified("volatile", target()), None),
            12 => (TypeKind::Qualified("const", target()), None),
            13 => (TypeKind::Qualified("restrict", target()), None),
            5 => (TypeKind::Function, None),
            _ => return Err(damaged()),
        };
        Ok(Type { name, kind, size })
    }

    /// Encoding in the top byte, offset in the next, size in bits below.
    fn encoding(&self, head: &Head) -> Option<(u64, u64)> {
        let data = self.number_at(head.details, 4)?;
        Some((data >> 24, data & 0xffff))
    }

    fn integer(&self, head: &Head) -> Option<TypeKind> {
        let (encoding, _) = self.encoding(head)?;
        let signed = encoding & 1 != 0;
        Some(match encoding {
            _ if encoding & 4 != 0 => TypeKind::Bool,
            _ if encoding & 2 != 0 => TypeKind::Char { signed },
            _ => TypeKind::Int { signed },
        })
    }

    fn array(&self, head: &Head) -> Option<TypeKind> {
        let id = self.layout.id;
        let element = self.number_at(head.details, id)?;
        let len = self.number_at(head.details + 2 * id, 4)?;
        let len = (len > 0).then_some(len);
        Some(TypeKind::Array(self.type_ref(element), len))
    }

    fn members(&self, head: &Head) -> Option<Vec<Member>> {
        let id = self.layout.id;
        let wide = head.size >= self.layout.wide_from;
        let step = if wide { 16 } else { 4 + 2 * id };
        let mut members = Vec::new();
        for position in 0..head.len {
            let at = head.details.checked_add(position.checked_mul(step)?)?;
            let number = self.number_at(at + 4, id)?;
            let bit_offset = if wide {
                self.number_at(at + 8, 4)? << 32 | self.number_at(at + 12, 4)?
            } else {
                self.number_at(at + 4 + id, id)?
            };
            let type_ = self.type_ref(number);
            members.push(Member {
                name: self.text(self.number_at(at, 4)?),
                bits: self.bit_field(&type_),
                type_,
                bit_offset,
            });
        }
        Some(members)
    }

    /// A bit field is an integer of fewer bits than its bytes have.
    fn bit_field(&self, type_: &TypeRef) -> Option<u32> {
        let TypeRef::Id(id) = type_ else { return None };
        let at = self.types.get(id.offset.checked_sub(1)?)?;
        let head = self.head(*at)?;
        if id.file != self.number || head.kind != 1 {
            return None;
        }
        let (_, bits) = self.encoding(&head)?;
        let whole = head.size.saturating_mul(8);
        (bits != 0 && bits < whole).then(|| u32::try_from(bits).ok())?
    }

    fn enumerators(&self, head: &Head) -> Option<Vec<(String, i64)>> {
        let mut values = Vec::new();
        for position in 0..head.len {
            let at = head.details.checked_add(position.checked_mul(8)?)?;
            let value = u32::try_from(self.number_at(at + 4, 4)?).ok()?;
            if let Some(name) = self.text(self.number_at(at, 4)?) {
                values.push((name, i64::from(value.cast_signed())));
            }
        }
        Some(values)
    }
}

/// What follows the header, decompressed.
fn inflate<'a>(
    stored: &'a [u8],
    compressed: bool,
    len: usize,
    budget: &Budget,
) -> Option<Cow<'a, [u8]>> {
    if !compressed {
        return Some(Cow::Borrowed(stored));
    }
    budget.memory(len as u64).ok()?;
    let packed = object::CompressedData {
        format: object::CompressionFormat::Zlib,
        data: stored,
        uncompressed_size: len as u64,
    };
    packed.decompress().ok()
}
