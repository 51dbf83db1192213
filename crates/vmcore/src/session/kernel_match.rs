//! Whether a kernel file is the one that crashed.
//!
//! Every independent fact counts, and they are read in the order of their cost until they decide:
//! build id, version string at its symbol, the constants that kernels export for debuggers, version
//! strings around the dump, instructions at known functions. Memory is weighed in proportion, for a
//! crash may have damaged a part of it, and the instructions of a running kernel differ in places from
//! its file. Pages of zeros prove nothing: dumps that were cut down to a few pages have them.

use super::Session;
use crate::around;
use crate::kernel::{BuildId, KernelFile};
use crate::space::AddressSpace;
use crate::translation::TranslationError;
use serde::Serialize;
use std::ops::RangeInclusive;
use vmcore_format::addr::VirtAddr;

/// Longest version string that is compared.
const VERSION_MAX: usize = 1024;
/// Bytes of the version string in a dump header: a longer one is cut.
const HEADER_VERSION_LEN: usize = 191;
/// Functions whose instructions are compared, and the fewest that prove anything.
const FUNCTIONS: usize = 64;
const FUNCTIONS_MIN: usize = 8;
/// Bytes of instructions that are compared, in the middle of a function: probes patch its start.
const CODE_LEN: usize = 16;
/// The fewest constants that prove a kernel.
const CONSTANTS_MIN: usize = 4;
/// Bytes before and after a value that are zeros too where a page was cut out.
const NEIGHBOURS: usize = 64;
/// The first and last `__FreeBSD_version` that can be one.
const OSRELDATES: RangeInclusive<i32> = 200_000..=9_999_999;
/// No exported offset or size is larger.
const MAX_CONSTANT: i32 = 1 << 16;
/// Integers that never change: the kernel exports them for debuggers.
const CONSTANTS: [&str; 15] = [
    "pcb_size",
    "proc_off_p_pid",
    "proc_off_p_comm",
    "proc_off_p_list",
    "proc_off_p_hash",
    "proc_off_p_threads",
    "thread_off_td_tid",
    "thread_off_td_name",
    "thread_off_td_oncpu",
    "thread_off_td_pcb",
    "thread_off_td_plist",
    "kld_off_address",
    "kld_off_filename",
    "kld_off_pathname",
    "kld_off_next",
];
/// Pointers into the kernel's memory, or null.
const POINTERS: [&str; 7] = [
    "allproc",
    "linker_kernel_file",
    "msgbufp",
    "panicstr",
    "pidhashtbl",
    "rootvnode",
    "zombproc",
];

/// Whether the kernel file is the one that crashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "match")]
pub enum KernelMatch {
    /// The build ids are equal.
    BuildId,
    /// The version strings are equal; different builds of one source have the same.
    Version,
    /// What the file has at its symbols is in the dump's memory.
    Contents {
        /// Constants and functions that are equal.
        equal: usize,
        /// Constants and functions that were compared.
        compared: usize,
    },
    /// Nothing to compare.
    Unproven,
    /// The build ids differ.
    OtherBuildId {
        /// In the dump.
        dump: BuildId,
        /// In the file.
        file: BuildId,
    },
    /// The version strings differ.
    OtherVersion {
        /// In the dump.
        dump: String,
        /// In the file.
        file: String,
        /// Where the dump's is: `kernel memory`, `dump header`, `info.3`, `log`.
        source: String,
    },
    /// What is at the kernel file's symbols in the dump's memory is another kernel's.
    OtherContents {
        /// What is there, and what the file has.
        fact: String,
    },
    /// Another architecture, or the same in the other byte order: by the names that tell them apart.
    OtherArch {
        /// Of the dump.
        dump: &'static str,
        /// Of the file.
        file: &'static str,
    },
}

impl KernelMatch {
    /// Whether the file is certainly another kernel's.
    #[must_use]
    pub const fn is_mismatch(&self) -> bool {
        matches!(
            self,
            Self::OtherBuildId { .. }
                | Self::OtherVersion { .. }
                | Self::OtherContents { .. }
                | Self::OtherArch { .. }
        )
    }
}

/// Compares a kernel file with a session's dump.
pub(super) fn compare(session: &Session, kernel: &KernelFile) -> KernelMatch {
    let dump = session.dump();
    let (arch, endian) = (dump.arch(), dump.memory().endian());
    if kernel.arch() != arch {
        return KernelMatch::OtherArch {
            dump: arch.name(),
            file: kernel.arch().name(),
        };
    }
    if kernel.endian() != endian {
        return KernelMatch::OtherArch {
            dump: arch.machine_arch(endian),
            file: arch.machine_arch(kernel.endian()),
        };
    }
    if let Some(file) = kernel.build_id()
        && let Some(ids) = session.build_ids()
    {
        if ids.ids.contains(&file) {
            return KernelMatch::BuildId;
        }
        if let Some(dump) = ids.certain() {
            return KernelMatch::OtherBuildId { dump, file };
        }
    }
    let file = version_in_file(kernel);
    let Ok(space) = session.space() else {
        return by_words(session, &AtSymbol::Nothing, file);
    };
    let memory = Memory { kernel, space };
    let at_symbol = memory.version(file.as_deref());
    let is_same =
        matches!((&at_symbol, &file), (AtSymbol::Version(dump), Some(file)) if dump == file);
    let constants = memory.constants();
    match constants.verdict(1) {
        None if is_same => return KernelMatch::Version,
        None => {}
        // Version strings that differ say it better.
        Some(fact) => {
            return match by_words(session, &at_symbol, file) {
                other @ KernelMatch::OtherVersion { .. } => other,
                _ => KernelMatch::OtherContents { fact },
            };
        }
    }
    let words = by_words(session, &at_symbol, file);
    if words.is_mismatch() && matches!(at_symbol, AtSymbol::Version(_)) {
        return words;
    }
    let code = memory.code();
    let has_code = code.compared >= FUNCTIONS_MIN && code.equal * 10 >= code.compared * 9;
    let found = || KernelMatch::Contents {
        equal: constants.equal + code.equal,
        compared: constants.compared + code.compared,
    };
    if has_code {
        // What is around a dump may be about another; its own memory is not.
        return match words {
            KernelMatch::Version => words,
            _ => found(),
        };
    }
    let other = match at_symbol {
        AtSymbol::Other(fact) => Some(fact),
        _ => code.verdict(FUNCTIONS_MIN),
    };
    match (words, other.or_else(|| memory.pointers().verdict(2))) {
        (words @ KernelMatch::OtherVersion { .. }, _) => words,
        (_, Some(fact)) => KernelMatch::OtherContents { fact },
        (KernelMatch::Unproven, None) if constants.equal >= CONSTANTS_MIN => found(),
        (words, None) => words,
    }
}

/// What is at the symbol `version` in the dump's memory.
enum AtSymbol {
    /// It cannot be read.
    Nothing,
    /// A version string.
    Version(String),
    /// Something else, in a sentence.
    Other(String),
}

/// The verdict of version strings alone: the kernel file's, memory's, and those around the dump.
fn by_words(session: &Session, at_symbol: &AtSymbol, file: Option<String>) -> KernelMatch {
    let mut known = around::versions(session.dump());
    let Some(file) = file else {
        // Debug files have no data. That the dump's version is at the file's symbol is as good.
        let is_there = matches!(at_symbol, AtSymbol::Version(version)
            if known.iter().any(|(known, _)| same_version(known, version)));
        return match is_there {
            true => KernelMatch::Version,
            false => KernelMatch::Unproven,
        };
    };
    if let AtSymbol::Version(version) = at_symbol {
        known.push((version.clone(), "kernel memory".to_owned()));
    }
    if known.is_empty() {
        return KernelMatch::Unproven;
    }
    let mut known = known.into_iter();
    match known.find(|(version, _)| !same_version(version, &file)) {
        Some((dump, source)) => KernelMatch::OtherVersion { dump, file, source },
        None => KernelMatch::Version,
    }
}

/// Whether the first lines are equal; a dump header's may be cut.
fn same_version(known: &str, version: &str) -> bool {
    let line = |version: &'_ str| {
        version
            .lines()
            .next()
            .unwrap_or_default()
            .trim_end()
            .to_owned()
    };
    let (known, version) = (line(known), line(version));
    known == version || known.len() >= HEADER_VERSION_LEN && version.starts_with(&known)
}

/// A version string: text that starts with the name of a system and a digit.
fn version_text(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes.split(|byte| *byte == 0).next()?).ok()?;
    let is_text = !text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\t'));
    let (name, release) = text.split_once(' ')?;
    let is_release = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && release
            .lines()
            .next()?
            .contains(|c: char| c.is_ascii_digit());
    (is_text && is_release).then_some(text)
}

/// The string at `version` in the file itself.
fn version_in_file(kernel: &KernelFile) -> Option<String> {
    let symbol = kernel.symbols().find("version")?;
    let len = symbol.size.clamp(1, VERSION_MAX as u64);
    let bytes = kernel.contents(symbol.address, len)?;
    version_text(bytes).map(str::to_owned)
}

/// How many of some values are as they must be.
#[derive(Default)]
struct Tally {
    /// Equal to the file's.
    equal: usize,
    /// Compared with the file's.
    compared: usize,
    /// Possible.
    right: usize,
    /// Impossible, or not the file's.
    wrong: usize,
    /// The first that is wrong, in a sentence.
    fact: Option<String>,
    /// This one decides alone.
    is_decided: bool,
}

impl Tally {
    fn add(&mut self, is_right: bool, fact: impl FnOnce() -> String) {
        if is_right {
            self.right += 1;
        } else {
            self.wrong += 1;
            self.fact.get_or_insert_with(fact);
        }
    }

    /// As [`Self::add`], for a value that the file has too.
    fn compare(&mut self, is_equal: bool, fact: impl FnOnce() -> String) {
        self.compared += 1;
        self.equal += usize::from(is_equal);
        self.add(is_equal, fact);
    }

    /// Why the kernel is another one, if most of the values say so, and at least so many.
    fn verdict(&self, least: usize) -> Option<String> {
        let is_other = self.is_decided || self.wrong >= least && self.wrong > self.right;
        self.fact.clone().filter(|_| is_other)
    }
}

/// The dump's memory at the kernel file's symbols.
struct Memory<'a> {
    kernel: &'a KernelFile,
    space: AddressSpace<'a>,
}

impl Memory<'_> {
    /// Whether there are only zeros around an address.
    fn is_cut_out(&self, at: VirtAddr) -> bool {
        let mut around = [0; 2 * NEIGHBOURS];
        let start = VirtAddr(at.0.saturating_sub(NEIGHBOURS as u64));
        self.space.read_with_holes(start, &mut around, |_| {});
        around.iter().all(|byte| *byte == 0)
    }

    fn version(&self, file: Option<&str>) -> AtSymbol {
        let Some(symbol) = self.kernel.symbols().find("version") else {
            return AtSymbol::Nothing;
        };
        let Ok(bytes) = self.space.read_string(symbol.address, VERSION_MAX) else {
            return AtSymbol::Nothing;
        };
        if bytes.is_empty() && self.is_cut_out(symbol.address) {
            return AtSymbol::Nothing;
        }
        let name = |version: &str| version.split(' ').next().map(str::to_owned);
        match version_text(&bytes) {
            Some(version) if file.is_none_or(|file| name(file) == name(version)) => {
                AtSymbol::Version(version.to_owned())
            }
            _ => AtSymbol::Other(format!(
                "its symbol version is {}, where the dump has no version string",
                symbol.address
            )),
        }
    }

    /// An integer in memory, and what the file has there.
    fn integer(&self, name: &str) -> Option<(i32, Option<i32>)> {
        let symbol = self.kernel.symbols().find(name)?;
        let value = self.space.read_i32(symbol.address).ok()?;
        if value == 0 && self.is_cut_out(symbol.address) {
            return None;
        }
        let raw = self.kernel.contents(symbol.address, 4);
        let raw = raw.and_then(|raw| raw.first_chunk().copied());
        let in_file = raw.map(|raw| self.space.endian().u32(raw).cast_signed());
        Some((value, in_file))
    }

    fn constants(&self) -> Tally {
        let mut tally = Tally::default();
        let differs = |name: &str, value: i32, file: i32| {
            format!("{name}: {value} in the dump's memory, {file} in the file")
        };
        if let Some((value, Some(file))) = self.integer("osreldate") {
            tally.compare(value == file, || differs("osreldate", value, file));
            tally.is_decided = value != file && OSRELDATES.contains(&value);
        }
        for name in CONSTANTS {
            match self.integer(name) {
                Some((value, Some(file))) => {
                    tally.compare(value == file, || differs(name, value, file));
                }
                Some((value, None)) => tally.add((0..MAX_CONSTANT).contains(&value), || {
                    format!("{name} is {value} in the dump's memory, which it cannot be")
                }),
                None => {}
            }
        }
        tally
    }

    fn code(&self) -> Tally {
        let mut tally = Tally::default();
        let functions = self
            .kernel
            .symbols()
            .functions(FUNCTIONS, 2 * CODE_LEN as u64);
        for function in functions {
            let at = VirtAddr(function.address.0.wrapping_add(function.size / 2));
            let mut code = [0; CODE_LEN];
            let Some(stored) = self.kernel.contents(at, CODE_LEN as u64) else {
                continue;
            };
            let is_filling = stored.windows(2).all(|pair| pair.first() == pair.last());
            if is_filling || self.space.read_exact(at, &mut code).is_err() || code == [0; CODE_LEN]
            {
                continue;
            }
            tally.compare(stored == code, String::new);
        }
        tally.fact = Some(format!(
            "of {} functions of the file, {} have their instructions in the dump's memory",
            tally.compared, tally.equal
        ));
        tally
    }

    fn pointers(&self) -> Tally {
        let mut tally = Tally::default();
        for name in POINTERS {
            let Some(symbol) = self.kernel.symbols().find(name) else {
                continue;
            };
            let Ok(pointer) = self.space.read_pointer(symbol.address) else {
                continue;
            };
            if pointer.0 != 0 {
                let is_right = match self.space.locate(pointer) {
                    Ok(_) => true,
                    Err(error) => {
                        matches!(
                            error,
                            TranslationError::PageAbsent { .. }
                                | TranslationError::TableAbsent { .. }
                        )
                    }
                };
                tally.add(is_right, || {
                    format!(
                        "{name} is {pointer} in the dump's memory, which is not a kernel address"
                    )
                });
            }
        }
        tally
    }
}
