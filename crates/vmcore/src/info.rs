//! What a dump is, what is missing from it, and how each fact is known.
//!
//! Facts come from whatever has them: the dump's headers and its identity block, a device's dump
//! header in front, the `info.N` beside the file, the message buffer, the kernel's memory. Each [`Known`] value names
//! its sources; what is unknown is absent.
//!
//! ```no_run
//! use vmcore::session::KernelChoice;
//! use vmcore::{OpenOptions, Session, info};
//! let session = Session::open("vmcore.0".as_ref(), KernelChoice::Find(&[]), &OpenOptions::default())?;
//! let info = info::info(&session)?;
//! println!("{} {}: {:?}", info.arch, info.kind, info.panic);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cpus;
pub(crate) mod facts;
mod identity;

pub use crate::around::Known;
pub use crate::source::utc;
pub use cpus::{CpuInfo, cpus};
pub use identity::{ExtensionInfo, IdentityInfo, LoadedModule, SystemInfo};

use crate::container::Layer;
use crate::dump::{Completeness, Dump, Warning};
use crate::kernel::DumpBuildIds;
use crate::log::{self, Log, LogSource};
use crate::memory::PageReadError;
use crate::pages::{self, PageMap};
use crate::session::{KernelMatch, Session};
use crate::translation::WindowKind;
use crate::windows;
use serde::Serialize;
use vmcore_format::addr::{PhysAddr, PhysRange, VirtAddr};
use vmcore_format::arch::Arch;
use vmcore_format::header::DirectMap;

/// Dumps with more bytes of pages are not read through to count pages of zeros.
const COUNT_ZEROS_UP_TO: u64 = 128 << 20;

/// What a dump is.
#[derive(Clone, Debug, Serialize)]
pub struct Info {
    /// The file.
    pub file: String,
    /// `minidump`, `full dump` or `ELF core`.
    pub kind: &'static str,
    /// Architecture.
    pub arch: Arch,
    /// Version of the minidump header.
    pub version: Option<u32>,
    /// Whether all of it is there.
    pub state: Completeness,
    /// The panic message.
    pub panic: Option<Known>,
    /// The kernel's version string, its first line.
    pub kernel_version: Option<Known>,
    /// Host name.
    pub host: Option<Known>,
    /// When it crashed, in UTC.
    pub crashed: Option<Known>,
    /// How long the machine had been up.
    pub uptime: Option<Known>,
    /// `info.N` beside the dump, if it was read.
    #[serde(skip)]
    pub info_file: Option<String>,
    /// What only the identity block knows, if there is one.
    pub identity: Option<IdentityInfo>,
    /// The build ids in the dump.
    pub build_ids: Option<DumpBuildIds>,
    /// The kernel file.
    pub kernel: Option<KernelInfo>,
    /// What is around the dump in its file, the outermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Layer>,
    /// Bytes of the dump.
    pub size_bytes: u64,
    /// Bytes that the headers and the bitmap predict.
    pub predicted_bytes: Option<u64>,
    /// Counts of pages.
    pub pages: PageCounts,
    /// RAM of the machine, or what a full dump holds of it.
    pub ram: Vec<PhysRange>,
    /// The message buffer.
    pub log: Option<LogInfo>,
    /// How virtual addresses are translated.
    pub paging: String,
    /// First address of the kernel map that the page tables cover.
    pub kernbase: Option<VirtAddr>,
    /// The direct map.
    pub direct_map: Option<DirectMap>,
    /// Which kernel it is, if the writer said it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<SystemInfo>,
    /// What our writer put after the last page.
    pub extension: Option<ExtensionInfo>,
    /// What is unusual about the headers, the identity block and the extension.
    pub warnings: Vec<Warning>,
}

/// The kernel file of a dump.
#[derive(Clone, Debug, Serialize)]
pub struct KernelInfo {
    /// The file.
    pub file: String,
    /// Whether it is the one that crashed.
    pub comparison: Option<KernelMatch>,
}

/// How many pages of which kind. All but `ram` count pages of the dump.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct PageCounts {
    /// Bytes of a page.
    pub page_size_bytes: u64,
    /// In the dump, by its headers and bitmap; absent if the file ends before the end of the bitmap.
    pub in_dump: Option<u64>,
    /// Of the machine.
    pub ram: u64,
    /// With an address in the kernel map; absent if that is not known.
    pub kernel_map: Option<u64>,
    /// Page-table pages without an address in the kernel map.
    pub page_tables: Option<u64>,
    /// Reached only through the direct map.
    pub direct_map_only: Option<u64>,
    /// Full of zeros; absent for large dumps, where counting takes long.
    pub zeros: Option<u64>,
    /// Mapped pages of the kernel map that are not in the dump.
    pub mapped_but_absent: Option<u64>,
}

/// The message buffer, in numbers.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LogInfo {
    /// Bytes used.
    pub used_bytes: u64,
    /// Bytes there are.
    pub capacity_bytes: u64,
    /// Whether older lines were overwritten.
    pub wrapped: bool,
    /// Where it was found.
    pub source: LogSource,
}

/// Gathers what is known of a dump.
///
/// # Errors
/// Returns an error if the operating system cannot read the bitmap. What a file that ends too early
/// lacks is left out.
pub fn info(session: &Session) -> Result<Info, PageReadError> {
    let dump = session.dump();
    let log = log::read(session).ok();
    let facts = facts::gather(session, log.as_ref());
    let version = dump.minidump().map(|header| header.version);
    let predicted = dump.memory().sparse().map(|sparse| {
        let set_bits = unless_cut(sparse.set_bits(dump.memory().source()))?;
        let end = set_bits.and_then(|set_bits| sparse.layout().end(set_bits));
        Ok(end.map(|end| end.0))
    });
    Ok(Info {
        file: dump.path().display().to_string(),
        kind: dump.kind().name(),
        arch: dump.arch(),
        version,
        state: dump.completeness()?,
        panic: facts.panic,
        kernel_version: facts.version,
        host: facts.host,
        crashed: facts.crashed,
        uptime: facts.uptime,
        info_file: facts.info_file,
        identity: dump.identity().as_ref().map(IdentityInfo::of),
        build_ids: session.build_ids().cloned(),
        kernel: session.kernel().map(|kernel| KernelInfo {
            file: kernel.path().display().to_string(),
            comparison: session.kernel_match().cloned(),
        }),
        layers: dump.layers().to_vec(),
        size_bytes: dump.memory().source().len(),
        predicted_bytes: predicted.transpose()?.flatten(),
        pages: count_pages(session)?,
        ram: ram(dump),
        log: log.as_ref().map(log_info),
        paging: paging(session),
        kernbase: dump.minidump().map(|header| header.kernbase),
        direct_map: dump.minidump().and_then(|header| header.direct_map),
        system: SystemInfo::of(dump),
        extension: ExtensionInfo::of(dump),
        warnings: dump.warnings().to_vec(),
    })
}

/// `None` instead of what is past the end of the file.
fn unless_cut<T>(answer: Result<T, PageReadError>) -> Result<Option<T>, PageReadError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(PageReadError::SectionTruncated { .. }) => Ok(None),
        Err(reason) => Err(reason),
    }
}

fn log_info(log: &Log) -> LogInfo {
    LogInfo {
        used_bytes: log.text().len() as u64,
        capacity_bytes: log.capacity_bytes,
        wrapped: log.wrapped,
        source: log.source,
    }
}

/// The RAM ranges, in bytes of whole pages.
pub(crate) fn ram(dump: &Dump) -> Vec<PhysRange> {
    let size = dump.memory().page_size();
    if let Some(sparse) = dump.memory().sparse() {
        let range = |range: &vmcore_format::dump_avail::NumberedRange| {
            let (start, end) = (size.base(range.first), size.base(range.end));
            // No address is after a range up to the last one.
            let end = if end < start { PhysAddr(u64::MAX) } else { end };
            PhysRange { start, end }
        };
        return sparse.numbering().ranges().iter().map(range).collect();
    }
    let segments = dump
        .memory()
        .segments()
        .map(|segments| segments.segments())
        .unwrap_or_default();
    // One range may be several segments.
    let mut ram: Vec<PhysRange> = Vec::new();
    for range in segments.iter().map(|segment| segment.range) {
        match ram.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => ram.push(range),
        }
    }
    ram
}

fn count_pages(session: &Session) -> Result<PageCounts, PageReadError> {
    let memory = session.dump().memory();
    let size = memory.page_size();
    let ram = ram(session.dump());
    let mut counts = PageCounts {
        page_size_bytes: size.bytes(),
        in_dump: unless_cut(pages::page_count(memory))?,
        ram: ram.iter().map(|range| size.pages(range.len_bytes())).sum(),
        ..PageCounts::default()
    };
    let Some(in_dump) = counts.in_dump else {
        return Ok(counts);
    };
    if in_dump.saturating_mul(size.bytes()) <= COUNT_ZEROS_UP_TO {
        counts.zeros = Some(pages::count_zeros(memory)?);
    }
    // In a full dump nearly every page is mapped by the direct map: the counts say nothing.
    let Ok(space) = session.space() else {
        return Ok(counts);
    };
    if memory.sparse().is_none() {
        return Ok(counts);
    }
    let map = PageMap::build(space)?;
    let (mut kernel_map, mut page_tables) = (0, 0);
    for page in map.pages() {
        if page.is_mapped {
            kernel_map += 1;
        } else if page.is_table {
            page_tables += 1;
        }
    }
    counts.kernel_map = Some(kernel_map);
    counts.page_tables = Some(page_tables);
    counts.direct_map_only = Some(in_dump.saturating_sub(kernel_map + page_tables));
    counts.mapped_but_absent = Some(map.absent_pages());
    Ok(counts)
}

/// The paging mode in words.
fn paging(session: &Session) -> String {
    let dump = session.dump();
    if let Some(header) = dump.minidump() {
        return (windows::of(dump.arch()).paging)(header);
    }
    let Ok(space) = session.space() else {
        return "unknown: needs the kernel file".to_owned();
    };
    match space
        .translation()
        .windows()
        .first()
        .map(|window| &window.kind)
    {
        Some(WindowKind::Radix { radix, .. }) => {
            format!("{}-level, root {}", radix.level + 1, radix.top)
        }
        Some(WindowKind::Segments(segments)) => format!("by {} ELF segments", segments.len()),
        Some(WindowKind::Linear(_)) => "translation storage buffer".to_owned(),
        _ => "none".to_owned(),
    }
}
