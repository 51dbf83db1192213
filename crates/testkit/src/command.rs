//! Runs of the command on machines made for it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use vmcore_synth::machine::{Machine, Options};

/// A run of the command: what it printed, and its exit status.
#[derive(Debug)]
pub struct Run {
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub status: i32,
}

impl Run {
    pub fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).expect("output is UTF-8")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks the exit status; anything else is shown with all that was printed.
    #[track_caller]
    pub fn expect(self, status: i32) -> Self {
        assert_eq!(
            self.status,
            status,
            "{self:?}\n{}",
            String::from_utf8_lossy(&self.stdout)
        );
        self
    }
}

/// The command, which cargo has built beside the tests.
pub fn program() -> PathBuf {
    crate::built().join(format!("vmcore{}", std::env::consts::EXE_SUFFIX))
}

/// The command, in `folder`, with an environment that depends on nothing outside.
pub fn command(folder: &Path) -> Command {
    let mut command = Command::new(program());
    command.current_dir(folder).stdin(Stdio::null());
    for variable in ["VMCORE_KERNEL_PATH", "NO_COLOR", "CLICOLOR_FORCE"] {
        command.env_remove(variable);
    }
    command.env("RUST_BACKTRACE", "0").env("VMCORE_CACHE", "");
    command
}

/// Runs the command with these arguments.
pub fn run<A: AsRef<OsStr>>(folder: &Path, args: &[A]) -> Run {
    finish(
        command(folder)
            .args(args)
            .output()
            .expect("the command starts"),
    )
}

/// Runs the command with the words of a line.
pub fn line(folder: &Path, line: &str) -> Run {
    run(folder, &line.split_whitespace().collect::<Vec<_>>())
}

pub fn finish(output: Output) -> Run {
    Run {
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        status: output.status.code().expect("no signal ends it"),
    }
}

/// A folder with a machine's `vmcore.0`, `kernel` and `info.0`, as a person has them.
pub struct Folder {
    pub dir: tempfile::TempDir,
    pub machine: Machine,
}

impl Folder {
    pub fn new(options: &Options) -> Self {
        let folder = Self {
            dir: tempfile::tempdir().unwrap(),
            machine: Machine::new(options),
        };
        folder.write("vmcore.0", &folder.machine.dump.build());
        folder.write("kernel", &folder.machine.kernel.build());
        folder.write("info.0", folder.machine.info.as_bytes());
        folder
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path().join(name)).unwrap();
    }

    /// The help of a command on a terminal of this width.
    pub fn help_at(&self, name: &str, width: usize) -> String {
        let run = command(self.path())
            .args([name, "--help"])
            .env("COLUMNS", width.to_string())
            .output();
        finish(run.expect("the command starts")).expect(0).text()
    }

    /// Runs the command here.
    pub fn vmcore(&self, words: &str) -> Run {
        line(self.path(), words)
    }
}

/// The address of an lvalue of the kernel in this folder's dump: `shell_thread.td_name`.
pub fn address_of(folder: &Path, lvalue: &str) -> u64 {
    let words = format!("print vmcore.0 kernel &{lvalue} --json");
    let answer = line(folder, &words).expect(0).json();
    let to = answer["values"][0]["value"]["to"].as_str().unwrap();
    u64::from_str_radix(to.trim_start_matches("0x"), 16).unwrap()
}
