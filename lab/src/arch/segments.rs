//! Descriptors: segments, the task state with the stacks of the worst traps, the interrupt table.

use crate::arch::MAXCPU;
use core::arch::asm;
use core::cell::UnsafeCell;
use core::mem::size_of;

/// FreeBSD's selectors.
pub(crate) const KCSEL: u16 = 0x20;
const KDSEL: u16 = 0x28;
const TSSSEL: u16 = 0x48;
/// Slots of the descriptor table.
const NGDT: usize = 11;

/// Stacks of their own, by number in the task state.
const IST_DBLFAULT: u8 = 1;
const IST_NMI: u8 = 2;
const IST_MCHK: u8 = 3;
/// Pages of each of them: a double fault runs the debugger and the dump there.
const IST_PAGES: usize = 8;

/// Vector of the timer, and of interrupts that were withdrawn.
pub(crate) const VECTOR_TIMER: usize = 0xef;
pub(crate) const VECTOR_SPURIOUS: usize = 0xff;

#[repr(C, packed(4))]
struct Tss {
    reserved: u32,
    rsp: [u64; 3],
    reserved1: u64,
    ist: [u64; 7],
    reserved2: u64,
    reserved3: u16,
    iobase: u16,
}

#[repr(C, align(16))]
struct Descriptors {
    gdt: [u64; NGDT],
    tss: Tss,
}

#[repr(transparent)]
struct PerCpu(UnsafeCell<[Descriptors; MAXCPU]>);
// SAFETY: each CPU touches its own element only, once, before it lets interrupts in.
unsafe impl Sync for PerCpu {}

static DESCRIPTORS: PerCpu = PerCpu(UnsafeCell::new(
    [const {
        Descriptors {
            gdt: [0; NGDT],
            tss: Tss {
                reserved: 0,
                rsp: [0; 3],
                reserved1: 0,
                ist: [0; 7],
                reserved2: 0,
                reserved3: 0,
                iobase: size_of::<Tss>() as u16,
            },
        }
    }; MAXCPU],
));

/// An entry of the interrupt table.
#[repr(C)]
#[derive(Clone, Copy)]
struct Gate {
    offset_low: u16,
    selector: u16,
    ist: u8,
    kind: u8,
    offset_middle: u16,
    offset_high: u32,
    reserved: u32,
}

#[repr(C, align(16))]
struct Idt(UnsafeCell<[Gate; 256]>);
// SAFETY: the boot CPU fills it before any other CPU runs.
unsafe impl Sync for Idt {}

static IDT: Idt = Idt(UnsafeCell::new(
    [Gate {
        offset_low: 0,
        selector: 0,
        ist: 0,
        kind: 0,
        offset_middle: 0,
        offset_high: 0,
        reserved: 0,
    }; 256],
));

#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

unsafe extern "C" {
    fn Xdiv();
    fn Xdbg();
    fn Xnmi();
    fn Xbpt();
    fn Xofl();
    fn Xbnd();
    fn Xill();
    fn Xdna();
    fn Xdblfault();
    fn Xtss();
    fn Xmissing();
    fn Xstk();
    fn Xprot();
    fn Xpage();
    fn Xfpu();
    fn Xalign();
    fn Xmchk();
    fn Xxmm();
    fn Xrsvd();
    fn Xtimerint();
    fn Xspuriousint();
}

/// Fills the interrupt table; once, on the boot CPU.
pub(crate) fn init_idt() {
    let traps: [(usize, unsafe extern "C" fn(), u8); 22] = [
        (0, Xdiv, 0),
        (1, Xdbg, 0),
        (2, Xnmi, IST_NMI),
        (3, Xbpt, 0),
        (4, Xofl, 0),
        (5, Xbnd, 0),
        (6, Xill, 0),
        (7, Xdna, 0),
        (8, Xdblfault, IST_DBLFAULT),
        (9, Xrsvd, 0),
        (10, Xtss, 0),
        (11, Xmissing, 0),
        (12, Xstk, 0),
        (13, Xprot, 0),
        (14, Xpage, 0),
        (15, Xrsvd, 0),
        (16, Xfpu, 0),
        (17, Xalign, 0),
        (18, Xmchk, IST_MCHK),
        (19, Xxmm, 0),
        (VECTOR_TIMER, Xtimerint, 0),
        (VECTOR_SPURIOUS, Xspuriousint, 0),
    ];
    // SAFETY: no other CPU runs yet, and there is no reference.
    let idt = unsafe { &mut *IDT.0.get() };
    for (vector, handler, ist) in traps {
        let offset = handler as usize as u64;
        idt[vector] = Gate {
            offset_low: offset as u16,
            selector: KCSEL,
            ist,
            kind: 0x8e, // present, interrupt gate: interrupts go off
            offset_middle: (offset >> 16) as u16,
            offset_high: (offset >> 32) as u32,
            reserved: 0,
        };
    }
}

/// Loads the running CPU's descriptors. `stack_top` allocates a trap stack of so many pages, with a
/// guard page below it, and returns its end.
pub(crate) fn init_cpu(cpu: usize, stack_top: impl Fn(usize) -> u64) {
    // SAFETY: only this CPU touches its element, and only here.
    let own = unsafe { &mut (*DESCRIPTORS.0.get())[cpu] };
    let mut ist = [0; 7];
    for slot in [IST_DBLFAULT, IST_NMI, IST_MCHK] {
        ist[usize::from(slot) - 1] = stack_top(IST_PAGES);
    }
    own.tss.ist = ist;
    let base = core::ptr::from_ref(&own.tss).addr() as u64;
    let limit = size_of::<Tss>() as u64 - 1;
    own.gdt[usize::from(KCSEL) / 8] = 0x00af_9b00_0000_ffff;
    own.gdt[usize::from(KDSEL) / 8] = 0x00cf_9300_0000_ffff;
    own.gdt[usize::from(TSSSEL) / 8] =
        limit | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56;
    own.gdt[usize::from(TSSSEL) / 8 + 1] = base >> 32;
    let gdt = Pointer {
        limit: (size_of::<[u64; NGDT]>() - 1) as u16,
        base: own.gdt.as_ptr().addr() as u64,
    };
    let idt = Pointer {
        limit: (size_of::<[Gate; 256]>() - 1) as u16,
        base: IDT.0.get().addr() as u64,
    };
    // SAFETY: both tables live forever and hold what the selectors loaded here name: flat code and
    // data, and a task state that is not busy.
    unsafe {
        asm!(
            "lgdt [{gdt}]",
            "push {cs}",
            "lea {scratch}, [rip + 2f]",
            "push {scratch}",
            "retfq",
            "2:",
            "mov ds, {ds:e}",
            "mov es, {ds:e}",
            "mov ss, {ds:e}",
            "lidt [{idt}]",
            "ltr {tss:x}",
            gdt = in(reg) &gdt,
            idt = in(reg) &idt,
            cs = in(reg) u64::from(KCSEL),
            ds = in(reg) u64::from(KDSEL),
            tss = in(reg) u64::from(TSSSEL),
            scratch = out(reg) _,
        );
    }
}
