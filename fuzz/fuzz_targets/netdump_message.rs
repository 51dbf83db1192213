//! A datagram of netdump: whatever decodes encodes to the same bytes, but for the unused field.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcore_format::netdump::{Ack, HEADER_LEN, Message};

fuzz_target!(|data: &[u8]| {
    check(data);
    if let Some(ack) = Ack::parse(data) {
        assert_eq!(ack.encode(), data);
    }
    // A known type, and the length that it has.
    let mut datagram = data.to_vec();
    datagram.resize(datagram.len().max(HEADER_LEN), 0);
    let kind = u32::from(datagram[0]) % 5 + 1;
    datagram[..4].copy_from_slice(&kind.to_be_bytes());
    let len = u32::try_from(datagram.len() - HEADER_LEN).expect("a small input");
    datagram[16..20].copy_from_slice(&len.to_be_bytes());
    assert!(check(&datagram), "a sound message is refused");
});

fn check(bytes: &[u8]) -> bool {
    let Ok(message) = Message::parse(bytes) else {
        return false;
    };
    if let Some(path) = message.path() {
        assert!(!path.is_empty() && !path.contains(&0));
    }
    let mut written = vec![0xff; bytes.len()];
    assert_eq!(message.encode_to(&mut written), bytes.len());
    let mut expected = bytes.to_vec();
    expected[20..HEADER_LEN].fill(0);
    assert_eq!(written, expected);
    true
}
