//! A dump on its device: whatever the headers say, a copy is complete or there is none, and the
//! device is as before unless it was to be marked. The input is the header of the dump, then what
//! is after it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::Path;
use vmcore_format::kerneldump::{DumpHeader, HEADER_LEN, HeaderKind, parity};
use vmcore_fuzz::file::{InputFile, output_folder};
use vmcore_fuzz::limit;
use vmcore_pipeline::save::{Clear, Device, Form, Options, save};

/// Bytes before everything that a kernel leaves alone.
const FREE: usize = 64 << 10;
/// The most bytes of a device that is laid out as its header says.
const LONGEST: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((header, tail)) = data.split_first_chunk::<HEADER_LEN>() else {
        return;
    };
    let mut header = *header;
    // The parity would always be wrong, so it says what to do, and is put right.
    let word = header.last_chunk_mut::<4>().expect("a header is longer");
    let shape = std::mem::take(&mut word[0]);
    *word = [0; 4];
    let sum = parity(&header);
    *header.last_chunk_mut().expect("as above") = sum.to_be_bytes();
    if shape & 1 == 1 {
        header[500] ^= 1;
    }
    let laid_out = laid_out(&header, tail);
    let is_laid_out = laid_out.is_some();
    let (image, start) = laid_out.unwrap_or_else(|| {
        let mut image = tail.to_vec();
        image.extend_from_slice(&header);
        (image, 0)
    });
    let options = Options {
        force: shape & 2 == 2,
        clear: if shape & 4 == 4 {
            Clear::Always
        } else {
            Clear::Device
        },
        maxdumps: (shape & 8 == 8).then_some(1),
        form: Form::AsIs,
    };
    let file = InputFile::new(&image);
    limit::memory(image.len(), || {
        let dump = is_laid_out.then(|| &image[start..]);
        let saved = check(file.path(), &image, dump, &options);
        // A dump that is where its sound headers say is saved.
        if let (true, Ok(header)) = (is_laid_out, DumpHeader::parse(&header)) {
            let is_sound = header.kind != HeaderKind::Cleared
                && (header.kind != HeaderKind::Text || header.dumplength.is_multiple_of(512))
                && [512, 1024, 2048, 4096].contains(&header.blocksize);
            assert!(saved || !is_sound, "{header:?}");
        }
    });
});

/// A device with the dump between its two headers, and where the dump starts; `None` for a header
/// that cannot be obeyed.
fn laid_out(header: &[u8; HEADER_LEN], dump: &[u8]) -> Option<(Vec<u8>, usize)> {
    let parsed = DumpHeader::parse(header).ok()?;
    let sector = usize::try_from(parsed.blocksize).ok()?.max(HEADER_LEN);
    let extent = parsed.dumpextent;
    let key = u64::from(parsed.dumpkeysize);
    if parsed.dumplength > extent || extent.checked_add(key)? > LONGEST || sector > 4096 {
        return None;
    }
    let extent = usize::try_from(extent).ok()?;
    let key = usize::try_from(key).ok()?;
    let mut image = vec![0; FREE];
    let mut block = header.to_vec();
    block.resize(sector, 0);
    image.extend_from_slice(&block);
    image.resize(image.len() + key, 0x6b);
    let start = image.len();
    image.extend_from_slice(&dump[..dump.len().min(extent)]);
    image.resize(start + extent, 0);
    image.extend_from_slice(&block);
    Some((image, start))
}

/// Saves what is found, twice; whether it could be saved. `dump` is where the dump starts, if that
/// is known.
fn check(path: &Path, image: &[u8], dump: Option<&[u8]>, options: &Options) -> bool {
    let device = Device::open(path).expect("a regular file");
    let folder = output_folder();
    let found = match device.find() {
        Ok(Some(found)) => found,
        Ok(None) => return false,
        Err(error) => panic!("reading a regular file: {error}"),
    };
    let before = std::fs::read(path).expect("the device");
    assert!(before == image);
    let saved = save(&device, &found, folder.path(), options, &mut |_| {});
    let after = std::fs::read(path).expect("the device");
    let Ok(saved) = saved else {
        assert!(after == image, "the device has changed");
        let left = std::fs::read_dir(folder.path()).expect("the folder");
        for entry in left {
            let name = entry.expect("an entry").file_name();
            let name = name.to_string_lossy();
            assert!(!name.starts_with("vmcore"), "{name} is left behind");
        }
        return false;
    };
    let copy = std::fs::read(&saved.core_file).expect("the copy");
    let header = found.header();
    assert_eq!(copy.len() as u64, header.dumplength);
    let is_text = header.is_text();
    if let Some(dump) = dump.filter(|_| !is_text) {
        assert!(dump.starts_with(&copy), "another dump");
    }
    let changed = image.iter().zip(&after).filter(|(a, b)| a != b).count();
    assert_eq!(after.len(), image.len());
    assert!(changed <= HEADER_LEN && (changed == 0 || options.clear == Clear::Always));

    let again = device.find().expect("a regular file");
    let again = again.expect("what was found before");
    if changed > 0 {
        assert!(again.is_cleared());
    }
    let unforced = Options {
        force: false,
        ..*options
    };
    if let Ok(second) = save(&device, &again, folder.path(), &unforced, &mut |_| {}) {
        assert!(second.was_there);
    }
    true
}
