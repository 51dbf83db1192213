//! The windows of a dump.

use super::{Dump, DumpFormat};
use crate::translation::{
    PagingMode, RootError, RootSymbols, Translation, Window, WindowKind, tsb, with_paging,
};
use crate::windows::{self, FullDumps};
use vmcore_format::addr::VirtAddr;
use vmcore_format::paging::Paging as _;

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
        if let Some(windows) = self.recorded_windows() {
            return Ok(Translation::by(windows));
        }
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
    /// What the writer recorded of the kernel's address space, if all of its page tables are in the dump.
    fn recorded_windows(&self) -> Option<Vec<Window>> {
        // The extension is read only where it is worth it.
        let identity = self.identity_block.as_ref().ok()?;
        let space = identity.walkable.then(|| self.extension())??;
        let space = space.address_space()?;
        let mode = PagingMode::of(space.tables)?;
        let levels = with_paging!(mode, P => P::ENTRY_NAMES.len()) as u64;
        let is_own = space.tables.arch() == Some(self.arch());
        if !space.tables_are_pages || !is_own || u64::from(space.radix.level) >= levels {
            return None;
        }
        let direct = space.direct_map.map(|map| Window {
            first: map.base,
            last: VirtAddr(map.end.0 - 1),
            kind: WindowKind::Linear(map),
        });
        let tables = Window {
            first: VirtAddr(0),
            last: VirtAddr(self.arch().va_max()),
            kind: WindowKind::Radix {
                mode,
                radix: space.radix,
            },
        };
        Some(direct.into_iter().chain([tables]).collect())
    }
}
