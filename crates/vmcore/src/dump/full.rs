//! Opening a full dump: an ELF core whose segments are ranges of physical memory.

use super::header::{DumpFormat, FullHeader};
use super::open::OpenError;
use super::warning::Warning;
use crate::memory::{Memory, SegmentMemory, Store};
use crate::source::Source;
use crate::translation::KernelDelta;
use crate::windows::{FullDumps, full_dumps};
use std::path::Path;
use vmcore_format::addr::{PageSize, PhysAddr, VirtAddr};
use vmcore_format::arch::Arch;
use vmcore_format::elf::{FileHeader, PN_XNUM, PT_DUMP_DELTA, PT_LOAD, Segment};
use vmcore_format::endian::Width;

/// Behind every physical address that a 32-bit machine has.
const STAND_IN: u64 = 1 << 52;

pub(super) fn open(
    path: &Path,
    source: Source,
    first: &[u8],
) -> Result<(DumpFormat, Memory, Vec<Warning>), OpenError> {
    let elf = FileHeader::parse(first).map_err(|source| OpenError::Elf {
        path: path.to_owned(),
        source,
    })?;
    let bad = |reason: String| OpenError::BadCore {
        path: path.to_owned(),
        reason,
    };
    let arch = Arch::from_elf(elf.e_machine, elf.class).ok_or_else(|| {
        bad(format!(
            "machine {} is not one that is read here",
            elf.e_machine
        ))
    })?;
    if elf.class != arch.word() {
        return Err(bad(format!("its ELF class is not that of {arch}")));
    }
    if arch.endian().is_some_and(|endian| endian != elf.endian) {
        return Err(bad(format!("its byte order is not that of {arch}")));
    }
    let mut segments = program_headers(path, &source, &elf)?;
    let sort = sort_of(arch, &elf, &segments);
    let unknown = unknown_address(&elf);
    for segment in &mut segments {
        match sort {
            // Physical addresses are unknown: the virtual ones stand for them.
            Sort::Virtual => segment.p_paddr = segment.p_vaddr,
            // One that was too long for its field. What stands for it is nobody else's.
            Sort::Usual if elf.class == Width::W32 && segment.p_paddr == unknown => {
                segment.p_paddr = STAND_IN + segment.p_vaddr;
            }
            Sort::Usual | Sort::Physical => {}
        }
    }
    let (memory, refused) = SegmentMemory::new(&segments, PageSize::SIZE_4K, source.len());
    if memory.segments().is_empty() {
        return Err(bad("it has no memory: no PT_LOAD program header".to_owned()));
    }
    let delta = segments
        .iter()
        .find(|segment| segment.p_type == PT_DUMP_DELTA)
        .map(|segment| KernelDelta {
            vaddr: VirtAddr(segment.p_vaddr),
            paddr: PhysAddr(segment.p_paddr),
            hole: segment.p_align,
        });
    // FreeBSD's full dumps have only physical addresses; i386 maps its image at those.
    let is_virtual =
        |segment: &Segment| segment.p_type == PT_LOAD && segment.p_vaddr != segment.p_paddr;
    let has_addresses = match sort {
        // Of powerpc nobody has cores but of virtual memory: what was made of one has each address
        // twice.
        Sort::Usual => {
            let is_never_physical = matches!(full_dumps(arch), FullDumps::Virtual);
            is_never_physical || segments.iter().any(is_virtual)
        }
        Sort::Virtual => true,
        Sort::Physical => false,
    };
    let mut virtual_segments: Vec<Segment> = match has_addresses {
        true => segments
            .iter()
            .filter(|segment| segment.p_type == PT_LOAD)
            .copied()
            .collect(),
        false => Vec::new(),
    };
    virtual_segments.sort_by_key(|segment| segment.p_vaddr);
    let mut warnings = match refused {
        0 => Vec::new(),
        count => vec![Warning::SegmentsRefused { count }],
    };
    if sort == Sort::Virtual {
        warnings.push(Warning::NoPhysicalAddresses);
    }
    let memory = Memory {
        source,
        store: Store::Segments(memory),
        page_size: PageSize::SIZE_4K,
        endian: elf.endian,
    };
    Ok((
        DumpFormat::Full(FullHeader {
            arch,
            elf: Some(elf),
            delta,
            tsb: None,
            virtual_segments,
        }),
        memory,
        warnings,
    ))
}

/// What the addresses of a core's program headers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    /// Physical ones, and for debuggers virtual ones.
    Usual,
    /// powerpc's cores of virtual memory: every physical address is all ones.
    Virtual,
    /// Physical ones alone: powerpc's cores of physical memory have all ones for every virtual address,
    /// hypervisors' files (VirtualBox, older QEMU) have 0.
    Physical,
}

/// What stands for an address that is not known: all ones.
fn unknown_address(elf: &FileHeader) -> u64 {
    match elf.class {
        Width::W32 => u64::from(u32::MAX),
        Width::W64 => u64::MAX,
    }
}

fn sort_of(arch: Arch, elf: &FileHeader, segments: &[Segment]) -> Sort {
    let unknown = unknown_address(elf);
    let loads = || {
        let holds = |segment: &&Segment| segment.p_type == PT_LOAD && segment.p_memsz > 0;
        segments.iter().filter(holds)
    };
    // Two segments of virtual memory cannot start at one address, and no kernel has all of its own
    // at 0. Only powerpc's kernels are linked so low that a single one may.
    let is_low = matches!(full_dumps(arch), FullDumps::Virtual) && loads().count() == 1;
    match loads().next() {
        Some(first) if first.p_vaddr == unknown => Sort::Physical,
        Some(_) if loads().all(|segment| segment.p_paddr == unknown) => Sort::Virtual,
        Some(_) if !is_low && loads().all(|segment| segment.p_vaddr == 0) => Sort::Physical,
        _ => Sort::Usual,
    }
}

/// All program headers; their number is checked against the file before anything is read.
fn program_headers(
    path: &Path,
    source: &Source,
    elf: &FileHeader,
) -> Result<Vec<Segment>, OpenError> {
    let bad = |reason: &str| OpenError::BadCore {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    let read = |offset: u64, len: usize| -> Result<Vec<u8>, OpenError> {
        let mut bytes = vec![0; len];
        let read = source
            .read_positional(offset, &mut bytes)
            .map_err(|error| OpenError::io(path, error))?;
        bytes.truncate(read);
        Ok(bytes)
    };
    let mut count = u64::from(elf.e_phnum);
    if elf.e_phnum == PN_XNUM && elf.e_shoff == 0 {
        return Err(bad(
            "it has more program headers than its header can say, and no section to say how many",
        ));
    }
    if elf.e_phnum == PN_XNUM {
        let section = read(elf.e_shoff, FileHeader::MAX_LEN)?;
        count = u64::from(elf.section_info(&section).unwrap_or(0));
    }
    let size = elf.phdr_len();
    if count > 0 && usize::from(elf.e_phentsize) != size {
        return Err(bad(&format!(
            "its program headers have {} bytes, not {size}",
            elf.e_phentsize
        )));
    }
    let len = count.saturating_mul(size as u64);
    match elf.e_phoff.checked_add(len) {
        Some(end) if source.reaches(end) => {}
        _ => {
            return Err(bad(&format!(
                "its {count} program headers at {:#x} lie beyond the end of the file, {:#x}",
                elf.e_phoff,
                source.len()
            )));
        }
    }
    let bytes = read(
        elf.e_phoff,
        usize::try_from(len).map_err(|_| bad("it is too large"))?,
    )?;
    Ok(bytes
        .chunks_exact(size)
        .filter_map(|header| elf.segment(header))
        .collect())
}
