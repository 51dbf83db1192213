//! mips, 32-bit (o32 and n32).

use super::{Facts, MinidumpFacts};
use crate::endian::Width;
use crate::header::mips as header;

pub(super) const FACTS: Facts = Facts {
    name: "mips",
    machine_arch: ["mipsel", "mips"],
    endian: None,
    dump_arch_version: 1,
    elf_machine: 8,
    word: Width::W32,
    minidump: Some(MinidumpFacts {
        magic: "minidump FreeBSD/mips",
        dump_avail_since: 2,
        has_narrow_dump_avail: true,
        bitmap_of_words_since: 1,
        header_bytes: &[64, header::LEN],
        decode: header::decode,
        encode: header::encode,
    }),
    registers: None,
    prstatus: None,
};
