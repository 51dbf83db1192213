//! Finding the kernel file of a dump by its build id.
//!
//! A file is taken only if its build id is the dump's. Every place is remembered, so that a person
//! can be told where the kernel was looked for.

use super::{BuildId, KernelFile};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Directory entries looked at in each place: a crash directory holds few kernels.
const MAX_ENTRIES: usize = 256;

/// A place where the kernel was looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tried {
    /// The file.
    #[serde(serialize_with = "crate::serialize_path")]
    pub path: PathBuf,
    /// What was there.
    pub outcome: String,
}

/// The result of a search.
#[derive(Debug, Default)]
pub struct KernelSearch {
    /// The kernel.
    pub found: Option<KernelFile>,
    /// Every place, in order, the found one included.
    pub tried: Vec<Tried>,
}

/// Looks for the kernel with one of these build ids: along `path_list` (the value of
/// `VMCORE_KERNEL_PATH`), in the dump's directory, below `/usr/lib/debug` and in `/boot`.
#[must_use]
pub fn search(ids: &[BuildId], dump: &Path, path_list: &[PathBuf]) -> KernelSearch {
    let mut search = KernelSearch::default();
    if ids.is_empty() {
        return search;
    }
    for candidate in candidates(ids, dump, path_list) {
        if search.tried.iter().any(|tried| tried.path == candidate) {
            continue;
        }
        let outcome = match KernelFile::open(&candidate) {
            Err(_) if !candidate.exists() => "no such file".to_owned(),
            Err(error) => error.to_string(),
            Ok(kernel) => match kernel.build_id() {
                Some(id) if ids.contains(&id) => {
                    search.tried.push(Tried {
                        path: candidate,
                        outcome: "matches".to_owned(),
                    });
                    search.found = Some(kernel);
                    return search;
                }
                Some(id) => format!("another kernel: build id {id}"),
                None => "has no build id".to_owned(),
            },
        };
        search.tried.push(Tried {
            path: candidate,
            outcome,
        });
    }
    search
}

/// Files worth opening, in order.
fn candidates(ids: &[BuildId], dump: &Path, path_list: &[PathBuf]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for place in path_list {
        if place.is_dir() {
            by_build_id(&mut files, place, ids);
            kernels_in(&mut files, place);
        } else {
            files.push(place.clone());
        }
    }
    let parent = match dump.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if let Some(tail) = crate::names::tail(dump) {
        files.push(parent.join(format!("kernel.{tail}")));
        files.push(parent.join(format!("kernel.{tail}/kernel")));
    }
    kernels_in(&mut files, parent);
    let debug = Path::new("/usr/lib/debug");
    by_build_id(&mut files, debug, ids);
    kernels_in(&mut files, &debug.join("boot"));
    kernels_in(&mut files, Path::new("/boot"));
    files
}

/// `DIR/.build-id/xx/yyy` and `.debug`.
fn by_build_id(files: &mut Vec<PathBuf>, dir: &Path, ids: &[BuildId]) {
    for id in ids {
        let name = id.to_string();
        let Some((first, rest)) = name.split_at_checked(2) else {
            continue;
        };
        let base = dir.join(".build-id").join(first);
        files.push(base.join(format!("{rest}.debug")));
        files.push(base.join(rest));
    }
}

/// Files named `kernel*` in `dir`, and `kernel` in each of its folders; debug files first.
fn kernels_in(files: &mut Vec<PathBuf>, dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    let mut found = Vec::new();
    for entry in entries.flatten().take(MAX_ENTRIES) {
        let path = entry.path();
        let is_kernel = entry.file_name().to_string_lossy().starts_with("kernel");
        if path.is_dir() {
            let names = ["kernel.debug", "kernel.full", "kernel"].map(|name| path.join(name));
            found.extend(names.into_iter().filter(|path| path.is_file()));
        } else if is_kernel {
            found.push(path);
        }
    }
    // Debug files know more than the kernel beside them.
    found.sort_by_key(|path| {
        (
            path.extension().is_none_or(|ending| ending != "debug"),
            path.clone(),
        )
    });
    files.extend(found);
}
