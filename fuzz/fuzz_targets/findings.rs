//! Reasons for crashes, with damage in the dump, in its panic message, and in the kernel's code and debug
//! information. The input is which crash, and the bytes that are changed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcore_debug::reason;
use vmcore_fuzz::crash::{crashes, damage, each_thread, with_target};
use vmcore_fuzz::input::Input;

/// Panic messages that lead somewhere; the bytes of the first that are there are overwritten.
const MESSAGES: [&[u8]; 8] = [
    b"Bad link elm 0x",
    b"refcount 0xffffffff80203064 wraparound",
    b"Duplicate free of 0xffffffff802030b0 from zone 0x1(mbuf) slab 0x2(3)",
    b"Memory modified after free 0xffffffff80203080(256) val=0 @ 0xffffffff80203088",
    b"mutex flow not owned at a.c:1",
    b"spin lock held too long",
    b"Assertion sb->sb_ccc == ifp->flags failed at a.c:1",
    b"sleeping thread",
];
const MESSAGE: &[u8] = b"page fault\0";

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let all = crashes();
    let Some(crash) = all.get(usize::from(input.byte()) % all.len().max(1)) else {
        return;
    };
    let (mut dump, mut kernel) = (crash.dump.clone(), crash.kernel.clone());
    let message = MESSAGES[usize::from(input.byte()) % MESSAGES.len()];
    let at = dump
        .windows(MESSAGE.len())
        .position(|bytes| bytes == MESSAGE);
    if let Some(to) = at.and_then(|at| dump.get_mut(at..at + message.len())) {
        to.copy_from_slice(message);
    }
    let whole = 0..dump.len();
    damage(&mut input, &mut dump, &[whole]);
    let whole = 0..kernel.len();
    damage(&mut input, &mut kernel, &[whole]);
    with_target(&dump, &kernel, |target| {
        each_thread(target, |list, thread| {
            if let Some(reason) = reason::of(target, list, thread) {
                assert!(!reason.headline.is_empty());
            }
        });
    });
});
