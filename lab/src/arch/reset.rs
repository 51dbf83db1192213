//! Leaving the machine: reset and power off.

use crate::arch::{cpu, time};

/// Resets the machine.
pub(crate) fn reset() -> ! {
    cpu::disable_interrupts();
    cpu::outb(0xcf9, 2);
    cpu::outb(0xcf9, 6);
    time::delay_us(100_000);
    cpu::outb(0x64, 0xfe); // the keyboard controller's way
    cpu::halt()
}

/// Switches the machine off.
pub(crate) fn poweroff() -> ! {
    cpu::disable_interrupts();
    cpu::outw(0x604, 0x2000); // the power management of both of QEMU's PC machines
    cpu::halt()
}
