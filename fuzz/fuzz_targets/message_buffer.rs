//! The message buffer: a kernel's writes, one byte after the other, come out in their order; a
//! `struct msgbuf` of any bytes does no harm.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcore_format::endian::{Endian, Width};
use vmcore_format::msgbuf::{MSG_MAGIC, Msgbuf, has_wrapped, in_order};
use vmcore_fuzz::input::Input;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let shape = input.byte();
    let endian = if shape & 1 == 0 {
        Endian::Little
    } else {
        Endian::Big
    };
    let word = if shape & 2 == 0 {
        Width::W32
    } else {
        Width::W64
    };
    if shape & 4 == 0 {
        any_bytes(input.0, endian, word);
    } else {
        written(input, endian, word);
    }
});

/// A ring and a structure of any bytes: two parts that are all of the ring.
fn any_bytes(data: &[u8], endian: Endian, word: Width) {
    let state = Msgbuf::parse(data, endian, word).ok();
    let ring = data.get(Msgbuf::len_bytes(word)..).unwrap_or_default();
    let (old, new) = in_order(ring, state.as_ref());
    assert_eq!([new, old].concat(), ring);
    if let Some(state) = state
        && !ring.is_empty()
    {
        assert_eq!(new.len(), state.msg_wseq as usize % ring.len());
    }
    assert_eq!(
        has_wrapped(ring, state.as_ref()),
        ring.last().is_some_and(|byte| *byte != 0)
    );
}

/// What the kernel does: it writes at the sequence number modulo the size, and counts modulo 16
/// times the size.
fn written(mut input: Input<'_>, endian: Endian, word: Width) {
    let size = 1 + u32::from(input.byte());
    let mut ring = vec![0; size as usize];
    let start = input.u32() % (16 * size);
    let mut wseq = start;
    // The kernel writes no NUL.
    let text: Vec<u8> = input.0.iter().map(|byte| *byte | 1).collect();
    for byte in &text {
        ring[(wseq % size) as usize] = *byte;
        wseq = (wseq + 1) % (16 * size);
    }
    let state = encoded(size, wseq, endian, word);
    let state = Msgbuf::parse(&state, endian, word).expect("a whole structure");
    assert_eq!((state.msg_size, state.msg_wseq), (size, wseq));
    let (old, new) = in_order(&ring, Some(&state));
    let mut all = [old, new].concat();
    all.retain(|byte| *byte != 0);
    let kept = text.len().min(ring.len());
    assert_eq!(all, text[text.len() - kept..]);
    let is_full = text.len() >= ring.len();
    if is_full {
        assert!(has_wrapped(&ring, Some(&state)));
    } else if start == 0 {
        assert!(!has_wrapped(&ring, Some(&state)));
    }
}

/// `struct msgbuf` as it is in memory.
fn encoded(size: u32, wseq: u32, endian: Endian, word: Width) -> Vec<u8> {
    let mut raw = vec![0; Msgbuf::len_bytes(word)];
    let first = if word == Width::W32 { 4 } else { 8 };
    for (number, value) in [MSG_MAGIC, size, wseq].into_iter().enumerate() {
        let bytes = match endian {
            Endian::Little => value.to_le_bytes(),
            Endian::Big => value.to_be_bytes(),
        };
        let at = first + 4 * number;
        raw[at..at + 4].copy_from_slice(&bytes);
    }
    raw
}
