//! powerpc, 32-bit: virtual ELF cores only.

use super::Facts;
use super::powerpc64::PRSTATUS;
use crate::endian::{Endian, Width};

pub(super) const FACTS: Facts = Facts {
    name: "powerpc",
    machine_arch: ["powerpc", "powerpc"],
    endian: Some(Endian::Big),
    dump_arch_version: 1,
    elf_machine: 20,
    word: Width::W32,
    minidump: None,
    registers: None,
    prstatus: Some((268, PRSTATUS)),
};
