//! The smallest kernel with crash dumps: a console, two tasks, a heap, and a panic.

#![no_std]
#![no_main]

mod dump;

use core::arch::global_asm;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use vmcore_kit::MessageRing;
use vmcore_kit::x86::{inb, outb};

global_asm!(include_str!("boot.S"), options(att_syntax));
// What targets without an operating system have of their own.
global_asm!(include_str!("support.S"), options(att_syntax));

/// What the kernel said: two pages.
static MESSAGES: MessageRing<8120> = MessageRing::new();

/// The serial line, and the message buffer.
struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: the first serial port.
            unsafe {
                while inb(0x3fd) & 0x20 == 0 {}
                outb(0x3f8, byte);
            }
        }
        (&MESSAGES).write_str(text)
    }
}

macro_rules! println {
    ($($word:tt)*) => {{ let _ = core::fmt::Write::write_fmt(&mut $crate::Console, format_args!("{}\n", format_args!($($word)*))); }};
}
pub(crate) use println;

/// A task, and the stack pointer that it had when it was switched out.
struct Task {
    name: &'static str,
    waits_for: &'static str,
    sp: AtomicU64,
}

static TASKS: [Task; 2] = [Task::new("main", ""), Task::new("reader", "keyboard")];
/// Bytes of a task's stack.
const STACK: usize = 16384;
static READER_STACK: Stack = Stack([const { AtomicU64::new(0) }; STACK / 8]);

#[repr(C, align(16))]
struct Stack([AtomicU64; STACK / 8]);

impl Task {
    const fn new(name: &'static str, waits_for: &'static str) -> Self {
        Self {
            name,
            waits_for,
            sp: AtomicU64::new(0),
        }
    }
}

unsafe extern "C" {
    fn switch_to(from: *mut u64, to: u64);
}

/// Waits for a key that nobody presses.
extern "C" fn reader() -> ! {
    loop {
        // SAFETY: the main task is where it was switched out.
        unsafe { switch_to(TASKS[1].sp.as_ptr(), TASKS[0].sp.load(Ordering::Relaxed)) }
    }
}

/// A packet in the heap.
#[derive(Debug)]
struct Packet {
    len: Option<u32>,
    sender: &'static str,
}

const HEAP: usize = 0x4444_4440_0000;

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    println!("adopting: up");
    dump::init();
    // The reader's stack as if it had been switched out at its start.
    let top = STACK / 8 - 2;
    READER_STACK.0[top].store(reader as *const () as u64, Ordering::Relaxed);
    let sp = READER_STACK.0[top - 6].as_ptr().addr() as u64;
    // SAFETY: a stack as `switch_to` leaves one.
    unsafe { switch_to(TASKS[0].sp.as_ptr(), sp) }
    let packet: *mut Packet = core::ptr::with_exposed_provenance_mut(HEAP + 0x40);
    // SAFETY: the heap is mapped, and this is all that uses it.
    let packet = unsafe {
        packet.write(Packet {
            len: None,
            sender: "10.0.2.2",
        });
        &*packet
    };
    println!("adopting: a packet of {}", packet.sender);
    println!("adopting: {} bytes received", receive(packet));
    loop {
        core::hint::spin_loop();
    }
}

#[inline(never)]
fn receive(packet: &Packet) -> u32 {
    let header = 14;
    packet.len.expect("a packet has a length") - header
}
