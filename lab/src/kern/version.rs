//! What this kernel is called.

use crate::arch::{cpu, time};
use crate::sys::boot_cell::BootCell;
use crate::sys::tunable;
use vmcore_format::checksum::checksum;

/// A NUL-terminated string that debuggers find by its symbol.
#[repr(transparent)]
pub(crate) struct CString<const N: usize>([u8; N]);

impl<const N: usize> CString<N> {
    const fn new(text: &[u8; N]) -> Self {
        assert!(text[N - 1] == 0);
        Self(*text)
    }

    pub(crate) fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0[..N - 1]).unwrap_or_default()
    }
}

/// The interface that debuggers know is that of this release.
#[unsafe(no_mangle)]
pub(crate) static version: CString<36> = CString::new(b"FreeBSD 15.1-LAB vmcore lab kernel\n\0");
#[unsafe(no_mangle)]
pub(crate) static ostype: CString<8> = CString::new(b"FreeBSD\0");
#[unsafe(no_mangle)]
pub(crate) static osrelease: CString<9> = CString::new(b"15.1-LAB\0");
#[unsafe(no_mangle)]
pub(crate) static machine: CString<6> = CString::new(b"amd64\0");
#[unsafe(no_mangle)]
pub(crate) static osreldate: i32 = 1_501_000;

/// Names this boot.
static BOOT_ID: BootCell<[u8; 16]> = BootCell::new();
static HOSTNAME: BootCell<([u8; HOSTNAME_MAX], usize)> = BootCell::new();
const HOSTNAME_MAX: usize = 64;

unsafe extern "C" {
    static build_id_start: u8;
    static build_id_end: u8;
}

/// Makes up the boot's name, and learns the host's.
pub(crate) fn init() {
    let mut id = [0; 16];
    for (half, salt) in id.chunks_exact_mut(8).zip(1u64..) {
        // Without a source of random numbers, time is what tells boots apart.
        let mixed = time::seconds().rotate_left(32) ^ cpu::rdtsc() ^ salt << 60;
        let word = cpu::rdrand().unwrap_or_else(|| checksum(&mixed.to_le_bytes()));
        half.copy_from_slice(&word.to_le_bytes());
    }
    BOOT_ID.set(id);
    let mut name = [0; HOSTNAME_MAX];
    let len = tunable::with("kern.hostname", |text| {
        name.iter_mut()
            .zip(text.bytes())
            .for_each(|(to, from)| *to = from);
        Some(text.len().min(HOSTNAME_MAX))
    });
    HOSTNAME.set(match len {
        Some(len) => (name, len),
        None => {
            name[..3].copy_from_slice(b"lab");
            (name, 3)
        }
    });
}

pub(crate) fn boot_id() -> [u8; 16] {
    BOOT_ID.try_get().copied().unwrap_or_default()
}

pub(crate) fn hostname() -> &'static str {
    let name = HOSTNAME.try_get();
    name.map_or("", |(name, len)| {
        core::str::from_utf8(&name[..*len]).unwrap_or("?")
    })
}

/// The build id that the linker wrote: after the head of its note.
pub(crate) fn build_id() -> &'static [u8] {
    const NOTE_HEAD: usize = 16;
    // SAFETY: both symbols are in the image's constants, around the note.
    let note = unsafe {
        let start = &raw const build_id_start;
        let len = (&raw const build_id_end).addr() - start.addr();
        core::slice::from_raw_parts(start, len)
    };
    note.get(NOTE_HEAD..).unwrap_or_default()
}
