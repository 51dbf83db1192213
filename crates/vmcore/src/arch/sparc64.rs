//! sparc64: its dumps have a header of their own, which names the kernel's translation buffer.

use super::{Facts, FullDumps};
use crate::registers::PcbLayout;
use vmcore_format::endian::Width;

pub(super) const FACTS: Facts = Facts {
    windows: |_, _, _| Vec::new(),
    full_dumps: FullDumps::TranslationBuffer,
    paging: |_| "none".to_owned(),
    image_starts: |_| Vec::new(),
    pcb: |_| PcbLayout::new(&[], Width::W64, ["pc", "sp", "fp"]),
};
