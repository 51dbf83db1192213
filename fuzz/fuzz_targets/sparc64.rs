//! The header of sparc64's dumps and their regions: what is told from it is at its offsets, and a
//! dump after it opens or is refused, in memory bounded by the file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcore::format::addr::{PhysAddr, VirtAddr};
use vmcore::format::sparc64::{DumpHeader, Region, is_header};
use vmcore::{Dump, OpenOptions};
use vmcore_fuzz::file::InputFile;
use vmcore_fuzz::input::Input;

fuzz_target!(|data: &[u8]| {
    let (mut input, mut bytes) = (Input(data), data.to_vec());
    // Most headers have a right length, so that what follows it is looked at.
    let regions = input.byte() % 8;
    if regions > 0 && bytes.len() > 40 {
        bytes[..8].copy_from_slice(&512_u64.to_be_bytes());
        bytes[32..36].copy_from_slice(&[0, 0, 0, regions]);
    }
    let Some(header) = DumpHeader::parse(&bytes) else {
        assert!(!is_header(&bytes));
        return;
    };
    let number = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    assert_eq!(header.len_bytes, number(0));
    assert_eq!((header.tsb_pa.0, header.tsb_mask), (number(8), number(24)));
    for index in 0..header.regions.min(8) {
        let (at, len) = DumpHeader::region_at(index);
        let at = usize::try_from(at).expect("small");
        if let Some(region) = bytes.get(at..at + len).and_then(Region::parse) {
            assert_eq!(
                (region.pa.0, region.len_bytes, region.offset.0),
                (number(at), number(at + 8), number(at + 16))
            );
        }
    }
    let file = InputFile::new(&bytes);
    let Ok(dump) = Dump::open(file.path(), &OpenOptions::default()) else {
        return;
    };
    let Ok(translation) = dump.translation(None) else {
        return;
    };
    for _ in 0..8 {
        let va = VirtAddr(input.u64());
        if let Ok(found) = translation.lookup(dump.memory(), va) {
            let mut byte = [0];
            let _ = dump.memory().read(found.leaf.pa, &mut byte);
        }
        let _ = dump.memory().locate(PhysAddr(va.0));
    }
});
