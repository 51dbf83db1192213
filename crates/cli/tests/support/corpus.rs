//! The dumps of real machines, which are not part of the repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// A real dump, unpacked beside its kernel.
pub(crate) struct Real {
    /// Such as `amd64-minidump`.
    pub(crate) name: String,
    /// Where all of them are.
    pub(crate) folder: PathBuf,
    pub(crate) dump: String,
    pub(crate) kernel: String,
}

/// The packed files; `None` says that the tests are skipped.
pub(crate) fn find() -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let named =
        std::env::var_os("VMCORE_CORPUS").map_or_else(|| "../shared/vmcores".into(), PathBuf::from);
    let folder = workspace.join(named);
    if folder.is_dir() {
        return Some(folder);
    }
    let required = std::env::var_os("VMCORE_REQUIRE_CORPUS").is_some_and(|value| value == "1");
    assert!(
        !required,
        "VMCORE_REQUIRE_CORPUS=1, but there is no folder {}",
        folder.display()
    );
    eprintln!("skipped: no folder {} with real dumps", folder.display());
    None
}

/// Every real dump, unpacked once.
pub(crate) fn unpack(packed: &Path) -> Vec<Real> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("real-dumps");
    fs::create_dir_all(&folder).unwrap();
    let mut names: Vec<String> = fs::read_dir(packed)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".zst").map(str::to_owned))
        .collect();
    names.sort();
    for name in &names {
        let target = folder.join(name);
        if target.exists() {
            continue;
        }
        // Test programs run at once: each unpacks under a name of its own.
        let part = folder.join(format!("{name}.{}", std::process::id()));
        let status = Command::new("zstd")
            .args(["-d", "-q", "-f", "-o"])
            .arg(&part)
            .arg(packed.join(format!("{name}.zst")))
            .status()
            .expect("the program zstd unpacks the real dumps");
        assert!(status.success(), "{name} cannot be unpacked");
        fs::rename(part, target).unwrap();
    }
    let dumps = names.iter().filter_map(|name| name.strip_prefix("vmcore-"));
    dumps
        .map(|name| Real {
            name: name.to_owned(),
            folder: folder.clone(),
            dump: format!("vmcore-{name}"),
            kernel: format!("kernel-{}", name.split('-').next().unwrap()),
        })
        .collect()
}
