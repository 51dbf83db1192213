//! Machine code of every architecture, in either byte order: the first byte says which, the others are it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcore::format::addr::VirtAddr;
use vmcore::format::arch::Arch;
use vmcore::format::endian::Endian;
use vmcore_debug::instructions::decode;
use vmcore_fuzz::input::Input;

/// An address whose highest bits are those of kernels.
const START: VirtAddr = VirtAddr(0xffff_ffff_8020_0000);
const ALL: [Arch; 10] = [
    Arch::Amd64,
    Arch::Arm,
    Arch::Arm64,
    Arch::I386,
    Arch::Mips,
    Arch::Mips64,
    Arch::Powerpc,
    Arch::Powerpc64,
    Arch::Riscv64,
    Arch::Sparc64,
];

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let which = usize::from(input.byte());
    let order = [Endian::Little, Endian::Big][which / ALL.len() % 2];
    let list = decode(ALL[which % ALL.len()], order, input.0, START);
    // No machine has every byte order.
    if list.is_empty() {
        return;
    }
    // Every byte is in one instruction, in order.
    let mut at = START;
    for one in &list {
        assert_eq!(one.address, at);
        assert!(!one.bytes.is_empty());
        at = VirtAddr(at.0 + one.bytes.len() as u64);
    }
    assert_eq!(at.0 - START.0, input.0.len() as u64);
});
