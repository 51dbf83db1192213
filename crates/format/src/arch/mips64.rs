//! mips, 64-bit (n64).

use super::{Facts, MinidumpFacts};
use crate::endian::Width;
use crate::header::mips as header;

pub(super) const FACTS: Facts = Facts {
    name: "mips64",
    machine_arch: ["mips64el", "mips64"],
    endian: None,
    dump_arch_version: 1,
    elf_machine: 8,
    word: Width::W64,
    minidump: Some(MinidumpFacts {
        magic: "minidump FreeBSD/mips",
        dump_avail_since: 2,
        has_narrow_dump_avail: false,
        bitmap_of_words_since: 2,
        header_bytes: &[64, header::LEN],
        decode: header::decode,
        encode: header::encode,
    }),
    registers: None,
    prstatus: None,
};
