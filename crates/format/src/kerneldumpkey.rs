//! `struct kerneldumpkey`: the block between leading header and payload of an encrypted dump, and
//! which parts of its key and initialisation vector each cipher uses.
//!
//! Source: `sys/sys/kerneldump.h` and `sys/kern/kern_shutdown.c`. The block is packed, its one
//! integer big-endian: cipher (1 byte), initialisation vector (32), length of the encrypted key (4),
//! the encrypted key, zeros up to a whole number of device blocks. The same bytes are the file
//! `key.N` that savecore writes. Nothing in it tells a damaged block from a sound one.
//!
//! ```
//! use vmcore_format::kerneldumpkey::{Cipher, KeyBlock};
//! let block = KeyBlock { cipher: Cipher::ChaCha20, iv: [7; 32], encrypted_key: &[9; 256] };
//! let mut bytes = [0; 512];
//! block.encode_to(&mut bytes)?;
//! assert_eq!(KeyBlock::parse(&bytes)?, block);
//! # Ok::<(), vmcore_format::kerneldumpkey::KeyBlockError>(())
//! ```

use thiserror::Error;
use zerocopy::big_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes before the encrypted key.
pub const PREFIX_LEN: usize = 37;
/// Bytes of the initialisation vector.
pub const IV_LEN: usize = 32;
/// Bytes of the random key before encryption (`KERNELDUMP_KEY_MAX_SIZE`).
pub const CLEAR_KEY_LEN: usize = 64;
/// The most bytes of an encrypted key (`KERNELDUMP_ENCKEY_MAX_SIZE`): an RSA modulus of 16384 bits.
pub const ENCRYPTED_KEY_MAX: usize = 2048;
/// Bytes of payload that the kernel encrypts and writes at a time (`KERNELDUMP_BUFFER_SIZE`).
pub const PIECE_LEN: usize = 4096;

/// The fields before the encrypted key.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Prefix {
    kdk_encryption: u8,
    kdk_iv: [u8; IV_LEN],
    kdk_encryptedkeysize: U32,
}

const _: () = {
    assert!(size_of::<Prefix>() == PREFIX_LEN);
    assert!(core::mem::offset_of!(Prefix, kdk_iv) == 1);
    assert!(core::mem::offset_of!(Prefix, kdk_encryptedkeysize) == 33);
};

/// How the payload is encrypted. Either way one stream runs from its first byte to its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "snake_case")
)]
pub enum Cipher {
    /// AES-256 in CBC mode, without padding: the payload is a whole number of 16-byte blocks. Never
    /// together with compression.
    Aes256Cbc,
    /// ChaCha20 as first published: a counter of 64 bits, starting at 0, and a nonce of 64 bits.
    #[cfg_attr(feature = "serde", serde(rename = "chacha20"))]
    ChaCha20,
}

impl Cipher {
    /// Its number in the key block (`KERNELDUMP_ENC_*`).
    #[must_use]
    pub const fn id(self) -> u8 {
        match self {
            Self::Aes256Cbc => 1,
            Self::ChaCha20 => 2,
        }
    }

    /// The cipher of a number, or `None`.
    #[must_use]
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            1 => Some(Self::Aes256Cbc),
            2 => Some(Self::ChaCha20),
            _ => None,
        }
    }
}

/// The part of the random key that both ciphers use: its first 32 bytes.
#[must_use]
pub fn cipher_key(clear: &[u8; CLEAR_KEY_LEN]) -> &[u8; 32] {
    let (key, _) = clear.split_at(32);
    // The length is that of the split.
    key.first_chunk().unwrap_or(&[0; 32])
}

/// A key block, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyBlock<'a> {
    /// Which cipher.
    pub cipher: Cipher,
    /// The initialisation vector of this dump: the SHA-256 of that of the dump before.
    pub iv: [u8; IV_LEN],
    /// The 64-byte random key, encrypted by RSA with OAEP padding (SHA-1, MGF1 with SHA-1, no
    /// label); by dumpon of older releases with that of PKCS#1 v1.5. As long as the RSA modulus.
    pub encrypted_key: &'a [u8],
}

/// Why bytes are not a key block, or cannot become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyBlockError {
    /// Fewer bytes than the block's fields say.
    #[error("the key block is truncated: it needs {need} bytes, and there are {have}")]
    Truncated {
        /// Bytes that its fields ask for.
        need: usize,
        /// Bytes that are there.
        have: usize,
    },
    /// A cipher without a known meaning.
    #[error("encryption {0} is not one that is known (1 is AES-256-CBC, 2 is ChaCha20)")]
    UnknownCipher(u8),
    /// An encrypted key longer than FreeBSD's limit, or of no bytes.
    #[error("the encrypted key has {0} bytes; 1 to 2048 are possible")]
    KeyLength(u32),
}

impl<'a> KeyBlock<'a> {
    /// Decodes the key block at the start of `bytes`; what follows the encrypted key is not looked
    /// at.
    ///
    /// # Errors
    /// Returns an error if bytes are missing, the cipher is unknown or the key's length impossible.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, KeyBlockError> {
        let truncated = |need| KeyBlockError::Truncated {
            need,
            have: bytes.len(),
        };
        let (prefix, rest) = Prefix::ref_from_prefix(bytes).map_err(|_| truncated(PREFIX_LEN))?;
        let cipher = Cipher::from_id(prefix.kdk_encryption)
            .ok_or(KeyBlockError::UnknownCipher(prefix.kdk_encryption))?;
        let raw_len = prefix.kdk_encryptedkeysize.get();
        let len = key_len(raw_len)?;
        let encrypted_key = rest.get(..len).ok_or(truncated(PREFIX_LEN + len))?;
        Ok(Self {
            cipher,
            iv: prefix.kdk_iv,
            encrypted_key,
        })
    }

    /// Bytes that a block with an encrypted key of `encrypted_len` bytes takes on a medium with
    /// blocks of `blocksize` bytes: `dumpkeysize` of the dump header. `None` if it does not fit.
    #[must_use]
    pub const fn len_on_medium(encrypted_len: usize, blocksize: u32) -> Option<u32> {
        if encrypted_len > ENCRYPTED_KEY_MAX {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most 2085")]
        let len = (PREFIX_LEN + encrypted_len) as u32;
        len.checked_next_multiple_of(blocksize)
    }

    /// Writes the block to the start of `block`, and zeros after it to the end.
    ///
    /// # Errors
    /// Returns an error if `block` is too short or the key's length impossible.
    pub fn encode_to(&self, block: &mut [u8]) -> Result<(), KeyBlockError> {
        let raw_len = u32::try_from(self.encrypted_key.len()).unwrap_or(u32::MAX);
        let need = PREFIX_LEN + key_len(raw_len)?;
        let have = block.len();
        let truncated = KeyBlockError::Truncated { need, have };
        block.fill(0);
        let (prefix, rest) = Prefix::mut_from_prefix(block).map_err(|_| truncated)?;
        let key = rest.get_mut(..self.encrypted_key.len()).ok_or(truncated)?;
        key.copy_from_slice(self.encrypted_key);
        prefix.kdk_encryption = self.cipher.id();
        prefix.kdk_iv = self.iv;
        prefix.kdk_encryptedkeysize = U32::new(raw_len);
        Ok(())
    }

    /// The initialisation vector of AES-256-CBC: the first 16 bytes.
    #[must_use]
    pub fn aes_iv(&self) -> [u8; 16] {
        core::array::from_fn(|index| self.iv.get(index).copied().unwrap_or(0))
    }

    /// The nonce of ChaCha20: the first 8 bytes.
    #[must_use]
    pub fn chacha20_nonce(&self) -> [u8; 8] {
        core::array::from_fn(|index| self.iv.get(index).copied().unwrap_or(0))
    }
}

/// The length of an encrypted key, if it is a possible one.
fn key_len(raw: u32) -> Result<usize, KeyBlockError> {
    usize::try_from(raw)
        .ok()
        .filter(|len| (1..=ENCRYPTED_KEY_MAX).contains(len))
        .ok_or(KeyBlockError::KeyLength(raw))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// A block at the offsets of the specification.
    fn raw(id: u8, key_len: u32, key: &[u8]) -> Vec<u8> {
        let mut bytes = vec![id];
        bytes.extend(0..32);
        bytes.extend(key_len.to_be_bytes());
        bytes.extend(key);
        bytes
    }

    #[test]
    fn fields_lie_where_the_specification_says() {
        let mut bytes = raw(2, 256, &[0xaa; 256]);
        bytes.resize(512, 0);
        let block = KeyBlock::parse(&bytes).unwrap();
        assert_eq!(block.cipher, Cipher::ChaCha20);
        assert_eq!(block.iv[..3], [0, 1, 2]);
        assert_eq!(block.encrypted_key, [0xaa; 256]);
        assert_eq!(block.chacha20_nonce(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(block.aes_iv()[15], 15);
        let mut written = [0xff; 512];
        block.encode_to(&mut written).unwrap();
        assert_eq!(written[..], bytes);
    }

    #[test]
    fn a_block_takes_whole_blocks_of_the_medium() {
        // The specification's table.
        for (len, at_512, at_4096) in [
            (256, 512, 4096),
            (384, 512, 4096),
            (512, 1024, 4096),
            (1024, 1536, 4096),
            (2048, 2560, 4096),
        ] {
            assert_eq!(KeyBlock::len_on_medium(len, 512), Some(at_512));
            assert_eq!(KeyBlock::len_on_medium(len, 4096), Some(at_4096));
        }
        assert_eq!(KeyBlock::len_on_medium(2049, 512), None);
        assert_eq!(KeyBlock::len_on_medium(256, 0), None);
    }

    #[test]
    fn what_is_no_key_block_says_why() {
        let good = raw(1, 256, &[1; 256]);
        for len in 0..good.len() {
            let need = if len < PREFIX_LEN { PREFIX_LEN } else { 293 };
            assert_eq!(
                KeyBlock::parse(&good[..len]),
                Err(KeyBlockError::Truncated { need, have: len })
            );
        }
        for id in [0, 3, 255] {
            let bytes = raw(id, 256, &[1; 256]);
            assert_eq!(
                KeyBlock::parse(&bytes),
                Err(KeyBlockError::UnknownCipher(id))
            );
        }
        for len in [0, 2049, u32::MAX] {
            let bytes = raw(1, len, &[1; 256]);
            assert_eq!(KeyBlock::parse(&bytes), Err(KeyBlockError::KeyLength(len)));
        }
        let block = KeyBlock::parse(&good).unwrap();
        let short = block.encode_to(&mut [0; 292]);
        assert_eq!(
            short,
            Err(KeyBlockError::Truncated {
                need: 293,
                have: 292
            })
        );
    }

    #[test]
    fn both_ciphers_use_the_first_half_of_the_key() {
        let clear = core::array::from_fn(|index| u8::try_from(index).unwrap());
        assert_eq!(cipher_key(&clear)[..], clear[..32]);
    }
}
