//! The checksums in the extension against the bytes of the dump: what was read is what was written.

use super::{Check, Verdict};
use crate::dump::Dump;
use crate::memory::{Memory, PageReadError};
use crate::pages::ScannedPage;
use crate::source::Source;
use crate::text::counted;
use std::fmt;
use vmcore_format::addr::{FileOffset, PageSize, PhysAddr};
use vmcore_format::checksum::Checksum;
use vmcore_format::extension::{PageSums, SectionSum, section_number};
use vmcore_format::layout::Section;

/// Wrong runs of pages that are listed one by one.
const RUNS_TOLD: usize = 16;
/// Bytes read in one go.
const CHUNK: usize = 1 << 20;

/// The sections before the pages; nothing if the dump has no checksums of them.
pub(super) fn sections(dump: &Dump) -> Result<Vec<Check>, PageReadError> {
    const NAME: &str = "section sums";
    let Some(sums) = dump
        .extension()
        .and_then(|extension| extension.section_sums())
    else {
        return Ok(Vec::new());
    };
    let source = dump.memory().source();
    let mut checks = Vec::new();
    let (mut at, mut right) = (0u64, 0);
    for sum in sums {
        let end = sum.offset.0.checked_add(sum.stored_bytes);
        // One after the other, so that no byte is read twice.
        let Some(end) = end.filter(|end| sum.offset.0 == at && *end <= source.len()) else {
            checks.push(Check::new(
                NAME,
                Verdict::Bad,
                format!("the {} does not lie where the dump has it", name(&sum)),
            ));
            return Ok(checks);
        };
        at = end;
        let found = checksum_of(source, sum.offset, end)?;
        if found == sum.checksum {
            right += 1;
            continue;
        }
        checks.push(Check::new(
            NAME,
            Verdict::Bad,
            format!(
                "the {} is not as it was written: bytes {:#x} to {end:#x} of the file sum up to \
                 {found:#x}, not {:#x}",
                name(&sum),
                sum.offset.0,
                sum.checksum
            ),
        ));
    }
    let pages = match dump.extension().and_then(|extension| extension.page_sums()) {
        Some(sums) => sums.offset.0,
        None => at,
    };
    if at != pages {
        let detail = format!("they end at {at:#x}, but the pages start at {pages:#x}");
        checks.push(Check::new(NAME, Verdict::Bad, detail));
    }
    if checks.is_empty() {
        let detail = format!(
            "{} as written",
            counted(right, "section is", "sections are")
        );
        checks.push(Check::new(NAME, Verdict::Sound, detail));
    }
    Ok(checks)
}

/// A section in words.
fn name(sum: &SectionSum) -> String {
    let known = [
        Section::Header,
        Section::MessageBuffer,
        Section::DumpAvail,
        Section::Bitmap,
        Section::PageTables,
    ];
    let known = known
        .into_iter()
        .find(|section| section_number(*section) == sum.section);
    known.map_or_else(
        || format!("section {}", sum.section),
        |section| format!("section {section}"),
    )
}

fn checksum_of(source: &Source, start: FileOffset, end: u64) -> Result<u64, PageReadError> {
    let mut sum = Checksum::new();
    let mut at = start.0;
    let len = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
    let mut buf = vec![0; len];
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(len).min(len);
        let part = buf.get_mut(..want).unwrap_or_default();
        let read = source
            .read_positional(at, part)
            .map_err(|error| PageReadError::io(FileOffset(at), &error))?;
        if read == 0 {
            break;
        }
        sum.update(part.get(..read).unwrap_or_default());
        at += read as u64;
    }
    Ok(sum.value())
}

/// The pages' checksums, fed with the pages in the order of the file.
pub(super) struct PageCheck<'a> {
    runs: Box<dyn Iterator<Item = (FileOffset, u64, u64)> + 'a>,
    page_size: PageSize,
    /// The run that is being summed up.
    run: Option<Run>,
    right: u64,
    wrong: Vec<Wrong>,
    /// Wrong ones, listed or not.
    wrong_count: u64,
    /// Where the pages are not where the record says.
    astray: Option<FileOffset>,
}

struct Run {
    offset: FileOffset,
    left_bytes: u64,
    done_bytes: u64,
    /// Whether all of it could be read.
    is_whole: bool,
    expected: u64,
    sum: Checksum,
    /// Addresses of its first and last page.
    pages: Option<(PhysAddr, PhysAddr)>,
}

struct Wrong {
    offset: FileOffset,
    pages: Option<(PhysAddr, PhysAddr)>,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pages {
            Some((first, last)) if first == last => write!(f, "page {first} is")?,
            Some((first, last)) => write!(f, "a page from {first} to {last} is")?,
            None => write!(f, "pages without an address are")?,
        }
        write!(
            f,
            " not as written, at {} of the file or after it",
            self.offset
        )
    }
}

impl<'a> PageCheck<'a> {
    /// `None` if the dump has no checksums of its pages.
    pub(super) fn new(dump: &'a Dump) -> Option<Self> {
        let sums: PageSums<'a> = dump.extension()?.page_sums()?;
        Some(Self {
            runs: Box::new(sums.runs()),
            page_size: dump.memory().page_size(),
            run: None,
            right: 0,
            wrong: Vec::new(),
            wrong_count: 0,
            astray: None,
        })
    }

    /// The next page of the file.
    pub(super) fn page(&mut self, page: &ScannedPage<'_>) {
        let mut rest = page.bytes;
        let mut at = page.offset.0;
        while !rest.is_empty() && self.astray.is_none() {
            let next = self.run.take().or_else(|| self.next_run());
            let Some(mut run) = next.filter(|run| run.expects() == Some(at)) else {
                self.astray = Some(FileOffset(at));
                return;
            };
            let len = usize::try_from(run.left_bytes).unwrap_or(rest.len());
            let (part, after) = rest.split_at(len.min(rest.len()));
            run.sum.update(part);
            run.left_bytes -= part.len() as u64;
            run.done_bytes += part.len() as u64;
            if let Some(pa) = page.pa {
                let pa = self.page_size.base(self.page_size.pfn(pa));
                run.pages = Some(run.pages.map_or((pa, pa), |(first, _)| (first, pa)));
            }
            at += part.len() as u64;
            rest = after;
            match run.left_bytes {
                0 => self.judge(&run),
                _ => self.run = Some(run),
            }
        }
    }

    /// The next `bytes` cannot be read.
    pub(super) fn skip(&mut self, mut bytes: u64) {
        while bytes > 0 && self.astray.is_none() {
            let Some(mut run) = self.run.take().or_else(|| self.next_run()) else {
                return;
            };
            let len = bytes.min(run.left_bytes);
            run.left_bytes -= len;
            run.done_bytes += len;
            run.is_whole = false;
            bytes -= len;
            match run.left_bytes {
                0 => self.judge(&run),
                _ => self.run = Some(run),
            }
        }
    }

    fn next_run(&mut self) -> Option<Run> {
        let (offset, left_bytes, expected) = self.runs.next()?;
        Some(Run {
            offset,
            left_bytes,
            expected,
            sum: Checksum::new(),
            done_bytes: 0,
            is_whole: true,
            pages: None,
        })
    }

    fn judge(&mut self, run: &Run) {
        if run.is_whole && run.sum.value() == run.expected {
            self.right += 1;
            return;
        }
        self.wrong_count += 1;
        if self.wrong.len() < RUNS_TOLD {
            self.wrong.push(Wrong {
                offset: run.offset,
                pages: run.pages,
            });
        }
    }

    /// What came out.
    pub(super) fn checks(mut self, memory: &Memory) -> Vec<Check> {
        const NAME: &str = "page sums";
        let mut checks: Vec<Check> = self
            .wrong
            .iter()
            .map(|wrong| Check::new(NAME, Verdict::Bad, wrong.to_string()))
            .collect();
        let more = self.wrong_count - self.wrong.len() as u64;
        if more > 0 {
            checks.push(Check::new(
                NAME,
                Verdict::Bad,
                format!("and {more} more runs of pages are not as written"),
            ));
        }
        if let Some(at) = self.astray {
            checks.push(Check::new(
                NAME,
                Verdict::Bad,
                format!("there is no checksum for the page at {at} of the file"),
            ));
            return checks;
        }
        let left = u64::from(self.run.is_some()) + self.runs.by_ref().count() as u64;
        let right = self.right;
        if left > 0 {
            checks.push(Check::new(
                NAME,
                Verdict::Bad,
                format!(
                    "{} not in the file, which has {}",
                    counted(left, "run of pages is", "runs of pages are"),
                    counted(memory.source().len(), "byte", "bytes")
                ),
            ));
        } else if checks.is_empty() {
            checks.push(Check::new(
                NAME,
                Verdict::Sound,
                format!(
                    "{} as written",
                    counted(right, "run of pages is", "runs of pages are")
                ),
            ));
        }
        checks
    }
}

impl Run {
    /// Where its next byte lies.
    fn expects(&self) -> Option<u64> {
        self.offset.0.checked_add(self.done_bytes)
    }
}
