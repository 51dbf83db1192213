//! Bugs of memory: a null member, a freed item, a double free, a broken list, an overflowed stack, a jump
//! to data.

use crate::kern::{proc, sched};
use crate::sys::proc::{Link, list_remove};
use crate::vm::uma::Zone;
use core::hint::black_box;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};

/// Driver entry of an interface.
type Ioctl = unsafe extern "C" fn(*mut ifnet, u64) -> i32;

/// A network interface.
#[repr(C)]
struct ifnet {
    if_xname: [u8; 16],
    if_softc: *mut softc,
    if_ioctl: Ioctl,
    if_flags: u32,
    if_mtu: u32,
    if_opackets: u64,
}

/// What a driver keeps of its device.
#[repr(C)]
struct softc {
    sc_reads: u64,
    sc_registers: [u32; 14],
}

/// A packet.
#[repr(C)]
struct mbuf {
    m_next: *mut mbuf,
    m_data: *mut u8,
    m_len: u32,
    m_flags: u32,
    m_rcvif: *mut ifnet,
}

static MBUF_ZONE: Zone = Zone::new("mbuf", 256);
static IFNET_ZONE: Zone = Zone::new("ifnet", size_of::<ifnet>());
static TCPCB_ZONE: Zone = Zone::new("tcpcb", size_of::<tcpcb>());
static INPCB_ZONE: Zone = Zone::new("tcp_inpcb", size_of::<inpcb>());

/// A packet of `len` bytes that no interface has received.
#[unsafe(no_mangle)]
#[inline(never)]
fn m_gethdr(len: u32) -> *mut mbuf {
    let m = MBUF_ZONE.alloc().cast::<mbuf>().as_ptr();
    // SAFETY: a fresh item, zeroed, with room for it.
    unsafe { (*m).m_len = len };
    m
}

#[unsafe(no_mangle)]
#[inline(never)]
unsafe fn m_freem(m: *mut mbuf) {
    if let Some(item) = NonNull::new(m) {
        // SAFETY: none: what it frees is up to its callers.
        unsafe { MBUF_ZONE.free(item.cast()) }
    }
    // What comes after a call keeps the caller on the stack.
    black_box(());
}

/// A packet that the kernel made itself has no interface; the forwarding code does not check.
pub(super) fn null_member(_: usize) {
    MBUF_ZONE.register();
    let m = m_gethdr(1500);
    // SAFETY: none: this is the bug.
    let error = unsafe { ip_input(m) };
    black_box(error);
}

#[unsafe(no_mangle)]
#[inline(never)]
unsafe fn ip_input(m: *mut mbuf) -> i32 {
    // SAFETY: none: this is the bug.
    unsafe {
        (*m).m_flags |= 2;
        let error = ip_forward(m);
        (*m).m_flags &= !2;
        error
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
unsafe fn ip_forward(m: *mut mbuf) -> i32 {
    // SAFETY: none: this is the bug.
    unsafe {
        let error = ether_output((*m).m_rcvif, m);
        if error != 0 {
            m_freem(m);
        }
        error
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
unsafe fn ether_output(ifp: *mut ifnet, m: *mut mbuf) -> i32 {
    // SAFETY: none: this is the bug.
    unsafe {
        if (*m).m_len > (*ifp).if_mtu {
            return 40; // EMSGSIZE
        }
        (*ifp).if_opackets = (*ifp).if_opackets.wrapping_add(1);
    }
    0
}

/// A connection, and the endpoint that it belongs to.
#[repr(C)]
struct tcpcb {
    t_state: u64,
    t_inpcb: *mut inpcb,
    t_rxtshift: u32,
}

#[repr(C)]
struct inpcb {
    inp_refcount: u64,
    inp_flags: u32,
}

/// The timer still runs when its connection is freed.
pub(super) fn use_after_free(_: usize) {
    TCPCB_ZONE.register();
    INPCB_ZONE.register();
    // Another connection keeps the slab.
    let [tp, _other] = [(); 2].map(|()| TCPCB_ZONE.alloc().cast::<tcpcb>().as_ptr());
    let inp = INPCB_ZONE.alloc().cast::<inpcb>().as_ptr();
    proc::kproc_create("sshd", soreceive, tp.expose_provenance());
    sched::yield_for(5);
    // SAFETY: fresh items; then none: this is the bug.
    unsafe {
        (*tp).t_inpcb = inp;
        tcp_discardcb(tp);
        let dropped = tcp_timer_rexmt(tp);
        black_box(dropped);
    }
}

/// Waits for data of the connection.
#[unsafe(no_mangle)]
#[inline(never)]
fn soreceive(connection: usize) {
    let kept = black_box([connection]);
    sched::sleep(c"sbwait", 1000);
    black_box(kept);
}

#[unsafe(no_mangle)]
#[inline(never)]
unsafe fn tcp_discardcb(tp: *mut tcpcb) {
    if let Some(item) = NonNull::new(tp) {
        // SAFETY: the connection is an item of the zone.
        unsafe { TCPCB_ZONE.free(item.cast()) }
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
unsafe fn tcp_timer_rexmt(tp: *mut tcpcb) -> bool {
    // SAFETY: none: this is the bug.
    unsafe {
        let inp = (*tp).t_inpcb;
        if (*inp).inp_flags & 4 != 0 {
            return false;
        }
        (*tp).t_rxtshift = (*tp).t_rxtshift.wrapping_add(1);
        (*tp).t_rxtshift > 12
    }
}

/// Both the callee and its caller free a packet that cannot be sent.
pub(super) fn double_free(_: usize) {
    MBUF_ZONE.register();
    // Another packet keeps the slab.
    let [m, _other] = [9000, 64].map(m_gethdr);
    // SAFETY: none: this is the bug.
    unsafe {
        if udp_send(m) != 0 {
            m_freem(m);
        }
    }
    black_box(());
}

#[unsafe(no_mangle)]
#[inline(never)]
unsafe fn udp_send(m: *mut mbuf) -> i32 {
    // SAFETY: none: this is the bug.
    unsafe {
        if (*m).m_len > 1472 {
            m_freem(m);
            return 40; // EMSGSIZE
        }
    }
    0
}

/// A handler of events, on its list.
#[repr(C)]
struct eventhandler_entry {
    ee_link: Link<eventhandler_entry>,
    ee_priority: i32,
}

impl eventhandler_entry {
    const fn new(priority: i32) -> Self {
        Self {
            ee_link: Link::new(),
            ee_priority: priority,
        }
    }
}

static SHUTDOWN_LIST: AtomicPtr<eventhandler_entry> = AtomicPtr::new(ptr::null_mut());
static HANDLERS: [eventhandler_entry; 3] = [
    eventhandler_entry::new(0),
    eventhandler_entry::new(100),
    eventhandler_entry::new(200),
];

/// A handler is deregistered by its driver and by its module.
pub(super) fn list_corruption(_: usize) {
    for handler in &HANDLERS {
        Link::insert_head(&SHUTDOWN_LIST, handler, |handler| &handler.ee_link);
    }
    for _ in 0..2 {
        eventhandler_deregister(black_box(&HANDLERS[1]));
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
fn eventhandler_deregister(ep: &'static eventhandler_entry) {
    if ep.ee_priority > 0 {
        list_remove!(ep, ee_link);
    }
}

/// The state of a path lookup.
#[repr(C)]
struct nameidata {
    ni_loopcnt: u64,
    ni_target: [usize; 2],
    ni_path: [u8; 192],
}

/// Two symbolic links name each other, and the limit of such links is not kept.
pub(super) fn recursion(_: usize) {
    let mut nd = nameidata {
        ni_loopcnt: 0,
        ni_target: [1, 0],
        ni_path: [b'/'; 192],
    };
    black_box(namei(&mut nd, 0));
}

#[unsafe(no_mangle)]
#[inline(never)]
fn namei(ndp: &mut nameidata, link: usize) -> u64 {
    let path = black_box(ndp.ni_path);
    let found = vfs_lookup(ndp, link);
    found + u64::from(path[link & 1])
}

#[unsafe(no_mangle)]
#[inline(never)]
fn vfs_lookup(ndp: &mut nameidata, link: usize) -> u64 {
    ndp.ni_loopcnt += 1;
    let target = ndp.ni_target[link & 1];
    let found = namei(ndp, target);
    found + ndp.ni_loopcnt
}

/// A driver passes its softc where its entry belongs, and the other way round.
pub(super) fn wild_jump(_: usize) {
    IFNET_ZONE.register();
    let sc = MBUF_ZONE.alloc().cast::<softc>().as_ptr();
    let ifp = IFNET_ZONE.alloc().cast::<ifnet>().as_ptr();
    // SAFETY: none: this is the bug.
    unsafe {
        if_setdrv(ifp, em_ioctl as *const () as usize, sc.addr());
        let error = ifhwioctl(ifp, 0x8020_6910);
        black_box(error);
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
unsafe fn if_setdrv(ifp: *mut ifnet, softc: usize, ioctl: usize) {
    // SAFETY: none: a driver passes words, and this takes them for what they should be.
    unsafe {
        (*ifp).if_softc = ptr::with_exposed_provenance_mut(softc);
        (*ifp).if_ioctl = core::mem::transmute::<usize, Ioctl>(ioctl);
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
unsafe fn ifhwioctl(ifp: *mut ifnet, command: u64) -> i32 {
    // SAFETY: none: this is the bug.
    unsafe {
        let error = ((*ifp).if_ioctl)(ifp, command);
        (*ifp).if_flags |= u32::from(error == 0);
        error
    }
}

unsafe extern "C" fn em_ioctl(ifp: *mut ifnet, command: u64) -> i32 {
    // SAFETY: the caller passes an interface of this driver.
    unsafe {
        let sc = (*ifp).if_softc;
        (*sc).sc_reads += command & 1;
        (*sc).sc_registers[0] as i32
    }
}
