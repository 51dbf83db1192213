//! Processes and threads, in structures with the layout of FreeBSD 15.1 on amd64.
//!
//! All processes are kernel processes: there are no user programs. Processes and threads are never
//! given back, so references to them live forever; what changes in them is atomic.

use crate::arch::pcb::{pcb, trapframe};
use crate::arch::pcpu;
use crate::kern::load;
use crate::kern::lock::SpinLock;
use crate::kern::sched;
use crate::vm::kmem;
use crate::vm::uma::Zone;
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicI32, AtomicPtr, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Bytes of a name, its NUL included.
const NAME_LEN: usize = 20;
/// Pages of a thread's stack.
pub(crate) const KSTACK_PAGES: usize = 4;
/// The number of the first thread; processes have smaller numbers.
const FIRST_TID: i32 = 100_000;

/// `p_state`.
const PRS_NORMAL: u32 = 1;
const PRS_ZOMBIE: u32 = 2;
/// `p_flag`: a system process, in memory.
const P_SYSTEM: u32 = 0x200;
const P_INMEM: u32 = 0x1000_0000;

/// `td_state`.
pub(crate) const TDS_INHIBITED: u32 = 1;
pub(crate) const TDS_RUNQ: u32 = 3;
pub(crate) const TDS_RUNNING: u32 = 4;
/// `td_inhibitors`.
const TDI_SLEEPING: u32 = 2;
/// `td_oncpu` of a thread that does not run.
pub(crate) const NOCPU: i32 = -1;

/// A link of a list: the next one, and the pointer that leads here.
#[repr(C)]
pub(crate) struct Link<T> {
    next: AtomicPtr<T>,
    previous: AtomicPtr<AtomicPtr<T>>,
}

impl<T> Link<T> {
    const fn new() -> Self {
        Self {
            next: AtomicPtr::new(ptr::null_mut()),
            previous: AtomicPtr::new(ptr::null_mut()),
        }
    }
}

#[repr(C)]
pub(crate) struct proc {
    p_list: Link<proc>,
    p_threads: AtomicPtr<thread>,
    p_threads_last: AtomicPtr<AtomicPtr<thread>>,
    to_p_flag: [u8; 0xb8 - 0x20],
    p_flag: u32,
    to_p_state: u32,
    p_state: AtomicU32,
    pub(crate) p_pid: i32,
    p_hash: Link<proc>,
    to_p_pptr: [u8; 0xe8 - 0xd8],
    p_pptr: Option<&'static proc>,
    to_p_comm: [u8; 0x3e0 - 0xf0],
    p_comm: [u8; NAME_LEN],
    rest: [u8; 0x560 - 0x3f4],
}

#[repr(C)]
pub(crate) struct thread {
    td_lock: AtomicU64,
    pub(crate) td_proc: &'static proc,
    td_plist: Link<thread>,
    to_td_tid: [u8; 0xa0 - 0x20],
    pub(crate) td_tid: i32,
    to_td_flags: [u8; 0x108 - 0xa4],
    td_flags: u32,
    to_td_inhibitors: u32,
    td_inhibitors: AtomicU32,
    td_pflags: u32,
    to_td_wchan: [u8; 0x128 - 0x118],
    td_wchan: AtomicU64,
    td_wmesg: AtomicPtr<u8>,
    to_td_name: [u8; 0x2dc - 0x138],
    td_name: [u8; NAME_LEN],
    to_td_pcb: [u8; 0x480 - 0x2f0],
    pub(crate) td_pcb: AtomicPtr<pcb>,
    pub(crate) td_state: AtomicU32,
    /// The CPU that a thread must stay on, or [`NOCPU`].
    pub(crate) bound_to: i32,
    /// The tick at which a sleeping thread wakes up.
    pub(crate) wake_at: AtomicU64,
    to_td_frame: [u8; 0x4e8 - 0x498],
    pub(crate) td_frame: AtomicU64,
    pub(crate) td_kstack: AtomicU64,
    pub(crate) td_kstack_pages: AtomicU16,
    to_td_oncpu: [u8; 0x6fc - 0x4fa],
    pub(crate) td_oncpu: AtomicI32,
    rest: [u8; 0x720 - 0x700],
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

/// All living processes, the newest first.
#[unsafe(no_mangle)]
static allproc: AtomicPtr<proc> = AtomicPtr::new(ptr::null_mut());
/// Process 0: where debuggers start if there is no list.
#[unsafe(no_mangle)]
static proc0: proc = proc::new("kernel", 0, None);
/// Slots of the table by number, less one.
const PIDHASH: usize = 63;
static PID_TABLE: [AtomicPtr<proc>; PIDHASH + 1] =
    [const { AtomicPtr::new(ptr::null_mut()) }; PIDHASH + 1];
/// All processes by number, the dead ones too.
#[unsafe(no_mangle)]
static pidhashtbl: AtomicPtr<AtomicPtr<proc>> = AtomicPtr::new(PID_TABLE.as_ptr().cast_mut());
#[unsafe(no_mangle)]
static pidhash: u64 = PIDHASH as u64;

static PROC_ZONE: Zone = Zone::new("PROC", size_of::<proc>());
static THREAD_ZONE: Zone = Zone::new("THREAD", size_of::<thread>());
/// Guards the lists and the next numbers.
static LISTS: SpinLock<Next> = SpinLock::new(
    "allproc",
    Next {
        pid: 0,
        tid: FIRST_TID,
    },
);

struct Next {
    pid: i32,
    tid: i32,
}

/// A name as the structures hold it: cut, and ended by a NUL.
const fn name_bytes(name: &str) -> [u8; NAME_LEN] {
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
    const fn new(name: &str, pid: i32, parent: Option<&'static proc>) -> Self {
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

impl thread {
    pub(crate) fn name(&self) -> &str {
        name_str(&self.td_name)
    }

    /// What a sleeping thread waits for.
    pub(crate) fn wmesg(&self) -> &str {
        let message = self.td_wmesg.load(Ordering::Acquire);
        if message.is_null() {
            return "";
        }
        // SAFETY: it was set from a C string that lives forever.
        let message = unsafe { core::ffi::CStr::from_ptr(message.cast::<core::ffi::c_char>()) };
        message.to_str().unwrap_or("?")
    }

    pub(crate) fn set_wmesg(&self, message: Option<&'static core::ffi::CStr>) {
        let at = message.map_or(ptr::null(), |message| message.as_ptr());
        self.td_wmesg.store(at.cast_mut().cast(), Ordering::Release);
        let inhibitors = if message.is_some() { TDI_SLEEPING } else { 0 };
        self.td_inhibitors.store(inhibitors, Ordering::Relaxed);
    }

    pub(crate) fn address(&self) -> usize {
        ptr::from_ref(self).addr()
    }
}

/// All living processes, the newest first.
pub(crate) fn all() -> impl Iterator<Item = &'static proc> {
    // SAFETY: processes live forever.
    let mut next = unsafe { allproc.load(Ordering::Acquire).as_ref() };
    core::iter::from_fn(move || {
        let process = next?;
        // SAFETY: as above.
        next = unsafe { process.p_list.next.load(Ordering::Acquire).as_ref() };
        Some(process)
    })
}

/// The thread with this number.
pub(crate) fn find_thread(tid: i32) -> Option<&'static thread> {
    all()
        .flat_map(proc::threads)
        .find(|thread| thread.td_tid == tid)
}

/// Puts an element at the front of a list.
fn push<T>(head: &AtomicPtr<T>, element: &'static T, link: fn(&T) -> &Link<T>) {
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

/// Makes a process without threads.
fn new_process(name: &str, pid: Option<i32>) -> &'static proc {
    let mut next = LISTS.lock();
    let pid = pid.unwrap_or(next.pid);
    next.pid = next.pid.max(pid + 1);
    let process = PROC_ZONE.create(proc::new(name, pid, Some(&proc0)));
    enlist(process);
    process
}

/// Puts a process on the lists; under their lock.
fn enlist(process: &'static proc) {
    let last = ptr::from_ref(&process.p_threads).cast_mut();
    process.p_threads_last.store(last, Ordering::Release);
    push(&allproc, process, |process| &process.p_list);
    let slot = &PID_TABLE[process.p_pid as usize & PIDHASH];
    push(slot, process, |process| &process.p_hash);
}

/// What a thread runs.
pub(crate) type Start = fn(usize);

/// Makes a thread that is not on any run queue yet; it begins in `start`.
fn new_thread(
    process: &'static proc,
    name: &str,
    bound_to: i32,
    start: Start,
    argument: usize,
) -> &'static thread {
    let stack = kmem::alloc_stack(KSTACK_PAGES);
    let pcb_at = (stack.end.0 - size_of::<pcb>() as u64) & !63;
    let frame_at = (pcb_at - size_of::<trapframe>() as u64) & !15;
    let context = pcb {
        pcb_r12: start as usize as u64,
        pcb_rbx: argument as u64,
        pcb_rsp: frame_at - 8,
        pcb_rip: crate::arch::pcb::fork_trampoline as *const () as u64,
        ..pcb::EMPTY
    };
    // SAFETY: both are at the top of the new stack, aligned; the empty frame below the PCB is zero
    // already.
    unsafe { (pcb_at as *mut pcb).write(context) }
    let mut next = LISTS.lock();
    let tid = next.tid;
    next.tid += 1;
    let thread = THREAD_ZONE.create(thread {
        td_lock: AtomicU64::new(0),
        td_proc: process,
        td_plist: Link::new(),
        to_td_tid: [0; _],
        td_tid: tid,
        to_td_flags: [0; _],
        td_flags: 0,
        to_td_inhibitors: 0,
        td_inhibitors: AtomicU32::new(0),
        td_pflags: 0,
        to_td_wchan: [0; _],
        td_wchan: AtomicU64::new(0),
        td_wmesg: AtomicPtr::new(ptr::null_mut()),
        to_td_name: [0; _],
        td_name: name_bytes(name),
        to_td_pcb: [0; _],
        td_pcb: AtomicPtr::new(pcb_at as *mut pcb),
        td_state: AtomicU32::new(TDS_INHIBITED),
        bound_to,
        wake_at: AtomicU64::new(u64::MAX),
        to_td_frame: [0; _],
        td_frame: AtomicU64::new(frame_at),
        td_kstack: AtomicU64::new(stack.start.0),
        td_kstack_pages: AtomicU16::new(KSTACK_PAGES as u16),
        to_td_oncpu: [0; _],
        td_oncpu: AtomicI32::new(NOCPU),
        rest: [0; _],
    });
    // At the end of the list: a process shows its threads in the order of their creation.
    let last = process.p_threads_last.load(Ordering::Acquire);
    thread.td_plist.previous.store(last, Ordering::Release);
    // SAFETY: it points to the list's head or to a link of a thread, which live forever.
    unsafe { (*last).store(ptr::from_ref(thread).cast_mut(), Ordering::Release) }
    let link = ptr::from_ref(&thread.td_plist.next).cast_mut();
    process.p_threads_last.store(link, Ordering::Release);
    thread
}

/// The process that idles, one thread for each CPU.
static IDLE: AtomicPtr<proc> = AtomicPtr::new(ptr::null_mut());

/// Makes process 0 with the thread that runs now, and the idle process. The stack of thread 0 is a
/// new one; the caller changes to it.
pub(crate) fn init() -> &'static thread {
    PROC_ZONE.register();
    THREAD_ZONE.register();
    enlist(&proc0);
    let thread0 = new_thread(&proc0, "swapper", NOCPU, |_| {}, 0);
    run_here(thread0);
    sched::add(thread0);
    IDLE.store(
        ptr::from_ref(new_process("idle", Some(11))).cast_mut(),
        Ordering::Release,
    );
    LISTS.lock().pid = 12;
    let idle = create_idle(0);
    pcpu::current()
        .pc_idlethread
        .store(ptr::from_ref(idle).cast_mut(), Ordering::Release);
    thread0
}

/// Marks a thread as the one that runs on this CPU.
fn run_here(thread: &'static thread) {
    thread.td_state.store(TDS_RUNNING, Ordering::Relaxed);
    thread
        .td_oncpu
        .store(pcpu::cpuid() as i32, Ordering::Relaxed);
    pcpu::current()
        .pc_curthread
        .store(ptr::from_ref(thread).cast_mut(), Ordering::Release);
}

/// Makes the idle thread of a CPU.
pub(crate) fn create_idle(cpu: usize) -> &'static thread {
    // SAFETY: set by `init`, and processes live forever.
    let idle = unsafe { IDLE.load(Ordering::Acquire).as_ref() }.expect("the idle process is there");
    let mut name = *b"idle: cpu00";
    let digits: &[u8] = if cpu < 10 {
        &[b'0' + cpu as u8]
    } else {
        &[b'1', b'0' + cpu as u8 - 10]
    };
    let len = 9 + digits.len();
    name[9..len].copy_from_slice(digits);
    let name = core::str::from_utf8(&name[..len]).unwrap_or("idle");
    new_thread(idle, name, cpu as i32, |_| sched::idle_loop(), 0)
}

/// Makes a CPU that has just started run its idle thread, on whose stack it is.
pub(crate) fn adopt_idle(cpu: usize) {
    // SAFETY: as in `create_idle`.
    let idle = unsafe { IDLE.load(Ordering::Acquire).as_ref() }.expect("the idle process is there");
    let own = idle.threads().find(|thread| thread.bound_to == cpu as i32);
    let own = own.expect("its idle thread was made before it started");
    pcpu::current()
        .pc_idlethread
        .store(ptr::from_ref(own).cast_mut(), Ordering::Release);
    run_here(own);
}

/// Makes process 1, which has nothing to do: there are no user programs.
pub(crate) fn create_init() {
    let process = new_process("init", Some(1));
    kthread_add(process, "init", NOCPU, |_| load::idle(), 0);
}

/// Makes a process with one thread, which runs as soon as a CPU is free.
pub(crate) fn kproc_create(name: &str, start: Start, argument: usize) -> &'static proc {
    let process = new_process(name, None);
    kthread_add(process, name, NOCPU, start, argument);
    process
}

/// Adds a thread to a process.
pub(crate) fn kthread_add(
    process: &'static proc,
    name: &str,
    bound_to: i32,
    start: Start,
    argument: usize,
) -> &'static thread {
    let thread = new_thread(process, name, bound_to, start, argument);
    thread.td_state.store(TDS_RUNQ, Ordering::Release);
    sched::add(thread);
    thread
}

/// Makes a process that is dead already: it is in the table by number only.
pub(crate) fn create_zombie(name: &str) {
    let process = new_process(name, None);
    process.p_state.store(PRS_ZOMBIE, Ordering::Relaxed);
    let _lists = LISTS.lock();
    let next = process.p_list.next.load(Ordering::Acquire);
    // It was put at the front a moment ago, unless another one was since.
    let previous = process.p_list.previous.load(Ordering::Acquire);
    // SAFETY: it points to the list's head or to a link of a process, which live forever.
    unsafe { (*previous).store(next, Ordering::Release) }
    // SAFETY: processes live forever.
    if let Some(next) = unsafe { next.as_ref() } {
        next.p_list.previous.store(previous, Ordering::Release);
    }
}
