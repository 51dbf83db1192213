//! What the kernel notes of the allocator's slabs in the descriptions of pages.

use crate::fields::Field;
use crate::target::Target;
use crate::types::Tag;
use vmcore_format::addr::VirtAddr;

/// As many ranges of physical memory as a kernel has (`VM_PHYSSEG_MAX` is at most 64 there).
const MAX_SEGMENTS: i32 = 1024;

/// Finds the `struct vm_page` of a page.
pub(super) struct Pages<'a, 't> {
    target: &'a Target<'t>,
    page_len: u64,
    slab: Field,
    zone: Option<Field>,
    segments: Vec<Segment>,
}

/// Physical memory that has descriptions.
struct Segment {
    start: u64,
    end: u64,
    first_page: u64,
}

/// What a description says.
pub(super) struct Noted {
    pub(super) slab: VirtAddr,
    /// Since FreeBSD 13.
    pub(super) zone: Option<VirtAddr>,
    zone_is_noted: bool,
}

impl Noted {
    /// Memory of `malloc` in pages of its own has its size in place of a slab, marked by the lowest
    /// bit, and no zone.
    pub(super) fn large_bytes(&self, page_bytes: u64) -> Option<u64> {
        let bytes = self.slab.0 >> 1;
        let is_large = self.zone_is_noted && self.zone.is_none() && self.slab.0 & 1 == 1;
        (is_large && bytes > 0 && bytes.is_multiple_of(page_bytes)).then_some(bytes)
    }
}

impl<'a, 't> Pages<'a, 't> {
    /// `None` if the types do not know the descriptions.
    pub(super) fn of(target: &'a Target<'t>) -> Option<Self> {
        let page = |member: &str| target.field("vm_page", member);
        let type_ = target.types.find(Tag::Struct, "vm_page")?;
        Some(Self {
            target,
            page_len: target.types.size_of(&type_).ok()?,
            slab: page("plinks.uma.slab").or_else(|| page("plinks.s.pv"))?,
            zone: page("plinks.uma.zone"),
            segments: segments(target)?,
        })
    }

    /// What is noted of the page of an address.
    pub(super) fn noted(&self, address: VirtAddr) -> Option<Noted> {
        let pa = self.target.physical(address)?.0;
        let mut segments = self.segments.iter();
        let segment = segments.find(|segment| segment.start <= pa && pa < segment.end)?;
        let page_bytes = self.target.session.dump().memory().page_size().bytes();
        let index = (pa - segment.start) / page_bytes;
        let at = index.checked_mul(self.page_len)?;
        let at = VirtAddr(segment.first_page.checked_add(at)?);
        let slab = self.target.pointer(at, Some(self.slab))?;
        Some(Noted {
            slab,
            zone: self.target.pointer(at, self.zone),
            zone_is_noted: self.zone.is_some(),
        })
    }
}

/// The ranges that have descriptions.
fn segments(target: &Target<'_>) -> Option<Vec<Segment>> {
    let field = |member: &str| target.field("vm_phys_seg", member);
    let symbol = |name: &str| Some(target.symbols.find(name)?.address);
    let type_ = target.types.find(Tag::Struct, "vm_phys_seg")?;
    let len = target.types.size_of(&type_).ok()?;
    let first = symbol("vm_phys_segs")?;
    let count = target.space.read_i32(symbol("vm_phys_nsegs")?).ok()?;
    let segment = |number: i32| {
        let at = u64::try_from(number).ok()?.checked_mul(len)?;
        let at = VirtAddr(first.0.wrapping_add(at));
        Some(Segment {
            start: target.value(at, field("start"))?,
            end: target.value(at, field("end"))?,
            first_page: target.value(at, field("first_page"))?,
        })
    };
    Some((0..count.min(MAX_SEGMENTS)).filter_map(segment).collect())
}
