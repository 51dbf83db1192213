//! Where the sections of a module lie in memory, and whether its instructions are there.

use super::{Identity, MAX_TEXT, Module};
use crate::object_file::ObjectFile;
use object::read::elf::{ElfFile, FileHeader, SectionHeader as _};
use object::{Object as _, ObjectKind, ObjectSection as _, ObjectSymbol as _, SectionFlags, elf};
use std::collections::HashMap;
use vmcore::Session;
use vmcore::session::SessionError;
use vmcore_format::addr::VirtAddr;

/// Sections of a type that only amd64 has: unwind tables.
const SHT_X86_64_UNWIND: u32 = 0x7000_0001;
/// Of compared bytes, one in so many may differ: kernels patch instructions when they start.
const MAX_DIFFERENT: usize = 16;

/// Where sections lie.
#[derive(Clone, Debug)]
pub(super) enum Layout {
    /// Each on its own, by name: `ET_REL`.
    Sections(HashMap<String, u64>),
    /// At their addresses in the file, plus this: `ET_DYN`.
    Bias(u64),
}

/// Whether a section of a module that was loaded takes memory. Debug files have it without
/// contents.
pub(super) fn takes_memory(section: &object::Section<'_, '_>) -> bool {
    let SectionFlags::Elf {
        sh_flags, sh_type, ..
    } = section.flags()
    else {
        return false;
    };
    let types = [
        elf::SHT_PROGBITS.0,
        elf::SHT_NOBITS.0,
        SHT_X86_64_UNWIND,
        elf::SHT_INIT_ARRAY.0,
        elf::SHT_FINI_ARRAY.0,
    ];
    sh_flags.0 & elf::SHF_ALLOC.0 != 0 && section.size() > 0 && types.contains(&sh_type.0)
}

/// Where the tables end that the boot loader loads after the sections of an `ET_REL` file, which end
/// at `at`: symbols, their strings, names of sections, relocations of what is in memory
/// (`stand/common/load_elf_obj.c`).
fn tables_end(elf: &object::File<'_>, at: u64) -> Option<u64> {
    let (tables, names) = match elf {
        object::File::Elf32(file) => tables_of(file),
        object::File::Elf64(file) => tables_of(file),
        _ => return None,
    };
    let mut end = at;
    let mut add = |table: &Table| {
        let start = end.checked_next_multiple_of(table.align.clamp(1, 1 << 21))?;
        end = start.checked_add(table.size)?;
        Some(())
    };
    let symbols = tables
        .iter()
        .find(|table| table.kind == elf::SHT_SYMTAB.0)?;
    add(symbols)?;
    for index in [symbols.link, names] {
        let strings = tables.get(usize::try_from(index).ok()?)?;
        if strings.kind == elf::SHT_STRTAB.0 {
            add(strings)?;
        }
    }
    for table in &tables {
        let relocations = table.kind == elf::SHT_REL.0 || table.kind == elf::SHT_RELA.0;
        let of = usize::try_from(table.info).ok();
        let of = of.and_then(|index| tables.get(index));
        if relocations && of.is_some_and(|of| of.flags & elf::SHF_ALLOC.0 != 0) {
            add(table)?;
        }
    }
    Some(end)
}

/// Bytes of the global symbols, which a module keeps.
fn bytes_of_globals(elf: &object::File<'_>) -> u64 {
    let entry = if elf.is_64() { 24 } else { 16 };
    let globals = elf
        .symbols()
        .filter(|symbol| symbol.is_global() && symbol.is_definition());
    globals.count() as u64 * entry
}

/// What the boot loader looks at in a section header.
struct Table {
    kind: u32,
    flags: u64,
    size: u64,
    align: u64,
    link: u32,
    info: u32,
}

/// All section headers, and the index of that with the sections' names.
fn tables_of<Elf: FileHeader>(file: &ElfFile<'_, Elf>) -> (Vec<Table>, u32) {
    let endian = file.endian();
    let headers = file.elf_section_table().iter();
    let tables = headers.map(|header| Table {
        kind: header.sh_type(endian).0,
        flags: header.sh_flags(endian).0,
        size: header.sh_size(endian).into(),
        align: header.sh_addralign(endian).into(),
        link: header.sh_link(endian),
        info: header.sh_info(endian),
    });
    let names = file.elf_header().e_shstrndx(endian);
    (tables.collect(), u32::from(names.0))
}

impl Layout {
    /// The layout of a file that was loaded as `module`. The module's own file is certain; in a
    /// debug file notes have lost their type, so they are told by their names.
    pub(super) fn of(file: &ObjectFile, module: &Module, own: bool) -> Result<Self, String> {
        let elf = file.elf().ok_or("it is damaged")?;
        if elf.kind() != ObjectKind::Relocatable {
            return Ok(Self::Bias(module.address.0));
        }
        let end = module.address.0.saturating_add(module.len_bytes);
        // Some kernels keep variables of each CPU and network stack elsewhere.
        for without_sets in [false, true] {
            let mut at = module.address.0;
            let mut places = HashMap::new();
            for section in elf.sections() {
                let name = file.name_of(&section);
                let elsewhere = without_sets && matches!(name, "set_pcpu" | "set_vnet");
                let note = !own && name.starts_with(".note");
                if !takes_memory(&section) || elsewhere || note {
                    continue;
                }
                let align = section.align().clamp(1, 1 << 21);
                at = at.checked_next_multiple_of(align).ok_or("it is damaged")?;
                places.insert(name.to_owned(), at);
                at = at.saturating_add(section.size());
            }
            // The boot loader puts the tables that the kernel links by after them, and counts them.
            let fits = match tables_end(&elf, at) {
                _ if at == end => true,
                // A debug file has lost the relocations, and has other symbols beside the global ones.
                Some(tables_end) if !own => {
                    let relocations = at.saturating_sub(module.address.0).saturating_mul(6);
                    let most = tables_end.saturating_add(relocations);
                    (at.saturating_add(bytes_of_globals(&elf))..=most).contains(&end)
                }
                tables_end => tables_end == Some(end),
            };
            if fits {
                return Ok(Self::Sections(places));
            }
        }
        Err(format!(
            "its sections do not fill the {} bytes that the module has",
            module.len_bytes
        ))
    }

    /// The file with its sections in place.
    pub(super) fn apply(&self, file: ObjectFile) -> ObjectFile {
        match self {
            Self::Bias(bias) => file.with_bias(*bias),
            Self::Sections(places) => {
                let indices = file.elf().map(|elf| {
                    elf.sections()
                        .filter_map(|section| {
                            let address = places.get(file.name_of(&section))?;
                            Some((section.index().0, *address))
                        })
                        .collect()
                });
                file.at_addresses(indices.unwrap_or_default())
            }
        }
    }

    /// Compares the instructions of the module's own file with those in memory, but for the places
    /// that a loader fills in.
    pub(super) fn compare(
        &self,
        session: &Session,
        file: &ObjectFile,
    ) -> Result<Result<Identity, String>, SessionError> {
        let space = session.space()?;
        let Some(elf) = file.elf() else {
            return Ok(Ok(Identity::Unproven));
        };
        let Some(text) = file.sections_named(&elf, ".text").next() else {
            return Ok(Ok(Identity::Unproven));
        };
        let address = match self {
            Self::Bias(bias) => Some(text.address().wrapping_add(*bias)),
            Self::Sections(places) => places.get(".text").copied(),
        };
        let (Some(address), Ok(stored)) = (address, text.data()) else {
            return Ok(Ok(Identity::Unproven));
        };
        let stored = stored.get(..MAX_TEXT).unwrap_or(stored);
        if stored.is_empty() {
            return Ok(Ok(Identity::Unproven));
        }
        let mut counts = vec![true; stored.len()];
        for (offset, relocation) in text.relocations() {
            let len = u64::from(relocation.size() / 8).max(4);
            for at in offset..offset.saturating_add(len) {
                let place = usize::try_from(at).ok().and_then(|at| counts.get_mut(at));
                if let Some(place) = place {
                    *place = false;
                }
            }
        }
        let mut memory = vec![0; stored.len()];
        let mut holes = Vec::new();
        space.read_with_holes(VirtAddr(address), &mut memory, |hole| holes.push(hole));
        for hole in holes {
            let start = usize::try_from(hole.va.0.wrapping_sub(address)).unwrap_or(usize::MAX);
            let missing = start..start.saturating_add(hole.len);
            if let Some(missing) = counts.get_mut(missing) {
                missing.fill(false);
            }
        }
        let compared = counts.iter().filter(|counts| **counts).count();
        let different = stored
            .iter()
            .zip(&memory)
            .zip(&counts)
            .filter(|((stored, memory), counts)| **counts && stored != memory)
            .count();
        Ok(if compared == 0 {
            Ok(Identity::Unproven)
        } else if different > compared / MAX_DIFFERENT {
            Err(format!(
                "{different} of {compared} bytes of its instructions differ from those in memory"
            ))
        } else if different == 0 {
            Ok(Identity::TextEqual)
        } else {
            Ok(Identity::Unproven)
        })
    }
}
