//! Variables of frames, with damage in the debug information that says where they are. The input is which
//! crash, and the bytes that are changed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcore_debug::show::Options;
use vmcore_fuzz::crash::{crashes, damage, each_thread, with_target};
use vmcore_fuzz::input::Input;

/// Frames of a thread whose variables are read.
const VALUED: usize = 16;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let all = crashes();
    let Some(crash) = all.get(usize::from(input.byte()) % all.len().max(1)) else {
        return;
    };
    let mut kernel = crash.kernel.clone();
    damage(&mut input, &mut kernel, &crash.debug);
    with_target(&crash.dump, &kernel, |target| {
        each_thread(target, |_, thread| {
            let frames = target.stack(thread).frames;
            for number in 0..frames.len().min(VALUED) {
                for list in target.shown_variables(&frames, number, &Options::BRIEF) {
                    for variable in list {
                        // A damaged name may hold anything.
                        let value = variable.value.in_line();
                        assert!(!value.contains('\n'), "{value:?}");
                    }
                }
                let _ = target.evaluate_in("ifp->flags", &frames, number, 0);
            }
        });
    });
});
