//! Functions that were interrupted before they had a frame of their own, or after.
//!
//! Between a call and `push %rbp; mov %rsp,%rbp`, and at the final `ret`, the frame pointer is the
//! caller's: a walk by frame pointers would leave the caller out.

use vmcore_format::arch::Arch;

/// Bytes of instructions that are looked at.
pub(super) const LEN: usize = 4;

/// How far above the stack pointer the return address lies, in bytes, if the instructions at the
/// program counter tell; `at_start`: it is the first instruction of its function. On machines with
/// a link register the answer 0 says that the return address is still in there.
pub(super) fn return_address(arch: Arch, code: &[u8], at_start: bool) -> Option<u64> {
    let word = match arch {
        Arch::Amd64 => 8,
        Arch::I386 => 4,
        _ => return at_start.then_some(0),
    };
    match (arch, code) {
        // push %rbp, ret
        (_, [0x55 | 0xc3, ..]) => Some(0),
        // endbr64, endbr32
        (_, [0xf3, 0x0f, 0x1e, 0xfa | 0xfb]) => Some(0),
        // mov %rsp,%rbp in either encoding: the push before it is done.
        (Arch::Amd64, [0x48, 0x89, 0xe5, ..] | [0x48, 0x8b, 0xec, ..]) => Some(word),
        (Arch::I386, [0x89, 0xe5, ..] | [0x8b, 0xec, ..]) => Some(word),
        _ if at_start => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_return_address_moves_with_the_push() {
        let amd64 = |code: &[u8]| return_address(Arch::Amd64, code, false);
        assert_eq!(amd64(&[0x55, 0x48, 0x89, 0xe5]), Some(0));
        assert_eq!(amd64(&[0x48, 0x89, 0xe5, 0x41]), Some(8));
        assert_eq!(amd64(&[0xc3]), Some(0));
        assert_eq!(amd64(&[0x90, 0x90]), None);
        assert_eq!(return_address(Arch::I386, &[0x89, 0xe5], false), Some(4));
        assert_eq!(return_address(Arch::Arm64, &[], true), Some(0));
        assert_eq!(return_address(Arch::Arm64, &[], false), None);
    }
}
