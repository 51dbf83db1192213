//! Symbols by name and by address, without copying a name.

use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, SectionFlags, SectionIndex, SymbolKind,
    SymbolSection, elf,
};
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::ops::Range;
use vmcore_format::addr::VirtAddr;

/// In how many names a byte of the file may be, on average.
const MAX_NAME_SHARES: usize = 4;
/// How many symbols before an address are looked at.
const MAX_BACK: usize = 256;

/// A symbol of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// Its name, as it is in the file.
    pub name: &'a [u8],
    /// Its address.
    pub address: VirtAddr,
    /// Its size in bytes; 0 if the file does not say.
    pub size: u64,
}

impl Symbol<'_> {
    /// The symbol of a kernel that ran so far from where it was linked.
    pub(super) const fn moved_by(self, bytes: u64) -> Self {
        Self {
            address: VirtAddr(self.address.0.wrapping_add(bytes)),
            ..self
        }
    }
}

/// A symbol and the distance of an address from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nearest<'a> {
    /// The symbol.
    pub symbol: Symbol<'a>,
    /// Bytes from its start.
    pub offset: u64,
    /// Whether the address lies inside the symbol's size.
    pub inside: bool,
}

/// What the table keeps of a symbol: where its name is in the file.
#[derive(Clone, Copy, Debug)]
struct Entry {
    address: u64,
    size: u64,
    name_at: usize,
    name_len: u32,
    /// Index of its section; 0 for one outside of all sections.
    section: u32,
    is_global: bool,
    is_code: bool,
    /// A label that only the assembler knows: neither type nor size, not global.
    is_label: bool,
}

/// An index over the symbols of one file.
#[derive(Debug)]
pub struct SymbolTable {
    /// By ascending address; of several at one address the preferred one last.
    by_address: Vec<Entry>,
    /// Hash of the name and position in `by_address`, by ascending hash.
    by_name: Vec<(u64, usize)>,
    /// The sections in memory, by ascending address.
    sections: Vec<(Range<u64>, u32)>,
}

fn number_of(section: SectionIndex) -> u32 {
    u32::try_from(section.0).unwrap_or(0)
}

fn hash(name: &[u8]) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(name)
}

/// Whether a symbol names nothing that a person wrote: arm, arm64 and riscv mark code and data with
/// symbols such as `$x` and `$d.1`, and riscv keeps its assembler's own labels, `.L0`.
#[must_use]
pub fn is_marker(name: &[u8]) -> bool {
    match name {
        [b'.', b'L', ..] => true,
        [b'$', b'a' | b'd' | b't' | b'x'] => true,
        [b'$', b'a' | b'd' | b't' | b'x', b'.', ..] => true,
        [b'$', b'x', rest @ ..] => rest.starts_with(b"rv"),
        _ => false,
    }
}

impl SymbolTable {
    /// Indexes the symbols of an ELF file; a damaged table gives no symbols.
    pub(super) fn new(data: &[u8]) -> Self {
        let mut by_address = Vec::new();
        let mut sections = Vec::new();
        // Linkers let names that end alike overlap, but a thousand names in one are no kernel's.
        let mut name_bytes_left = data.len().saturating_mul(MAX_NAME_SHARES);
        if let Ok(file) = object::File::parse(data) {
            for section in file.sections() {
                if let SectionFlags::Elf { sh_flags, .. } = section.flags()
                    && sh_flags.0 & elf::SHF_ALLOC.0 != 0
                {
                    let start = section.address();
                    let end = start.saturating_add(section.size());
                    sections.push((start..end, number_of(section.index())));
                }
            }
            for symbol in file.symbols() {
                let Ok(name) = symbol.name_bytes() else {
                    continue;
                };
                let Some(left) = name_bytes_left.checked_sub(name.len()) else {
                    break;
                };
                name_bytes_left = left;
                let unwanted = matches!(symbol.kind(), SymbolKind::File | SymbolKind::Section);
                if unwanted || name.is_empty() || symbol.is_undefined() || is_marker(name) {
                    continue;
                }
                let Ok(name_len) = u32::try_from(name.len()) else {
                    continue;
                };
                // A name is a part of the file's bytes: keep where it is.
                let name_at = name.as_ptr().addr().wrapping_sub(data.as_ptr().addr());
                let has_type = matches!(
                    symbol.kind(),
                    SymbolKind::Text | SymbolKind::Data | SymbolKind::Tls
                );
                by_address.push(Entry {
                    address: symbol.address(),
                    size: symbol.size(),
                    name_at,
                    name_len,
                    section: match symbol.section() {
                        SymbolSection::Section(index) => number_of(index),
                        _ => 0,
                    },
                    is_global: symbol.is_global(),
                    is_code: symbol.kind() == SymbolKind::Text,
                    is_label: !has_type && symbol.size() == 0 && !symbol.is_global(),
                });
            }
        }
        // The kernel's own debugger takes the first global one of the table; the sort is stable.
        by_address.reverse();
        by_address.sort_by_key(|entry| (entry.address, entry.size > 0, entry.is_global));
        sections.sort_by_key(|(range, _)| range.start);
        let mut table = Self {
            by_address,
            by_name: Vec::new(),
            sections,
        };
        table.by_name = (0..)
            .zip(&table.by_address)
            .map(|(position, entry)| (hash(entry.name(data)), position))
            .collect();
        table.by_name.sort_unstable();
        table
    }

    pub(super) fn len(&self) -> usize {
        self.by_address.len()
    }

    pub(super) fn find<'a>(&self, data: &'a [u8], name: &str) -> Option<Symbol<'a>> {
        let wanted = hash(name.as_bytes());
        let first = self.by_name.partition_point(|(hash, _)| *hash < wanted);
        let same = self
            .by_name
            .get(first..)?
            .iter()
            .take_while(|(hash, _)| *hash == wanted);
        same.filter_map(|(_, position)| self.by_address.get(*position))
            .filter(|entry| entry.name(data) == name.as_bytes())
            .max_by_key(|entry| entry.is_global)
            .map(|entry| entry.symbol(data))
    }

    /// The nearest symbol at or before an address in the section that the address is in; a label of
    /// the assembler gives way to the function around it.
    pub(super) fn nearest<'a>(&self, data: &'a [u8], va: VirtAddr) -> Option<Nearest<'a>> {
        let after = self
            .by_address
            .partition_point(|entry| entry.address <= va.0);
        let before = self.by_address.get(..after)?.iter().rev().take(MAX_BACK);
        let section = self.section_of(va.0);
        let mut before = before.filter(|entry| match section {
            Some(section) => entry.section == section,
            None => entry.holds(va.0) || !self.ends_before(entry),
        });
        let nearest = before.next()?;
        let around = match nearest.is_label {
            true => before.find(|entry| !entry.is_label),
            false => None,
        };
        let entry = around.filter(|entry| entry.holds(va.0)).unwrap_or(nearest);
        Some(Nearest {
            symbol: entry.symbol(data),
            offset: va.0 - entry.address,
            inside: entry.holds(va.0),
        })
    }

    /// Whether a symbol names nothing that is in no section. Sections of a kernel file may be cut, and
    /// then have symbols past their end.
    fn ends_before(&self, entry: &Entry) -> bool {
        let mut sections = self.sections.iter();
        match entry.section {
            0 => !self.sections.is_empty(),
            own => sections.any(|(range, index)| {
                *index == own && (range.start..=range.end).contains(&entry.address)
            }),
        }
    }

    /// The section in memory that an address is in.
    fn section_of(&self, address: u64) -> Option<u32> {
        let after = self
            .sections
            .partition_point(|(range, _)| range.start <= address);
        let (range, index) = self.sections.get(after.checked_sub(1)?)?;
        range.contains(&address).then_some(*index)
    }

    /// Up to `count` functions of at least `size` bytes, evenly spread over the kernel.
    pub(super) fn functions<'a>(&self, data: &'a [u8], count: usize, size: u64) -> Vec<Symbol<'a>> {
        let large = |entry: &&Entry| entry.is_code && entry.size >= size;
        let step = (self.by_address.len() / count.max(1)).max(1);
        let parts = self.by_address.chunks(step);
        let found = parts.filter_map(|part| part.iter().find(large));
        found.map(|entry| entry.symbol(data)).take(count).collect()
    }

    pub(super) fn iter<'a>(&self, data: &'a [u8]) -> impl Iterator<Item = Symbol<'a>> + use<'a> {
        self.by_address
            .clone()
            .into_iter()
            .map(move |entry| entry.symbol(data))
    }
}

impl Entry {
    /// Whether an address is inside its size.
    fn holds(&self, address: u64) -> bool {
        address.wrapping_sub(self.address) < self.size
    }

    fn name<'a>(&self, data: &'a [u8]) -> &'a [u8] {
        let end = self.name_at.saturating_add(self.name_len as usize);
        data.get(self.name_at..end).unwrap_or_default()
    }

    fn symbol<'a>(&self, data: &'a [u8]) -> Symbol<'a> {
        Symbol {
            name: self.name(data),
            address: VirtAddr(self.address),
            size: self.size,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmcore_synth::Arch;
    use vmcore_synth::elf::{Kernel, SectionKind};

    #[test]
    fn of_several_symbols_at_an_address_the_one_is_taken_that_the_kernel_s_debugger_takes() {
        let mut kernel = Kernel::new(Arch::Riscv64, 0xffff_ffc0_0000_0000);
        let at = 0xffff_ffc0_0000_1000;
        for (name, size, is_global) in [
            ("local", 64, false),
            ("first", 64, true),
            ("alias", 64, true),
            ("label", 0, true),
            ("$x.7", 0, false),
            (".Lpcrel_hi1", 0, false),
        ] {
            kernel.add_function(name, at, size);
            if let Some(symbol) = kernel.symbols.last_mut() {
                symbol.is_global = is_global;
            }
        }
        let file = kernel.build();
        let table = SymbolTable::new(&file);
        assert_eq!(table.len(), 4);
        let found = table.nearest(&file, VirtAddr(at + 4));
        assert_eq!(found.map(|found| found.symbol.name), Some(&b"first"[..]));
    }

    #[test]
    fn a_symbol_ends_with_its_section_and_a_label_gives_way_to_its_function() {
        let base = 0xffff_0000_0000_0000;
        let mut kernel = Kernel::new(Arch::Arm64, base);
        kernel.add_section(".text", SectionKind::Code, base + 0x1000, &[0; 0x200]);
        kernel.add_section(".data", SectionKind::Data, base + 0x1200, &[0; 0x100]);
        for (name, at, size) in [
            ("_start", 0x1000, 0x180),
            ("virtdone", 0x1010, 0),
            ("handler", 0x1180, 0),
            ("variable", 0x1210, 4),
            ("_end", 0x1300, 0),
        ] {
            kernel.add_function(name, base + at, size);
        }
        let mut file = kernel.build();
        // The assembler gives labels neither a type nor other files.
        let symbol = object::File::parse(&file[..]).ok().and_then(|file| {
            let at = file.section_by_name(".symtab")?.file_range()?.0;
            Some(usize::try_from(at).unwrap_or(0) + 2 * 24 + 4)
        });
        file[symbol.unwrap_or(0)] = 0;
        let table = SymbolTable::new(&file);
        let near = |at: u64| {
            let found = table.nearest(&file, VirtAddr(base + at))?;
            Some((found.symbol.name, found.offset, found.inside))
        };
        assert_eq!(near(0x1088), Some((&b"_start"[..], 0x88, true)));
        assert_eq!(near(0x1190), Some((&b"handler"[..], 0x10, false)));
        assert_eq!(near(0x1208), None);
        assert_eq!(near(0x1218), Some((&b"variable"[..], 8, false)));
        assert_eq!(near(0x5000), None);
    }
}
