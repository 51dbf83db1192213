//! Devices: the serial line, the PCI bus, the disk.

pub(crate) mod pci;
pub(crate) mod uart;
pub(crate) mod virtio;
pub(crate) mod vtblk;
