//! What a kernel does at boot: RAM ranges from its firmware's list, the memory that a dumper needs, and its
//! first words.

use std::fmt::Write as _;
use vmcore_kit::writer::format::addr::{PageSize, PhysAddr};
use vmcore_kit::{MessageRing, RamRanges, dumper};

static MESSAGES: MessageRing<4024> = MessageRing::new();

#[expect(clippy::print_stdout, reason = "a program prints")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Start and bytes, as an E820 map has them.
    let firmware = [
        (0x10_0000, 0x7f0_0000),
        (0, 0x9_f000),
        (0x800_0000, 0x800_0000),
    ];
    let mut ranges = RamRanges::<16>::new();
    for (start, len_bytes) in firmware {
        ranges.add(PhysAddr(start), len_bytes)?;
    }
    for range in ranges.as_slice() {
        writeln!(&MESSAGES, "RAM {} to {}", range.start, range.end)?;
    }
    let needed = dumper::memory_needed(PageSize::SIZE_4K, ranges.as_slice());
    let needed = needed.ok_or("too much RAM")?;
    writeln!(&MESSAGES, "a dumper needs {} KiB", needed >> 10)?;
    let said: Vec<u8> = MESSAGES.bytes().collect();
    print!("{}", String::from_utf8_lossy(&said));
    Ok(())
}
