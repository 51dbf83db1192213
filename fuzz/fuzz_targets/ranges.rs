//! The RAM ranges of a machine and the numbers of their pages, against counting page by page.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcore_format::addr::{PageSize, Pfn, PhysAddr, PhysRange};
use vmcore_format::dump_avail::{NumberedRange, Numbering, decode};
use vmcore_format::endian::{Endian, Width};
use vmcore_fuzz::input::Input;

/// Pages that are counted one by one.
const COUNTED: u64 = 4096;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let shape = input.byte();
    let size = if shape & 1 == 0 {
        PageSize::SIZE_4K
    } else {
        PageSize::SIZE_16K
    };
    if shape & 2 == 0 {
        let endian = if shape & 4 == 0 {
            Endian::Little
        } else {
            Endian::Big
        };
        check(size, &decoded(input.0, endian));
    } else {
        check(size, &small(input));
    }
});

/// The ranges of a section of any bytes.
fn decoded(bytes: &[u8], endian: Endian) -> Vec<PhysRange> {
    let ranges: Vec<PhysRange> = decode(bytes, endian, Width::W64).collect();
    let number = |bytes: &[u8]| {
        let bytes = bytes.try_into().expect("eight bytes");
        match endian {
            Endian::Little => u64::from_le_bytes(bytes),
            Endian::Big => u64::from_be_bytes(bytes),
        }
    };
    let mut expected = Vec::new();
    for pair in bytes.chunks_exact(16) {
        let (start, end) = (number(&pair[..8]), number(&pair[8..]));
        if end == 0 {
            break;
        }
        let (start, end) = (PhysAddr(start), PhysAddr(end));
        expected.push(PhysRange { start, end });
    }
    assert_eq!(ranges, expected);
    ranges
}

/// Ranges of a few pages with small holes between them; boundaries are anywhere in a page.
fn small(mut input: Input<'_>) -> Vec<PhysRange> {
    let mut ranges = Vec::new();
    let mut at = 0u64;
    while !input.0.is_empty() && ranges.len() < 64 {
        let start = at + u64::from(u16::from_le_bytes(input.array())) / 2;
        let end = start + u64::from(u16::from_le_bytes(input.array()));
        // Every now and then one that overlaps or is reversed.
        at = if input.byte() == 0 { start } else { end };
        ranges.push(PhysRange {
            start: PhysAddr(start),
            end: PhysAddr(end),
        });
    }
    ranges
}

fn check(size: PageSize, ranges: &[PhysRange]) {
    let mut numbered = vec![NumberedRange::default(); ranges.len()];
    let count = NumberedRange::number(size, ranges.iter().copied(), &mut numbered);
    assert_eq!(count.accepted + count.refused, ranges.len());
    let numbered = &numbered[..count.accepted];
    let numbering = Numbering::new(numbered);

    // Ranges in order, each numbered after the one before.
    let mut accepted = ranges.to_vec();
    let mut last_end = PhysAddr(0);
    accepted.retain(|range| {
        let good = range.start >= last_end && range.start < range.end;
        last_end = if good { range.end } else { last_end };
        good
    });
    assert_eq!(accepted.len(), count.accepted);
    let mut bit = 0;
    for (range, number) in accepted.iter().zip(numbered) {
        assert_eq!(number.first_bit, bit);
        assert_eq!(number.first, size.pfn(range.start));
        assert_eq!(number.end.0, range.end.0.div_ceil(size.bytes()));
        bit += number.len_pages();
    }
    assert_eq!(numbering.total_pages(), bit);
    assert_eq!(numbering.pfn_of(bit), None);

    // Bit by bit. A page that two ranges share has the bit of the first.
    let mut bit = 0;
    let mut before = None;
    for range in numbered {
        for pfn in range.first.0..range.end.0 {
            if bit >= COUNTED {
                return;
            }
            let pfn = Pfn(pfn);
            assert_eq!(numbering.pfn_of(bit), Some(pfn));
            let is_shared = before == Some(pfn);
            if !is_shared {
                assert_eq!(numbering.bit_of(pfn), Some(bit));
            } else {
                assert!(numbering.bit_of(pfn) < Some(bit));
            }
            before = Some(pfn);
            bit += 1;
        }
        let next = Pfn(range.end.0);
        let is_hole = !numbered
            .iter()
            .any(|range| range.first <= next && next < range.end);
        assert_eq!(numbering.bit_of(next).is_none(), is_hole);
    }
}
