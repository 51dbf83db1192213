//! The numbering of pages against the specification's algorithm, written down once more.

use super::*;
use proptest::prelude::*;
use std::{vec, vec::Vec};

const PAGE: PageSize = PageSize::SIZE_4K;

fn range(start: u64, end: u64) -> PhysRange {
    PhysRange {
        start: PhysAddr(start),
        end: PhysAddr(end),
    }
}

/// Numbers ranges that are expected to be in order.
fn number(page_size: PageSize, ranges: &[PhysRange]) -> Vec<NumberedRange> {
    let (numbered, refused) = number_what_can_be(page_size, ranges);
    assert_eq!(refused, 0);
    numbered
}

fn number_what_can_be(page_size: PageSize, ranges: &[PhysRange]) -> (Vec<NumberedRange>, usize) {
    let mut out = vec![NumberedRange::default(); ranges.len()];
    let count = NumberedRange::number(page_size, ranges.iter().copied(), &mut out);
    out.truncate(count.accepted);
    (out, count.refused)
}

fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The bit of a physical address as the specification says it, range by range.
fn naive_bit_of(page_size: PageSize, ranges: &[PhysRange], pa: u64) -> Option<u64> {
    let page = u128::from(page_size.bytes());
    let (pa, mut base) = (u128::from(pa) / page * page, 0);
    for range in ranges {
        let (start, end) = (u128::from(range.start.0), u128::from(range.end.0));
        if pa >= end {
            base += end.div_ceil(page) - start / page;
            continue;
        }
        if pa / page < start / page {
            return None;
        }
        return Some(u64::try_from(base + pa / page - start / page).unwrap());
    }
    None
}

#[test]
fn the_example_of_the_specification_is_numbered_as_there() {
    let numbered = number(
        PAGE,
        &[range(0x1000, 0x9_f800), range(0x10_0800, 0x80_0000)],
    );
    let numbering = Numbering::new(&numbered);
    for (pa, bit) in [
        (0x1000, Some(0)),
        (0x9_e000, Some(157)),
        (0x9_f000, Some(158)),
        (0xa_0000, None),
        (0x10_0000, Some(159)),
        (0x23_4000, Some(467)),
        (0x7f_f000, Some(1950)),
        (0x80_0000, None),
        (0, None),
    ] {
        let pfn = PAGE.pfn(PhysAddr(pa));
        assert_eq!(numbering.bit_of(pfn), bit, "{pa:#x}");
        if let Some(bit) = bit {
            assert_eq!(numbering.pfn_of(bit), Some(pfn));
        }
    }
    assert_eq!(numbering.total_pages(), 1951);
    assert_eq!(numbering.pfn_of(1951), None);
    assert_eq!(numbering.pfn_of(u64::MAX), None);
}

#[test]
fn the_ranges_of_a_real_machine_hold_the_pages_that_it_counted() {
    let ranges = [range(0, 0x9_f000), range(0x10_4000, 0x7fd_f000)];
    let numbered = number(PAGE, &ranges);
    let numbering = Numbering::new(&numbered);
    assert_eq!(numbering.total_pages(), 32634);
    assert_eq!(
        numbering.pfn_of(32633),
        Some(PAGE.pfn(PhysAddr(0x7fd_e000)))
    );
    assert_eq!(numbering.bit_of(PAGE.pfn(PhysAddr(0x1cd_4c0c))), Some(7279));
    let ranges = [
        range(0x4000_0000, 0x4bca_0000),
        range(0x4bd0_0000, 0x4bdc_0000),
        range(0x4be4_0000, 0x4bfb_0000),
        range(0x4c00_0000, 0x4c02_0000),
        range(0x4c04_0000, 0x4c0f_0000),
        range(0x4c1e_0000, 0x4f4c_0000),
        range(0x4f55_0000, 0x5000_0000),
    ];
    let numbered = number(PAGE, &ranges);
    assert_eq!(Numbering::new(&numbered).total_pages(), 64816);
    assert_eq!(
        Numbering::new(&numbered).bit_of(Pfn(0x4f7f_c000 >> 12)),
        Some(62764)
    );
}

#[test]
fn pages_are_those_of_the_dumps_page_size() {
    let numbered = number(PageSize::SIZE_16K, &[range(0x5000, 0x1_0001)]);
    let numbering = Numbering::new(&numbered);
    assert_eq!(numbered[0].len_pages(), 4);
    assert_eq!(numbering.bit_of(Pfn(1)), Some(0));
    assert_eq!(numbering.bit_of(Pfn(4)), Some(3));
    assert_eq!(numbering.bit_of(Pfn(5)), None);
}

#[test]
fn ranges_end_at_the_first_pair_whose_end_is_zero() {
    let decoded =
        |words: &[u64]| decode(&bytes(words), Endian::Little, Width::W64).collect::<Vec<_>>();
    let first = range(0, 0x9_f000);
    assert_eq!(decoded(&[0, 0x9_f000, 0, 0, 1, 2]), [first]);
    // The start of the terminator is not looked at.
    assert_eq!(decoded(&[0, 0x9_f000, 0x1234, 0, 1, 2]), [first]);
    assert_eq!(decoded(&[0, 0]), []);
    assert_eq!(decoded(&[]), []);
}

#[test]
fn the_kernels_byte_order_decides() {
    let big: Vec<u8> = [0x1000u64, 0x8000, 0, 0]
        .iter()
        .flat_map(|word| word.to_be_bytes())
        .collect();
    assert_eq!(
        decode(&big, Endian::Big, Width::W64).collect::<Vec<_>>(),
        [range(0x1000, 0x8000)]
    );
}

/// Half a pair, and sizes that are not a multiple of anything.
#[test]
fn half_a_pair_is_no_pair() {
    let array = bytes(&[0x1000, 0x2000, 0x3000, 0x4000]);
    for (len, pairs) in [
        (0, 0),
        (8, 0),
        (15, 0),
        (16, 1),
        (17, 1),
        (24, 1),
        (31, 1),
        (32, 2),
    ] {
        assert_eq!(
            decode(&array[..len], Endian::Little, Width::W64).count(),
            pairs,
            "{len} bytes"
        );
    }
}

/// The end of the array ends it.
#[test]
fn an_array_without_terminator_ends_with_its_bytes() {
    let array = bytes(&[0x1000, 0x2000, 0x3000, 0x4000]);
    let decoded: Vec<_> = decode(&array, Endian::Little, Width::W64).collect();
    assert_eq!(decoded, [range(0x1000, 0x2000), range(0x3000, 0x4000)]);
}

/// What is out of order is left out, counted, and does not move the others' bits.
#[test]
fn ranges_out_of_order_are_refused_and_counted() {
    let good = [range(0x1000, 0x3000), range(0x8000, 0xa000)];
    for (odd, what) in [
        (range(0x7000, 0x6000), "reversed"),
        (range(0x5000, 0x5000), "empty"),
        (range(0x2000, 0x6000), "overlapping"),
        (range(0x0, 0x800), "descending"),
        (range(u64::MAX, 1), "reversed over all memory"),
    ] {
        let (numbered, refused) = number_what_can_be(PAGE, &[good[0], odd, good[1]]);
        assert_eq!(refused, 1, "{what}");
        assert_eq!(numbered, number(PAGE, &good), "{what}");
    }
}

/// Rounding the end up must not overflow.
#[test]
fn a_range_up_to_the_last_byte_does_not_overflow() {
    for end in [u64::MAX, u64::MAX - 0xfff, u64::MAX - 0x1000] {
        let numbered = number(PAGE, &[range(0x1000, 0x2000), range(0x10_0000, end)]);
        let numbering = Numbering::new(&numbered);
        let pages = end.div_ceil(4096) - 0x100;
        assert_eq!(numbering.total_pages(), 1 + pages);
        let last = numbering.pfn_of(pages).unwrap();
        assert_eq!(last, Pfn(end.div_ceil(4096) - 1));
        assert_eq!(numbering.bit_of(last), Some(pages));
        assert_eq!(numbering.pfn_of(pages + 1), None);
    }
    let numbered = number(PAGE, &[range(0, u64::MAX)]);
    assert_eq!(Numbering::new(&numbered).total_pages(), 1 << 52);
}

#[test]
fn ranges_without_room_are_counted_as_refused() {
    let ranges = [
        range(0, 0x1000),
        range(0x2000, 0x3000),
        range(0x4000, 0x5000),
    ];
    let mut out = [NumberedRange::default(); 2];
    let count = NumberedRange::number(PAGE, ranges, &mut out);
    assert_eq!(
        count,
        NumberedCount {
            accepted: 2,
            refused: 1
        }
    );
    let count = NumberedRange::number(PAGE, ranges, &mut []);
    assert_eq!(
        count,
        NumberedCount {
            accepted: 0,
            refused: 3
        }
    );
}

/// A page that two ranges share has two bits; the first one is its own.
#[test]
fn where_two_ranges_meet_inside_a_page_the_first_wins() {
    let ranges = [range(0x1000, 0x3400), range(0x3800, 0x5000)];
    let numbered = number(PAGE, &ranges);
    let numbering = Numbering::new(&numbered);
    assert_eq!(numbering.total_pages(), 5);
    assert_eq!(numbering.bit_of(Pfn(3)), Some(2));
    assert_eq!(
        (numbering.pfn_of(2), numbering.pfn_of(3)),
        (Some(Pfn(3)), Some(Pfn(3)))
    );
    assert_eq!(numbering.bit_of(Pfn(4)), Some(4));
}

#[test]
fn versions_without_ranges_number_their_pages_from_zero() {
    let linear = [NumberedRange::linear(32768)];
    let numbering = Numbering::new(&linear);
    assert_eq!(numbering.bit_of(Pfn(0)), Some(0));
    assert_eq!(numbering.bit_of(Pfn(32767)), Some(32767));
    assert_eq!(numbering.bit_of(Pfn(32768)), None);
    assert_eq!(numbering.pfn_of(32768), None);
    let none = [NumberedRange::linear(0)];
    assert_eq!(
        (
            Numbering::new(&none).bit_of(Pfn(0)),
            Numbering::new(&none).pfn_of(0)
        ),
        (None, None)
    );
    assert_eq!(Numbering::new(&[]).total_pages(), 0);
    assert_eq!(Numbering::new(&[]).bit_of(Pfn(0)), None);
}

/// Ranges in order, few or many, aligned or not.
fn some_ranges() -> impl Strategy<Value = Vec<PhysRange>> {
    prop::collection::vec((0u64..0x9000, 1u64..0x2_0000), 1..20).prop_map(|steps| {
        let mut at = 0;
        steps
            .into_iter()
            .map(|(gap, len)| {
                let start = at + gap;
                at = start + len;
                range(start, at)
            })
            .collect()
    })
}

/// Any pairs at all, as a damaged file has them.
fn any_ranges() -> impl Strategy<Value = Vec<PhysRange>> {
    let address = || prop_oneof![any::<u64>(), 0u64..0x10_0000, Just(u64::MAX)];
    prop::collection::vec((address(), address()), 0..20).prop_map(|pairs| {
        pairs
            .into_iter()
            .map(|(start, end)| range(start, end))
            .collect()
    })
}

fn a_page_size() -> impl Strategy<Value = PageSize> {
    prop_oneof![Just(PageSize::SIZE_4K), Just(PageSize::SIZE_16K)]
}

proptest! {
    #[test]
    fn bits_are_those_of_the_specification(
        ranges in some_ranges(),
        page_size in a_page_size(),
        pa in 0u64..0x30_0000,
    ) {
        let numbered = number(page_size, &ranges);
        let bit = Numbering::new(&numbered).bit_of(page_size.pfn(PhysAddr(pa)));
        prop_assert_eq!(bit, naive_bit_of(page_size, &ranges, pa));
    }

    #[test]
    fn a_page_and_its_bit_lead_to_each_other(ranges in some_ranges(), page_size in a_page_size()) {
        let numbered = number(page_size, &ranges);
        let numbering = Numbering::new(&numbered);
        let mut last = None;
        for bit in 0..numbering.total_pages() {
            let pfn = numbering.pfn_of(bit).unwrap();
            prop_assert!(last <= Some(pfn), "pages ascend with their bits");
            // A page that two ranges share belongs to the first of its bits.
            let own = numbering.bit_of(pfn).unwrap();
            let is_shared = last == Some(pfn);
            prop_assert!((is_shared && own < bit) || (!is_shared && own == bit));
            last = Some(pfn);
        }
        prop_assert_eq!(numbering.pfn_of(numbering.total_pages()), None);
    }

    #[test]
    fn damaged_ranges_leave_a_numbering_in_order(
        ranges in any_ranges(),
        page_size in a_page_size(),
        bit in any::<u64>(),
        pfn in any::<u64>(),
    ) {
        let (numbered, refused) = number_what_can_be(page_size, &ranges);
        prop_assert_eq!(numbered.len() + refused, ranges.len());
        for pair in numbered.windows(2) {
            prop_assert!(pair[0].first < pair[0].end && pair[0].end.0 <= pair[1].first.0 + 1);
            prop_assert_eq!(pair[1].first_bit, pair[0].first_bit + pair[0].len_pages());
        }
        let numbering = Numbering::new(&numbered);
        if let Some(pfn) = numbering.pfn_of(bit) {
            prop_assert!(numbering.bit_of(pfn).is_some_and(|own| own <= bit));
        }
        if let Some(bit) = numbering.bit_of(Pfn(pfn)) {
            prop_assert_eq!(numbering.pfn_of(bit), Some(Pfn(pfn)));
        }
    }
}

#[test]
fn ranges_of_32_bits_are_told_by_their_numbers() {
    for endian in [Endian::Little, Endian::Big] {
        let narrow = |words: &[u32]| {
            let bytes = words.iter().flat_map(|word| endian.bytes32(*word));
            bytes.collect::<Vec<u8>>()
        };
        let wide = |words: &[u64]| {
            let bytes = words.iter().flat_map(|word| endian.bytes64(*word));
            bytes.collect::<Vec<u8>>()
        };
        assert!(is_narrow(
            &narrow(&[0x8000_1000, 0xa000_0000, 0, 0]),
            endian
        ));
        assert!(is_narrow(
            &narrow(&[0, 0x80_0000, 0x100_0000, 0x200_0000]),
            endian
        ));
        assert!(!is_narrow(&wide(&[0x8000_1000, 0xa000_0000, 0, 0]), endian));
        assert!(!is_narrow(&wide(&[0, 0x80_0000, 0, 0]), endian));
        // The halves of wide addresses that are wrong, or cut, are not narrow ranges.
        assert!(!is_narrow(&wide(&[0x2000, 0x1000, 0, 0]), endian));
        assert!(!is_narrow(&wide(&[0x1000])[..], endian));
        assert!(!is_narrow(&[0; 32], endian));
        assert!(!is_narrow(&[], endian));
        let ranges: Vec<_> = decode(
            &narrow(&[0x1000, 0x3000, 0x5000, 0x6000, 0, 0]),
            endian,
            Width::W32,
        )
        .collect();
        assert_eq!(ranges.len(), 2);
        assert_eq!(ranges[1].end, PhysAddr(0x6000));
    }
}
