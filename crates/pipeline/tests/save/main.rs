//! Saving dumps of every kind from images of devices, sound and damaged.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests may fail")]

mod copies;
mod directory;
mod headers;
mod info;

use std::fs;
use std::path::{Path, PathBuf};
use vmcore_pipeline::save::{Clear, Device, FoundDump, Options, SaveError, Saved, save};
use vmcore_synth::header::DumpHeader;

/// Bytes of the devices.
pub(crate) const MEDIA: u64 = 256 << 10;

/// A device's image, and a directory to save to.
pub(crate) struct Scene {
    pub(crate) dir: tempfile::TempDir,
}

impl Scene {
    pub(crate) fn new(image: &[u8]) -> Self {
        let scene = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        fs::write(scene.image(), image).unwrap();
        fs::create_dir(scene.crash("")).unwrap();
        scene
    }

    /// A dump on a device.
    pub(crate) fn with(header: &DumpHeader, key: &[u8], dump: &[u8]) -> Self {
        Self::new(&header.device(MEDIA, key, dump).unwrap())
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.dir.path().join("swap.img")
    }

    pub(crate) fn crash(&self, name: &str) -> PathBuf {
        self.dir.path().join("crash").join(name)
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.crash(name)).unwrap()
    }

    pub(crate) fn device(&self) -> Device {
        Device::open(&self.image()).unwrap()
    }

    pub(crate) fn find(&self) -> Option<FoundDump> {
        self.device().find().unwrap()
    }

    pub(crate) fn found(&self) -> FoundDump {
        self.find().unwrap()
    }

    pub(crate) fn try_save(&self, options: &Options) -> Result<Saved, SaveError> {
        save(
            &self.device(),
            &self.found(),
            &self.crash(""),
            options,
            &mut |_| {},
        )
    }

    pub(crate) fn save(&self) -> Saved {
        self.try_save(&Options::default()).unwrap()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.crash("")).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

pub(crate) fn forced() -> Options {
    Options {
        force: true,
        ..Options::default()
    }
}

pub(crate) fn clearing() -> Options {
    Options {
        clear: Clear::Always,
        ..Options::default()
    }
}

/// Bytes that no two pages have in common.
pub(crate) fn bytes(len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| u8::try_from(i % 251 + i / 4096 % 5).unwrap() | 1)
        .collect()
}

pub(crate) fn header(len: usize) -> DumpHeader {
    DumpHeader {
        panicstring: "page fault".to_owned(),
        hostname: "testhost".to_owned(),
        ..DumpHeader::new("amd64", len as u64)
    }
}

pub(crate) fn link(path: &Path) -> String {
    fs::read_link(path).unwrap().to_str().unwrap().to_owned()
}
