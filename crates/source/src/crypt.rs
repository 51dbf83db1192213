//! Encrypted dumps: the random key out of its RSA envelope, and the payload out of its cipher.
//!
//! dumpon encrypts a random key of 64 bytes with an RSA public key; the kernel encrypts the payload
//! with its first half. Both ciphers can start anywhere in the payload, so nothing has to be
//! decrypted but what is read. There is no authentication: a damaged payload decrypts to nonsense.
//! Source: `sbin/dumpon/dumpon.c`, `sys/kern/kern_shutdown.c`, `sbin/decryptcore/decryptcore.c`.
//!
//! ```no_run
//! use vmcore_source::crypt::PayloadKey;
//! use vmcore_source::format::kerneldumpkey::KeyBlock;
//! let block = std::fs::read("key.0")?;
//! let pem = std::fs::read("private.pem")?;
//! let key = PayloadKey::open(&KeyBlock::parse(&block)?, &pem)?;
//! let mut payload = std::fs::read("vmcore_encrypted.0")?;
//! let plain = key.decrypt(0, &mut payload, false);
//! assert!(plain.starts_with(b"minidump"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use aes::Aes256;
use cbc::cipher::{BlockModeDecrypt as _, KeyIvInit as _};
use chacha20::ChaCha20Legacy;
use chacha20::cipher::{StreamCipher as _, StreamCipherSeek as _};
use rsa::pkcs1::{DecodeRsaPrivateKey as _, DecodeRsaPublicKey as _};
use rsa::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _};
use rsa::traits::PublicKeyParts as _;
use rsa::{Oaep, Pkcs1v15Encrypt, RsaPrivateKey, RsaPublicKey};
use thiserror::Error;
use vmcore_format::kerneldumpkey::{CLEAR_KEY_LEN, Cipher, KeyBlock, cipher_key};

/// Bytes of a block of AES.
const BLOCK: usize = 16;

/// The most sections of a PEM file that are looked at: each key that is decoded takes time.
const SECTIONS_MAX: usize = 32;

/// What is in PEM files where an RSA private key should, by its label, and what to do then.
const OTHER_KINDS: [(&str, &str, &str); 8] = [
    (
        "ENCRYPTED PRIVATE KEY",
        "a private key with a passphrase",
        "openssl rsa -in KEY -out PLAIN",
    ),
    (
        "OPENSSH PRIVATE KEY",
        "a private key in OpenSSH's own form",
        "ssh-keygen -p -m PEM -f KEY (on a copy of it)",
    ),
    (
        "EC PRIVATE KEY",
        "a key of elliptic curves, and dumpon takes RSA only",
        "",
    ),
    (
        "DSA PRIVATE KEY",
        "a DSA key, and dumpon takes RSA only",
        "",
    ),
    ("PUBLIC KEY", PUBLIC, ""),
    ("RSA PUBLIC KEY", PUBLIC, ""),
    (
        "CERTIFICATE",
        "a certificate, which has the public key only",
        "",
    ),
    (
        "CERTIFICATE REQUEST",
        "a certificate request, which has the public key only",
        "",
    ),
];
const PUBLIC: &str = "a public key, and reading takes the private one";

/// Why a payload cannot be decrypted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is no private key in it.
    #[error("not an RSA private key in PEM form")]
    NotAKey,
    /// A key in DER form.
    #[error("a key in DER form, not PEM")]
    Der,
    /// A private key that is damaged, or not RSA's.
    #[error("its {label} is damaged, or not an RSA key")]
    Damaged {
        /// What its PEM section says that it is.
        label: String,
    },
    /// Another kind of key.
    #[error("{what}")]
    OtherKind {
        /// What it is.
        what: &'static str,
        /// The command that makes an RSA private key in PEM form of it; empty if none does.
        command: &'static str,
    },
    /// A key of another length.
    #[error(
        "it is a key of {key_bits} bits, and the dump was encrypted for one of {dump_bits} bits"
    )]
    OtherLength {
        /// Bits of the private key.
        key_bits: usize,
        /// Bits of the encrypted key.
        dump_bits: usize,
    },
    /// A key of the right length that does not open the envelope.
    #[error("it is not the key that the dump was encrypted for")]
    WrongKey,
    /// The envelope opens, and what is inside is not a kernel's key.
    #[error("it decrypts the dump's key to {bytes} bytes, and a kernel's has {CLEAR_KEY_LEN}")]
    ClearLength {
        /// Bytes of what was decrypted.
        bytes: usize,
    },
}

/// The sections of a PEM file: the label of each, and the whole of it. Text may be anywhere between.
fn sections(pem: &str) -> impl Iterator<Item = (&str, &str)> {
    let starts = pem.match_indices("-----BEGIN ").take(SECTIONS_MAX);
    starts.filter_map(|(at, begin)| {
        let section = pem.get(at..)?;
        let (label, _) = section.get(begin.len()..)?.split_once("-----")?;
        let end = format!("-----END {label}-----");
        let len = section.find(&end)? + end.len();
        Some((label, section.get(..len)?))
    })
}

/// A section as its decoder wants it: lines of 64 characters, and no other space. Mail and web forms
/// wrap and indent anew.
fn even(section: &str) -> String {
    let mut parts = section.split("-----").filter(|part| !part.is_empty());
    let (Some(begin), Some(body), Some(end)) = (parts.next(), parts.next(), parts.next()) else {
        return section.to_owned();
    };
    let mut even = format!("-----{begin}-----\n");
    for (at, character) in body.split_whitespace().flat_map(str::chars).enumerate() {
        if at > 0 && at.is_multiple_of(64) {
            even.push('\n');
        }
        even.push(character);
    }
    even + &format!("\n-----{end}-----\n")
}

/// The RSA private keys in a PEM file.
fn private_keys(pem: &str) -> Result<Vec<RsaPrivateKey>, KeyError> {
    let mut keys = Vec::new();
    let mut error = KeyError::NotAKey;
    for (label, section) in sections(pem) {
        let key = match label {
            // How OpenSSL marked a passphrase before PKCS#8.
            "RSA PRIVATE KEY" if section.contains("ENCRYPTED") => Err("ENCRYPTED PRIVATE KEY"),
            "RSA PRIVATE KEY" => RsaPrivateKey::from_pkcs1_pem(&even(section)).map_err(|_| label),
            "PRIVATE KEY" => RsaPrivateKey::from_pkcs8_pem(&even(section)).map_err(|_| label),
            other => Err(other),
        };
        let other = match key {
            Ok(key) => {
                keys.push(key);
                continue;
            }
            Err(label) => label,
        };
        // What is nearest to a private key explains best.
        let is_private = other.ends_with("PRIVATE KEY");
        if matches!(error, KeyError::NotAKey) || is_private {
            let kind = OTHER_KINDS.iter().find(|(label, ..)| *label == other);
            error = match kind {
                Some((_, what, command)) => KeyError::OtherKind { what, command },
                None if is_private => KeyError::Damaged {
                    label: other.to_owned(),
                },
                None => error,
            };
        }
    }
    match keys.is_empty() {
        true => Err(error),
        false => Ok(keys),
    }
}

/// What decrypts the payload of one dump.
#[derive(Clone)]
pub struct PayloadKey {
    cipher: Cipher,
    key: [u8; 32],
    aes_iv: [u8; BLOCK],
    nonce: [u8; 8],
}

/// Never shows the key.
impl std::fmt::Debug for PayloadKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PayloadKey")
            .field("cipher", &self.cipher)
            .finish_non_exhaustive()
    }
}

/// Bits of the modulus of an RSA public key in PEM form; `None` if there is none.
#[must_use]
pub fn public_key_bits(pem: &str) -> Option<usize> {
    sections(pem).find_map(|(label, section)| {
        let key = match label {
            "PUBLIC KEY" => RsaPublicKey::from_public_key_pem(section).ok(),
            "RSA PUBLIC KEY" => RsaPublicKey::from_pkcs1_pem(section).ok(),
            _ => None,
        };
        Some(key?.size() * 8)
    })
}

impl PayloadKey {
    /// Opens the envelope in `block` with an RSA private key, in PEM form of PKCS#1 or PKCS#8. Other
    /// text and other keys around it do no harm: of several, the one is taken that fits.
    ///
    /// # Errors
    /// Returns an error if there is no private key, or it is another dump's.
    pub fn open(block: &KeyBlock<'_>, pem: &[u8]) -> Result<Self, KeyError> {
        // A SEQUENCE whose length follows in two bytes.
        if pem.starts_with(&[0x30, 0x82]) {
            return Err(KeyError::Der);
        }
        let keys = private_keys(&String::from_utf8_lossy(pem))?;
        let (fitting, others): (Vec<_>, Vec<_>) = keys
            .into_iter()
            .partition(|key| key.size() == block.encrypted_key.len());
        let mut error = others
            .first()
            .map_or(KeyError::WrongKey, |other| KeyError::OtherLength {
                key_bits: other.size() * 8,
                dump_bits: block.encrypted_key.len() * 8,
            });
        for private in fitting {
            // Older releases used the padding of PKCS#1 v1.5.
            let clear = private
                .decrypt(Oaep::new::<sha1::Sha1>(), block.encrypted_key)
                .or_else(|_| private.decrypt(Pkcs1v15Encrypt, block.encrypted_key));
            error = match clear {
                Err(_) => KeyError::WrongKey,
                Ok(clear) => match <[u8; CLEAR_KEY_LEN]>::try_from(clear) {
                    Ok(clear) => return Ok(Self::of_clear_key(block, &clear)),
                    Err(clear) => KeyError::ClearLength { bytes: clear.len() },
                },
            };
        }
        Err(error)
    }

    /// As [`PayloadKey::open`], with the random key itself.
    #[must_use]
    pub fn of_clear_key(block: &KeyBlock<'_>, clear: &[u8; CLEAR_KEY_LEN]) -> Self {
        Self {
            cipher: block.cipher,
            key: *cipher_key(clear),
            aes_iv: block.aes_iv(),
            nonce: block.chacha20_nonce(),
        }
    }

    pub(crate) const fn is_block_cipher(&self) -> bool {
        matches!(self.cipher, Cipher::Aes256Cbc)
    }

    /// Decrypts `bytes` in place, which are at `offset` of the payload, a multiple of 16, and
    /// gives those that are decrypted: of AES whole blocks only. With `has_before` the first 16
    /// bytes are only the block before, which AES needs except at offset 0; they stay encrypted.
    pub fn decrypt<'b>(&self, offset: u64, bytes: &'b mut [u8], has_before: bool) -> &'b [u8] {
        match self.cipher {
            Cipher::ChaCha20 => {
                let mut cipher = ChaCha20Legacy::new(&self.key.into(), &self.nonce.into());
                let len = if cipher.try_seek(offset).is_ok()
                    && cipher.try_apply_keystream(bytes).is_ok()
                {
                    bytes.len()
                } else {
                    0
                };
                bytes.get(..len).unwrap_or_default()
            }
            Cipher::Aes256Cbc => {
                let mut iv = self.aes_iv;
                let mut skip = 0;
                if has_before && let Some(before) = bytes.first_chunk() {
                    (iv, skip) = (*before, BLOCK);
                }
                let len = bytes.len() - bytes.len() % BLOCK;
                let whole = bytes.get_mut(..len).unwrap_or_default();
                let mut cipher = cbc::Decryptor::<Aes256>::new(&self.key.into(), &iv.into());
                let chain = whole.get_mut(skip..).unwrap_or_default();
                let (blocks, _) = cbc::cipher::Array::slice_as_chunks_mut(chain);
                cipher.decrypt_blocks(blocks);
                whole
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::array;

    /// The specification's vectors: the key is 00, 01, …, the vector that of the first dump.
    fn key(cipher: Cipher) -> PayloadKey {
        let iv = hex("630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd");
        let block = KeyBlock {
            cipher,
            iv: iv.try_into().unwrap(),
            encrypted_key: &[],
        };
        PayloadKey::of_clear_key(
            &block,
            &array::from_fn(|index| u8::try_from(index).unwrap()),
        )
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn chacha20_is_the_variant_that_kernels_use() {
        let key = key(Cipher::ChaCha20);
        let mut zeros = [0; 32];
        assert_eq!(
            key.decrypt(0, &mut zeros, false),
            hex("8a0f804cb8605537f71e296984454eb2977d1f44b739b5606847e69cc33444f3")
        );
        let mut zeros = [0; 16];
        assert_eq!(
            key.decrypt(4096, &mut zeros, false),
            hex("9a680e407133ba33f72e3cf0117ed2f6")
        );
        // A counter of 32 bits would have wrapped around.
        let (mut low, mut high) = ([0; 16], [0; 16]);
        key.decrypt(0, &mut low, false);
        assert_ne!(key.decrypt(1 << 38, &mut high, false), low);
    }

    #[test]
    fn aes_goes_on_from_the_block_before() {
        let key = key(Cipher::Aes256Cbc);
        let whole = hex("bbe05472bc689aae50c2675bc832ee14a0a87a1aa6f8081bb94c9650e0d377c3");
        assert_eq!(key.decrypt(0, &mut whole.clone(), false), [0; 32]);
        assert_eq!(key.decrypt(0, &mut whole.clone(), true)[16..], [0; 16]);
        // A part of a block cannot be decrypted.
        assert_eq!(key.decrypt(0, &mut whole[..31].to_vec(), false), [0; 16]);
    }
}
