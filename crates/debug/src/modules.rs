//! Kernel modules: which were loaded, where, and the files they came from.
//!
//! The list is the kernel's own, by `linker_files`. A path in a dump is not trusted: files are
//! looked for only below the directories that a person names, and nothing outside of them is
//! opened. A module carries no build id into memory, so that a file is the right one is shown by
//! its layout, which must end exactly where the kernel says, and by its instructions.
//!
//! ```no_run
//! use vmcore_debug::modules::{self, Search};
//! # fn show(session: &vmcore::Session) -> Result<(), vmcore::SessionError> {
//! let search = Search { sysroot: Some("/srv/roots/web1".into()), directories: Vec::new() };
//! for module in modules::list(session)?.modules {
//!     let file = modules::find(session, &module, &search)?;
//!     println!("{} at {}: {:?}", module.name, module.address, file.status);
//! }
//! # Ok(())
//! # }
//! ```

mod layout;

use crate::debug_link;
use crate::object_file::ObjectFile;
use crate::unwind::NearSymbol;
use layout::Layout;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use vmcore::Session;
use vmcore::kernel::is_marker;
use vmcore::session::SessionError;
use vmcore_format::addr::VirtAddr;
use vmcore_format::endian::Width;

/// The most modules of a list.
const MAX_MODULES: usize = 4096;
/// Longest file name of a module.
const NAME_MAX: usize = 255;
/// How a file is named that holds a compressed module.
const PACKED: [&str; 2] = [".gz", ".zst"];
/// How many symbols before an address are looked at.
const MAX_BACK: usize = 256;
/// Bytes of a symbol in memory, without its name.
const SYMBOL_BYTES: u64 = 96;
/// The most bytes of instructions that are compared.
const MAX_TEXT: usize = 16 << 20;

/// A module that was loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Module {
    /// Its file name.
    pub name: String,
    /// Its path on the machine that crashed.
    pub path: String,
    /// Where it was loaded.
    pub address: VirtAddr,
    /// Its size in memory, in bytes.
    pub len_bytes: u64,
}

/// The modules of a dump.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ModuleList {
    /// In the order they were loaded, without the kernel itself.
    pub modules: Vec<Module>,
    /// What could not be read; it costs the rest of the list.
    pub problems: Vec<String>,
}

/// Where files of modules are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// A copy of the crashed machine's file system: paths of the dump are taken below it.
    pub sysroot: Option<PathBuf>,
    /// Directories that hold modules by their file name.
    pub directories: Vec<PathBuf>,
}

/// What became of the search for a module's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum Status {
    /// A file that fits.
    Found {
        /// Whether it has types and lines.
        debug: bool,
        /// Whether its instructions are those in memory.
        identity: Identity,
    },
    /// A file that does not fit.
    Mismatched {
        /// Why.
        reason: String,
    },
    /// No file.
    Missing,
}

/// Whether a file is the one that was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// Its instructions stand in memory, but for what a loader fills in.
    TextEqual,
    /// Its instructions are not in the dump, or not in the file: only its layout fits.
    Unproven,
}

/// A module and its file.
#[derive(Debug, Serialize)]
pub struct ModuleFile {
    /// The module.
    #[serde(flatten)]
    pub module: Module,
    /// What was found.
    #[serde(flatten)]
    pub status: Status,
    /// The file.
    pub file: Option<PathBuf>,
    /// Every path that was tried.
    pub tried: Vec<PathBuf>,
    /// Debug files that are not used, and why.
    #[serde(skip)]
    pub refused: Vec<String>,
    #[serde(skip)]
    object: Option<ObjectFile>,
    #[serde(skip)]
    symbols: Vec<ModuleSymbol>,
}

/// A symbol of a module, at its address in memory.
#[derive(Clone, Debug)]
struct ModuleSymbol {
    address: u64,
    size: u64,
    /// Where its section ends: it names nothing past that.
    reach: u64,
    name: String,
}

/// Offsets in `struct linker_file`.
struct Offsets {
    address: u64,
    filename: u64,
    pathname: u64,
    next: u64,
}

/// Lists the modules.
///
/// # Errors
/// Returns an error without a matching kernel file, or if it has no list of modules.
pub fn list(session: &Session) -> Result<ModuleList, SessionError> {
    let space = session.space()?;
    let word = space.word().bytes();
    let symbols = session.matching_kernel()?.symbols();
    let constant = |name: &str, otherwise: u64| {
        let symbol = symbols.find(name);
        let value = symbol.and_then(|symbol| space.read_u32(symbol.address).ok());
        value
            .map(u64::from)
            .filter(|value| *value < 4096)
            .unwrap_or(otherwise)
    };
    // Kernels without the constants have had these offsets since FreeBSD 9.
    let wide = space.word() == Width::W64;
    let offsets = Offsets {
        address: constant("kld_off_address", if wide { 64 } else { 36 }),
        filename: constant("kld_off_filename", if wide { 40 } else { 24 }),
        pathname: constant("kld_off_pathname", if wide { 48 } else { 28 }),
        next: constant("kld_off_next", if wide { 24 } else { 16 }),
    };
    let mut list = ModuleList::default();
    let kernel_file = symbols
        .find("linker_kernel_file")
        .and_then(|symbol| space.read_pointer(symbol.address).ok());
    let head = session.symbol("linker_files")?.address;
    let mut seen = HashSet::new();
    let mut next = space.read_pointer(head);
    loop {
        let at = match next {
            Ok(VirtAddr(0)) => break,
            Ok(at) => at,
            Err(fault) => {
                list.problems.push(format!("list of modules: {fault}"));
                break;
            }
        };
        if !seen.insert(at) || seen.len() > MAX_MODULES {
            list.problems
                .push(format!("list of modules: a loop at {at}"));
            break;
        }
        let member = |offset: u64| VirtAddr(at.0.wrapping_add(offset));
        let string = |offset: u64| {
            let text = space.read_pointer(member(offset)).ok()?;
            let text = space.read_string(text, NAME_MAX).ok()?;
            Some(String::from_utf8_lossy(&text).into_owned())
        };
        let name = string(offsets.filename).unwrap_or_default();
        if Some(at) != kernel_file && name != "kernel" {
            let address = space.read_pointer(member(offsets.address));
            let len = space.read_word(member(offsets.address.wrapping_add(word)));
            match (address, len) {
                (Ok(address), Ok(len_bytes)) => list.modules.push(Module {
                    path: string(offsets.pathname).unwrap_or_default(),
                    name,
                    address,
                    len_bytes,
                }),
                (Err(fault), _) | (_, Err(fault)) => {
                    list.problems.push(format!("module {name}: {fault}"));
                }
            }
        }
        next = space.read_pointer(member(offsets.next));
    }
    Ok(list)
}

/// Looks for the file of a module.
///
/// # Errors
/// Returns an error if the dump's memory cannot be read at all.
pub fn find(
    session: &Session,
    module: &Module,
    search: &Search,
) -> Result<ModuleFile, SessionError> {
    let mut found = ModuleFile {
        module: module.clone(),
        status: Status::Missing,
        file: None,
        tried: Vec::new(),
        refused: Vec::new(),
        object: None,
        symbols: Vec::new(),
    };
    for (root, place) in places(session, module, search) {
        // The file itself says where sections are; its debug file says what is in them.
        let file = stored(place.clone());
        let loaded = open_below(&root, &file, &mut found.tried);
        let layout = loaded
            .as_ref()
            .map(|file| Layout::of(file, module, true))
            .transpose();
        let mut paths = debug_link::candidates(loaded.as_ref(), &place, Some(&root));
        paths.extend(loaded.is_some().then(|| file.clone()));
        for path in paths.into_iter().map(stored) {
            let is_own = path == file;
            let opened = match is_own {
                true => open_below(&root, &path, &mut Vec::new()),
                false => open_below(&root, &path, &mut found.tried),
            };
            let Some(opened) = opened else { continue };
            if opened.arch() != session.dump().arch() {
                let reason = format!("it is for {}", opened.arch());
                found.status = Status::Mismatched { reason };
                continue;
            }
            if let (Some(own), false) = (&loaded, is_own)
                && let Err(reason) = debug_link::belongs(&opened, &path, own)
            {
                found
                    .refused
                    .push(format!("{} is not used: {reason}", path.display()));
                continue;
            }
            let own = match &layout {
                Ok(Some(layout)) => Ok(layout.clone()),
                Ok(None) => Layout::of(&opened, module, false),
                Err(reason) => Err(reason.clone()),
            };
            match own {
                Ok(layout) => {
                    let mut object = layout.apply(opened);
                    let text = loaded.as_ref().unwrap_or(&object);
                    let identity = match layout.compare(session, text)? {
                        Ok(identity) => identity,
                        Err(reason) => {
                            found.status = Status::Mismatched { reason };
                            continue;
                        }
                    };
                    if !is_own
                        && loaded.is_some()
                        && let Some(own) = open_below(&root, &file, &mut Vec::new())
                    {
                        object = object.with_loaded(layout.apply(own));
                    }
                    found.status = Status::Found {
                        debug: !object.section(".debug_info").is_empty(),
                        identity,
                    };
                    found.symbols = symbols_of(&object);
                    found.object = Some(object);
                    found.file = Some(path);
                    return Ok(found);
                }
                Err(reason) => found.status = Status::Mismatched { reason },
            }
        }
    }
    Ok(found)
}

/// Where the file may be: the directory that it must lie in, and its path without an ending.
fn places(session: &Session, module: &Module, search: &Search) -> Vec<(PathBuf, PathBuf)> {
    let Some(name) = safe(&module.name).filter(|name| name.components().count() == 1) else {
        return Vec::new();
    };
    let mut places = Vec::new();
    for directory in &search.directories {
        places.push((directory.clone(), directory.join(&name)));
        places.push((directory.clone(), directory.join("modules").join(&name)));
    }
    let Some(root) = &search.sysroot else {
        return places;
    };
    let mut below = Vec::new();
    below.extend(safe(&module.path));
    for directory in module_path(session).split(';') {
        below.extend(safe(directory).map(|directory| directory.join(&name)));
    }
    for path in below {
        places.push((root.clone(), root.join(&path)));
        places.push((root.clone(), root.join("usr/lib/debug").join(&path)));
    }
    places
}

/// `kern.module_path`.
fn module_path(session: &Session) -> String {
    let text = session.symbol("linker_path").ok().and_then(|symbol| {
        let space = session.space().ok()?;
        space.read_string(symbol.address, 1024).ok()
    });
    match text {
        Some(text) if !text.is_empty() => String::from_utf8_lossy(&text).into_owned(),
        _ => "/boot/kernel;/boot/modules".to_owned(),
    }
}

/// A path of the dump as a relative one; `None` if it tries to leave where it is put.
fn safe(path: &str) -> Option<PathBuf> {
    let mut relative = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => relative.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    (!relative.as_os_str().is_empty() && !path.contains('\0')).then_some(relative)
}

/// The file of this name, or the compressed one in its place.
pub(crate) fn stored(path: PathBuf) -> PathBuf {
    if path.exists() {
        return path;
    }
    let packed = PACKED.iter().map(|ending| {
        let mut name = path.clone().into_os_string();
        name.push(ending);
        PathBuf::from(name)
    });
    packed
        .into_iter()
        .find(|path| path.is_file())
        .unwrap_or(path)
}

/// Opens a regular file if it really lies below `root`: links may lead elsewhere.
fn open_below(root: &Path, path: &Path, tried: &mut Vec<PathBuf>) -> Option<ObjectFile> {
    if !tried.iter().any(|known| known == path) {
        tried.push(path.to_owned());
    }
    let (root, real) = (root.canonicalize().ok()?, path.canonicalize().ok()?);
    if !real.starts_with(&root) || !real.is_file() {
        return None;
    }
    ObjectFile::open(&real).ok()
}

/// The symbols of code and data, at their addresses in memory.
fn symbols_of(file: &ObjectFile) -> Vec<ModuleSymbol> {
    let Some(elf) = file.elf() else {
        return Vec::new();
    };
    let places: HashMap<usize, (u64, u64)> = elf
        .sections()
        .map(|section| {
            let start = file.loaded_at(&section);
            let shift = start.wrapping_sub(section.address());
            (
                section.index().0,
                (shift, start.saturating_add(section.size())),
            )
        })
        .collect();
    let mut symbols: Vec<_> = elf
        .symbols()
        .filter(|symbol| symbol.is_definition() || symbol.kind() == object::SymbolKind::Label)
        .filter_map(|symbol| {
            let (shift, reach) = places.get(&symbol.section_index()?.0)?;
            let name = symbol.name().ok()?;
            file.budget()
                .memory(SYMBOL_BYTES + name.len() as u64)
                .ok()?;
            if name.is_empty() || is_marker(name.as_bytes()) {
                return None;
            }
            let address = symbol.address().wrapping_add(*shift);
            let rank = (address, symbol.size() > 0, symbol.is_global());
            let found = ModuleSymbol {
                address,
                size: symbol.size(),
                reach: *reach,
                name: name.to_owned(),
            };
            Some((rank, found))
        })
        .collect();
    // The preferred one last, as among the kernel's symbols.
    symbols.reverse();
    symbols.sort_by_key(|(rank, _)| *rank);
    symbols.into_iter().map(|(_, symbol)| symbol).collect()
}

impl ModuleFile {
    /// The file with its sections where they were loaded.
    #[must_use]
    pub const fn object(&self) -> Option<&ObjectFile> {
        self.object.as_ref()
    }

    /// The file as other programs read it: none if it is compressed.
    #[must_use]
    pub fn plain_file(&self) -> Option<&Path> {
        let object = self.object.as_ref()?;
        self.file.as_deref().filter(|_| !object.is_packed())
    }

    /// Its memory.
    #[must_use]
    pub const fn range(&self) -> Range<u64> {
        let start = self.module.address.0;
        start..start.saturating_add(self.module.len_bytes)
    }

    /// The nearest symbol at or before an address inside, in the same section.
    #[must_use]
    pub fn symbol(&self, address: VirtAddr) -> Option<NearSymbol> {
        let symbol = self.nearest(address)?;
        Some(NearSymbol {
            name: crate::lines::demangled(&symbol.name),
            start: VirtAddr(symbol.address),
        })
    }

    /// That symbol's address, name and size in bytes, which is 0 if it is not known.
    #[must_use]
    pub fn symbol_at(&self, address: VirtAddr) -> Option<(VirtAddr, &str, u64)> {
        let symbol = self.nearest(address)?;
        Some((VirtAddr(symbol.address), &symbol.name, symbol.size))
    }

    fn nearest(&self, address: VirtAddr) -> Option<&ModuleSymbol> {
        let after = self
            .symbols
            .partition_point(|symbol| symbol.address <= address.0);
        let before = self.symbols.get(..after)?.iter().rev();
        before
            .take(MAX_BACK)
            .find(|symbol| address.0 < symbol.reach || address.0 == symbol.address)
    }

    /// The address and size of a symbol by its name.
    #[must_use]
    pub fn symbol_named(&self, name: &str) -> Option<(VirtAddr, u64)> {
        let symbol = self.symbols.iter().find(|symbol| symbol.name == name)?;
        Some((VirtAddr(symbol.address), symbol.size))
    }

    /// Names and addresses of the sections that take memory, in the order of the file, and true; one
    /// without a name, the start of the file, and false for a file that was loaded as a whole.
    #[must_use]
    pub fn section_addresses(&self) -> (bool, Vec<(String, u64)>) {
        let Some(object) = &self.object else {
            return (false, Vec::new());
        };
        let relocatable = object
            .elf()
            .is_some_and(|elf| elf.kind() == object::ObjectKind::Relocatable);
        if !relocatable {
            return (false, vec![(String::new(), self.module.address.0)]);
        }
        let addresses = object.elf().map(|elf| {
            elf.sections()
                .filter(|section| layout::takes_memory(section))
                .map(|section| {
                    (
                        object.name_of(&section).to_owned(),
                        object.loaded_at(&section),
                    )
                })
                .collect()
        });
        (true, addresses.unwrap_or_default())
    }
}
