//! sparc64: raw cores with a header of their own.

use super::Facts;
use crate::endian::{Endian, Width};

pub(super) const FACTS: Facts = Facts {
    name: "sparc64",
    machine_arch: ["sparc64", "sparc64"],
    endian: Some(Endian::Big),
    dump_arch_version: 1,
    elf_machine: 43,
    word: Width::W64,
    minidump: None,
    registers: None,
    prstatus: None,
};
