//! arm, of either byte order; QEMU's files of it have other notes, which are not read.

use super::{Facts, narrow};
use vmcore::translation::PagingMode;
use vmcore_format::endian::{Endian, Width};
use vmcore_format::paging::{ArmV6, Paging as _};
use vmcore_writer::arch::ArmV6Big;

/// `KERNBASE`, if its symbol is missing.
const KERNBASE: u64 = 0xc000_0000;

pub(super) const FACTS: Facts = Facts {
    mode: PagingMode::ArmV6,
    has_direct_map: false,
    physical_address: |_| Width::W32,
    image: |_| None,
    address_space: |tables, kernel| {
        let symbol = kernel.and_then(|kernel| kernel.symbol("kernbase"));
        let kernbase = symbol.map_or(KERNBASE, |symbol| symbol.address.0);
        narrow(tables.radix, kernbase, ArmV6::shift(1), kernel)
    },
    write: |_, endian| match endian {
        Endian::Big => |job, told| job.write::<ArmV6Big>(told),
        Endian::Little => |job, told| job.write::<ArmV6>(told),
    },
    qemu: None,
};
