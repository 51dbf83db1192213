//! Conversion to ELF: every page at all its addresses, and what other tools make of it.
#![expect(clippy::unwrap_used, reason = "tests may fail, and say what they skip")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use vmcore::format::addr::{PhysAddr, VirtAddr};
use vmcore::process;
use vmcore::session::KernelChoice;
use vmcore::{OpenOptions, Session};
use vmcore_pipeline::elf::{self, ConvertError, Converted};
use vmcore_synth::elf::FullDump;
use vmcore_synth::machine::{DumpFile, Machine, Options};
use vmcore_synth::minidump::Minidump;
use vmcore_synth::{Arch, machines};

/// A machine's files, and the core made from them.
struct Case {
    dir: TempDir,
    machine: Machine,
}

impl Case {
    fn new(options: &Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::new(options);
        std::fs::write(dir.path().join("vmcore.0"), machine.dump.build()).unwrap();
        std::fs::write(dir.path().join("kernel"), machine.kernel.build()).unwrap();
        Self { dir, machine }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn open(&self, core: &str) -> Session {
        open(&self.path(core), KernelChoice::Given(&self.path("kernel")))
    }

    fn convert(&self) -> Converted {
        elf::convert(&self.open("vmcore.0"), &self.path("core"), false, |_, _| {}).unwrap()
    }
}

fn open(path: &Path, kernel: KernelChoice<'_>) -> Session {
    Session::open(path, kernel, &OpenOptions::default()).unwrap()
}

/// What a program prints; `None` where it is not installed.
fn output_of(program: &str, args: &[&str]) -> Option<String> {
    let is_there = vmcore_testkit::has(program);
    let output = is_there.then(|| Command::new(program).args(args).output().unwrap())?;
    Some(
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr),
    )
}

#[test]
fn every_page_reads_the_same_at_every_address_in_the_core() {
    for (name, options) in machines::all() {
        let case = Case::new(&options);
        let converted = case.convert();
        let truth = &case.machine.truth;
        assert_eq!(converted.pages, truth.pages.len() as u64, "{name}");
        assert_eq!(converted.truncated_pages, 0, "{name}");
        let (dump, core) = (case.open("vmcore.0"), case.open("core"));
        let page_size = usize::try_from(options.page_size).unwrap();
        for page in &truth.pages {
            let mut expected = vec![0; page_size];
            let read = dump.dump().memory().read(PhysAddr(page.pa), &mut expected);
            assert_eq!(
                (read.len, read.error),
                (page_size, None),
                "{name} {:#x}",
                page.pa
            );
            for va in page.kernel_map.iter().chain(&page.direct_map) {
                let mut found = vec![0; page_size];
                let read = core.space().unwrap().read(VirtAddr(*va), &mut found);
                assert_eq!((read.len, read.error), (page_size, None), "{name} {va:#x}");
                assert!(found == expected, "{name} {va:#x}");
            }
        }
        for va in &truth.unmapped {
            let read = core.space().unwrap().read_u64(VirtAddr(*va));
            assert!(read.is_err(), "{name}: {va:#x} is not mapped");
        }
    }
}

#[test]
fn the_core_has_the_crashed_threads_registers() {
    for (name, options) in machines::all() {
        let case = Case::new(&options);
        let converted = case.convert();
        if !options.arch.has_known_pcb() {
            // Their place is unknown.
            assert_eq!((converted.thread, converted.threads), (None, 0), "{name}");
            continue;
        }
        assert_eq!(
            converted.thread,
            Some(case.machine.truth.crashed_tid),
            "{name}"
        );
        let mut threads = case
            .machine
            .truth
            .processes
            .iter()
            .flat_map(|process| &process.threads);
        let crashed = threads
            .find(|thread| thread.tid == case.machine.truth.crashed_tid)
            .unwrap();
        let bytes = std::fs::read(case.path("core")).unwrap();
        let note = bytes
            .windows(5)
            .position(|bytes| bytes == b"CORE\0")
            .unwrap()
            + 8;
        let (pc_at, word) = match options.arch {
            Arch::Amd64 => (112 + 16 * 8, 8),
            Arch::Arm64 => (112 + 32 * 8, 8),
            Arch::I386 => (72 + 12 * 4, 4),
            Arch::Riscv64 => (112, 8),
            Arch::Powerpc64 | Arch::Powerpc64le => (112 + 32 * 8, 8),
            Arch::Powerpc => (72 + 32 * 4, 4),
            _ => (72 + 15 * 4, 4),
        };
        let pc = &bytes[note + pc_at..note + pc_at + word];
        assert_eq!(pc, options.arch.word(crashed.pc), "{name}");
    }
}

#[test]
fn every_thread_with_registers_is_a_note_and_the_crashed_one_is_first() {
    for (name, options) in machines::all() {
        if !options.arch.has_known_pcb() {
            continue;
        }
        let case = Case::new(&options);
        let converted = case.convert();
        let bytes = std::fs::read(case.path("core")).unwrap();
        let pid_at = if options.arch.is_32_bit() { 24 } else { 32 };
        let number = |raw: [u8; 4]| {
            if options.arch.is_big_endian() {
                i32::from_be_bytes(raw)
            } else {
                i32::from_le_bytes(raw)
            }
        };
        let tids: Vec<i32> = bytes
            .windows(5)
            .enumerate()
            .filter(|(_, bytes)| *bytes == b"CORE\0")
            .map(|(at, _)| at + 8 + pid_at)
            .map(|at| number(bytes[at..at + 4].try_into().unwrap()))
            .collect();
        assert_eq!(converted.threads, tids.len() as u64, "{name}");
        let mut expected: Vec<i32> = process::list(&case.open("vmcore.0"))
            .unwrap()
            .processes
            .iter()
            .flat_map(|process| &process.threads)
            .filter(|thread| thread.registers.is_some())
            .map(|thread| thread.tid)
            .collect();
        assert!(expected.len() > 4, "{name}");
        assert_eq!(tids[0], case.machine.truth.crashed_tid, "{name}");
        let mut found = tids;
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn readelf_accepts_the_core() {
    for (name, options) in machines::all() {
        let case = Case::new(&options);
        let converted = case.convert();
        let core = case.path("core");
        let Some(text) = output_of("readelf", &["-lW", core.to_str().unwrap()]) else {
            return;
        };
        assert!(!text.to_lowercase().contains("warning"), "{name}: {text}");
        assert!(!text.to_lowercase().contains("error"), "{name}: {text}");
        let loads: Vec<&str> = text
            .lines()
            .filter(|line| line.trim_start().starts_with("LOAD"))
            .collect();
        assert_eq!(loads.len() as u64, converted.segments, "{name}");
        let mut starts: Vec<&str> = loads
            .iter()
            .map(|line| line.split_whitespace().nth(2).unwrap())
            .collect();
        let as_they_stand = starts.clone();
        starts.sort_unstable();
        assert_eq!(starts, as_they_stand, "{name}: segments ascend");
    }
}

#[test]
fn stock_gdb_reads_hz() {
    for (arch, version) in [(Arch::Amd64, 3), (Arch::Amd64, 1), (Arch::I386, 2)] {
        let case = Case::new(&Options::new(arch, version));
        case.convert();
        let file = format!("file {}", case.path("kernel").display());
        let core = format!("core-file {}", case.path("core").display());
        let args = [
            "-nx",
            "-batch",
            "-iex",
            "set auto-load off",
            "-iex",
            "set osabi GNU/Linux",
            "-ex",
            &file,
            "-ex",
            &core,
            "-ex",
            "print (int) hz",
            "-ex",
            "info threads",
        ];
        let Some(text) = output_of("gdb", &args) else {
            return;
        };
        let hz = case.open("vmcore.0");
        let hz = hz
            .space()
            .unwrap()
            .read_u32(hz.symbol("hz").unwrap().address)
            .unwrap();
        assert!(
            text.contains(&format!("$1 = {hz}\n")),
            "{arch:?} v{version}: {text}"
        );
        let thread = format!("LWP {}", case.machine.truth.crashed_tid);
        assert!(text.contains(&thread), "{arch:?} v{version}: {text}");
    }
}

/// A kernel that runs elsewhere than it is linked is loaded so.
#[test]
fn stock_gdb_of_all_architectures_reads_the_core() {
    for (arch, version) in [
        (Arch::Arm64, 3),
        (Arch::Armv7, 2),
        (Arch::Armeb, 2),
        (Arch::Riscv64, 2),
        (Arch::Powerpc64, 2),
        (Arch::Powerpc64le, 2),
    ] {
        let case = Case::new(&Options::new(arch, version));
        case.convert();
        let kernel = case.path("kernel");
        let displacement = case.machine.kernel.displacement;
        let file = format!("symbol-file -o {displacement} {}", kernel.display());
        let core = format!("core-file {}", case.path("core").display());
        let args = [
            "-nx",
            "-batch",
            "-iex",
            "set osabi GNU/Linux",
            "-ex",
            &file,
            "-ex",
            &core,
            "-ex",
            "print *(int *) &hz",
            "-ex",
            "info threads",
            "-ex",
            "info registers pc",
        ];
        let Some(text) = output_of("gdb-multiarch", &args) else {
            return;
        };
        let hz = if arch == Arch::Arm64 { 1000 } else { 100 };
        assert!(text.contains(&format!("$1 = {hz}\n")), "{arch:?}: {text}");
        for thread in case
            .machine
            .truth
            .processes
            .iter()
            .flat_map(|process| &process.threads)
        {
            let line = format!("LWP {} ", thread.tid);
            assert!(text.contains(&line), "{arch:?}: {line}: {text}");
        }
        let mut threads = case
            .machine
            .truth
            .processes
            .iter()
            .flat_map(|process| &process.threads);
        let crashed = threads.find(|thread| thread.tid == case.machine.truth.crashed_tid);
        let pc = format!("{:#x} ", crashed.unwrap().pc);
        let last = text.lines().find(|line| line.starts_with("pc "));
        assert!(last.unwrap().contains(&pc), "{arch:?}: {pc}: {text}");
    }
}

/// Nothing in the core's memory says that the kernel runs elsewhere than it is linked.
#[test]
fn a_core_of_a_moved_kernel_says_how_far_it_was_moved() {
    for (arch, version) in [
        (Arch::Powerpc64, 2),
        (Arch::Powerpc64le, 2),
        (Arch::Amd64, 3),
    ] {
        let case = Case::new(&Options::new(arch, version));
        case.convert();
        let (dump, core) = (case.open("vmcore.0"), case.open("core"));
        let displacement = case.machine.kernel.displacement;
        assert_eq!(displacement != 0, arch != Arch::Amd64);
        assert_eq!(
            core.kernel().unwrap().displacement(),
            displacement,
            "{arch:?}"
        );
        let names = |session: &Session| {
            let list = vmcore::process::list(session).unwrap();
            let names = list
                .processes
                .iter()
                .map(|process| (process.pid, process.threads.len()));
            names.collect::<Vec<_>>()
        };
        assert!(!names(&dump).is_empty());
        assert_eq!(names(&core), names(&dump), "{arch:?}");
    }
}

/// Not all processors sign: gdb takes off what is not there.
#[test]
fn a_core_tells_of_signed_addresses_if_there_are_any() {
    for signed in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let mut machine = Machine::new(&Options::new(Arch::Arm64, 3));
        let text = machine.kernel.address_of("btext").unwrap();
        let DumpFile::Mini(dump) = &mut machine.dump else {
            return;
        };
        for page in dump.pages.values_mut().filter(|_| signed) {
            for word in page.as_chunks_mut::<8>().0 {
                let value = u64::from_le_bytes(*word);
                if (text + 1..text + 0x1000).contains(&value) {
                    *word = (value ^ 0x2a15 << 48).to_le_bytes();
                }
            }
        }
        std::fs::write(path("vmcore.0"), machine.dump.build()).unwrap();
        std::fs::write(path("kernel"), machine.kernel.build()).unwrap();
        let session = open(&path("vmcore.0"), KernelChoice::Given(&path("kernel")));
        let converted = elf::convert(&session, &path("core"), false, |_, _| {}).unwrap();
        let core = std::fs::read(path("core")).unwrap();
        let mut note = [6_u32, 16, 0x406].map(u32::to_le_bytes).concat();
        note.extend(b"LINUX\0\0\0");
        note.extend([0, 0, 0, 0, 0, 0, 0x7f, 0xff].repeat(2));
        let count = core
            .windows(note.len())
            .filter(|part| *part == note)
            .count() as u64;
        assert_eq!(count, if signed { converted.threads } else { 0 });
    }
}

/// A dump whose kernel map names one page again and again: nothing can be merged.
fn one_page_mapped(times: u64) -> Minidump {
    let mut dump = Minidump::new(Arch::Amd64, 3);
    dump.dump_avail = vec![(0, 0x40_0000)];
    dump.pages.insert(0x1000, vec![0x5a; 4096]);
    let tables = times.div_ceil(512);
    let mut directory = Vec::new();
    for table in 0..tables {
        let pa = 0x10_0000 + table * 4096;
        let entries = 512.min(times - table * 512);
        let entry = 0x8000_0000_0000_1003_u64.to_le_bytes();
        dump.pages
            .insert(pa, entry.repeat(usize::try_from(entries).unwrap()));
        directory.extend_from_slice(&(pa | 3).to_le_bytes());
    }
    directory.resize(directory.len().next_multiple_of(4096), 0);
    dump.page_tables = directory;
    dump
}

#[test]
fn more_segments_than_a_16_bit_count_can_tell_are_all_found() {
    let dir = tempfile::tempdir().unwrap();
    let (dump, core) = (dir.path().join("vmcore.0"), dir.path().join("core"));
    let times = 70_000;
    std::fs::write(&dump, one_page_mapped(times).build()).unwrap();
    let session = open(&dump, KernelChoice::None);
    let converted = elf::convert(&session, &core, false, |_, _| {}).unwrap();
    // The direct map adds one for the page, and one for the tables, which are adjacent.
    assert_eq!(converted.segments, times + 2);
    let again = open(&core, KernelChoice::None);
    for number in [0, 1, 65_533, 65_534, 65_535, times - 1] {
        let va = VirtAddr(0xffff_fe00_0000_0000 + number * 4096);
        assert_eq!(
            again.space().unwrap().read_u32(va),
            Ok(0x5a5a_5a5a),
            "{number}"
        );
    }
    let past = VirtAddr(0xffff_fe00_0000_0000 + times * 4096);
    assert!(again.space().unwrap().read_u32(past).is_err());
    if let Some(text) = output_of("readelf", &["-hW", core.to_str().unwrap()]) {
        assert!(text.contains("65535 (70003)"), "{text}");
    }
}

#[test]
fn tables_that_map_more_than_the_dump_has_fill_no_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (dump, core) = (dir.path().join("vmcore.0"), dir.path().join("core"));
    std::fs::write(&dump, one_page_mapped(200_000).build()).unwrap();
    let session = open(&dump, KernelChoice::None);
    let refused = elf::convert(&session, &core, false, |_, _| {});
    assert!(matches!(
        refused,
        Err(ConvertError::TooManySegments {
            segments: 200_002,
            ..
        })
    ));
    assert!(!core.exists());
}

#[test]
fn neighbours_are_merged_and_zeros_are_holes() {
    let dir = tempfile::tempdir().unwrap();
    let (dump, core) = (dir.path().join("vmcore.0"), dir.path().join("core"));
    let mut minidump = Minidump::new(Arch::Amd64, 3);
    minidump.dump_avail = vec![(0, 0x80_0000)];
    for page in 0..256 {
        let content = if page == 128 { 7 } else { 0 };
        minidump.pages.insert(page * 4096, vec![content; 4096]);
    }
    minidump.page_tables = vec![0; 4096];
    std::fs::write(&dump, minidump.build()).unwrap();
    let converted =
        elf::convert(&open(&dump, KernelChoice::None), &core, false, |_, _| {}).unwrap();
    assert_eq!(converted.segments, 1);
    assert_eq!(converted.len_bytes, std::fs::metadata(&core).unwrap().len());
    let again = open(&core, KernelChoice::None);
    let mut page = [0; 8192];
    again
        .space()
        .unwrap()
        .read_exact(VirtAddr(0xffff_f800_0008_0000 - 4096), &mut page)
        .unwrap();
    assert!(page[..4096].iter().all(|byte| *byte == 0));
    assert!(page[4096..].iter().all(|byte| *byte == 7));
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::MetadataExt as _;
        let blocks = std::fs::metadata(&core).unwrap().blocks() * 512;
        assert!(blocks < 128 * 1024, "{blocks} bytes on disk");
    }
}

#[test]
fn a_truncated_dump_gives_what_is_there_and_says_what_is_not() {
    let case = Case::new(&Options::new(Arch::Amd64, 3));
    let whole = case.convert();
    let path = case.path("vmcore.0");
    let len = std::fs::metadata(&path).unwrap().len();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(len - 3 * 4096 - 100).unwrap();
    let cut = elf::convert(&case.open("vmcore.0"), &case.path("cut"), false, |_, _| {}).unwrap();
    assert_eq!(cut.truncated_pages, 3);
    assert_eq!(cut.len_bytes, whole.len_bytes - 3 * 4096 - 100);
    let last = case.machine.truth.pages.last().unwrap();
    let core = case.open("cut");
    let va = VirtAddr(last.direct_map.unwrap());
    assert!(
        core.space().unwrap().read_u32(va).is_err(),
        "it is not in the file"
    );
}

/// Cores of other tools may hold ranges that begin and end anywhere in a page.
#[test]
fn ragged_ranges_read_the_same_in_the_core() {
    let dir = tempfile::tempdir().unwrap();
    let (dump, core) = (dir.path().join("vmcore.0"), dir.path().join("core"));
    let (va, pa) = (0xffff_fe00_0000_0fff, 0x1fff);
    let content: Vec<u8> = (1..=255).cycle().take(0x2345).collect();
    let mut ragged = FullDump::of_memory(Arch::Amd64, &[(0, 0x1000)], &BTreeMap::new());
    ragged.segments[0].p_vaddr = va;
    ragged.segments[0].p_paddr = pa;
    ragged.segments[0].content = content.clone();
    std::fs::write(&dump, ragged.build()).unwrap();
    let session = open(&dump, KernelChoice::None);
    elf::convert(&session, &core, false, |_, _| {}).unwrap();
    for path in [&dump, &core] {
        let session = open(path, KernelChoice::None);
        let mut read = vec![0; content.len() + 1];
        let part = session.space().unwrap().read(VirtAddr(va), &mut read);
        assert_eq!(part.len, content.len());
        assert!(read.starts_with(&content));
        let physical = session.dump().memory().read(PhysAddr(pa), &mut read);
        assert_eq!(physical.len, content.len());
        assert!(read.starts_with(&content));
    }
}

/// PAE has physical addresses that the headers of a 32-bit core cannot hold.
#[test]
fn pages_above_4_gib_read_right_in_a_32_bit_core() {
    let dir = tempfile::tempdir().unwrap();
    let (path, core) = (dir.path().join("vmcore.0"), dir.path().join("core"));
    let mut dump = Minidump::new(Arch::I386, 2);
    (dump.kernbase, dump.paemode) = (0xc000_0000, 1);
    dump.dump_avail = vec![(0, 0x10_0000), (1 << 32, (1 << 32) + 0x10_0000)];
    dump.page_tables = vec![0; 4096];
    let pages = [
        (3u64, (1u64 << 32) + 0x5000),
        (4, 0x5000),
        (7, (1 << 32) + 0x9000),
    ];
    for (index, pa) in pages {
        let at = usize::try_from(8 * index).unwrap();
        dump.page_tables[at..at + 8].copy_from_slice(&(pa | 0x63).to_le_bytes());
        let text = format!("page {pa:#x} ").repeat(200);
        dump.pages.insert(pa, text.into_bytes());
    }
    std::fs::write(&path, dump.build()).unwrap();
    let session = open(&path, KernelChoice::None);
    elf::convert(&session, &core, false, |_, _| {}).unwrap();
    let core = open(&core, KernelChoice::None);
    for (index, pa) in pages {
        let va = VirtAddr(0xc000_0000 + index * 4096);
        let expected = format!("page {pa:#x} ");
        for session in [&session, &core] {
            let mut found = vec![0; expected.len()];
            session.space().unwrap().read_exact(va, &mut found).unwrap();
            assert_eq!(found, expected.as_bytes());
        }
    }
    // Those below have their physical address still.
    let mut found = [0; 12];
    let read = core.dump().memory().read(PhysAddr(0x5000), &mut found);
    assert_eq!(read.error, None);
    assert_eq!(&found, b"page 0x5000 ");
}

#[test]
fn a_full_dump_without_its_kernel_is_refused_and_leaves_no_file() {
    let case = Case::new(&Options::full(Arch::Amd64));
    let session = open(&case.path("vmcore.0"), KernelChoice::None);
    let core = case.path("core");
    let error = elf::convert(&session, &core, false, |_, _| {}).unwrap_err();
    assert!(matches!(error, ConvertError::Session(_)), "{error}");
    assert!(!core.exists());
}

#[test]
fn a_core_that_exists_is_kept() {
    let case = Case::new(&Options::new(Arch::Riscv64, 2));
    std::fs::write(case.path("core"), b"precious").unwrap();
    let session = case.open("vmcore.0");
    let error = elf::convert(&session, &case.path("core"), false, |_, _| {}).unwrap_err();
    assert!(matches!(error, ConvertError::Output(_)), "{error}");
    assert_eq!(std::fs::read(case.path("core")).unwrap(), b"precious");
    elf::convert(&session, &case.path("core"), true, |_, _| {}).unwrap();
    assert!(
        std::fs::read(case.path("core"))
            .unwrap()
            .starts_with(b"\x7fELF")
    );
}
