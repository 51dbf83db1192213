//! `./x test portability`: the libraries and the command on systems and processors that are not this
//! machine's: type-checked everywhere, tested where an emulator of user programs runs them.
//!
//! The standard library is built from source by a compiler that comes with it: Debian's `rustc-web`
//! and `rust-web-src`, or a rustup toolchain with `rust-src`.

use crate::Result;
use crate::shell;
use crate::verdict::Verdict;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A platform.
struct Platform {
    name: &'static str,
    target: &'static str,
    /// How its programs are linked and run here.
    emulated: Option<Emulated>,
    /// Whether CI looks at it, whose time is limited.
    in_ci: bool,
}

/// A cross compiler and an emulator, both of Debian.
struct Emulated {
    /// The compiler's prefix, which is also that of its libraries.
    gnu: &'static str,
    emulator: &'static str,
}

const PLATFORMS: &[Platform] = &[
    checked("FreeBSD, x86-64", "x86_64-unknown-freebsd", true),
    checked("macOS, x86-64", "x86_64-apple-darwin", false),
    checked("macOS, arm64", "aarch64-apple-darwin", false),
    checked("Windows, x86-64", "x86_64-pc-windows-msvc", true),
    Platform {
        emulated: Some(Emulated {
            gnu: "i686-linux-gnu",
            emulator: "qemu-i386",
        }),
        ..checked("Linux, i686 (32-bit)", "i686-unknown-linux-gnu", false)
    },
    Platform {
        emulated: Some(Emulated {
            gnu: "s390x-linux-gnu",
            emulator: "qemu-s390x",
        }),
        ..checked("Linux, s390x (big-endian)", "s390x-unknown-linux-gnu", true)
    },
];

const fn checked(name: &'static str, target: &'static str, in_ci: bool) -> Platform {
    Platform {
        name,
        target,
        emulated: None,
        in_ci,
    }
}

/// What is checked, and what is tested.
const CHECKED: &str = "-p vmcore-format -p vmcore-source -p vmcore -p vmcore-debug -p vmcore-writer \
                       -p vmcore-pipeline -p vmcore-cli";
/// No examples in comments: they would be built by the default compiler.
const TESTED: &str = "--tests -p vmcore-format -p vmcore -p vmcore-debug";
/// Where everything is built, beside what the host's compiler builds.
const FOLDER: &str = "target/portability";
/// A substitute for the C compilers and archivers of other systems, that says it is GCC: nothing is
/// linked, so its files may be empty.
const NO_COMPILER: &str = "#!/bin/sh
for word; do
    case $word in
    -E) echo '\"gcc\"' ;;
    -\\?) exit 1 ;;
    -out:*) : > \"${word#-out:}\" ;;
    *.a | *.lib | *.o) : > \"$word\" ;;
    esac
done
";

/// Checks and tests all platforms, or in CI some.
pub(crate) fn check() -> Result<Verdict> {
    let Some(compiler) = compiler() else {
        return Ok(Verdict::Skipped(
            "no compiler with its library's source: apt-get install rustc-web rust-web-src".into(),
        ));
    };
    let stub = std::path::absolute(FOLDER).map_err(|error| format!("{FOLDER}: {error}"))?;
    let stub = stub.join("no-compiler");
    fs::create_dir_all(FOLDER)
        .and_then(|()| fs::write(&stub, NO_COMPILER))
        .map_err(|error| format!("{}: {error}", stub.display()))?;
    shell::run(shell::command_line("chmod +x").arg(&stub))?;
    let in_ci = std::env::var_os("CI").is_some();
    for platform in PLATFORMS.iter().filter(|one| one.in_ci || !in_ci) {
        println!("-- {}", platform.name);
        let target = platform.target;
        let mut check = cargo(&compiler, "check", target, CHECKED);
        for tool in ["CC", "CXX", "AR"] {
            check.env(format!("{tool}_{}", target.replace('-', "_")), &stub);
        }
        shell::run(&mut check)?;
        let Some(Emulated { gnu, emulator }) = &platform.emulated else {
            continue;
        };
        let gcc = format!("{gnu}-gcc");
        if let Some(missing) = [&gcc, *emulator]
            .into_iter()
            .find(|program| !shell::works(&format!("{program} --version")))
        {
            println!("{missing} is not installed: the tests are not run");
            continue;
        }
        let mut test = cargo(&compiler, "test", target, TESTED);
        let variable = format!("CARGO_TARGET_{}", target.to_uppercase().replace('-', "_"));
        test.env(format!("{variable}_LINKER"), &gcc);
        test.env(
            format!("{variable}_RUNNER"),
            format!("{emulator} -L /usr/{gnu}"),
        );
        shell::run(test.env("VMCORE_QUICK", "1"))?;
    }
    Ok(Verdict::Passed)
}

fn cargo(compiler: &Path, command: &str, target: &str, packages: &str) -> Command {
    let mut cargo = shell::command_line("cargo");
    cargo
        .arg(command)
        .args(["--locked", "-Zbuild-std", "--target", target]);
    cargo.args(packages.split_whitespace());
    cargo.env("RUSTC", compiler).env("RUSTC_BOOTSTRAP", "1");
    cargo.env("CARGO_TARGET_DIR", FOLDER);
    cargo
}

/// A compiler that has the source of its library.
fn compiler() -> Option<PathBuf> {
    ["rustc", "/usr/bin/rustc"].into_iter().find_map(|name| {
        let sysroot = shell::said(&mut shell::command(name, "--print sysroot")).ok()?;
        let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library");
        source.is_dir().then(|| name.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The README's table.
    fn table() -> String {
        let mut text =
            "| platform | libraries, command | tests of the reader |\n| --- | --- | --- |\n\
                        | Linux, x86-64 | yes | run, with all others |\n"
                .to_owned();
        for platform in PLATFORMS {
            let tests = match &platform.emulated {
                Some(emulated) => format!("run under {}", emulated.emulator),
                None => "not run".to_owned(),
            };
            text += &format!("| {} | type-check | {tests} |\n", platform.name);
        }
        text
    }

    #[test]
    fn the_readme_has_the_table() {
        let readme = fs::read_to_string("../README.md").unwrap_or_default();
        assert!(
            readme.contains(&table()),
            "put this into README.md, under Platforms:\n{}",
            table()
        );
    }
}
