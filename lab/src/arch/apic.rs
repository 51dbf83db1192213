//! The local APIC: the timer interrupt, and interrupts from one CPU to another.

use crate::arch::mmio::Mmio;
use crate::arch::segments::{VECTOR_SPURIOUS, VECTOR_TIMER};
use crate::arch::time::Deadline;
use crate::arch::{cpu, time};
use core::sync::atomic::{AtomicU32, Ordering};
use vmcore_format::addr::{PhysAddr, VirtAddr};

/// The model-specific register that says where its registers are.
const MSR_APICBASE: u32 = 0x1b;

const EOI: usize = 0xb0;
const SVR: usize = 0xf0;
const ICR_LOW: usize = 0x300;
const ICR_HIGH: usize = 0x310;
const LVT_TIMER: usize = 0x320;
const LVT_LINT0: usize = 0x350;
const LVT_LINT1: usize = 0x360;
const TIMER_INITIAL: usize = 0x380;
const TIMER_CURRENT: usize = 0x390;
const TIMER_DIVIDE: usize = 0x3e0;

const SVR_ENABLE: u32 = 1 << 8;
const LVT_MASKED: u32 = 1 << 16;
const LVT_PERIODIC: u32 = 1 << 17;
const DELIVER_NMI: u32 = 4 << 8;
const DELIVER_INIT: u32 = 5 << 8;
const DELIVER_STARTUP: u32 = 6 << 8;
const ICR_ASSERT: u32 = 1 << 14;
const ICR_PENDING: u32 = 1 << 12;

static REGISTERS: Mmio = Mmio::new();
/// Timer counts in a tick.
static COUNTS_PER_TICK: AtomicU32 = AtomicU32::new(0);

/// Maps the registers by `map`, and measures the timer together with the time stamp counter.
pub(crate) fn init(map: impl FnOnce(PhysAddr, u64) -> VirtAddr) {
    let base = cpu::rdmsr(MSR_APICBASE) & 0xf_ffff_f000;
    REGISTERS.set(map(PhysAddr(base), 4096), 4096);
    // The old interrupt controllers stay silent.
    cpu::outb(0x21, 0xff);
    cpu::outb(0xa1, 0xff);
    REGISTERS.write(SVR, SVR_ENABLE | VECTOR_SPURIOUS as u32);
    REGISTERS.write(TIMER_DIVIDE, 0b1011); // by 1
    REGISTERS.write(LVT_TIMER, LVT_MASKED);
    time::init(
        || REGISTERS.write(TIMER_INITIAL, u32::MAX),
        |elapsed_ms| {
            let counts = u64::from(u32::MAX - REGISTERS.read(TIMER_CURRENT));
            let per_tick = counts * 1000 / elapsed_ms / u64::from(time::hz.unsigned_abs());
            COUNTS_PER_TICK.store(per_tick as u32, Ordering::Relaxed);
        },
    );
}

/// Starts the timer of the running CPU, and lets non-maskable interrupts in.
pub(crate) fn init_cpu() {
    REGISTERS.write(SVR, SVR_ENABLE | VECTOR_SPURIOUS as u32);
    REGISTERS.write(LVT_LINT0, LVT_MASKED);
    REGISTERS.write(LVT_LINT1, DELIVER_NMI);
    REGISTERS.write(TIMER_DIVIDE, 0b1011);
    REGISTERS.write(LVT_TIMER, LVT_PERIODIC | VECTOR_TIMER as u32);
    REGISTERS.write(TIMER_INITIAL, COUNTS_PER_TICK.load(Ordering::Relaxed));
}

/// The interrupt is taken care of.
pub(crate) fn end_of_interrupt() {
    REGISTERS.write(EOI, 0);
}

fn send(apic_id: u32, command: u32) {
    let deadline = Deadline::after_us(10_000);
    while REGISTERS.read(ICR_LOW) & ICR_PENDING != 0 && !deadline.has_passed() {}
    REGISTERS.write(ICR_HIGH, apic_id << 24);
    REGISTERS.write(ICR_LOW, command);
}

/// A non-maskable interrupt for another CPU.
pub(crate) fn send_nmi(apic_id: u32) {
    send(apic_id, ICR_ASSERT | DELIVER_NMI);
}

/// Resets another CPU, and lets it start in real mode at a page below 1 MiB.
pub(crate) fn start_cpu(apic_id: u32, page: u32) {
    send(apic_id, ICR_ASSERT | DELIVER_INIT);
    time::delay_us(10_000);
    send(apic_id, ICR_ASSERT | DELIVER_STARTUP | page);
}
