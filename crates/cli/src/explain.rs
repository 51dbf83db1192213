//! Errors as a person needs them: one sentence, the facts behind it, what to type next.

use crate::context::Context;
use crate::outcome::Failure;
use crate::output::NotWritten;
use crate::text;
use std::fmt;
use std::path::Path;
use vmcore::OpenError;
use vmcore::container::{ContainerError, DeviceHeader};
use vmcore::crypt::KeyError;
use vmcore::dump::DumpFormat;
use vmcore::format::layout::Section;
use vmcore::kernel::KernelError;
use vmcore::memory::PageReadError;
use vmcore::session::KernelMatch;
use vmcore::translation::{RootError, TranslationError};
use vmcore::{Session, SessionError};
use vmcore_debug::DebugFiles;
use vmcore_debug::expr::EvalError;
use vmcore_pipeline::output::OutputError;
use vmcore_pipeline::save::SaveError;

/// Turns any error into a failure with its next command.
pub(crate) fn explain(error: &anyhow::Error, context: &Context) -> Failure {
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.clone();
        }
        if let Some(error) = cause.downcast_ref::<SessionError>() {
            return session(error, context);
        }
        if let Some(error) = cause.downcast_ref::<OpenError>() {
            return open(error, context);
        }
        if let Some(error) = cause.downcast_ref::<ContainerError>() {
            return container(error, context);
        }
        if let Some(error) = cause.downcast_ref::<TranslationError>() {
            return unreadable(error, context);
        }
        if let Some(reason) = cause.downcast_ref::<PageReadError>() {
            return absent(reason, context);
        }
        if let Some(error) = cause.downcast_ref::<EvalError>() {
            return match error {
                EvalError::Unreadable(error) => unreadable(error, context),
                error => Failure::new(error.to_string()).next(context.proposal("sym NAME")),
            };
        }
        if let Some(error) = cause.downcast_ref::<SaveError>() {
            return not_saved(error);
        }
        if let Some(error) = cause.downcast_ref::<OutputError>() {
            return output(error);
        }
        if let Some(error) = cause.downcast_ref::<std::io::Error>() {
            return Failure::new(
                match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                    Some(NotWritten(error)) => {
                        format!("writing the answer failed: {}", text::os_error(error))
                    }
                    None => text::os_error(error),
                },
            );
        }
    }
    Failure::new(format!("{error:#}"))
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
        .next(context.again("-k DIR/kernel.debug"))
}

fn session(error: &SessionError, context: &Context) -> Failure {
    match error {
        SessionError::Open(error) => open(error, context),
        SessionError::Kernel(error) => kernel_file(error, context),
        SessionError::NoKernel { build_id, .. } => {
            let failure = Failure::new(error.to_string());
            let failure = match build_id {
                Some(id) => failure.line(format!("it must have the build id {id}")),
                None if context.has_searched() => failure,
                None => failure.line("a kernel is found by its build id, and the dump has none"),
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
            without_kernel(failure, context, "kernel.debug").line("(--force uses it all the same)")
        }
        SessionError::NoSymbol { name, kernel } => {
            let failure = Failure::new(format!("{} has no symbol {name}", kernel.display()));
            if context.has_argument(name) {
                return failure.next(context.proposal(&format!("sym {name}")));
            }
            let why = if name.contains("_off_") {
                "it is one of the debugger's constants, which kernels have since FreeBSD 10.3"
            } else {
                "kernels have it unless they are stripped"
            };
            failure.line(why).next(context.again("-k DIR/kernel.debug"))
        }
        SessionError::ImpossibleValue { .. } => Failure::new(error.to_string())
            .line("the kernel file is another kernel's, or the memory there is damaged")
            .next(context.again("-k DIR/kernel.debug")),
        SessionError::Root(error) => root(error, context),
        error => Failure::new(error.to_string()).next(context.proposal("info")),
    }
}

/// Ends a failure for want of a kernel file.
fn without_kernel(failure: Failure, context: &Context, file: &str) -> Failure {
    let failure = failure.next(context.again(&format!("-k DIR/{file}")));
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

fn kernel_file(error: &KernelError, context: &Context) -> Failure {
    match error {
        KernelError::Io { path, source } => {
            let sentence = format!("kernel {}: {}", path.display(), text::os_error(source));
            let next = match source.kind() {
                std::io::ErrorKind::IsADirectory => text::shell_word(&path.join("kernel")),
                _ => "DIR/kernel".to_owned(),
            };
            Failure::new(sentence).next(context.again(&format!("-k {next}")))
        }
        error => Failure::new(error.to_string()).next(context.again("-k DIR/kernel")),
    }
}

fn root(error: &RootError, context: &Context) -> Failure {
    let failure = Failure::new(error.to_string());
    match error {
        RootError::NeedsKernel | RootError::NoSymbol(_) | RootError::Implausible { .. } => {
            without_kernel(failure, context, "kernel")
        }
        _ => failure.next(context.proposal("read ADDR 256 --phys")),
    }
}

fn container(error: &ContainerError, context: &Context) -> Failure {
    match error {
        ContainerError::Io { path, source } => {
            let failure = Failure::new(format!("{}: {}", path.display(), text::os_error(source)));
            if source.kind() == std::io::ErrorKind::PermissionDenied {
                return failure
                    .line("dumps hold secrets and belong to root: read it as root, or copy it");
            }
            if source.to_string().contains("is a pipe") {
                let pipe = text::shell_word(path);
                return failure.next(format!("vmcore {} - < {pipe}", context.command()));
            }
            failure.next(format!("vmcore list -d {}", directory(path)))
        }
        ContainerError::Encrypted { path } => {
            Failure::new(format!("{} is encrypted", path.display()))
                .line("to read it takes the RSA private key that belongs to dumpon's public one")
                .next(context.again("--key PRIVATE.pem"))
        }
        ContainerError::NoKeyBlock { path, key_file } => Failure::new(format!(
            "{} is encrypted, or not a dump: its encrypted key {} is not there",
            path.display(),
            key_file.display()
        ))
        .line("savecore wrote it beside the dump; copy it from there, or name it")
        .next(context.again("--key-block KEY.N")),
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
            failure.next(context.again("--key PRIVATE.pem"))
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
            failure.next(context.again(&format!("--partition {first}")))
        }
        ContainerError::NoSuchPartition {
            path,
            wanted,
            partitions,
        } => no_partition(path, wanted, partitions),
        ContainerError::UnsoundHeader { path, .. } => Failure::new(error.to_string()).next(
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
        error => not_a_dump(error, context),
    }
}

fn not_a_dump(error: &dyn fmt::Display, context: &Context) -> Failure {
    Failure::new(error.to_string()).next(match context.dump() {
        Some(dump) => format!("vmcore list -d {}", directory(dump)),
        None => "vmcore list".to_owned(),
    })
}

fn open(error: &OpenError, context: &Context) -> Failure {
    match error {
        OpenError::Container(error) => container(error, context),
        OpenError::OtherKind { path, kind } => Failure::new(error.to_string())
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
        .next(context.proposal("report")),
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
        error => not_a_dump(error, context),
    }
}

/// A disk has no partition that is called so.
fn no_partition(disk: &Path, wanted: &str, partitions: &[String]) -> Failure {
    let sentence = format!("{} has no partition {wanted}", disk.display());
    match partitions {
        [] => Failure::new(sentence).line("it has no partition table, or none that can be read"),
        _ => Failure::new(sentence).line(format!("it has {}", partitions.join(", "))),
    }
}

/// A dump by its header: whose, when, why.
fn told(header: &DeviceHeader) -> String {
    let word = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let size = text::size(header.dumplength);
    let mut told = format!("{size}, {}", vmcore::info::utc(header.dumptime));
    for word in [word(&header.hostname), word(&header.panicstring)] {
        if !word.is_empty() {
            told = format!("{told}, {word}");
        }
    }
    told
}

/// The file ends before its pages begin.
fn truncated(path: &Path, section: Section, missing: Option<String>) -> Failure {
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

fn output(error: &OutputError) -> Failure {
    match error {
        OutputError::Exists { path } => {
            Failure::new(format!("{} exists, and is not overwritten", path.display()))
                .next("another name, or --force")
        }
        OutputError::Io { path, source } => {
            let failure = Failure::new(format!(
                "writing {} failed: {}",
                path.display(),
                text::os_error(source)
            ));
            match source.kind() {
                std::io::ErrorKind::NotFound => {
                    failure.next(format!("mkdir -p {}, or another OUT", directory(path)))
                }
                std::io::ErrorKind::PermissionDenied => {
                    failure.next("another OUT, in a directory that can be written")
                }
                _ => failure.next(format!("df -h {}", directory(path))),
            }
        }
        error => Failure::new(error.to_string()).next("another OUT, which is a file"),
    }
}

/// Why a dump stays on its device.
fn not_saved(error: &SaveError) -> Failure {
    let save =
        |device: &Path, rest: &str| format!("vmcore save {} {rest}", text::shell_word(device));
    match error {
        SaveError::Device {
            device,
            what,
            source,
        } => {
            let failure = Failure::new(format!(
                "{what} {} failed: {}",
                device.display(),
                text::os_error(source)
            ));
            if source.kind() == std::io::ErrorKind::PermissionDenied {
                return failure.next(format!("sudo {}", save(device, "DIR")));
            }
            failure.next("vmcore save DEVICE DIR, with the partition that the kernel dumps to")
        }
        SaveError::Read { device, source, .. } => Failure::new(error.to_string())
            .line(text::os_error(source))
            .next("copy what can be read with ddrescue, then vmcore save COPY DIR")
            .line(format!("{} is as it was", device.display())),
        SaveError::SeveralDumps { device, partitions } => {
            let first = partitions.first().map_or("p1", String::as_str);
            Failure::new(error.to_string()).next(save(device, &format!("DIR --partition {first}")))
        }
        SaveError::NoSuchPartition {
            device,
            wanted,
            partitions,
        } => no_partition(device, wanted, partitions),
        SaveError::Unpack { device, .. } => Failure::new(error.to_string())
            .line(format!("{} is as it was", device.display()))
            .next(format!("{} (without -u: as it is)", save(device, "DIR"))),
        SaveError::Unsound { device, .. } => Failure::new(error.to_string())
            .next(save(device, "DIR --force"))
            .line("(what is saved may be damaged; its info file says so)"),
        SaveError::Impossible { .. } => Failure::new(error.to_string())
            .next("vmcore save DEVICE DIR, with the partition that the kernel dumped to"),
        SaveError::Directory { path, source } => {
            let sentence = format!("{}: {}", path.display(), text::os_error(source));
            let failure = Failure::new(sentence).line("the dump is still on its device");
            match source.kind() {
                std::io::ErrorKind::StorageFull
                | std::io::ErrorKind::FileTooLarge
                | std::io::ErrorKind::QuotaExceeded => {
                    failure.next("vmcore save DEVICE DIR, with a directory that has room")
                }
                _ => failure.next("vmcore save DEVICE DIR, with a directory that can be written"),
            }
        }
        SaveError::Busy { .. } => {
            Failure::new(error.to_string()).next("the same again, when that one is done")
        }
        SaveError::NoRoom { directory, .. } => Failure::new(error.to_string())
            .line("the dump is still on its device")
            .next(format!(
                "df -h {}; vmcore save DEVICE DIR",
                text::shell_word(directory)
            )),
        error => Failure::new(error.to_string()).next("vmcore save DEVICE DIR"),
    }
}

fn directory(path: &Path) -> String {
    match path.parent() {
        _ if path.is_dir() => text::shell_word(path),
        Some(parent) if !parent.as_os_str().is_empty() => text::shell_word(parent),
        _ => ".".to_owned(),
    }
}

/// Why nothing can be read at a virtual address.
pub(crate) fn unreadable(error: &TranslationError, context: &Context) -> Failure {
    let translate = |va: &dyn fmt::Display| context.proposal(&format!("translate {va}"));
    match error {
        TranslationError::NotMapped {
            va,
            entry,
            table,
            index,
            raw,
            ..
        } => Failure::new(format!("{va} is not mapped"))
            .line(format!("{entry} {index} of {table} is {raw:#x}, not valid"))
            .next(translate(va)),
        TranslationError::TableAbsent {
            va,
            entry,
            table,
            reason,
        } => Failure::new(format!(
            "{va} cannot be translated: its page table is not there"
        ))
        .line(format!("{entry} level, {table}: {reason}"))
        .next(if error.is_loss() {
            context.proposal("verify")
        } else {
            translate(va)
        }),
        TranslationError::PageAbsent {
            va,
            reason: reason @ PageReadError::Truncated { .. },
            ..
        } => Failure::new(format!("{va} is lost: the file ends before it"))
            .line(reason.to_string())
            .next(format!(
                "{}; copy the file again",
                context.proposal("verify")
            )),
        TranslationError::PageAbsent { va, reason, .. } if reason.is_loss() => {
            Failure::new(format!("{va} is lost"))
                .line(reason.to_string())
                .next(context.proposal("verify"))
        }
        TranslationError::PageAbsent { va, reason, .. } => {
            Failure::new(format!("{va} is not in the dump"))
                .line(reason.to_string())
                .next(translate(va))
        }
        TranslationError::NoWindow { va } | TranslationError::Outside { va } => {
            let failure = Failure::new(format!("{va} is not a kernel address of this dump"));
            let failure = match error {
                TranslationError::Outside { .. } => {
                    failure.line("it is past the end of the kernel map")
                }
                _ => failure
                    .line("user space, or a part of the address space that dumps do not describe"),
            };
            failure.next(context.proposal("info"))
        }
        other => Failure::new(other.to_string()).next(context.proposal("verify")),
    }
}

/// Why nothing can be read at a physical address.
pub(crate) fn absent(reason: &PageReadError, context: &Context) -> Failure {
    match reason {
        PageReadError::Truncated { pa, .. } => {
            Failure::new(format!("physical {pa} is lost: the file ends before it"))
                .line(reason.to_string())
                .next(format!(
                    "{}; copy the file again",
                    context.proposal("verify")
                ))
        }
        PageReadError::SectionTruncated { section } => truncated(
            context.dump().unwrap_or(Path::new("the dump")),
            *section,
            None,
        ),
        PageReadError::NotDumped { pa } | PageReadError::NotRam { pa } => {
            Failure::new(format!("physical {pa} is not in the dump"))
                .line(reason.to_string())
                .next(context.proposal("map"))
        }
        PageReadError::Lost { pa, .. } => Failure::new(format!("physical {pa} is lost"))
            .line(reason.to_string())
            .next(context.proposal("verify")),
        other => Failure::new(format!("the dump cannot be read: {other}"))
            .next(context.proposal("verify")),
    }
}

/// The key and the words for a hole, without its address.
pub(crate) fn hole(error: &TranslationError) -> (&'static str, &'static str) {
    match error {
        TranslationError::NoWindow { .. } => ("no_window", "no address of this kernel"),
        TranslationError::Outside { .. } => ("outside", "past the end of the kernel map"),
        TranslationError::NotMapped { .. } => ("not_mapped", "not mapped"),
        TranslationError::TableAbsent {
            reason: PageReadError::Truncated { .. } | PageReadError::SectionTruncated { .. },
            ..
        } => (
            "table_truncated",
            "page table lost: the file ends before it",
        ),
        TranslationError::TableAbsent {
            reason: PageReadError::Lost { .. },
            ..
        } => ("table_lost", "page table lost: its writer left it out"),
        TranslationError::TableAbsent {
            reason: PageReadError::Damaged { .. },
            ..
        } => (
            "table_damaged",
            "page table lost: the compressed file is damaged there",
        ),
        TranslationError::TableAbsent { .. } => ("table_absent", "page table not in the dump"),
        TranslationError::PageAbsent { reason, .. } => absence_of(reason),
        _ => ("other", "unreadable"),
    }
}

/// The key and the words for physical memory that is not there.
pub(crate) fn absence_of(reason: &PageReadError) -> (&'static str, &'static str) {
    match reason {
        PageReadError::NotRam { .. } => ("not_ram", "not RAM (a hole or device memory)"),
        PageReadError::NotDumped { .. } => {
            ("not_dumped", "not in the dump (free, user or no-dump)")
        }
        PageReadError::Truncated { .. } => ("truncated", "lost: the file ends before it"),
        PageReadError::SectionTruncated { .. } => {
            ("section_truncated", "lost: the bitmap is truncated")
        }
        PageReadError::Lost { .. } => ("lost", "lost: its writer left it out"),
        PageReadError::Damaged { .. } => ("damaged", "lost: the compressed file is damaged here"),
        PageReadError::Io { .. } => ("io_error", "the file cannot be read here"),
        _ => ("other", "unreadable"),
    }
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

/// How the kind of a dump is called.
pub(crate) const fn is_full(session: &Session) -> bool {
    matches!(session.dump().kind(), DumpFormat::Full(_))
}
