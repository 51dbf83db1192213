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

use crate::arch::machine::Machine;
use crate::debug_link;
use crate::expr::{EvalError, Evaluator, SymbolSource, Value};
use crate::lines::{Lines, demangled};
use crate::modules::{self, ModuleFile, Search};
use crate::object_file::ObjectFile;
use crate::show::{self, Options, Shown, Walked};
use crate::types::{Tag, Types};
use crate::unwind::CallFrames;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use vmcore::Session;
use vmcore::kernel::SymbolsOf;
use vmcore::process::{self, ProcessList};
use vmcore::session::SessionError;
use vmcore::space::AddressSpace;
use vmcore_format::addr::VirtAddr;
use vmcore_format::arch::Arch;

/// Longest panic message.
const PANIC_MAX: usize = 1024;

/// The files with debug information that belong to a dump.
#[derive(Debug)]
pub struct DebugFiles {
    kernel: ObjectFile,
    kernel_path: PathBuf,
    modules: Vec<ModuleFile>,
    /// Debug files that are not used, and why.
    problems: Vec<String>,
}

impl DebugFiles {
    /// Opens the debug information of a session's kernel: in the kernel file itself, or in the
    /// `.debug` file beside it or below `/usr/lib/debug`.
    ///
    /// # Errors
    /// Returns an error without a matching kernel file.
    pub fn of(session: &Session) -> Result<Self, SessionError> {
        let kernel = session.matching_kernel()?;
        let opened = ObjectFile::of(kernel.as_linked()).with_bias(kernel.displacement());
        let has_types = |file: &ObjectFile| !file.section(".debug_info").is_empty();
        let mut problems = Vec::new();
        if !has_types(&opened) {
            let paths = debug_link::candidates(Some(&opened), kernel.path(), None);
            for path in paths.into_iter().map(modules::stored) {
                let Ok(file) = ObjectFile::open(&path) else {
                    continue;
                };
                let file = file.with_bias(kernel.displacement());
                if let Err(reason) = debug_link::belongs(&file, &path, &opened) {
                    problems.push(format!("{} is not used: {reason}", path.display()));
                } else if has_types(&file) {
                    return Ok(Self {
                        kernel: file.with_loaded(opened),
                        kernel_path: path,
                        modules: Vec::new(),
                        problems,
                    });
                }
            }
        }
        Ok(Self {
            kernel: opened,
            kernel_path: kernel.path().to_owned(),
            modules: Vec::new(),
            problems,
        })
    }

    /// What is wrong with the debug information: files that are not used, and what was left out
    /// because it costs too much to read. To be asked after the answer, which finds that out.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.problems.clone();
        let modules = self.modules.iter();
        problems.extend(modules.flat_map(|module| module.refused.iter().cloned()));
        let kernel = [(&self.kernel, self.kernel_path.as_path())].into_iter();
        let modules = self.modules.iter();
        let modules =
            modules.filter_map(|module| Some((module.object()?, module.file.as_deref()?)));
        for (object, path) in kernel.chain(modules) {
            if object.is_too_costly() {
                problems.push(format!(
                    "part of the debug information of {} is left out: it costs too much to read for \
                     the size of the file",
                    path.display()
                ));
            }
            if let Some(dwo) = object.split_types() {
                problems.push(format!(
                    "{} was compiled with -gsplit-dwarf: its types are in .dwo files, such as {dwo}, \
                     which are not read",
                    path.display()
                ));
            }
        }
        problems
    }

    /// Adds the modules, with the files that are found for them.
    ///
    /// # Errors
    /// Returns an error without a matching kernel file, or if it has no list of modules.
    pub fn with_modules(
        mut self,
        session: &Session,
        search: &Search,
    ) -> Result<Self, SessionError> {
        let list = modules::list(session)?;
        for module in &list.modules {
            self.modules.push(modules::find(session, module, search)?);
        }
        Ok(self)
    }

    /// The modules that were added.
    #[must_use]
    pub fn modules(&self) -> &[ModuleFile] {
        &self.modules
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

    /// Whether the kernel's file is compressed, so that other programs cannot read it.
    #[must_use]
    pub const fn kernel_is_packed(&self) -> bool {
        self.kernel.is_packed()
    }

    /// The kernel as other programs read it: its own file, or what a compressed one expands to, put
    /// into `directory`.
    ///
    /// # Errors
    /// Returns an error if it cannot be written there.
    pub fn plain_kernel(&self, directory: &Path) -> io::Result<PathBuf> {
        if !self.kernel_is_packed() {
            return Ok(self.kernel_path.clone());
        }
        let path = directory.join("kernel");
        std::fs::write(&path, self.kernel.data())?;
        Ok(path)
    }
}

/// Where an address of the running kernel is in its file: i386 runs its exception entries from a copy.
#[must_use]
pub fn linked_address(session: &Session, address: VirtAddr) -> VirtAddr {
    let machine = Machine::of(session.dump().arch());
    let copy = machine.entry_copy.as_ref();
    let displacement = copy
        .filter(|copy| address.0 >= copy.from)
        .and_then(|copy| session.symbol(copy.displacement).ok())
        .and_then(|symbol| session.space().ok()?.read_word(symbol.address).ok());
    displacement.map_or(address, |bytes| {
        VirtAddr(address.0.wrapping_sub(bytes) & machine.arch.va_max())
    })
}

/// A dump, its memory, its symbols and its types.
#[derive(Debug)]
pub struct Target<'a> {
    pub(crate) session: &'a Session,
    pub(crate) files: &'a DebugFiles,
    pub(crate) space: AddressSpace<'a>,
    pub(crate) symbols: SymbolsOf<'a>,
    pub(crate) types: Types<'a>,
    pub(crate) text: Vec<Range<u64>>,
    /// The kernel first, then the modules that have a file.
    pub(crate) objects: Vec<Loaded<'a>>,
}

/// A file in memory, and what is read of it when somebody asks.
#[derive(Debug)]
pub(crate) struct Loaded<'a> {
    pub(crate) object: &'a ObjectFile,
    pub(crate) module: Option<&'a ModuleFile>,
    pub(crate) call_frames: OnceLock<CallFrames<'a>>,
    pub(crate) lines: OnceLock<Lines<'a>>,
}

impl<'a> Loaded<'a> {
    const fn new(object: &'a ObjectFile, module: Option<&'a ModuleFile>) -> Self {
        Self {
            object,
            module,
            call_frames: OnceLock::new(),
            lines: OnceLock::new(),
        }
    }
}

impl SymbolSource for Target<'_> {
    fn symbol(&self, name: &str) -> Option<VirtAddr> {
        if let Some(symbol) = self.symbols.find(name) {
            return Some(symbol.address);
        }
        let mut modules = self.files.modules.iter();
        modules.find_map(|module| Some(module.symbol_named(name)?.0))
    }
}

impl<'a> Target<'a> {
    /// Looks at a session through its debug files.
    ///
    /// # Errors
    /// Returns an error without a matching kernel file, or without its page tables.
    pub fn new(session: &'a Session, files: &'a DebugFiles) -> Result<Self, SessionError> {
        let mut objects = vec![Loaded::new(&files.kernel, None)];
        let found = files.modules.iter();
        objects
            .extend(found.filter_map(|module| Some(Loaded::new(module.object()?, Some(module)))));
        let unknown = files.modules.iter();
        let unknown = unknown.filter(|module| module.object().is_none());
        let all: Vec<&ObjectFile> = objects.iter().map(|loaded| loaded.object).collect();
        Ok(Self {
            session,
            files,
            space: session.space()?,
            symbols: session.matching_kernel()?.symbols(),
            types: Types::of(&all),
            text: all
                .iter()
                .flat_map(|object| object.text())
                // Where the instructions of a module without a file are is not known.
                .chain(unknown.map(ModuleFile::range))
                .collect(),
            objects,
        })
    }

    /// The file that is loaded at an address: the kernel, where no module is.
    pub(crate) fn loaded(&self, address: VirtAddr) -> Option<&Loaded<'a>> {
        let module = self.objects.iter().find(|loaded| {
            let range = loaded.module.map(ModuleFile::range);
            range.is_some_and(|range| range.contains(&address.0))
        });
        module.or(self.objects.first())
    }

    /// The dump and its kernel.
    #[must_use]
    pub const fn session(&self) -> &'a Session {
        self.session
    }

    /// Processes and threads; by types where the kernel exports no constants.
    ///
    /// # Errors
    /// Returns an error without a matching kernel file, or if neither it nor types nor its release
    /// tell where the members are.
    pub fn processes(&self) -> Result<ProcessList, SessionError> {
        process::list_with(self.session, &|structure, member| {
            if member.is_empty() {
                let type_ = self.types.find(Tag::Struct, structure)?;
                return self.types.size_of(&type_).ok();
            }
            self.types.offset_of(structure, member)
        })
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

    /// What is particular to it.
    #[must_use]
    pub fn machine(&self) -> &'static Machine {
        Machine::of(self.arch())
    }

    /// Evaluates expressions.
    #[must_use]
    pub fn evaluator(&self) -> Evaluator<'_, 'a> {
        Evaluator {
            space: self.space,
            types: &self.types,
            symbols: self,
            locals: &[],
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

    /// The panic message in the kernel's memory; nothing if it did not panic.
    #[must_use]
    pub fn panic_message(&self) -> Option<String> {
        let symbol = self.symbols.find("panicstr")?;
        let at = self.space.read_pointer(symbol.address).ok()?;
        let text = self.space.read_string(at, PANIC_MAX).ok()?;
        (!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned())
    }

    /// The symbol at an address, with the distance from it: `name+0x10`. Nothing for an address
    /// outside of all symbols.
    #[must_use]
    pub fn name_at(&self, address: VirtAddr) -> Option<String> {
        let address = linked_address(self.session, address);
        let in_module = self.loaded(address).and_then(|loaded| loaded.module);
        let (name, offset) = match in_module {
            Some(module) => {
                let near = module.symbol(address)?;
                (near.name, address.0 - near.start.0)
            }
            None => {
                let nearest = self.symbols.nearest(address).filter(|found| found.inside)?;
                let name = demangled(&String::from_utf8_lossy(nearest.symbol.name));
                (name, nearest.offset)
            }
        };
        Some(match offset {
            0 => name,
            offset => format!("{name}+{offset:#x}"),
        })
    }
}
