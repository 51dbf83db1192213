//! The key of encrypted dumps, as the host hands it over at boot.
//!
//! What `dumpon -k` does in FreeBSD is done by the host here: it draws a key, encrypts it with an RSA
//! public key whose private half is elsewhere, and hands over both, and a first initialisation
//! vector. All of it stays in a page that is in no minidump. (A full dump is all of RAM: whoever can
//! read one in the clear can also read what was encrypted by the same boot.)

use crate::arch::layout::{PAGE_SIZE, dmap};
use crate::dev::fwcfg;
use crate::sys::console::printf;
use core::mem::MaybeUninit;
use core::ptr;
use vmcore_format::addr::PhysAddr;
use vmcore_format::kerneldumpkey::{CLEAR_KEY_LEN, Cipher, ENCRYPTED_KEY_MAX, IV_LEN};
use vmcore_writer::encrypt::DumpKey;

/// The file's name: clear key, initialisation vector, encrypted key, one after the other.
const FILE: &str = "opt/lab/dumpkey";

/// The page that is in no minidump; it begins with the file.
#[repr(C)]
struct Page {
    clear: [u8; CLEAR_KEY_LEN],
    iv: [u8; IV_LEN],
    encrypted: [u8; ENCRYPTED_KEY_MAX],
    keys: MaybeUninit<Keys>,
}

const _: () = assert!(size_of::<Page>() <= PAGE_SIZE as usize);

/// The key for each cipher.
pub(crate) struct Keys {
    chacha20: DumpKey<'static>,
    aes: DumpKey<'static>,
}

impl Keys {
    pub(crate) fn of(&mut self, cipher: Cipher) -> &mut DumpKey<'static> {
        match cipher {
            Cipher::ChaCha20 => &mut self.chacha20,
            Cipher::Aes256Cbc => &mut self.aes,
        }
    }
}

/// Takes what the host handed over, if it did. `at` is a page of zeros that is in no minidump.
pub(crate) fn init(at: PhysAddr) -> Option<&'static mut Keys> {
    let page = dmap(at).cast::<Page>();
    // SAFETY: the page is ours forever, zero (which every field takes), and asked for once.
    let page: &'static mut Page = unsafe { &mut *page };
    let file = ptr::from_mut(page).cast::<u8>();
    let head = CLEAR_KEY_LEN + IV_LEN;
    // SAFETY: the first three fields, bytes that follow one another.
    let file = unsafe { core::slice::from_raw_parts_mut(file, head + ENCRYPTED_KEY_MAX) };
    let len = fwcfg::read(FILE, file)?.checked_sub(head)?;
    let encrypted = page.encrypted.get(..len)?;
    let mut aes_iv = page.iv;
    // Two keys from one: no initialisation vector may serve both.
    aes_iv[0] ^= 0x80;
    let key = |cipher, iv| DumpKey::new(cipher, &page.clear, encrypted, iv);
    match (
        key(Cipher::ChaCha20, page.iv),
        key(Cipher::Aes256Cbc, aes_iv),
    ) {
        (Ok(chacha20), Ok(aes)) => {
            printf!("dumps can be encrypted: RSA key of {} bits\n", len * 8);
            Some(page.keys.write(Keys { chacha20, aes }))
        }
        (Err(error), _) | (_, Err(error)) => {
            printf!("the key for dumps: {error}\n");
            None
        }
    }
}
