//! What our writer put after the last page of a dump, read once and checked.
//!
//! Nothing here fails: what is damaged is a [`Warning`], and the records that are sound remain.

use super::Warning;
use crate::source::Source;
use vmcore_format::addr::{FileOffset, PageSize};
use vmcore_format::extension::kernel::{AddressSpace, Module, Process, System, Thread};
use vmcore_format::extension::{
    Cpu, Damage, ExtensionError, LOCATOR_LEN, Locator, PageSums, RECORD_HEADER_LEN, RecordHeader,
    RecordKind, SectionSum, records,
};
use vmcore_format::identity::Identity;

/// The most warnings about damaged records: the file decides how many there are.
const MAX_WARNINGS: usize = 32;

/// The extension of a dump: see `docs/format-extension.md`.
///
/// Having one says that something at its place was a record of the dump, or that a sound locator
/// names it. A record that is missing or damaged is `None` here.
#[derive(Debug)]
pub struct Extension {
    start: FileOffset,
    end: FileOffset,
    /// The first sound record of each kind, with its payload.
    records: Vec<(RecordKind, Vec<u8>)>,
    warnings: Vec<Warning>,
}

impl Extension {
    /// Looks for the extension of a dump whose pages end at `pages_end`, and reads it. `block` is
    /// what the identity block says.
    pub(super) fn read(
        source: &Source,
        page_size: PageSize,
        pages_end: FileOffset,
        block: Option<&Identity>,
    ) -> Option<Self> {
        let mut warnings = Vec::new();
        let at_end = source.len().checked_sub(LOCATOR_LEN as u64);
        let last = at_end.and_then(|at| locator_at(source, at)?.ok());
        // A file that ends with a locator says where its records are, whatever the bitmap counts.
        let start = match last {
            Some(locator) if locator.offset != pages_end => {
                warnings.push(Warning::ExtensionElsewhere {
                    start: locator.offset,
                    pages_end,
                });
                locator.offset
            }
            _ => pages_end,
        };
        let records_end = match last {
            Some(locator) => start.0.checked_add(locator.len_bytes)?,
            None => walk(source, start.0),
        };
        // The locator fills the last bytes of the last page.
        let end = page_size.round_up(records_end.checked_add(LOCATOR_LEN as u64)?)?;
        let locator = match locator_at(source, end - LOCATOR_LEN as u64) {
            None => {
                warnings.push(Warning::ExtensionCut);
                None
            }
            Some(Err(reason)) => {
                warnings.push(Warning::LocatorLost { reason });
                None
            }
            Some(Ok(locator)) => Some(locator),
        };
        let len = records_end.min(source.len()).checked_sub(start.0)?;
        let mut bytes = vec![0; usize::try_from(len).ok()?];
        let have = source.read_positional(start.0, &mut bytes).ok()?;
        bytes.truncate(have);
        let mut found = Vec::new();
        for record in records(&bytes) {
            let warning = match record {
                Err(reason) => Some(Warning::ExtensionDamaged { reason }),
                Ok(record) => match record.kind {
                    RecordKind::Other(kind) => record
                        .must_understand
                        .then_some(Warning::MustUnderstand { kind }),
                    kind => {
                        if found.iter().all(|(known, _)| *known != kind) {
                            found.push((kind, record.payload.to_vec()));
                        }
                        None
                    }
                },
            };
            if warnings.len() < MAX_WARNINGS {
                warnings.extend(warning);
            }
        }
        let extension = Self {
            start,
            end: FileOffset(end.min(source.len())),
            records: found,
            warnings,
        };
        let known = !extension.records.is_empty() || locator.is_some();
        let extension = known.then_some(extension)?;
        Some(extension.checked(block, locator.as_ref()))
    }

    /// Adds what is wrong with the records.
    fn checked(mut self, block: Option<&Identity>, locator: Option<&Locator>) -> Self {
        let known = [
            (RecordKind::Identity, self.identity().is_some(), "identity"),
            (RecordKind::Pages, self.page_sums().is_some(), "pages"),
            (RecordKind::Cpus, self.cpus().is_some(), "cpus"),
            (RecordKind::Damage, self.damage().is_some(), "damage"),
            (
                RecordKind::AddressSpace,
                self.address_space().is_some(),
                "address space",
            ),
            (RecordKind::System, self.system().is_some(), "system"),
            (
                RecordKind::Processes,
                self.processes().is_some(),
                "processes",
            ),
            (RecordKind::Threads, self.threads().is_some(), "threads"),
            (RecordKind::Modules, self.modules().is_some(), "modules"),
        ];
        for (kind, is_sound, name) in known {
            if self.payload(kind).is_some() && !is_sound {
                self.warnings.push(Warning::ExtensionDamaged {
                    reason: ExtensionError::Malformed(name),
                });
            }
        }
        let copy = self.identity().map(|copy| copy.dump_id);
        let ids = [
            block.map(|block| block.dump_id),
            copy,
            locator.map(|locator| locator.dump_id),
        ];
        let mut ids = ids.into_iter().flatten();
        let first = ids.next();
        if ids.any(|id| Some(id) != first) {
            self.warnings.push(Warning::ExtensionOfAnother);
        }
        self
    }

    /// Where the first record starts in the dump: on the page after the last one.
    #[must_use]
    pub const fn start(&self) -> FileOffset {
        self.start
    }

    /// The first byte after the extension, and so after the dump; the end of a file that cuts it.
    #[must_use]
    pub const fn end(&self) -> FileOffset {
        self.end
    }

    /// What is wrong with it.
    pub(super) fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// What is in the first sound record of a kind.
    #[must_use]
    pub fn payload(&self, kind: RecordKind) -> Option<&[u8]> {
        let found = self.records.iter().find(|(found, _)| *found == kind);
        found.map(|(_, payload)| payload.as_slice())
    }

    /// The copy of the identity block.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        Identity::parse(self.payload(RecordKind::Identity)?).ok()
    }

    /// The checksums of the sections before the pages, in the order of the record.
    #[must_use]
    pub fn section_sums(&self) -> Option<impl Iterator<Item = SectionSum> + '_> {
        self.payload(RecordKind::Sections)
            .map(SectionSum::parse_all)
    }

    /// The checksums of the pages.
    #[must_use]
    pub fn page_sums(&self) -> Option<PageSums<'_>> {
        PageSums::parse(self.payload(RecordKind::Pages)?).ok()
    }

    /// The layout of the registers (`vmcore_format::registers::layout_arch`), and the CPUs.
    #[must_use]
    pub fn cpus(&self) -> Option<(u32, impl Iterator<Item = Cpu<'_>>)> {
        Cpu::parse_all(self.payload(RecordKind::Cpus)?).ok()
    }

    /// How the kernel's addresses are translated.
    #[must_use]
    pub fn address_space(&self) -> Option<AddressSpace> {
        AddressSpace::parse(self.payload(RecordKind::AddressSpace)?).ok()
    }

    /// Which kernel it is.
    #[must_use]
    pub fn system(&self) -> Option<System<'_>> {
        System::parse(self.payload(RecordKind::System)?).ok()
    }

    /// The processes that the kernel told of.
    #[must_use]
    pub fn processes(&self) -> Option<impl Iterator<Item = Process<'_>>> {
        Process::parse_all(self.payload(RecordKind::Processes)?).ok()
    }

    /// The layout of the registers, and the threads that the kernel told of.
    #[must_use]
    pub fn threads(&self) -> Option<(u32, impl Iterator<Item = Thread<'_>>)> {
        Thread::parse_all(self.payload(RecordKind::Threads)?).ok()
    }

    /// The modules and programs that the kernel told of.
    #[must_use]
    pub fn modules(&self) -> Option<impl Iterator<Item = Module<'_>>> {
        Module::parse_all(self.payload(RecordKind::Modules)?).ok()
    }

    /// How often the writer met damage, and what it tells of it.
    #[must_use]
    pub fn damage(&self) -> Option<(u64, impl Iterator<Item = Damage> + '_)> {
        Damage::parse_all(self.payload(RecordKind::Damage)?).ok()
    }
}

/// The locator in the 64 bytes at `at`; `None` if the file ends before.
fn locator_at(source: &Source, at: u64) -> Option<Result<Locator, ExtensionError>> {
    let bytes = source.array::<LOCATOR_LEN>(at)?;
    Some(Locator::parse(&bytes))
}

/// Where the records that start at `start` end, by their lengths: a record whose end is past
/// the file's is none.
fn walk(source: &Source, start: u64) -> u64 {
    let mut at = start;
    while let Some(header) = source.array::<RECORD_HEADER_LEN>(at) {
        let Some(header) = RecordHeader::parse(&header) else {
            break;
        };
        let end = header.record_bytes().and_then(|len| at.checked_add(len));
        match end {
            Some(end) if end <= source.len() => at = end,
            _ => break,
        }
    }
    at
}
