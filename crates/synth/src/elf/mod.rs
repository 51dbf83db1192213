//! ELF files: full dumps and kernels.
//!
//! Both are written field by field, for 64-bit and 32-bit machines of either byte order.

mod full;
mod kernel;

pub use full::{Delta, FullDump, Segment};
pub use kernel::{Kernel, Section, SectionKind, Symbol};

use crate::Arch;
use crate::bytes::put;

/// `e_type` of an executable.
pub const ET_EXEC: u16 = 2;
/// `e_type` of a kernel that can be moved.
pub const ET_DYN: u16 = 3;
/// `e_type` of a core.
pub const ET_CORE: u16 = 4;
/// `p_type` of a segment to load.
pub const PT_LOAD: u32 = 1;
/// `p_type` of notes.
pub const PT_NOTE: u32 = 4;
/// `p_type` of the header that says where the kernel was loaded.
pub const PT_DUMP_DELTA: u32 = 0x6fb5_d000;

/// The ELF header, by its fields' own names.
#[derive(Clone, Debug)]
struct FileHeader {
    class: u8,
    data: u8,
    osabi: u8,
    e_type: u16,
    e_machine: u16,
    e_version: u32,
    e_entry: u64,
    e_phoff: u64,
    e_shoff: u64,
    e_flags: u32,
    e_phentsize: u16,
    e_phnum: u16,
    e_shnum: u16,
    e_shstrndx: u16,
}

/// A program header, by its fields' own names.
#[derive(Clone, Copy, Debug)]
struct ProgramHeader {
    p_type: u32,
    p_flags: u32,
    p_offset: u64,
    p_vaddr: u64,
    p_paddr: u64,
    p_filesz: u64,
    p_memsz: u64,
    p_align: u64,
}

/// Bytes of the ELF header.
const fn header_len(arch: Arch) -> u64 {
    if arch.is_32_bit() { 52 } else { 64 }
}

/// Bytes of a program header.
const fn program_header_len(arch: Arch) -> u64 {
    if arch.is_32_bit() { 32 } else { 56 }
}

/// Bytes of a section header.
const fn section_header_len(arch: Arch) -> u16 {
    if arch.is_32_bit() { 40 } else { 64 }
}

impl FileHeader {
    fn new(arch: Arch, e_type: u16) -> Self {
        Self {
            class: if arch.is_32_bit() { 1 } else { 2 },
            data: if arch.is_big_endian() { 2 } else { 1 },
            osabi: 0,
            e_type,
            e_machine: arch.e_machine(),
            e_version: 1,
            e_entry: 0,
            e_phoff: header_len(arch),
            e_shoff: 0,
            e_flags: 0,
            e_phentsize: if arch.is_32_bit() { 32 } else { 56 },
            e_phnum: 0,
            e_shnum: 0,
            e_shstrndx: 0,
        }
    }

    /// Writes the header at the start of `file`.
    fn write(&self, arch: Arch, file: &mut [u8]) {
        let word = arch.word_bytes();
        put(
            file,
            0,
            &[0x7f, b'E', b'L', b'F', self.class, self.data, 1, self.osabi],
        );
        put(file, 16, &u16_bytes(arch, self.e_type));
        put(file, 18, &u16_bytes(arch, self.e_machine));
        put(file, 20, &arch.u32(self.e_version));
        put(file, 24, &arch.word(self.e_entry));
        put(file, 24 + word, &arch.word(self.e_phoff));
        put(file, 24 + 2 * word, &arch.word(self.e_shoff));
        put(file, 24 + 3 * word, &arch.u32(self.e_flags));
        let mut at = 24 + 3 * word + 4;
        let e_ehsize = if arch.is_32_bit() { 52_u16 } else { 64 };
        let e_shentsize = section_header_len(arch);
        let fields = [
            e_ehsize,
            self.e_phentsize,
            self.e_phnum,
            e_shentsize,
            self.e_shnum,
            self.e_shstrndx,
        ];
        for field in fields {
            put(file, at, &u16_bytes(arch, field));
            at += 2;
        }
    }
}

impl ProgramHeader {
    /// Writes the header at `at`.
    fn write(&self, arch: Arch, file: &mut [u8], at: u64) {
        put(file, at, &arch.u32(self.p_type));
        let fields = [
            self.p_offset,
            self.p_vaddr,
            self.p_paddr,
            self.p_filesz,
            self.p_memsz,
        ];
        let word = arch.word_bytes();
        let (flags_at, mut field_at) = if arch.is_32_bit() {
            (at + 24, at + 4)
        } else {
            (at + 4, at + 8)
        };
        put(file, flags_at, &arch.u32(self.p_flags));
        for field in fields {
            put(file, field_at, &arch.word(field));
            field_at += word;
        }
        let align_at = if arch.is_32_bit() { at + 28 } else { at + 48 };
        put(file, align_at, &arch.word(self.p_align));
    }
}

/// The bytes of a number of 2 bytes.
const fn u16_bytes(arch: Arch, value: u16) -> [u8; 2] {
    if arch.is_big_endian() {
        value.to_be_bytes()
    } else {
        value.to_le_bytes()
    }
}
