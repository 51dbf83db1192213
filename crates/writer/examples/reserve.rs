//! What a kernel sets aside at boot to be able to dump: `reserve GIBIBYTES`.

use std::error::Error;
use std::sync::atomic::AtomicU64;
use vmcore_format::addr::{PageSize, PhysAddr, PhysRange};
use vmcore_format::dump_avail::NumberedRange;
use vmcore_writer::map::DumpMap;
use vmcore_writer::reserve::reserve_size;

/// The memory that dumps of a machine with so much RAM need.
pub fn reserve(gib: u64) -> Result<String, Box<dyn Error>> {
    // The firmware's hole below 1 MiB, and the devices' below 4 GiB.
    let ends = [
        (0, 0x9_f000),
        (0x10_0000, 0xc000_0000),
        (1 << 32, (gib + 1) << 30),
    ];
    let ranges = ends.map(|(start, end)| PhysRange {
        start: PhysAddr(start),
        end: PhysAddr(end),
    });
    let page = PageSize::SIZE_4K;
    let words = DumpMap::words_needed(page, &ranges).ok_or("too much RAM")?;
    let bits: Vec<AtomicU64> = (0..words).map(|_| AtomicU64::new(0)).collect();
    let mut numbered = [NumberedRange::default(); 3];
    let map = DumpMap::new(page, &ranges, &mut numbered, &bits)?;
    // What the kernel's allocator does from then on, on any CPU.
    map.add_page(PhysAddr(0x12_3000))?;
    let reserve = reserve_size(page, &ranges).ok_or("too much RAM")?;
    Ok(format!(
        "dump map {} bytes, reserve {} bytes aligned to {}\n",
        words * 8,
        reserve.len_bytes,
        reserve.align_bytes
    ))
}

#[expect(clippy::print_stdout, reason = "a program prints")]
fn main() -> Result<(), Box<dyn Error>> {
    let gib = std::env::args().nth(1).ok_or("usage: reserve GIBIBYTES")?;
    print!("{}", reserve(gib.parse()?)?);
    Ok(())
}
