//! Memory: physical pages, page tables, the kernel map, zones.

pub(crate) mod kmem;
pub(crate) mod layout;
pub(crate) mod mmio;
pub(crate) mod phys;
pub(crate) mod pmap;
pub(crate) mod uma;
