//! Advice where a dump or its kernel file cannot be opened, and what is said of those that are.

use super::{Advice, directory};
use crate::context::Context;
use crate::outcome::Failure;
use crate::text;
use std::fmt;
use std::path::Path;
use vmcore::container::{ContainerError, DeviceHeader};
use vmcore::crypt::KeyError;
use vmcore::dump::DumpFormat;
use vmcore::format::layout::Section;
use vmcore::kernel::KernelError;
use vmcore::session::KernelMatch;
use vmcore::translation::RootError;
use vmcore::{OpenError, Session, SessionError};

impl Advice for SessionError {
    fn advice(&self, context: &Context) -> Failure {
        match self {
            SessionError::Open(error) => error.advice(context),
            SessionError::Kernel(error) => error.advice(context),
            SessionError::NoKernel { build_id, .. } => {
                let failure = Failure::new(self.to_string());
                let failure = match build_id {
                    Some(id) => failure.line(format!("it must have the build id {id}")),
                    None if context.has_searched() => failure,
                    None => {
                        failure.line("a kernel is found by its build id, and the dump has none")
                    }
                };
                without_kernel(failure, context, "kernel")
            }
            SessionError::Mismatch { dump, kernel, how } => {
                let sentence = format!(
                    "{} is not the kernel of {}",
                    kernel.display(),
                    dump.display()
                );
                let failure = Failure::new(sentence).line(difference(how));
                without_kernel(failure, context, "kernel.debug")
                    .line("(--force uses it all the same)")
            }
            SessionError::NoSymbol { name, kernel } => {
                let failure = Failure::new(format!("{} has no symbol {name}", kernel.display()));
                if context.has_argument(name) {
                    return failure.next(context.suggest(&format!("sym {name}")));
                }
                let why = if name.contains("_off_") {
                    "it is one of the debugger's constants, which kernels have since FreeBSD 10.3"
                } else {
                    "kernels have it unless they are stripped"
                };
                failure
                    .line(why)
                    .next(context.suggest_again("-k DIR/kernel.debug"))
            }
            SessionError::ImpossibleValue { .. } => Failure::new(self.to_string())
                .line("the kernel file is another kernel's, or the memory there is damaged")
                .next(context.suggest_again("-k DIR/kernel.debug")),
            SessionError::Root(error) => error.advice(context),
            _ => Failure::new(self.to_string()).next(context.suggest("info")),
        }
    }
}

impl Advice for KernelError {
    fn advice(&self, context: &Context) -> Failure {
        match self {
            KernelError::Io { path, source } => {
                let sentence = format!("kernel {}: {}", path.display(), text::os_error(source));
                let next = match source.kind() {
                    std::io::ErrorKind::IsADirectory => text::shell_word(&path.join("kernel")),
                    _ => "DIR/kernel".to_owned(),
                };
                Failure::new(sentence).next(context.suggest_again(&format!("-k {next}")))
            }
            _ => Failure::new(self.to_string()).next(context.suggest_again("-k DIR/kernel")),
        }
    }
}

impl Advice for RootError {
    fn advice(&self, context: &Context) -> Failure {
        let failure = Failure::new(self.to_string());
        match self {
            RootError::NeedsKernel | RootError::NoSymbol(_) | RootError::Implausible { .. } => {
                without_kernel(failure, context, "kernel")
            }
            _ => failure.next(context.suggest("read ADDR 256 --phys")),
        }
    }
}

impl Advice for OpenError {
    fn advice(&self, context: &Context) -> Failure {
        match self {
            OpenError::Container(error) => error.advice(context),
            OpenError::OtherKind { path, kind } => Failure::new(self.to_string())
                .next(kind.command.replace("FILE", &text::shell_word(path))),
            OpenError::KernelFile { path, arch } => Failure::new(format!(
                "{} is a kernel or program ({arch}), not a dump",
                path.display()
            ))
            .next(format!(
                "vmcore {} vmcore.N -k {}",
                context.command(),
                text::shell_word(path)
            )),
            OpenError::Textdump { path } => Failure::new(format!(
                "{} is a textdump: a tar archive of text, not memory",
                path.display()
            ))
            .line("info, log and report answer from its files, and no other command does")
            .next(context.suggest("report")),
            OpenError::Truncated {
                path,
                section,
                need,
                have,
            } => {
                let missing = format!(
                    "{} bytes needed, the file has {}",
                    text::count(*need),
                    text::count(*have)
                );
                truncated(path, *section, Some(missing))
            }
            _ => not_a_dump(self, context),
        }
    }
}

impl Advice for ContainerError {
    fn advice(&self, context: &Context) -> Failure {
        match self {
            ContainerError::Io { path, source } => {
                let failure =
                    Failure::new(format!("{}: {}", path.display(), text::os_error(source)));
                if source.kind() == std::io::ErrorKind::PermissionDenied {
                    return failure.line(
                        "dumps hold secrets and belong to root: read it as root, or copy it",
                    );
                }
                if source.to_string().contains("is a pipe") {
                    let pipe = text::shell_word(path);
                    return failure.next(format!("vmcore {} - < {pipe}", context.command()));
                }
                failure.next(format!("vmcore list -d {}", directory(path)))
            }
            ContainerError::Encrypted { path } => {
                Failure::new(format!("{} is encrypted", path.display()))
                    .line(
                        "to read it takes the RSA private key that belongs to dumpon's public one",
                    )
                    .next(context.suggest_again("--key PRIVATE.pem"))
            }
            ContainerError::NoKeyBlock { path, key_file } => Failure::new(format!(
                "{} is encrypted, or not a dump: its encrypted key {} is not there",
                path.display(),
                key_file.display()
            ))
            .line("savecore wrote it beside the dump; copy it from there, or name it")
            .next(context.suggest_again("--key-block KEY.N")),
            ContainerError::Key { path, source } => {
                let failure = Failure::new(format!("{}: {source}", path.display()));
                let key = text::shell_word(path);
                let failure = match source {
                    KeyError::OtherKind { command: "", .. } => failure,
                    KeyError::OtherKind { command, .. } => {
                        let command = command.replace("KEY", &key);
                        failure.line(format!("it becomes one: {command}"))
                    }
                    KeyError::Der => failure.line(format!(
                        "it becomes PEM: openssl rsa -inform DER -in {key} -out KEY.pem"
                    )),
                    _ => failure,
                };
                failure.next(context.suggest_again("--key PRIVATE.pem"))
            }
            ContainerError::SeveralDumps { path, partitions } => {
                let first = partitions.first().map_or("p1", |(name, _)| name.as_str());
                let sentence = format!("{} is a disk with several dumps", path.display());
                let failure = partitions
                    .iter()
                    .fold(Failure::new(sentence), |failure, part| {
                        let (name, header) = part;
                        failure.line(format!("{name}: {}", told(header)))
                    });
                failure.next(context.suggest_again(&format!("--partition {first}")))
            }
            ContainerError::NoSuchPartition {
                path,
                wanted,
                partitions,
            } => no_partition(path, wanted, partitions),
            ContainerError::UnsoundHeader { path, .. } => Failure::new(self.to_string()).next(
                format!("vmcore save {} DIR --force", text::shell_word(path)),
            ),
            ContainerError::NoDumpOnDisk { path, partitions } => {
                let failure = Failure::new(format!(
                    "{} is a disk, and no partition of it ends in a dump header",
                    path.display()
                ));
                let failure = match partitions.is_empty() {
                    true => failure.line("it has no partitions"),
                    false => failure.line(format!("looked at: {}", partitions.join(", "))),
                };
                failure
                    .line("a dump that has been overwritten by swapping cannot be found any more")
                    .next("vmcore list")
            }
            _ => not_a_dump(self, context),
        }
    }
}

/// Ends a failure for want of a kernel file.
fn without_kernel(failure: Failure, context: &Context, file: &str) -> Failure {
    let failure = failure.next(context.suggest_again(&format!("-k DIR/{file}")));
    let failure = failure.line("(info, log, map and read ADDR need no kernel for a minidump)");
    if context.has_searched() && !context.common().verbose {
        failure.line("(-v lists the places tried)")
    } else {
        failure
    }
}

/// What differs between dump and kernel file.
pub(crate) fn difference(how: &KernelMatch) -> String {
    match how {
        KernelMatch::OtherBuildId { dump, file } => {
            format!("build id: dump {}, file {}", dump.short(), file.short())
        }
        KernelMatch::OtherVersion { dump, file, source } => {
            let line = |version: &str| version.lines().next().unwrap_or_default().to_owned();
            let (dump, file) = (line(dump), line(file));
            format!("version: dump {dump:?} ({source}), file {file:?}")
        }
        KernelMatch::OtherContents { fact } => fact.clone(),
        KernelMatch::OtherArch { dump, file } => format!("architecture: dump {dump}, file {file}"),
        KernelMatch::BuildId => "the build ids are equal".to_owned(),
        KernelMatch::Version => "the version strings are equal".to_owned(),
        KernelMatch::Contents { equal, compared } => {
            format!("{equal} of {compared} constants and functions are in the dump's memory")
        }
        _ => "nothing to compare".to_owned(),
    }
}

fn not_a_dump(error: &dyn fmt::Display, context: &Context) -> Failure {
    Failure::new(error.to_string()).next(match context.dump() {
        Some(dump) => format!("vmcore list -d {}", directory(dump)),
        None => "vmcore list".to_owned(),
    })
}

/// A disk has no partition that is called so.
pub(crate) fn no_partition(disk: &Path, wanted: &str, partitions: &[String]) -> Failure {
    let sentence = format!("{} has no partition {wanted}", disk.display());
    match partitions {
        [] => Failure::new(sentence).line("it has no partition table, or none that can be read"),
        _ => Failure::new(sentence).line(format!("it has {}", partitions.join(", "))),
    }
}

/// A dump by its header: whose, when, why.
fn told(header: &DeviceHeader) -> String {
    let size = text::size(header.dumplength);
    let mut told = format!("{size}, {}", vmcore::info::utc(header.dumptime));
    for word in [&header.hostname, &header.panicstring] {
        if !word.is_empty() {
            told = format!("{told}, {word}");
        }
    }
    told
}

/// The file ends before its pages begin.
pub(super) fn truncated(path: &Path, section: Section, missing: Option<String>) -> Failure {
    let sentence = format!("{} is truncated inside its {section}", path.display());
    let failure = missing
        .into_iter()
        .fold(Failure::new(sentence), Failure::line);
    let failure = failure.line("copy the file again, from the machine that crashed");
    if section > Section::Header {
        // The message buffer comes first, and what of it is there is shown.
        return failure.next(format!("vmcore log {}", text::shell_word(path)));
    }
    failure.next(format!("vmcore list -d {}", directory(path)))
}

/// The note for a dump whose file ends too early; `None` for a whole one.
pub(crate) fn truncation(session: &Session) -> Option<String> {
    use vmcore::dump::Completeness;
    match session.dump().completeness().ok()? {
        Completeness::Complete { .. } => None,
        Completeness::Truncated {
            missing_bytes,
            missing_pages,
        } => Some(format!(
            "truncated: {} ({}) missing",
            text::counted(missing_bytes, "byte", "bytes"),
            text::counted(missing_pages, "page", "pages")
        )),
        Completeness::TruncatedSection { section } => {
            Some(format!("truncated inside its {section}"))
        }
    }
}

/// Whether the dump is a full dump.
pub(crate) const fn is_full(session: &Session) -> bool {
    matches!(session.dump().kind(), DumpFormat::Full(_))
}
