//! The processor: boot, descriptors, registers, time, the layout of addresses.

use core::arch::global_asm;

pub(crate) mod apic;
pub(crate) mod cpu;
pub(crate) mod layout;
pub(crate) mod mmio;
pub(crate) mod pcb;
pub(crate) mod probe;
pub(crate) mod reset;
pub(crate) mod segments;
pub(crate) mod start_info;
pub(crate) mod support;
pub(crate) mod time;

/// The most CPUs that this kernel starts.
pub(crate) const MAXCPU: usize = 16;

global_asm!(include_str!("boot.S"), options(att_syntax));
global_asm!(include_str!("exception.S"), options(att_syntax));
global_asm!(include_str!("support.S"), options(att_syntax));
