//! Which file has the debug information of another one.
//!
//! It is named by `.gnu_debuglink`, with the CRC-32 of its contents, or by the build id; FreeBSD adds
//! `.debug` to the name, and keeps it below `usr/lib/debug` of the same file system.

use crate::object_file::ObjectFile;
use object::{Object as _, ObjectSection as _};
use std::path::{Component, Path, PathBuf};

/// Where debug files are kept, below the root of a file system.
const STORE: &str = "usr/lib/debug";
/// Endings that are added to the name of the file.
const ENDINGS: [&str; 2] = ["debug", "symbols"];
/// Endings of compressed files.
const PACKED: [&str; 2] = ["gz", "zst"];

/// What a file says of its debug file.
struct Link {
    name: String,
    crc: u32,
}

/// The file's `.gnu_debuglink`: a name, padding to four bytes, and the sum.
fn link_of(file: &ObjectFile) -> Option<Link> {
    let elf = file.elf()?;
    let section = file.sections_named(&elf, ".gnu_debuglink").next()?;
    let contents = section.data().ok()?;
    let len = memchr::memchr(0, contents)?;
    let name = str::from_utf8(contents.get(..len)?).ok()?;
    let crc = file
        .endian()
        .u32_at(contents, (len + 1).next_multiple_of(4))?;
    // A name, not a path: it must not lead elsewhere.
    let mut components = Path::new(name).components();
    let is_name = matches!(components.next(), Some(Component::Normal(_)));
    (is_name && components.next().is_none() && !name.contains('/')).then(|| Link {
        name: name.to_owned(),
        crc,
    })
}

fn build_id(file: &ObjectFile) -> Option<Vec<u8>> {
    let elf = file.elf()?;
    elf.build_id().ok().flatten().map(<[u8]>::to_vec)
}

/// Where the debug file of `file` may be, whose path is `path`; all of it below `root`, if there is
/// one.
pub(crate) fn candidates(
    file: Option<&ObjectFile>,
    path: &Path,
    root: Option<&Path>,
) -> Vec<PathBuf> {
    let (Some(name), Some(folder)) = (path.file_name(), path.parent()) else {
        return Vec::new();
    };
    let packed = path.extension().and_then(|ending| ending.to_str());
    let stem = match packed {
        Some(ending) if PACKED.contains(&ending) => path.file_stem().unwrap_or(name),
        _ => name,
    };
    let mut names: Vec<_> = file
        .and_then(link_of)
        .map(|link| link.name.into())
        .into_iter()
        .collect();
    for (base, ending) in [stem, name]
        .iter()
        .flat_map(|base| ENDINGS.map(|ending| (base, ending)))
    {
        let mut name = (*base).to_owned();
        name.push(".");
        name.push(ending);
        names.push(name);
    }
    let mut folders = vec![folder.to_owned(), folder.join(".debug")];
    let mut stores = vec![folder.to_owned()];
    for above in folder.ancestors() {
        let below = folder.strip_prefix(above).unwrap_or(folder);
        folders.push(above.join(STORE).join(below));
        stores.push(above.join(STORE));
        if Some(above) == root {
            break;
        }
    }
    if root.is_none() {
        folders.push(Path::new("/").join(STORE).join("boot/kernel"));
        stores.push(Path::new("/").join(STORE));
    }
    let mut found: Vec<PathBuf> = Vec::new();
    if let Some(id) = file.and_then(build_id) {
        let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        if let Some((first, rest)) = hex.split_at_checked(2) {
            let tail = Path::new(".build-id")
                .join(first)
                .join(format!("{rest}.debug"));
            found.extend(stores.iter().map(|store| store.join(&tail)));
        }
    }
    for folder in folders {
        found.extend(names.iter().map(|name| folder.join(name)));
    }
    found.retain(|candidate| candidate != path);
    let mut seen = std::collections::HashSet::new();
    found.retain(|candidate| seen.insert(candidate.clone()));
    found
}

/// Whether a file has the debug information of another one: by their build ids, else by the sum
/// that the other one gives for a file of this name.
pub(crate) fn belongs(debug: &ObjectFile, path: &Path, to: &ObjectFile) -> Result<(), String> {
    if debug.arch() != to.arch() {
        return Err(format!("it is for {}", debug.arch()));
    }
    match (build_id(debug), build_id(to)) {
        (Some(debug), Some(to)) if debug == to => return Ok(()),
        (None, None) => {}
        _ => return Err("its build id is another one".to_owned()),
    }
    let named = |link: &Link| {
        path.file_name()
            .is_some_and(|name| name == link.name.as_str())
    };
    let Some(link) = link_of(to).filter(named) else {
        return Ok(());
    };
    let crc = crc32fast::hash(debug.data());
    match crc == link.crc {
        true => Ok(()),
        false => Err(format!(
            "another build's: its CRC-32 is {crc:#010x}, {:#010x} is asked for",
            link.crc
        )),
    }
}
