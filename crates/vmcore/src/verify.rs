//! Reads everything and checks everything that can be checked without knowing the kernel.
//!
//! Each [`Check`] says what was looked at and what came out: sound, a warning (the dump can be used, but
//! somebody should know), or bad (something is missing or damaged). The checks are those of the
//! format: lengths against the bitmap, ranges against the bitmap's size, padding, the message
//! buffer's checksum, every page-table entry, every page of the file, the kernel's image where it
//! should be, and the kernel file if there is one. Of a dump by our writer also its checksums, its
//! registers, and what it tells of damage in the kernel.
//!
//! ```no_run
//! use vmcore::session::KernelChoice;
//! use vmcore::{OpenOptions, Session, verify};
//! let session = Session::open("vmcore.0".as_ref(), KernelChoice::Find(&[]), &OpenOptions::default())?;
//! for check in verify::verify(&session, |_| {})?.checks {
//!     println!("{:?} {}: {}", check.verdict, check.name, check.detail);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod headers;
mod sums;
mod tables;
mod writer_records;

pub use writer_records::{DamageEntry, DamageList};

use crate::dump::{Completeness, Warning, WarningSubject};
use crate::memory::PageReadError;
use crate::pages::{self, ScannedPage};
use crate::session::{KernelMatch, Session};
use crate::text::{count, counted};
use serde::Serialize;
use std::cell::RefCell;
use std::ops::ControlFlow;
use sums::PageCheck;

/// What came out of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Sound,
    /// Could not be checked, and why.
    Skipped,
    /// Unusual; the dump can be used.
    Warning,
    /// Something is missing or damaged.
    Bad,
}

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What: a few words.
    pub name: &'static str,
    /// What came out.
    pub verdict: Verdict,
    /// The numbers after it, in one line.
    pub detail: String,
}

impl Check {
    fn new(name: &'static str, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self {
            name,
            verdict,
            detail: detail.into(),
        }
    }

    /// Sound if `good`, else `otherwise`.
    fn of(name: &'static str, good: bool, otherwise: Verdict, detail: impl Into<String>) -> Self {
        let verdict = if good { Verdict::Sound } else { otherwise };
        Self::new(name, verdict, detail)
    }
}

/// All checks of a dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// In the order of the file.
    pub checks: Vec<Check>,
    /// Pages that were read.
    pub pages_read: u64,
    /// Of them, those that hold only zeros.
    pub zero_pages: u64,
    /// What the writer met in the kernel; absent in a dump by another writer.
    pub damage: Option<DamageList>,
}

impl Verification {
    /// The worst verdict.
    #[must_use]
    pub fn worst(&self) -> Verdict {
        self.checks
            .iter()
            .map(|check| check.verdict)
            .max()
            .unwrap_or(Verdict::Sound)
    }
}

/// Checks a dump. `on_page` is writer_records, now and then, how many pages have been read.
///
/// # Errors
/// Returns an error if the bitmap cannot be read; a page that cannot be read is a bad check.
pub fn verify(session: &Session, on_page: impl FnMut(u64)) -> Result<Verification, PageReadError> {
    let dump = session.dump();
    let mut checks = vec![length(session)?];
    checks.extend(headers::checks(dump)?);
    checks.extend(writer_records::identity(dump));
    checks.extend(dump.warnings().iter().map(|warning| {
        let (name, verdict) = match warning.subject() {
            _ if matches!(warning, Warning::PagesUncertain { .. }) => ("page tables", Verdict::Bad),
            WarningSubject::Header => ("header", Verdict::Warning),
            WarningSubject::Identity => ("identity", Verdict::Bad),
            WarningSubject::Extension => ("extension", Verdict::Bad),
            WarningSubject::Container => ("container", Verdict::Bad),
        };
        Check::new(name, verdict, warning.to_string())
    }));
    checks.extend(sums::sections(dump)?);
    checks.push(headers::message_buffer(dump)?);
    checks.extend(tables::checks(session)?);
    checks.push(kernel_file(session));
    let (pages, read) = read_pages(session, on_page);
    checks.extend(pages);
    checks.extend(writer_records::registers(dump));
    let damage = writer_records::damage_list(dump);
    checks.extend(writer_records::damage(damage.as_ref()));
    Ok(Verification {
        checks,
        pages_read: read.pages,
        zero_pages: read.zeros,
        damage,
    })
}

/// The file's length against what the headers and the bitmap predict.
fn length(session: &Session) -> Result<Check, PageReadError> {
    let have = session.dump().memory().source().len();
    let check = |verdict, detail| Check::new("length", verdict, detail);
    Ok(match session.dump().completeness()? {
        Completeness::Complete { trailing_bytes: 0 } => check(
            Verdict::Sound,
            match session.dump().extension() {
                None => format!("{} bytes, as the headers predict", count(have)),
                Some(extension) => format!(
                    "{} bytes: what the headers predict, and the extension from {} on",
                    count(have),
                    extension.start()
                ),
            },
        ),
        Completeness::Complete { trailing_bytes } => check(
            Verdict::Warning,
            format!(
                "{} after the last page: a dump of a running system ends with its header; \
                 whole pages may mean that pages are shifted",
                counted(trailing_bytes, "byte", "bytes")
            ),
        ),
        Completeness::Truncated {
            missing_bytes,
            missing_pages,
        } => check(
            Verdict::Bad,
            format!(
                "the file ends {} early: {} missing or cut",
                counted(missing_bytes, "byte", "bytes"),
                counted(missing_pages, "page is", "pages are")
            ),
        ),
        Completeness::TruncatedSection { section } => {
            check(Verdict::Bad, format!("the file ends inside its {section}"))
        }
    })
}

/// What reading every page gave.
#[derive(Clone, Copy, Default)]
struct PagesRead {
    pages: u64,
    zeros: u64,
}

/// Pages between two reports of progress.
const REPORT_EVERY: u64 = 4096;

fn read_pages(session: &Session, mut on_page: impl FnMut(u64)) -> (Vec<Check>, PagesRead) {
    let mut read = PagesRead::default();
    let memory = session.dump().memory();
    let sums = RefCell::new(PageCheck::new(session.dump()));
    let mut lost: Option<(u64, PageReadError)> = None;
    let on_page = |page: ScannedPage<'_>| {
        if let Some(sums) = &mut *sums.borrow_mut() {
            sums.page(&page);
        }
        read.pages += 1;
        read.zeros += u64::from(pages::is_zero(page.bytes));
        if read.pages.is_multiple_of(REPORT_EVERY) {
            on_page(read.pages);
        }
        ControlFlow::Continue(())
    };
    let on_absent = |reason| {
        if let Some(sums) = &mut *sums.borrow_mut() {
            sums.skip(memory.page_size().bytes());
        }
        lost = Some(lost.map_or((1, reason), |(pages, first)| (pages + 1, first)));
        Ok(())
    };
    let result = pages::scan_past(memory, on_page, on_absent);
    let sums = sums.into_inner();
    let PagesRead { pages, zeros } = read;
    let check = match result.map(|()| lost) {
        Ok(Some((lost, first))) => Check::new(
            "pages",
            Verdict::Bad,
            format!(
                "{} cannot be read, {} can; of the first: {first}",
                counted(lost, "page", "pages"),
                count(pages)
            ),
        ),
        Ok(None) => Check::new(
            "pages",
            Verdict::Sound,
            format!(
                "{} read, {} of them all zeros{}",
                counted(pages, "page", "pages"),
                count(zeros),
                match sums {
                    Some(_) => "",
                    None => "; this format has no checksums",
                }
            ),
        ),
        Err(reason) => Check::new(
            "pages",
            Verdict::Bad,
            format!(
                "reading stopped after {}: {reason}",
                counted(pages, "page", "pages")
            ),
        ),
    };
    let mut checks = vec![check];
    checks.extend(sums.into_iter().flat_map(|sums| sums.checks(memory)));
    (checks, read)
}

fn kernel_file(session: &Session) -> Check {
    let check = |verdict, detail| Check::new("kernel file", verdict, detail);
    let Some(kernel) = session.kernel() else {
        return check(Verdict::Skipped, "none was given or found".to_owned());
    };
    let file = kernel.path().display();
    match session.kernel_match() {
        Some(KernelMatch::BuildId) => check(
            Verdict::Sound,
            format!("{file}: its build id is the dump's"),
        ),
        Some(KernelMatch::Version) => {
            check(Verdict::Sound, format!("{file}: its version is the dump's"))
        }
        Some(KernelMatch::OtherBuildId { dump, file: id }) => check(
            Verdict::Bad,
            format!("{file} is another kernel: the dump has build id {dump}, the file {id}"),
        ),
        Some(KernelMatch::OtherVersion {
            dump,
            file: version,
            source,
        }) => check(
            Verdict::Bad,
            format!(
                "{file} is another kernel: {source} has version {:?}, the file {:?}",
                dump.trim_end(),
                version.trim_end()
            ),
        ),
        Some(KernelMatch::Contents { equal, compared }) => check(
            Verdict::Sound,
            format!(
                "{file}: {equal} of {compared} constants and functions are in the dump's memory"
            ),
        ),
        Some(KernelMatch::OtherContents { fact }) => {
            check(Verdict::Bad, format!("{file} is another kernel: {fact}"))
        }
        Some(KernelMatch::OtherArch { dump, file: arch }) => check(
            Verdict::Bad,
            format!("{file} is for {arch}, the dump is of {dump}"),
        ),
        Some(KernelMatch::Unproven) | None => check(
            Verdict::Warning,
            format!("{file}: neither has a build id or version to compare, so nothing proves it"),
        ),
    }
}
