//! The bitmap against a model that knows one thing: the value of each bit, by the specification's
//! own table of word orders.

use super::*;
use proptest::prelude::*;
use std::{vec, vec::Vec};

const ORDERS: [WordOrder; 3] = [WordOrder::Little, WordOrder::Big32, WordOrder::Big64];

/// Byte and mask of bit `n`, as tabled for each kernel (bitmap section of the format).
fn place(order: WordOrder, n: usize) -> (usize, u8) {
    let byte = match order {
        WordOrder::Little => n / 8,
        WordOrder::Big32 => n / 32 * 4 + 3 - n % 32 / 8,
        WordOrder::Big64 => n / 64 * 8 + 7 - n % 64 / 8,
    };
    (byte, 1 << (n % 8))
}

/// The set bits of `bytes`, one by one; missing bytes of the last word are zero.
fn naive_ones(bytes: &[u8], order: WordOrder) -> Vec<u64> {
    (0..bytes.len().next_multiple_of(8) * 8)
        .filter(|n| {
            let (byte, mask) = place(order, *n);
            bytes.get(byte).is_some_and(|byte| byte & mask != 0)
        })
        .map(|n| n as u64)
        .collect()
}

fn bytes_with(order: WordOrder, len: usize, bits: &[usize]) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for bit in bits {
        let (byte, mask) = place(order, *bit);
        bytes[byte] |= mask;
    }
    bytes
}

fn index(bitmap: &Bitmap<'_>) -> (RankIndex<Vec<u64>>, u64) {
    let mut entries = vec![0; RankIndex::len_words(bitmap)];
    let total = RankIndex::fill(bitmap, &mut entries);
    (RankIndex::new(entries), total)
}

/// Checks everything that can be asked of a bitmap whose set bits are `ones`.
fn check(bytes: &[u8], order: WordOrder, ones: &[u64]) {
    let bitmap = Bitmap::new(bytes, order);
    let (index, total) = index(&bitmap);
    let count = ones.len() as u64;
    assert_eq!((total, bitmap.count_ones()), (count, count));
    assert!(ones.iter().all(|bit| *bit < bitmap.len_bits()));
    let all = 0..bitmap.len_bits();
    assert_eq!(bitmap.ones(all).collect::<Vec<_>>(), ones);
    for (rank, bit) in (0..).zip(ones) {
        assert!(bitmap.contains(*bit));
        assert_eq!(index.rank(&bitmap, *bit), rank, "rank of bit {bit}");
        assert_eq!(index.rank(&bitmap, bit + 1), rank + 1);
        assert_eq!(index.rank_of_set(&bitmap, *bit), Some(rank));
        assert_eq!(index.select(&bitmap, rank), Some(*bit), "select of {rank}");
    }
    assert_eq!(index.select(&bitmap, count), None);
    assert_eq!(index.select(&bitmap, u64::MAX), None);
    for beyond in [
        bitmap.len_bits(),
        bitmap.len_bits() + 511,
        1 << 40,
        u64::MAX,
    ] {
        assert_eq!(index.rank_of_set(&bitmap, beyond), None);
        assert!(!bitmap.contains(beyond));
        assert_eq!(index.rank(&bitmap, beyond), count, "rank beyond, {beyond}");
    }
}

#[test]
fn bits_lie_where_each_word_order_puts_them() {
    for order in ORDERS {
        for bit in [0, 1, 7, 8, 31, 32, 33, 63, 64, 100, 127] {
            let bytes = bytes_with(order, 16, &[bit]);
            check(&bytes, order, &[bit as u64]);
        }
    }
    // The 64-bit word 1 << 9, as each kernel writes it.
    let bit_9 = |bytes: [u8; 8], order| Bitmap::new(&bytes, order).contains(9);
    assert!(bit_9([0, 2, 0, 0, 0, 0, 0, 0], WordOrder::Little));
    assert!(bit_9([0, 0, 2, 0, 0, 0, 0, 0], WordOrder::Big32));
    assert!(bit_9([0, 0, 0, 0, 0, 0, 2, 0], WordOrder::Big64));
}

#[test]
fn ranks_are_right_at_every_boundary_of_the_index() {
    // The patterns of the conformance list: edges of words, of rank blocks, of the bitmap.
    for order in ORDERS {
        for bits in [
            &[0][..],
            &[63],
            &[64],
            &[0, 1023, 1024, 1025],
            &[511, 512, 513],
            &[0, 8191],
            &[8191],
        ] {
            let ones: Vec<u64> = bits.iter().map(|bit| *bit as u64).collect();
            check(&bytes_with(order, 1024, bits), order, &ones);
        }
        let all: Vec<u64> = (0..8192).collect();
        check(&[0xff; 1024], order, &all);
        check(&[0; 1024], order, &[]);
    }
}

#[test]
fn an_empty_bitmap_has_nothing_in_it() {
    for order in ORDERS {
        check(&[], order, &[]);
    }
}

#[test]
fn every_ragged_length_counts_missing_bytes_as_zero() {
    for order in ORDERS {
        for len in 0..200 {
            let bytes: Vec<u8> = (0..len).map(|n| [0xff, 0x81, 0x10][n % 3]).collect();
            check(&bytes, order, &naive_ones(&bytes, order));
        }
    }
}

#[test]
fn one_bit_in_megabytes_of_zeros_is_found() {
    let mut bytes = vec![0; 5 << 20];
    bytes[3_000_001] = 0x20;
    check(&bytes, WordOrder::Little, &[3_000_001 * 8 + 5]);
    bytes[(5 << 20) - 1] = 0x80;
    check(
        &bytes,
        WordOrder::Little,
        &[3_000_001 * 8 + 5, (5 << 23) - 1],
    );
}

/// More than 2^25 bits: counts that do not fit into 25 bits.
#[test]
fn ranks_stay_right_in_large_bitmaps() {
    const PART_BYTES: usize = 4 << 20;
    let mut bytes = vec![0xff; 2 * PART_BYTES + 72];
    bytes[PART_BYTES..2 * PART_BYTES].fill(0);
    bytes[PART_BYTES + 99] = 0x02;
    let bitmap = Bitmap::new(&bytes, WordOrder::Little);
    let (index, total) = index(&bitmap);
    let first = 8 * PART_BYTES as u64;
    assert_eq!(total, first + 1 + 72 * 8);
    let lone = first + 99 * 8 + 1;
    for (bit, rank) in [
        (first - 1, first - 1),
        (first, first),
        (lone, first),
        (lone + 1, first + 1),
        (2 * first, first + 1),
        (2 * first + 513, first + 514),
    ] {
        assert_eq!(index.rank(&bitmap, bit), rank, "rank of bit {bit:#x}");
    }
    for (rank, bit) in [
        (0, 0),
        (first - 1, first - 1),
        (first, lone),
        (first + 1, 2 * first),
        (total - 1, 2 * first + 72 * 8 - 1),
    ] {
        assert_eq!(
            index.select(&bitmap, rank),
            Some(bit),
            "select of {rank:#x}"
        );
    }
    assert_eq!(index.select(&bitmap, total), None);
}

/// Blocks without a single one share their count with the next.
#[test]
fn empty_blocks_are_stepped_over() {
    const PART_BYTES: usize = 4 << 20;
    let mut bytes = vec![0; 3 * PART_BYTES];
    bytes[0] = 1;
    bytes[3 * PART_BYTES - 1] = 0x80;
    check(&bytes, WordOrder::Little, &[0, 24 * PART_BYTES as u64 - 1]);
    bytes[0] = 0;
    check(&bytes, WordOrder::Little, &[24 * PART_BYTES as u64 - 1]);
}

#[test]
fn a_range_of_ones_ends_where_it_says() {
    let bitmap = Bitmap::new(&[0xff; 32], WordOrder::Little);
    let ones = |range| bitmap.ones(range).collect::<Vec<u64>>();
    assert_eq!(ones(62..66), [62, 63, 64, 65]);
    assert_eq!(ones(64..64), []);
    assert_eq!(ones(255..u64::MAX), [255]);
    assert_eq!(ones(256..300), []);
    assert_eq!(ones(u64::MAX - 1..u64::MAX), []);
    let mut ended = bitmap.ones(3..5);
    assert_eq!(ended.by_ref().count(), 2);
    assert_eq!((ended.next(), ended.next()), (None, None));
}

fn an_order() -> impl Strategy<Value = WordOrder> {
    prop_oneof![
        Just(WordOrder::Little),
        Just(WordOrder::Big32),
        Just(WordOrder::Big64)
    ]
}

/// Bytes of every density, of any length.
fn some_bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![3 => Just(0u8), 1 => Just(0xff), 2 => any::<u8>()];
    prop::collection::vec(byte, 0..700)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_bitmap_agrees_with_a_naive_count(bytes in some_bytes(), order in an_order()) {
        check(&bytes, order, &naive_ones(&bytes, order));
    }

    #[test]
    fn any_range_holds_the_ones_between_its_ends(
        bytes in some_bytes(),
        order in an_order(),
        start in 0u64..6000,
        len in 0u64..6000,
    ) {
        let bitmap = Bitmap::new(&bytes, order);
        let range = start..start + len;
        let expected: Vec<u64> =
            naive_ones(&bytes, order).into_iter().filter(|bit| range.contains(bit)).collect();
        prop_assert_eq!(bitmap.ones(range).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn rank_counts_the_ones_before_any_bit(
        bytes in some_bytes(),
        order in an_order(),
        bit in 0u64..6000,
    ) {
        let bitmap = Bitmap::new(&bytes, order);
        let (index, _) = index(&bitmap);
        let ones = naive_ones(&bytes, order);
        let rank = ones.iter().filter(|one| **one < bit).count() as u64;
        prop_assert_eq!(index.rank(&bitmap, bit), rank);
        let if_set = ones.contains(&bit).then_some(rank);
        prop_assert_eq!(index.rank_of_set(&bitmap, bit), if_set);
        prop_assert_eq!(bitmap.contains(bit), if_set.is_some());
    }
}
