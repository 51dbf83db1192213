//! The zone allocator: objects of one size, in slabs of one page each, in the direct map.
//!
//! A walk through the kernel map does not find these pages. So a slab is added to the dump map the
//! moment it is allocated and dropped the moment it is released; a zone for secrets never adds its
//! slabs, and marks their pages so that no other allocator does.

use crate::arch::layout::{PAGE_SIZE, dmap, physical};
use crate::sys::lock::SpinLock;
use crate::vm::{dump_map, phys};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};
use vmcore_format::addr::PhysAddr;

/// The most zones.
const ZONES_MAX: usize = 16;
/// Marks the start of a slab.
const SLAB_MAGIC: u32 = 0x534c_4142;
/// What freed items are filled with.
const TRASH: u64 = 0xdead_c0de_dead_c0de;
/// Ends the list of free items in a slab.
const NO_ITEM: u16 = u16::MAX;

static ZONES: SpinLock<[Option<&'static Zone>; ZONES_MAX]> =
    SpinLock::new(c"zones", [None; ZONES_MAX]);

/// What is at the start of a slab's page; the items follow.
#[repr(C)]
struct Slab {
    magic: u32,
    free_head: u16,
    in_use: u16,
    next: *mut Slab,
    previous: *mut Slab,
    /// A bit for each item that is allocated.
    allocated: [u64; 4],
    /// Room up to 64 bytes, so that items are well aligned.
    spare: u64,
}

/// Objects of one size.
pub(crate) struct Zone {
    pub(crate) name: &'static str,
    item_size: usize,
    no_dump: bool,
    state: SpinLock<Slabs>,
    slabs: AtomicUsize,
    items: AtomicUsize,
}

/// Slabs that have a free item.
struct Slabs {
    partial: *mut Slab,
}

// SAFETY: the list is followed under the zone's lock only.
unsafe impl Send for Slabs {}

/// A zone in numbers.
pub(crate) struct ZoneInfo {
    pub(crate) name: &'static str,
    pub(crate) item_size: usize,
    pub(crate) items: usize,
    pub(crate) slabs: usize,
    pub(crate) no_dump: bool,
}

impl Zone {
    pub(crate) const fn new(name: &'static str, size: usize) -> Self {
        Self::with(name, size, false)
    }

    /// A zone for secrets: none of its pages is ever in a dump.
    pub(crate) const fn no_dump(name: &'static str, size: usize) -> Self {
        Self::with(name, size, true)
    }

    const fn with(name: &'static str, size: usize, no_dump: bool) -> Self {
        let item_size = if size < 16 {
            16
        } else {
            size.next_multiple_of(16)
        };
        assert!(item_size <= PAGE_SIZE as usize - size_of::<Slab>());
        Self {
            name,
            item_size,
            no_dump,
            state: SpinLock::new(
                c"zone",
                Slabs {
                    partial: ptr::null_mut(),
                },
            ),
            slabs: AtomicUsize::new(0),
            items: AtomicUsize::new(0),
        }
    }

    /// Lets the debugger know of it; once.
    pub(crate) fn register(&'static self) {
        let mut zones = ZONES.lock();
        let slot = zones.iter_mut().find(|zone| zone.is_none());
        *slot.expect("there is room for another zone") = Some(self);
    }

    const fn per_slab(&self) -> usize {
        (PAGE_SIZE as usize - size_of::<Slab>()) / self.item_size
    }

    /// Item `index` of a slab.
    fn item(&self, slab: *mut Slab, index: u16) -> *mut u8 {
        let offset = size_of::<Slab>() + usize::from(index) * self.item_size;
        slab.cast::<u8>().wrapping_add(offset)
    }

    fn new_slab(&self) -> *mut Slab {
        let pa = phys::alloc_page(self.no_dump);
        if !self.no_dump {
            dump_map::add_page(pa);
        }
        let slab = dmap(pa).cast::<Slab>();
        for index in 0..self.per_slab() as u16 {
            let next = if usize::from(index) + 1 < self.per_slab() {
                index + 1
            } else {
                NO_ITEM
            };
            // SAFETY: the page is ours, and the item is in it.
            unsafe { self.item(slab, index).cast::<u16>().write(next) }
        }
        // SAFETY: the page is ours, and aligned.
        unsafe {
            slab.write(Slab {
                magic: SLAB_MAGIC,
                free_head: 0,
                in_use: 0,
                next: ptr::null_mut(),
                previous: ptr::null_mut(),
                allocated: [0; 4],
                spare: 0,
            });
        }
        self.slabs.fetch_add(1, Ordering::Relaxed);
        slab
    }

    /// An item, filled with zeros.
    pub(crate) fn alloc(&self) -> NonNull<u8> {
        let mut state = self.state.lock();
        if state.partial.is_null() {
            state.partial = self.new_slab();
        }
        let at = state.partial;
        // SAFETY: slabs on the list are whole, and this zone's; the lock is ours.
        let slab = unsafe { &mut *at };
        let index = usize::from(slab.free_head);
        slab.allocated[index / 64] |= 1 << (index % 64);
        let item = self.item(at, slab.free_head);
        // SAFETY: a free item holds the number of the next one.
        slab.free_head = unsafe { item.cast::<u16>().read() };
        slab.in_use += 1;
        if slab.free_head == NO_ITEM {
            state.partial = slab.next;
            slab.next = ptr::null_mut();
            // SAFETY: as above, if there is another one.
            if let Some(first) = unsafe { state.partial.as_mut() } {
                first.previous = ptr::null_mut();
            }
        }
        self.items.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the item is ours now.
        unsafe { ptr::write_bytes(item, 0, self.item_size) }
        NonNull::new(item).expect("the direct map does not start at zero")
    }

    /// Gives an item back. The last one of a slab takes the slab with it.
    ///
    /// # Safety
    /// It must have come from this zone, and must not be used any more.
    ///
    /// By the name that debuggers know: its caller is to blame if the item is free already.
    #[unsafe(export_name = "uma_zfree_arg")]
    #[inline(never)]
    pub(crate) unsafe fn free(&self, item: NonNull<u8>) {
        let mut state = self.state.lock();
        let at = item
            .as_ptr()
            .map_addr(|at| at & !(PAGE_SIZE as usize - 1))
            .cast::<Slab>();
        // SAFETY: the page of an item starts with its slab; the lock is ours.
        let slab = unsafe { &mut *at };
        assert_eq!(
            slab.magic, SLAB_MAGIC,
            "{item:p} is not an item of {}",
            self.name
        );
        let index = (item.as_ptr().addr() - at.addr() - size_of::<Slab>()) / self.item_size;
        let (word, bit) = (&mut slab.allocated[index / 64], 1 << (index % 64));
        assert!(
            *word & bit != 0,
            "Duplicate free of {item:p} from zone {self:p}({}) slab {at:p}({index})",
            self.name
        );
        *word &= !bit;
        let was_full = slab.free_head == NO_ITEM;
        // SAFETY: the item is free from now on; its size is a multiple of 16.
        unsafe {
            let words = item.cast::<u64>();
            for word in 0..self.item_size / 8 {
                words.add(word).write(TRASH);
            }
            item.cast::<u16>().write(slab.free_head);
        }
        slab.free_head = index as u16;
        slab.in_use -= 1;
        self.items.fetch_sub(1, Ordering::Relaxed);
        if was_full {
            slab.next = state.partial;
            // SAFETY: slabs on the list are whole.
            if let Some(first) = unsafe { state.partial.as_mut() } {
                first.previous = at;
            }
            state.partial = at;
        }
        if slab.in_use == 0 {
            // SAFETY: neighbours on the list are whole slabs.
            unsafe {
                match slab.previous.as_mut() {
                    Some(previous) => previous.next = slab.next,
                    None => state.partial = slab.next,
                }
                if let Some(next) = slab.next.as_mut() {
                    next.previous = slab.previous;
                }
            }
            slab.magic = 0;
            let pa = physical(at.addr() as u64).expect("slabs are in the direct map");
            self.release(pa);
        }
    }

    fn release(&self, pa: PhysAddr) {
        dump_map::drop_page(pa);
        phys::free_page(pa);
        self.slabs.fetch_sub(1, Ordering::Relaxed);
    }

    /// Makes an object that lives forever.
    pub(crate) fn create<T>(&self, object: T) -> &'static T {
        assert!(size_of::<T>() <= self.item_size && align_of::<T>() <= 16);
        let item = self.alloc().cast::<T>();
        // SAFETY: the item has room for it, is aligned, and is never given back.
        unsafe {
            item.write(object);
            item.as_ref()
        }
    }
}

/// Shows every zone.
pub(crate) fn for_each(mut show: impl FnMut(ZoneInfo)) {
    let zones = *ZONES.lock();
    for zone in zones.into_iter().flatten() {
        show(ZoneInfo {
            name: zone.name,
            item_size: zone.item_size,
            items: zone.items.load(Ordering::Relaxed),
            slabs: zone.slabs.load(Ordering::Relaxed),
            no_dump: zone.no_dump,
        });
    }
}
