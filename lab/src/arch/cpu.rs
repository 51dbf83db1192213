//! The processor's own instructions: ports, control and model-specific registers, interrupts.
//!
//! Reading is harmless. Writing can change what memory means; the functions that do it are unsafe.

use core::arch::asm;
use core::arch::x86_64::{__cpuid_count, CpuidResult};

/// Interrupts are on.
const FLAGS_IF: u64 = 1 << 9;

pub(crate) fn outb(port: u16, value: u8) {
    // SAFETY: a port write reaches a device, not Rust's memory; devices that read or write memory
    // are told where by their drivers, who answer for it.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) }
}

pub(crate) fn inb(port: u16) -> u8 {
    let value: u8;
    // SAFETY: as for `outb`.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack)) }
    value
}

pub(crate) fn outw(port: u16, value: u16) {
    // SAFETY: as for `outb`.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nomem, nostack)) }
}

pub(crate) fn outl(port: u16, value: u32) {
    // SAFETY: as for `outb`.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack)) }
}

pub(crate) fn inl(port: u16) -> u32 {
    let value: u32;
    // SAFETY: as for `outb`.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nomem, nostack)) }
    value
}

pub(crate) fn rdtsc() -> u64 {
    // SAFETY: every x86-64 processor has a time stamp counter, and nothing forbids its reading.
    unsafe { core::arch::x86_64::_rdtsc() }
}

pub(crate) fn cpuid(leaf: u32) -> CpuidResult {
    __cpuid_count(leaf, 0)
}

pub(crate) fn rdmsr(register: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading changes nothing; callers name registers that the architecture guarantees.
    unsafe {
        asm!("rdmsr", in("ecx") register, out("eax") low, out("edx") high, options(nomem, nostack));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Writes a model-specific register.
///
/// # Safety
/// The register must exist, and what the value changes (the per-CPU base, paging modes) must suit
/// the code that runs afterwards.
pub(crate) unsafe fn wrmsr(register: u32, value: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("wrmsr", in("ecx") register, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack));
    }
}

pub(crate) fn cr2() -> u64 {
    let value: u64;
    // SAFETY: reading changes nothing.
    unsafe { asm!("mov {}, cr2", out(reg) value, options(nomem, nostack)) }
    value
}

pub(crate) fn cr3() -> u64 {
    let value: u64;
    // SAFETY: reading changes nothing.
    unsafe { asm!("mov {}, cr3", out(reg) value, options(nomem, nostack)) }
    value
}

/// Changes the root of the page tables.
///
/// # Safety
/// The new tables must map everything that is in use, with the same contents.
pub(crate) unsafe fn load_cr3(root: u64) {
    // SAFETY: the caller's promise.
    unsafe { asm!("mov cr3, {}", in(reg) root, options(nostack)) }
}

/// Forgets the translation of one page.
pub(crate) fn invlpg(va: u64) {
    // SAFETY: the next access walks the tables again: no memory changes.
    unsafe { asm!("invlpg [{}]", in(reg) va, options(nostack)) }
}

pub(crate) fn interrupts_on() -> bool {
    let flags: u64;
    // SAFETY: reading the flags changes nothing but this stack slot.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags, options(nomem)) }
    flags & FLAGS_IF != 0
}

pub(crate) fn disable_interrupts() {
    // SAFETY: nothing depends on being interrupted.
    unsafe { asm!("cli", options(nostack)) }
}

/// Lets interrupts in; only after the interrupt table is loaded.
pub(crate) fn enable_interrupts() {
    // SAFETY: every vector has a handler that leaves the interrupted code as it was.
    unsafe { asm!("sti", options(nostack)) }
}

/// Sleeps until the next interrupt.
pub(crate) fn wait_for_interrupt() {
    // SAFETY: as for `enable_interrupts`; `sti` takes effect after `hlt`, so none is missed.
    unsafe { asm!("sti", "hlt", options(nostack)) }
}

/// Sleeps with interrupts off: only a non-maskable interrupt wakes this CPU, if at all.
pub(crate) fn doze() {
    // SAFETY: nothing but time is lost; no code relies on this CPU waking up.
    unsafe { asm!("cli", "hlt", options(nostack)) }
}

/// Stops for good, with interrupts off.
pub(crate) fn halt() -> ! {
    loop {
        doze();
    }
}

/// A random number of the processor, if it has a source of them.
pub(crate) fn rdrand() -> Option<u64> {
    const RDRAND: u32 = 1 << 30;
    if cpuid(1).ecx & RDRAND == 0 {
        return None;
    }
    let (value, carry): (u64, u8);
    // SAFETY: the processor says that it has the instruction.
    unsafe {
        asm!("rdrand {}", "setc {}", out(reg) value, out(reg_byte) carry, options(nomem, nostack))
    }
    (carry == 1).then_some(value)
}

/// Stops on a breakpoint: the debugger's door.
#[inline(always)]
pub(crate) fn breakpoint() {
    // SAFETY: the handler leaves everything as it was.
    unsafe { asm!("int3", options(nostack)) }
}
