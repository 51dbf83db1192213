//! What a run of the command knows: its options, the dump it is about, where words go.

use crate::files::{self, Chosen, Files};
use crate::options::{ColorChoice, Common};
use crate::outcome::Failure;
use crate::output::{self, Out, Style};
use crate::{spool, text};
use serde::Serialize;
use std::cell::{Cell, OnceCell};
use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;
use vmcore::container::{self, ContainerError, ContainerOptions};
use vmcore::dump::{DumpFormat, Warning};
use vmcore::kernel::{KernelError, KernelFile};
use vmcore::session::KernelMatch;
use vmcore::source::OpenFile;
use vmcore::textdump::Textdump;
use vmcore::{Dump, OpenError, OpenOptions, Session, SessionError};
use vmcore_debug::DebugFiles;

/// The folders and files that are searched first for the kernel.
const KERNEL_PATH: &str = "VMCORE_KERNEL_PATH";
/// The variable with the directory for expanded kernels; empty for none.
const CACHE: &str = "VMCORE_CACHE";

/// What the kernel file is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KernelUse {
    /// Symbols: look for it.
    Symbols,
    /// Addresses only: look for it where they need it, in a full dump.
    Addresses,
}

/// Where expanded kernels are kept: in the user's cache directory, unless the user says otherwise or
/// it is somebody else's, as with `sudo -E`.
#[cfg(unix)]
pub(crate) fn kernel_cache() -> Option<PathBuf> {
    use std::os::unix::fs::MetadataExt as _;
    let below = |variable: &str, path: &str| {
        let base = PathBuf::from(std::env::var_os(variable)?);
        // System services have the root directory as their home.
        (base.is_absolute() && base.parent().is_some()).then(|| base.join(path))
    };
    let directory = match std::env::var_os(CACHE) {
        Some(directory) => Some(PathBuf::from(directory)).filter(|path| path.is_absolute()),
        None => below("XDG_CACHE_HOME", "vmcore").or_else(|| below("HOME", ".cache/vmcore")),
    }?;
    let owner = std::fs::symlink_metadata(&directory).map(|found| found.uid());
    let is_own = owner.map_or(true, |uid| uid == rustix::process::geteuid().as_raw());
    is_own.then_some(directory)
}

/// Where expanded kernels are kept: nowhere.
#[cfg(not(unix))]
pub(crate) fn kernel_cache() -> Option<PathBuf> {
    None
}

/// A run of the command.
#[derive(Debug)]
pub(crate) struct Context {
    common: Common,
    command: &'static str,
    files: Files,
    chosen: OnceCell<Chosen>,
    /// The words after the files.
    arguments: OnceCell<Vec<OsString>>,
    /// Whether there were places to look for the kernel.
    searched: Cell<bool>,
    /// What came through a pipe, as long as it is needed.
    kept: OnceCell<NamedTempFile>,
    /// Whether it is not known where the dump's pages are.
    is_guess: Cell<bool>,
}

/// What a file holds.
#[derive(Debug)]
pub(crate) enum Opened {
    Memory(Box<Session>),
    Text(Box<Textdump>),
}

impl Context {
    pub(crate) fn new(common: Common, command: &'static str) -> Self {
        Self {
            common,
            command,
            files: Files::default(),
            chosen: OnceCell::new(),
            arguments: OnceCell::new(),
            searched: Cell::new(false),
            kept: OnceCell::new(),
            is_guess: Cell::new(false),
        }
    }

    /// Whether what was read of the dump's pages is a guess.
    pub(crate) const fn is_guess(&self) -> bool {
        self.is_guess.get()
    }

    pub(crate) const fn common(&self) -> &Common {
        &self.common
    }

    /// The command's name.
    pub(crate) const fn command(&self) -> &'static str {
        self.command
    }

    /// The dump that [`Context::choose`] has chosen.
    fn chosen(&self) -> &Chosen {
        self.chosen.get_or_init(Chosen::default)
    }

    /// The dump as it was named, once it is known which.
    fn named(&self) -> Option<&Path> {
        let chosen = self.chosen.get()?;
        Some(chosen.stream.as_deref().unwrap_or(&chosen.dump))
    }

    /// Where the dump can be read.
    pub(crate) fn dump(&self) -> Option<&Path> {
        self.chosen.get().map(|chosen| chosen.dump.as_path())
    }

    /// Whether the kernel was looked for anywhere.
    pub(crate) const fn has_searched(&self) -> bool {
        self.searched.get()
    }

    /// A command line of ours about this dump, to be proposed: `vmcore verify vmcore.0`.
    pub(crate) fn suggest(&self, command: &str) -> String {
        let dump = self
            .named()
            .map_or_else(|| "vmcore.N".to_owned(), text::shell_word);
        let mut words = command.splitn(2, ' ');
        let name = words.next().unwrap_or_default();
        let rest = words
            .next()
            .map(|rest| format!(" {rest}"))
            .unwrap_or_default();
        format!("vmcore {name} {dump}{rest}")
    }

    /// Whether a symbol was typed, and is not just one that the answer needs.
    pub(crate) fn has_argument(&self, symbol: &str) -> bool {
        let mut words = self.arguments.get().into_iter().flatten();
        words.any(|word| {
            word.to_str()
                .is_some_and(|word| word.split('+').next() == Some(symbol))
        })
    }

    /// This command line once more, with other options: `vmcore read vmcore.0 hz -k DIR/kernel`.
    pub(crate) fn suggest_again(&self, options: &str) -> String {
        let arguments = self.arguments.get().into_iter().flatten();
        let mut command = self.command.to_owned();
        for word in arguments.map(|word| text::shell_word(Path::new(word))) {
            command = format!("{command} {word}");
        }
        self.suggest(&format!("{command} {options}"))
    }

    /// Standard output for an answer in text.
    pub(crate) fn out(&self) -> Out {
        Out::new(self.color(std::io::stdout().is_terminal()))
    }

    fn color(&self, is_terminal: bool) -> bool {
        match self.common.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        }
    }

    /// Prints an answer in JSON. `dump` is absent for answers about several dumps.
    pub(crate) fn json(&self, dump: Option<&Dump>, answer: impl Serialize) -> io::Result<()> {
        output::json(self.command, dump, answer)
    }

    /// Says what is wrong with the debug information, after an answer that has used it.
    pub(crate) fn note_debug(&self, files: &DebugFiles) {
        for problem in files.problems() {
            let problem = text::escape(problem.as_bytes());
            self.note(&format!("vmcore: warning: {problem}"));
        }
    }

    /// Says something beside the answer, unless asked to be quiet.
    pub(crate) fn note(&self, words: &str) {
        if !self.common.quiet {
            self.say(words);
        }
    }

    fn say(&self, words: &str) {
        // Nothing can be done if this fails.
        let _ = writeln!(std::io::stderr(), "{words}");
    }

    /// Says why there is no answer.
    pub(crate) fn print_failure(&self, failure: &Failure) {
        let color = self.color(std::io::stderr().is_terminal());
        let mut lines = vec![format!(
            "{} {}",
            Style::Bad.paint("vmcore:", color),
            text::escape(failure.sentence().as_bytes())
        )];
        lines.extend(
            failure
                .more()
                .iter()
                .map(|line| format!("  {}", text::escape(line.as_bytes()))),
        );
        self.say(&lines.join("\n"));
    }

    /// Tells files from arguments, and settles which dump and kernel it is about. `arguments` says
    /// how many words after the files the command takes.
    pub(crate) fn choose(
        &self,
        words: &[OsString],
        arguments: RangeInclusive<usize>,
        names: &str,
    ) -> Result<Vec<OsString>, Failure> {
        let (files, arguments) = files::split(words, arguments, self.command, names, &self.files)?;
        let mut chosen = files::choose(&self.common, self.command, files, words, &self.files)?;
        if spool::is_stream(&chosen.dump) {
            let (dump, kept) = spool::spool(&chosen.dump)?;
            if let Some(kept) = kept {
                let file = text::path(kept.path());
                let words = "is a pipe, which cannot be read twice: kept meanwhile in";
                self.note(&format!(
                    "vmcore: note: {} {words} {file}",
                    text::path(&chosen.dump)
                ));
                self.kept.get_or_init(|| kept);
            }
            chosen.stream = Some(std::mem::replace(&mut chosen.dump, dump));
        }
        self.chosen.get_or_init(|| chosen);
        Ok(self.arguments.get_or_init(|| arguments.to_vec()).clone())
    }

    /// As [`Context::choose`], for a command that takes one argument.
    pub(crate) fn choose_with(&self, words: &[OsString], name: &str) -> Result<OsString, Failure> {
        let mut arguments = self.choose(words, 1..=1, name)?.into_iter();
        arguments
            .next()
            .ok_or_else(|| Failure::usage(format!("{name} is missing")))
    }

    /// Opens the chosen dump and its kernel file.
    pub(crate) fn open(
        &self,
        kernel_use: KernelUse,
        options: &OpenOptions,
    ) -> Result<Session, SessionError> {
        let chosen = self.chosen();
        let dump = Dump::open_file(&self.open_dump()?, &self.options(options));
        let mut session = Session::from_parts(dump?, None)?;
        match &chosen.kernel {
            Some(kernel) => {
                let file = self.files.open(kernel).map_err(|source| KernelError::Io {
                    path: kernel.clone(),
                    source,
                })?;
                session.attach_kernel(KernelFile::of(&file)?)?;
            }
            None if self.needs_kernel(&session, kernel_use) => {
                session.find_kernel(&self.kernel_places());
            }
            None => {}
        }
        let session = session.with_force(self.common.force);
        self.tell(&session, kernel_use);
        Ok(session)
    }

    /// As [`Context::open`], for the commands that answer about a textdump, too.
    pub(crate) fn open_or_text(
        &self,
        kernel_use: KernelUse,
        options: &OpenOptions,
    ) -> Result<Opened, SessionError> {
        let error = match self.open(kernel_use, options) {
            Ok(session) => return Ok(Opened::Memory(Box::new(session))),
            Err(error) => error,
        };
        match &error {
            SessionError::Open(OpenError::Textdump { path }) => {
                let options = self.container_options();
                let opened = container::open_file(&self.open_dump()?, &options);
                let textdump = Textdump::of(path, opened.map_err(OpenError::from)?);
                Ok(Opened::Text(Box::new(textdump?)))
            }
            _ => Err(error),
        }
    }

    /// How to open the dump, with what the options of every command say.
    pub(crate) fn options(&self, options: &OpenOptions) -> OpenOptions {
        OpenOptions {
            container: self.container_options(),
            ..options.clone()
        }
    }

    /// What the options of every command say of what is around the dump.
    pub(crate) fn container_options(&self) -> ContainerOptions {
        ContainerOptions {
            key: self.common.key.clone(),
            key_block: self.common.key_block.clone(),
            partition: self.common.partition.clone(),
            ..ContainerOptions::default()
        }
    }

    /// Where the kernel is looked for first.
    pub(crate) fn kernel_places(&self) -> Vec<PathBuf> {
        let list = std::env::var_os(KERNEL_PATH).unwrap_or_default();
        std::env::split_paths(&list)
            .filter(|path| !path.as_os_str().is_empty())
            .collect()
    }

    /// The dump, opened once for whatever looks at it.
    fn open_dump(&self) -> Result<OpenFile, OpenError> {
        let path = &self.chosen().dump;
        let file = self.files.open(path);
        file.map_err(|error| ContainerError::io(path, error).into())
    }

    /// Whether the kernel is looked for.
    fn needs_kernel(&self, session: &Session, kernel_use: KernelUse) -> bool {
        let is_full = matches!(session.dump().kind(), DumpFormat::Full(_));
        match kernel_use {
            KernelUse::Symbols => true,
            KernelUse::Addresses => is_full && session.space().is_err(),
        }
    }

    /// Says where the kernel was looked for, and what is doubtful about it.
    fn tell(&self, session: &Session, kernel_use: KernelUse) {
        self.searched.set(!session.tried().is_empty());
        if self.common.verbose {
            for tried in session.tried() {
                self.say(&format!(
                    "tried {}: {}",
                    text::path(&tried.path),
                    text::escape(tried.outcome.as_bytes())
                ));
            }
            if let (Some(kernel), true) = (session.kernel(), session.tried().is_empty()) {
                self.say(&format!("kernel {}", text::path(kernel.path())));
            }
        }
        let doubt = session.dump().doubt();
        let is_guess = matches!(doubt, Some(Warning::PagesUncertain { .. }));
        self.is_guess.set(self.is_guess.get() || is_guess);
        // These two have a line for it.
        if !matches!(self.command, "info" | "verify")
            && let Some(doubt) = doubt
        {
            self.note(&format!("vmcore: warning: {doubt}"));
        }
        let Some(kernel) = session.kernel() else {
            return;
        };
        // `info` has a line for it.
        if self.command == "info" || kernel_use == KernelUse::Addresses {
            return;
        }
        let kernel = text::path(kernel.path());
        match session.kernel_match() {
            Some(KernelMatch::Unproven) => self.note(&format!(
                "vmcore: note: nothing proves that {kernel} is the kernel of this dump"
            )),
            Some(how) if how.is_mismatch() && self.common.force => self.note(&format!(
                "vmcore: warning: {kernel} is another kernel's; answers may be nonsense (--force)"
            )),
            _ => {}
        }
    }
}
