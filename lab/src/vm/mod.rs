//! Memory: physical pages, page tables, the kernel map, zones, the dump map.

pub(crate) mod dump_map;
pub(crate) mod kmem;
pub(crate) mod phys;
pub(crate) mod pmap;
pub(crate) mod uma;
