//! Addresses and lengths as people write them: `0xffffffff81cd4c0c`, `hz`, `proc0+0xc4`; `64k`.

use crate::advice::Result;
use crate::context::KernelUse;
use crate::outcome::Failure;
use std::ffi::OsStr;
use vmcore::Session;
use vmcore::format::addr::VirtAddr;
use vmcore::kernel::Symbol;
use vmcore_debug::DebugFiles;
use vmcore_debug::lines::demangled;

/// A place in memory, before symbols are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A number.
    Address(u64),
    /// A symbol and a distance in bytes.
    Symbol {
        /// Its name.
        name: String,
        /// Bytes after its start.
        offset: u64,
    },
}

/// A place that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundAddress {
    /// The address.
    pub(crate) address: VirtAddr,
    /// Bytes from there to the end of the symbol; `None` for a number, 0 if the size is unknown.
    pub(crate) symbol_bytes: Option<u64>,
}

impl Place {
    /// Reads `ADDR`, `SYMBOL` or either with `+OFF`.
    pub(crate) fn parse(word: &OsStr) -> Result<Self, Failure> {
        let bad = || {
            Failure::usage(format!(
                "{} is neither an address nor a symbol",
                word.display()
            ))
            .line("write 0xffffffff81cd4c0c, hz or proc0+0xc4")
        };
        let text = word.to_str().ok_or_else(bad)?;
        let is_path = text.contains("::");
        // A path of Rust may have a sign of its own: `<a::B as core::ops::Add>::add`.
        let parts = match is_path {
            true => text
                .rsplit_once('+')
                .filter(|(_, offset)| number(offset).is_some()),
            false => text.split_once('+'),
        };
        let (base, offset) = match parts {
            Some((base, offset)) => (base, number(offset).ok_or_else(bad)?),
            None => (text, 0),
        };
        if let Some(address) = number(base).or_else(|| bare_address(base)) {
            return Ok(Self::Address(address.checked_add(offset).ok_or_else(bad)?));
        }
        let is_name = |c: char| is_path || c.is_alphanumeric() || "_.$@".contains(c);
        if base.is_empty()
            || base.starts_with(|c: char| c.is_ascii_digit())
            || !base.chars().all(is_name)
        {
            return Err(bad());
        }
        Ok(Self::Symbol {
            name: base.to_owned(),
            offset,
        })
    }

    /// What the kernel file is needed for.
    pub(crate) const fn kernel_use(&self) -> KernelUse {
        match self {
            Self::Symbol { .. } => KernelUse::Symbols,
            Self::Address(_) => KernelUse::Addresses,
        }
    }

    /// Looks a symbol up.
    pub(crate) fn find(&self, session: &Session) -> Result<FoundAddress> {
        match self {
            Self::Address(address) => Ok(FoundAddress {
                address: VirtAddr(*address),
                symbol_bytes: None,
            }),
            Self::Symbol { name, offset } => {
                let symbol = symbol_named(session, name)?;
                let address = symbol
                    .address
                    .checked_add(*offset)
                    .ok_or_else(offset_too_large)?;
                Ok(FoundAddress {
                    address,
                    symbol_bytes: Some(symbol.size.saturating_sub(*offset)),
                })
            }
        }
    }
}

impl Place {
    /// Looks a symbol up, in the loaded modules too.
    pub(crate) fn find_in(&self, session: &Session, files: &DebugFiles) -> Result<FoundAddress> {
        if let Self::Symbol { name, offset } = self
            && session.matching_kernel()?.symbols().find(name).is_none()
            && let Some((start, size)) = files
                .modules()
                .iter()
                .find_map(|module| module.symbol_named(name))
        {
            return Ok(FoundAddress {
                address: start.checked_add(*offset).ok_or_else(offset_too_large)?,
                symbol_bytes: Some(size.saturating_sub(*offset)),
            });
        }
        self.find(session)
    }
}

/// Names that are listed where one stands for several.
const MAX_LISTED: usize = 8;

/// A symbol by its name, or by the path that it has in Rust: `a::b::C`, however the compiler mangled that.
pub(crate) fn symbol_named<'s>(session: &'s Session, name: &str) -> Result<Symbol<'s>> {
    let kernel = session.matching_kernel()?;
    if kernel.symbols().find(name).is_some() || !name.contains("::") {
        return Ok(session.symbol(name)?);
    }
    let is_it = |symbol: &Symbol<'_>| {
        let symbol = String::from_utf8_lossy(symbol.name);
        demangled(&symbol) == name
    };
    let mut found: Vec<Symbol<'s>> = kernel.symbols().iter().filter(is_it).collect();
    found.sort_by_key(|symbol| symbol.address);
    found.dedup_by_key(|symbol| symbol.address);
    match found.as_slice() {
        [] => Ok(session.symbol(name)?),
        [one] => Ok(*one),
        several => {
            let failure = Failure::new(format!("{} symbols are called {name}", several.len()));
            let lines = several.iter().take(MAX_LISTED).map(|symbol| {
                let mangled = String::from_utf8_lossy(symbol.name);
                format!("{} {mangled}", symbol.address)
            });
            Err(lines.fold(failure, Failure::line).into())
        }
    }
}

/// The failure of an offset past the end of the address space.
pub(crate) fn offset_too_large() -> Failure {
    Failure::new("the offset is too large")
}

/// A decimal number, or a hexadecimal one after `0x`.
pub(crate) fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if !digits.starts_with('+') => u64::from_str_radix(digits, 16).ok(),
        Some(_) => None,
        None if text.starts_with(|c: char| c.is_ascii_digit()) => text.parse().ok(),
        None => None,
    }
}

/// An address as debuggers print it, without `0x`: 16 digits, or 8 with a letter among them.
fn bare_address(text: &str) -> Option<u64> {
    let has_letter = text.contains(|c: char| c.is_ascii_alphabetic());
    let is_hex = text.chars().all(|c| c.is_ascii_hexdigit());
    let is_address = is_hex && (text.len() == 16 || text.len() == 8 && has_letter);
    is_address
        .then(|| u64::from_str_radix(text, 16).ok())
        .flatten()
}

/// A length in bytes: decimal or hexadecimal, with `k`, `m` or `g` for KiB, MiB or GiB.
pub(crate) fn length(word: &OsStr) -> Result<u64, Failure> {
    let bad = |why: &str| Failure::usage(format!("{} is not a length: {why}", word.display()));
    let text = word.to_str().unwrap_or_default();
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (text.get(..at), 10),
        Some((at, 'm' | 'M')) => (text.get(..at), 20),
        Some((at, 'g' | 'G')) => (text.get(..at), 30),
        _ => (Some(text), 0),
    };
    let value = digits
        .and_then(number)
        .ok_or_else(|| bad("write 4, 0x40 or 64k"))?;
    match value.checked_mul(1 << shift) {
        Some(0) => Err(bad("it must be at least 1")),
        Some(bytes) => Ok(bytes),
        None => Err(bad("it is too large")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Option<Place> {
        Place::parse(OsStr::new(text)).ok()
    }

    #[test]
    fn places_are_numbers_or_symbols_with_an_offset() {
        let symbol = |name: &str, offset| {
            Some(Place::Symbol {
                name: name.to_owned(),
                offset,
            })
        };
        assert_eq!(
            place("0xffffffff81cd4c0c"),
            Some(Place::Address(0xffff_ffff_81cd_4c0c))
        );
        assert_eq!(
            place("ffffffff81cd4c0c"),
            Some(Place::Address(0xffff_ffff_81cd_4c0c))
        );
        assert_eq!(place("c0a01000"), Some(Place::Address(0xc0a0_1000)));
        assert_eq!(place("4096"), Some(Place::Address(4096)));
        assert_eq!(place("12345678"), Some(Place::Address(12_345_678)));
        assert_eq!(place("0x1000+16"), Some(Place::Address(0x1010)));
        assert_eq!(place("hz"), symbol("hz", 0));
        assert_eq!(place("proc0+0xc4"), symbol("proc0", 0xc4));
        assert_eq!(place("vpanic.buf"), symbol("vpanic.buf", 0));
        for wrong in [
            "",
            "0x",
            "0xzz",
            "12ab",
            "a b",
            "hz+",
            "+4",
            "hz+x",
            "0xffffffffffffffff+1",
            "0x+1",
        ] {
            assert_eq!(place(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn lengths_have_suffixes() {
        let length = |text: &str| length(OsStr::new(text)).ok();
        assert_eq!(length("4"), Some(4));
        assert_eq!(length("0x40"), Some(64));
        assert_eq!(length("64k"), Some(65536));
        assert_eq!(length("2M"), Some(2 << 20));
        for wrong in ["", "0", "k", "-1", "4x", "99999999999g"] {
            assert_eq!(length(wrong), None, "{wrong}");
        }
    }
}
