//! The bitmap and its rank, in every order of words, against counting bit by bit.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcore_format::bitmap::{Bitmap, RankIndex, WordOrder};
use vmcore_fuzz::input::Input;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let (order, word_bytes) = match input.byte() % 3 {
        0 => (WordOrder::Little, 1),
        1 => (WordOrder::Big32, 4),
        _ => (WordOrder::Big64, 8),
    };
    let range = u64::from(u16::from_le_bytes(input.array()));
    let range = range..range + u64::from(u16::from_le_bytes(input.array()));
    let bytes = input.0;
    let bitmap = Bitmap::new(bytes, order);

    let naive = |bit: u64| {
        let byte = usize::try_from(bit / 8).expect("a small bitmap");
        // The bytes of a big-endian word come in the opposite order.
        let from = byte / word_bytes * word_bytes;
        let byte = match order {
            WordOrder::Little => byte,
            WordOrder::Big32 | WordOrder::Big64 => from + (word_bytes - 1 - (byte - from)),
        };
        bytes
            .get(byte)
            .is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
    };
    let len = bytes.len().next_multiple_of(word_bytes) as u64 * 8;
    assert_eq!(bitmap.len_bits(), len);
    let ones: Vec<u64> = (0..len).filter(|bit| naive(*bit)).collect();
    assert_eq!(bitmap.ones(0..u64::MAX).collect::<Vec<_>>(), ones);
    assert_eq!(bitmap.count_ones(), ones.len() as u64);
    let inside: Vec<u64> = ones
        .iter()
        .copied()
        .filter(|bit| range.contains(bit))
        .collect();
    assert_eq!(bitmap.ones(range).collect::<Vec<_>>(), inside);

    let mut entries = vec![0; RankIndex::len_words(&bitmap)];
    let total = RankIndex::fill(&bitmap, &mut entries);
    let index = RankIndex::new(&entries[..]);
    let mut rank = 0;
    for bit in 0..len {
        assert_eq!(index.rank(&bitmap, bit), rank);
        let expected = naive(bit).then_some(rank);
        assert_eq!(index.rank_of_set(&bitmap, bit), expected);
        assert_eq!(bitmap.contains(bit), naive(bit));
        rank += u64::from(naive(bit));
    }
    for beyond in [len, len + 1, u64::MAX] {
        assert_eq!(index.rank(&bitmap, beyond), total);
        assert_eq!(index.rank_of_set(&bitmap, beyond), None);
        assert!(!bitmap.contains(beyond));
    }
    for (rank, bit) in (0..).zip(&ones) {
        assert_eq!(index.select(&bitmap, rank), Some(*bit));
    }
    assert_eq!(index.select(&bitmap, total), None);
    assert_eq!(index.select(&bitmap, u64::MAX), None);
});
