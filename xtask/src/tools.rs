//! Programs that Rust does not bring: found, installed on Debian as root, or named.

use crate::{Result, shell};

/// A program that a command of ours runs.
#[derive(Clone, Copy)]
pub(crate) struct Tool {
    /// What is run.
    program: &'static str,
    /// The Debian package that has it.
    package: &'static str,
    /// What it is needed for.
    why: &'static str,
}

/// The C compiler driver, as which Rust calls the linker.
pub(crate) const CC: Tool = Tool {
    program: "cc",
    package: "build-essential",
    why: "links Rust programs",
};
/// The C++ compiler.
pub(crate) const CXX: Tool = Tool {
    program: "c++",
    package: "build-essential",
    why: "compiles the fuzzing engine",
};
/// Prints ELF files.
pub(crate) const READELF: Tool = Tool {
    program: "readelf",
    package: "binutils",
    why: "judges the ELF files that we write",
};
/// The debugger.
pub(crate) const GDB: Tool = Tool {
    program: "gdb",
    package: "gdb",
    why: "opens the ELF files that we write",
};
/// The debugger for machines of other processors.
pub(crate) const GDB_MULTIARCH: Tool = Tool {
    program: "gdb-multiarch",
    package: "gdb-multiarch",
    why: "opens dumps of other architectures",
};
/// The other debugger.
pub(crate) const LLDB: Tool = Tool {
    program: "lldb",
    package: "lldb",
    why: "opens dumps through the remote stub",
};
/// Makes keys.
pub(crate) const OPENSSL: Tool = Tool {
    program: "openssl",
    package: "openssl",
    why: "makes the keys of encrypted dumps",
};
/// The machine of the lab kernel.
pub(crate) const QEMU: Tool = Tool {
    program: "qemu-system-x86_64",
    package: "qemu-system-x86",
    why: "runs the lab kernel",
};
/// Looks at the page of the report.
pub(crate) const CHROMIUM: Tool = Tool {
    program: "chromium",
    package: "chromium",
    why: "shows the HTML report",
};
/// Unpacks the corpus.
pub(crate) const ZSTD: Tool = Tool {
    program: "zstd",
    package: "zstd",
    why: "unpacks the real dumps",
};
/// What our gzip files are measured against.
pub(crate) const PIGZ: Tool = Tool {
    program: "pigz",
    package: "pigz",
    why: "is what our compression is measured against",
};

impl Tool {
    /// Whether it is in the search path.
    pub(crate) fn is_there(self) -> bool {
        let name = format!("{}{}", self.program, std::env::consts::EXE_SUFFIX);
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(&name).is_file())
    }
}

/// Makes sure that the tools are there: installs what is missing if that is possible.
pub(crate) fn need(tools: &[Tool]) -> Result {
    let missing = missing(tools);
    if missing.is_empty() {
        return Ok(());
    }
    for tool in &missing {
        println!("missing: {:<8} {}", tool.program, tool.why);
    }
    let install = format!(
        "apt-get install -y --no-install-recommends {}",
        packages(&missing)
    );
    if !shell::works("apt-get --version") {
        return Err(format!(
            "install these with your package manager: {}",
            packages(&missing)
        ));
    }
    if !is_root() {
        return Err(format!("type this, and try again:\n  sudo {install}"));
    }
    for line in ["apt-get update", &install] {
        println!("$ {line}");
        shell::run(shell::command_line(line).env("DEBIAN_FRONTEND", "noninteractive"))?;
    }
    match self::missing(tools).first() {
        Some(tool) => Err(format!("{} is still not in the search path", tool.program)),
        None => Ok(()),
    }
}

/// Makes sure that the toolchain has what a minimal installation leaves out.
pub(crate) fn need_components() -> Result {
    let components = [
        ("rustfmt", "cargo fmt --version"),
        ("clippy", "cargo clippy --version"),
    ];
    let missing: Vec<&str> = components
        .iter()
        .filter(|(_, line)| !shell::works(line))
        .map(|(name, _)| *name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "type this, and try again:\n  rustup component add {}",
        missing.join(" ")
    ))
}

fn missing(tools: &[Tool]) -> Vec<Tool> {
    tools
        .iter()
        .copied()
        .filter(|tool| !tool.is_there())
        .collect()
}

/// The packages of some tools, each once.
fn packages(tools: &[Tool]) -> String {
    let mut names: Vec<&str> = tools.iter().map(|tool| tool.package).collect();
    names.sort_unstable();
    names.dedup();
    names.join(" ")
}

fn is_root() -> bool {
    let id = shell::command_line("id -u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_named_once() {
        assert_eq!(packages(&[ZSTD, CXX, CC]), "build-essential zstd");
    }
}
