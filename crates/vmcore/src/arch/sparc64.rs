//! sparc64: its dumps have a header of their own, which names the kernel's translation buffer.

use super::{Facts, FullDumps};
use crate::registers::PcbLayout;
use vmcore_format::addr::VirtAddr;
use vmcore_format::endian::Width;

/// `KERNBASE` (`sys/sparc64/include/vmparam.h`): the start of the image.
const KERNBASE: VirtAddr = VirtAddr(0xc000_0000);

pub(super) const FACTS: Facts = Facts {
    full_dumps: FullDumps::TranslationBuffer,
    image_starts: |_| vec![KERNBASE],
    pcb: |_| PcbLayout::new(&[], Width::W64, ["pc", "sp", "fp"]),
    ..Facts::UNKNOWN
};
