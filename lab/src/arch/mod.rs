//! The processor: boot, descriptors, traps, other CPUs, time.

use core::arch::global_asm;

pub(crate) mod apic;
pub(crate) mod cpu;
pub(crate) mod mp;
pub(crate) mod pcb;
pub(crate) mod pcpu;
pub(crate) mod probe;
pub(crate) mod segments;
pub(crate) mod start_info;
pub(crate) mod support;
pub(crate) mod time;
pub(crate) mod trap;

global_asm!(include_str!("boot.S"), options(att_syntax));
global_asm!(include_str!("exception.S"), options(att_syntax));
global_asm!(include_str!("support.S"), options(att_syntax));
