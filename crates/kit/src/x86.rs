//! x86-64: registers for a dump, ports, physical memory through a direct map.
//!
//! ```
//! use vmcore_kit::x86::{Registers, RIP, RSP};
//! let registers = Registers::here();
//! assert!(registers.0[RSP] != 0 && registers.0[RIP] != 0);
//! ```

use core::arch::asm;
use vmcore_writer::format::addr::PhysAddr;
use vmcore_writer::machine::{Cpu, CpuState, MAX_REGISTERS, Unreadable};

/// Places of registers, as `vmcore_format::registers` has them.
pub const RBX: usize = 3;
/// The stack pointer.
pub const RSP: usize = 4;
/// The frame pointer.
pub const RBP: usize = 5;
/// The first of `r12` to `r15`.
pub const R12: usize = 12;
/// The program counter.
pub const RIP: usize = 16;
/// The flags.
pub const RFLAGS: usize = 17;
/// The code segment.
pub const CS: usize = 18;
/// The stack segment.
pub const SS: usize = 19;

/// The registers of a CPU, in the order of a dump.
#[derive(Clone, Copy, Debug)]
pub struct Registers(pub [u64; MAX_REGISTERS]);

impl Registers {
    /// Those of the function that calls this: enough for a backtrace of it and its callers.
    #[inline(always)]
    #[must_use]
    pub fn here() -> Self {
        let mut all = [0; MAX_REGISTERS];
        let (rip, rsp, rbp, flags): (u64, u64, u64, u64);
        // SAFETY: reads registers; what is pushed is popped.
        unsafe {
            asm!(
                "lea {rip}, [rip]",
                "mov {rsp}, rsp",
                "mov {rbp}, rbp",
                "pushfq",
                "pop {flags}",
                rip = out(reg) rip,
                rsp = out(reg) rsp,
                rbp = out(reg) rbp,
                flags = out(reg) flags,
            );
        }
        let (rbx, r12, r13, r14, r15): (u64, u64, u64, u64, u64);
        // SAFETY: reads registers.
        unsafe {
            asm!(
                "mov {rbx}, rbx",
                "mov {r12}, r12",
                "mov {r13}, r13",
                "mov {r14}, r14",
                "mov {r15}, r15",
                rbx = out(reg) rbx,
                r12 = out(reg) r12,
                r13 = out(reg) r13,
                r14 = out(reg) r14,
                r15 = out(reg) r15,
                options(nomem, nostack, preserves_flags),
            );
        }
        for (place, value) in [
            (RIP, rip),
            (RSP, rsp),
            (RBP, rbp),
            (RFLAGS, flags),
            (RBX, rbx),
            (R12, r12),
            (R12 + 1, r13),
            (R12 + 2, r14),
            (R12 + 3, r15),
        ] {
            if let Some(register) = all.get_mut(place) {
                *register = value;
            }
        }
        Self(all)
    }

    /// Those of what an interrupt or a trap cut into: what the processor pushed (`rip`, `cs`, `rflags`, `rsp`,
    /// `ss`, as `InterruptStackFrame` of the crate `x86_64` has them), and the frame pointer.
    #[must_use]
    pub fn of_trap(pushed: [u64; 5], rbp: u64) -> Self {
        let mut all = [0; MAX_REGISTERS];
        let [rip, cs, rflags, rsp, ss] = pushed;
        for (place, value) in [
            (RIP, rip),
            (CS, cs),
            (RFLAGS, rflags),
            (RSP, rsp),
            (SS, ss),
            (RBP, rbp),
        ] {
            if let Some(register) = all.get_mut(place) {
                *register = value;
            }
        }
        Self(all)
    }

    /// The CPU that has them, as the one that dumps.
    #[must_use]
    pub const fn dumping(self, thread: u64) -> Cpu {
        Cpu {
            state: CpuState::Dumping,
            thread,
            registers: self.0,
        }
    }
}

/// Copies physical memory that is mapped from `direct_map` on.
///
/// # Errors
/// Returns an error if its address is beyond the address space.
///
/// # Safety
/// All of it must be mapped there, and be RAM.
pub unsafe fn copy_physical(
    direct_map: u64,
    from: PhysAddr,
    to: &mut [u8],
) -> Result<(), Unreadable> {
    let start = direct_map.checked_add(from.0).ok_or(Unreadable)?;
    // SAFETY: the caller says that it is mapped. Others may write it meanwhile, which an instruction of the
    // processor does not mind.
    unsafe {
        asm!(
            "rep movsb",
            inout("rcx") to.len() => _,
            inout("rsi") start => _,
            inout("rdi") to.as_mut_ptr() => _,
            options(nostack, preserves_flags),
        );
    }
    Ok(())
}

/// Reads a port.
///
/// # Safety
/// Reading it must do no harm to the machine.
#[must_use]
pub unsafe fn inb(port: u16) -> u8 {
    let value: u8;
    // SAFETY: the caller's.
    unsafe {
        asm!("in al, dx", out("al") value, in("dx") port, options(nomem, nostack, preserves_flags))
    }
    value
}

/// Reads 16 bits of a port.
///
/// # Safety
/// Reading it must do no harm to the machine.
#[must_use]
pub unsafe fn inw(port: u16) -> u16 {
    let value: u16;
    // SAFETY: the caller's.
    unsafe {
        asm!("in ax, dx", out("ax") value, in("dx") port, options(nomem, nostack, preserves_flags))
    }
    value
}

/// Writes a port.
///
/// # Safety
/// What the device does then must do no harm to the machine.
pub unsafe fn outb(port: u16, value: u8) {
    // SAFETY: the caller's.
    unsafe {
        asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags))
    }
}

/// Writes 16 bits to a port.
///
/// # Safety
/// What the device does then must do no harm to the machine.
pub unsafe fn outw(port: u16, value: u16) {
    // SAFETY: the caller's.
    unsafe {
        asm!("out dx, ax", in("dx") port, in("ax") value, options(nomem, nostack, preserves_flags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_those_of_the_caller() {
        let local = 0u8;
        let registers = Registers::here();
        let sp = registers.0[RSP];
        let at = (&raw const local).addr() as u64;
        assert!(at.abs_diff(sp) < 4096, "{at:#x} {sp:#x}");
        let here = registers_are_those_of_the_caller as *const () as u64;
        assert!((here..here + 4096).contains(&registers.0[RIP]));
    }

    #[test]
    fn memory_is_copied_to_the_last_byte() {
        let memory: [u8; 21] = core::array::from_fn(|index| u8::try_from(index).unwrap());
        let at = memory.as_ptr().expose_provenance() as u64;
        let mut copy = [0; 21];
        // SAFETY: the array.
        unsafe { copy_physical(0, PhysAddr(at), &mut copy) }.unwrap();
        assert_eq!(copy, memory);
        // SAFETY: nothing is read.
        assert!(unsafe { copy_physical(u64::MAX, PhysAddr(1), &mut copy) }.is_err());
    }
}
