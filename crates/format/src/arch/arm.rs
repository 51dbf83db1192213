//! arm, 32-bit.

use super::{Facts, MinidumpFacts};
use crate::endian::Width;
use crate::header::arm as header;

const REGISTERS: &[&str] = &[
    "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "sp", "lr",
    "pc", "cpsr", "ttbr0", "ttbr1", "dfsr", "dfar", "ifsr", "ifar",
];
/// In the order of Linux' `elf_prstatus`.
const PRSTATUS: &[&str] = &[
    "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "sp", "lr",
    "pc", "cpsr", "orig_r0",
];

pub(super) const FACTS: Facts = Facts {
    name: "arm",
    machine_arch: ["armv7", "armeb"],
    endian: None,
    dump_arch_version: 1,
    elf_machine: 40,
    word: Width::W32,
    minidump: Some(MinidumpFacts {
        magic: "minidump FreeBSD/arm",
        dump_avail_since: 2,
        has_narrow_dump_avail: true,
        bitmap_of_words_since: 1,
        header_bytes: &[52, header::LEN],
        decode: header::decode,
        encode: header::encode,
    }),
    registers: Some((5, REGISTERS)),
    prstatus: Some((148, PRSTATUS)),
};
