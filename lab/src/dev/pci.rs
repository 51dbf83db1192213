//! The PCI bus, by its two oldest ports: enough to find a disk and to map its registers.

use crate::arch::cpu::{inl, outl};
use vmcore_format::addr::PhysAddr;

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;

/// Configuration registers.
const ID: u8 = 0;
const COMMAND: u8 = 4;
const STATUS_CAPABILITIES: u32 = 1 << 20;
const BAR0: u8 = 0x10;
const CAPABILITIES: u8 = 0x34;
const COMMAND_MEMORY: u32 = 2;
const COMMAND_MASTER: u32 = 4;
/// A capability that the vendor defines.
pub(crate) const CAP_VENDOR: u8 = 9;
/// More capabilities than any device has.
const CAPABILITIES_MAX: usize = 48;

/// A device on bus 0.
#[derive(Clone, Copy)]
pub(crate) struct Device {
    slot: u8,
}

impl Device {
    /// The first device of a vendor with one of these numbers.
    pub(crate) fn find(vendor: u16, devices: &[u16]) -> Option<Self> {
        (0..32).map(|slot| Self { slot }).find(|device| {
            let id = device.read(ID);
            id as u16 == vendor && devices.contains(&((id >> 16) as u16))
        })
    }

    pub(crate) fn slot(self) -> u8 {
        self.slot
    }

    fn select(self, offset: u8) {
        let address = 1 << 31 | u32::from(self.slot) << 11 | u32::from(offset & 0xfc);
        outl(ADDRESS, address);
    }

    pub(crate) fn read(self, offset: u8) -> u32 {
        self.select(offset);
        inl(DATA)
    }

    fn write(self, offset: u8, value: u32) {
        self.select(offset);
        outl(DATA, value);
    }

    /// Lets the device answer and read and write memory.
    pub(crate) fn enable(self) {
        self.write(
            COMMAND,
            self.read(COMMAND) & 0xffff | COMMAND_MEMORY | COMMAND_MASTER,
        );
    }

    /// Where a window of registers is; `None` if it is one of ports.
    pub(crate) fn bar(self, index: u8) -> Option<PhysAddr> {
        if index > 5 {
            return None;
        }
        let low = self.read(BAR0 + 4 * index);
        if low & 1 != 0 {
            return None;
        }
        let high = if low >> 1 & 3 == 2 && index < 5 {
            self.read(BAR0 + 4 * index + 4)
        } else {
            0
        };
        Some(PhysAddr(u64::from(high) << 32 | u64::from(low & !0xf)))
    }

    /// Where each capability of a kind starts.
    pub(crate) fn capabilities(self, kind: u8) -> impl Iterator<Item = u8> {
        let has_any = self.read(COMMAND) & STATUS_CAPABILITIES != 0;
        let mut next = if has_any {
            self.read(CAPABILITIES) as u8 & 0xfc
        } else {
            0
        };
        let all = core::iter::from_fn(move || {
            let at = (next != 0).then_some(next)?;
            let head = self.read(at);
            next = (head >> 8) as u8 & 0xfc;
            Some((at, head as u8))
        });
        all.take(CAPABILITIES_MAX)
            .filter(move |(_, found)| *found == kind)
            .map(|(at, _)| at)
    }
}
