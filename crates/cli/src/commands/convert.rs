//! `vmcore convert`: the dump in another format.

use super::convert_out::Out;
use super::gdb::{stock, write_frames};
use super::{convert_bytes, convert_dump};
use crate::advice::{Advice, Result, Run};
use crate::context::{Context, KernelUse};
use crate::help;
use crate::outcome::{Failure, Status};
use crate::output::Style;
use crate::progress::Progress;
use crate::signals;
use crate::text::{self, counted};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use vmcore::registers::PcbLayout;
use vmcore::{OpenOptions, Session, SessionError};
use vmcore_debug::gdb::{commands, frames, lldb};
use vmcore_debug::{DebugFiles, Target};
use vmcore_pipeline::compress::Method;
use vmcore_pipeline::elf::{self, ConvertError, Converted};
use vmcore_pipeline::output::OutputFile;
use vmcore_pipeline::rewrite;

/// Convert to an ELF core, minidump or full dump; compress
#[derive(Debug, Args)]
#[command(
    override_usage = "vmcore convert [FILE] OUT [--to FORMAT] [--compress METHOD] [OPTIONS]",
    after_help = help::with_files("\
OUT is created for its owner alone, and not overwritten without --force.

To elf: any dump. With the kernel file it has the registers of all threads, the crashed one first. The
commands that open it in gdb and in lldb are shown. Beside OUT is OUT.frames.elf then, a small file
that leads gdb through trap frames; it is loaded before the kernel. Without `set osabi` gdb 13 ends itself
at kernels that name FreeBSD in their files. lldb takes the kernel by `script` only: the notes of the
core are Linux', and target create wants those of the system that the kernel file names. (Notes of both
kinds make gdb see each thread twice, and lose the one that crashed.) It ends itself at cores of
big-endian machines: vmcore gdb --lldb. gdb before release 14 stops at the first signed return address
of arm64: vmcore gdb does not, on the dump itself.

Registers that a dump does not have are 0 in the core: the format cannot say \"unknown\".

To minidump, to full: a full dump of amd64, arm or i386, or the memory file of a virtual machine of
amd64 or i386 (QEMU's monitor writes one: dump-guest-memory FILE). With the kernel file a minidump has
the pages that the kernel itself would have chosen, by its page tables and its bitmap; without it, or
if it has no such bitmap, all RAM, and on arm and i386 what the page tables map. Pages that their owners
marked as not to be dumped are kept where they are mapped.
A full dump needs its kernel file to become a minidump, a virtual machine's file does not.

To plain: the same bytes without what is around them: compression, encryption (--key), disk, device.

--compress zstd writes frames that are read one by one: every command reads OUT in place, a page in
the time of a frame. zstd -d unpacks it. --compress gzip is for tools that know nothing else. With --to
FORMAT the dump is written in that format beside OUT first, so there must be room for both.

Exit status 3: converted, but pages are missing because the dump is truncated.")
)]
pub(crate) struct Convert {
    /// The dump, and its kernel file if you like; then the file to write
    #[arg(hide = true)]
    words: Vec<OsString>,
    /// The format: elf, minidump, full, plain
    #[arg(long, value_name = "FORMAT", required_unless_present = "compress")]
    to: Option<Format>,
    /// Compressed: zstd or gzip; without --to the same dump
    #[arg(long, value_name = "METHOD")]
    compress: Option<Packing>,
}

/// Compressors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Packing {
    /// zstd in frames.
    Zstd,
    /// gzip.
    Gzip,
}

/// Formats that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// An ELF core, for gdb and everything else that reads ELF.
    Elf,
    /// A minidump, as the kernel would have written it.
    Minidump,
    /// A full dump, as the kernel would have written it.
    Full,
    /// The same bytes, without what is around them.
    Plain,
}

/// The answer in JSON.
#[derive(Serialize)]
struct Answer<'a> {
    to: &'static str,
    file: String,
    len_bytes: u64,
    segments: u64,
    pages: u64,
    truncated_pages: u64,
    unreachable_pages: u64,
    thread: Option<i32>,
    threads: u64,
    kernel: Option<&'a str>,
    frames: Option<String>,
    compressed: Option<Method>,
    expanded_bytes: u64,
}

impl Run for Convert {
    fn run(&self, context: &Context) -> Result<Status> {
        signals::clean_up_when_ended();
        let out = context.choose_with(&self.words, "OUT")?;
        let out = Path::new(&out);
        let method = self.compress.map(|packing| match packing {
            Packing::Zstd => Method::Zstd,
            Packing::Gzip => Method::Gzip,
        });
        let format = match (self.to, method) {
            (Some(Format::Plain), Some(_)) => {
                let words = "--to plain takes the compression away, and --compress compresses";
                return Err(Failure::usage(words).line("give one of them").into());
            }
            (None | Some(Format::Plain), method) => {
                return convert_bytes::run(context, method, out);
            }
            (Some(format), _) => format,
        };
        let session = context.open(KernelUse::Symbols, &OpenOptions::default())?;
        let out = Out::new(context, out, method)?;
        match format {
            Format::Minidump => {
                convert_dump::run(context, &session, rewrite::TargetFormat::Minidump, out)
            }
            Format::Full => convert_dump::run(context, &session, rewrite::TargetFormat::Full, out),
            Format::Elf | Format::Plain => to_elf(context, &session, out),
        }
    }
}

fn to_elf(context: &Context, session: &Session, out: Out<'_>) -> Result<Status> {
    let force = context.common().force;
    // gdb reads no compressed core, and a kernel that it cannot use is no reason to refuse the core.
    let files = DebugFiles::of(session).ok();
    let target = files.as_ref().filter(|_| out.method().is_none());
    let target = target.and_then(|files| Target::new(session, files).ok());
    let bytes = target.as_ref().and_then(frames::for_gdb);
    let frames = bytes.map(|bytes| (beside(out.plain()), bytes));
    if let Some((path, _)) = &frames
        && path.symlink_metadata().is_ok()
    {
        // Whether it may be replaced is told before the work begins.
        drop(OutputFile::create(path, force)?);
    }
    let mut progress = Progress::new(context, "writing");
    let converted = elf::convert(session, out.plain(), force, |done, total| {
        progress.at(done, total);
    })?;
    drop(progress);
    if let Some((path, bytes)) = &frames {
        write_frames(path, force, bytes)?;
    }
    let frames = frames.map(|(path, _)| path);
    let method = out.method();
    let packed = out.finish(context, converted.len_bytes)?;
    let converted = Converted {
        path: packed.path,
        len_bytes: packed.len_bytes,
        ..converted
    };
    let kernel = session
        .kernel()
        .map(|kernel| kernel.path().display().to_string());
    if context.common().json {
        let answer = Answer {
            to: "elf",
            file: converted.path.display().to_string(),
            len_bytes: converted.len_bytes,
            segments: converted.segments,
            pages: converted.pages,
            truncated_pages: converted.truncated_pages,
            unreachable_pages: converted.unreachable_pages,
            thread: converted.thread,
            threads: converted.threads,
            kernel: kernel.as_deref(),
            frames: frames.map(|path| path.display().to_string()),
            compressed: method,
            expanded_bytes: packed.expanded_bytes,
        };
        context.json(Some(session.dump()), answer)?;
    } else {
        print(context, session, &converted)?;
        print_next(
            context,
            session,
            &converted.path,
            target.as_ref(),
            frames.as_deref(),
        )?;
    }
    if converted.truncated_pages > 0 {
        let lost = counted(converted.truncated_pages, "page is", "pages are");
        context.note(&format!(
            "vmcore: {lost} missing in the core: the dump is truncated before them"
        ));
        return Ok(Status::Incomplete);
    }
    Ok(Status::Done)
}

/// Where the file that leads gdb through trap frames is: beside the core.
fn beside(core: &Path) -> PathBuf {
    let mut name = core.as_os_str().to_owned();
    name.push(".frames.elf");
    name.into()
}

/// What to type to open the core.
fn print_next(
    context: &Context,
    session: &Session,
    core: &Path,
    target: Option<&Target<'_>>,
    frames: Option<&Path>,
) -> Result<()> {
    let mut out = context.out();
    let word = text::shell_word(core);
    let typed = |program: &str, option: &str, commands: Vec<String>| {
        let mut line = program.to_owned();
        for command in commands {
            line += &format!(" {option} {}", text::shell_word(Path::new(&command)));
        }
        line
    };
    let next = match target.filter(|target| !target.files().kernel_is_packed()) {
        Some(target) => {
            let kernel = target.files().kernel_path();
            let mut gdb = commands::load(target, commands::OSABI_CORE, kernel, frames);
            // The one name that gdb takes as it is, without quotes.
            gdb.push(format!("core-file {}", core.display()));
            let mut lines = vec![typed(stock(target.machine()), "-ex", gdb)];
            if let Some(lldb) = lldb::core_commands(target, kernel) {
                lines.push(typed(&format!("lldb -c {word}"), "-o", lldb));
            }
            lines
        }
        // Neither reads a compressed core or kernel.
        None => {
            let kernel = session
                .kernel()
                .map(|kernel| text::shell_word(kernel.path()));
            vec![format!(
                "vmcore gdb {word} -k {}",
                kernel.as_deref().unwrap_or("KERNEL")
            )]
        }
    };
    for line in next {
        writeln!(out, "  {}", out.paint(Style::Faint, &line))?;
    }
    Ok(out.finish()?)
}

fn why_no_registers(session: &Session) -> &'static str {
    match session.matching_kernel() {
        Err(SessionError::NoKernel { .. }) => "they need the kernel file (-k)",
        Err(_) => "the kernel file is another kernel's",
        Ok(_) if !PcbLayout::of(session.dump().arch(), None).is_known() => {
            "it is not known where kernels of this architecture save them"
        }
        Ok(_) => "the thread that crashed was not found",
    }
}

fn print(context: &Context, session: &Session, converted: &Converted) -> Result<()> {
    let mut out = context.out();
    let file = out.paint(Style::Strong, &text::path(&converted.path));
    writeln!(
        out,
        "{file}: {}, {}, {}",
        text::size(converted.len_bytes),
        counted(converted.segments, "segment", "segments"),
        counted(
            converted.pages - converted.truncated_pages.min(converted.pages),
            "page",
            "pages"
        ),
    )?;
    if converted.unreachable_pages > 0 {
        let lost = counted(converted.unreachable_pages, "page is", "pages are");
        writeln!(
            out,
            "  {lost} in no segment: no known virtual address leads there"
        )?;
    }
    let registers = counted(converted.threads, "thread", "threads");
    match converted.thread {
        Some(tid) => writeln!(out, "  registers of {registers}; {tid} crashed")?,
        None if converted.threads > 0 => writeln!(out, "  registers of {registers}")?,
        None => writeln!(out, "  no registers: {}", why_no_registers(session))?,
    }
    if converted.signed_addresses {
        let words = "gdb before release 14 stops at the first one; vmcore gdb and lldb do not";
        writeln!(out, "  return addresses are signed: {words}")?;
    }
    Ok(out.finish()?)
}

impl Advice for ConvertError {
    fn advice(&self, context: &Context) -> Failure {
        match self {
            Self::Session(error) => error.advice(context),
            Self::Absent(reason) => reason.advice(context),
            Self::Output(error) => error.advice(context),
            _ => Failure::new(self.to_string()),
        }
    }
}
