//! The kernel's ELF file: symbols, contents of its data, build id.
//!
//! Symbols are read from `.symtab`, local ones included: `dumppcb` and many others are static in
//! some kernels. The table is indexed when first asked.
//!
//! ```
//! use vmcore::kernel::KernelFile;
//! let (_, kernel) = vmcore_synth::machines::small(vmcore_synth::Arch::Amd64, 3);
//! let dir = tempfile::tempdir()?;
//! let path = dir.path().join("kernel");
//! std::fs::write(&path, kernel.build())?;
//! let kernel = KernelFile::open(&path)?;
//! assert!(kernel.symbols().find("hz").is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod build_id;
mod cache;
mod find;
mod packed;
mod symbols;

pub use build_id::{BuildId, DumpBuildIds, Evidence};
pub use cache::keep_expanded_in;
pub use find::{KernelSearch, Tried, search};
pub use symbols::{Nearest, Symbol, SymbolTable, is_marker};

use crate::container::is_compressed;
use crate::image;
use crate::source::{Access, OpenFile, Source};
use object::{
    FileFlags, Object as _, ObjectKind, ObjectSection as _, ObjectSegment as _, SectionKind,
};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use thiserror::Error;
use vmcore_format::addr::VirtAddr;
use vmcore_format::arch::Arch;
use vmcore_format::elf::{ELF_MAGIC, ET_CORE, FileHeader};
use vmcore_format::endian::Endian;

/// What kernels name as the interpreter that they do not have.
const INTERPRETER: &[u8] = b"/red/herring";

/// Why a file cannot serve as a kernel.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The operating system could not open or read it.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Not an ELF file.
    #[error("{path} is not an ELF file, so not a kernel")]
    NotElf {
        /// The file.
        path: PathBuf,
    },
    /// A core, not a kernel.
    #[error("{path} is an ELF core, not a kernel")]
    Core {
        /// The file.
        path: PathBuf,
    },
    /// An ELF file of another kind: a program, or a part of one.
    #[error("{path} is not a kernel, but {what}")]
    NotKernel {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Another architecture than any that is read here.
    #[error("{path} is for machine {machine}, which is not supported")]
    Machine {
        /// The file.
        path: PathBuf,
        /// Its `e_machine`.
        machine: u16,
    },
    /// A damaged ELF file.
    #[error("{path} is a damaged ELF file: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// An open kernel file.
#[derive(Debug)]
pub struct KernelFile {
    path: PathBuf,
    source: Arc<Source>,
    /// The contents, where the file cannot be mapped or is compressed.
    copy: Option<Arc<Vec<u8>>>,
    is_packed: bool,
    /// Bytes of the contents, where the file is mapped.
    len: u64,
    arch: Arch,
    endian: Endian,
    /// How far the kernel ran from the addresses in the file.
    displacement: u64,
    symbols: OnceLock<SymbolTable>,
}

/// The section of this name. The names of many sections may be the end of one long string: no more
/// of them is read than the file has.
fn section_named<'data, 'file>(
    file: &'file object::File<'data>,
    len: usize,
    name: &[u8],
) -> Option<object::Section<'data, 'file>> {
    let mut bytes_left = len;
    file.sections()
        .map_while(|section| {
            let known = section.name_bytes().unwrap_or_default();
            bytes_left = bytes_left.checked_sub(known.len())?;
            Some((known, section))
        })
        .find_map(|(known, section)| (known == name).then_some(section))
}

impl KernelFile {
    /// Opens a kernel or its separate debug file, which may be compressed (zstd, gzip): then what it
    /// expands to is kept in memory.
    ///
    /// # Errors
    /// Returns an error if it cannot be read, or is not an ELF file of a known architecture.
    pub fn open(path: &Path) -> Result<Self, KernelError> {
        let file = OpenFile::open(path).map_err(|source| KernelError::Io {
            path: path.to_owned(),
            source,
        })?;
        Self::of(&file)
    }

    /// As [`KernelFile::open`], but of a file that is open.
    ///
    /// # Errors
    /// As [`KernelFile::open`].
    pub fn of(file: &OpenFile) -> Result<Self, KernelError> {
        let path = file.path();
        let io_error = |source| KernelError::Io {
            path: path.to_owned(),
            source,
        };
        let mut source = Source::of_file(file, Access::Mapped);
        let mut len = source.len();
        let mut first = [0; FileHeader::MAX_LEN];
        let mut count = source.read_positional(0, &mut first).map_err(io_error)?;
        let is_packed = is_compressed(first.get(..count).unwrap_or_default());
        let mut expanded = None;
        if is_packed {
            let place = cache::CachedImage::of(file);
            let kept = place.as_ref().and_then(cache::CachedImage::find);
            match kept.filter(|(kept, len)| kept.mapped(0..*len).is_some()) {
                Some(kept) => {
                    (source, len) = kept;
                    count = source.read_positional(0, &mut first).map_err(io_error)?;
                }
                None => {
                    let bytes = packed::expand(file, packed::MAX_LEN).map_err(io_error)?;
                    if let Some(place) = place
                        && bytes.starts_with(ELF_MAGIC)
                    {
                        place.keep(&bytes);
                    }
                    expanded = Some(bytes);
                }
            }
        }
        let first = expanded
            .as_deref()
            .or(first.get(..count))
            .unwrap_or_default();
        let first = first.get(..FileHeader::MAX_LEN).unwrap_or(first);
        if !first.starts_with(ELF_MAGIC) {
            return Err(KernelError::NotElf {
                path: path.to_owned(),
            });
        }
        let damaged = |reason: String| KernelError::Damaged {
            path: path.to_owned(),
            reason,
        };
        let header = FileHeader::parse(first).map_err(|error| damaged(error.to_string()))?;
        if header.e_type == ET_CORE {
            return Err(KernelError::Core {
                path: path.to_owned(),
            });
        }
        let arch =
            Arch::from_elf(header.e_machine, header.class).ok_or_else(|| KernelError::Machine {
                path: path.to_owned(),
                machine: header.e_machine,
            })?;
        let copy = match (expanded, source.mapped(0..len)) {
            (Some(expanded), _) => Some(expanded),
            (None, Some(_)) => None,
            (None, None) => {
                let len = usize::try_from(len).map_err(|_| damaged("too large".into()))?;
                let mut copy = vec![0; len];
                source.read_positional(0, &mut copy).map_err(io_error)?;
                Some(copy)
            }
        };
        let kernel = Self {
            path: path.to_owned(),
            source: Arc::new(source),
            copy: copy.map(Arc::new),
            is_packed,
            len,
            arch,
            endian: header.endian,
            displacement: 0,
            symbols: OnceLock::new(),
        };
        object::File::parse(kernel.data()).map_err(|error| damaged(error.to_string()))?;
        Ok(kernel)
    }

    /// Checks that the file is not another program: the debug files of kernels pass too.
    ///
    /// # Errors
    /// Returns an error if it is certainly not a kernel.
    pub fn require_kernel(&self) -> Result<(), KernelError> {
        let what = object::File::parse(self.data()).ok().and_then(|file| {
            let interpreter = section_named(&file, self.data().len(), b".interp");
            let interpreter = interpreter.and_then(|section| section.data().ok());
            let mut addresses = file.segments().map(|segment| segment.address()).peekable();
            if file.kind() == ObjectKind::Relocatable {
                Some("an object file or a module")
            } else if interpreter
                .is_some_and(|path| !path.is_empty() && !path.starts_with(INTERPRETER))
            {
                Some("a program")
            } else if image::kernels_are_high(self.arch)
                && addresses.peek().is_some()
                && addresses.all(|address| address >> 63 == 0)
            {
                Some("a program, library or module: it has no kernel addresses")
            } else {
                None
            }
        });
        match what {
            Some(what) => Err(KernelError::NotKernel {
                path: self.path.clone(),
                what,
            }),
            None => Ok(()),
        }
    }

    /// The same file as it was linked, wherever the kernel ran.
    #[must_use]
    pub fn as_linked(&self) -> Self {
        Self {
            path: self.path.clone(),
            source: self.source.clone(),
            copy: self.copy.clone(),
            displacement: 0,
            symbols: OnceLock::new(),
            ..*self
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its architecture.
    #[must_use]
    pub const fn arch(&self) -> Arch {
        self.arch
    }

    /// Whether the file is compressed: other programs want it expanded.
    #[must_use]
    pub const fn is_packed(&self) -> bool {
        self.is_packed
    }

    /// Byte order of its integers.
    #[must_use]
    pub const fn endian(&self) -> Endian {
        self.endian
    }

    /// Says how far the kernel ran from the addresses in its file: symbols are where it ran.
    #[must_use]
    pub(crate) const fn moved_by(mut self, bytes: u64) -> Self {
        self.displacement = bytes;
        self
    }

    /// How far the kernel ran from the addresses in its file.
    #[must_use]
    pub const fn displacement(&self) -> u64 {
        self.displacement
    }

    /// Whether it is a 32-bit kernel with 64-bit page-table entries, as its flags say.
    pub(crate) fn has_wide_entries(&self) -> bool {
        let wide = image::wide_entries(self.arch);
        if wide == 0 {
            return false;
        }
        let flags = object::File::parse(self.data()).map(|file| file.flags());
        matches!(flags, Ok(FileFlags::Elf { e_flags, .. }) if e_flags.0 & wide != 0)
    }

    /// The whole file: for those who read more of it than symbols and constants, such as its debug
    /// sections.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        match &self.copy {
            Some(copy) => copy,
            None => self.source.mapped(0..self.len).unwrap_or_default(),
        }
    }

    /// The symbols.
    pub fn symbols(&self) -> SymbolsOf<'_> {
        let table = self.symbols.get_or_init(|| SymbolTable::new(self.data()));
        SymbolsOf {
            table,
            data: self.data(),
            displacement: self.displacement,
        }
    }

    /// The GNU build id in the file.
    #[must_use]
    pub fn build_id(&self) -> Option<BuildId> {
        let file = object::File::parse(self.data()).ok()?;
        // Sections may lie over each other: no more is searched than the file has.
        let mut bytes_left = self.data().len();
        file.sections()
            .filter(|section| section.kind() == SectionKind::Note)
            .find_map(|section| {
                let notes = section.data().ok()?;
                bytes_left = bytes_left.checked_sub(notes.len())?;
                build_id::in_notes(notes, self.endian)
            })
    }

    /// What the file itself holds at `va`, such as constants in `.rodata`; `None` if no section
    /// with contents covers all of `len` bytes.
    #[must_use]
    pub fn contents(&self, va: VirtAddr, len: u64) -> Option<&[u8]> {
        let file = object::File::parse(self.data()).ok()?;
        let va = VirtAddr(va.0.wrapping_sub(self.displacement));
        file.sections()
            .find_map(|section| section.data_range(va.0, len).ok().flatten())
            .filter(|bytes| !bytes.is_empty())
    }
}

/// A kernel's symbols, with the file that holds their names.
#[derive(Clone, Copy, Debug)]
pub struct SymbolsOf<'a> {
    table: &'a SymbolTable,
    data: &'a [u8],
    displacement: u64,
}

impl<'a> SymbolsOf<'a> {
    /// The symbol of this name; a global one before local ones.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Symbol<'a>> {
        let found = self.table.find(self.data, name);
        found.map(|symbol| symbol.moved_by(self.displacement))
    }

    /// The symbol that holds `va`, or the nearest one before it.
    #[must_use]
    pub fn nearest(&self, va: VirtAddr) -> Option<Nearest<'a>> {
        let va = VirtAddr(va.0.wrapping_sub(self.displacement));
        let found = self.table.nearest(self.data, va)?;
        Some(Nearest {
            symbol: found.symbol.moved_by(self.displacement),
            ..found
        })
    }

    /// Up to `count` functions of at least `size` bytes, evenly spread over the kernel.
    pub(crate) fn functions(&self, count: usize, size: u64) -> Vec<Symbol<'a>> {
        let found = self.table.functions(self.data, count, size);
        let moved = found.into_iter();
        moved
            .map(|symbol| symbol.moved_by(self.displacement))
            .collect()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every symbol, by ascending address.
    pub fn iter(&self) -> impl Iterator<Item = Symbol<'a>> + use<'a> {
        let displacement = self.displacement;
        let all = self.table.iter(self.data);
        all.map(move |symbol| symbol.moved_by(displacement))
    }
}
