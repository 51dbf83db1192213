//! Members of the kernel's structures, looked up once and read often.

use crate::target::Target;
use crate::types::Tag;
use vmcore_format::addr::VirtAddr;
use vmcore_format::endian::Endian;

/// A member that is an integer or a pointer: its place in the structure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    /// From the start of the structure, in bytes.
    pub(crate) offset: u64,
    /// In bytes, at most 8.
    pub(crate) width: u64,
}

impl Target<'_> {
    /// A member of a structure, `p_list.le_next` too; `None` if the types do not know it, or if it
    /// is no integer or pointer.
    pub(crate) fn field(&self, structure: &str, path: &str) -> Option<Field> {
        let mut type_ = self.types.find(Tag::Struct, structure)?;
        let mut offset = 0_u64;
        for name in path.split('.') {
            let place = self.types.member(&type_, name).ok()??;
            if place.bits.is_some() {
                return None;
            }
            offset = offset.checked_add(place.offset_bytes())?;
            type_ = place.type_;
        }
        let width = self.types.size_of(&type_).ok()?;
        (width <= 8).then_some(Field { offset, width })
    }

    /// Its value in the structure at `base`.
    pub(crate) fn value(&self, base: VirtAddr, field: Option<Field>) -> Option<u64> {
        let field = field?;
        let at = VirtAddr(base.0.wrapping_add(field.offset));
        let mut raw = [0; 8];
        let width = usize::try_from(field.width).ok()?;
        match self.space.endian() {
            Endian::Little => {
                self.space.read_exact(at, raw.get_mut(..width)?).ok()?;
                Some(u64::from_le_bytes(raw))
            }
            Endian::Big => {
                let start = raw.len().checked_sub(width)?;
                self.space.read_exact(at, raw.get_mut(start..)?).ok()?;
                Some(u64::from_be_bytes(raw))
            }
        }
    }

    /// Its value as an `int`.
    pub(crate) fn signed(&self, base: VirtAddr, field: Option<Field>) -> Option<i32> {
        let low = self.value(base, field)? & 0xffff_ffff;
        Some(u32::try_from(low).ok()?.cast_signed())
    }

    /// Its value as a pointer that is not null.
    pub(crate) fn pointer(&self, base: VirtAddr, field: Option<Field>) -> Option<VirtAddr> {
        let value = self.value(base, field)?;
        (value != 0).then_some(VirtAddr(value))
    }

    /// The text that it points to, at most `max` bytes of it, if there is any.
    pub(crate) fn string(
        &self,
        base: VirtAddr,
        field: Option<Field>,
        max: usize,
    ) -> Option<String> {
        let at = self.pointer(base, field)?;
        let text = self.space.read_string(at, max).ok()?;
        (!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned())
    }
}
