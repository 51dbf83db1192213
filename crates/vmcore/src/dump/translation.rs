//! The windows of a dump.

use super::{Dump, DumpFormat};
use crate::translation::{RootError, RootSymbols, Translation, Window, WindowKind, tsb};
use crate::windows::{self, FullDumps};
use vmcore_format::addr::VirtAddr;

impl Dump {
    /// How its virtual addresses are translated. Full dumps need the symbols of their kernel.
    ///
    /// # Errors
    /// Returns an error for a full dump whose root cannot be found.
    pub fn translation(&self, symbols: Option<&RootSymbols>) -> Result<Translation, RootError> {
        let all = |last: VirtAddr, kind| {
            vec![Window {
                first: VirtAddr(0),
                last,
                kind,
            }]
        };
        let windows = match self.kind() {
            DumpFormat::Mini(header) => {
                (windows::of(header.arch).windows)(header, self.memory(), symbols)
            }
            DumpFormat::Full(header) if header.tsb.is_some() => tsb::windows(header.tsb),
            DumpFormat::Full(header) if !header.virtual_segments.is_empty() => {
                let segments = header.virtual_segments.clone();
                all(VirtAddr(u64::MAX), WindowKind::Segments(segments))
            }
            DumpFormat::Full(header) => {
                let FullDumps::Physical(find) = windows::full_dumps(header.arch) else {
                    return Err(RootError::NoFullDumps(header.arch.name()));
                };
                let symbols = symbols.ok_or(RootError::NeedsKernel)?;
                let (mode, radix) = find(self.memory(), header.delta, symbols)?;
                let last = VirtAddr(header.arch.va_max());
                all(last, WindowKind::Radix { mode, radix })
            }
        };
        Ok(Translation::by(windows))
    }
}
