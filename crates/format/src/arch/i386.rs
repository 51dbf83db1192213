//! i386.

use super::{Facts, MinidumpFacts};
use crate::endian::{Endian, Width};
use crate::header::i386 as header;

const REGISTERS: &[&str] = &[
    "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip", "eflags", "cs", "ss", "ds",
    "es", "fs", "gs", "cr0", "cr2", "cr3", "cr4",
];
/// In the order of Linux' `elf_prstatus`.
const PRSTATUS: &[&str] = &[
    "ebx", "ecx", "edx", "esi", "edi", "ebp", "eax", "ds", "es", "fs", "gs", "orig_eax", "eip",
    "cs", "eflags", "esp", "ss",
];

pub(super) const FACTS: Facts = Facts {
    name: "i386",
    machine_arch: ["i386", "i386"],
    endian: Some(Endian::Little),
    dump_arch_version: 2,
    elf_machine: 3,
    word: Width::W32,
    minidump: Some(MinidumpFacts {
        magic: "minidump FreeBSD/i386",
        dump_avail_since: 2,
        has_narrow_dump_avail: false,
        bitmap_of_words_since: 1,
        header_bytes: &[48, header::LEN],
        decode: header::decode,
        encode: header::encode,
    }),
    registers: Some((3, REGISTERS)),
    prstatus: Some((144, PRSTATUS)),
};
