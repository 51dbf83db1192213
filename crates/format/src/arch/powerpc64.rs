//! powerpc64, of either byte order.

use super::{Facts, MinidumpFacts};
use crate::endian::Width;
use crate::header::powerpc64 as header;

const REGISTERS: &[&str] = &[
    "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15", "r16", "r17", "r18", "r19", "r20", "r21", "r22", "r23", "r24", "r25", "r26", "r27",
    "r28", "r29", "r30", "r31", "pc", "msr", "cr", "lr", "ctr", "xer", "dar", "dsisr",
];
/// In the order of Linux' `elf_prstatus`.
pub(super) const PRSTATUS: &[&str] = &[
    "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15", "r16", "r17", "r18", "r19", "r20", "r21", "r22", "r23", "r24", "r25", "r26", "r27",
    "r28", "r29", "r30", "r31", "pc", "msr", "orig_r3", "ctr", "lr", "xer", "cr", "softe", "trap",
    "dar", "dsisr", "result", "", "", "", "",
];

pub(super) const FACTS: Facts = Facts {
    name: "powerpc64",
    machine_arch: ["powerpc64le", "powerpc64"],
    endian: None,
    dump_arch_version: 1,
    elf_machine: 21,
    word: Width::W64,
    minidump: Some(MinidumpFacts {
        magic: "minidump FreeBSD/powerpc64",
        dump_avail_since: 2,
        has_narrow_dump_avail: false,
        bitmap_of_words_since: 1,
        header_bytes: &[136, header::LEN],
        decode: header::decode,
        encode: header::encode,
    }),
    registers: Some((6, REGISTERS)),
    prstatus: Some((504, PRSTATUS)),
};
