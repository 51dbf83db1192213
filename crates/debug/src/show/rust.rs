//! Types of Rust's libraries, shown as what they stand for: `&str`, slices, `String`, `Vec`, and the shells
//! around a value (atomics, cells, non-null pointers). A kernel in C has none of their names.
//!
//! Nothing is told that cannot be: a length that memory does not bear out leaves the structure as it is.

use super::{Content, Reader};
use crate::expr::{EvalError, Location, Value};
use crate::types::{Member, TypeKind, TypeRef};
use vmcore_format::addr::VirtAddr;

/// Structures that are nothing but their only member with a size.
const SHELLS: [&str; 13] = [
    "UnsafeCell",
    "SyncUnsafeCell",
    "Cell",
    "NonNull",
    "Unique",
    "ManuallyDrop",
    "MaybeUninit",
    "MaybeDangling",
    "Wrapping",
    "Saturating",
    "NonZeroInner",
    "UsizeNoHighBit",
    "Cap",
];
/// What stands in a structure for types, and takes no room.
const MAX_SHELLS: usize = 16;

impl Reader<'_, '_> {
    /// What a structure of this name stands for; `None` if it is like any other.
    pub(super) fn of_rust(
        &mut self,
        value: &Value,
        name: &str,
        members: &[Member],
        depth: usize,
    ) -> Option<Result<Content, EvalError>> {
        let base = name.split('<').next().unwrap_or_default();
        if matches!(name, "&str" | "&mut str") {
            let [start, len] = self.numbers(value, ["data_ptr", "length"])?;
            return self.text(start, len);
        }
        if name.starts_with("&[") || name.starts_with("&mut [") {
            let [start, len] = self.numbers(value, ["data_ptr", "length"])?;
            let pointer = self.evaluator.member(value, "data_ptr").ok()?;
            let element = self.evaluator.types.pointee(&pointer.type_)?;
            return self.elements(start, len, element, depth);
        }
        match base {
            "String" => {
                let [len] = self.numbers(value, ["vec.len"])?;
                let start = self.pointer_in(&self.path(value, "vec.buf")?)?;
                self.text(start, len)
            }
            "Vec" => {
                let [len] = self.numbers(value, ["len"])?;
                let start = self.pointer_in(&self.path(value, "buf")?)?;
                let named = name.strip_prefix("Vec<")?;
                let element = self.named(first_parameter(named)?)?;
                self.elements(start, len, element, depth)
            }
            _ if SHELLS.contains(&base) || base.starts_with("Atomic") => {
                let inner = self.only_member(value, members)?;
                Some(Ok(self.shown(&inner, depth).content))
            }
            _ => None,
        }
    }

    /// A member of members: `vec.len`.
    fn path(&self, value: &Value, path: &str) -> Option<Value> {
        let mut at = value.clone();
        for name in path.split('.') {
            at = self.evaluator.member(&at, name).ok()?;
        }
        Some(at)
    }

    fn numbers<const N: usize>(&self, value: &Value, paths: [&str; N]) -> Option<[u64; N]> {
        let mut numbers = [0; N];
        for (number, path) in numbers.iter_mut().zip(paths) {
            let member = self.path(value, path)?;
            *number = u64::try_from(self.evaluator.load(&member).ok()?).ok()?;
        }
        Some(numbers)
    }

    /// The only member that takes room.
    fn only_member(&self, value: &Value, members: &[Member]) -> Option<Value> {
        let types = self.evaluator.types;
        let mut sized = members
            .iter()
            .filter(|member| types.size_of(&member.type_).is_ok_and(|size| size > 0));
        let only = sized.next().filter(|_| sized.next().is_none())?;
        crate::expr::member_value(&value.location, only)
    }

    /// The first pointer in a structure, whatever is around it.
    fn pointer_in(&self, value: &Value) -> Option<u64> {
        let mut at = value.clone();
        for _ in 0..MAX_SHELLS {
            let (_, type_) = self.evaluator.types.resolve(&at.type_).ok()?;
            at = match &type_.kind {
                TypeKind::Pointer(_) => {
                    return u64::try_from(self.evaluator.load(&at).ok()?).ok();
                }
                TypeKind::Struct(members) => {
                    let holds =
                        |name: &str| members.iter().find(|one| one.name.as_deref() == Some(name));
                    let named = ["inner", "ptr", "pointer"].into_iter().find_map(holds)?;
                    crate::expr::member_value(&at.location, named)?
                }
                _ => return None,
            };
        }
        None
    }

    /// A type by its name in Rust.
    fn named(&self, name: &str) -> Option<TypeRef> {
        use crate::types::Tag;
        let name = name
            .rsplit("::")
            .next()
            .filter(|_| !name.contains('<'))
            .unwrap_or(name);
        let tags = [Tag::Plain, Tag::Struct, Tag::Enum, Tag::Union];
        tags.into_iter()
            .find_map(|tag| self.evaluator.types.find(tag, name))
    }

    /// Text in memory; nothing if it is not text.
    fn text(&self, start: u64, len: u64) -> Option<Result<Content, EvalError>> {
        let shown = len.min(self.options.string_len as u64);
        let mut bytes = vec![0; usize::try_from(shown).ok()?];
        self.evaluator
            .space
            .read_exact(VirtAddr(start), &mut bytes)
            .ok()?;
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) => text.to_owned(),
            // Cut in the middle of a character.
            Err(error) if error.error_len().is_none() && shown < len => {
                String::from_utf8_lossy(bytes.get(..error.valid_up_to())?).into_owned()
            }
            Err(_) => return None,
        };
        Some(Ok(Content::String(text)))
    }

    fn elements(
        &mut self,
        start: u64,
        len: u64,
        element: TypeRef,
        depth: usize,
    ) -> Option<Result<Content, EvalError>> {
        let size = self.evaluator.types.size_of(&element).ok()?;
        // No dump has that much in one piece.
        len.checked_mul(size).filter(|bytes| *bytes < 1 << 40)?;
        let array = Value {
            type_: TypeRef::Array(std::sync::Arc::new(element.clone()), len),
            location: Location::Memory(VirtAddr(start)),
        };
        Some(self.array(&array, &element, Some(len), depth))
    }
}

/// The first of the parameters of a type: `u32` of `u32, alloc::alloc::Global>`.
fn first_parameter(rest: &str) -> Option<&str> {
    let mut inside = 0_usize;
    for (at, c) in rest.char_indices() {
        match c {
            '<' | '(' | '[' => inside += 1,
            '>' | ',' if inside == 0 => return rest.get(..at),
            '>' | ')' | ']' => inside = inside.saturating_sub(1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_end_where_they_do() {
        assert_eq!(first_parameter("u32, alloc::alloc::Global>"), Some("u32"));
        assert_eq!(first_parameter("Vec<u8, G>, G>"), Some("Vec<u8, G>"));
        assert_eq!(first_parameter("(u8, u16)>"), Some("(u8, u16)"));
        assert_eq!(first_parameter("u8"), None);
    }
}
