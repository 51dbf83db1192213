//! A virtual machine: QEMU as a child, its serial line as text, its monitor for what no keyboard has.

use crate::{Result, shell};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// What both of the kernel's prompts look like.
const PROMPTS: [&str; 2] = ["lab# ", "db> "];

/// A machine to be started.
pub(super) struct Boot {
    pub(super) memory: String,
    pub(super) cpus: String,
    pub(super) cpu: Option<String>,
    /// `pc` or `q35`.
    pub(super) board: &'static str,
    pub(super) tunables: Vec<String>,
    /// QEMU's `-drive` of the dump disk; empty for none.
    pub(super) drive: String,
    /// Whether it has a network, on which the host is 10.0.2.2.
    pub(super) network: bool,
    /// A file with the key of encrypted dumps.
    pub(super) dump_key: Option<PathBuf>,
    /// More words of QEMU's command line.
    pub(super) extra: &'static str,
}

impl Default for Boot {
    fn default() -> Self {
        Self {
            memory: "256M".to_owned(),
            cpus: "2".to_owned(),
            cpu: None,
            board: "q35",
            tunables: Vec::new(),
            drive: String::new(),
            network: false,
            dump_key: None,
            extra: "",
        }
    }
}

/// The `-drive` of a raw image.
pub(super) fn plain_drive(image: &Path) -> String {
    format!("file={},format=raw", image.display())
}

/// The `-drive` of a raw image in which zeros become holes: full dumps are mostly zeros.
pub(super) fn raw_drive(image: &Path) -> String {
    format!("{},discard=unmap,detect-zeroes=unmap", plain_drive(image))
}

/// QEMU's command line, without the serial line and the monitor.
fn qemu(boot: &Boot, kernel: &Path) -> Command {
    let mut qemu = Command::new("qemu-system-x86_64");
    // Said outright: a KVM device that can be opened need not work.
    qemu.args([
        "-accel",
        "tcg",
        "-machine",
        boot.board,
        "-m",
        &boot.memory,
        "-smp",
        &boot.cpus,
    ]);
    qemu.args(["-display", "none", "-nodefaults", "-no-reboot"]);
    qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(kernel);
    let mut tunables = boot.tunables.join(" ");
    if boot.network {
        // QEMU's own router: what is sent to the host's address reaches its loopback.
        tunables += " net.dump.client=10.0.2.15 net.dump.server=10.0.2.2";
        qemu.args(["-netdev", "user,id=net"]);
        qemu.args(["-device", "virtio-net-pci,netdev=net,romfile="]);
    }
    qemu.args(["-append", &tunables]);
    if let Some(file) = &boot.dump_key {
        qemu.arg("-fw_cfg")
            .arg(format!("name=opt/lab/dumpkey,file={}", file.display()));
    }
    if let Some(cpu) = &boot.cpu {
        qemu.args(["-cpu", cpu]);
    }
    if !boot.drive.is_empty() {
        qemu.args(["-drive", &format!("{},if=none,id=dump", boot.drive)]);
        // Requests are served by a thread of their own: QEMU's main one holds the lock that the
        // processors need.
        qemu.args(["-object", "iothread,id=disk"]);
        qemu.args([
            "-device",
            "virtio-blk-pci,drive=dump,werror=report,iothread=disk",
        ]);
    }
    qemu.args(boot.extra.split_whitespace());
    qemu
}

/// A machine whose serial line is the terminal.
pub(super) fn interactive(boot: &Boot, kernel: &Path) -> Command {
    let mut qemu = qemu(boot, kernel);
    qemu.args(["-serial", "mon:stdio"]);
    qemu
}

/// A running machine; it ends with the value.
pub(super) struct Machine {
    child: Child,
    line: ChildStdin,
    output: Receiver<Vec<u8>>,
    log: File,
    monitor: PathBuf,
    /// What the kernel said since the last wait.
    pending: String,
    /// Whether the person sees what it says.
    pub(super) echo: bool,
}

impl Machine {
    /// Starts a machine; everything it says is kept in `log`.
    pub(super) fn start(boot: &Boot, kernel: &Path, log: &Path) -> Result<Self> {
        let monitor = log.with_extension("qmp");
        let failed = |error| format!("{}: {error}", log.display());
        let mut qemu = qemu(boot, kernel);
        qemu.args(["-serial", "stdio", "-monitor", "none"]);
        qemu.arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", monitor.display()));
        qemu.stdin(Stdio::piped()).stdout(Stdio::piped());
        qemu.stderr(File::create(log.with_extension("stderr")).map_err(failed)?);
        let mut child = qemu
            .spawn()
            .map_err(|error| shell::no_start(&qemu, &error))?;
        let (Some(line), Some(mut serial)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("QEMU has no serial line".to_owned());
        };
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len @ 1..) = serial.read(&mut bytes) {
                if sender.send(bytes[..len].to_vec()).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            child,
            line,
            output,
            log: File::create(log).map_err(failed)?,
            monitor,
            pending: String::new(),
            echo: false,
        })
    }

    /// Types something.
    pub(super) fn send(&mut self, text: &str) -> Result {
        let sent = self
            .line
            .write_all(text.as_bytes())
            .and_then(|()| self.line.flush());
        sent.map_err(|error| format!("the machine does not listen: {error}"))
    }

    /// Waits until the kernel has said one of `wanted`, and returns all it said up to there.
    pub(super) fn expect(&mut self, wanted: &[&str], limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        let longest = wanted.iter().map(|text| text.len()).max().unwrap_or(0);
        // The line delivers byte by byte: what was looked at is not looked at again.
        let mut from = 0;
        loop {
            let ends = wanted
                .iter()
                .filter_map(|text| Some(from + self.pending[from..].find(text)? + text.len()));
            let end = ends.min();
            let seen = self.pending.len().saturating_sub(longest);
            from = self.pending.floor_char_boundary(seen);
            if let Some(end) = end {
                let rest = self.pending.split_off(end);
                return Ok(std::mem::replace(&mut self.pending, rest));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.take(&bytes)?,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("no {wanted:?} within {}", shell::human(limit)));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(format!("the machine ended before it said {wanted:?}"));
                }
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result {
        self.log
            .write_all(bytes)
            .map_err(|error| format!("serial log: {error}"))?;
        let text = String::from_utf8_lossy(bytes).replace('\r', "");
        if self.echo {
            print!("{text}");
            std::io::stdout()
                .flush()
                .map_err(|error| error.to_string())?;
        }
        self.pending += &text;
        Ok(())
    }

    /// Waits for a prompt.
    pub(super) fn prompt(&mut self, limit: Duration) -> Result<String> {
        self.expect(&PROMPTS, limit)
    }

    /// Types a command at the prompt, and returns what came of it.
    pub(super) fn command(&mut self, command: &str, limit: Duration) -> Result<String> {
        self.send(&format!("{command}\r"))?;
        self.prompt(limit)
            .map_err(|error| format!("{command}: {error}"))
    }

    /// Tells the monitor something that has no arguments, such as `inject-nmi`.
    pub(super) fn monitor(&mut self, command: &str) -> Result {
        self.execute(&format!("{{\"execute\": \"{command}\"}}"))
    }

    /// Has QEMU write the machine's memory to a file.
    pub(super) fn write_memory_file(&mut self, to: &Path) -> Result {
        let to = std::path::absolute(to).map_err(|error| format!("{}: {error}", to.display()))?;
        self.execute(&format!(
            "{{\"execute\": \"dump-guest-memory\", \"arguments\": \
             {{\"paging\": false, \"protocol\": \"file:{}\"}}}}",
            to.display()
        ))
    }

    /// Has the monitor execute a command, and waits until it has.
    fn execute(&mut self, command: &str) -> Result {
        let failed = |error: std::io::Error| format!("{}: {error}", self.monitor.display());
        let mut socket = UnixStream::connect(&self.monitor).map_err(failed)?;
        socket
            .set_read_timeout(Some(Duration::from_secs(60)))
            .map_err(failed)?;
        let mut said = BufReader::new(socket.try_clone().map_err(failed)?).lines();
        said.next().transpose().map_err(failed)?; // its greeting
        for command in ["{\"execute\": \"qmp_capabilities\"}", command] {
            writeln!(socket, "{command}").map_err(failed)?;
            // Events come in between.
            loop {
                let line = said.next().transpose().map_err(failed)?;
                match line.as_deref() {
                    Some(line) if line.contains("\"return\"") => break,
                    Some(line) if line.contains("\"event\"") => {}
                    other => return Err(format!("QEMU did not do {command}: {other:?}")),
                }
            }
        }
        Ok(())
    }

    /// Whether the machine has gone.
    pub(super) fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Waits until the machine has switched itself off or reset.
    pub(super) fn end(&mut self, limit: Duration) -> Result {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.take(&bytes)?,
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().map_err(|error| error.to_string())?;
                    return match status.success() {
                        true => Ok(()),
                        false => Err(format!("QEMU ended with {status}")),
                    };
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!(
                        "the machine still runs after {}",
                        shell::human(limit)
                    ));
                }
            }
        }
    }

    /// What the kernel said since the last wait.
    pub(super) fn rest(&self) -> &str {
        &self.pending
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.monitor);
    }
}
