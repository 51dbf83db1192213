//! Saving: a dump on its device, or in an image of one, becomes `vmcore.N` and `info.N`.
//!
//! [`Device::find`] looks at the headers, [`save`] copies the dump into a directory, and then marks it on
//! the device as saved. The order keeps the dump safe at every moment, whatever stops the work:
//!
//! 1. the dump, its key and `info.N` are written under other names, for their owner alone, and made
//!    durable;
//! 2. they get their names, the dump last; the links `vmcore.last` and `info.last` follow;
//! 3. the names are made durable;
//! 4. the trailing header on the device is marked.
//!
//! A run that is killed before the dump has its name leaves a remainder that the next one removes.
//! One that is killed after it leaves a copy that the next one recognises by comparing it with the
//! device, so that it makes no other.
//!
//! A dump is copied unchanged: `vmcore.N`, `vmcore.N.gz`, `vmcore.N.zst`, or
//! `vmcore_encrypted.N` with `key.N`; a textdump becomes `textdump.tar.N`. A plain dump is compressed
//! on request, so that it can be read in place; else runs of
//! zeros in it become holes. Source of names and formats: `sbin/savecore/savecore.c`.
//!
//! ```
//! use vmcore_pipeline::save::{Clearing, Device, Options, save};
//! use vmcore_synth::header::DumpHeader;
//! let image = DumpHeader::new("amd64", 8192).device(1 << 17, &[], &[7; 8192]);
//! let dir = tempfile::tempdir()?;
//! let path = dir.path().join("swap.img");
//! std::fs::write(&path, image.ok_or("does not fit")?)?;
//!
//! let device = Device::open(&path)?;
//! let found = device.find()?.ok_or("no dump")?;
//! let saved = save(&device, &found, dir.path(), &Options::default(), &mut |_| {})?;
//! assert_eq!(std::fs::read(dir.path().join("vmcore.0"))?, [7; 8192]);
//! assert!(std::fs::read_to_string(&saved.info_file)?.contains("Dump Status: good"));
//! assert_eq!(saved.clearing, Clearing::Image); // an image is evidence
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod copy;
mod device;
mod directory;
mod error;
pub(crate) mod info;
mod names;
pub(crate) mod space;

pub use copy::Form;
pub use device::Device;
pub use error::SaveError;
pub use info::{Contents, Info, Status};
pub use vmcore::container::DeviceHeader;
pub use vmcore::locate::{FoundDump, Problem};

use crate::changes::Changes;
use crate::compress::Method;
use copy::Part;
use directory::Directory;
use names::{CoreName, info_name, key_name};
use serde::Serialize;
use space::{Fit, Free};
use std::path::{Path, PathBuf};
use vmcore::source::read_small;

/// How to save.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Save in spite of damaged headers, and what was saved before.
    pub force: bool,
    /// When the dump is marked on its device.
    pub clear: Clear,
    /// The form of the copy.
    pub form: Form,
    /// Numbers start again at 0 when they reach this; the dump that had the number goes.
    pub maxdumps: Option<u64>,
}

/// When a dump is marked as saved on its device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clear {
    /// On a device, but not in a regular file: an image is evidence.
    #[default]
    Device,
    /// In a regular file too.
    Always,
    /// Never.
    Never,
}

/// Progress and warnings of a save.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Unusual, but harmless.
    Remark(&'a str),
    /// Something went wrong, but the dump is safe.
    Warning(&'a str),
    /// The copy begins.
    Copying {
        /// Where it will be.
        path: &'a Path,
    },
    /// The copy goes on.
    Copied {
        /// Bytes so far.
        done_bytes: u64,
        /// Bytes of the dump.
        total_bytes: u64,
    },
    /// The dump is about to be marked on its device.
    Clearing,
}

/// A saved dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Saved {
    /// The dump.
    pub core_file: PathBuf,
    /// What is known of it.
    pub info_file: PathBuf,
    /// Its encrypted key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Whether an earlier run had saved it, and was stopped before it could mark it.
    pub was_there: bool,
    /// What became of the header on the device.
    #[serde(flatten)]
    pub clearing: Clearing,
    /// What is known of it, as in `info_file`.
    #[serde(flatten)]
    pub info: Info,
}

/// What became of the header on the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "clearing")]
pub enum Clearing {
    /// It is marked as saved.
    Cleared,
    /// It was to be kept.
    Kept,
    /// The device is a regular file, which is not changed unasked.
    Image,
    /// It could not be marked: the next run will find the dump again, and its copy.
    Failed {
        /// The reason.
        #[serde(rename = "clearing_error")]
        reason: String,
    },
}

/// Saves the dump that was found on `device` to `directory`.
///
/// # Errors
/// Returns an error if something is wrong with the headers and `force` is not given, if there is no
/// room, or if anything cannot be read or written. Then the dump is on the device as before.
pub fn save(
    device: &Device,
    found: &FoundDump,
    directory: &Path,
    options: &Options,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Saved, SaveError> {
    save_with(
        Changes::unwatched(),
        device,
        found,
        directory,
        options,
        on_event,
    )
}

/// Free bytes for users in a directory; `None` where the operating system has no query.
///
/// # Errors
/// Returns an error if the directory does not exist.
pub fn free_bytes(directory: &Path) -> std::io::Result<Option<u64>> {
    Ok(Free::of(directory)?.map(|free| free.user))
}

/// Marks a dump as saved without saving it.
///
/// # Errors
/// Returns an error if the device cannot be written.
pub fn clear(device: &Device, found: &FoundDump) -> Result<(), SaveError> {
    if found.is_cleared() {
        return Ok(());
    }
    clear_with(Changes::unwatched(), device, found)
        .map_err(|source| SaveError::device(device.path(), "clearing the dump header of", source))
}

fn clear_with(changes: Changes<'_>, device: &Device, found: &FoundDump) -> std::io::Result<()> {
    device.clear(found.trailer(), found.stored(), changes)
}

fn save_with(
    changes: Changes<'_>,
    device: &Device,
    found: &FoundDump,
    directory: &Path,
    options: &Options,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Saved, SaveError> {
    let problems = || (device.path().to_owned(), found.problems().to_vec());
    let Some(parts) = found.parts() else {
        let (device, problems) = problems();
        return Err(SaveError::Impossible { device, problems });
    };
    if !options.force && !found.problems().is_empty() {
        let (device, problems) = problems();
        return Err(SaveError::Unsound { device, problems });
    }
    let header = found.header();
    let form = options.form.possible(header);
    let mut work = Work {
        changes,
        device,
        found,
        key: Part::key(parts),
        payload: Part::payload(device, header, parts)?,
        form,
        name: CoreName::of(header, form),
        directory: Directory::open(directory, changes)?,
        on_event,
    };
    let before = if options.force {
        None
    } else {
        work.find_existing_copy()?
    };
    let number = match before {
        Some(number) => number,
        None => work.copy(options.maxdumps)?,
    };
    work.link(number);
    // The names are durable before the header is marked, whichever run gave them.
    work.directory.sync()?;
    let clearing = work.clear(options.clear);
    Ok(work.report(number, before.is_some(), clearing))
}

/// What saving one dump needs.
struct Work<'w, 'e> {
    changes: Changes<'w>,
    device: &'w Device,
    found: &'w FoundDump,
    key: Part,
    payload: Part,
    form: Form,
    name: CoreName,
    directory: Directory<'w>,
    on_event: &'e mut dyn FnMut(Event<'_>),
}

impl Work<'_, '_> {
    fn info(&self, number: u64, contents: Option<Contents>) -> Info {
        Info {
            contents,
            ..Info::new(self.device, self.found, number)
        }
    }

    fn contents(&self, path: &Path) -> Option<Contents> {
        // gzip would have to be expanded for it.
        let is_quick = match self.form {
            Form::Unpacked => true,
            Form::Packed(Method::Gzip) => false,
            Form::AsIs | Form::Packed(Method::Zstd) => self.found.header().is_plain(),
        };
        is_quick.then(|| Contents::of(path)).flatten()
    }

    /// The number under which an earlier run has saved the same dump, byte for byte; its files are made
    /// durable.
    fn find_existing_copy(&self) -> Result<Option<u64>, SaveError> {
        let Some(number) = self.directory.last_number()? else {
            return Ok(None);
        };
        let info = self.directory.file(&info_name(number));
        let header = self.info(number, None).header_text();
        let mut files = vec![info.clone()];
        let mut is_same =
            read_small(&info, header.len()).is_ok_and(|text| text == header.as_bytes());
        for (name, part, form) in self.contents_of(number) {
            let path = self.directory.file(&name);
            is_same = is_same && part.equals(self.device, &path, form).unwrap_or(false);
            files.push(path);
        }
        if !is_same {
            return Ok(None);
        }
        for path in files {
            let synced = self.changes.open(&path).and_then(|file| file.sync());
            synced.map_err(SaveError::directory(&path))?;
        }
        Ok(Some(number))
    }

    /// The files copied from the device, in the order in which they are renamed: the dump last, so that
    /// its name implies the others. With the form of each.
    fn contents_of(&self, number: u64) -> Vec<(String, Part, Form)> {
        let mut files = Vec::new();
        if self.found.header().is_encrypted() {
            files.push((key_name(number), self.key.clone(), Form::AsIs));
        }
        files.push((self.name.file(number), self.payload.clone(), self.form));
        files
    }

    /// Makes a new copy, and gives it its name.
    fn copy(&mut self, maxdumps: Option<u64>) -> Result<u64, SaveError> {
        let next = self.directory.next_number(maxdumps)?;
        if let Some(remark) = &next.remark {
            let remark = format!("{remark}; this dump has the number {}", next.number);
            (self.on_event)(Event::Remark(&remark));
        }
        let is_replacing = self.make_room(next.number)?;
        self.directory.set_bounds(next.number)?;
        let written = self.write(next.number, is_replacing);
        if written.is_err() {
            // Nothing better can be done about a failure here; the next run tries again.
            let _ = self.directory.remove_parts();
        }
        written.map(|()| next.number)
    }

    /// Checks that the dump fits, and whether it replaces one of the same number; that one is removed
    /// at once if the room is needed.
    fn make_room(&mut self, number: u64) -> Result<bool, SaveError> {
        let (minfree, remark) = self.directory.minfree_bytes()?;
        if let Some(remark) = remark {
            (self.on_event)(Event::Warning(&remark));
        }
        let replaced = self.directory.files_of(number)?;
        let is_replacing = !replaced.is_empty();
        let replaced = replaced.iter().map(|(_, bytes)| bytes).sum();
        let header = self.found.header();
        let len = match self.form {
            // The length is known only at the end. The kernel reserved as much as the dump
            // would take uncompressed, if there was room.
            Form::Unpacked => header.dumplength.max(header.dumpextent),
            Form::AsIs | Form::Packed(_) => header.dumplength,
        };
        let need = len.saturating_add(header.dumpkeysize.into());
        let path = self.directory.path();
        let free = Free::of(path).map_err(SaveError::directory(path))?;
        let Some(free) = free else {
            return Ok(is_replacing);
        };
        match space::check(path, free, need, minfree, replaced)? {
            Fit::Fits => {}
            Fit::CrossesThreshold => {
                let warning = "the dump leaves no free space for users";
                (self.on_event)(Event::Warning(warning));
            }
            Fit::AfterReplacing => self.directory.remove_dump(number)?,
        }
        Ok(is_replacing)
    }

    /// Writes all files of the dump, and gives them their names.
    fn write(&mut self, number: u64, is_replacing: bool) -> Result<(), SaveError> {
        let core = self.name.file(number);
        let core_path = self.directory.file(&core);
        (self.on_event)(Event::Copying { path: &core_path });
        let mut names = vec![info_name(number)];
        for (name, part, form) in self.contents_of(number) {
            let path = self.directory.file(&name);
            let mut file = self.directory.begin(&name)?;
            let on_event = &mut *self.on_event;
            let on_progress = |done_bytes, total_bytes| {
                on_event(Event::Copied {
                    done_bytes,
                    total_bytes,
                });
            };
            part.copy(self.device, &mut file, &path, form, on_progress)?;
            file.sync().map_err(SaveError::directory(&path))?;
            names.push(name);
        }
        let contents = self.contents(&self.directory.part(&core));
        let info = self.info(number, contents).to_string();
        self.directory.write_part(&info_name(number), &info)?;

        self.directory.free_number(number, is_replacing)?;
        for (done, name) in names.iter().enumerate() {
            if let Err(error) = self.directory.finish(name) {
                // Nothing better can be done about a failure here.
                let _ = names
                    .iter()
                    .take(done)
                    .try_for_each(|name| self.directory.remove(name));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Points the links to the dump. A failure is a warning: the dump is saved without them.
    fn link(&mut self, number: u64) {
        let mut links = vec![
            (self.name.link(), self.name.file(number)),
            ("info.last".to_owned(), info_name(number)),
        ];
        if self.found.header().is_encrypted() {
            links.push(("key.last".to_owned(), key_name(number)));
        }
        if let Err(error) = self.directory.set_links(&links) {
            // Nothing better can be done about a failure here; the next run tries again.
            let _ = self.directory.remove_parts();
            (self.on_event)(Event::Warning(&format!("links to the dump: {error}")));
        }
    }

    fn clear(&mut self, when: Clear) -> Clearing {
        match when {
            _ if self.found.is_cleared() => return Clearing::Cleared,
            Clear::Never => return Clearing::Kept,
            Clear::Device if self.device.is_image() => return Clearing::Image,
            Clear::Device | Clear::Always => {}
        }
        (self.on_event)(Event::Clearing);
        match clear_with(self.changes, self.device, self.found) {
            Ok(()) => Clearing::Cleared,
            Err(error) => {
                let device = self.device.path().display();
                let reason = format!("the dump header of {device} is not cleared: {error}");
                (self.on_event)(Event::Warning(&reason));
                Clearing::Failed { reason }
            }
        }
    }

    fn report(self, number: u64, was_there: bool, clearing: Clearing) -> Saved {
        let core_file = self.directory.file(&self.name.file(number));
        let is_encrypted = self.found.header().is_encrypted();
        Saved {
            info_file: self.directory.file(&info_name(number)),
            key_file: is_encrypted.then(|| self.directory.file(&key_name(number))),
            was_there,
            clearing,
            info: self.info(number, self.contents(&core_file)),
            core_file,
        }
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests;
