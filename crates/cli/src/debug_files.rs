//! Options of the commands that read debug information: where files of modules are.

use crate::context::Context;
use crate::outcome::Failure;
use crate::text;
use clap::Args;
use std::path::PathBuf;
use vmcore::{Session, SessionError};
use vmcore_debug::DebugFiles;
use vmcore_debug::modules::Search;

/// Where module files are searched.
#[derive(Debug, Args)]
pub(crate) struct ModulePlaces {
    /// Root of a copy of the crashed machine's file system, for modules
    #[arg(long, value_name = "DIR")]
    sysroot: Option<PathBuf>,
    /// Directory of module files [default: that of the kernel file]
    #[arg(long = "modules", value_name = "DIR")]
    directories: Vec<PathBuf>,
}

impl ModulePlaces {
    /// The places; the kernel's own directory is the last.
    pub(crate) fn search(&self, session: &Session) -> Search {
        let mut directories = self.directories.clone();
        let kernel = session.kernel().map(|kernel| kernel.path());
        directories.extend(kernel.and_then(|path| path.parent()).map(|parent| {
            if parent.as_os_str().is_empty() {
                PathBuf::from(".")
            } else {
                parent.to_owned()
            }
        }));
        Search {
            sysroot: self.sysroot.clone(),
            directories,
        }
    }

    /// The kernel's debug information, and that of its modules, as far as the kernel has a list of
    /// them.
    pub(crate) fn open(&self, session: &Session) -> Result<DebugFiles, SessionError> {
        let files = DebugFiles::of(session)?;
        if session.symbol("linker_files").is_err() {
            return Ok(files);
        }
        files.with_modules(session, &self.search(session))
    }
}

/// The kernel file has no types, which are needed.
pub(crate) fn no_types(files: &DebugFiles, context: &Context) -> Failure {
    let kernel = text::path(files.kernel_path());
    let failure = Failure::new(format!(
        "{kernel} has no types: neither debug information nor CTF"
    ));
    let problems = files.problems().into_iter();
    problems
        .fold(failure, Failure::line)
        .line("FreeBSD has them in kernel.debug, of the package with debug files of the same build")
        .next(context.suggest_again("-k DIR/kernel.debug"))
}
