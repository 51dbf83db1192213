//! Boot tunables: `NAME=VALUE` words of the command line, kept as FreeBSD keeps its environment.

use crate::sys::lock::SpinLock;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// Bytes of all tunables, and how many there are at most.
const TEXT_MAX: usize = 2048;
const COUNT_MAX: usize = 63;

/// Pointers to the strings, ended by a null pointer.
static STRINGS: [AtomicPtr<u8>; COUNT_MAX + 1] =
    [const { AtomicPtr::new(ptr::null_mut()) }; COUNT_MAX + 1];
#[unsafe(no_mangle)]
static kenvp: AtomicPtr<AtomicPtr<u8>> = AtomicPtr::new(ptr::null_mut());
#[unsafe(no_mangle)]
static dynamic_kenv: AtomicBool = AtomicBool::new(false);

static TEXT: SpinLock<Text> = SpinLock::new(
    c"kernel environment",
    Text {
        bytes: [0; TEXT_MAX],
        len: 0,
    },
);

struct Text {
    bytes: [u8; TEXT_MAX],
    len: usize,
}

/// Takes the words of the command line that are tunables.
pub(crate) fn init(cmdline: &str) {
    let mut text = TEXT.lock();
    let words = cmdline
        .split_ascii_whitespace()
        .filter(|word| word.contains('='));
    for (word, slot) in words.zip(&STRINGS[..COUNT_MAX]) {
        let (start, end) = (text.len, text.len + word.len());
        if end + 1 > TEXT_MAX {
            break;
        }
        text.bytes[start..end].copy_from_slice(word.as_bytes());
        text.len = end + 1; // a NUL after it
        slot.store(&raw mut text.bytes[start], Ordering::Relaxed);
    }
    kenvp.store(STRINGS.as_ptr().cast_mut(), Ordering::Relaxed);
    dynamic_kenv.store(true, Ordering::Release);
}

/// Shows the value of a tunable to `read`.
pub(crate) fn with<T>(name: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    let text = TEXT.lock();
    let text = core::str::from_utf8(&text.bytes[..text.len]).ok()?;
    let value = text
        .split('\0')
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
    read(value)
}

/// A tunable as a number: decimal, hexadecimal with `0x`, with a `K`, `M` or `G` after it.
pub(crate) fn number(name: &str) -> Option<u64> {
    with(name, parse)
}

/// A number as people write it.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let (digits, unit) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 1 << 10),
        b'm' | b'M' => (&text[..text.len() - 1], 1 << 20),
        b'g' | b'G' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    let number = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => digits.parse().ok()?,
    };
    number.checked_mul(unit)
}
