//! riscv64.

use super::{Facts, MinidumpFacts};
use crate::endian::{Endian, Width};
use crate::header::riscv64 as header;

const REGISTERS: &[&str] = &[
    "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4", "a5", "a6",
    "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
    "pc", "sstatus", "scause", "stval", "satp",
];
/// In the order of Linux' `elf_prstatus`.
const PRSTATUS: &[&str] = &[
    "pc", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "fp", "s1", "a0", "a1", "a2", "a3", "a4", "a5",
    "a6", "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5",
    "t6",
];

pub(super) const FACTS: Facts = Facts {
    name: "riscv",
    machine_arch: ["riscv64", "riscv64"],
    endian: Some(Endian::Little),
    dump_arch_version: 1,
    elf_machine: 243,
    word: Width::W64,
    minidump: Some(MinidumpFacts {
        magic: "minidump FreeBSD/riscv",
        dump_avail_since: 2,
        has_narrow_dump_avail: false,
        bitmap_of_words_since: 1,
        header_bytes: &[72, header::LEN],
        decode: header::decode,
        encode: header::encode,
    }),
    registers: Some((4, REGISTERS)),
    prstatus: Some((376, PRSTATUS)),
};
