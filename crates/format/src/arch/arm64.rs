//! arm64.

use super::{Facts, MinidumpFacts};
use crate::endian::{Endian, Width};
use crate::header::arm64 as header;

const REGISTERS: &[&str] = &[
    "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14",
    "x15", "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27",
    "x28", "x29", "lr", "sp", "pc", "pstate", "ttbr0", "ttbr1", "tpidr", "esr", "far",
];
/// In the order of Linux' `elf_prstatus`.
const PRSTATUS: &[&str] = &[
    "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14",
    "x15", "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27",
    "x28", "fp", "lr", "sp", "pc", "pstate",
];

pub(super) const FACTS: Facts = Facts {
    name: "arm64",
    machine_arch: ["aarch64", "aarch64"],
    endian: Some(Endian::Little),
    dump_arch_version: 1,
    elf_machine: 183,
    word: Width::W64,
    minidump: Some(MinidumpFacts {
        magic: "minidump FreeBSD/arm64",
        dump_avail_since: 2,
        has_narrow_dump_avail: false,
        bitmap_of_words_since: 1,
        header_bytes: &[72, 76, header::LEN],
        decode: header::decode,
        encode: header::encode,
    }),
    registers: Some((2, REGISTERS)),
    prstatus: Some((392, PRSTATUS)),
};
