//! Devices: the PCI bus, the disk, the network, and what the host hands over.

pub(crate) mod fwcfg;
pub(crate) mod pci;
pub(crate) mod virtio;
pub(crate) mod vtblk;
pub(crate) mod vtnet;
