//! The minidump header of every architecture: whatever decodes has a layout in order.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcore_format::header::{Header, newest_version};
use vmcore_format::layout::{Layout, Section};

fuzz_target!(|data: &[u8]| {
    let Ok(header) = Header::parse(data) else {
        return;
    };
    assert!((1..=newest_version(header.arch)).contains(&header.version));
    let layout = Layout::of(&header);
    let sections = [
        Section::Header,
        Section::MessageBuffer,
        Section::DumpAvail,
        Section::Bitmap,
        Section::PageTables,
        Section::Pages,
    ];
    for pair in sections.windows(2) {
        assert!(layout.section(pair[0]).end() == layout.section(pair[1]).offset);
    }
});
