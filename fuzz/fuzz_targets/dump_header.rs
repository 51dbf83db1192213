//! The 512-byte header around a dump on a device: whatever decodes is consistent.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcore_format::kerneldump::{DumpHeader, Kind, parity};

fuzz_target!(|data: &[u8]| {
    let Ok(header) = DumpHeader::parse(data) else {
        return;
    };
    assert!((1..=4).contains(&header.version));
    let raw = data
        .first_chunk()
        .expect("a shorter header does not decode");
    assert!(header.kind == Kind::Cleared || parity(raw) == 0);
    for text in [
        header.architecture,
        header.hostname,
        header.versionstring,
        header.panicstring,
    ] {
        assert!(!text.contains(&0));
    }
});
