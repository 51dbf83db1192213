//! Damaged and hostile dumps: whatever a file says, nothing panics, and no memory is taken that the
//! file does not pay for.
#![allow(clippy::unwrap_used, clippy::panic)]

use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use proptest::sample::Index;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use vmcore::container::ContainerOptions;
use vmcore::format::addr::{PhysAddr, VirtAddr};
use vmcore::format::layout::Section;
use vmcore::pages::{self, Mapping, PageMap};
use vmcore::session::KernelChoice;
use vmcore::source::Access;
use vmcore::{OpenOptions, Session, info, log, process, verify};
use vmcore_synth::Arch;
use vmcore_synth::elf::{FullDump, PT_LOAD, Segment};
use vmcore_synth::machine::{Machine, Options, Shape};
use vmcore_synth::machines;
use vmcore_synth::minidump::Minidump;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// What a reader may take whatever the file: its buffers, and room for some mappings.
const BASE_BYTES: usize = 12 << 20;
/// What it may take for each byte of the dump and of the kernel file.
const PER_FILE_BYTE: usize = 4;

/// Memory is counted for the whole process: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks everything of a dump; whatever comes out is right if nothing breaks.
fn ask(session: &Session, addresses: &[u64]) {
    let dump = session.dump();
    let _ = (dump.completeness(), dump.id(), session.kernel_match());
    for section in [
        Section::MessageBuffer,
        Section::DumpAvail,
        Section::Bitmap,
        Section::PageTables,
    ] {
        let _ = dump.section(section);
    }
    if let Ok(info) = info::info(session) {
        assert_eq!(info.size_bytes, dump.memory().source().len());
    }
    if let Ok(log) = log::read(session) {
        assert!(log.lines().map(|line| line.text.len() as u64).sum::<u64>() <= log.capacity_bytes);
    }
    let _ = process::list(session);
    let _ = verify::verify(session, |_| {});
    let file_len = dump.memory().source().len();
    for pa in addresses {
        if let Ok(offset) = dump.memory().locate(PhysAddr(*pa)) {
            assert!(
                offset.0 < file_len,
                "{pa:#x} lies at {offset} of {file_len:#x}"
            );
        }
    }
    let Ok(space) = session.space() else { return };
    for va in addresses {
        let part = space.read(VirtAddr(*va), &mut [0; 64]);
        assert_eq!(part.len < 64, part.error.is_some(), "{va:#x}");
    }
    let Ok(map) = PageMap::build(space) else {
        return;
    };
    assert_eq!(
        Ok(map.len() as u64),
        pages::numbered_page_count(dump.memory())
    );
    for page in map.pages() {
        let _ = page.mappings().count();
    }
    let mut last = None;
    let visited = pages::visit_mappings(space, &mut |mapping: Mapping| {
        assert!(
            last < Some(mapping.va) || dump.minidump().is_none(),
            "{} comes late",
            mapping.va
        );
        last = Some(mapping.va);
        ControlFlow::Continue(())
    });
    assert!(visited.is_ok());
}

/// Opens files and asks everything of them, with the memory that they may cost.
fn ask_of(folder: &Path, dump: &[u8], kernel: &[u8], access: Access, addresses: &[u64]) {
    let (core, file) = (folder.join("vmcore"), folder.join("kernel"));
    std::fs::write(&core, dump).unwrap();
    std::fs::write(&file, kernel).unwrap();
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    for up_to in [Section::PageTables, Section::MessageBuffer] {
        for kernel in [KernelChoice::Given(&file), KernelChoice::None] {
            let options = OpenOptions {
                up_to,
                ..OpenOptions::from(ContainerOptions {
                    access,
                    ..ContainerOptions::default()
                })
            };
            if let Ok(session) = Session::open(&core, kernel, &options) {
                ask(&session, addresses);
            }
        }
    }
    let taken = ALLOCATOR.peak_usage() - before;
    let allowed = BASE_BYTES + PER_FILE_BYTE * (dump.len() + kernel.len());
    assert!(
        taken <= allowed,
        "{taken} bytes for a dump of {} and a kernel of {}",
        dump.len(),
        kernel.len()
    );
}

/// Dumps and kernels of every kind of machine but the large one.
fn made() -> &'static [(Vec<u8>, Vec<u8>)] {
    static MADE: OnceLock<Vec<(Vec<u8>, Vec<u8>)>> = OnceLock::new();
    MADE.get_or_init(|| {
        let small = machines::all()
            .into_iter()
            .filter(|(_, options)| options.shape == Shape::Compact);
        small
            .map(|(_, options)| {
                let machine = Machine::new(&options);
                (machine.dump.build(), machine.kernel.build())
            })
            .collect()
    })
}

/// Where damage is done: in the headers, in the sections, anywhere.
#[derive(Clone, Debug)]
enum Place {
    Header(Index),
    Front(Index),
    Anywhere(Index),
}

impl Place {
    fn within(&self, len: usize) -> usize {
        match self {
            Self::Header(index) => index.index(len.min(160)),
            Self::Front(index) => index.index(len.min(16 * 4096)),
            Self::Anywhere(index) => index.index(len),
        }
    }
}

#[derive(Clone, Debug)]
enum Damage {
    /// Bytes over others.
    Put(Place, Vec<u8>),
    /// A number, at a multiple of four: sizes, addresses and entries are such.
    Number(Place, u64),
    /// A part of the file over another.
    Copy(Place, Place, usize),
    /// The end of the file.
    Cut(Place),
    /// More bytes behind it.
    Grow(usize),
}

fn a_place() -> impl Strategy<Value = Place> {
    prop_oneof![
        any::<Index>().prop_map(Place::Header),
        any::<Index>().prop_map(Place::Front),
        any::<Index>().prop_map(Place::Anywhere),
    ]
}

/// Numbers that are likely to break something.
fn a_number() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        Just(0xffff_f000),
        Just(0x7fff_ffff),
        Just(1 << 63),
        Just(0x0fff_ffff_ffff_f000),
        (0u64..0x1000).prop_map(|page| page << 12 | 3),
        (0u64..0x1000).prop_map(|page| page << 12 | 0x83),
        (0u64..0x1000).prop_map(|page| page << 10 | 0xcf),
        (0u64..0x1_0000).prop_map(|small| 0xffff_fe00_0000_0000 + small * 8),
        0u64..0x10_0000,
        any::<u64>(),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    let bytes = prop::collection::vec(any::<u8>(), 1..16);
    prop_oneof![
        2 => (a_place(), bytes).prop_map(|(place, bytes)| Damage::Put(place, bytes)),
        6 => (a_place(), a_number()).prop_map(|(place, number)| Damage::Number(place, number)),
        2 => (a_place(), a_place(), 1usize..8192).prop_map(|(from, to, len)| Damage::Copy(from, to, len)),
        1 => a_place().prop_map(Damage::Cut),
        1 => (1usize..10_000).prop_map(Damage::Grow),
    ]
}

/// Writes bytes over a file's, as far as it goes.
fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    let end = file.len().min(at + bytes.len());
    file[at..end].copy_from_slice(&bytes[..end - at]);
}

impl Damage {
    fn do_to(&self, file: &mut Vec<u8>) {
        if file.is_empty() {
            return;
        }
        let len = file.len();
        match self {
            Self::Put(place, bytes) => put(file, place.within(len), bytes),
            Self::Number(place, number) => {
                put(file, place.within(len) / 4 * 4, &number.to_le_bytes());
            }
            Self::Copy(from, to, count) => {
                let start = from.within(len);
                let bytes = file[start..len.min(start + count)].to_vec();
                put(file, to.within(len), &bytes);
            }
            Self::Cut(place) => file.truncate(place.within(len)),
            Self::Grow(more) => file.resize(len + more, 0x5a),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_damaged_dump_breaks_nothing(
        which in any::<Index>(),
        to_dump in prop::collection::vec(damage(), 1..12),
        to_kernel in prop::collection::vec(damage(), 0..2),
        access in prop::sample::select(&[Access::Auto, Access::Mapped, Access::Positional][..]),
        addresses in prop::collection::vec(any::<u64>(), 8),
    ) {
        let _alone = alone();
        let (dump, kernel) = which.get(made());
        let (mut dump, mut kernel) = (dump.clone(), kernel.clone());
        to_dump.iter().for_each(|damage| damage.do_to(&mut dump));
        to_kernel.iter().for_each(|damage| damage.do_to(&mut kernel));
        let folder = tempfile::tempdir().unwrap();
        ask_of(folder.path(), &dump, &kernel, access, &addresses);
    }

    #[test]
    fn every_access_finds_the_same_in_a_damaged_dump(
        which in any::<Index>(),
        to_dump in prop::collection::vec(damage(), 1..6),
        addresses in prop::collection::vec(0u64..0x1000_0000, 32),
    ) {
        let _alone = alone();
        let (mut dump, kernel) = which.get(made()).clone();
        to_dump.iter().for_each(|damage| damage.do_to(&mut dump));
        let folder = tempfile::tempdir().unwrap();
        let (core, file) = (folder.path().join("vmcore"), folder.path().join("kernel"));
        std::fs::write(&core, &dump).unwrap();
        std::fs::write(&file, &kernel).unwrap();
        let found = |access| {
            let options = OpenOptions::from(ContainerOptions { access, ..ContainerOptions::default() });
            let session = Session::open(&core, KernelChoice::Given(&file), &options).ok()?;
            let places: Vec<_> =
                addresses.iter().map(|pa| session.dump().memory().locate(PhysAddr(*pa))).collect();
            let list = process::list(&session).ok();
            let mut mappings = Vec::new();
            if let Ok(space) = session.space() {
                let _ = pages::visit_mappings(space, &mut |mapping: Mapping| {
                    mappings.push(mapping);
                    ControlFlow::Continue(())
                });
            }
            Some((places, list, mappings))
        };
        let positional = found(Access::Positional);
        prop_assert!(found(Access::Mapped) == positional);
        prop_assert!(found(Access::Auto) == positional);
    }
}

/// A dump that is all bitmap and page tables: a few hundred KiB that claim 8 GiB of pages.
#[test]
fn a_bitmap_of_ones_and_tables_of_one_page_take_no_memory_of_their_own() {
    let _alone = alone();
    let mut dump = Minidump::new(Arch::Amd64, 2);
    dump.bitmap = Some(vec![0xff; 1 << 18]);
    // Every directory entry maps the same 2 MiB, whose pages all have a bit.
    dump.page_tables = 0x83_u64.to_le_bytes().repeat(1 << 14);
    let folder = tempfile::tempdir().unwrap();
    ask_of(
        folder.path(),
        &dump.build(),
        b"",
        Access::Auto,
        &[0, 1 << 30],
    );
    // The same with a table that is aliased by every entry.
    dump.page_tables = 0x5003_u64.to_le_bytes().repeat(1 << 14);
    dump.pages
        .insert(0x5000, 0x9003_u64.to_le_bytes().repeat(512));
    ask_of(
        folder.path(),
        &dump.build(),
        b"",
        Access::Auto,
        &[0, 1 << 30],
    );
}

/// RAM ranges by the ten thousand, each of one page, and large pages over all of them.
#[test]
fn many_ranges_under_large_pages_are_gone_through_once() {
    let _alone = alone();
    let mut dump = Minidump::new(Arch::Amd64, 3);
    dump.dump_avail = (0..50_000)
        .map(|number| (number << 13, (number << 13) + 0x1000))
        .collect();
    dump.bitmap = Some(vec![0xff; 8192]);
    dump.page_tables = (0..1 << 17)
        .flat_map(|entry: u64| ((entry % 400) << 21 | 0x83).to_le_bytes())
        .collect();
    let folder = tempfile::tempdir().unwrap();
    ask_of(
        folder.path(),
        &dump.build(),
        b"",
        Access::Auto,
        &[0x2000, 0x3000],
    );
}

/// Where the bytes of a virtual address are in the file.
fn place_of(session: &Session, va: u64) -> usize {
    let (_, offset) = session.space().unwrap().locate(VirtAddr(va)).unwrap();
    usize::try_from(offset.0).unwrap()
}

fn open(folder: &Path, dump: &[u8], kernel: &[u8]) -> Session {
    let (core, file) = (folder.join("vmcore"), folder.join("kernel"));
    std::fs::write(&core, dump).unwrap();
    std::fs::write(&file, kernel).unwrap();
    Session::open(&core, KernelChoice::Given(&file), &OpenOptions::default()).unwrap()
}

/// Threads that overlap: each is 8 bytes behind the one before it, a hundred thousand in a MiB.
#[test]
fn threads_that_overlap_cost_no_more_than_the_dump() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (mut dump, kernel) = machines::small(Arch::Amd64, 3);
    let kernel = kernel.build();
    // A MiB that only the direct map reaches, full of pointers to its own words.
    let (pa, words) = (1 << 30, 1 << 17);
    let va = dump.dmapbase + pa;
    dump.dump_avail.push((pa, pa + 8 * words));
    let chain: Vec<u8> = (0..words)
        .flat_map(|word| (va + 8 * word - 8).to_le_bytes())
        .collect();
    for (number, page) in (0..).zip(chain.chunks(4096)) {
        dump.pages.insert(pa + number * 4096, page.to_vec());
    }
    let mut file = dump.build();
    let session = open(folder.path(), &file, &kernel);
    let constants = process::Constants::read(&session).unwrap();
    assert_eq!(constants.td_plist, 16);
    let first = process::list(&session).unwrap().processes[0].address;
    let threads = place_of(&session, first.0 + constants.p_threads);
    put(&mut file, threads, &va.to_le_bytes());
    let list = process::list(&open(folder.path(), &file, &kernel)).unwrap();
    assert!(
        list.processes[0].threads.len() > 1000,
        "the chain is followed"
    );
    ask_of(folder.path(), &file, &kernel, Access::Auto, &[]);
}

/// A message buffer in kernel memory that claims to have 64 MiB.
#[test]
fn a_message_buffer_larger_than_the_dump_costs_nothing() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine::new(&Options::full(Arch::Amd64));
    let (mut file, kernel) = (machine.dump.build(), machine.kernel.build());
    let session = open(folder.path(), &file, &kernel);
    assert!(log::read(&session).is_ok());
    let msgbufp = session.symbol("msgbufp").unwrap().address;
    let msgbuf = session.space().unwrap().read_pointer(msgbufp).unwrap();
    let msg_size = place_of(&session, msgbuf.0 + 12);
    put(&mut file, msg_size, &(64_u32 << 20).to_le_bytes());
    assert!(log::read(&open(folder.path(), &file, &kernel)).is_err());
    ask_of(folder.path(), &file, &kernel, Access::Auto, &[]);
}

/// Thousands of segments, each of which claims the same MiB of the file for its own.
#[test]
fn segments_that_share_their_bytes_are_not_read_for_each_of_them() {
    let _alone = alone();
    let content = std::collections::BTreeMap::from([(0, vec![7; 4096])]);
    let mut dump = FullDump::of_memory(Arch::Amd64, &[(0, 1 << 20)], &content);
    for number in 1..5000 {
        dump.segments.push(Segment {
            p_type: PT_LOAD,
            p_vaddr: number << 21,
            p_paddr: number << 21,
            content: Vec::new(),
            p_offset: None,
            p_filesz: Some(1 << 20),
            p_memsz: Some(1 << 20),
        });
    }
    let first = dump.content_offset();
    dump.segments
        .iter_mut()
        .for_each(|segment| segment.p_offset = Some(first));
    let folder = tempfile::tempdir().unwrap();
    ask_of(
        folder.path(),
        &dump.build(),
        b"",
        Access::Auto,
        &[0, 1 << 21, 9999 << 21],
    );
    let mut pages = 0;
    pages::scan(open_alone(folder.path()).dump().memory(), |_| {
        pages += 1;
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(pages <= 2 * dump.build().len() / 4096, "{pages} pages");
}

fn open_alone(folder: &Path) -> Session {
    let core = folder.join("vmcore");
    Session::open(&core, KernelChoice::None, &OpenOptions::default()).unwrap()
}
