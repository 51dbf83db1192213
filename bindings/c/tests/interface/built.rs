//! The shared library and the C programs, built once by the C compiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// What compilers must not say anything about.
const STRICT: [&str; 6] = [
    "-std=c99",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-pedantic",
    "-O1",
];

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder with the shared library and the programs.
pub(crate) fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("c-interface");
        fs::create_dir_all(&folder).unwrap();
        let archive = archive();
        let library = folder.join("libkvmcore.so.1");
        let mut link = Command::new("cc");
        link.current_dir(package()).args(["-o"]).arg(&library);
        link.arg("@link.args");
        link.args(["-Wl,--whole-archive"]).arg(archive);
        link.args([
            "-Wl,--no-whole-archive",
            "-lgcc_s",
            "-lpthread",
            "-lm",
            "-ldl",
            "-lc",
        ]);
        succeed(&mut link);
        let _ = fs::remove_file(folder.join("libkvmcore.so"));
        std::os::unix::fs::symlink("libkvmcore.so.1", folder.join("libkvmcore.so")).unwrap();
        for name in ["reads", "pages", "procs", "threads"] {
            let mut compile = Command::new("cc");
            compile
                .current_dir(package())
                .args(STRICT)
                .arg("-D_GNU_SOURCE");
            compile.args(["-Iinclude", "-o"]).arg(folder.join(name));
            compile.arg(format!("tests/programs/{name}.c"));
            compile.arg(format!("-L{}", folder.display()));
            compile.args(["-lkvmcore", "-lpthread"]);
            succeed(&mut compile);
        }
        folder
    })
}

/// The static library, which cargo leaves beside the tests: the newest, if there are older builds.
fn archive() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let files = fs::read_dir(test.parent().unwrap()).unwrap();
    let archives = files.map(|file| file.unwrap().path()).filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("libkvmcore") && name.ends_with(".a")
    });
    let newest = archives.max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
    newest.expect("cargo has built the static library")
}

/// Runs a command that has to succeed.
pub(crate) fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Runs a program, and gives its status and what it wrote to stdout and stderr.
pub(crate) fn run(name: &str, args: &[String]) -> (Option<i32>, String, String) {
    finish(Command::new(folder().join(name)).args(args))
}

/// As [`run`], under valgrind, which has to find nothing. Without valgrind `None`.
pub(crate) fn run_watched(name: &str, args: &[String]) -> Option<String> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("skipped: valgrind is not installed");
        return None;
    }
    let mut command = Command::new("valgrind");
    command.args(["-q", "--error-exitcode=99", "--leak-check=full"]);
    command.args(["--show-leak-kinds=definite,indirect"]);
    command.args(["--errors-for-leak-kinds=definite,indirect"]);
    command.arg(folder().join(name)).args(args);
    let (status, out, err) = finish(&mut command);
    assert_eq!(status, Some(0), "{name}: {out}{err}");
    Some(out)
}

fn finish(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.env("LD_LIBRARY_PATH", folder()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}
