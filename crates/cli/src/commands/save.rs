//! `vmcore save`: the dump on a device becomes `vmcore.N` and `info.N`.

use crate::advice::{Advice, Result, Run, opening};
use crate::context::Context;
use crate::files;
use crate::outcome::{Failure, Status};
use crate::output::{self, Style};
use crate::progress::Progress;
use crate::text;
use clap::Args;
use serde::Serialize;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use vmcore::dump::Completeness;
use vmcore_pipeline::compress::Method;
use vmcore_pipeline::save::{
    self, Clear, Clearing, Device, DeviceHeader, Event, Form, FoundDump, Options, Problem,
    SaveError, Saved,
};

/// Save a dump from its device or disk image: vmcore.N, info.N
#[derive(Debug, Args)]
#[command(
    override_usage = "vmcore save DEVICE [DIR] [OPTIONS]",
    after_help = "\
DEVICE is the partition that the kernel dumped to, or a file that is an image of it. Of a whole disk it
is the partition that ends in a dump, or the one that --partition names: p3, 3, s1b. The dump is
copied, with holes for zeros, and made durable; then it is marked on the device as saved. A file
is evidence: it is marked only with --clear. DIR/bounds holds the next number, DIR/minfree the KiB
that must stay free.

A compressed or encrypted dump stays as it is: vmcore.N.gz, vmcore.N.zst, or vmcore_encrypted.N
with key.N. -u expands what the kernel has compressed; -z and -Z compress any other. Every command
reads each as it is, fastest from -Z. A textdump becomes textdump.tar.N. A run that was stopped is finished by the next one.

--force saves a dump whose headers are damaged, or that was saved before.

By the name savecore the command takes FreeBSD's options: savecore [-fkv] [-m N] [DIR [DEVICE...]],
savecore -c|-C [-v] [DEVICE...]. There DIR comes first."
)]
pub(crate) struct Save {
    /// The device, or a file that is an image of it
    device: PathBuf,
    /// The directory [else this one]
    #[arg(value_name = "DIR", conflicts_with = "directory")]
    place: Option<PathBuf>,
    /// Only look: exit status 0 if a dump waits to be saved, else 1
    #[arg(long, conflicts_with_all = ["clear", "keep", "discard", "max"])]
    check: bool,
    /// Mark the dump as saved in a file, too
    #[arg(long, conflicts_with = "keep")]
    clear: bool,
    /// Do not mark the dump as saved
    #[arg(long)]
    keep: bool,
    /// Mark the dump as saved, and do not save it
    #[arg(long, conflicts_with_all = ["clear", "keep", "max"])]
    discard: bool,
    /// Compress with gzip: vmcore.N.gz
    #[arg(short = 'z', conflicts_with_all = ["zstd", "check", "discard"])]
    gzip: bool,
    /// Compress with zstd, for reading in place: vmcore.N.zst
    #[arg(short = 'Z', conflicts_with_all = ["check", "discard"])]
    zstd: bool,
    /// Expand a dump that the kernel has compressed: vmcore.N
    #[arg(short = 'u', conflicts_with_all = ["gzip", "zstd", "check", "discard"])]
    unpack: bool,
    /// Numbers start again at 0 when they reach N; the old dump of the number goes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max: Option<u64>,
}

/// The answer in JSON.
#[derive(Serialize)]
struct Answer<'a> {
    device: String,
    dumps: Vec<Entry<'a>>,
}

/// The dump on the device.
#[derive(Serialize)]
struct Entry<'a> {
    /// `waiting`, `saved`, `saved_before` or `discarded`.
    state: &'static str,
    problems: &'a [Problem],
    #[serde(flatten)]
    header: Option<&'a DeviceHeader>,
    #[serde(flatten)]
    saved: Option<&'a Saved>,
}

impl<'a> Entry<'a> {
    fn new(state: &'static str, found: &'a FoundDump) -> Self {
        Self {
            state,
            problems: found.problems(),
            header: Some(found.header()),
            saved: None,
        }
    }

    fn saved(found: &'a FoundDump, saved: &'a Saved) -> Self {
        Self {
            state: "saved",
            problems: found.problems(),
            // It is part of what is known of the saved dump.
            header: None,
            saved: Some(saved),
        }
    }
}

impl Run for Save {
    fn run(&self, context: &Context) -> Result<Status> {
        let partition = context.common().partition.as_deref();
        let (device, found) = Device::open(&self.device)?.search(partition)?;
        let Some(found) = found else {
            return nothing(context, self, &device);
        };
        let force = context.common().force;
        if found.is_cleared() && !force {
            return saved_before(context, self, &device, &found);
        }
        if self.discard {
            save::clear(&device, &found)?;
            return answer(
                context,
                &device,
                Some(Entry::new("discarded", &found)),
                || print(context, &device, &found, "marked as saved, and not saved"),
            );
        }
        if self.check {
            let problems = found.problems();
            if !problems.is_empty() && !force {
                let problems = problems.to_vec();
                let device = self.device.clone();
                return Err(save::SaveError::Unsound { device, problems }.into());
            }
            return answer(
                context,
                &device,
                Some(Entry::new("waiting", &found)),
                || print(context, &device, &found, "waits to be saved"),
            );
        }
        let common = context.common().directory.as_deref();
        let directory = self.place.as_deref().or(common).unwrap_or(Path::new("."));
        let options = Options {
            force,
            clear: match (self.clear, self.keep) {
                (true, _) => Clear::Always,
                (_, true) => Clear::Never,
                _ => Clear::Device,
            },
            form: match (self.gzip, self.zstd, self.unpack) {
                (true, ..) => Form::Packed(Method::Gzip),
                (_, true, _) => Form::Packed(Method::Zstd),
                (_, _, true) => Form::Unpacked,
                _ => Form::AsIs,
            },
            maxdumps: self.max,
        };
        let mut progress = Progress::new(context, "saving");
        let saved = save::save(
            &device,
            &found,
            directory,
            &options,
            &mut |event| match event {
                Event::Copied {
                    done_bytes,
                    total_bytes,
                } => progress.at(done_bytes, total_bytes),
                Event::Warning(words) => note(context, "warning: ", words),
                Event::Remark(words) if context.common().verbose => note(context, "", words),
                _ => {}
            },
        )?;
        drop(progress);
        if let Some(contents) = &saved.info.contents
            && !matches!(contents.completeness, Some(Completeness::Complete { .. }))
        {
            let file = text::shell_word(&saved.core_file);
            let words = "the kernel wrote less than the dump should have; try: vmcore verify";
            note(context, "warning: ", &format!("{words} {file}"));
        }
        answer(context, &device, Some(Entry::saved(&found, &saved)), || {
            print_saved(context, &device, &saved)
        })
    }
}

fn note(context: &Context, kind: &str, words: &str) {
    context.note(&format!("vmcore: {kind}{}", text::escape(words.as_bytes())));
}

/// Gives the answer in the form that was asked for.
fn answer(
    context: &Context,
    device: &Device,
    entry: Option<Entry<'_>>,
    print: impl FnOnce() -> Result<()>,
) -> Result<Status> {
    if context.common().json {
        let device = device.name();
        let dumps = entry.into_iter().collect();
        context.json(None, Answer { device, dumps })?;
    } else {
        print()?;
    }
    Ok(Status::Done)
}

/// There is no header of a dump.
fn nothing(context: &Context, args: &Save, device: &Device) -> Result<Status> {
    let mut failure = Failure::new(format!("no dump on {}", device.name()));
    if device.partition().is_none() && device.has_partition_table() {
        failure = failure.line("it is a whole disk: the dump is at the end of its swap partition");
    } else if device.partition().is_none() && files::is_dump(&args.device) {
        failure = failure
            .line("it is a dump itself, which every command reads as it is")
            .next(format!("vmcore info {}", text::shell_word(&args.device)));
    }
    absent(context, args, device, None, failure)
}

/// The dump was taken off the device before.
fn saved_before(
    context: &Context,
    args: &Save,
    device: &Device,
    found: &FoundDump,
) -> Result<Status> {
    let failure = Failure::new(format!("the dump on {} was saved before", device.name()))
        .next(again(args, "--force"));
    absent(
        context,
        args,
        device,
        Some(Entry::new("saved_before", found)),
        failure,
    )
}

/// Nothing waits, which is a failure only for who asked for it.
fn absent(
    context: &Context,
    args: &Save,
    device: &Device,
    entry: Option<Entry<'_>>,
    failure: Failure,
) -> Result<Status> {
    if args.check {
        return Err(failure.into());
    }
    answer(context, device, entry, || {
        let sentence = text::escape(failure.sentence().as_bytes());
        context.note(&format!("vmcore: {sentence}"));
        for line in failure.more() {
            context.note(&format!("  {}", text::escape(line.as_bytes())));
        }
        Ok(())
    })
}

/// This command line once more, with another option.
fn again(args: &Save, option: &str) -> String {
    let mut line = format!("vmcore save {}", text::shell_word(&args.device));
    if let Some(place) = &args.place {
        line = format!("{line} {}", text::shell_word(place));
    }
    format!("{line} {option}")
}

/// What the header says of a dump that is not saved now.
fn print(context: &Context, device: &Device, found: &FoundDump, state: &str) -> Result<()> {
    let mut out = context.out();
    let path = out.paint(Style::Strong, &text::escape(device.name().as_bytes()));
    writeln!(
        out,
        "{path}: a dump of {}, {state}",
        text::size(found.header().dumplength)
    )?;
    print_header(&mut out, found.header())?;
    for problem in found.problems() {
        print_line(&mut out, "problem", &problem.to_string())?;
    }
    Ok(out.finish()?)
}

fn print_saved(context: &Context, device: &Device, saved: &Saved) -> Result<()> {
    let mut out = context.out();
    let info = &saved.info;
    let path = out.paint(Style::Strong, &text::path(&saved.core_file));
    let mut what = text::size(info.header.dumplength);
    if let Some(contents) = &info.contents {
        let completeness = match contents.completeness {
            Some(Completeness::Complete { .. }) => ", complete",
            Some(_) => ", not complete",
            None => "",
        };
        what = format!("{}{completeness}, {what}", contents.dump_kind);
    }
    if saved.was_there {
        what += ", was there already";
    }
    writeln!(out, "{path}: {what}")?;
    print_header(&mut out, &info.header)?;
    if info.dump_status == save::Status::Bad {
        print_line(&mut out, "status", "bad: its headers are damaged")?;
    }
    let device = text::escape(device.name().as_bytes());
    let state = match &saved.clearing {
        Clearing::Cleared => format!("{device}, marked as saved"),
        Clearing::Kept => format!("{device}, not marked as saved"),
        Clearing::Image => format!("{device}, not changed (--clear marks it as saved)"),
        Clearing::Failed { .. } => format!("{device}, not marked as saved: that failed"),
    };
    print_line(&mut out, "from", &state)?;
    if saved.key_file.is_none() {
        let next = format!("vmcore info {}", text::shell_word(&saved.core_file));
        writeln!(out, "  {}", out.paint(Style::Faint, &next))?;
    }
    Ok(out.finish()?)
}

fn print_header(out: &mut output::Out, header: &DeviceHeader) -> Result<()> {
    print_line(out, "panic", &header.panicstring)?;
    print_line(
        out,
        "version",
        header.versionstring.lines().next().unwrap_or_default(),
    )?;
    print_line(out, "host", &header.hostname)?;
    print_line(out, "crashed", &header.time())
}

fn print_line(out: &mut output::Out, label: &str, value: &str) -> Result<()> {
    let value = value.trim_end();
    if !value.is_empty() {
        let label = out.paint(Style::Label, &format!("{label:<9}"));
        writeln!(out, "  {label} {}", text::escape(value.as_bytes()))?;
    }
    Ok(())
}

impl Advice for SaveError {
    fn advice(&self, _: &Context) -> Failure {
        let save =
            |device: &Path, rest: &str| format!("vmcore save {} {rest}", text::shell_word(device));
        match self {
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
            SaveError::Read { device, source, .. } => Failure::new(self.to_string())
                .line(text::os_error(source))
                .next("copy what can be read with ddrescue, then vmcore save COPY DIR")
                .line(format!("{} is as it was", device.display())),
            SaveError::SeveralDumps { device, partitions } => {
                let first = partitions.first().map_or("p1", String::as_str);
                Failure::new(self.to_string())
                    .next(save(device, &format!("DIR --partition {first}")))
            }
            SaveError::NoSuchPartition {
                device,
                wanted,
                partitions,
            } => opening::no_partition(device, wanted, partitions),
            SaveError::Unpack { device, .. } => Failure::new(self.to_string())
                .line(format!("{} is as it was", device.display()))
                .next(format!("{} (without -u: as it is)", save(device, "DIR"))),
            SaveError::Unsound { device, .. } => Failure::new(self.to_string())
                .next(save(device, "DIR --force"))
                .line("(what is saved may be damaged; its info file says so)"),
            SaveError::Impossible { .. } => Failure::new(self.to_string())
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
                    _ => {
                        failure.next("vmcore save DEVICE DIR, with a directory that can be written")
                    }
                }
            }
            SaveError::Busy { .. } => {
                Failure::new(self.to_string()).next("the same again, when that one is done")
            }
            SaveError::NoRoom { directory, .. } => Failure::new(self.to_string())
                .line("the dump is still on its device")
                .next(format!(
                    "df -h {}; vmcore save DEVICE DIR",
                    text::shell_word(directory)
                )),
            _ => Failure::new(self.to_string()).next("vmcore save DEVICE DIR"),
        }
    }
}
