//! A dump with its debug information: where questions about the kernel are asked.
//!
//! [`DebugFiles`] owns the files, [`Target`] looks into them; both borrow from nothing else than
//! the session. A target without debug information still names symbols and walks stacks.
//!
//! ```no_run
//! use vmcore::session::KernelChoice;
//! use vmcore::{OpenOptions, Session};
//! use vmcore_debug::{DebugFiles, Target};
//! let kernel = KernelChoice::Given("kernel".as_ref());
//! let session = Session::open("vmcore.0".as_ref(), kernel, &OpenOptions::default())?;
//! let files = DebugFiles::of(&session)?;
//! let target = Target::new(&session, &files)?;
//! println!("{}", target.print(&target.evaluate("hz")?, &Default::default()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::expr::{EvalError, Evaluator, SymbolSource, Value};
use crate::lines::Lines;
use crate::object_file::ObjectFile;
use crate::show::{self, Options, Shown, Walked};
use crate::types::Types;
use crate::unwind::CallFrames;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use vmcore::Session;
use vmcore::kernel::SymbolsOf;
use vmcore::session::SessionError;
use vmcore::space::AddressSpace;
use vmcore_format::addr::VirtAddr;
use vmcore_format::arch::Arch;

/// The files with debug information that belong to a dump.
#[derive(Debug)]
pub struct DebugFiles {
    kernel: ObjectFile,
    kernel_path: PathBuf,
}

impl DebugFiles {
    /// Opens the debug information of a session's kernel: in the kernel file itself, or in the
    /// `.debug` file beside it or below `/usr/lib/debug`.
    ///
    /// # Errors
    /// Returns an error without a matching kernel file.
    pub fn of(session: &Session) -> Result<Self, SessionError> {
        let kernel = session.matching_kernel()?;
        let opened = ObjectFile::open(kernel.path())?;
        let has_types = |file: &ObjectFile| !file.section(".debug_info").is_empty();
        if !has_types(&opened) {
            for path in beside(kernel.path()) {
                if let Ok(file) = ObjectFile::open(&path)
                    && file.arch() == opened.arch()
                    && has_types(&file)
                    && build_id(&file) == build_id(&opened)
                {
                    return Ok(Self {
                        kernel: file,
                        kernel_path: path,
                    });
                }
            }
        }
        Ok(Self {
            kernel: opened,
            kernel_path: kernel.path().to_owned(),
        })
    }

    /// The file with the kernel's debug information.
    #[must_use]
    pub const fn kernel(&self) -> &ObjectFile {
        &self.kernel
    }

    /// Its path.
    #[must_use]
    pub fn kernel_path(&self) -> &Path {
        &self.kernel_path
    }
}

fn build_id(file: &ObjectFile) -> Option<Vec<u8>> {
    use object::Object as _;
    let elf = file.elf()?;
    elf.build_id().ok().flatten().map(<[u8]>::to_vec)
}

/// Where the debug file of a kernel may be.
fn beside(kernel: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    if let Some(name) = kernel.file_name() {
        let mut name = name.to_owned();
        name.push(".debug");
        paths.push(kernel.with_file_name(&name));
        let below = Path::new("/usr/lib/debug");
        if let Some(parent) = kernel
            .parent()
            .and_then(|parent| parent.strip_prefix("/").ok())
        {
            paths.push(below.join(parent).join(&name));
        }
        paths.push(below.join("boot/kernel").join(&name));
    }
    paths
}

/// A dump, its memory, its symbols and its types.
#[derive(Debug)]
pub struct Target<'a> {
    pub(crate) session: &'a Session,
    pub(crate) files: &'a DebugFiles,
    pub(crate) space: AddressSpace<'a>,
    pub(crate) symbols: SymbolsOf<'a>,
    pub(crate) types: Types<'a>,
    pub(crate) call_frames: OnceLock<CallFrames<'a>>,
    pub(crate) lines: OnceLock<Lines<'a>>,
    pub(crate) text: Vec<Range<u64>>,
}

impl SymbolSource for SymbolsOf<'_> {
    fn symbol(&self, name: &str) -> Option<VirtAddr> {
        self.find(name).map(|symbol| symbol.address)
    }
}

impl<'a> Target<'a> {
    /// Looks at a session through its debug files.
    ///
    /// # Errors
    /// Returns an error without a matching kernel file, or without its page tables.
    pub fn new(session: &'a Session, files: &'a DebugFiles) -> Result<Self, SessionError> {
        Ok(Self {
            session,
            files,
            space: session.space()?,
            symbols: session.matching_kernel()?.symbols(),
            types: Types::of(&[&files.kernel]),
            call_frames: OnceLock::new(),
            lines: OnceLock::new(),
            text: files.kernel.text(),
        })
    }

    /// The dump and its kernel.
    #[must_use]
    pub const fn session(&self) -> &'a Session {
        self.session
    }

    /// The kernel's memory.
    #[must_use]
    pub const fn space(&self) -> AddressSpace<'a> {
        self.space
    }

    /// The files with debug information.
    #[must_use]
    pub const fn files(&self) -> &'a DebugFiles {
        self.files
    }

    /// The types.
    #[must_use]
    pub const fn types(&self) -> &Types<'a> {
        &self.types
    }

    /// Architecture of the dump.
    #[must_use]
    pub fn arch(&self) -> Arch {
        self.session.dump().arch()
    }

    /// Evaluates expressions.
    #[must_use]
    pub fn evaluator(&self) -> Evaluator<'_, 'a> {
        Evaluator {
            space: self.space,
            types: &self.types,
            symbols: &self.symbols,
        }
    }

    /// The value of an expression.
    ///
    /// # Errors
    /// Returns an error if it is no expression, or a name, a type or memory is missing.
    pub fn evaluate(&self, expression: &str) -> Result<Value, EvalError> {
        self.evaluator().evaluate(expression)
    }

    /// Reads a value, to be printed or serialised.
    #[must_use]
    pub fn print(&self, value: &Value, options: &Options) -> Shown {
        let name_at = |address: VirtAddr| self.name_at(address);
        show::show(&self.evaluator(), value, options, &name_at)
    }

    /// Follows a list; see [`show::walk`].
    ///
    /// # Errors
    /// Returns an error if the value starts no list with such a link.
    pub fn walk(&self, start: &Value, link: &str, limit: usize) -> Result<Walked, EvalError> {
        show::walk(&self.evaluator(), start, link, limit)
    }

    /// The symbol at an address, with the distance from it: `name+0x10`. Nothing for an address
    /// outside of all symbols.
    #[must_use]
    pub fn name_at(&self, address: VirtAddr) -> Option<String> {
        let nearest = self.symbols.nearest(address).filter(|found| found.inside)?;
        let name = String::from_utf8_lossy(nearest.symbol.name);
        Some(match nearest.offset {
            0 => name.into_owned(),
            offset => format!("{name}+{offset:#x}"),
        })
    }
}
