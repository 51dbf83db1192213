//! Where the real dumps for tests are. They are not part of the repository.

use crate::Result;
use std::path::PathBuf;

/// Names the folder; a relative path starts at the workspace.
pub(crate) const VARIABLE: &str = "VMCORE_CORPUS";
/// Set to 1, a missing folder is a failure.
const REQUIRED: &str = "VMCORE_REQUIRE_CORPUS";
/// The default folder.
const DEFAULT: &str = "../shared/vmcores";

/// The folder, as an absolute path, if it is there.
pub(crate) fn find() -> Option<PathBuf> {
    named().canonicalize().ok().filter(|folder| folder.is_dir())
}

/// Says in one line whether there is a corpus.
///
/// # Errors
/// Returns an error if there is none and it is required.
pub(crate) fn announce() -> Result {
    let name = named();
    if find().is_some() {
        println!("real dumps: {}", name.display());
    } else if std::env::var_os(REQUIRED).is_some_and(|value| value == "1") {
        return Err(format!(
            "{REQUIRED}=1, but the folder {} does not exist",
            name.display()
        ));
    } else {
        println!(
            "real dumps: none; {VARIABLE} names a folder of them, tests without it are skipped"
        );
    }
    Ok(())
}

fn named() -> PathBuf {
    std::env::var_os(VARIABLE).map_or_else(|| DEFAULT.into(), PathBuf::from)
}
