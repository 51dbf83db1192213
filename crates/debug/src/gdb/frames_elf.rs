//! The ELF file around the call frame information for gdb.
//!
//! Its `.text` has no contents: it is where the copy of the exception entries is, so that their symbols
//! count, or else empty, so that gdb sees no overlap with the kernel.

use vmcore_format::arch::Arch;
use vmcore_format::endian::{Endian, Width};

/// Numbers as a kernel's files hold them.
#[derive(Clone, Copy)]
pub(super) struct Bytes {
    word: Width,
    endian: Endian,
}

impl Bytes {
    pub(super) const fn new(word: Width, endian: Endian) -> Self {
        Self { word, endian }
    }

    pub(super) fn word_bytes(self) -> usize {
        usize::try_from(self.word.bytes()).unwrap_or(8)
    }

    fn half(self, out: &mut Vec<u8>, value: u16) {
        match self.endian {
            Endian::Little => out.extend(value.to_le_bytes()),
            Endian::Big => out.extend(value.to_be_bytes()),
        }
    }

    pub(super) fn word32(self, out: &mut Vec<u8>, value: u64) {
        out.extend(self.endian.bytes32(u32::try_from(value).unwrap_or(0)));
    }

    pub(super) fn word(self, out: &mut Vec<u8>, value: u64) {
        match self.word {
            Width::W32 => self.word32(out, value),
            Width::W64 => out.extend(self.endian.bytes64(value)),
        }
    }
}

pub(super) fn uleb(bytes: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

const SHT_PROGBITS: u64 = 1;
const SHT_SYMTAB: u64 = 2;
const SHT_STRTAB: u64 = 3;
const SHT_NOBITS: u64 = 8;
/// `SHF_ALLOC`, `SHF_EXECINSTR`.
const ALLOCATED_CODE: u64 = 6;
/// A global function, as `st_info` says it.
const GLOBAL_FUNCTION: u8 = 0x12;
/// The names of the sections, and where each begins.
const NAMES: &[u8] = b"\0.text\0.debug_frame\0.symtab\0.strtab\0";

/// The file: `.debug_frame`, and symbols, each with its address.
pub(super) fn file(arch: Arch, bytes: Bytes, frames: &[u8], symbols: &[(Vec<u8>, u64)]) -> Vec<u8> {
    let (header_len, section_len, symbol_len) = match bytes.word {
        Width::W32 => (52, 40, 16),
        Width::W64 => (64, 64, 24),
    };
    let mut strings = NAMES.to_vec();
    let mut table = vec![0; symbol_len];
    for (name, address) in symbols {
        let at = strings.len() as u64;
        strings.extend(name);
        strings.push(0);
        bytes.word32(&mut table, at);
        if bytes.word == Width::W32 {
            bytes.word(&mut table, *address);
            bytes.word(&mut table, 0);
        }
        table.extend([GLOBAL_FUNCTION, 0]);
        bytes.half(&mut table, 1); // in .text
        if bytes.word == Width::W64 {
            bytes.word(&mut table, *address);
            bytes.word(&mut table, 0);
        }
    }
    let mut file = vec![0; header_len];
    let mut put = |content: &[u8]| {
        file.resize(file.len().next_multiple_of(8), 0);
        let at = file.len() as u64;
        file.extend(content);
        (at, content.len() as u64)
    };
    let (frames_at, frames_len) = put(frames);
    let (table_at, table_len) = put(&table);
    let (strings_at, strings_len) = put(&strings);
    let (headers_at, _) = put(&[]);
    let start = symbols.iter().map(|(_, at)| *at).min().unwrap_or(0);
    let last = symbols.iter().map(|(_, at)| *at).max().unwrap_or(0);
    // Nothing says where the last one ends.
    let len = if symbols.is_empty() {
        0
    } else {
        last - start + 0x100
    };
    // name, type, flags, address, offset, size; link, info; alignment, size of an entry
    let sections: [[u64; 10]; 5] = [
        [0; 10],
        [1, SHT_NOBITS, ALLOCATED_CODE, start, 0, len, 0, 0, 1, 0],
        [7, SHT_PROGBITS, 0, 0, frames_at, frames_len, 0, 0, 1, 0],
        [
            20,
            SHT_SYMTAB,
            0,
            0,
            table_at,
            table_len,
            4,
            1,
            1,
            symbol_len as u64,
        ],
        [28, SHT_STRTAB, 0, 0, strings_at, strings_len, 0, 0, 1, 0],
    ];
    for [
        name,
        kind,
        flags,
        address,
        offset,
        size,
        link,
        info,
        alignment,
        item,
    ] in sections
    {
        bytes.word32(&mut file, name);
        bytes.word32(&mut file, kind);
        for wide in [flags, address, offset, size] {
            bytes.word(&mut file, wide);
        }
        bytes.word32(&mut file, link);
        bytes.word32(&mut file, info);
        bytes.word(&mut file, alignment);
        bytes.word(&mut file, item);
    }
    let class = if bytes.word == Width::W32 { 1 } else { 2 };
    let data = if bytes.endian == Endian::Little { 1 } else { 2 };
    let mut header = vec![0x7f, b'E', b'L', b'F', class, data, 1];
    header.resize(16, 0);
    bytes.half(&mut header, 2); // executable
    bytes.half(&mut header, arch.elf_machine());
    bytes.word32(&mut header, 1);
    for wide in [0, 0, headers_at] {
        bytes.word(&mut header, wide); // entry, program headers, section headers
    }
    bytes.word32(&mut header, 0); // flags
    let headers = [header_len, 0, 0, section_len, sections.len(), 4];
    for field in headers {
        bytes.half(&mut header, u16::try_from(field).unwrap_or(0));
    }
    if let Some(place) = file.get_mut(..header_len) {
        place.copy_from_slice(&header);
    }
    file
}
