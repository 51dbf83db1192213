//! Encryption as the writer does it: RustCrypto's ciphers and our reader decrypt it to what went in,
//! also under a compression that has to pad.

#![no_main]

use cbc::cipher::{Array, BlockModeDecrypt as _, KeyIvInit as _, StreamCipher as _};
use libfuzzer_sys::fuzz_target;
use vmcore::crypt::PayloadKey;
use vmcore_format::kerneldumpkey::{Cipher, KeyBlock};
use vmcore_fuzz::input::Input;
use vmcore_fuzz::sink::{Kept, memory, send};
use vmcore_writer::encrypt::{DumpKey, ENCRYPTION_MEMORY_BYTES, Encrypted};
use vmcore_writer::gzip::{GZIP_MEMORY_BYTES, Gzip};
use vmcore_writer::zstd::{ZSTD_MEMORY_BYTES, Zstd};
use zerocopy::IntoBytes as _;

const MOST: usize = 300 << 10;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let piece = 4096 << (input.byte() % 8);
    let chunk = 4096 << (input.byte() % 6);
    let cipher = match input.byte() % 2 {
        0 => Cipher::ChaCha20,
        _ => Cipher::Aes256Cbc,
    };
    let compression = input.byte() % 3;
    let (clear, iv): ([u8; 64], [u8; 32]) = (input.array(), input.array());
    let mut plain = memory(&mut input, MOST);
    if plain.is_empty() {
        return;
    }
    if compression == 0 {
        // The writer's dumps are whole pages.
        plain.resize(plain.len().next_multiple_of(4096), 0);
    }
    let mut key = DumpKey::new(cipher, &clear, &[0xee; 256], iv).expect("a sound key");
    let mut room = vec![0x5a; ENCRYPTION_MEMORY_BYTES];
    let mut sink = Kept::new(chunk);
    let mut layer = Encrypted::new(&mut sink, &mut key, &mut room).expect("enough memory");
    match compression {
        0 => send(&mut layer, &plain, piece),
        1 => {
            let mut words = vec![0u64; ZSTD_MEMORY_BYTES.div_ceil(8)];
            let mut layer = Zstd::new(layer, words.as_mut_bytes()).expect("enough memory");
            send(&mut layer, &plain, piece);
        }
        _ => {
            let mut room = vec![0; GZIP_MEMORY_BYTES];
            let mut layer = Gzip::new(layer, 1, &mut room).expect("enough memory");
            send(&mut layer, &plain, piece);
        }
    }
    let block = KeyBlock::parse(&sink.key).expect("a key block");
    assert_eq!(
        (block.cipher, block.encrypted_key),
        (cipher, &[0xee; 256][..])
    );
    let decrypted = decrypt(&block, &clear, &sink.bytes);
    let expanded = match compression {
        0 => decrypted.clone(),
        1 => zstd::stream::decode_all(decrypted.as_slice()).expect("it is sound"),
        _ => gunzip(&decrypted),
    };
    assert!(expanded == plain, "the stock decoders differ");
    anywhere(&block, &clear, &sink.bytes, &decrypted);
});

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(bytes), &mut plain)
        .expect("it is sound");
    plain
}

/// Decrypts all of it with the stock ciphers.
fn decrypt(block: &KeyBlock<'_>, clear: &[u8; 64], bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    match block.cipher {
        Cipher::Aes256Cbc => {
            assert!(bytes.len().is_multiple_of(16), "not whole blocks");
            let mut cipher =
                cbc::Decryptor::<aes::Aes256>::new_from_slices(&clear[..32], &block.aes_iv())
                    .expect("lengths that fit");
            let (blocks, _) = Array::slice_as_chunks_mut(&mut bytes);
            cipher.decrypt_blocks(blocks);
        }
        Cipher::ChaCha20 => {
            let nonce = block.chacha20_nonce();
            chacha20::ChaCha20Legacy::new_from_slices(&clear[..32], &nonce)
                .expect("lengths that fit")
                .apply_keystream(&mut bytes);
        }
    }
    bytes
}

/// Decrypts a piece in the middle as the reader does.
fn anywhere(block: &KeyBlock<'_>, clear: &[u8; 64], bytes: &[u8], decrypted: &[u8]) {
    let key = PayloadKey::of_clear_key(block, clear);
    for step in 1..5usize {
        let at = step * 7919 % bytes.len() / 16 * 16;
        let end = (at + 5000).min(bytes.len());
        let has_before = at > 0 && block.cipher == Cipher::Aes256Cbc;
        let start = if has_before { at - 16 } else { at };
        let mut piece = bytes[start..end].to_vec();
        let found = key.decrypt(start as u64, &mut piece, has_before);
        let found = &found[at - start..];
        assert!(decrypted[at..].starts_with(found), "at {at}");
        assert!(found.len() + 16 > end - at, "too little at {at}");
    }
}
