//! Functions, files and lines of code addresses, inlined functions too.
//!
//! ```no_run
//! use vmcore_debug::lines::Lines;
//! use vmcore_debug::object_file::ObjectFile;
//! use vmcore::format::addr::VirtAddr;
//! let file = ObjectFile::open("kernel.debug".as_ref())?;
//! for place in Lines::of(&file).at(VirtAddr(0xffff_ffff_80c0_9ade)) {
//!     println!("{} {:?}", place.function, place.line);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::object_file::ObjectFile;
use crate::types::{Slice, dwarf_of};
use addr2line::Context;
use serde::Serialize;
use std::sync::{Mutex, PoisonError};
use vmcore_format::addr::VirtAddr;

/// The most inlined functions at one address.
const MAX_INLINED: usize = 256;

/// A function at an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Its name, demangled.
    pub function: String,
    /// The source file, as the compiler was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Whether it was inlined into the next one.
    pub inlined: bool,
}

/// The line tables of a file.
pub struct Lines<'a> {
    bias: u64,
    context: Option<Mutex<Context<Slice<'a>>>>,
}

impl std::fmt::Debug for Lines<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}

impl<'a> Lines<'a> {
    /// Those of a file; without debug information it knows nothing.
    #[must_use]
    pub fn of(file: &'a ObjectFile) -> Self {
        let has_any = !file.section(".debug_info").is_empty();
        let context = has_any.then(|| Context::from_dwarf(dwarf_of(file)).ok());
        Self {
            bias: file.bias(),
            context: context.flatten().map(Mutex::new),
        }
    }

    /// The functions at an address, the innermost inlined one first. For a return address ask for
    /// the byte before it.
    #[must_use]
    pub fn at(&self, address: VirtAddr) -> Vec<Place> {
        let Some(context) = &self.context else {
            return Vec::new();
        };
        let context = context.lock().unwrap_or_else(PoisonError::into_inner);
        let found = context.find_frames(address.0.wrapping_sub(self.bias));
        let Ok(mut frames) = found.skip_all_loads() else {
            return Vec::new();
        };
        let mut places = Vec::new();
        while let Ok(Some(frame)) = frames.next() {
            let name = frame.function.as_ref().and_then(|function| {
                let raw = function.raw_name().ok()?;
                Some(demangled(&raw))
            });
            let Some(function) = name else { continue };
            let location = frame.location;
            places.push(Place {
                function,
                file: location
                    .as_ref()
                    .and_then(|location| location.file.map(str::to_owned)),
                line: location.and_then(|location| location.line),
                inlined: true,
            });
            if places.len() >= MAX_INLINED {
                break;
            }
        }
        if let Some(outermost) = places.last_mut() {
            outermost.inlined = false;
        }
        places
    }
}

/// The name of a Rust or C++ function as its source has it; any other name as it is.
#[must_use]
pub fn demangled(name: &str) -> String {
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return format!("{rust:#}");
    }
    if name.starts_with("_Z")
        && let Ok(symbol) = cpp_demangle::Symbol::new(name)
        && let Ok(text) = symbol.demangle()
    {
        return text;
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::demangled;

    #[test]
    fn names_of_rust_and_cpp_are_demangled_and_those_of_c_are_not() {
        assert_eq!(demangled("_ZN3foo3barEv"), "foo::bar()");
        assert_eq!(
            demangled("_ZN4core3fmt5write17h0123456789abcdefE"),
            "core::fmt::write"
        );
        assert_eq!(demangled("_RNvCsabc_5crate4func"), "crate::func");
        assert_eq!(demangled("ip_output"), "ip_output");
        assert_eq!(demangled("_Zbroken"), "_Zbroken");
    }
}
