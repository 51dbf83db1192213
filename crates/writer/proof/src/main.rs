//! The proof that the writer cannot panic: in this binary the panic handler calls a function that does
//! not exist, so it links only if the optimiser has shown that no panic can be reached. Everything
//! that a kernel instantiates is called here, forevery architecture, with values that the optimiser
//! cannot know.
//!
//! Run, it measures how much stack a dump takes, by painting one, and fails above the aim.
//!
//!     cargo run --release --manifest-path crates/writer/proof/Cargo.toml
#![no_std]
#![no_main]

mod stack;

use core::fmt::Write as _;
use core::hint::black_box;
use core::sync::atomic::AtomicU64;
use vmcore_format::addr::{PhysAddr, PhysRange};
use vmcore_format::dump_avail::NumberedRange;
use vmcore_format::paging::{
    Amd64, Arm64Granule4K, Arm64Granule16K, ArmV6, I386, I386Pae, Powerpc64Radix, Riscv64,
};
use vmcore_writer::arch::{ArmV6Big, KernelPaging};
use vmcore_writer::disk::DiskSink;
use vmcore_writer::reserve::reserve_size;
use vmcore_writer::settings::{Patience, Settings};
use vmcore_writer::{DumpMap, Latch, Writer};
use vmcore_writer_proof::kernel::{self, Disk, Ram, Toy};
use vmcore_writer_proof::layers::{self, Way};
use zerocopy::IntoBytes as _;

/// The most stack that a dump may take, in bytes.
const AIM: usize = 4096;

#[link(name = "c")]
unsafe extern "C" {
    fn write(fd: i32, bytes: *const u8, len: usize) -> isize;
}

/// Where panics end: nowhere.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        fn the_writer_can_panic() -> !;
    }
    // SAFETY: never called; the function does not exist, and the binary does not link if it could be.
    unsafe { the_writer_can_panic() }
}

/// Standard output.
struct Out;

impl core::fmt::Write for Out {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        // SAFETY: `write` reads `len` bytes from the pointer, which are those of `text`.
        unsafe { write(1, text.as_ptr(), text.len()) };
        Ok(())
    }
}

/// What a kernel has in static memory.
struct Statics {
    latch: Latch,
    ranges: [PhysRange; 2],
    numbered: [NumberedRange; 2],
    words: [AtomicU64; 8],
    memory: [u64; 128 << 10],
    ram: Ram,
    layers: layers::Memory,
}

/// Boots a kernel with the page tables of `P`, and has it dump; returns the stack of the dump alone.
#[inline(never)]
fn dump<P: KernelPaging>(
    statics: &mut Statics,
    settings: Settings,
    way: Option<Way>,
) -> Option<usize> {
    let Statics {
        latch,
        ranges,
        numbered,
        words,
        memory,
        ram,
        layers,
    } = statics;
    let ranges: &[PhysRange] = black_box(ranges);
    let map = DumpMap::new(P::PAGE_SIZE, ranges, numbered, words).ok()?;
    let _ = map.add_page(black_box(PhysAddr(0x3000)));
    let _ = map.drop_page(black_box(PhysAddr(0x4000)));
    let len = usize::try_from(reserve_size(P::PAGE_SIZE, ranges)?.len_bytes).ok()?;
    let memory = memory.as_mut_bytes().get_mut(..len)?;
    let mut writer = Writer::new(&map, settings, memory).ok()?;
    let toy = Toy::<P>::new(ram);
    let owner = latch.enter().ok()?;
    let mut written = false;
    let used = match way {
        None => {
            let mut sink = DiskSink::new(Disk::new(), Patience::default());
            stack::used(&mut || {
                written = black_box(&mut writer).dump(&owner, &toy, &mut sink).is_ok();
            })
        }
        Some(way) => layers::with(layers, way, &mut |mut sink| {
            stack::used(&mut || {
                written = black_box(&mut writer).dump(&owner, &toy, &mut sink).is_ok();
            })
        })?,
    };
    written.then_some(used)
}

/// The worst stack of all dumps of one architecture: minidumps of every version, and full dumps.
fn worst<P: KernelPaging>(statics: &mut Statics, name: &str, out: &mut Out) -> bool {
    let mut worst = 0;
    let mut passed = true;
    for version in [None, Some(1)] {
        for minidump in [true, false] {
            let settings = Settings {
                minidump: black_box(minidump),
                version,
                fall_back_to_full: black_box(true),
                self_describing: black_box(true),
            };
            let exists = if minidump {
                version
                    .is_none_or(|version| P::FORMATS.iter().any(|format| format.version == version))
            } else {
                P::HAS_FULL_DUMPS
            };
            match dump::<P>(statics, settings, None) {
                Some(used) => worst = worst.max(used),
                None => passed &= !exists,
            }
        }
    }
    let _ = out.write_str(name);
    let _ = out.write_str(": ");
    number(out, worst);
    let _ = out.write_str(if passed {
        " bytes of stack\n"
    } else {
        " bytes of stack; a dump FAILED\n"
    });
    passed && worst > 0 && worst <= AIM
}

/// The stack of a dump through each layer and to the network.
fn layered(statics: &mut Statics, out: &mut Out) -> bool {
    let settings = Settings {
        minidump: black_box(true),
        version: None,
        fall_back_to_full: black_box(false),
        self_describing: black_box(true),
    };
    let mut passed = true;
    for (way, name) in layers::WAYS {
        let used = dump::<Amd64>(statics, settings, Some(way));
        let _ = out.write_str(name);
        let _ = out.write_str(": ");
        number(out, used.unwrap_or(0));
        let _ = out.write_str(match used {
            Some(_) => " bytes of stack\n",
            None => " bytes of stack; the dump FAILED\n",
        });
        passed &= used.is_some_and(|used| used <= AIM);
    }
    passed
}

/// A decimal number; `core::fmt` itself can panic.
fn number(out: &mut Out, value: usize) {
    if value >= 10 {
        number(out, value / 10);
    }
    let digits = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let _ = out.write_str(digits.get(value % 10).copied().unwrap_or("?"));
}

#[unsafe(no_mangle)]
extern "C" fn main() -> i32 {
    static mut STATICS: Statics = Statics {
        latch: Latch::new(),
        ranges: kernel::RANGES,
        numbered: [kernel::NO_RANGE; 2],
        words: [const { AtomicU64::new(0) }; 8],
        memory: [0; 128 << 10],
        ram: Ram::EMPTY,
        layers: layers::Memory::EMPTY,
    };
    let statics = &raw mut STATICS;
    // SAFETY: `main` is called once, by one thread, and nothing else names the static.
    let statics = unsafe { &mut *statics };
    let mut out = Out;
    let passed = [
        worst::<Amd64>(statics, "amd64", &mut out),
        worst::<Arm64Granule4K>(statics, "arm64, 4 KiB pages", &mut out),
        worst::<Arm64Granule16K>(statics, "arm64, 16 KiB pages", &mut out),
        worst::<I386>(statics, "i386", &mut out),
        worst::<I386Pae>(statics, "i386, PAE", &mut out),
        worst::<Riscv64>(statics, "riscv64", &mut out),
        worst::<ArmV6>(statics, "arm", &mut out),
        worst::<ArmV6Big>(statics, "arm, big-endian", &mut out),
        worst::<Powerpc64Radix>(statics, "powerpc64, radix", &mut out),
        layered(statics, &mut out),
    ];
    i32::from(passed.contains(&false))
}
