//! The minidump header of every architecture: whatever decodes has a layout in order, and a direct
//! map that leads back.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcore_format::addr::{PhysAddr, VirtAddr};
use vmcore_format::header::{DirectMap, Header, newest_version};
use vmcore_format::layout::{Layout, Section};

fuzz_target!(|data: &[u8]| {
    let Ok(header) = Header::parse(data) else {
        return;
    };
    assert!((1..=newest_version(header.arch)).contains(&header.version));
    let mut page = vec![1; 4096];
    if header.encode(&mut page).is_ok() {
        assert_eq!(Header::parse(&page), Ok(header));
    }
    let layout = Layout::of(&header);
    for padded in [false, true] {
        in_order(&header, &layout.with_padding(padded));
    }
    let [packed, padded] = [false, true].map(|padded| layout.with_padding(padded).end(1));
    assert_eq!(layout.is_even(), packed == padded);
    if let Some(map) = header.direct_map {
        for va in [map.base, VirtAddr(map.end.0.wrapping_sub(1)), map.end] {
            leads_back(&map, va);
        }
        for pa in [map.phys, PhysAddr(u64::MAX)] {
            if let Some(va) = map.virt_of(pa) {
                assert_eq!(map.phys_of(va), Some(pa));
            }
        }
    }
});

/// One section follows another, on page boundaries but after page tables that are not whole pages.
fn in_order(header: &Header, layout: &Layout) {
    let sections = [
        Section::Header,
        Section::MessageBuffer,
        Section::DumpAvail,
        Section::Bitmap,
        Section::PageTables,
        Section::Pages,
    ];
    let page = header.page_size.bytes();
    for pair in sections.windows(2) {
        let (extent, next) = (layout.section(pair[0]), layout.section(pair[1]));
        assert_eq!(extent.end(), next.offset);
        assert!(extent.len_bytes <= extent.stored_bytes);
        let is_packed = extent.stored_bytes == extent.len_bytes;
        let may_be_packed = pair[0] == Section::PageTables && is_packed;
        assert!(may_be_packed || extent.stored_bytes.is_multiple_of(page));
    }
    let pages = layout.section(Section::Pages).offset;
    assert_eq!(layout.end(0), Some(pages));
    assert_eq!(layout.end(u64::MAX), None);
}

fn leads_back(map: &DirectMap, va: VirtAddr) {
    if let Some(pa) = map.phys_of(va) {
        assert!(map.base <= va && va < map.end);
        assert_eq!(map.virt_of(pa), Some(va));
    }
}
