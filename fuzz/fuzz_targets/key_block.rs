//! The key block of an encrypted dump: whatever decodes encodes to the same bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcore::crypt::PayloadKey;
use vmcore_format::kerneldumpkey::{Cipher, ENCRYPTED_KEY_MAX, KeyBlock, PREFIX_LEN};

fuzz_target!(|data: &[u8]| {
    check(data);
    // A known cipher, and a length that its bytes hold.
    let mut block = data.to_vec();
    block.resize(
        block
            .len()
            .clamp(PREFIX_LEN + 1, PREFIX_LEN + ENCRYPTED_KEY_MAX),
        0,
    );
    block[0] = 1 + block[0] % 2;
    let len = u32::try_from(block.len() - PREFIX_LEN).expect("at most 2048");
    block[33..37].copy_from_slice(&len.to_be_bytes());
    assert!(check(&block), "a sound block is refused");
    // As a file of keys: text, and sections of every label.
    let block = KeyBlock::parse(&block).expect("it is sound");
    let _ = PayloadKey::open(&block, data);
    let text = String::from_utf8_lossy(data);
    for label in [
        "PRIVATE KEY",
        "RSA PRIVATE KEY",
        "PUBLIC KEY",
        "EC PRIVATE KEY",
    ] {
        let pem = format!("{text}\n-----BEGIN {label}-----\n{text}\n-----END {label}-----\n");
        let _ = PayloadKey::open(&block, pem.as_bytes());
    }
});

fn check(bytes: &[u8]) -> bool {
    let Ok(block) = KeyBlock::parse(bytes) else {
        return false;
    };
    assert_eq!(Cipher::from_id(block.cipher.id()), Some(block.cipher));
    let len = PREFIX_LEN + block.encrypted_key.len();
    let mut written = vec![0xff; len];
    block.encode_to(&mut written).expect("it was decoded");
    assert_eq!(written, bytes[..len]);
    true
}
