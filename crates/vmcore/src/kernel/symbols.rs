//! Symbols by name and by address, without copying a name.

use object::{Object as _, ObjectSymbol as _, SymbolKind};
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use vmcore_format::addr::VirtAddr;

/// In how many names a byte of the file may be, on average.
const MAX_NAME_SHARES: usize = 4;

/// A symbol of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// Its name, as it stands in the file.
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

/// What the table keeps of a symbol: where its name stands in the file.
#[derive(Clone, Copy, Debug)]
struct Entry {
    address: u64,
    size: u64,
    name_at: usize,
    name_len: usize,
    is_global: bool,
}

/// An index over the symbols of one file.
#[derive(Debug)]
pub struct SymbolTable {
    /// By ascending address; of several at one address the preferred one last.
    by_address: Vec<Entry>,
    /// Hash of the name and position in `by_address`, by ascending hash.
    by_name: Vec<(u64, usize)>,
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
        // Linkers let names that end alike overlap, but a thousand names in one are no kernel's.
        let mut name_bytes_left = data.len().saturating_mul(MAX_NAME_SHARES);
        if let Ok(file) = object::File::parse(data) {
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
                // A name is a part of the file's bytes: keep where it stands.
                let name_at = name.as_ptr().addr().wrapping_sub(data.as_ptr().addr());
                by_address.push(Entry {
                    address: symbol.address(),
                    size: symbol.size(),
                    name_at,
                    name_len: name.len(),
                    is_global: symbol.is_global(),
                });
            }
        }
        // The kernel's own debugger takes the first global one of the table; the sort is stable.
        by_address.reverse();
        by_address.sort_by_key(|entry| (entry.address, entry.size > 0, entry.is_global));
        let mut table = Self {
            by_address,
            by_name: Vec::new(),
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

    pub(super) fn nearest<'a>(&self, data: &'a [u8], va: VirtAddr) -> Option<Nearest<'a>> {
        let after = self
            .by_address
            .partition_point(|entry| entry.address <= va.0);
        let entry = self.by_address.get(after.checked_sub(1)?)?;
        let offset = va.0 - entry.address;
        Some(Nearest {
            symbol: entry.symbol(data),
            offset,
            inside: offset < entry.size,
        })
    }

    pub(super) fn iter<'a>(&self, data: &'a [u8]) -> impl Iterator<Item = Symbol<'a>> + use<'a> {
        self.by_address
            .clone()
            .into_iter()
            .map(move |entry| entry.symbol(data))
    }
}

impl Entry {
    fn name<'a>(&self, data: &'a [u8]) -> &'a [u8] {
        let end = self.name_at.saturating_add(self.name_len);
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
    use vmcore_synth::elf::Kernel;

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
}
