//! `savecore`: saving by the name, the options and the exit statuses of FreeBSD's tool, so that
//! boot scripts work unchanged. Messages go to standard error and to syslog.
//!
//! Live dumps need FreeBSD's own tool.

use super::tool;
use crate::text;
use clap::{ArgAction, Parser};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use vmcore_pipeline::compress::Method;
use vmcore_pipeline::save::{
    self, Clear, Clearing, Device, Event, Form, FoundDump, Options, Problem, Saved,
};

/// The table of swap and dump devices.
const FSTAB: &str = "/etc/fstab";
/// The only version of the dump header that FreeBSD's savecore takes without -f.
const HEADER_VERSION: u32 = 4;

/// FreeBSD's command line.
#[derive(Debug, Parser)]
#[command(
    name = "savecore",
    disable_version_flag = true,
    about = "Saves kernel dumps from their devices",
    override_usage = "savecore -c [-v] [device ...]\n       savecore -C [-v] [device ...]\n       \
                      savecore [-fkuvz] [-m max] [directory [device ...]]"
)]
struct Arguments {
    /// Only check: exit status 0 if there is a dump
    #[arg(short = 'C', conflicts_with_all = ["clear", "force", "keep"])]
    check: bool,
    /// Clear the dump and save nothing
    #[arg(short = 'c', conflicts_with_all = ["keep", "gzip", "zstd"])]
    clear: bool,
    /// Save in spite of damaged headers, or once more
    #[arg(short = 'f')]
    force: bool,
    /// Do not clear the dump after saving it
    #[arg(short = 'k')]
    keep: bool,
    /// Dump the running kernel: not possible here
    #[arg(short = 'L', conflicts_with_all = ["check", "clear", "keep", "unpack"])]
    live: bool,
    /// Wrap the number of the dump at this
    #[arg(short = 'm', value_name = "max", allow_negative_numbers = true, conflicts_with_all = ["check", "clear"])]
    max: Option<i64>,
    /// Decompress a dump that the kernel has compressed
    #[arg(short = 'u', conflicts_with_all = ["gzip", "zstd"])]
    unpack: bool,
    /// Say more
    #[arg(short = 'v', action = ArgAction::Count)]
    verbose: u8,
    /// Compress with gzip while saving
    #[arg(short = 'z')]
    gzip: bool,
    /// Compress a live dump
    #[arg(short = 'Z', requires = "live")]
    zstd: bool,
    /// Where to save to; then the devices, else those of /etc/fstab
    words: Vec<PathBuf>,
}

/// Priorities of syslog.
#[derive(Clone, Copy)]
enum Priority {
    Alert = 1,
    Error = 3,
    Warning = 4,
    Notice = 5,
    Info = 6,
}

/// What became of the devices so far.
#[derive(Debug, Default)]
struct Tally {
    found: u32,
    saved: u32,
    errors: u32,
}

/// Runs by the name `savecore`.
pub(crate) fn main() -> ExitCode {
    let arguments: Arguments = match tool::parse() {
        Ok(arguments) => arguments,
        Err(status) => return status,
    };
    if arguments.live {
        let live = "live dumps need the running kernel: use FreeBSD's own savecore -L";
        log(Priority::Error, live);
        return ExitCode::FAILURE;
    }
    if arguments.max.is_some_and(|max| max <= 0) {
        log(Priority::Error, "Invalid maxdump value");
        return ExitCode::FAILURE;
    }
    Run { arguments }.all()
}

const fn status(has_failed: bool) -> ExitCode {
    if has_failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Says something on standard error, and to syslog's daemon facility.
fn log(priority: Priority, words: &str) {
    tool::say("savecore", words);
    #[cfg(unix)]
    {
        const DAEMON: u8 = 3 << 3;
        let words = text::escape(words.as_bytes());
        let line = format!(
            "<{}>savecore[{}]: {words}",
            DAEMON | priority as u8,
            std::process::id()
        );
        let socket = std::os::unix::net::UnixDatagram::unbound();
        let Ok(socket) = socket.and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
        else {
            return;
        };
        for place in ["/var/run/logpriv", "/var/run/log", "/dev/log"] {
            if socket.send_to(line.as_bytes(), place).is_ok() {
                break;
            }
        }
    }
    #[cfg(not(unix))]
    let _ = priority;
}

/// One run over all devices.
struct Run {
    arguments: Arguments,
}

/// Whether to go on with the next device.
enum Next {
    Device,
    Exit(ExitCode),
}

impl Run {
    fn all(&self) -> ExitCode {
        let is_saving = !self.arguments.check && !self.arguments.clear;
        let (directory, devices) = match self.arguments.words.split_first() {
            Some((directory, devices)) if is_saving => (directory.as_path(), devices),
            _ => (Path::new("."), self.arguments.words.as_slice()),
        };
        if is_saving && let Err(error) = std::fs::read_dir(directory) {
            let place = directory.display();
            log(
                Priority::Error,
                &format!("chdir({place}): {}", text::os_error(&error)),
            );
            return ExitCode::FAILURE;
        }
        let devices = if devices.is_empty() {
            swap_devices(&std::fs::read_to_string(FSTAB).unwrap_or_default())
        } else {
            devices.iter().map(|device| device_path(device)).collect()
        };
        let mut tally = Tally::default();
        for device in devices {
            if let Next::Exit(status) = self.one(&device, directory, &mut tally) {
                return status;
            }
        }
        self.finish(&tally, directory)
    }

    fn finish(&self, tally: &Tally, directory: &Path) -> ExitCode {
        if tally.found == 0 {
            let words = if self.arguments.check {
                "No dump exists"
            } else {
                "no dumps found"
            };
            self.verbose(words);
            return status(self.arguments.check);
        }
        if tally.saved == 0 {
            self.verbose(if tally.errors > 0 {
                "unsaved dumps found but not saved"
            } else {
                "no unsaved dumps found"
            });
            return status(tally.errors > 0);
        }
        self.verbose(&format!(
            "{} cores saved in {}",
            tally.saved,
            directory.display()
        ));
        ExitCode::SUCCESS
    }

    fn verbose(&self, words: &str) {
        if self.arguments.verbose > 0 {
            log(Priority::Info, words);
        }
    }

    fn one(&self, path: &Path, directory: &Path, tally: &mut Tally) -> Next {
        let opened = Device::open(path).and_then(|device| Ok((device.find()?, device)));
        let (found, device) = match opened {
            Ok((Some(found), device)) => (found, device),
            Ok((None, _)) => {
                self.no_dump(path, self.arguments.force);
                return Next::Device;
            }
            Err(error) => {
                log(Priority::Error, &error.to_string());
                return Next::Device;
            }
        };
        if found.is_cleared() && !self.arguments.force {
            self.no_dump(path, false);
            return Next::Device;
        }
        let version = found.header().version;
        if version != HEADER_VERSION {
            let place = path.display();
            let words = format!("unknown version ({version}) in last dump header on {place}");
            log(Priority::Error, &words);
            if !self.arguments.force {
                return Next::Device;
            }
        }
        tally.found += 1;
        if self.arguments.clear {
            self.clear(&device, &found);
            return Next::Device;
        }
        let serious = |problem: &&Problem| !matches!(problem, Problem::Cleared);
        for problem in found.problems().iter().filter(serious) {
            tally.errors += 1;
            log(Priority::Error, &format!("{}: {problem}", path.display()));
        }
        let is_sound = found.problems().iter().find(serious).is_none();
        if !is_sound && !self.arguments.force {
            return Next::Device;
        }
        if self.arguments.check {
            // Nothing can be done if this fails.
            let _ = writeln!(std::io::stdout(), "A dump exists on {}", text::path(path));
            return Next::Exit(ExitCode::SUCCESS);
        }
        match self.save(&device, &found, directory) {
            Ok(saved) => {
                tally.saved += 1;
                self.verbose("dump saved");
                if self.arguments.verbose > 1 {
                    let _ = write!(std::io::stdout(), "{}", saved.info);
                }
            }
            Err(error) => {
                tally.errors += 1;
                log(Priority::Error, &error.to_string());
            }
        }
        Next::Device
    }

    /// Nothing waits on a device.
    fn no_dump(&self, path: &Path, is_forced: bool) {
        let place = path.display();
        self.verbose(&format!("magic mismatch on last dump header on {place}"));
        if is_forced {
            log(Priority::Error, "unable to force dump - bad magic");
        }
    }

    fn clear(&self, device: &Device, found: &FoundDump) {
        self.verbose("clearing dump header");
        if let Err(error) = save::clear(device, found) {
            log(
                Priority::Error,
                &format!("error while clearing the dump header: {error}"),
            );
        }
    }

    fn save(
        &self,
        device: &Device,
        found: &FoundDump,
        directory: &Path,
    ) -> Result<Saved, save::SaveError> {
        let header = found.header();
        match header.panicstring.trim_end() {
            "" => log(Priority::Alert, "reboot"),
            panic => log(Priority::Alert, &format!("reboot after panic: {panic}")),
        }
        let is_compressed = header.compression_name() != "none" && !header.is_text();
        let options = Options {
            force: self.arguments.force,
            clear: if self.arguments.keep {
                Clear::Never
            } else {
                Clear::Device
            },
            form: match (self.arguments.gzip, self.arguments.unpack) {
                (true, _) => Form::Packed(Method::Gzip),
                (_, true) => Form::Unpacked,
                _ => Form::AsIs,
            },
            maxdumps: self.arguments.max.and_then(|max| u64::try_from(max).ok()),
        };
        let kind = match (header.is_encrypted(), is_compressed) {
            (true, true) => "encrypted compressed core",
            (true, false) => "encrypted core",
            (false, true) => "compressed core",
            (false, false) => "core",
        };
        let saved = save::save(
            device,
            found,
            directory,
            &options,
            &mut |event| match event {
                Event::Remark(words) => self.verbose(words),
                Event::Warning(words) => log(Priority::Warning, words),
                Event::Copying { path } => {
                    log(
                        Priority::Notice,
                        &format!("writing {kind} to {}", path.display()),
                    );
                }
                Event::Clearing => self.verbose("clearing dump header"),
                _ => {}
            },
        )?;
        if saved.was_there {
            log(
                Priority::Notice,
                &format!("{} was there already", saved.core_file.display()),
            );
        }
        if let Clearing::Failed { .. } = saved.clearing {
            self.verbose("the dump stays on its device");
        }
        Ok(saved)
    }
}

/// A device's name, with `/dev/` before it.
fn device_path(word: &Path) -> PathBuf {
    if word.is_absolute() || word.starts_with(".") || word.starts_with("..") {
        return word.to_owned();
    }
    Path::new("/dev").join(word)
}

/// The devices of an fstab whose type is swap or dump.
fn swap_devices(fstab: &str) -> Vec<PathBuf> {
    let lines = fstab
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    lines
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let device = fields.next()?;
            let kind = fields.nth(1)?;
            matches!(kind, "swap" | "dump").then(|| device_path(Path::new(device)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;
    use clap::error::ErrorKind;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn combinations_that_freebsd_refuses_are_refused() {
        for line in [
            "-C -c", "-C -f", "-Ck", "-c -z", "-ck", "-cm 3", "-m 3 -C", "-z -u", "-Z", "-L -C",
            "-L -k", "-Lu", "-x", "-m",
        ] {
            let words = ["savecore"].into_iter().chain(line.split(' '));
            let error = Arguments::try_parse_from(words).unwrap_err();
            assert!(
                error.use_stderr() && error.kind() != ErrorKind::DisplayHelp,
                "{line}"
            );
        }
        for line in [
            "-vv",
            "-fkv -m10 /var/crash ada0p3",
            "-C ada0p3 ada1p3",
            "-cf",
            "-L -Z",
            "-z",
        ] {
            let words = ["savecore"].into_iter().chain(line.split(' '));
            assert!(Arguments::try_parse_from(words).is_ok(), "{line}");
        }
    }

    #[test]
    fn devices_come_from_fstab_by_their_type() {
        let fstab = "\
# Device        Mountpoint  FStype  Options  Dump  Pass
/dev/ada0p2     /           ufs     rw       1     1
/dev/ada0p3     none        swap    sw       0     0
gpt/dump        none        dump    sw       0     0 # for dumps
#/dev/ada1p3    none        swap    sw       0     0
/dev/ada2p3     swap
";
        let devices = swap_devices(fstab);
        assert_eq!(
            devices,
            [Path::new("/dev/ada0p3"), Path::new("/dev/gpt/dump")]
        );
        assert_eq!(device_path(Path::new("ada0p3")), Path::new("/dev/ada0p3"));
        assert_eq!(
            device_path(Path::new("./swap.img")),
            Path::new("./swap.img")
        );
    }
}
