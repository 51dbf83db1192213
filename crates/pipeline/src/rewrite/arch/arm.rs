//! arm, of either byte order; QEMU's files of it have other notes, which are not read.

use super::{ArchConversion, narrow};
use vmcore::translation::PagingMode;
use vmcore_format::endian::Width;
use vmcore_format::paging::{ArmV6, Paging as _};

/// `KERNBASE`, if its symbol is missing.
const KERNBASE: u64 = 0xc000_0000;

pub(super) const CONVERSION: ArchConversion = ArchConversion {
    mode: PagingMode::ArmV6,
    has_direct_map: false,
    physical_address: |_| Width::W32,
    image: |_| None,
    address_space: |tables, kernel| {
        let symbol = kernel.and_then(|kernel| kernel.symbol("kernbase"));
        let kernbase = symbol.map_or(KERNBASE, |symbol| symbol.address.0);
        narrow(tables.radix, kernbase, ArmV6::shift(1), kernel)
    },
    qemu: None,
};
