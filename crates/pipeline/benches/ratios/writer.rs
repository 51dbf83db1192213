//! What the kernel's writer costs: choosing pages, emitting them, and converting a full dump, each
//! beside a loop that only copies.

use crate::clock::{both, both_of, median, once};
use crate::disk::{Disk, TRANSFER};
use crate::table::{Row, Table};
use std::cell::Cell;
use std::fs::File;
use std::hint::black_box;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};
use vmcore::format::addr::{PageSize, Pfn, PhysAddr, PhysRange, VirtAddr};
use vmcore::format::checksum::Checksum;
use vmcore::format::dump_avail::NumberedRange;
use vmcore::format::header::DirectMap;
use vmcore::format::identity::Identity;
use vmcore::format::kerneldump::DumpHeader;
use vmcore::format::layout::Section;
use vmcore::format::paging::{Amd64, Radix, TableRef};
use vmcore::pages;
use vmcore::session::KernelChoice;
use vmcore::translation::WindowKind;
use vmcore::{OpenOptions, Session};
use vmcore_pipeline::rewrite::{self, TargetFormat};
use vmcore_synth::big::{BigMachine, Size};
use vmcore_writer::device::BlockDevice as _;
use vmcore_writer::disk::DiskSink;
use vmcore_writer::machine::{Cpu, Kernel, MessageBuffer, Text, Unreadable};
use vmcore_writer::reserve::reserve_size;
use vmcore_writer::settings::Patience;
use vmcore_writer::sink::{Durability, SinkError};
use vmcore_writer::{DumpMap, Latch, Machine, Settings, Sink, Writer};
use zerocopy::IntoBytes as _;

/// The machine: 4 GiB of RAM, of which the kernel has a quarter.
const SIZE: Size = Size {
    ram_bytes: 4 << 30,
    dump_bytes: 1 << 30,
};
const NAME: &str = "4 GiB";
/// Bytes of a staging buffer.
const STAGING: usize = 64 << 10;
/// Rounds on a disk, which has a gigabyte to write in each.
const DISK_ROUNDS: usize = 5;

/// Measures the writer; its dumps are in `folder`.
pub(crate) fn measure(folder: &Path, table: &mut Table) {
    let own = folder.join("4g");
    let full = own.join("vmcore.full");
    if !full.exists() {
        eprintln!("generating {}", full.display());
        std::fs::create_dir_all(&own).expect("a folder for the dump");
        let machine = BigMachine::new(SIZE);
        machine.write_full_into(&own).expect("room for the dump");
    }
    let open = || {
        let kernel = own.join("kernel.full");
        let kernel = KernelChoice::Given(&kernel);
        Session::open(&full, kernel, &OpenOptions::default()).expect("the dump opens")
    };
    let mini = own.join("bench.mini");
    let session = open();
    rewrite::convert(&session, TargetFormat::Minidump, &mini, true, |_, _| {})
        .expect("it converts");
    let kept = Kept::of(&session, &mini);
    conversion(&open, &kept, &mini, table);
    writer(&session, &kept, table);
    let _ = std::fs::remove_file(&mini);
}

/// What a minidump keeps of a full dump.
struct Kept {
    full: PathBuf,
    /// Everything before the pages, and the extension.
    metadata: Vec<u8>,
    /// Where the kept pages are: physical address, place in the full dump, bytes.
    runs: Vec<(u64, u64, u64)>,
    copy: PathBuf,
}

impl Kept {
    fn of(session: &Session, mini: &Path) -> Self {
        let dump = Session::open(mini, KernelChoice::None, &OpenOptions::default());
        let dump = dump.expect("the minidump opens");
        let memory = dump.dump().memory();
        let sparse = memory.sparse().expect("a minidump");
        let front = sparse.layout().section(Section::Pages).offset.0;
        let mut metadata = vec![0; usize::try_from(front).expect("64 bits")];
        let source = memory.source();
        source
            .read_positional(0, &mut metadata)
            .expect("it can be read");
        let mut runs: Vec<(u64, u64, u64)> = Vec::new();
        for (pfn, _) in pages::all(memory) {
            let pa = PageSize::SIZE_4K.base(pfn.expect("no padding")).0;
            let at = session
                .dump()
                .memory()
                .locate(PhysAddr(pa))
                .expect("it is RAM")
                .0;
            match runs.last_mut() {
                Some((start, from, len)) if *start + *len == pa && *from + *len == at => {
                    *len += 4096
                }
                _ => runs.push((pa, at, 4096)),
            }
        }
        Self {
            full: session.dump().path().to_owned(),
            metadata,
            runs,
            copy: mini.with_extension("copy"),
        }
    }

    /// Copies it to a file: the least that a conversion has to do.
    fn copy(&self) {
        let _ = std::fs::remove_file(&self.copy);
        let from = File::open(&self.full).expect("the file opens");
        let mut to = File::create(&self.copy).expect("room for a copy");
        to.write_all(&self.metadata).expect("room for a copy");
        let mut buffer = vec![0; STAGING];
        for (_, offset, len) in &self.runs {
            let mut at = 0;
            while at < *len {
                let part = (len - at).min(STAGING as u64) as usize;
                from.read_exact_at(&mut buffer[..part], offset + at)
                    .expect("it can be read");
                to.write_all(&buffer[..part]).expect("room for a copy");
                at += part as u64;
            }
        }
    }
}

impl Kept {
    /// All that a dump has, in pieces of at most one transfer.
    fn parts(&self, machine: &Mapped<'_>, mut each: impl FnMut(&[u8])) {
        self.metadata.chunks(STAGING).for_each(&mut each);
        for (pa, _, len) in &self.runs {
            let at = machine.at(*pa);
            machine.memory[at..at + *len as usize]
                .chunks(STAGING)
                .for_each(&mut each);
        }
    }

    /// Stages, sums and writes it in whole transfers, and flushes it.
    fn write(&self, machine: &Mapped<'_>, staging: &mut [u8], disk: &mut Disk) {
        let (mut at, mut len) = (0, 0);
        self.parts(machine, |mut part| {
            while !part.is_empty() {
                let (now, later) = part.split_at(part.len().min(staging.len() - len));
                stage(now, &mut staging[len..]);
                len += now.len();
                part = later;
                if len == staging.len() {
                    disk.write(&mut at, staging);
                    len = 0;
                }
            }
        });
        disk.write(&mut at, &staging[..len]);
        disk.flush(0).expect("it is flushed");
    }

    fn len_bytes(&self) -> u64 {
        let pages: u64 = self.runs.iter().map(|(_, _, len)| len).sum();
        self.metadata.len() as u64 + pages
    }
}

fn row(
    table: &mut Table,
    what: &'static str,
    reference: &'static str,
    times: (f64, f64),
    limit: f64,
) {
    table.add(Row {
        machine: NAME.to_owned(),
        what,
        reference,
        ours_seconds: times.0,
        reference_seconds: times.1,
        ratio: times.0 / times.1,
        limit_ratio: Some(limit),
        limit_seconds: None,
        peak_memory_bytes: None,
        size_ratio: None,
    });
}

fn conversion(open: &impl Fn() -> Session, kept: &Kept, mini: &Path, table: &mut Table) {
    let times = both(
        || {
            let _ = std::fs::remove_file(mini);
            once(|| {
                let session = open();
                rewrite::convert(&session, TargetFormat::Minidump, mini, true, |_, _| {})
                    .expect("it converts")
            })
        },
        || once(|| kept.copy()),
    );
    row(
        table,
        "full dump to minidump",
        "copying what is kept",
        times,
        1.5,
    );
    let _ = std::fs::remove_file(&kept.copy);
}

/// A machine whose memory is a mapped full dump, as a kernel reads its own.
struct Mapped<'m> {
    memory: &'m [u8],
    /// Start and end of RAM, and where it is in the file.
    ranges: Vec<(u64, u64, u64)>,
    radix: Radix,
}

impl Mapped<'_> {
    fn at(&self, pa: u64) -> usize {
        let range = self.ranges.iter().find(|range| pa < range.1);
        let range = range.expect("it is RAM");
        (range.2 + pa - range.0) as usize
    }
}

impl Machine for Mapped<'_> {
    type Paging = Amd64;

    fn kernel(&self) -> Kernel {
        Kernel {
            radix: self.radix,
            kernbase: VirtAddr(0xffff_fe00_0000_0000),
            kernend: VirtAddr(u64::MAX),
            direct_map: Some(DirectMap {
                base: VirtAddr(0xffff_f800_0000_0000),
                end: VirtAddr(0xffff_fc00_0000_0000),
                phys: PhysAddr(0),
            }),
            image: None,
        }
    }

    fn message_buffer(&self) -> MessageBuffer {
        MessageBuffer {
            start: PhysAddr(0x10_0000),
            len_bytes: 98232,
        }
    }

    fn copy(&self, from: PhysAddr, to: &mut [u8]) -> Result<(), Unreadable> {
        let at = self.at(from.0);
        let from = self.memory.get(at..at + to.len()).ok_or(Unreadable)?;
        to.copy_from_slice(from);
        Ok(())
    }

    fn dumpable(&self, _: Pfn) -> bool {
        true
    }

    fn text(&self, _: Text, _: &mut [u8]) -> usize {
        0
    }

    fn identity(&self) -> Identity {
        Identity::default()
    }

    fn cpus(&self) -> u32 {
        1
    }

    fn cpu(&self, _: u32) -> Cpu {
        Cpu::RUNNING
    }

    fn pat_watchdog(&self) {}

    fn poll_abort(&self) -> bool {
        false
    }
}

/// A device that takes everything into one buffer, and remembers when it began.
struct Memory {
    buffer: Vec<u8>,
    began: Cell<Option<Instant>>,
}

impl Memory {
    fn take(&mut self, bytes: &[u8]) {
        self.buffer[..bytes.len()].copy_from_slice(bytes);
        black_box(&self.buffer);
    }
}

impl Sink for Memory {
    fn begin(&mut self, _: &DumpHeader<'_>, _: &[u8]) -> Result<(), SinkError> {
        self.began.set(Some(Instant::now()));
        Ok(())
    }

    fn chunk_bytes(&self) -> usize {
        STAGING
    }

    fn submit(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.take(bytes);
        Ok(())
    }

    fn complete(&mut self, _: &[u8]) -> Result<(), SinkError> {
        Ok(())
    }

    fn finish(&mut self, _: u64) -> Result<Durability, SinkError> {
        Ok(Durability::Flushed)
    }

    fn cancel(&mut self) {}
}

/// What writes the dump, and of what.
struct Kit<'a> {
    writer: Writer<'a>,
    machine: &'a Mapped<'a>,
    latch: Latch,
}

impl Kit<'_> {
    fn dump(&mut self, sink: &mut impl Sink) -> Duration {
        let owner = self.latch.enter().expect("no other owner");
        once(|| {
            self.writer
                .dump(&owner, self.machine, sink)
                .expect("it dumps")
        })
    }
}

/// Selection and emission over mapped memory, as in a kernel.
fn writer(session: &Session, kept: &Kept, table: &mut Table) {
    let source = session.dump().memory().source();
    let memory = source.mapped(0..source.len()).expect("it is mapped");
    let segments = session.dump().memory().segments().expect("a full dump");
    let segments = segments.segments().iter();
    let ranges: Vec<(u64, u64, u64)> = segments
        .map(|part| (part.range.start.0, part.range.end.0, part.offset.0))
        .collect();
    let space = session.space().expect("its kernel is there");
    let radix = match space.translation().windows()[0].kind {
        WindowKind::Radix { radix, .. } => radix,
        _ => Radix::section(0, VirtAddr(0), 0),
    };
    assert!(matches!(radix.top, TableRef::At(_)), "by page tables");
    let ram: Vec<PhysRange> = ranges
        .iter()
        .map(|(start, end, _)| PhysRange {
            start: PhysAddr(*start),
            end: PhysAddr(*end),
        })
        .collect();
    let machine = Mapped {
        memory,
        ranges,
        radix,
    };
    let words = DumpMap::words_needed(PageSize::SIZE_4K, &ram).expect("RAM");
    let words: Vec<AtomicU64> = (0..words).map(|_| AtomicU64::new(0)).collect();
    let mut numbered = vec![NumberedRange::default(); ram.len()];
    let map = DumpMap::new(PageSize::SIZE_4K, &ram, &mut numbered, &words).expect("RAM");
    for (pa, _, len) in &kept.runs {
        for at in (*pa..pa + len).step_by(4096) {
            map.add_page(PhysAddr(at)).expect("RAM");
        }
    }
    let reserve = reserve_size(PageSize::SIZE_4K, &ram).expect("RAM");
    let mut reserved = vec![0u64; reserve.len_bytes as usize / 8];
    let mut kit = Kit {
        writer: Writer::new(&map, Settings::default(), reserved.as_mut_bytes())
            .expect("enough memory"),
        machine: &machine,
        latch: Latch::new(),
    };
    to_memory(&mut kit, kept, table);
    to_disk(&mut kit, kept, table);
}

fn to_memory(kit: &mut Kit<'_>, kept: &Kept, table: &mut Table) {
    let machine = kit.machine;
    let mut selections: Vec<Duration> = Vec::new();
    let mut sink = Memory {
        buffer: vec![0; STAGING],
        began: Cell::new(None),
    };
    let mut staging = vec![0; STAGING];
    let mut buffer = vec![0; STAGING];
    let times = both(
        || {
            let start = Instant::now();
            let all = kit.dump(&mut sink);
            let selection = sink.began.get().expect("it began") - start;
            selections.push(selection);
            all - selection
        },
        || {
            once(|| {
                kept.parts(machine, |part| {
                    let staged = stage(part, &mut staging);
                    buffer[..staged.len()].copy_from_slice(staged);
                    black_box(&buffer);
                });
            })
        },
    );
    row(
        table,
        "emit a minidump",
        "copy, sum, hand over",
        times,
        1.18,
    );
    let selection = median(selections);
    row(
        table,
        "choose pages",
        "emission",
        (selection, times.0),
        0.05,
    );
}

/// The whole dump on a device, beside loops that write as many bytes through the same trait.
fn to_disk(kit: &mut Kit<'_>, kept: &Kept, table: &mut Table) {
    let machine = kit.machine;
    let path = kept.copy.with_extension("device");
    let media_bytes = kept.len_bytes() + (64 << 20);
    let mut sink = DiskSink::new(Disk::create(&path, media_bytes), Patience::default());
    let mut disk = Disk::create(&path, media_bytes);
    let mut staging = vec![0; TRANSFER];
    let times = both_of(
        DISK_ROUNDS,
        || kit.dump(&mut sink),
        || once(|| kept.write(machine, &mut staging, &mut disk)),
    );
    row(
        table,
        "dump to a disk",
        "copy, sum, write there",
        times,
        1.18,
    );
    let times = both_of(
        DISK_ROUNDS,
        || kit.dump(&mut sink),
        || {
            once(|| {
                let mut at = 0;
                while at < kept.len_bytes() {
                    disk.write(&mut at, &staging);
                }
                disk.flush(0).expect("it is flushed");
            })
        },
    );
    row(
        table,
        "dump to a disk",
        "raw writes, same trait",
        times,
        1.18,
    );
    let _ = std::fs::remove_file(&path);
}

/// Copies to staging, and sums.
fn stage<'s>(part: &[u8], staging: &'s mut [u8]) -> &'s [u8] {
    let staged = &mut staging[..part.len()];
    staged.copy_from_slice(part);
    let mut sum = Checksum::new();
    sum.update(staged);
    black_box(sum.value());
    staged
}
