//! Encryption: FreeBSD's key block and streams, by the specification's vectors, alone and under
//! compression.

use crate::memory::{Memory, Stretch, fill, send, stretches};
use crate::{gzip_stream, zstd_frames};
use aes::cipher::{BlockModeDecrypt as _, KeyIvInit as _, StreamCipher as _};
use proptest::prelude::*;
use std::sync::LazyLock;
use vmcore_format::kerneldumpkey::{Cipher, KeyBlock};
use vmcore_writer::Sink as _;
use vmcore_writer::encrypt::{DumpKey, ENCRYPTION_MEMORY_BYTES, Encrypted};
use vmcore_writer::gzip::{GZIP_MEMORY_BYTES, Gzip};
use vmcore_writer::sink::LayerError;
use vmcore_writer::zstd::Zstd;

const CIPHERS: [Cipher; 2] = [Cipher::Aes256Cbc, Cipher::ChaCha20];

static CLEAR: LazyLock<[u8; 64]> = LazyLock::new(|| std::array::from_fn(|index| index as u8));

fn key(cipher: Cipher) -> DumpKey<'static> {
    let iv = std::array::from_fn(|index| index as u8);
    DumpKey::new(cipher, &CLEAR, &[0xee; 256], iv).unwrap()
}

/// Decrypts by the key block, as decryptcore does: pieces of 4096 bytes, the last one shorter.
fn decrypt(sink: &Memory) -> Vec<u8> {
    let block = KeyBlock::parse(&sink.key).unwrap();
    assert_eq!(block.encrypted_key, [0xee; 256]);
    let mut bytes = sink.bytes[..sink.len.unwrap() as usize].to_vec();
    let key = *CLEAR;
    match block.cipher {
        Cipher::Aes256Cbc => {
            assert!(bytes.len().is_multiple_of(16));
            let mut cipher =
                cbc::Decryptor::<aes::Aes256>::new_from_slices(&key[..32], &block.aes_iv())
                    .unwrap();
            let (blocks, _) = aes::cipher::Array::slice_as_chunks_mut(&mut bytes);
            cipher.decrypt_blocks(blocks);
        }
        Cipher::ChaCha20 => {
            let nonce = block.chacha20_nonce();
            let mut cipher = chacha20::ChaCha20Legacy::new_from_slices(&key[..32], &nonce).unwrap();
            for piece in bytes.chunks_mut(4096) {
                cipher.apply_keystream(piece);
            }
        }
    }
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn streams_and_vectors_are_those_of_the_specification() {
    // Appendix A.3, for the first and the second dump.
    let expected = [
        (
            Cipher::ChaCha20,
            "8a0f804cb8605537f71e296984454eb2977d1f44b739b5606847e69cc33444f3",
            "9a680e407133ba33f72e3cf0117ed2f6",
        ),
        (
            Cipher::Aes256Cbc,
            "bbe05472bc689aae50c2675bc832ee14a0a87a1aa6f8081bb94c9650e0d377c3",
            "d89b83cb1d92a7474640998d0cb6c35c",
        ),
    ];
    for (cipher, start, later) in expected {
        let mut key = key(cipher);
        let mut memory = vec![0; ENCRYPTION_MEMORY_BYTES];
        let mut sink = Memory::new(64 << 10);
        let mut layer = Encrypted::new(&mut sink, &mut key, &mut memory).unwrap();
        send(&mut layer, &[0; 8192], 4096).unwrap();
        assert_eq!(hex(&sink.bytes[..32]), start);
        assert_eq!(hex(&sink.bytes[4096..4112]), later);
        let block = KeyBlock::parse(&sink.key).unwrap();
        assert_eq!(
            hex(&block.iv),
            "630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd"
        );
        let mut layer = Encrypted::new(&mut sink, &mut key, &mut memory).unwrap();
        send(&mut layer, &[0; 8192], 4096).unwrap();
        let block = KeyBlock::parse(&sink.key).unwrap();
        assert_eq!(
            hex(&block.iv),
            "2f287b4d3d4910f6cada9e1bd1b4648099e8c52c81aa4a6aebfa6fc86f19834e"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_encrypted_decrypts_with_and_without_compression(
        stretches in stretches(), piece in 1..40usize, chunk in 1..40usize,
    ) {
        let plain = fill(&stretches);
        let (piece, chunk) = (piece * 4096, chunk * 4096);
        for cipher in CIPHERS {
            let mut key = key(cipher);
            let mut memory = vec![0; ENCRYPTION_MEMORY_BYTES];
            let mut sink = Memory::new(chunk);
            let mut layer = Encrypted::new(&mut sink, &mut key, &mut memory).unwrap();
            send(&mut layer, &plain, piece).unwrap();
            prop_assert!(decrypt(&sink) == plain);

            let layer = Encrypted::new(&mut sink, &mut key, &mut memory).unwrap();
            let mut words = zstd_frames::memory();
            let mut layer = Zstd::new(layer, zstd_frames::bytes(&mut words)).unwrap();
            send(&mut layer, &plain, piece).unwrap();
            // The frame of padding is one that any decoder skips.
            prop_assert!(zstd::decode_all(&decrypt(&sink)[..]).unwrap() == plain);

            let layer = Encrypted::new(&mut sink, &mut key, &mut memory).unwrap();
            let mut room = vec![0; GZIP_MEMORY_BYTES];
            let mut layer = Gzip::new(layer, 1, &mut room).unwrap();
            send(&mut layer, &plain, piece).unwrap();
            prop_assert!(gzip_stream::decode(&decrypt(&sink)) == plain);
        }
    }
}

#[test]
fn a_second_attempt_has_a_stream_of_its_own() {
    let plain = fill(&[(Stretch::Noise(7), 65_000); 10]);
    for cipher in CIPHERS {
        let mut key = key(cipher);
        let mut memory = vec![0; ENCRYPTION_MEMORY_BYTES];
        let mut sink = Memory::new(64 << 10);
        sink.fails_at = Some(3);
        let mut layer = Encrypted::new(&mut sink, &mut key, &mut memory).unwrap();
        send(&mut layer, &plain, 64 << 10).unwrap_err();
        layer.cancel();
        let failed = sink.key.clone();
        sink.fails_at = None;
        let mut layer = Encrypted::new(&mut sink, &mut key, &mut memory).unwrap();
        send(&mut layer, &plain, 64 << 10).unwrap();
        assert_ne!(sink.key, failed);
        assert!(decrypt(&sink) == plain);
    }
}

#[test]
fn the_clear_key_is_in_no_message_and_keys_have_limits() {
    let shown = format!("{:?}", key(Cipher::ChaCha20));
    assert_eq!(shown, "DumpKey { cipher: ChaCha20, .. }");
    for len in [0, 2049] {
        let encrypted = vec![0; len];
        let refused = DumpKey::new(Cipher::ChaCha20, &CLEAR, &encrypted, [0; 32]).err();
        assert_eq!(refused, Some(LayerError::Key));
    }
}
