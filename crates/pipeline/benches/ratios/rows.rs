//! What is measured on one dump.

use crate::clock::{both, once};
use crate::reference::{Reference, popcount, word};
use crate::table::{Row, Table};
use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use vmcore::format::addr::VirtAddr;
use vmcore::format::layout::Section;
use vmcore::format::paging::TableRef;
use vmcore::pages::PageMap;
use vmcore::session::KernelChoice;
use vmcore::source::{Access, Source};
use vmcore::{Dump, OpenOptions, Session};

/// Random reads of one round.
const READS: usize = 100_000;
/// Random reads of one round on a fresh handle.
const FRESH_READS: usize = 1_000;
/// Bytes that a round of sequential reads covers at most.
const SEQUENTIAL: u64 = 64 << 20;
/// Bytes of the large buffer.
const LARGE: usize = 1 << 20;

/// The dump under measurement.
struct Subject<'a> {
    name: &'a str,
    path: &'a Path,
    table: &'a mut Table,
}

/// What is aimed at.
enum Limit {
    Ratio(f64),
    Seconds(f64),
    None,
}

/// Addresses to read.
struct Addresses {
    kernel_map: Vec<u64>,
    direct_map: Vec<u64>,
    /// Start and bytes of runs of the kernel map of a MiB or more.
    runs: Vec<(u64, u64)>,
}

/// Measures everything on one dump.
pub(crate) fn measure(name: &str, path: &Path, table: &mut Table) {
    let mut subject = Subject { name, path, table };
    let session = open(path);
    let mapped = Source::open(path, Access::Mapped).expect("the dump opens");
    warm(&mapped);
    let reference = Reference::new(session.dump(), &mapped);
    let addresses = addresses(&session);
    subject.opening();
    subject.index(&reference);
    subject.random(&session, &reference, &addresses);
    subject.fresh(&session, &addresses);
    subject.sequential(&session, &reference, &mapped, &addresses);
    subject.enumeration(&session, &reference);
}

fn open(path: &Path) -> Session {
    Session::open(path, KernelChoice::None, &OpenOptions::default()).expect("the dump opens")
}

/// Touches every page of the mapping, so that the reference pays no faults.
fn warm(mapped: &Source) {
    let bytes = mapped.mapped(0..mapped.len()).expect("it is mapped");
    black_box(
        bytes
            .iter()
            .step_by(4096)
            .fold(0u64, |sum, byte| sum + u64::from(*byte)),
    );
}

/// Addresses of pages that are in the dump, in random order; 8-byte aligned.
fn addresses(session: &Session) -> Addresses {
    let space = session.space().expect("a minidump needs no kernel");
    let map = PageMap::build(space).expect("the bitmap is there");
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut kernel_map, mut direct_map) = (Vec::new(), Vec::new());
    for page in map.pages() {
        let inside = random.next() % 512 * 8;
        kernel_map.extend(page.mappings().map(|(va, _)| va.0 + inside));
        direct_map.extend(page.direct_map.map(|va| va.0 + inside));
    }
    let mut all = kernel_map.clone();
    all.sort_unstable();
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for va in all.iter().map(|va| va & !0xfff) {
        match runs.last_mut() {
            Some((start, len)) if *start + *len == va => *len += 4096,
            _ => runs.push((va, 4096)),
        }
    }
    runs.retain(|(_, len)| *len >= LARGE as u64);
    random.shuffle(&mut kernel_map);
    random.shuffle(&mut direct_map);
    Addresses {
        kernel_map,
        direct_map,
        runs,
    }
}

impl Subject<'_> {
    fn row(
        &mut self,
        what: &'static str,
        reference: &'static str,
        (ours, theirs): (f64, f64),
        limit: Limit,
    ) {
        let (limit_ratio, limit_seconds) = match limit {
            Limit::Ratio(ratio) => (Some(ratio), None),
            Limit::Seconds(seconds) => (None, Some(seconds)),
            Limit::None => (None, None),
        };
        self.table.add(Row {
            machine: self.name.to_owned(),
            what,
            reference,
            ours_seconds: ours,
            reference_seconds: theirs,
            ratio: ours / theirs,
            limit_ratio,
            limit_seconds,
            peak_memory_bytes: None,
            size_ratio: None,
        });
    }

    fn opening(&mut self) {
        let path = self.path;
        let times = both(
            || once(|| Dump::open(path, &OpenOptions::default()).expect("the dump opens")),
            || {
                once(|| {
                    let file = File::open(path).expect("the file opens");
                    let mut page = [0; 4096];
                    file.read_at(&mut page, 0).expect("it can be read");
                    file.read_at(&mut page, 4096).expect("it can be read");
                    page
                })
            },
        );
        self.row(
            "open",
            "open(2) and two reads",
            times,
            Limit::Seconds(50e-6),
        );
    }

    fn index(&mut self, reference: &Reference<'_>) {
        let path = self.path;
        let times = both(
            || {
                let dump = Dump::open(path, &OpenOptions::default()).expect("the dump opens");
                once(|| {
                    let sparse = dump.memory().sparse().expect("a minidump");
                    sparse
                        .set_bits(dump.memory().source())
                        .expect("it has a bitmap")
                })
            },
            || once(|| popcount(black_box(reference.bitmap()))),
        );
        self.row(
            "build the page index",
            "popcount of the bitmap",
            times,
            Limit::Ratio(1.3),
        );
    }

    fn random(&mut self, session: &Session, reference: &Reference<'_>, addresses: &Addresses) {
        let space = session.space().expect("a minidump needs no kernel");
        let ours = |list: &[u64]| {
            let read = |va: &u64| space.read_u64(VirtAddr(*va)).expect("it is in the dump");
            per_read(list.len(), || {
                list.iter().map(read).fold(0, u64::wrapping_add)
            })
        };
        let kernel_map = take(&addresses.kernel_map, READS);
        let times = both(
            || ours(&kernel_map),
            || {
                let read =
                    |va: &u64| word(reference.kernel_map(*va).expect("it is in the dump"), *va);
                per_read(kernel_map.len(), || {
                    kernel_map.iter().map(read).fold(0, u64::wrapping_add)
                })
            },
        );
        self.row(
            "random 8 bytes, kernel map",
            "plain loop",
            times,
            Limit::Ratio(1.5),
        );
        let direct_map = take(&addresses.direct_map, READS);
        let times = both(
            || ours(&direct_map),
            || {
                let read =
                    |va: &u64| word(reference.direct_map(*va).expect("it is in the dump"), *va);
                per_read(direct_map.len(), || {
                    direct_map.iter().map(read).fold(0, u64::wrapping_add)
                })
            },
        );
        self.row(
            "random 8 bytes, direct map",
            "plain loop",
            times,
            Limit::Ratio(1.5),
        );
    }

    /// On a handle that was just opened, against the reads that the translation needs.
    fn fresh(&mut self, session: &Session, addresses: &Addresses) {
        let lists = [
            (
                "fresh handle, kernel map",
                take(&addresses.kernel_map, FRESH_READS),
            ),
            (
                "fresh handle, direct map",
                take(&addresses.direct_map, FRESH_READS),
            ),
        ];
        for (what, list) in lists {
            let needed: Vec<u64> = list
                .iter()
                .flat_map(|va| offsets_of(session, *va))
                .collect();
            let path = self.path;
            let times = both(
                || {
                    let fresh = open(path);
                    let sparse = fresh.dump().memory().sparse().expect("a minidump");
                    sparse
                        .set_bits(fresh.dump().memory().source())
                        .expect("it has a bitmap");
                    let space = fresh.space().expect("a minidump needs no kernel");
                    let read = |va: &u64| space.read_u64(VirtAddr(*va)).expect("in the dump");
                    per_read(list.len(), || {
                        list.iter().map(read).fold(0, u64::wrapping_add)
                    })
                },
                || {
                    let file = File::open(path).expect("the file opens");
                    let read = |offset: &u64| {
                        let mut word = [0; 8];
                        file.read_at(&mut word, *offset).expect("it can be read");
                        u64::from_le_bytes(word)
                    };
                    per_read(list.len(), || {
                        needed.iter().map(read).fold(0, u64::wrapping_add)
                    })
                },
            );
            self.row(what, "positional reads needed", times, Limit::Ratio(1.2));
        }
    }

    fn sequential(
        &mut self,
        session: &Session,
        reference: &Reference<'_>,
        mapped: &Source,
        addresses: &Addresses,
    ) {
        let space = session.space().expect("a minidump needs no kernel");
        let mut left = SEQUENTIAL;
        let runs: Vec<(u64, u64)> = addresses
            .runs
            .iter()
            .map(|(start, len)| (*start, *len - *len % LARGE as u64))
            .take_while(|(_, len)| {
                let more = left > 0;
                left = left.saturating_sub(*len);
                more
            })
            .collect();
        let total: u64 = runs.iter().map(|(_, len)| len).sum();
        if total == 0 {
            return;
        }
        let mut buf = vec![0; LARGE];
        for (what, size) in [("sequential 4 KiB", 4096), ("sequential 1 MiB", LARGE)] {
            let reads: Vec<u64> = runs
                .iter()
                .flat_map(|(start, len)| (*start..start + len).step_by(size))
                .collect();
            let mut own = vec![0; size];
            let times = both(
                || {
                    per_read(reads.len(), || {
                        reads.iter().for_each(|va| {
                            space
                                .read_exact(VirtAddr(*va), &mut own)
                                .expect("in the dump");
                        });
                    })
                },
                || {
                    per_read(reads.len(), || {
                        reads.iter().all(|va| reference.copy(*va, &mut buf[..size]))
                    })
                },
            );
            self.row(what, "plain loop", times, Limit::Ratio(1.4));
        }
        let bytes = mapped.mapped(0..mapped.len()).expect("it is mapped");
        let start = bytes
            .len()
            .saturating_sub(usize::try_from(total).unwrap_or(LARGE));
        let mut own = vec![0; LARGE];
        let count = (bytes.len() - start) / LARGE;
        let times = both(
            || {
                per_read(count, || {
                    for (va, len) in &runs {
                        for at in (*va..va + len).step_by(LARGE) {
                            space
                                .read_exact(VirtAddr(at), &mut own)
                                .expect("in the dump");
                        }
                    }
                })
            },
            || {
                per_read(count, || {
                    bytes[start..].chunks_exact(LARGE).for_each(|chunk| {
                        buf.copy_from_slice(black_box(chunk));
                    });
                })
            },
        );
        self.row("sequential 1 MiB", "memcpy", times, Limit::None);
    }

    fn enumeration(&mut self, session: &Session, reference: &Reference<'_>) {
        let space = session.space().expect("a minidump needs no kernel");
        let ours = || {
            let map = PageMap::build(space).expect("the bitmap is there");
            let (mut pages, mut sum) = (0u64, 0u64);
            for page in map.pages() {
                pages += 1;
                sum = sum.wrapping_add(page.direct_map.map_or(0, |va| va.0));
                sum = page
                    .mappings()
                    .fold(sum, |sum, (va, _)| sum.wrapping_add(va.0));
            }
            (pages, sum)
        };
        assert_eq!(
            ours(),
            reference.enumerate(),
            "both must see the same pages"
        );
        let times = both(|| once(ours), || once(|| reference.enumerate()));
        self.row(
            "enumerate pages and addresses",
            "plain loop",
            times,
            Limit::Ratio(1.5),
        );
    }

    /// Conversion to ELF beside `cp` of its result; says how much memory it took.
    fn conversion(&mut self, folder: &Path) {
        let core = folder.join("bench.elf");
        let copy = folder.join("bench.copy");
        let mut peak = 0;
        let times = both(
            || {
                let _ = std::fs::remove_file(&core);
                let own = std::env::current_exe().expect("the bench has a path");
                let output = Command::new(own)
                    .arg("--convert")
                    .args([self.path, &core])
                    .output()
                    .expect("the bench starts itself");
                let text = String::from_utf8_lossy(&output.stdout);
                let mut numbers = text.split_whitespace().map(|word| word.parse::<u64>());
                let mut next = || numbers.next().and_then(Result::ok).expect("two numbers");
                let nanoseconds = next();
                peak = peak.max(next());
                Duration::from_nanos(nanoseconds)
            },
            || {
                let _ = std::fs::remove_file(&copy);
                once(|| {
                    let status = Command::new("cp").args([&core, &copy]).status();
                    assert!(status.expect("cp starts").success(), "cp works");
                })
            },
        );
        self.table.add(Row {
            machine: self.name.to_owned(),
            what: "convert to ELF",
            reference: "cp of the result",
            ours_seconds: times.0,
            reference_seconds: times.1,
            ratio: times.0 / times.1,
            limit_ratio: Some(1.0),
            limit_seconds: None,
            peak_memory_bytes: Some(peak),
            size_ratio: None,
        });
        for path in [core, copy] {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Measures the conversion of one dump.
pub(crate) fn measure_conversion(name: &str, path: &Path, folder: &Path, table: &mut Table) {
    Subject { name, path, table }.conversion(folder);
}

/// One conversion in a process of its own: prints its nanoseconds and its peak of memory.
pub(crate) fn convert(path: &Path, core: &Path) {
    let session = open(path);
    let time = once(|| {
        vmcore_pipeline::elf::convert(&session, core, true, |_, _| {}).expect("it converts")
    });
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(0);
    println!("{} {}", time.as_nanos(), peak * 1024);
}

/// The offsets that must be read to get at `va`: page-table entries, and the bytes.
fn offsets_of(session: &Session, va: u64) -> Vec<u64> {
    let space = session.space().expect("a minidump needs no kernel");
    let memory = session.dump().memory();
    let tables = memory
        .sparse()
        .expect("a minidump")
        .layout()
        .section(Section::PageTables)
        .offset;
    let mut offsets = Vec::new();
    let found = space.translation().trace(memory, VirtAddr(va), |_, step| {
        let base = match step.table {
            TableRef::Section => tables,
            TableRef::At(pa) => memory.locate(pa).expect("its table is in the dump"),
        };
        offsets.push(base.0 + step.index * 8);
    });
    let pa = found.expect("it is mapped").leaf.pa;
    offsets.push(memory.locate(pa).expect("it is in the dump").0);
    offsets
}

/// The first of a shuffled list.
fn take(list: &[u64], count: usize) -> Vec<u64> {
    list.iter().copied().take(count).collect()
}

/// The time of one of `count` reads.
fn per_read<T>(count: usize, body: impl FnOnce() -> T) -> Duration {
    once(body) / u32::try_from(count.max(1)).unwrap_or(u32::MAX)
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn shuffle(&mut self, list: &mut [u64]) {
        for last in (1..list.len()).rev() {
            let other = self.next() % (last as u64 + 1);
            list.swap(last, usize::try_from(other).unwrap_or(0));
        }
    }
}
