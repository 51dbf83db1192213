//! Functions, files and lines of code addresses, inlined functions too.
//!
//! ```no_run
//! use vmcore_debug::lines::Lines;
//! use vmcore_debug::object_file::ObjectFile;
//! use vmcore::format::addr::VirtAddr;
//! let file = ObjectFile::open("kernel.debug".as_ref())?;
//! for place in Lines::of(&file).at(VirtAddr(0xffff_ffff_80c0_9ade)) {
//!     println!("{:?} {:?}", place.function, place.line);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod functions;
mod rows;
mod units;

use crate::dwarf::{Debug, Slice};
use crate::object_file::ObjectFile;
use functions::Functions;
use gimli::{Unit, UnitOffset};
use rows::Rows;
use serde::Serialize;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use units::Units;
use vmcore_format::addr::VirtAddr;

/// The most inlined functions at one address.
const MAX_INLINED: usize = 256;
/// Units that are looked into for one address.
const MAX_UNITS: usize = 64;
/// Addresses whose places are kept.
const MAX_KEPT: usize = 1 << 14;
/// The longest demangled name: short ones can stand for gigabytes.
const MAX_DEMANGLED: usize = 4096;

/// A function at an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourcePlace {
    /// Its name, demangled; `?` for code of which only the line is known.
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

/// The name of a function that no debug information names.
pub(crate) const NAMELESS: &str = "?";

/// The line tables of a file.
#[derive(Debug)]
pub struct Lines<'a> {
    bias: u64,
    debug: Debug<'a>,
    units: OnceLock<Units>,
    open: Mutex<HashMap<usize, Option<Arc<OpenUnit<'a>>>>>,
    kept: Mutex<HashMap<u64, Vec<SourcePlace>>>,
}

/// What is read of a unit when one of its addresses is asked for.
#[derive(Debug)]
struct OpenUnit<'a> {
    unit: Arc<Unit<Slice<'a>>>,
    functions: Functions,
    rows: Rows<'a>,
}

impl<'a> Lines<'a> {
    /// Those of a file; without debug information it knows nothing.
    #[must_use]
    pub fn of(file: &'a ObjectFile) -> Self {
        Self {
            bias: file.bias(),
            debug: Debug::of(file),
            units: OnceLock::new(),
            open: Mutex::default(),
            kept: Mutex::default(),
        }
    }

    /// The functions at an address, the innermost inlined one first. For a return address ask for
    /// the byte before it. Where a line is known but no function, as in assembly, its name is `?`.
    #[must_use]
    pub fn at(&self, address: VirtAddr) -> Vec<SourcePlace> {
        let address = address.0.wrapping_sub(self.bias);
        if let Some(known) = lock(&self.kept).get(&address) {
            return known.clone();
        }
        let places = self.find(address);
        let mut kept = lock(&self.kept);
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(address, places.clone());
        places
    }

    /// The debug information.
    pub(crate) const fn debug(&self) -> &Debug<'a> {
        &self.debug
    }

    /// The unit and the entry of the function at an address.
    pub(crate) fn function(&self, address: VirtAddr) -> Option<(Arc<Unit<Slice<'a>>>, UnitOffset)> {
        let address = address.0.wrapping_sub(self.bias);
        let units = self.units.get_or_init(|| Units::of(&self.debug));
        units.at(address).take(MAX_UNITS).find_map(|position| {
            let open = self.open(position)?;
            let entry = open.functions.entry_at(address)?;
            Some((open.unit.clone(), entry))
        })
    }

    fn find(&self, address: u64) -> Vec<SourcePlace> {
        let units = self.units.get_or_init(|| Units::of(&self.debug));
        let mut line_only = Vec::new();
        for position in units.at(address).take(MAX_UNITS) {
            let Some(open) = self.open(position) else {
                continue;
            };
            let places = self.places(&open, address);
            if places.iter().any(|place| place.function != NAMELESS) {
                return places;
            }
            if line_only.is_empty() {
                line_only = places;
            }
        }
        line_only
    }

    fn open(&self, position: usize) -> Option<Arc<OpenUnit<'a>>> {
        let mut open = lock(&self.open);
        open.entry(position)
            .or_insert_with(|| {
                let (_, root) = self.debug.root(position).ok()?;
                let unit = self.debug.unit(position).ok()?;
                // Either is worth something without the other.
                let functions = Functions::of(&self.debug, &unit).unwrap_or_default();
                let rows = Rows::of(&self.debug, &unit, &root).unwrap_or_default();
                Some(Arc::new(OpenUnit {
                    unit,
                    functions,
                    rows,
                }))
            })
            .clone()
    }

    fn places(&self, open: &OpenUnit<'a>, address: u64) -> Vec<SourcePlace> {
        let (debug, unit) = (&self.debug, &*open.unit);
        let file = |number: u64| open.rows.file(debug, unit, number);
        let found = open.functions.at(debug, unit, address).unwrap_or_default();
        let row = open.rows.at(address);
        let mut at = (
            row.and_then(|(number, _)| file(number)),
            row.map(|(_, line)| line).filter(|line| *line > 0),
        );
        let place = |function: Option<String>, (file, line)| SourcePlace {
            function: function.unwrap_or_else(|| NAMELESS.to_owned()),
            file,
            line,
            inlined: true,
        };
        let mut places = Vec::new();
        if found.is_empty() && row.is_some() {
            places.push(place(None, at));
        } else {
            for function in found {
                let (number, line) = function.call;
                let call = (number.and_then(file), line);
                let here = std::mem::replace(&mut at, call);
                if function.name.is_some() {
                    places.push(place(function.name, here));
                }
            }
        }
        if let Some(outermost) = places.last_mut() {
            outermost.inlined = false;
        }
        places
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The name of a Rust or C++ function as its source has it; any other name as it is, and one that is
/// too long in its source.
#[must_use]
pub fn demangled(name: &str) -> String {
    // Names in C are most, and what looks for marks in them takes its time.
    if !name.trim_start_matches('_').starts_with(['R', 'Z']) {
        return name.to_owned();
    }
    let mut text = Bounded(String::new());
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        if write!(text, "{rust:#}").is_ok() {
            return text.0;
        }
    } else if name.starts_with("_Z")
        && name.len() <= MAX_DEMANGLED
        && let Ok(symbol) = cpp_demangle::Symbol::new(name)
        && symbol
            .structured_demangle(&mut text, &cpp_demangle::DemangleOptions::new())
            .is_ok()
    {
        return text.0;
    }
    name.to_owned()
}

/// Text that takes no more than a name needs.
struct Bounded(String);

impl std::fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        if self.0.len() + text.len() > MAX_DEMANGLED {
            return Err(std::fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
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
