//! `./x capi [--prefix DIR]`: builds the C library and puts it where programs look for it.

use crate::{Result, shell};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The package.
const FOLDER: &str = "bindings/c";
/// What the linker adds of the system.
const SYSTEM: [&str; 5] = ["-lgcc_s", "-lpthread", "-lm", "-ldl", "-lc"];

/// Builds and installs; without a prefix below the target folder.
pub(crate) fn run(args: &[String]) -> Result {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let target = PathBuf::from(target);
    let prefix = match args {
        [] => target.join("capi"),
        [flag, folder] if flag == "--prefix" => PathBuf::from(folder),
        _ => return Err("usage: ./x capi [--prefix DIR]".to_owned()),
    };
    shell::run(&mut shell::command_line(
        "cargo build --release --locked -p vmcore-capi",
    ))?;
    let prefix = absolute(&prefix)?;
    let lib = prefix.join("lib");
    let include = prefix.join("include/kvmcore");
    let man = prefix.join("share/man/man3");
    for folder in [&lib, &include, &man, &lib.join("pkgconfig")] {
        let failed = |error| format!("{}: {error}", folder.display());
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let archive = absolute(&target.join("release/libkvmcore.a"))?;
    copy(&archive, &lib.join("libkvmcore.a"))?;
    let mut link = Command::new("cc");
    link.current_dir(FOLDER)
        .arg("-o")
        .arg(lib.join("libkvmcore.so.1"));
    link.args(["@link.args", "-Wl,--whole-archive"])
        .arg(archive);
    link.arg("-Wl,--no-whole-archive").args(SYSTEM);
    shell::run(&mut link)?;
    let name = lib.join("libkvmcore.so");
    if name.is_symlink() {
        fs::remove_file(&name).map_err(|error| format!("{}: {error}", name.display()))?;
    }
    symlink("libkvmcore.so.1", &name).map_err(|error| format!("{}: {error}", name.display()))?;
    for header in ["kvm.h", "nlist.h"] {
        copy(
            &Path::new(FOLDER).join("include").join(header),
            &include.join(header),
        )?;
    }
    install_pages(&man)?;
    let description = Path::new(FOLDER).join("kvmcore.pc.in");
    let description = fs::read_to_string(&description)
        .map_err(|error| format!("{}: {error}", description.display()))?
        .replace("@PREFIX@", &prefix.display().to_string())
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"));
    let path = lib.join("pkgconfig/kvmcore.pc");
    fs::write(&path, description).map_err(|error| format!("{}: {error}", path.display()))?;
    println!(
        "installed below {0}; to compile a program:\n  \
         cc program.c $(PKG_CONFIG_PATH={0}/lib/pkgconfig pkg-config --cflags --libs kvmcore)",
        prefix.display()
    );
    Ok(())
}

fn install_pages(man: &Path) -> Result {
    let pages = Path::new(FOLDER).join("man");
    let failed = |error| format!("{}: {error}", pages.display());
    for page in fs::read_dir(&pages).map_err(failed)? {
        let page = page.map_err(failed)?;
        copy(&page.path(), &man.join(page.file_name()))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result {
    let copied = fs::copy(from, to).map(|_| ());
    copied.map_err(|error| format!("{} to {}: {error}", from.display(), to.display()))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))
}
