//! Saving that fails, or dies, at every single change: nothing is lost, and the next run finishes.

use super::*;
use crate::changes::Change;
use crate::changes::fate::{Accident, Fate};
use std::fs;
use std::sync::Mutex;
use vmcore_synth::header::DumpHeader;

/// A device with a dump, and a directory with an earlier one.
struct Scene {
    dir: tempfile::TempDir,
    header: DumpHeader,
    dump: Vec<u8>,
    key: Vec<u8>,
    options: Options,
}

impl Scene {
    fn new(header: DumpHeader, key: &[u8], maxdumps: Option<u64>) -> Self {
        let scene = Self {
            dir: tempfile::tempdir().unwrap(),
            dump: dump(),
            key: key.to_vec(),
            header,
            options: Options {
                clear: Clear::Always,
                maxdumps,
                ..Options::default()
            },
        };
        let media = scene
            .header
            .device(1 << 17, &scene.key, &scene.dump)
            .unwrap();
        fs::write(scene.image(), media).unwrap();
        fs::create_dir(scene.crash("")).unwrap();
        for (name, text) in [
            ("vmcore.0", "old dump"),
            ("info.0", "old info"),
            ("bounds", "1\n"),
        ] {
            fs::write(scene.crash(name), text).unwrap();
        }
        for (link, target) in [("vmcore.last", "vmcore.0"), ("info.last", "info.0")] {
            std::os::unix::fs::symlink(target, scene.crash(link)).unwrap();
        }
        scene
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("swap.img")
    }

    fn crash(&self, name: &str) -> PathBuf {
        self.dir.path().join("crash").join(name)
    }

    /// Saves what is on the device; `None` if nothing waits there.
    fn save(&self, changes: Changes<'_>) -> Option<Result<Saved, SaveError>> {
        let device = Device::open(&self.image()).unwrap();
        let found = device.find().unwrap()?;
        if found.is_cleared() {
            return None;
        }
        let crash = self.crash("");
        Some(save_with(
            changes,
            &device,
            &found,
            &crash,
            &self.options,
            &mut |_| {},
        ))
    }

    /// Numbers under which this very dump is in the directory, with all that belongs to it.
    fn copies(&self) -> Vec<u64> {
        let stem = if self.key.is_empty() {
            "vmcore"
        } else {
            "vmcore_encrypted"
        };
        let is_whole = |number: &u64| {
            fs::read(self.crash(&format!("{stem}.{number}"))).is_ok_and(|bytes| bytes == self.dump)
                && fs::read_to_string(self.crash(&format!("info.{number}")))
                    .is_ok_and(|info| info.contains("Dump Status: good"))
                && (self.key.is_empty()
                    || fs::read(self.crash(&format!("key.{number}")))
                        .is_ok_and(|key| key == self.key))
        };
        (0..9).filter(is_whole).collect()
    }

    fn is_on_device(&self) -> bool {
        let media = self.header.device(1 << 17, &self.key, &self.dump).unwrap();
        fs::read(self.image()).unwrap() == media
    }

    fn old_dump_is_intact(&self) -> bool {
        fs::read(self.crash("vmcore.0")).is_ok_and(|bytes| bytes == b"old dump")
            && fs::read(self.crash("info.0")).is_ok_and(|bytes| bytes == b"old info")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.crash("")).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Everything is as after a run without accident; but a link may point to an old dump if it
    /// could not be changed, and a killed run may leave `info.N` and `key.N` of a dump that it did not finish.
    fn check_finished(&self, accident: Accident, when: &str) {
        let names = self.names();
        let copies = self.copies();
        assert_eq!(copies.len(), 1, "{when}: {names:?}");
        let number = copies[0];
        let device = Device::open(&self.image()).unwrap();
        assert!(device.find().unwrap().unwrap().is_cleared(), "{when}");
        let bounds = fs::read_to_string(self.crash("bounds")).unwrap();
        assert_eq!(bounds, format!("{}\n", number + 1), "{when}");

        let (core, companions) = if self.key.is_empty() {
            ("vmcore", &["info"][..])
        } else {
            ("vmcore_encrypted", &["info", "key"][..])
        };
        let mut expected = vec!["bounds".to_owned()];
        if self.options.maxdumps.is_none() {
            expected.extend(["info.0".to_owned(), "vmcore.0".to_owned()]);
        }
        for stem in companions.iter().copied().chain([core]) {
            let (link, target) = (format!("{stem}.last"), format!("{stem}.{number}"));
            if accident != Accident::Error {
                let found = fs::read_link(self.crash(&link)).unwrap();
                assert_eq!(found, PathBuf::from(&target), "{when}");
            }
            expected.push(target);
        }
        for name in names.iter().filter(|name| !name.ends_with(".last")) {
            let is_remainder =
                accident != Accident::Error && companions.iter().any(|stem| name.starts_with(stem));
            assert!(expected.contains(name) || is_remainder, "{when}: {name}");
        }
        for name in &expected {
            assert!(names.contains(name), "{when}: no {name} in {names:?}");
        }
    }
}

/// Pages with and without contents, the last one without.
fn dump() -> Vec<u8> {
    let mut dump = vec![0; 6 * 4096];
    dump[..4096].fill(0x11);
    dump[2 * 4096..3 * 4096].fill(0x33);
    dump[4 * 4096 + 5] = 1;
    dump
}

/// Lets every accident happen at every change.
fn survive_everything(scene: impl Fn() -> Scene) {
    for accident in Accident::ALL {
        let mut at = 0;
        loop {
            let scene = scene();
            let when = format!("{accident:?} at change {at}");
            let fate = Fate::new(accident, at);
            let watcher = |change: &Change<'_>| fate.meet(change);
            let result = scene.save(Changes::watched(&watcher)).unwrap();
            let has_happened = fate.has_happened();
            assert!(has_happened || result.is_ok(), "{when}: {result:?}");
            if accident == Accident::PowerCut {
                fate.cut_power();
            }
            if result.is_err() {
                assert!(scene.is_on_device(), "{when}");
            }
            // Whatever happened, the dump is somewhere, and so are those of before.
            assert!(scene.is_on_device() || !scene.copies().is_empty(), "{when}");
            if scene.options.maxdumps.is_none() {
                assert!(scene.old_dump_is_intact(), "{when}");
            }
            if let Some(again) = scene.save(Changes::unwatched()) {
                again.unwrap_or_else(|error| panic!("{when}: {error}"));
            } else if !matches!(&result, Ok(saved) if saved.clearing == Clearing::Cleared) {
                // A header that is torn or was not made durable; the copy must be there then.
                assert_eq!(scene.copies().len(), 1, "{when}");
            }
            if !matches!(accident, Accident::TornKill) || scene.is_cleared_or_whole() {
                scene.check_finished(accident, &when);
            }
            if !has_happened {
                assert!(at > 5, "only {at} changes");
                break;
            }
            at += 1;
        }
    }
}

impl Scene {
    /// Whether the trailing header is one that can be read: a torn write leaves none.
    fn is_cleared_or_whole(&self) -> bool {
        Device::open(&self.image())
            .unwrap()
            .find()
            .unwrap()
            .is_some()
    }
}

fn header() -> DumpHeader {
    DumpHeader {
        panicstring: "page fault".to_owned(),
        ..DumpHeader::new("amd64", dump().len() as u64)
    }
}

#[test]
fn no_accident_loses_a_dump_or_keeps_the_next_run_from_finishing() {
    survive_everything(|| Scene::new(header(), &[], None));
}

#[test]
fn no_accident_separates_an_encrypted_dump_from_its_key() {
    let header = DumpHeader {
        dumpkeysize: 1024,
        ..header()
    };
    survive_everything(|| Scene::new(header.clone(), &[0x5a; 1024], None));
}

#[test]
fn no_accident_loses_a_dump_that_takes_the_number_of_an_old_one() {
    survive_everything(|| Scene::new(header(), &[], Some(1)));
}

#[test]
fn no_accident_happens_to_the_copy_of_a_run_that_was_killed_before_it_could_clear() {
    survive_everything(|| {
        let mut scene = Scene::new(header(), &[], None);
        scene.options.clear = Clear::Never;
        scene.save(Changes::unwatched()).unwrap().unwrap();
        scene.options.clear = Clear::Always;
        scene
    });
}

#[test]
fn the_header_is_cleared_after_everything_else_is_durable() {
    let scene = Scene::new(header(), &[], None);
    let changes = Mutex::new(Vec::new());
    let watcher = |change: &Change<'_>| {
        changes.lock().unwrap().push(match change {
            Change::Write { path, .. } if path.ends_with("swap.img") => "clear",
            Change::Sync(path) if path.ends_with("swap.img") => "sync device",
            Change::SyncDirectory => "sync directory",
            _ => "other",
        });
        Ok(())
    };
    scene.save(Changes::watched(&watcher)).unwrap().unwrap();
    let changes = changes.into_inner().unwrap();
    let (ahead, clearing) = changes.split_at(changes.len() - 2);
    assert_eq!(clearing, ["clear", "sync device"]);
    assert_eq!(ahead.last(), Some(&"sync directory"));
    assert!(!ahead.contains(&"clear"));
}
