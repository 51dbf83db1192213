//! `struct proc` and `struct thread`, with the layout of FreeBSD 15.1 on amd64.
//!
//! Both are never freed, so references to them live forever; what changes in them is atomic.

use crate::arch::pcb::pcb;
use crate::sys::lock_object::{lock_object, turnstile};
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicI32, AtomicPtr, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Bytes of a name, its NUL included.
const NAME_LEN: usize = 20;
/// `p_state`.
pub(crate) const PRS_NORMAL: u32 = 1;
pub(crate) const PRS_ZOMBIE: u32 = 2;
/// `p_flag`: a system process, in memory.
const P_SYSTEM: u32 = 0x200;
const P_INMEM: u32 = 0x1000_0000;

/// `td_state`.
pub(crate) const TDS_INHIBITED: u32 = 1;
pub(crate) const TDS_RUNQ: u32 = 3;
pub(crate) const TDS_RUNNING: u32 = 4;
/// `td_inhibitors`.
pub(crate) const TDI_SLEEPING: u32 = 2;
const TDI_LOCK: u32 = 8;
/// `td_oncpu` of a thread that does not run.
pub(crate) const NOCPU: i32 = -1;

/// A link of a list: the next one, and the pointer that leads here.
#[repr(C)]
pub(crate) struct Link<T> {
    pub(crate) next: AtomicPtr<T>,
    pub(crate) previous: AtomicPtr<AtomicPtr<T>>,
}

impl<T> Link<T> {
    pub(crate) const fn new() -> Self {
        Self {
            next: AtomicPtr::new(ptr::null_mut()),
            previous: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Puts an element, which lives forever, at the front of a list.
    pub(crate) fn insert_head(head: &AtomicPtr<T>, element: &'static T, link: fn(&T) -> &Self) {
        let first = head.load(Ordering::Acquire);
        let own = link(element);
        own.next.store(first, Ordering::Release);
        own.previous
            .store(ptr::from_ref(head).cast_mut(), Ordering::Release);
        // SAFETY: elements of these lists live forever.
        if let Some(first) = unsafe { first.as_ref() } {
            let back = ptr::from_ref(&own.next).cast_mut();
            link(first).previous.store(back, Ordering::Release);
        }
        head.store(ptr::from_ref(element).cast_mut(), Ordering::Release);
    }
}

/// Takes an element out of its list, whose links must lead to it. A macro, as in `sys/queue.h`: what it
/// finds wrong is wrong in the function that uses it.
#[collapse_debuginfo(yes)]
macro_rules! list_remove {
    ($element:expr, $link:ident) => {{
        let element = $element;
        let next = element.$link.next.load(Ordering::Acquire);
        let previous = element.$link.previous.load(Ordering::Acquire);
        // SAFETY: it points to the list's head or to a link of an element, which live forever.
        let to_here = unsafe { &*previous };
        assert!(
            core::ptr::eq(to_here.load(Ordering::Acquire), element),
            "Bad link elm {element:p} prev->next != elm"
        );
        to_here.store(next, Ordering::Release);
        // SAFETY: elements live forever.
        if let Some(next) = unsafe { next.as_ref() } {
            next.$link.previous.store(previous, Ordering::Release);
        }
    }};
}
pub(crate) use list_remove;

#[repr(C)]
pub(crate) struct proc {
    pub(crate) p_list: Link<proc>,
    pub(crate) p_threads: AtomicPtr<thread>,
    pub(crate) p_threads_last: AtomicPtr<AtomicPtr<thread>>,
    pub(crate) to_p_flag: [u8; 0xb8 - 0x20],
    pub(crate) p_flag: u32,
    pub(crate) to_p_state: u32,
    pub(crate) p_state: AtomicU32,
    pub(crate) p_pid: i32,
    pub(crate) p_hash: Link<proc>,
    pub(crate) to_p_pptr: [u8; 0xe8 - 0xd8],
    pub(crate) p_pptr: Option<&'static proc>,
    pub(crate) to_p_comm: [u8; 0x3e0 - 0xf0],
    pub(crate) p_comm: [u8; NAME_LEN],
    pub(crate) rest: [u8; 0x560 - 0x3f4],
}

#[repr(C)]
pub(crate) struct thread {
    pub(crate) td_lock: AtomicU64,
    pub(crate) td_proc: &'static proc,
    pub(crate) td_plist: Link<thread>,
    pub(crate) to_td_tid: [u8; 0xa0 - 0x20],
    pub(crate) td_tid: i32,
    pub(crate) to_td_flags: [u8; 0x108 - 0xa4],
    pub(crate) td_flags: u32,
    pub(crate) to_td_inhibitors: u32,
    pub(crate) td_inhibitors: AtomicU32,
    pub(crate) td_pflags: u32,
    pub(crate) to_td_wchan: [u8; 0x128 - 0x118],
    pub(crate) td_wchan: AtomicU64,
    pub(crate) td_wmesg: AtomicPtr<u8>,
    pub(crate) to_td_blocked: [u8; 0x150 - 0x138],
    pub(crate) td_blocked: AtomicPtr<turnstile>,
    pub(crate) td_lockname: AtomicPtr<u8>,
    pub(crate) to_td_name: [u8; 0x2dc - 0x160],
    pub(crate) td_name: [u8; NAME_LEN],
    pub(crate) to_td_pcb: [u8; 0x480 - 0x2f0],
    pub(crate) td_pcb: AtomicPtr<pcb>,
    pub(crate) td_state: AtomicU32,
    /// The CPU that a thread must stay on, or [`NOCPU`].
    pub(crate) bound_to: i32,
    /// The tick at which a sleeping thread wakes up.
    pub(crate) wake_at: AtomicU64,
    pub(crate) to_td_frame: [u8; 0x4e8 - 0x498],
    pub(crate) td_frame: AtomicU64,
    pub(crate) td_kstack: AtomicU64,
    pub(crate) td_kstack_pages: AtomicU16,
    pub(crate) to_td_oncpu: [u8; 0x6fc - 0x4fa],
    pub(crate) td_oncpu: AtomicI32,
    pub(crate) rest: [u8; 0x720 - 0x700],
}

const _: () = {
    assert!(offset_of!(proc, p_threads) == 0x10);
    assert!(offset_of!(proc, p_state) == 0xc0);
    assert!(offset_of!(proc, p_pid) == 0xc4);
    assert!(offset_of!(proc, p_hash) == 0xc8);
    assert!(offset_of!(proc, p_pptr) == 0xe8);
    assert!(offset_of!(proc, p_comm) == 0x3e0);
    assert!(size_of::<proc>() == 0x560);
    assert!(offset_of!(thread, td_plist) == 0x10);
    assert!(offset_of!(thread, td_tid) == 0xa0);
    assert!(offset_of!(thread, td_inhibitors) == 0x110);
    assert!(offset_of!(thread, td_wmesg) == 0x130);
    assert!(offset_of!(thread, td_lockname) == 0x158);
    assert!(offset_of!(thread, td_name) == 0x2dc);
    assert!(offset_of!(thread, td_pcb) == 0x480);
    assert!(offset_of!(thread, td_state) == 0x488);
    assert!(offset_of!(thread, td_frame) == 0x4e8);
    assert!(offset_of!(thread, td_kstack_pages) == 0x4f8);
    assert!(offset_of!(thread, td_oncpu) == 0x6fc);
    assert!(size_of::<thread>() == 0x720);
};

debug_constants! {
    proc_off_p_pid = offset_of!(proc, p_pid);
    proc_off_p_comm = offset_of!(proc, p_comm);
    proc_off_p_list = offset_of!(proc, p_list);
    proc_off_p_hash = offset_of!(proc, p_hash);
    proc_off_p_threads = offset_of!(proc, p_threads);
    thread_off_td_tid = offset_of!(thread, td_tid);
    thread_off_td_name = offset_of!(thread, td_name);
    thread_off_td_oncpu = offset_of!(thread, td_oncpu);
    thread_off_td_pcb = offset_of!(thread, td_pcb);
    thread_off_td_plist = offset_of!(thread, td_plist);
    pcb_size = size_of::<pcb>();
}

/// A name as the structures hold it: cut, and ended by a NUL.
pub(crate) const fn name_bytes(name: &str) -> [u8; NAME_LEN] {
    let mut bytes = [0; NAME_LEN];
    let mut index = 0;
    while index < name.len() && index < NAME_LEN - 1 {
        bytes[index] = name.as_bytes()[index];
        index += 1;
    }
    bytes
}

fn name_str(bytes: &[u8; NAME_LEN]) -> &str {
    let len = bytes.iter().position(|byte| *byte == 0).unwrap_or(NAME_LEN);
    core::str::from_utf8(&bytes[..len]).unwrap_or("?")
}

impl proc {
    pub(crate) const fn new(name: &str, pid: i32, parent: Option<&'static proc>) -> Self {
        Self {
            p_list: Link::new(),
            p_threads: AtomicPtr::new(ptr::null_mut()),
            p_threads_last: AtomicPtr::new(ptr::null_mut()),
            to_p_flag: [0; _],
            p_flag: P_SYSTEM | P_INMEM,
            to_p_state: 0,
            p_state: AtomicU32::new(PRS_NORMAL),
            p_pid: pid,
            p_hash: Link::new(),
            to_p_pptr: [0; _],
            p_pptr: parent,
            to_p_comm: [0; _],
            p_comm: name_bytes(name),
            rest: [0; _],
        }
    }

    pub(crate) fn comm(&self) -> &str {
        name_str(&self.p_comm)
    }

    pub(crate) fn parent_pid(&self) -> i32 {
        self.p_pptr.map_or(0, |parent| parent.p_pid)
    }

    pub(crate) fn threads(&self) -> impl Iterator<Item = &'static thread> + use<> {
        // SAFETY: threads live forever.
        let mut next = unsafe { self.p_threads.load(Ordering::Acquire).as_ref() };
        core::iter::from_fn(move || {
            let thread = next?;
            // SAFETY: as above.
            next = unsafe { thread.td_plist.next.load(Ordering::Acquire).as_ref() };
            Some(thread)
        })
    }
}

/// A C string that lives forever; empty if there is none.
fn c_str(text: &AtomicPtr<u8>) -> &'static str {
    let text = text.load(Ordering::Acquire);
    if text.is_null() {
        return "";
    }
    // SAFETY: it was set from a C string that lives forever.
    let text = unsafe { core::ffi::CStr::from_ptr(text.cast::<core::ffi::c_char>()) };
    text.to_str().unwrap_or("?")
}

impl thread {
    pub(crate) fn name(&self) -> &str {
        name_str(&self.td_name)
    }

    /// What a sleeping thread waits for.
    pub(crate) fn wmesg(&self) -> &str {
        c_str(&self.td_wmesg)
    }

    /// The lock that a blocked thread waits for.
    pub(crate) fn lockname(&self) -> &str {
        c_str(&self.td_lockname)
    }

    pub(crate) fn set_wmesg(&self, message: Option<&'static core::ffi::CStr>) {
        let at = message.map_or(ptr::null(), |message| message.as_ptr());
        self.td_wmesg.store(at.cast_mut().cast(), Ordering::Release);
        let inhibitors = if message.is_some() { TDI_SLEEPING } else { 0 };
        self.td_inhibitors.store(inhibitors, Ordering::Relaxed);
    }

    /// Marks it as blocked on a lock, or as not blocked.
    pub(crate) fn set_blocked(&self, on: Option<(&'static turnstile, &'static lock_object)>) {
        let at = on.map_or(ptr::null(), |(on, _)| ptr::from_ref(on));
        self.td_blocked.store(at.cast_mut(), Ordering::Release);
        let name = on.map_or(ptr::null(), |(_, lock)| lock.c_name());
        self.td_lockname
            .store(name.cast_mut().cast(), Ordering::Release);
        let inhibitors = if on.is_some() { TDI_LOCK } else { 0 };
        self.td_inhibitors.store(inhibitors, Ordering::Relaxed);
    }

    /// Whether it waits for a lock.
    pub(crate) fn is_blocked(&self) -> bool {
        self.td_inhibitors.load(Ordering::Relaxed) & TDI_LOCK != 0
    }

    /// Whether it waits for something that is not a lock.
    pub(crate) fn is_sleeping(&self) -> bool {
        self.td_inhibitors.load(Ordering::Relaxed) & TDI_SLEEPING != 0
    }

    pub(crate) fn address(&self) -> usize {
        ptr::from_ref(self).addr()
    }
}
