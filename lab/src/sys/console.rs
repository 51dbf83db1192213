//! The console: `printf` to the serial line and the message buffer, and lines typed by a person.

use crate::sys::lock::SpinLock;
use crate::sys::{msgbuf, uart};
use core::fmt::{self, Write};

/// Prints, to the console and into the message buffer.
macro_rules! printf {
    ($($arguments:tt)*) => {
        $crate::sys::console::print(format_args!($($arguments)*))
    };
}
pub(crate) use printf;

/// How long a message waits for another one to end.
const PATIENCE_US: u64 = 500_000;
/// One message at a time.
static CONSOLE: SpinLock<()> = SpinLock::new(c"console", ());

struct Out;

impl Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        msgbuf::add(text);
        uart::write(text);
        Ok(())
    }
}

pub(crate) fn print(text: fmt::Arguments<'_>) {
    let _one_at_a_time = CONSOLE.lock_impatiently(PATIENCE_US);
    // Writing to the line and to memory cannot fail.
    let _ = Out.write_fmt(text);
}

/// Prints what only the person at the console should see: echo of typed characters, and the
/// message buffer itself.
pub(crate) fn print_unlogged(text: &str) {
    uart::write(text);
}

/// As [`print_unlogged`], of what must be put together first.
pub(crate) fn print_unlogged_args(text: fmt::Arguments<'_>) {
    struct Line;
    impl Write for Line {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            print_unlogged(text);
            Ok(())
        }
    }
    // The line takes everything.
    let _ = Line.write_fmt(text);
}

/// The longest line that can be typed.
pub(crate) const LINE_MAX: usize = 120;

/// A line that is being typed.
pub(crate) struct Line {
    text: [u8; LINE_MAX],
    len: usize,
}

impl Line {
    pub(crate) const fn new() -> Self {
        Self {
            text: [0; LINE_MAX],
            len: 0,
        }
    }

    /// Takes a character, and shows it. True at the end of the line.
    pub(crate) fn push(&mut self, byte: u8) -> bool {
        match byte {
            b'\r' | b'\n' => {
                print_unlogged("\n");
                return true;
            }
            8 | 127 if self.len > 0 => {
                self.len -= 1;
                print_unlogged("\x08 \x08");
            }
            b' '..=b'~' if self.len < LINE_MAX => {
                self.text[self.len] = byte;
                self.len += 1;
                uart::put(byte);
            }
            _ => {}
        }
        false
    }

    pub(crate) fn as_str(&self) -> &str {
        core::str::from_utf8(&self.text[..self.len]).unwrap_or_default()
    }
}

/// A line in the debugger: nothing else runs.
pub(crate) fn read_line_polled() -> Line {
    let mut line = Line::new();
    loop {
        if let Some(byte) = uart::poll() {
            if line.push(byte) {
                return line;
            }
        } else {
            core::hint::spin_loop();
        }
    }
}

/// Shows the message buffer to the person, without adding to it.
pub(crate) fn show_msgbuf() {
    let mut line = [0u8; 128];
    let mut len = 0;
    let flush = |bytes: &[u8]| print_unlogged(core::str::from_utf8(bytes).unwrap_or("?"));
    msgbuf::for_each_byte(|byte| {
        line[len] = if byte.is_ascii() { byte } else { b'?' };
        len += 1;
        if len == line.len() || byte == b'\n' {
            flush(&line[..len]);
            len = 0;
        }
    });
    flush(&line[..len]);
}
