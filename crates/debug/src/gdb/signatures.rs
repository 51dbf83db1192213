//! Stacks for gdb without the signatures of return addresses.
//!
//! gdb takes signatures off from release 14 on, and before that only as a user's process has them: then
//! a stack ends at the first frame. So it gets the return addresses of frame records without. A record
//! is known by both of its words: a frame pointer that leads further up the same stack or out of it, and
//! an address of the kernel's code. All other memory is served as it is, and lldb gets all of it so.

use crate::target::Target;
use crate::unwind::Code as _;
use vmcore_format::addr::VirtAddr;

/// How far above a frame record the next one can be, in bytes.
const MAX_FRAME: u64 = 1 << 16;
const WORD: u64 = 8;

/// Takes the signatures off `bytes`, which are at `address`.
pub(super) fn take_off(target: &Target<'_>, address: u64, bytes: &mut [u8]) {
    let machine = target.machine();
    let skipped = address.wrapping_neg() % WORD;
    let mut at = address.wrapping_add(skipped);
    let mut before = target
        .space()
        .read_word(VirtAddr(at.wrapping_sub(WORD)))
        .ok();
    let words = bytes.get_mut(usize::try_from(skipped).unwrap_or(0)..);
    for raw in words.unwrap_or_default().as_chunks_mut::<8>().0 {
        let word = u64::from_le_bytes(*raw);
        let plain = (machine.strip)(word);
        let record = at.wrapping_sub(WORD);
        let is_frame_pointer = |fp: u64| {
            fp == 0 || machine.is_user(VirtAddr(fp)) || fp > record && fp - record <= MAX_FRAME
        };
        if plain != word && before.is_some_and(is_frame_pointer) && is_code(target, plain) {
            *raw = plain.to_le_bytes();
        }
        before = Some(word);
        at = at.wrapping_add(WORD);
    }
}

fn is_code(target: &Target<'_>, address: u64) -> bool {
    let mut modules = target.files().modules().iter();
    target.text().iter().any(|range| range.contains(&address))
        || modules.any(|module| module.range().contains(&address))
}
