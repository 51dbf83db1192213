//! The serial line: polled, because it must work in the debugger and in a panic.

use crate::arch::cpu::{inb, outb};
use crate::sys::lock::SpinLock;
use core::sync::atomic::{AtomicU8, Ordering};

const DATA: u16 = 0x3f8;
const LINE_STATUS: u16 = DATA + 5;
const RECEIVED: u8 = 1;
const ROOM: u8 = 0x20;
/// Polls of the line before a character is given up: a line without a reader must not hang a panic.
const PATIENCE: u32 = 1_000_000;

/// Characters that were typed and not read yet.
struct Input {
    bytes: [u8; 256],
    head: usize,
    len: usize,
}

static INPUT: SpinLock<Input> = SpinLock::new(
    c"uart",
    Input {
        bytes: [0; 256],
        head: 0,
        len: 0,
    },
);
/// How much of the escape to the debugger was typed: Return, `~`, Control-B.
static ESCAPE: AtomicU8 = AtomicU8::new(0);
const ESCAPE_KEYS: [u8; 3] = [b'\r', b'~', 2];

/// Sends a character.
pub(crate) fn put(byte: u8) {
    for _ in 0..PATIENCE {
        if inb(LINE_STATUS) & ROOM != 0 {
            break;
        }
    }
    outb(DATA, byte);
}

/// Sends text; newlines become what terminals want.
pub(crate) fn write(text: &str) {
    for byte in text.bytes() {
        if byte == b'\n' {
            put(b'\r');
        }
        put(byte);
    }
}

/// A character that has just come in.
pub(crate) fn poll() -> Option<u8> {
    (inb(LINE_STATUS) & RECEIVED != 0).then(|| inb(DATA))
}

/// Keeps what has come in until it is read. True if it was the escape to the debugger.
pub(crate) fn collect_input() -> bool {
    let mut input = INPUT.lock();
    while input.len < input.bytes.len() {
        let Some(byte) = poll() else {
            break;
        };
        let step = usize::from(ESCAPE.load(Ordering::Relaxed));
        let next = match byte {
            byte if byte == ESCAPE_KEYS[step] => step + 1,
            b'\r' => 1,
            _ => 0,
        };
        ESCAPE.store(next as u8 % 3, Ordering::Relaxed);
        if next == ESCAPE_KEYS.len() {
            return true;
        }
        let at = (input.head + input.len) % input.bytes.len();
        input.bytes[at] = byte;
        input.len += 1;
    }
    false
}

/// The oldest character that was typed.
pub(crate) fn take_input() -> Option<u8> {
    let mut input = INPUT.lock();
    if input.len == 0 {
        return None;
    }
    let byte = input.bytes[input.head];
    input.head = (input.head + 1) % input.bytes.len();
    input.len -= 1;
    Some(byte)
}
