//! Kernel files: what a debugger opens beside the dump.

use super::{
    ET_DYN, ET_EXEC, FileHeader, PT_LOAD, PT_NOTE, ProgramHeader, header_len, program_header_len,
    section_header_len,
};
use crate::Arch;
use crate::bytes::{finish, index, low16, low32, pad, put};
use crate::random::Random;

/// `ELFOSABI_FREEBSD`.
const OSABI_FREEBSD: u8 = 9;
/// `SHN_ABS`: a symbol outside all sections.
const SHN_ABS: u16 = 0xfff1;
const SHT_PROGBITS: u32 = 1;
const SHT_SYMTAB: u32 = 2;
const SHT_STRTAB: u32 = 3;
const SHT_NOTE: u32 = 7;
const SHT_NOBITS: u32 = 8;
const SHF_WRITE: u64 = 1;
const SHF_ALLOC: u64 = 2;
const SHF_EXECINSTR: u64 = 4;
/// `NT_GNU_BUILD_ID`.
const NT_GNU_BUILD_ID: u32 = 3;
/// Program headers: what is loaded, and the notes.
const PROGRAM_HEADERS: u16 = 2;

/// A kernel file to be built.
///
/// The file is loaded in place: what has an address has the offset `address - base`, the ELF
/// header included. So the first page of the image in a dump is the first page of the file, and
/// leads to the build id.
///
/// ```
/// use vmcore_synth::{Arch, elf::{Kernel, SectionKind}};
/// let mut kernel = Kernel::new(Arch::Amd64, 0xffff_ffff_8020_0000);
/// kernel.add_section(".rodata", SectionKind::ReadOnly, 0xffff_ffff_8020_1000, &100_u32.to_le_bytes());
/// kernel.add_object("hz", 0xffff_ffff_8020_1000, 4);
/// let file = kernel.build();
/// assert_eq!(file[0x1000..0x1004], [100, 0, 0, 0]);
/// ```
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Architecture.
    pub arch: Arch,
    /// Address of the ELF header in memory, where the kernel is linked.
    pub base: u64,
    /// How far it runs from where it is linked.
    pub displacement: u64,
    /// The sections, by ascending address, without those that every kernel file has.
    pub sections: Vec<Section>,
    /// The symbols.
    pub symbols: Vec<Symbol>,
    /// The build id; no note if `None`.
    pub build_id: Option<Vec<u8>>,
    /// `e_type`.
    pub e_type: u16,
    /// `e_machine`.
    pub e_machine: u16,
    /// `EI_OSABI`.
    pub osabi: u8,
    /// `e_entry`.
    pub e_entry: u64,
    /// `e_flags`.
    pub e_flags: u32,
    /// Bytes to write over the finished file, by offset.
    pub patches: Vec<(u64, Vec<u8>)>,
    /// Length to cut the file to.
    pub truncate_to: Option<u64>,
    /// Bytes to append at the end.
    pub trailing: Vec<u8>,
}

/// What a section is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionKind {
    /// Instructions.
    Code,
    /// Constants.
    ReadOnly,
    /// Variables with initial values.
    Data,
    /// Variables that start as zeros: not in the file.
    Bss,
    /// For debuggers only: in the file, not in memory.
    Debug,
}

/// A section of a kernel file.
#[derive(Clone, Debug)]
pub struct Section {
    /// Name of the section.
    pub name: String,
    /// Kind of the section.
    pub kind: SectionKind,
    /// Its address; room for the headers is needed before the first one.
    pub address: u64,
    /// Its bytes; of [`SectionKind::Bss`] only their number counts.
    pub content: Vec<u8>,
}

/// A symbol of a kernel file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Whether it is a function; if not, an object.
    pub is_function: bool,
    /// Whether other files can see it.
    pub is_global: bool,
}

/// A section header and what it describes.
struct Stored {
    name: String,
    sh_type: u32,
    sh_flags: u64,
    sh_addr: u64,
    sh_offset: u64,
    sh_size: u64,
    sh_link: u32,
    sh_info: u32,
    sh_addralign: u64,
    sh_entsize: u64,
}

/// Strings one after another, each with its NUL.
struct Strings(Vec<u8>);

impl Strings {
    /// Adds a string; gives where it starts.
    fn add(&mut self, text: &str) -> u32 {
        let at = low32(self.0.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
        at
    }
}

impl Kernel {
    /// A kernel without contents; its build id is made up, one for each architecture.
    #[must_use]
    pub fn new(arch: Arch, base: u64) -> Self {
        let mut random = Random::new(u64::from(arch.e_machine()));
        let mut build_id: Vec<u8> = (0..3)
            .flat_map(|_| random.next_number().to_le_bytes())
            .collect();
        build_id.truncate(20);
        Self {
            arch,
            base,
            displacement: 0,
            sections: Vec::new(),
            symbols: Vec::new(),
            build_id: Some(build_id),
            e_type: if arch.is_powerpc() { ET_DYN } else { ET_EXEC },
            e_machine: arch.e_machine(),
            osabi: if matches!(arch, Arch::Amd64 | Arch::I386) {
                OSABI_FREEBSD
            } else {
                0
            },
            e_entry: base,
            e_flags: 0,
            patches: Vec::new(),
            truncate_to: None,
            trailing: Vec::new(),
        }
    }

    /// Adds a section.
    pub fn add_section(&mut self, name: &str, kind: SectionKind, address: u64, content: &[u8]) {
        let content = content.to_vec();
        self.sections.push(Section {
            name: name.to_owned(),
            kind,
            address,
            content,
        });
    }

    /// Adds a global symbol of a variable.
    pub fn add_object(&mut self, name: &str, address: u64, size: u64) {
        let name = name.to_owned();
        self.symbols.push(Symbol {
            name,
            address,
            size,
            is_function: false,
            is_global: true,
        });
    }

    /// Adds a global symbol of a function.
    pub fn add_function(&mut self, name: &str, address: u64, size: u64) {
        let name = name.to_owned();
        self.symbols.push(Symbol {
            name,
            address,
            size,
            is_function: true,
            is_global: true,
        });
    }

    /// Address of a symbol in the machine.
    #[must_use]
    pub fn running_address_of(&self, name: &str) -> Option<u64> {
        let linked = self.address_of(name)?;
        Some(linked.wrapping_add(self.displacement))
    }

    /// Address of a symbol in the file.
    #[must_use]
    pub fn address_of(&self, name: &str) -> Option<u64> {
        self.symbols
            .iter()
            .find(|symbol| symbol.name == name)
            .map(|symbol| symbol.address)
    }

    /// Where the notes are: right after the program headers.
    fn note_offset(&self) -> u64 {
        header_len(self.arch) + u64::from(PROGRAM_HEADERS) * program_header_len(self.arch)
    }

    fn note(&self) -> Vec<u8> {
        let Some(id) = &self.build_id else {
            return Vec::new();
        };
        let mut note = Vec::new();
        for number in [4, low32(id.len() as u64), NT_GNU_BUILD_ID] {
            note.extend_from_slice(&self.arch.u32(number));
        }
        note.extend_from_slice(b"GNU\0");
        note.extend_from_slice(id);
        pad(&mut note, 4);
        note
    }

    /// What is loaded of the file: all that has an address and contents.
    fn loaded(&self) -> Vec<u8> {
        let mut loaded = vec![0; index(self.note_offset())];
        loaded.extend(self.note());
        for section in &self.sections {
            if !matches!(section.kind, SectionKind::Bss | SectionKind::Debug) {
                let offset = section.address.wrapping_sub(self.base);
                let end = index(offset) + section.content.len();
                loaded.resize(loaded.len().max(end), 0);
                put(&mut loaded, offset, &section.content);
            }
        }
        loaded
    }

    /// Bytes from the base to the end of the last section in memory.
    fn memory_len(&self) -> u64 {
        let in_memory = self
            .sections
            .iter()
            .filter(|section| section.kind != SectionKind::Debug);
        let end = |section: &Section| {
            section.address.wrapping_sub(self.base) + section.content.len() as u64
        };
        in_memory
            .map(end)
            .max()
            .unwrap_or(0)
            .max(self.loaded().len() as u64)
    }

    /// The image in memory as a boot loader leaves it: headers, sections, zeros.
    #[must_use]
    pub fn image(&self) -> Vec<u8> {
        let mut image = self.build();
        image.truncate(self.loaded().len());
        image.resize(index(self.memory_len()), 0);
        image
    }

    /// The symbol table with its strings, and the number of its first global symbol.
    fn symbol_table(&self) -> (Vec<u8>, Strings, u32) {
        let arch = self.arch;
        let len = if arch.is_32_bit() { 16 } else { 24 };
        let mut strings = Strings(vec![0]);
        let mut table = vec![0; len];
        let locals = self.symbols.iter().filter(|symbol| !symbol.is_global);
        let globals = self.symbols.iter().filter(|symbol| symbol.is_global);
        let first_global = low32(locals.clone().count() as u64 + 1);
        for symbol in locals.chain(globals) {
            let name = strings.add(&symbol.name);
            let info = u8::from(symbol.is_global) << 4 | if symbol.is_function { 2 } else { 1 };
            let section = self.section_index(symbol.address);
            let mut raw = vec![0; len];
            put(&mut raw, 0, &arch.u32(name));
            if arch.is_32_bit() {
                put(&mut raw, 4, &arch.word(symbol.address));
                put(&mut raw, 8, &arch.word(symbol.size));
                put(&mut raw, 12, &[info]);
                put(&mut raw, 14, &super::u16_bytes(arch, section));
            } else {
                put(&mut raw, 4, &[info]);
                put(&mut raw, 6, &super::u16_bytes(arch, section));
                put(&mut raw, 8, &arch.word(symbol.address));
                put(&mut raw, 16, &arch.word(symbol.size));
            }
            table.extend(raw);
        }
        (table, strings, first_global)
    }

    /// The number of the section that holds an address.
    fn section_index(&self, address: u64) -> u16 {
        let holds = |section: &Section| {
            let inside = address.wrapping_sub(section.address);
            section.kind != SectionKind::Debug && inside < section.content.len() as u64
        };
        let position = self.sections.iter().position(holds);
        let first = 1 + usize::from(self.build_id.is_some());
        position.map_or(SHN_ABS, |position| low16((first + position) as u64))
    }

    /// The file.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let mut file = self.loaded();
        let mut stored = self.stored_sections(&mut file);
        let (table, strings, first_global) = self.symbol_table();
        let symtab = low32(stored.len() as u64 + 1);
        let entsize = if self.arch.is_32_bit() { 16 } else { 24 };
        append(&mut file, &mut stored, ".symtab", SHT_SYMTAB, &table);
        if let Some(section) = stored.last_mut() {
            (section.sh_link, section.sh_info, section.sh_entsize) =
                (symtab + 1, first_global, entsize);
        }
        append(&mut file, &mut stored, ".strtab", SHT_STRTAB, &strings.0);
        let mut names = Strings(vec![0]);
        let mut name_offsets: Vec<u32> = stored
            .iter()
            .map(|section| names.add(&section.name))
            .collect();
        name_offsets.push(names.add(".shstrtab"));
        append(&mut file, &mut stored, ".shstrtab", SHT_STRTAB, &names.0);
        pad(&mut file, 8);
        let e_shoff = file.len() as u64;
        let shdr_len = u64::from(section_header_len(self.arch));
        file.resize(index(e_shoff + (stored.len() as u64 + 1) * shdr_len), 0);
        for (number, (section, name)) in (1..).zip(stored.iter().zip(name_offsets)) {
            section.write(self.arch, &mut file, e_shoff + number * shdr_len, name);
        }
        self.write_headers(&mut file, e_shoff, low16(stored.len() as u64 + 1));
        finish(file, &self.patches, self.truncate_to, &self.trailing)
    }

    /// The headers of all sections but the tables; appends those without an address.
    fn stored_sections(&self, file: &mut Vec<u8>) -> Vec<Stored> {
        let mut stored = Vec::new();
        if self.build_id.is_some() {
            stored.push(Stored {
                sh_flags: SHF_ALLOC,
                sh_addr: self.base + self.note_offset(),
                sh_offset: self.note_offset(),
                sh_size: self.note().len() as u64,
                ..Stored::new(".note.gnu.build-id", SHT_NOTE)
            });
        }
        for section in &self.sections {
            let (sh_type, sh_flags) = match section.kind {
                SectionKind::Code => (SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR),
                SectionKind::ReadOnly => (SHT_PROGBITS, SHF_ALLOC),
                SectionKind::Data => (SHT_PROGBITS, SHF_ALLOC | SHF_WRITE),
                SectionKind::Bss => (SHT_NOBITS, SHF_ALLOC | SHF_WRITE),
                SectionKind::Debug => {
                    append(
                        file,
                        &mut stored,
                        &section.name,
                        SHT_PROGBITS,
                        &section.content,
                    );
                    continue;
                }
            };
            stored.push(Stored {
                sh_flags,
                sh_addr: section.address,
                sh_offset: section.address.wrapping_sub(self.base),
                sh_size: section.content.len() as u64,
                ..Stored::new(&section.name, sh_type)
            });
        }
        stored
    }

    fn write_headers(&self, file: &mut [u8], e_shoff: u64, e_shnum: u16) {
        let mut header = FileHeader::new(self.arch, self.e_type);
        header.osabi = self.osabi;
        header.e_machine = self.e_machine;
        header.e_entry = self.e_entry;
        header.e_flags = self.e_flags;
        header.e_shoff = e_shoff;
        header.e_phnum = PROGRAM_HEADERS;
        header.e_shnum = e_shnum;
        header.e_shstrndx = e_shnum - 1;
        header.write(self.arch, file);
        let load = ProgramHeader {
            p_type: PT_LOAD,
            p_flags: 7,
            p_offset: 0,
            p_vaddr: self.base,
            p_paddr: self.base,
            p_filesz: self.loaded().len() as u64,
            p_memsz: self.memory_len(),
            p_align: 0x1000,
        };
        let at = header_len(self.arch);
        load.write(self.arch, file, at);
        let len = self.note().len() as u64;
        let note = ProgramHeader {
            p_type: PT_NOTE,
            p_flags: 4,
            p_offset: self.note_offset(),
            p_vaddr: self.base + self.note_offset(),
            p_paddr: self.base + self.note_offset(),
            p_filesz: len,
            p_memsz: len,
            p_align: 4,
        };
        note.write(self.arch, file, at + program_header_len(self.arch));
    }
}

/// Appends a section that is not loaded.
fn append(file: &mut Vec<u8>, stored: &mut Vec<Stored>, name: &str, sh_type: u32, content: &[u8]) {
    pad(file, 8);
    let (sh_offset, sh_size) = (file.len() as u64, content.len() as u64);
    file.extend_from_slice(content);
    stored.push(Stored {
        sh_offset,
        sh_size,
        ..Stored::new(name, sh_type)
    });
}

impl Stored {
    fn new(name: &str, sh_type: u32) -> Self {
        Self {
            name: name.to_owned(),
            sh_type,
            sh_flags: 0,
            sh_addr: 0,
            sh_offset: 0,
            sh_size: 0,
            sh_link: 0,
            sh_info: 0,
            sh_addralign: if sh_type == SHT_NOTE { 4 } else { 8 },
            sh_entsize: 0,
        }
    }

    fn write(&self, arch: Arch, file: &mut [u8], at: u64, name: u32) {
        let word = arch.word_bytes();
        put(file, at, &arch.u32(name));
        put(file, at + 4, &arch.u32(self.sh_type));
        let fields = [self.sh_flags, self.sh_addr, self.sh_offset, self.sh_size];
        for (number, field) in (0..).zip(fields) {
            put(file, at + 8 + number * word, &arch.word(field));
        }
        let at = at + 8 + 4 * word;
        put(file, at, &arch.u32(self.sh_link));
        put(file, at + 4, &arch.u32(self.sh_info));
        put(file, at + 8, &arch.word(self.sh_addralign));
        put(file, at + 8 + word, &arch.word(self.sh_entsize));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::word;

    fn example(arch: Arch, base: u64) -> Kernel {
        let mut kernel = Kernel::new(arch, base);
        kernel.add_section(".text", SectionKind::Code, base + 0x1000, &[0x90; 64]);
        kernel.add_section(".rodata", SectionKind::ReadOnly, base + 0x2000, b"constant");
        kernel.add_section(".bss", SectionKind::Bss, base + 0x3000, &[0; 0x100]);
        kernel.add_function("panic", base + 0x1010, 16);
        kernel.add_object("hz", base + 0x2000, 4);
        kernel.symbols.push(Symbol {
            name: "dumppcb".into(),
            address: base + 0x3000,
            size: 0x40,
            is_function: false,
            is_global: false,
        });
        kernel
    }

    /// Contents of a section by its name, found by walking the file's tables.
    fn section(file: &[u8], arch: Arch, wanted: &str) -> Option<(u64, Vec<u8>)> {
        let wide = arch != Arch::I386;
        let width = arch.word_bytes();
        let (table, len) = if wide {
            (word(file, 40, 8), 64)
        } else {
            (word(file, 32, 4), 40)
        };
        let counts = if wide { 60 } else { 48 };
        let count = u64::from(file[counts]) | u64::from(file[counts + 1]) << 8;
        let names = u64::from(file[counts + 2]);
        let field =
            |index: u64, number: u64| word(file, table + index * len + 8 + number * width, width);
        let names_at = field(names, 2);
        (0..count).find_map(|number| {
            let name = names_at + word(file, table + number * len, 4);
            let text = file[index(name)..].split(|byte| *byte == 0).next()?;
            (text == wanted.as_bytes()).then(|| {
                let (start, size) = (index(field(number, 2)), index(field(number, 3)));
                (field(number, 1), file[start..start + size].to_vec())
            })
        })
    }

    #[test]
    fn sections_are_found_by_walking_the_file() {
        for (arch, base) in [
            (Arch::Amd64, 0xffff_ffff_8020_0000),
            (Arch::I386, 0x0080_0000),
        ] {
            let file = example(arch, base).build();
            let (address, content) = section(&file, arch, ".rodata").unwrap();
            assert_eq!((address, &content[..]), (base + 0x2000, &b"constant"[..]));
            let (_, note) = section(&file, arch, ".note.gnu.build-id").unwrap();
            assert_eq!(note[..16], *b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0");
            assert_eq!(note.len(), 36);
            let (_, names) = section(&file, arch, ".strtab").unwrap();
            assert_eq!(names, b"\0dumppcb\0panic\0hz\0");
        }
    }

    #[test]
    fn symbols_have_address_size_and_section() {
        let base = 0xffff_ffff_8020_0000;
        let (_, table) =
            section(&example(Arch::Amd64, base).build(), Arch::Amd64, ".symtab").unwrap();
        assert_eq!(table.len(), 4 * 24);
        // Local first, in section 4 after the note, .text and .rodata.
        assert_eq!(table[24..32], [1, 0, 0, 0, 1, 0, 4, 0]);
        assert_eq!(word(&table, 32, 8), base + 0x3000);
        assert_eq!(table[52..56], [0x12, 0, 2, 0]);
        let (_, table) = section(
            &example(Arch::I386, 0x80_0000).build(),
            Arch::I386,
            ".symtab",
        )
        .unwrap();
        assert_eq!(
            table[48..64],
            [15, 0, 0, 0, 0, 0x20, 0x80, 0, 4, 0, 0, 0, 0x11, 0, 3, 0]
        );
    }

    #[test]
    fn the_image_is_the_start_of_the_file_and_zeros() {
        let kernel = example(Arch::Amd64, 0xffff_ffff_8020_0000);
        let (file, image) = (kernel.build(), kernel.image());
        assert_eq!(image.len(), 0x3100);
        assert_eq!(image[..0x2008], file[..0x2008]);
        assert!(image[0x2008..].iter().all(|byte| *byte == 0));
    }
}
