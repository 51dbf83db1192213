//! Encryption as FreeBSD does it, so that its tools decrypt it: `sys/kern/kern_shutdown.c`.
//!
//! The key is random, made once when the administrator sets up encrypted dumps, and then encrypted
//! with the public RSA key whose private half is elsewhere. The kernel keeps both, the clear key in
//! memory that is not dumped; the dump carries the encrypted one. The initialisation vector of each
//! dump is the SHA-256 of the last, so that no two dumps share one. Nothing is authenticated.
//!
//! ```
//! use vmcore_format::kerneldumpkey::Cipher;
//! use vmcore_writer::encrypt::DumpKey;
//! // What `dumpon -k` makes: 64 random bytes, the same encrypted with a key of 2048 bits, 32 random bytes.
//! let (clear, encrypted, iv) = ([1; 64], [2; 256], [3; 32]);
//! let key = DumpKey::new(Cipher::ChaCha20, &clear, &encrypted, iv).map_err(|_| "too long")?;
//! # Ok::<(), &str>(())
//! ```

mod aes;

use crate::outlet::{OUTLET_BYTES, Outlet};
use crate::sink::{Durability, LayerError, Sink, SinkError};
use chacha20::ChaCha20Legacy;
use chacha20::cipher::{Array, KeyIvInit as _, StreamCipher as _};
use core::fmt;
use sha2::{Digest, Sha256};
use vmcore_format::kerneldump::DumpHeader;
use vmcore_format::kerneldumpkey::{
    CLEAR_KEY_LEN, Cipher, ENCRYPTED_KEY_MAX, IV_LEN, KeyBlock, PREFIX_LEN, cipher_key,
};

/// Bytes of memory for [`Encrypted::new`]; the device reads them.
pub const ENCRYPTION_MEMORY_BYTES: usize = OUTLET_BYTES;

/// What a kernel keeps for encrypted dumps, from configuration to the crash.
pub struct DumpKey<'k> {
    cipher: Cipher,
    /// Borrowed, so that no copy of it stays on a stack, which is dumped.
    key: &'k [u8; 32],
    iv: [u8; IV_LEN],
    encrypted: &'k [u8],
}

impl fmt::Debug for DumpKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key stays out of it.
        f.debug_struct("DumpKey")
            .field("cipher", &self.cipher)
            .finish_non_exhaustive()
    }
}

impl<'k> DumpKey<'k> {
    /// Refers to a random key, in memory that is not dumped, the same encrypted with RSA (OAEP with SHA-1, as `dumpon` does it), and
    /// a random first initialisation vector.
    ///
    /// # Errors
    /// Returns an error if the encrypted key has no or more than 2048 bytes.
    pub fn new(
        cipher: Cipher,
        clear: &'k [u8; CLEAR_KEY_LEN],
        encrypted: &'k [u8],
        iv: [u8; IV_LEN],
    ) -> Result<Self, LayerError> {
        if encrypted.is_empty() || encrypted.len() > ENCRYPTED_KEY_MAX {
            return Err(LayerError::Key);
        }
        Ok(Self {
            cipher,
            key: cipher_key(clear),
            iv,
            encrypted,
        })
    }

    /// Makes the initialisation vector of the next dump.
    fn advance(&mut self) {
        self.iv = Sha256::digest(self.iv).into();
    }
}

/// A cipher at some place of its stream.
enum Running {
    Idle,
    Aes(aes::Cbc),
    ChaCha20(ChaCha20Legacy),
}

/// Encrypts what goes to another sink.
pub struct Encrypted<'a, 'k, S> {
    sink: S,
    key: &'a mut DumpKey<'k>,
    outlet: Outlet<'a>,
    running: Running,
}

impl<S> fmt::Debug for Encrypted<'_, '_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encrypted")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl<'a, 'k, S: Sink> Encrypted<'a, 'k, S> {
    /// A layer above `sink` in [`ENCRYPTION_MEMORY_BYTES`] of memory. Compression goes above it.
    ///
    /// # Errors
    /// Returns an error if the memory is too small.
    pub fn new(
        sink: S,
        key: &'a mut DumpKey<'k>,
        memory: &'a mut [u8],
    ) -> Result<Self, LayerError> {
        let memory = memory
            .get_mut(..ENCRYPTION_MEMORY_BYTES)
            .ok_or(LayerError::Memory)?;
        Ok(Self {
            sink,
            key,
            outlet: Outlet::new(memory),
            running: Running::Idle,
        })
    }

    /// The sink below.
    pub fn into_inner(self) -> S {
        self.sink
    }
}

impl Running {
    /// A cipher at the start of its stream.
    #[inline(never)]
    fn start(&mut self, key: &[u8; 32], block: &KeyBlock<'_>) {
        *self = match block.cipher {
            Cipher::Aes256Cbc => Self::Aes(aes::Cbc::new(key, block.aes_iv())),
            Cipher::ChaCha20 => {
                let nonce = Array(block.chacha20_nonce());
                Self::ChaCha20(ChaCha20Legacy::new(&Array(*key), &nonce))
            }
        };
    }

    fn encrypt(&mut self, bytes: &mut [u8]) -> Result<(), SinkError> {
        match self {
            Self::Idle => Err(SinkError::Layer("has no key")),
            Self::Aes(cipher) => match cipher.encrypt(bytes) {
                [] => Ok(()),
                _ => Err(SinkError::Layer("got a part of a block")),
            },
            Self::ChaCha20(cipher) => cipher
                .try_apply_keystream(bytes)
                .map_err(|_| SinkError::Layer("is at the end of its key stream")),
        }
    }
}

impl<S: Sink> Sink for Encrypted<'_, '_, S> {
    fn begin(&mut self, header: &DumpHeader<'_>, _: &[u8]) -> Result<(), SinkError> {
        self.key.advance();
        let block = KeyBlock {
            cipher: self.key.cipher,
            iv: self.key.iv,
            encrypted_key: self.key.encrypted,
        };
        let len = PREFIX_LEN.saturating_add(self.key.encrypted.len());
        let bytes = self.outlet.scratch().get_mut(..len);
        let bytes = bytes.ok_or(SinkError::Layer("has no memory"))?;
        block
            .encode_to(bytes)
            .map_err(|_| SinkError::Layer("has a key that is too long"))?;
        self.sink.begin(header, bytes)?;
        self.running.start(self.key.key, &block);
        self.outlet.begin(self.sink.chunk_bytes());
        Ok(())
    }

    fn chunk_bytes(&self) -> usize {
        OUTLET_BYTES / 2
    }

    fn granule_bytes(&self) -> usize {
        match self.key.cipher {
            Cipher::Aes256Cbc => aes::BLOCK.max(self.sink.granule_bytes()),
            Cipher::ChaCha20 => self.sink.granule_bytes(),
        }
    }

    fn submit(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let mut left = bytes;
        while !left.is_empty() {
            let room = self.outlet.room(&mut self.sink)?;
            let len = room.len().min(left.len());
            let (now, rest) = left.split_at_checked(len).unwrap_or((left, &[]));
            let room = room.get_mut(..now.len()).unwrap_or_default();
            if room.is_empty() {
                return Err(SinkError::Layer("has no memory"));
            }
            room.copy_from_slice(now);
            self.running.encrypt(room)?;
            self.outlet.commit(now.len());
            left = rest;
        }
        Ok(())
    }

    fn complete(&mut self, _: &[u8]) -> Result<(), SinkError> {
        // They were copied.
        Ok(())
    }

    fn finish(&mut self, len_bytes: u64) -> Result<Durability, SinkError> {
        // The padding after the dump is encrypted, as FreeBSD does it; there is no more.
        self.outlet.drain(&mut self.sink)?;
        self.running = Running::Idle;
        self.sink.finish(len_bytes)
    }

    fn cancel(&mut self) {
        self.running = Running::Idle;
        self.sink.cancel();
    }
}
