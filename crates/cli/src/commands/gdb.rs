//! `vmcore gdb`: stock gdb or lldb on the dump.
//!
//! The debugger runs without the user's start-up files, and connects to the stub over a socket in a
//! private directory; on systems without such sockets, over the loopback interface.

use crate::advice::{Result, Run};
use crate::context::{Context, KernelUse};
use crate::debug_files::ModulePlaces;
use crate::help;
use crate::outcome::{Failure, Status};
use crate::text;
use clap::Args;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use vmcore::OpenOptions;
use vmcore_debug::Target;
use vmcore_debug::arch::Machine;
use vmcore_debug::gdb::{self, Stub, commands, frames, lldb};
use vmcore_debug::report;
use vmcore_pipeline::output::OutputFile;

/// gdb or lldb on the dump, with all its threads
#[derive(Debug, Args)]
#[command(
    override_usage = "vmcore gdb [FILE] [OPTIONS] [-- ARGS]",
    after_help = help::with_files("\
Needs the kernel file. ARGS go to the debugger: vmcore gdb vmcore.0 -- -batch -ex bt. It reads no
start-up files and no scripts of the kernel's, cannot resume, and cannot write. In gdb: monitor
report, log, ps, locks, info; in lldb: process plugin packet monitor ps. Memory that is not in the
dump is an error, not zeros. With --listen, --frames FILE writes a small ELF file that makes gdb unwind
through trap frames; it is loaded before the kernel (the commands are shown). On arm64 gdb gets return
addresses without their signatures; vmcore read shows them raw.")
)]
pub(crate) struct Gdb {
    /// The dump, and its kernel file, in either order
    #[arg(hide = true)]
    words: Vec<OsString>,
    /// Start lldb
    #[arg(long)]
    lldb: bool,
    /// Start this program [else gdb, or lldb]
    #[arg(long, value_name = "PROGRAM")]
    program: Option<OsString>,
    /// Do not start a debugger; listen on PORT of the loopback interface, or on HOST:PORT
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["lldb", "program", "args"])]
    listen: Option<String>,
    /// With --listen: write the file for gdb to unwind through trap frames
    #[arg(long, value_name = "FILE", requires = "listen")]
    frames: Option<PathBuf>,
    #[command(flatten)]
    places: ModulePlaces,
    /// Arguments of the debugger
    #[arg(last = true, hide = true)]
    args: Vec<OsString>,
}

impl Run for Gdb {
    fn run(&self, context: &Context) -> Result<Status> {
        context.choose(&self.words, 0..=0, "")?;
        if context.common().json {
            return Err(Failure::usage("gdb has no answer to give in JSON").into());
        }
        let session = context.open(KernelUse::Symbols, &OpenOptions::default())?;
        let files = self.places.open(&session)?;
        let target = Target::new(&session, &files)?;
        let list = target.processes()?;
        let mut stub = Stub::new(&target, &list);
        for problem in report::alike_once(list.problems.clone()) {
            let problem = text::escape(problem.as_bytes());
            context.note(&format!("vmcore: a list breaks off: {problem}"));
        }
        match &self.listen {
            Some(address) => listen(context, self, &mut stub, &target, address),
            None => debug(context, self, &mut stub, &target),
        }
    }
}

/// Serves the debuggers that connect, one at a time.
fn listen(
    context: &Context,
    args: &Gdb,
    stub: &mut Stub<'_, '_>,
    target: &Target<'_>,
    address: &str,
) -> Result<Status> {
    let place = if address.contains(':') {
        address.to_owned()
    } else {
        format!("127.0.0.1:{address}")
    };
    let refused = |error: &io::Error| {
        Failure::new(format!(
            "{}: {}",
            text::escape(place.as_bytes()),
            text::os_error(error)
        ))
        .next(context.suggest_again("--listen 0"))
    };
    let listener = TcpListener::bind(&place).map_err(|error| refused(&error))?;
    let local = listener.local_addr()?;
    let written = match (&args.frames, frames::for_gdb(target)) {
        (Some(path), Some(bytes)) => {
            write_frames(path, context.common().force, &bytes)?;
            Some(path.as_path())
        }
        (Some(_), None) => {
            context.note("vmcore: no frames file: gdb needs none for this kernel");
            None
        }
        (None, _) => None,
    };
    let files = target.files();
    let kernel = match files.kernel_is_packed() {
        true => Path::new("KERNEL"),
        false => files.kernel_path(),
    };
    let mut out = context.out();
    writeln!(out, "serving {local}; in gdb:")?;
    for line in commands::load(target, commands::OSABI_STUB, kernel, written) {
        writeln!(out, "  {}", text::escape(line.as_bytes()))?;
    }
    writeln!(out, "  target remote {local}")?;
    if files.kernel_is_packed() {
        let packed = text::path(files.kernel_path());
        writeln!(out, "KERNEL is what {packed} expands to")?;
    }
    out.finish()?;
    loop {
        let (stream, _) = listener.accept()?;
        let served = serve(stub, &stream);
        if let Err(error) = served {
            context.note(&format!("vmcore: a connection broke: {error}"));
        }
    }
}

/// Writes what leads gdb through trap frames.
pub(super) fn write_frames(path: &Path, force: bool, bytes: &[u8]) -> Result<()> {
    let mut output = OutputFile::create(path, force)?;
    let written = output.file().write_all(bytes);
    written.map_err(|error| output.error(error))?;
    Ok(output.commit()?)
}

fn serve(stub: &mut Stub<'_, '_>, stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    gdb::serve(stub, stream, stream)
}

/// Starts a debugger, and serves it until it ends.
fn debug(
    context: &Context,
    args: &Gdb,
    stub: &mut Stub<'_, '_>,
    target: &Target<'_>,
) -> Result<Status> {
    let directory = tempfile::Builder::new().prefix("vmcore").tempdir();
    let directory = directory.map_err(|error| {
        Failure::new(format!(
            "no directory for temporary files: {}",
            text::os_error(&error)
        ))
        .next(format!("TMPDIR=DIR {}", context.suggest("gdb")))
    })?;
    let frames = directory.path().join("frames");
    let frames = match frames::for_gdb(target) {
        Some(bytes) if !args.lldb => {
            std::fs::write(&frames, bytes)?;
            Some(frames)
        }
        _ => None,
    };
    let private = Private::new(directory.path())?;
    let kernel = target.files().plain_kernel(directory.path())?;
    let program = match (&args.program, args.lldb) {
        (Some(program), _) => program.clone(),
        (None, true) => "lldb".into(),
        (None, false) => stock(target.machine()).into(),
    };
    let mut command = Command::new(program);
    if args.lldb {
        command.arg("--no-lldbinit");
        for line in lldb::commands(target, &kernel, &private.for_lldb()) {
            command.args(["-o", &line]);
        }
    } else {
        command.args(["-nx", "-iex", "set auto-load no", "-iex", "set sysroot"]);
        for line in commands::load(target, commands::OSABI_STUB, &kernel, frames.as_deref()) {
            command.args(["-ex", &line]);
        }
        command.args(["-ex", &format!("target remote {}", private.for_gdb())]);
        command.args(["-ex", "set confirm on"]);
    }
    command.args(&args.args);
    // A terminal sends the interrupt to the debugger and to us: it is the debugger's.
    #[cfg(unix)]
    signal_hook::flag::register(signal_hook::consts::SIGINT, Default::default())?;
    let mut child = command
        .spawn()
        .map_err(|error| not_started(args, &command, &error))?;
    let ended = AtomicBool::new(false);
    let status = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let status = child.wait();
            ended.store(true, Ordering::SeqCst);
            private.wake();
            status
        });
        while !ended.load(Ordering::SeqCst) {
            // A connection that breaks is the debugger's to tell.
            if private.serve_one(stub).is_err() && ended.load(Ordering::SeqCst) {
                break;
            }
        }
        waiting.join()
    });
    let status = status.map_err(|_| Failure::new("the debugger's exit status was lost"))??;
    if status.success() {
        return Ok(Status::Done);
    }
    Err(Failure::new(format!("the debugger ended with {status}")).into())
}

/// The gdb that knows a machine: for other processors than our own, the one for all.
pub(super) fn stock(machine: &Machine) -> &'static str {
    let own = machine.has_gdb_of(std::env::consts::ARCH);
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let has_multiarch =
        || std::env::split_paths(&paths).any(|path| path.join("gdb-multiarch").is_file());
    if !own && has_multiarch() {
        return "gdb-multiarch";
    }
    "gdb"
}

fn not_started(args: &Gdb, command: &Command, error: &io::Error) -> Failure {
    let program = text::path(Path::new(command.get_program()));
    let failure = Failure::new(format!("{program}: {}", text::os_error(error)));
    let other = if args.lldb { "gdb" } else { "gdb --lldb" };
    failure.next(format!(
        "vmcore {other}; or --program PROGRAM; or --listen 1234, and a debugger elsewhere"
    ))
}

/// The address of the stub, private to the debugger that is started.
#[cfg(unix)]
struct Private {
    path: std::path::PathBuf,
    listener: std::os::unix::net::UnixListener,
}

#[cfg(unix)]
impl Private {
    /// A socket in a directory that is ours alone.
    fn new(directory: &Path) -> io::Result<Self> {
        let path = directory.join("stub");
        let listener = std::os::unix::net::UnixListener::bind(&path)?;
        Ok(Self { path, listener })
    }

    fn for_gdb(&self) -> String {
        self.path.display().to_string()
    }

    fn for_lldb(&self) -> String {
        format!("unix-connect://{}", self.path.display())
    }

    fn serve_one(&self, stub: &mut Stub<'_, '_>) -> io::Result<()> {
        let (stream, _) = self.listener.accept()?;
        gdb::serve(stub, &stream, &stream)
    }

    /// Ends a wait for a connection that will not come.
    fn wake(&self) {
        let _ = std::os::unix::net::UnixStream::connect(&self.path);
    }
}

/// Where the debugger finds us: nothing private is to be had here.
#[cfg(not(unix))]
struct Private {
    listener: TcpListener,
    address: std::net::SocketAddr,
}

#[cfg(not(unix))]
impl Private {
    fn new(_: &Path) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    fn for_gdb(&self) -> String {
        self.address.to_string()
    }

    fn for_lldb(&self) -> String {
        format!("connect://{}", self.address)
    }

    fn serve_one(&self, stub: &mut Stub<'_, '_>) -> io::Result<()> {
        let (stream, _) = self.listener.accept()?;
        serve(stub, &stream)
    }

    fn wake(&self) {
        let _ = TcpStream::connect(self.address);
    }
}
