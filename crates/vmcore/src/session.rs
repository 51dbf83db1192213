//! A dump, its kernel file and the translation that both allow: what most questions need.
//!
//! ```no_run
//! use vmcore::session::KernelChoice;
//! use vmcore::{OpenOptions, Session};
//! let session = Session::open(
//!     "vmcore.0".as_ref(),
//!     KernelChoice::Given("kernel".as_ref()),
//!     &OpenOptions::default(),
//! )?;
//! let hz = session.symbol("hz")?;
//! println!("{}", session.space()?.read_u32(hz.address)?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod kernel_match;

pub use kernel_match::KernelMatch;

use crate::dump::{Dump, OpenError, OpenOptions};
use crate::kernel::{self, BuildId, DumpBuildIds, KernelError, KernelFile, Symbol, Tried};
use crate::memory::{PageCache, PageReadError};
use crate::space::AddressSpace;
use crate::translation::{RootError, RootSymbols, Translation};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use thiserror::Error;
use vmcore_format::addr::VirtAddr;

/// A dump up to this size is searched for notes without being asked.
const NOTE_SEARCH_UP_TO: u64 = 256 << 20;

/// Which kernel file to use.
#[derive(Clone, Copy, Debug)]
pub enum KernelChoice<'a> {
    /// This one.
    Given(&'a Path),
    /// The one with the dump's build id; these places are searched first.
    Find(&'a [PathBuf]),
    /// None.
    None,
}

/// Why a question that needs the kernel file or virtual addresses cannot be answered.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SessionError {
    /// No dump.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// No kernel file of the given name.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// No kernel file was found.
    #[error("this needs the kernel file, and none was found for {}", dump.display())]
    NoKernel {
        /// The dump.
        dump: PathBuf,
        /// The build id that it must have.
        build_id: Option<BuildId>,
    },
    /// The kernel file is another kernel's.
    #[error("{} is not the kernel of {}", kernel.display(), dump.display())]
    Mismatch {
        /// The dump.
        dump: PathBuf,
        /// The file.
        kernel: PathBuf,
        /// What differs.
        how: Box<KernelMatch>,
    },
    /// The kernel file lacks a symbol.
    #[error("{} has no symbol {name}", kernel.display())]
    NoSymbol {
        /// The symbol.
        name: String,
        /// The file.
        kernel: PathBuf,
    },
    /// A constant of the kernel has a value that it cannot have.
    #[error(
        "{name} of {} is {}: not a value that this kernel can have",
        kernel.display(),
        value.map_or("unreadable".to_owned(), |value| value.to_string())
    )]
    ImpossibleValue {
        /// The constant.
        name: String,
        /// What is there, in the dump's memory or in the file.
        value: Option<i32>,
        /// The file.
        kernel: PathBuf,
    },
    /// The page tables cannot be found.
    #[error(transparent)]
    Root(#[from] RootError),
}

/// A dump with all that helps to read it.
#[derive(Debug)]
pub struct Session {
    dump: Dump,
    kernel: Option<KernelFile>,
    tried: Vec<Tried>,
    translation: Result<Translation, RootError>,
    /// Where the pages of the kernel's virtual memory are, as far as they have been read.
    pages: Option<PageCache>,
    build_ids: OnceLock<Option<DumpBuildIds>>,
    kernel_match: OnceLock<KernelMatch>,
    force: bool,
}

impl Session {
    /// Opens a dump and its kernel file.
    ///
    /// # Errors
    /// Returns an error if the dump, or a kernel file that was given by name, cannot be opened. A
    /// kernel that was not found is not an error until it is needed.
    pub fn open(
        core: &Path,
        kernel: KernelChoice<'_>,
        options: &OpenOptions,
    ) -> Result<Self, SessionError> {
        let mut session = Self::from_parts(Dump::open(core, options)?, None)?;
        match kernel {
            KernelChoice::None => {}
            KernelChoice::Given(path) => session.attach_kernel(KernelFile::open(path)?)?,
            KernelChoice::Find(places) => session.find_kernel(places),
        }
        Ok(session)
    }

    /// A dump that is open, and its kernel file, if that is open, too.
    ///
    /// # Errors
    /// Returns an error if the file is not a kernel.
    ///
    /// ```no_run
    /// use vmcore::{Dump, OpenOptions, Session, kernel::KernelFile};
    /// let dump = Dump::from_reader(std::io::stdin(), &OpenOptions::default())?;
    /// let session = Session::from_parts(dump, Some(KernelFile::open("kernel".as_ref())?))?;
    /// println!("{}", session.symbol("panicstr")?.address);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_parts(dump: Dump, kernel: Option<KernelFile>) -> Result<Self, SessionError> {
        let mut session = Self {
            translation: dump.translation(None),
            pages: dump.memory().page_cache(),
            dump,
            kernel: None,
            tried: Vec::new(),
            build_ids: OnceLock::new(),
            kernel_match: OnceLock::new(),
            force: false,
        };
        if let Some(kernel) = kernel {
            session.attach_kernel(kernel)?;
        }
        Ok(session)
    }

    /// Uses `kernel` as the dump's kernel file from now on.
    ///
    /// # Errors
    /// Returns an error if the file is not a kernel.
    pub fn attach_kernel(&mut self, kernel: KernelFile) -> Result<(), SessionError> {
        // Other kernels than FreeBSD's may be where programs are; their build ids are compared later.
        if let Err(error) = kernel.require_kernel()
            && !self.dump.is_of_another_system()
        {
            return Err(error.into());
        }
        self.attach(kernel);
        Ok(())
    }

    /// Looks for the dump's kernel file by its build id: in `places` first, then beside the dump and where
    /// FreeBSD puts kernels. [`Session::tried`] tells where.
    pub fn find_kernel(&mut self, places: &[PathBuf]) {
        let ids = self.build_ids();
        let ids = ids.map(|ids| ids.ids.clone()).unwrap_or_default();
        let search = kernel::search(&ids, self.dump.path(), places);
        self.tried = search.tried;
        if let Some(kernel) = search.found {
            self.attach(kernel);
        }
    }

    fn attach(&mut self, kernel: KernelFile) {
        let kernel = kernel.moved_by(self.dump.displacement());
        if self.translation.is_err() || kernel.has_wide_entries() {
            self.translation = self.dump.translation(Some(&root_symbols(&kernel)));
            self.pages = self.dump.memory().page_cache();
        }
        self.kernel_match = OnceLock::new();
        self.kernel = Some(kernel);
    }

    /// Uses the kernel file even if it is certainly another kernel's.
    #[must_use]
    pub fn with_force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// The dump.
    #[must_use]
    pub const fn dump(&self) -> &Dump {
        &self.dump
    }

    /// The kernel file, whether it matches or not.
    #[must_use]
    pub const fn kernel(&self) -> Option<&KernelFile> {
        self.kernel.as_ref()
    }

    /// Where the kernel file was looked for.
    #[must_use]
    pub fn tried(&self) -> &[Tried] {
        &self.tried
    }

    /// The kernel's virtual memory.
    ///
    /// # Errors
    /// Returns an error for a full dump without a kernel file that leads to its page tables.
    #[inline]
    pub fn space(&self) -> Result<AddressSpace<'_>, SessionError> {
        match &self.translation {
            Ok(translation) => {
                let space = AddressSpace::new(self.dump.memory(), self.dump.arch(), translation);
                Ok(space.remembering(self.pages.as_ref()))
            }
            Err(error) => Err(self.no_space(*error)),
        }
    }

    #[cold]
    fn no_space(&self, error: RootError) -> SessionError {
        match error {
            RootError::NeedsKernel => self.no_kernel(),
            error => SessionError::Root(error),
        }
    }

    /// The kernel file, checked to be the dump's.
    ///
    /// # Errors
    /// Returns an error if there is none, or it is certainly another kernel's.
    pub fn matching_kernel(&self) -> Result<&KernelFile, SessionError> {
        let kernel = self.kernel.as_ref().ok_or_else(|| self.no_kernel())?;
        match self.kernel_match() {
            Some(how) if how.is_mismatch() && !self.force => Err(SessionError::Mismatch {
                dump: self.dump.path().to_owned(),
                kernel: kernel.path().to_owned(),
                how: Box::new(how.clone()),
            }),
            _ => Ok(kernel),
        }
    }

    /// A symbol of the matching kernel.
    ///
    /// # Errors
    /// Returns an error if there is no matching kernel file, or it lacks the symbol.
    pub fn symbol(&self, name: &str) -> Result<Symbol<'_>, SessionError> {
        let kernel = self.matching_kernel()?;
        kernel
            .symbols()
            .find(name)
            .ok_or_else(|| SessionError::NoSymbol {
                name: name.to_owned(),
                kernel: kernel.path().to_owned(),
            })
    }

    /// The build ids in the dump; `None` if there are none. Small dumps are searched for notes if
    /// neither an identity block nor the kernel's ELF header is in them.
    pub fn build_ids(&self) -> Option<&DumpBuildIds> {
        self.build_ids
            .get_or_init(|| {
                let translation = self.translation.as_ref().ok();
                DumpBuildIds::from_identity(&self.dump)
                    .or_else(|| DumpBuildIds::from_elf_header(&self.dump, translation))
                    .or_else(|| self.search_build_ids(NOTE_SEARCH_UP_TO).ok().flatten())
            })
            .as_ref()
    }

    fn search_build_ids(&self, up_to_bytes: u64) -> Result<Option<DumpBuildIds>, PageReadError> {
        if self.dump.memory().source().reaches(up_to_bytes + 1) {
            return Ok(None);
        }
        let ids = DumpBuildIds::by_note_search(self.dump.memory())?;
        Ok((!ids.ids.is_empty()).then_some(ids))
    }

    /// Whether the kernel file is the dump's; `None` without a kernel file.
    pub fn kernel_match(&self) -> Option<&KernelMatch> {
        let kernel = self.kernel.as_ref()?;
        let compared = || kernel_match::compare(self, kernel);
        Some(self.kernel_match.get_or_init(compared))
    }

    fn no_kernel(&self) -> SessionError {
        SessionError::NoKernel {
            dump: self.dump.path().to_owned(),
            build_id: self.build_ids().and_then(DumpBuildIds::certain),
        }
    }
}

/// The symbols that lead to the root of a full dump's page tables.
fn root_symbols(kernel: &KernelFile) -> RootSymbols {
    let symbols = kernel.symbols();
    let address = |name| {
        symbols
            .find(name)
            .map(|symbol: Symbol<'_>| VirtAddr(symbol.address.0))
    };
    RootSymbols {
        kernbase: address("kernbase"),
        KPML4phys: address("KPML4phys"),
        KPML5phys: address("KPML5phys"),
        IdlePDPT: address("IdlePDPT"),
        IdlePTD: address("IdlePTD"),
        IdlePTD_nopae: address("IdlePTD_nopae"),
        pae_mode: address("pae_mode"),
        kernel_l1pa: address("kernel_l1pa"),
        physaddr: address("physaddr"),
        has_wide_entries: kernel.has_wide_entries(),
    }
}
