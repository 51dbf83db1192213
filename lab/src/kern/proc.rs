//! Processes and threads: creating, listing and finding them.
//!
//! All processes are kernel processes: there are no user programs.

use crate::arch::pcb::{pcb, trapframe};
use crate::kern::sched;
use crate::sys::lock::SpinLock;
use crate::sys::pcpu;
use crate::sys::proc::{
    Link, NOCPU, PRS_ZOMBIE, TDS_INHIBITED, TDS_RUNNING, TDS_RUNQ, list_remove, name_bytes, proc,
    thread,
};
use crate::vm::kmem;
use crate::vm::uma::Zone;
use core::ptr;
use core::sync::atomic::{AtomicI32, AtomicPtr, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Pages of a thread's stack.
pub(crate) const KSTACK_PAGES: usize = 4;
/// The number of the first thread; processes have smaller numbers.
const FIRST_TID: i32 = 100_000;

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
    c"allproc",
    Next {
        pid: 0,
        tid: FIRST_TID,
    },
);

struct Next {
    pid: i32,
    tid: i32,
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
    Link::insert_head(&allproc, process, |process| &process.p_list);
    let slot = &PID_TABLE[process.p_pid as usize & PIDHASH];
    Link::insert_head(slot, process, |process| &process.p_hash);
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
        to_td_blocked: [0; _],
        td_blocked: AtomicPtr::new(ptr::null_mut()),
        td_lockname: AtomicPtr::new(ptr::null_mut()),
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
    kthread_add(process, "init", NOCPU, |_| sched::sleep_forever(), 0);
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
    list_remove!(process, p_list);
}
