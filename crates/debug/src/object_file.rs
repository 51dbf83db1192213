//! An ELF file with debug information: a kernel, its `.debug` file, or a module.
//!
//! The file stays mapped; its debug sections are looked at when asked for. Those that are stored
//! compressed, or whose addresses are open (`ET_REL`: the modules of amd64), are copied once, with
//! the addresses filled in that the module was loaded at.
//!
//! ```no_run
//! use vmcore_debug::object_file::ObjectFile;
//! let kernel = ObjectFile::open("kernel.debug".as_ref())?;
//! println!("{} bytes of types", kernel.section(".debug_info").len());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::budget::Budget;
use crate::dwarf::Debug;
use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, RelocationKind, RelocationTarget,
    SectionFlags, SectionIndex, elf,
};
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;
use vmcore::kernel::{KernelError, KernelFile};
use vmcore_format::arch::Arch;
use vmcore_format::elf::FileHeader;
use vmcore_format::endian::Endian;

/// The sections that are read here.
const NAMES: [&str; 16] = [
    ".debug_abbrev",
    ".debug_addr",
    ".debug_aranges",
    ".debug_info",
    ".debug_line",
    ".debug_line_str",
    ".debug_loc",
    ".debug_loclists",
    ".debug_ranges",
    ".debug_rnglists",
    ".debug_str",
    ".debug_str_offsets",
    ".debug_types",
    ".debug_frame",
    ".eh_frame",
    ".SUNW_ctf",
];
/// Bytes of a section's name that are searched in one step.
const NAME_STEP: usize = 64;

/// An open file with debug information.
#[derive(Debug)]
pub struct ObjectFile {
    bytes: Bytes,
    arch: Arch,
    /// Where the sections were loaded, by their index; empty for a file at its own addresses.
    addresses: HashMap<usize, u64>,
    /// What to add to an address of the file.
    bias: u64,
    /// Where the contents of sections are, in the order of [`NAMES`].
    contents: [OnceLock<Contents>; NAMES.len()],
    /// Where each debug section begins among those of its name.
    places: OnceLock<HashMap<usize, u64>>,
    /// The file that was loaded, if this one has only its debug information.
    loaded: Option<Box<Self>>,
    budget: Budget,
}

/// Where the contents of a section are.
#[derive(Debug)]
enum Contents {
    /// They had to be copied.
    Copy(Vec<u8>),
    /// In the file.
    Stored(Range<usize>),
    Missing,
}

#[derive(Debug)]
enum Bytes {
    File(Box<KernelFile>),
    Memory(Vec<u8>),
}

impl ObjectFile {
    /// Opens a file that was loaded at its own addresses: a kernel.
    ///
    /// # Errors
    /// Returns an error if it cannot be read, or is no ELF file of a known architecture.
    pub fn open(path: &Path) -> Result<Self, KernelError> {
        KernelFile::open(path).map(Self::of)
    }

    /// A file that is open already.
    #[must_use]
    pub fn of(file: KernelFile) -> Self {
        let arch = file.arch();
        Self::new(Bytes::File(Box::new(file)), arch)
    }

    /// A file that is in memory already.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>, arch: Arch) -> Self {
        Self::new(Bytes::Memory(bytes), arch)
    }

    fn new(bytes: Bytes, arch: Arch) -> Self {
        let len = match &bytes {
            Bytes::File(file) => file.data().len(),
            Bytes::Memory(bytes) => bytes.len(),
        };
        Self {
            budget: Budget::of(len),
            bytes,
            arch,
            addresses: HashMap::new(),
            bias: 0,
            contents: [const { OnceLock::new() }; NAMES.len()],
            places: OnceLock::new(),
            loaded: None,
        }
    }

    /// Says which file was loaded, where this one is its debug file: `.eh_frame` and CTF stay in
    /// the loaded one.
    #[must_use]
    pub fn with_loaded(mut self, loaded: Self) -> Self {
        self.loaded = Some(Box::new(loaded));
        self
    }

    /// Says where each section was loaded, by its index (`ET_REL`).
    #[must_use]
    pub fn at_addresses(mut self, addresses: HashMap<usize, u64>) -> Self {
        self.addresses = addresses;
        self
    }

    /// Says what to add to the file's addresses (`ET_DYN`).
    #[must_use]
    pub const fn with_bias(mut self, bias: u64) -> Self {
        self.bias = bias;
        self
    }

    /// What to add to an address of the file to get one in memory.
    #[must_use]
    pub const fn bias(&self) -> u64 {
        self.bias
    }

    /// Whether the file on disk is compressed.
    pub(crate) const fn is_packed(&self) -> bool {
        match &self.bytes {
            Bytes::File(file) => file.is_packed(),
            Bytes::Memory(_) => false,
        }
    }

    /// What reading its debug information may still cost.
    pub(crate) const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Whether some of its debug information was left out, because it costs too much to read.
    #[must_use]
    pub fn is_too_costly(&self) -> bool {
        self.budget.is_spent()
    }

    /// The name of a file that has the types instead of this one (`-gsplit-dwarf`), if there is one.
    #[must_use]
    pub fn split_types(&self) -> Option<String> {
        let debug = Debug::of(self);
        let (unit, root) = debug.root(0).ok()?;
        let name = root.value(gimli::DW_AT_dwo_name);
        let name = name.or_else(|| root.value(gimli::DW_AT_GNU_dwo_name))?;
        let name = debug.string(&unit, name)?;
        Some(String::from_utf8_lossy(name).into_owned())
    }

    /// Byte order of its integers.
    #[must_use]
    pub fn endian(&self) -> Endian {
        let header = FileHeader::parse(self.data());
        header.map_or(Endian::Little, |header| header.endian)
    }

    /// Its architecture.
    #[must_use]
    pub const fn arch(&self) -> Arch {
        self.arch
    }

    /// The whole file.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        match &self.bytes {
            Bytes::File(file) => file.data(),
            Bytes::Memory(bytes) => bytes,
        }
    }

    /// The file, parsed; cheap. `None` if it is damaged.
    pub(crate) fn elf(&self) -> Option<object::File<'_>> {
        object::File::parse(self.data()).ok()
    }

    /// A debug section, ready to be read; empty if there is none, or it is damaged.
    #[must_use]
    pub fn section(&self, name: &str) -> &[u8] {
        let Some(position) = NAMES.iter().position(|known| *known == name) else {
            return &[];
        };
        let contents = self.contents.get(position);
        match contents.map(|contents| contents.get_or_init(|| self.contents_of(name))) {
            Some(Contents::Copy(copy)) => copy,
            Some(Contents::Stored(range)) => self.data().get(range.clone()).unwrap_or_default(),
            Some(Contents::Missing) | None => match &self.loaded {
                Some(loaded) => loaded.section(name),
                None => &[],
            },
        }
    }

    /// The sections of this name: a module may have one for each of its groups.
    pub(crate) fn sections_named<'data, 'file>(
        &self,
        elf: &'file object::File<'data>,
        name: &str,
    ) -> impl Iterator<Item = object::Section<'data, 'file>> {
        elf.sections()
            .filter(move |section| self.name_of(section) == name)
    }

    /// The name of a section; none, where names cost too much.
    pub(crate) fn name_of<'data>(&self, section: &object::Section<'data, '_>) -> &'data str {
        if self.budget.work(1).is_err() {
            return "";
        }
        let name = section.name().unwrap_or_default();
        // The next one will notice.
        let _ = self.budget.work((name.len() / NAME_STEP) as u64);
        name
    }

    fn contents_of(&self, name: &str) -> Contents {
        let stored = || {
            self.stored(name)
                .map_or(Contents::Missing, Contents::Stored)
        };
        self.copy_of(name).map_or_else(stored, Contents::Copy)
    }

    /// Where the section is in the file.
    fn stored(&self, name: &str) -> Option<Range<usize>> {
        let elf = self.elf()?;
        let (offset, len) = self.sections_named(&elf, name).next()?.file_range()?;
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        self.data().get(start..end).map(|_| start..end)
    }

    /// The section decompressed and relocated, if it needs either; several of one name as one.
    fn copy_of(&self, name: &str) -> Option<Vec<u8>> {
        let elf = self.elf()?;
        let open = self.addresses_are_open(&elf);
        // A debug file has relocations for sections whose contents it has not.
        let stored = |section: &object::Section<'_, '_>| section.file_range().is_some();
        let sections: Vec<_> = self
            .sections_named(&elf, name)
            .filter(stored)
            .take(if open { usize::MAX } else { 1 })
            .collect();
        let needs_copy = |section: &object::Section<'_, '_>| {
            let packed = section.compressed_data();
            let packed = packed.is_ok_and(|data| data.format != object::CompressionFormat::None);
            packed || open && section.relocations().next().is_some()
        };
        if sections.len() < 2 && !sections.iter().any(needs_copy) {
            return None;
        }
        let mut whole = Vec::new();
        for section in &sections {
            // Where it is damaged or too large, the others keep their places only if nothing moves.
            let Some(mut bytes) = self.expanded(section) else {
                return Some(Vec::new());
            };
            if open {
                self.relocate(&elf, section, &mut bytes);
            }
            match whole.is_empty() {
                true => whole = bytes,
                false => whole.append(&mut bytes),
            }
        }
        Some(whole)
    }

    /// The contents of a section, decompressed.
    fn expanded(&self, section: &object::Section<'_, '_>) -> Option<Vec<u8>> {
        let packed = section.compressed_data().ok()?;
        self.budget.memory(packed.uncompressed_size).ok()?;
        Some(packed.decompress().ok()?.into_owned())
    }

    /// Where each section that is not in memory begins among those of its name, which are read as
    /// one.
    fn places(&self) -> &HashMap<usize, u64> {
        self.places.get_or_init(|| {
            let mut places = HashMap::new();
            let Some(elf) = self.elf() else {
                return places;
            };
            let mut ends: HashMap<&str, u64> = HashMap::new();
            for section in elf.sections() {
                let name = self.name_of(&section);
                if NAMES.contains(&name) && section.file_range().is_some() {
                    let size = section.compressed_data();
                    let size = size.map_or(0, |data| data.uncompressed_size);
                    let end = ends.entry(name).or_default();
                    places.insert(section.index().0, *end);
                    *end = end.saturating_add(size);
                }
            }
            places
        })
    }

    fn addresses_are_open(&self, elf: &object::File<'_>) -> bool {
        matches!(elf.kind(), object::ObjectKind::Relocatable)
    }

    /// Fills in addresses: absolute ones in debug sections, distances in `.eh_frame`.
    fn relocate(
        &self,
        elf: &object::File<'_>,
        section: &object::Section<'_, '_>,
        bytes: &mut [u8],
    ) {
        let start = self.loaded_at(section);
        for (offset, relocation) in section.relocations() {
            let place = match relocation.kind() {
                RelocationKind::Absolute => 0,
                RelocationKind::Relative => start.wrapping_add(offset),
                _ => continue,
            };
            let base = match relocation.target() {
                RelocationTarget::Symbol(index) => match elf.symbol_by_index(index) {
                    Ok(symbol) => {
                        let section = symbol.section_index().map_or(0, |at| self.address(at));
                        symbol.address().wrapping_add(section)
                    }
                    Err(_) => continue,
                },
                RelocationTarget::Section(index) => self.address(index),
                _ => continue,
            };
            let len = usize::from(relocation.size() / 8);
            let Ok(at) = usize::try_from(offset) else {
                continue;
            };
            let Some(field) = at.checked_add(len).and_then(|end| bytes.get_mut(at..end)) else {
                continue;
            };
            let target = base.wrapping_add(relocation.addend().cast_unsigned());
            let mut value = target.wrapping_sub(place);
            if relocation.has_implicit_addend() {
                let mut raw = [0; 8];
                if let Some(raw) = raw.get_mut(..len) {
                    raw.copy_from_slice(field);
                }
                value = value.wrapping_add(u64::from_le_bytes(raw));
            }
            if let Some(value) = value.to_le_bytes().get(..len) {
                field.copy_from_slice(value);
            }
        }
    }

    fn address(&self, section: SectionIndex) -> u64 {
        let loaded = self.addresses.get(&section.0);
        let place = || self.places().get(&section.0);
        loaded.or_else(place).copied().unwrap_or(0)
    }

    /// Where a section lies in memory.
    pub(crate) fn loaded_at(&self, section: &object::Section<'_, '_>) -> u64 {
        match self.addresses.get(&section.index().0) {
            Some(address) => *address,
            None => section.address().wrapping_add(self.bias),
        }
    }

    /// The ranges of memory that hold its instructions.
    #[must_use]
    pub fn text(&self) -> Vec<Range<u64>> {
        self.allocated(|flags| flags & elf::SHF_EXECINSTR.0 != 0)
    }

    /// From the first to the last byte that it has in memory.
    #[must_use]
    pub fn extent(&self) -> Option<Range<u64>> {
        let ranges = self.allocated(|_| true);
        let start = ranges.iter().map(|range| range.start).min()?;
        let end = ranges.iter().map(|range| range.end).max()?;
        Some(start..end)
    }

    fn allocated(&self, wanted: impl Fn(u64) -> bool) -> Vec<Range<u64>> {
        let Some(elf) = self.elf() else {
            return Vec::new();
        };
        let mut ranges = Vec::new();
        for section in elf.sections() {
            let SectionFlags::Elf { sh_flags, .. } = section.flags() else {
                continue;
            };
            let start = self.loaded_at(&section);
            if sh_flags.0 & elf::SHF_ALLOC.0 != 0 && start != 0 && wanted(sh_flags.0) {
                ranges.push(start..start.saturating_add(section.size()));
            }
        }
        ranges.sort_by_key(|range| range.start);
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_elf_file_has_no_sections() {
        let file = ObjectFile::from_bytes(b"not an ELF file".to_vec(), Arch::Amd64);
        assert_eq!(file.section(".debug_info"), b"");
        assert_eq!(file.section(".text"), b"");
        assert!(file.text().is_empty());
        assert_eq!(file.extent(), None);
    }
}
