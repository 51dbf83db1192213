//! QEMU's firmware configuration: files that the host hands to the machine, read through two ports.

use crate::arch::cpu::{inb, outw};

const SELECTOR: u16 = 0x510;
const DATA: u16 = 0x511;
/// Items that are there by their numbers: who answers, and the list of files.
const SIGNATURE: u16 = 0;
const FILE_DIRECTORY: u16 = 0x19;
/// More files than any machine has.
const FILES_MAX: u32 = 128;

/// Reads bytes of the item that was chosen.
fn bytes<const LEN: usize>() -> [u8; LEN] {
    core::array::from_fn(|_| inb(DATA))
}

/// Reads the file `name` into `to`, and returns its length; `None` if there is none, or it is longer.
pub(crate) fn read(name: &str, to: &mut [u8]) -> Option<usize> {
    outw(SELECTOR, SIGNATURE);
    if bytes() != *b"QEMU" {
        return None;
    }
    outw(SELECTOR, FILE_DIRECTORY);
    let count = u32::from_be_bytes(bytes()).min(FILES_MAX);
    for _ in 0..count {
        let len = u32::from_be_bytes(bytes()) as usize;
        let number = u16::from_be_bytes(bytes());
        let _reserved: [u8; 2] = bytes();
        let found: [u8; 56] = bytes();
        let found = found.split(|byte| *byte == 0).next()?;
        if found == name.as_bytes() {
            let to = to.get_mut(..len)?;
            outw(SELECTOR, number);
            to.fill_with(|| inb(DATA));
            return Some(len);
        }
    }
    None
}
