//! Reading memory that may not be there: a page fault on the way is an answer, not a panic.

use vmcore_format::addr::VirtAddr;

unsafe extern "C" {
    fn probe_copy(to: *mut u8, from: *const u8, len: usize) -> u64;
}

/// The memory could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// Copies from any address. The bytes are whatever is there at that moment; they may change while
/// they are copied.
pub(crate) fn copy(from: VirtAddr, to: &mut [u8]) -> Result<(), Unreadable> {
    // The assembler reads up to 2^47 bytes past a canonical address; others fault differently.
    let last = from.0.checked_add(to.len() as u64).ok_or(Unreadable)?;
    if !is_canonical(from.0) || !is_canonical(last) {
        return Err(Unreadable);
    }
    // SAFETY: `to` is valid for its length; reads that fault end the copy.
    match unsafe { probe_copy(to.as_mut_ptr(), from.0 as *const u8, to.len()) } {
        0 => Ok(()),
        _ => Err(Unreadable),
    }
}

/// Whether the processor takes this for an address at all.
pub(crate) const fn is_canonical(va: u64) -> bool {
    let high = va >> 47;
    high == 0 || high == 0x1_ffff
}

/// A word of memory.
pub(crate) fn read_u64(va: VirtAddr) -> Option<u64> {
    let mut raw = [0; 8];
    copy(va, &mut raw).ok()?;
    Some(u64::from_le_bytes(raw))
}
