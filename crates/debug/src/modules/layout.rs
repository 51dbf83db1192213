//! Where the sections of a module lie in memory, and whether its instructions are there.

use super::{Identity, MAX_TEXT, Module};
use crate::object_file::ObjectFile;
use object::{Object as _, ObjectKind, ObjectSection as _, SectionFlags, elf};
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
                let name = section.name().unwrap_or_default();
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
            if at == end {
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
                            let address = places.get(section.name().ok()?)?;
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
        let Some(text) = elf.section_by_name(".text") else {
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
