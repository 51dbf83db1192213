//! A dump and a kernel file: processes, translations, and reads at the addresses of symbols. The
//! first four bytes of the input say how many bytes the dump has; the rest is the kernel file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcore::format::addr::VirtAddr;
use vmcore::session::{KernelChoice, Session};
use vmcore::space::AddressSpace;
use vmcore::{OpenOptions, info, log, process, verify};
use vmcore_fuzz::file::InputFile;
use vmcore_fuzz::input::Input;
use vmcore_fuzz::limit;

/// Symbols whose contents are read.
const SYMBOLS: usize = 64;
/// Bytes that are read at each.
const READ: usize = 10_000;

fuzz_target!(|data: &[u8]| {
    let (dump, kernel) = Input(data).two_files();
    let (dump, kernel) = (InputFile::new(dump), InputFile::new(kernel));
    limit::memory(data.len(), || {
        let kernel = KernelChoice::Given(kernel.path());
        let Ok(session) = Session::open(dump.path(), kernel, &OpenOptions::default()) else {
            return;
        };
        // Another kernel's file is as good as one that fits.
        let session = session.with_force(true);
        let _ = session.build_ids();
        let _ = session.kernel_match();
        if let Ok(list) = process::list(&session) {
            for process in &list.processes {
                assert!(process.comm.len() <= 20);
                assert!(process.threads.iter().all(|thread| thread.name.len() <= 20));
            }
        }
        let _ = log::read(&session);
        let _ = info::info(&session);
        let _ = verify::verify(&session, |_| {});
        if let (Ok(space), Some(kernel)) = (session.space(), session.kernel()) {
            for symbol in kernel.symbols().iter().take(SYMBOLS) {
                read(space, symbol.address);
            }
            for edge in [0, u64::MAX, u64::MAX - 4096, u64::from(u32::MAX)] {
                read(space, VirtAddr(edge));
            }
        }
    });
});

/// The three ways to read agree about what there is.
fn read(space: AddressSpace<'_>, va: VirtAddr) {
    let memory = space.memory();
    let mut steps = 0;
    let traced = space.translation().trace(memory, va, |_, _| steps += 1);
    assert_eq!(traced, space.translation().lookup(memory, va));
    assert!(steps <= 5);

    let mut partial = vec![1; READ];
    let part = space.read(va, &mut partial);
    assert_eq!(part.error.is_none(), part.len == READ);
    assert!(part.len <= READ);
    let mut exact = vec![2; READ];
    assert_eq!(space.read_exact(va, &mut exact).is_ok(), part.len == READ);
    let mut tolerant = vec![3; READ];
    let mut first_hole = READ;
    let mut missing = 0;
    space.read_with_holes(va, &mut tolerant, |hole| {
        let at = usize::try_from(hole.va.0.wrapping_sub(va.0)).expect("inside the buffer");
        first_hole = first_hole.min(at);
        missing += hole.len;
        assert!(tolerant_is_inside(at, hole.len));
    });
    assert_eq!(first_hole, part.len);
    assert!(missing <= READ - part.len);
    assert_eq!(tolerant[..part.len], partial[..part.len]);
    if part.len == READ {
        assert_eq!(exact, partial);
    }
    let text = space.read_string(va, 64);
    assert_eq!(text.is_ok(), part.len > 0);
    if let Ok(text) = text {
        assert!(partial.starts_with(&text));
    }
    // Byte by byte, at the start and at the first that is missing.
    for at in [0, 1, 4095, 4096, part.len.saturating_sub(1)] {
        let Some(one) = va.checked_add(at as u64).filter(|_| at < part.len) else {
            continue;
        };
        let mut byte = [0];
        assert_eq!(space.read_exact(one, &mut byte), Ok(()));
        assert_eq!(byte[0], partial[at]);
    }
}

fn tolerant_is_inside(at: usize, len: usize) -> bool {
    len > 0 && at + len <= READ
}
