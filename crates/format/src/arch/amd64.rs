//! amd64.

use super::{Facts, MinidumpFacts};
use crate::endian::{Endian, Width};
use crate::header::amd64 as header;

const REGISTERS: &[&str] = &[
    "rax",
    "rcx",
    "rdx",
    "rbx",
    "rsp",
    "rbp",
    "rsi",
    "rdi",
    "r8",
    "r9",
    "r10",
    "r11",
    "r12",
    "r13",
    "r14",
    "r15",
    "rip",
    "rflags",
    "cs",
    "ss",
    "ds",
    "es",
    "fs",
    "gs",
    "fs_base",
    "gs_base",
    "kernel_gs_base",
    "cr0",
    "cr2",
    "cr3",
    "cr4",
];
/// In the order of Linux' `elf_prstatus`.
const PRSTATUS: &[&str] = &[
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi",
    "rdi", "orig_rax", "rip", "cs", "rflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs",
    "gs",
];

pub(super) const FACTS: Facts = Facts {
    name: "amd64",
    machine_arch: ["amd64", "amd64"],
    endian: Some(Endian::Little),
    dump_arch_version: 2,
    elf_machine: 62,
    word: Width::W64,
    minidump: Some(MinidumpFacts {
        magic: "minidump FreeBSD/amd64",
        dump_avail_since: 3,
        has_narrow_dump_avail: false,
        bitmap_of_words_since: 1,
        header_bytes: &[64, 64, header::LEN],
        decode: header::decode,
        encode: header::encode,
    }),
    registers: Some((1, REGISTERS)),
    prstatus: Some((336, PRSTATUS)),
};
