//! The kernel's own symbols, out of its file: the loader passes that as a module.
//!
//! Only what the debugger needs is kept: addresses, sizes and names, in the kernel map. Names of Rust
//! functions lose their hash when they are shown.

use crate::arch::layout;
use crate::arch::layout::{KERNBASE, dmap};
use crate::sys::boot_cell::BootCell;
use crate::sys::console::printf;
use crate::vm::kmem;
use core::fmt;
use core::slice;
use vmcore_format::addr::PhysRange;

const ELF_MAGIC: [u8; 4] = *b"\x7fELF";
const SHT_SYMTAB: u32 = 2;
const SHDR_LEN: usize = 64;
const SYM_LEN: usize = 24;
/// Symbol kinds: none, object, function.
const KINDS: [u8; 3] = [0, 1, 2];
/// `SHN_UNDEF` and `SHN_ABS`.
const SHN_UNDEF: u16 = 0;
const SHN_ABS: u16 = 0xfff1;

/// A symbol: where, how large, and its name in the strings.
#[derive(Clone, Copy)]
#[repr(C)]
struct Symbol {
    address: u64,
    size: u32,
    name: u32,
}

struct Table {
    symbols: &'static [Symbol],
    strings: &'static [u8],
}

static TABLE: BootCell<Table> = BootCell::new();

fn u16_at(file: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*file.get(at..)?.first_chunk()?))
}

fn u32_at(file: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*file.get(at..)?.first_chunk()?))
}

fn u64_at(file: &[u8], at: usize) -> Option<usize> {
    Some(u64::from_le_bytes(*file.get(at..)?.first_chunk()?) as usize)
}

/// The contents of section `index`, and the section that it refers to.
fn section(file: &[u8], index: usize) -> Option<(u32, &[u8], usize)> {
    let at = u64_at(file, 40)? + index * SHDR_LEN;
    let (offset, len) = (u64_at(file, at + 24)?, u64_at(file, at + 32)?);
    let kind = u32_at(file, at + 4)?;
    let contents = file
        .get(offset..offset.checked_add(len)?)
        .unwrap_or_default();
    Some((kind, contents, u32_at(file, at + 40)? as usize))
}

/// Keeps the symbols of the module.
pub(crate) fn init(module: Option<PhysRange>) {
    let Some(module) = module else {
        printf!("no kernel file among the modules: the debugger shows addresses only\n");
        return;
    };
    // SAFETY: the loader put the file there, and its pages were reserved.
    let file = unsafe { slice::from_raw_parts(dmap(module.start), module.len_bytes() as usize) };
    if read(file).is_none() {
        printf!("the module is not a kernel file: the debugger shows addresses only\n");
    }
}

fn read(file: &[u8]) -> Option<()> {
    if !file.starts_with(&ELF_MAGIC) {
        return None;
    }
    let count = usize::from(u16_at(file, 60)?);
    let (_, raw, strings) = (0..count)
        .filter_map(|index| section(file, index))
        .find(|(kind, _, _)| *kind == SHT_SYMTAB)?;
    let (_, strings, _) = section(file, strings)?;
    let wanted = || raw.chunks_exact(SYM_LEN).filter_map(symbol);
    let len = wanted().count();
    let at = kmem::alloc((len * size_of::<Symbol>()) as u64, false).start;
    // SAFETY: fresh memory of that size, zeroed, and page aligned.
    let table = unsafe { slice::from_raw_parts_mut(at.0 as *mut Symbol, len) };
    for (slot, symbol) in table.iter_mut().zip(wanted()) {
        *slot = symbol;
    }
    table.sort_unstable_by_key(|symbol| (symbol.address, symbol.size));
    let at = kmem::alloc(strings.len() as u64, false).start;
    // SAFETY: as above.
    let copy = unsafe { slice::from_raw_parts_mut(at.0 as *mut u8, strings.len()) };
    copy.copy_from_slice(strings);
    TABLE.set(Table {
        symbols: table,
        strings: copy,
    });
    Some(())
}

/// A symbol of the image that is worth keeping.
fn symbol(raw: &[u8]) -> Option<Symbol> {
    let (info, section) = (raw[4], u16_at(raw, 6)?);
    let address = u64_at(raw, 8)? as u64;
    let wanted = KINDS.contains(&(info & 15)) && section != SHN_UNDEF && section != SHN_ABS;
    (wanted && address >= KERNBASE.0 && u32_at(raw, 0)? != 0).then_some(Symbol {
        address,
        size: u64_at(raw, 16)?.min(u32::MAX as usize) as u32,
        name: u32_at(raw, 0)?,
    })
}

impl Table {
    fn name(&self, symbol: &Symbol) -> &str {
        let from = self.strings.get(symbol.name as usize..).unwrap_or_default();
        let len = from.iter().position(|byte| *byte == 0).unwrap_or(0);
        core::str::from_utf8(&from[..len]).unwrap_or("?")
    }

    /// The nearest symbol at or below an address of the kernel's code.
    fn nearest(&self, va: u64) -> Option<(&str, u64)> {
        let image = layout::image();
        if !(image.start..image.end).contains(&va) {
            return None;
        }
        let after = self.symbols.partition_point(|symbol| symbol.address <= va);
        let symbol = self.symbols.get(after.checked_sub(1)?)?;
        Some((self.name(symbol), va - symbol.address))
    }
}

/// A name as people write it: `lab_kernel::ddb::run` for what the compiler calls
/// `_ZN10lab_kernel3ddb3run17h0123456789abcdefE`, and `core::panicking::panic_fmt` for
/// `_RNvNtCsgEmfK2I1SDS_4core9panicking9panic_fmt`.
struct Plain<'a>(&'a str);

/// The identifiers of a name, in their order: each has its length in front. The newer kind of names
/// has letters between them, numbers that tell crates apart (`s`, digits and letters, `_`), and a `_`
/// after the length of an identifier that begins with one.
fn identifiers(name: &str, is_new: bool) -> impl Iterator<Item = &str> {
    let mut rest = name;
    core::iter::from_fn(move || {
        loop {
            let first = rest.chars().next()?;
            if first.is_ascii_digit() {
                let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
                let len: usize = rest[..digits].parse().ok()?;
                rest = &rest[digits..];
                if is_new {
                    rest = rest.strip_prefix('_').unwrap_or(rest);
                }
                let part = rest.get(..len)?;
                rest = &rest[len..];
                return Some(part);
            }
            rest = match first {
                's' => rest.split_once('_')?.1,
                'A'..='Z' | 'a'..='z' => &rest[1..],
                _ => return None,
            };
        }
    })
}

/// The last identifier of the older kind of names: a hash.
fn is_hash(part: &str) -> bool {
    part.len() == 17 && part.starts_with('h') && part[1..].bytes().all(|b| b.is_ascii_hexdigit())
}

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let old = self.0.strip_prefix("_ZN");
        let Some(mangled) = old.or_else(|| self.0.strip_prefix("_R")) else {
            return f.write_str(self.0);
        };
        let mut separator = "";
        for part in identifiers(mangled, old.is_none()).filter(|part| !is_hash(part)) {
            f.write_str(separator)?;
            // Type parameters and the like: readable enough without being undone in full.
            f.write_str(part)?;
            separator = "::";
        }
        Ok(())
    }
}

/// Prints an address as symbol and offset.
pub(crate) fn print(va: u64) {
    match TABLE.try_get().and_then(|table| table.nearest(va)) {
        Some((name, 0)) => printf!("{}", Plain(name)),
        Some((name, offset)) => printf!("{}+{offset:#x}", Plain(name)),
        None => printf!("{va:#x}"),
    }
}

/// Prints a frame as FreeBSD's debugger does. A return address belongs to the function of the call
/// before it.
pub(crate) fn print_frame(va: u64, exact: bool, frame: u64) -> Option<()> {
    let call = if exact { va } else { va.wrapping_sub(1) };
    match TABLE.try_get().and_then(|table| table.nearest(call)) {
        Some((name, offset)) => {
            let (name, offset) = (Plain(name), offset + (va - call));
            printf!("{name}() at {name}+{offset:#x}/frame {frame:#x}\n");
            Some(())
        }
        None => {
            printf!("??() at {va:#x}/frame {frame:#x}\n");
            None
        }
    }
}

/// Asks something about the name of the symbol at an address.
pub(crate) fn with_name(va: u64, ask: fn(&str) -> bool) -> bool {
    let found = TABLE.try_get().and_then(|table| table.nearest(va));
    found.is_some_and(|(name, _)| ask(name))
}

/// The address of a symbol.
pub(crate) fn find(name: &str) -> Option<u64> {
    let table = TABLE.try_get()?;
    let symbol = table
        .symbols
        .iter()
        .find(|symbol| table.name(symbol) == name)?;
    Some(symbol.address)
}
