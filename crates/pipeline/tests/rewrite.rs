//! Full dumps and hypervisors' files as minidumps and full dumps: every page that a model predicts,
//! no other, and everything that was true before.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests may fail")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use vmcore::format::addr::{PhysAddr, VirtAddr};
use vmcore::session::KernelChoice;
use vmcore::verify::{Verdict, verify};
use vmcore::{OpenOptions, Session, SessionError, log, process};
use vmcore_format::extension::{Cpu, CpuState, LOCATOR_LEN, Locator, RecordKind, records};
use vmcore_format::identity::{Identity, Origin, Trap};
use vmcore_pipeline::output::OutputError;
use vmcore_pipeline::rewrite::{self, Choice, RewriteError, Rewritten, Target};
use vmcore_synth::elf::FullDump;
use vmcore_synth::machine::{CRASH_TIME, DumpFile, Kind, Machine, Options};
use vmcore_synth::{Arch, machines};

const PAGE: usize = 4096;

/// A machine's full dump and kernel, which may be changed before they are written.
struct Case {
    dir: TempDir,
    machine: Machine,
}

impl Case {
    fn new(options: &Options) -> Self {
        let case = Self {
            dir: tempfile::tempdir().unwrap(),
            machine: Machine::new(options),
        };
        case.save();
        case
    }

    fn save(&self) {
        std::fs::write(self.path("vmcore.0"), self.machine.dump.build()).unwrap();
        std::fs::write(self.path("kernel"), self.machine.kernel.build()).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn open(&self, core: &str) -> Session {
        open(&self.path(core), KernelChoice::Given(&self.path("kernel"))).unwrap()
    }

    fn convert(&self, from: &str, target: Target, to: &str) -> Rewritten {
        convert(&self.open(from), target, &self.path(to)).unwrap()
    }

    fn full(&mut self) -> &mut FullDump {
        match &mut self.machine.dump {
            DumpFile::Full(dump) => dump,
            DumpFile::Mini(_) | DumpFile::Regions(_) => panic!("a full dump"),
        }
    }
}

fn open(path: &Path, kernel: KernelChoice<'_>) -> Result<Session, SessionError> {
    Session::open(path, kernel, &OpenOptions::default())
}

fn convert(session: &Session, target: Target, to: &Path) -> Result<Rewritten, RewriteError> {
    rewrite::convert(session, target, to, false, |_, _| {})
}

/// Full dumps of the architectures that have minidumps, too.
fn full_machines() -> impl Iterator<Item = (String, Options)> {
    let all = machines::all().into_iter();
    all.filter(|(_, options)| options.kind == Kind::Full && options.arch.newest_version() > 0)
}

#[test]
fn what_kernels_never_wrote_is_refused_by_the_architectures_name() {
    for (arch, target) in [
        (Arch::Powerpc, Target::Minidump),
        (Arch::Powerpc, Target::Full),
        (Arch::Sparc64, Target::Minidump),
        (Arch::Sparc64, Target::Full),
    ] {
        let case = Case::new(&Options::full(arch));
        let session = case.open("vmcore.0");
        let error = convert(&session, target, &case.path("out")).unwrap_err();
        assert!(
            error.to_string().contains(session.dump().arch().name()),
            "{arch:?}: {error}"
        );
        assert!(!case.path("out").exists());
    }
}

fn page(session: &Session, pa: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; PAGE];
    let (_, absence) = session.dump().memory().read(PhysAddr(pa), &mut bytes);
    absence.is_none().then_some(bytes)
}

/// Pages of the machine's RAM with an address in the kernel map.
fn mapped(machine: &Machine) -> BTreeSet<u64> {
    let pages = machine.truth.pages.iter();
    pages
        .filter(|page| !page.kernel_map.is_empty())
        .map(|page| page.pa)
        .collect()
}

/// Page tables of amd64's last level that lead to the addresses of the kernel map: a walk of its own.
fn last_level_tables(case: &Case) -> BTreeSet<u64> {
    let session = case.open("vmcore.0");
    let word = |pa: u64| {
        let mut raw = [0; 8];
        let (_, absence) = session.dump().memory().read(PhysAddr(pa), &mut raw);
        assert_eq!(absence, None);
        u64::from_le_bytes(raw)
    };
    let root = session.symbol("KPML4phys").unwrap().address;
    let root = session.space().unwrap().read_u64(root).unwrap();
    let mut tables = BTreeSet::new();
    let pages = case.machine.truth.pages.iter();
    for va in pages.flat_map(|page| &page.kernel_map) {
        let mut table = root;
        for shift in [39, 30, 21] {
            let entry = word(table + (va >> shift & 511) * 8);
            if entry & 0x80 != 0 {
                break;
            }
            table = entry & 0x000f_ffff_ffff_f000;
            if shift == 21 {
                tables.insert(table);
            }
        }
    }
    tables
}

/// Checks a converted dump: exactly `expected` of RAM, with the right contents, and all that is true
/// about the machine as far as its pages are there.
fn check(name: &str, case: &Case, to: &str, expected: &BTreeSet<u64>) {
    let (old, new) = (case.open("vmcore.0"), case.open(to));
    let truth = &case.machine.truth;
    for known in &truth.pages {
        let found = page(&new, known.pa);
        assert_eq!(
            found.is_some(),
            expected.contains(&known.pa),
            "{name}: {:#x}",
            known.pa
        );
        let Some(found) = found else { continue };
        assert!(Some(&found) == page(&old, known.pa).as_ref(), "{name}");
        for va in known.kernel_map.iter().chain(&known.direct_map) {
            let mut bytes = vec![0; PAGE];
            let read = new.space().unwrap().read(VirtAddr(*va), &mut bytes);
            assert_eq!((read.len, read.fault), (PAGE, None), "{name}: {va:#x}");
            assert!(bytes == found, "{name}: {va:#x}");
        }
    }
    for (va, value) in &truth.values {
        let mut bytes = vec![0; value.len()];
        new.space()
            .unwrap()
            .read_exact(VirtAddr(*va), &mut bytes)
            .unwrap();
        assert_eq!(&bytes, value, "{name}: {va:#x}");
    }
    for va in &truth.unmapped {
        let read = new.space().unwrap().read_u32(VirtAddr(*va));
        assert!(read.is_err(), "{name}: {va:#x} is not mapped");
    }
    assert_eq!(log::read(&new).unwrap().text(), truth.log, "{name}");
    assert_eq!(
        process::list(&new).unwrap(),
        process::list(&old).unwrap(),
        "{name}"
    );
    let checks = verify(&new, |_| {}).unwrap().checks;
    let bad: Vec<_> = checks
        .iter()
        .filter(|check| check.verdict == Verdict::Bad)
        .collect();
    assert!(bad.is_empty(), "{name}: {bad:?}");
}

#[test]
fn every_full_dump_becomes_a_minidump_that_says_the_same() {
    for (name, options) in full_machines() {
        let case = Case::new(&options);
        let done = case.convert("vmcore.0", Target::Minidump, "mini");
        let all: BTreeSet<u64> = case
            .machine
            .truth
            .pages
            .iter()
            .map(|page| page.pa)
            .collect();
        // These kernels have no bitmap: i386 has no direct map that would need one.
        let (choice, expected, version) = match options.arch {
            Arch::I386 => (Choice::KernelMap, mapped(&case.machine), 2),
            _ => (Choice::AllRam, all, 3),
        };
        assert_eq!(done.choice, Some(choice), "{name}");
        assert_eq!(done.pages, expected.len() as u64, "{name}");
        assert_eq!(done.version, Some(version), "{name}");
        assert_eq!((done.missing_pages, done.damage), (0, 0), "{name}");
        assert_eq!(done.cpus, options.cpus, "{name}");
        check(&name, &case, "mini", &expected);
    }
}

/// Gives the kernel of a full dump the bitmap that it had, by what its minidump would hold. Returns
/// the pages of that minidump, and the pages that are mapped but not to be dumped.
fn add_bitmap(case: &mut Case, options: &Options, is_old: bool) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let mini = Machine::new(&Options {
        kind: Kind::Mini,
        ..options.clone()
    });
    let tables: BTreeSet<u64> = mini.truth.table_pages.iter().copied().collect();
    let marked: BTreeSet<u64> = (mini.truth.pages.iter())
        .filter(|page| page.kernel_map.is_empty() && !tables.contains(&page.pa))
        .map(|page| page.pa)
        .collect();
    let ranges: Vec<(u64, u64)> = (case.full().segments.iter())
        .map(|segment| {
            (
                segment.p_paddr,
                segment.p_paddr + segment.content.len() as u64,
            )
        })
        .collect();
    // Variables and bitmap go into pages that are filled with text.
    let texts = case.machine.truth.values.iter();
    let free: Vec<u64> = texts
        .filter(|(_, value)| value.starts_with(b"This is the page"))
        .map(|(va, _)| *va)
        .collect();
    let (variables, bits_at) = (free[0] + 1024, free[2]);
    let word = usize::try_from(options.arch.word_bytes()).unwrap();
    let mut avail = Vec::new();
    let wide = if is_old && options.arch == Arch::I386 && !options.pae {
        4
    } else {
        8
    };
    for address in ranges
        .iter()
        .flat_map(|(start, end)| [*start, *end])
        .chain([0, 0])
    {
        avail.extend_from_slice(&address.to_le_bytes()[..wide]);
    }
    let mut number = 0;
    let mut bits = vec![0u8; PAGE];
    for (start, end) in &ranges {
        for pa in (*start..*end).step_by(PAGE) {
            let bit = if is_old { pa / PAGE as u64 } else { number };
            number += 1;
            let at = usize::try_from(bit / 8).unwrap();
            if marked.contains(&pa) {
                bits[at] |= 1 << (bit % 8);
            }
        }
    }
    bits.truncate(2048);
    let kernel = &mut case.machine.kernel;
    kernel.add_object("vm_page_dump", variables, word as u64);
    kernel.add_object("dump_avail", variables + 16, avail.len() as u64);
    let size = if is_old {
        "vm_page_dump_size"
    } else {
        "vm_page_dump_pages"
    };
    kernel.add_object(size, variables + 8, word as u64);
    poke(case, bits_at + 1024, &bits);
    poke(case, variables, &(bits_at + 1024).to_le_bytes()[..word]);
    poke(case, variables + 8, &2048u32.to_le_bytes());
    poke(case, variables + 16, &avail);
    case.save();
    let chosen: BTreeSet<u64> = mini.truth.pages.iter().map(|page| page.pa).collect();
    let secret = mapped(&case.machine).difference(&chosen).copied().collect();
    (chosen, secret)
}

/// Changes the memory of a full dump.
fn poke(case: &mut Case, va: u64, bytes: &[u8]) {
    let base = va & !(PAGE as u64 - 1);
    let page = case.machine.truth.pages.iter();
    let page = page
        .into_iter()
        .find(|page| page.kernel_map.contains(&base));
    let pa = page.unwrap().pa + (va - base);
    for segment in &mut case.full().segments {
        let Some(inside) = pa.checked_sub(segment.p_paddr) else {
            continue;
        };
        let at = usize::try_from(inside).unwrap();
        if let Some(place) = segment.content.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }
}

#[test]
fn the_kernels_bitmap_decides_about_the_direct_map() {
    for (name, options) in full_machines() {
        let mut case = Case::new(&options);
        let is_old = options.version == 1;
        let (mut expected, secret) = add_bitmap(&mut case, &options, is_old);
        // No symbol tells which mapped pages their owners marked as secret.
        assert_eq!(secret.len(), 1, "{name}");
        expected.extend(secret);
        if options.arch == Arch::Amd64 {
            let tables = last_level_tables(&case);
            assert!(is_old || tables.is_subset(&expected), "{name}");
            expected.extend(tables);
        }
        let done = case.convert("vmcore.0", Target::Minidump, "mini");
        assert_eq!(done.choice, Some(Choice::KernelBitmap), "{name}");
        assert_eq!(done.pages, expected.len() as u64, "{name}");
        check(&name, &case, "mini", &expected);
    }
}

/// A CPU of a virtual machine.
struct VirtualCpu {
    cs: u32,
    rip: u64,
    cr3: u64,
    cr4: u64,
}

/// The memory file that QEMU's `dump-guest-memory` makes of a machine: notes first, then RAM, and a
/// device's memory, which is no RAM of the kernel's.
fn qemu_file(dump: &FullDump, cpus: &[VirtualCpu]) -> Vec<u8> {
    let mut notes = Vec::new();
    let mut note = |owner: &[u8; 4], kind: u32, contents: &[u8]| {
        for number in [5, contents.len().try_into().unwrap(), kind] {
            notes.extend_from_slice(&u32::to_le_bytes(number));
        }
        notes.extend_from_slice(owner);
        notes.extend_from_slice(&[0; 4]);
        notes.extend_from_slice(contents);
    };
    let is_wide = dump.arch == Arch::Amd64;
    for _ in cpus {
        note(b"CORE", 1, &vec![0x77; if is_wide { 336 } else { 144 }]);
    }
    for (number, cpu) in (1u64..).zip(cpus) {
        let mut state = vec![0; 440];
        let mut put = |at: usize, value: u64| {
            state[at..at + 8].copy_from_slice(&value.to_le_bytes());
        };
        put(0, 1 | 440 << 32);
        for register in 0..16 {
            put(8 + register * 8, number << 16 | register as u64);
        }
        put(136, cpu.rip);
        put(152, cpu.cs.into());
        put(392, 0x8000_0011);
        put(392 + 24, cpu.cr3);
        put(392 + 32, cpu.cr4);
        note(b"QEMU", 0, &state);
    }
    let device = (0xfd00_0000, vec![0xdd; 2 * PAGE]);
    let parts: Vec<(u64, &[u8])> = (dump.segments.iter())
        .map(|segment| (segment.p_paddr, segment.content.as_slice()))
        .chain([(device.0, device.1.as_slice())])
        .collect();
    let (ehdr, phdr) = if is_wide { (64, 56) } else { (52, 32) };
    let mut offset = ehdr + phdr * (parts.len() + 1);
    let mut headers = vec![(4u32, offset as u64, 0, notes.len() as u64)];
    offset += notes.len();
    for (pa, content) in &parts {
        headers.push((1, offset as u64, *pa, content.len() as u64));
        offset += content.len();
    }
    let mut file = vec![0x7f, b'E', b'L', b'F', if is_wide { 2 } else { 1 }, 1, 1, 0];
    file.resize(16, 0);
    let half = |file: &mut Vec<u8>, value: usize| {
        file.extend_from_slice(&u16::try_from(value).unwrap().to_le_bytes());
    };
    half(&mut file, 4);
    half(&mut file, if is_wide { 62 } else { 3 });
    file.extend_from_slice(&1u32.to_le_bytes());
    let width = if is_wide { 8 } else { 4 };
    for value in [0, ehdr as u64, 0] {
        file.extend_from_slice(&value.to_le_bytes()[..width]);
    }
    file.extend_from_slice(&[0; 4]);
    for value in [ehdr, phdr, headers.len(), 0, 0, 0] {
        half(&mut file, value);
    }
    for (kind, offset, pa, len) in headers {
        file.extend_from_slice(&kind.to_le_bytes());
        if is_wide {
            file.extend_from_slice(&[0; 4]);
        }
        for value in [offset, pa, pa, len, len] {
            file.extend_from_slice(&value.to_le_bytes()[..width]);
        }
        file.extend_from_slice(&[0; 8]);
    }
    assert_eq!(file.len(), ehdr + phdr * (parts.len() + 1));
    file.extend_from_slice(&notes);
    parts
        .iter()
        .for_each(|(_, content)| file.extend_from_slice(content));
    file
}

/// The records of a dump's extension, and its identity.
fn extension(path: &Path) -> (Identity, Vec<(CpuState, Vec<u64>)>) {
    let file = std::fs::read(path).unwrap();
    let locator = file.last_chunk::<LOCATOR_LEN>().unwrap();
    let locator = Locator::parse(locator).unwrap();
    let start = usize::try_from(locator.offset.0).unwrap();
    let len = usize::try_from(locator.len_bytes).unwrap();
    let records: Vec<_> = records(&file[start..start + len])
        .map(Result::unwrap)
        .collect();
    let payload = |kind| {
        records
            .iter()
            .find(|record| record.kind == kind)
            .unwrap()
            .payload
    };
    let (_, cpus) = Cpu::parse_all(payload(RecordKind::Cpus)).unwrap();
    let cpus = cpus
        .map(|cpu| (cpu.state, cpu.registers().collect()))
        .collect();
    let identity = Identity::parse(payload(RecordKind::Identity)).unwrap();
    assert_eq!(Identity::parse(&file[1024..]), Ok(identity));
    (identity, cpus)
}

/// The root of a machine's page tables, and `CR4`, by what its kernel says.
fn root(case: &Case, options: &Options) -> (u64, u64) {
    let session = case.open("vmcore.0");
    let names = match (options.arch, options.la57, options.pae, options.version) {
        (Arch::Amd64, true, ..) => ("KPML5phys", 0x1020),
        (Arch::Amd64, ..) => ("KPML4phys", 0x20),
        (_, _, true, _) => ("IdlePDPT", 0x20),
        (_, _, false, 1) => ("IdlePTD", 0),
        _ => ("IdlePTD_nopae", 0),
    };
    let address = session.symbol(names.0).unwrap().address;
    let root = session.space().unwrap().read_u32(address).unwrap();
    (root.into(), names.1)
}

#[test]
fn a_hypervisors_file_becomes_a_minidump_by_the_root_of_a_cpu() {
    for (name, options) in full_machines() {
        let mut case = Case::new(&options);
        let (cr3, cr4) = root(&case, &options);
        let cpus = [
            // In a process, with page tables that lack the kernel.
            VirtualCpu {
                cs: 0x43,
                rip: 0x20_1000,
                cr3: 0x1000,
                cr4,
            },
            VirtualCpu {
                cs: 0x20,
                rip: 0x1234_5678,
                cr3: cr3 | 0x18,
                cr4,
            },
        ];
        std::fs::write(case.path("qemu"), qemu_file(case.full(), &cpus)).unwrap();
        let bare = open(&case.path("qemu"), KernelChoice::None).unwrap();
        let done = convert(&bare, Target::Minidump, &case.path("mini")).unwrap();
        assert_eq!(done.cpus, 2, "{name}");
        assert_eq!(
            done.message_buffer_bytes, 0,
            "{name}: only symbols lead there"
        );
        let new = case.open("mini");
        for known in &case.machine.truth.pages {
            let is_mapped = !known.kernel_map.is_empty();
            let expected = options.arch == Arch::Amd64 || is_mapped;
            let found = page(&new, known.pa);
            assert_eq!(found.is_some(), expected, "{name}: {:#x}", known.pa);
            for va in &known.kernel_map {
                let located = new.space().unwrap().locate(VirtAddr(*va)).unwrap();
                assert_eq!(located.0.leaf.pa, PhysAddr(known.pa), "{name}: {va:#x}");
            }
        }
        let (identity, cpus) = extension(&case.path("mini"));
        assert_eq!(identity.origin, Origin::Hypervisor, "{name}");
        let id = bare.dump().id().unwrap();
        assert_eq!(done.dump_id, id, "{name}: it gets the id of its file");
        assert_eq!(identity.dump_id, identity.source_id, "{name}");
        assert!(cpus.iter().all(|cpu| cpu.0 == CpuState::Stopped), "{name}");
        let (pc, cr3_at) = if options.arch == Arch::Amd64 {
            (16, 29)
        } else {
            (8, 18)
        };
        let second = &cpus[1].1;
        assert_eq!(
            (second[pc], second[cr3_at]),
            (0x1234_5678, cr3 | 0x18),
            "{name}"
        );
        // rax, rcx, rdx, rbx, rsp: QEMU has another order.
        let general: Vec<u64> = second[..5].iter().map(|value| value & 0xffff).collect();
        assert_eq!(general, [0, 2, 3, 1, 6], "{name}");
    }
}

#[test]
fn with_symbols_a_hypervisors_file_gives_the_same_minidump_as_a_full_dump() {
    for (name, options) in full_machines() {
        let mut case = Case::new(&options);
        add_bitmap(&mut case, &options, options.version == 1);
        let cpu = VirtualCpu {
            cs: 0x43,
            rip: 0,
            cr3: 0x1000,
            cr4: 0,
        };
        std::fs::write(case.path("qemu"), qemu_file(case.full(), &[cpu])).unwrap();
        let one = case.convert("vmcore.0", Target::Minidump, "one");
        let two = case.convert("qemu", Target::Minidump, "two");
        assert_eq!((one.pages, one.choice), (two.pages, two.choice), "{name}");
        let (one, two) = (case.path("one"), case.path("two"));
        let (mut one, mut two) = (std::fs::read(one).unwrap(), std::fs::read(two).unwrap());
        for file in [&mut one, &mut two] {
            let locator = Locator::parse(file.last_chunk().unwrap()).unwrap();
            file.truncate(usize::try_from(locator.offset.0).unwrap());
            file[1024..1024 + 192].fill(0);
        }
        assert!(
            one == two,
            "{name}: outside identity and extension they are equal"
        );
    }
}

#[test]
fn a_full_dump_of_a_hypervisors_file_is_what_the_kernel_would_have_written() {
    for (name, options) in full_machines() {
        let mut case = Case::new(&options);
        add_bitmap(&mut case, &options, options.version == 1);
        let cpu = VirtualCpu {
            cs: 0x20,
            rip: 0,
            cr3: 0,
            cr4: 0,
        };
        std::fs::write(case.path("qemu"), qemu_file(case.full(), &[cpu])).unwrap();
        let done = case.convert("qemu", Target::Full, "full");
        assert_eq!(
            (done.missing_pages, done.damage, done.choice),
            (0, 0, None),
            "{name}"
        );
        let mut expected = case.full().clone();
        if options.arch == Arch::Amd64 && expected.delta.is_none() {
            expected.delta = Some(vmcore_synth::elf::Delta {
                p_vaddr: 0xffff_ffff_8000_0000,
                p_paddr: 0x20_0000 + options.load_offset,
                p_align: 0x20_0000,
            });
        }
        let expected = expected.build();
        let mut found = std::fs::read(case.path("full")).unwrap();
        found.truncate(expected.len());
        found[1024..1024 + 192].fill(0);
        assert!(found == expected, "{name}");
        assert_eq!(extension(&case.path("full")).0.origin, Origin::Hypervisor);
        // What is not known to be RAM is kept, too, if no kernel file says so.
        let bare = open(&case.path("qemu"), KernelChoice::None).unwrap();
        let all = convert(&bare, Target::Full, &case.path("all")).unwrap();
        assert_eq!(all.pages, done.pages + 2, "{name}");
    }
}

#[test]
fn conversions_keep_the_id_and_name_their_source() {
    let case = Case::new(&Options::full(Arch::Amd64));
    let first = case.convert("vmcore.0", Target::Full, "full");
    let second = case.convert("full", Target::Minidump, "mini");
    assert_eq!(first.dump_id, case.open("vmcore.0").dump().id().unwrap());
    assert_eq!(second.dump_id, first.dump_id);
    let (identity, cpus) = extension(&case.path("mini"));
    let source = case.open("full").dump().id().unwrap();
    let source = u128::from_str_radix(&source, 16).unwrap().to_be_bytes();
    assert_eq!(
        (identity.origin, identity.source_id),
        (Origin::FullDump, source)
    );
    assert_eq!(identity.build_id.bytes(), case.machine.truth.build_id);
    assert_eq!(identity.trap, Trap::Panic);
    assert_eq!(identity.time_seconds, i64::from(CRASH_TIME));
    // The registers come from the first conversion's extension.
    assert_eq!(cpus, extension(&case.path("full")).1);
    let dumping: Vec<_> = (cpus.iter())
        .filter(|cpu| cpu.0 == CpuState::Dumping)
        .collect();
    let threads = case
        .machine
        .truth
        .processes
        .iter()
        .flat_map(|process| &process.threads);
    let crashed = threads
        .into_iter()
        .find(|thread| thread.tid == case.machine.truth.crashed_tid);
    assert_eq!(dumping.len(), 1);
    assert_eq!(dumping[0].1[16], crashed.unwrap().pc);
}

#[test]
fn what_a_truncated_dump_lacks_is_left_out_and_counted() {
    let mut case = Case::new(&Options::full(Arch::Amd64));
    let len = case.machine.dump.build().len() as u64;
    std::fs::copy(case.path("vmcore.0"), case.path("whole")).unwrap();
    let whole = case.open("whole");
    case.full().truncate_to = Some(len - 3 * PAGE as u64 - 100);
    case.save();
    for (target, name) in [(Target::Minidump, "mini"), (Target::Full, "full")] {
        let done = case.convert("vmcore.0", target, name);
        assert_eq!((done.missing_pages, done.damage), (3, 1));
        let pages = case.machine.truth.pages.len() as u64;
        assert_eq!(done.pages, pages - 3);
        // Of the page that the file ends in the beginning is kept.
        let cut = case.machine.truth.pages.iter().rev().nth(3).unwrap().pa;
        let mut kept = page(&whole, cut).unwrap();
        kept[PAGE - 100..].fill(0);
        assert_eq!(page(&case.open(name), cut), Some(kept));
    }
}

#[test]
fn what_cannot_be_converted_leaves_no_file() {
    let case = Case::new(&Options::full(Arch::Amd64));
    let fails = |session: &Session, target| {
        let error = convert(session, target, &case.path("out")).unwrap_err();
        assert!(!case.path("out").exists());
        let left = std::fs::read_dir(case.dir.path()).unwrap();
        assert!(
            left.flatten()
                .all(|entry| !entry.file_name().to_string_lossy().contains(".part"))
        );
        error
    };
    let bare = open(&case.path("vmcore.0"), KernelChoice::None).unwrap();
    let error = fails(&bare, Target::Minidump);
    assert!(
        matches!(error, RewriteError::Session(SessionError::NoKernel { .. })),
        "{error}"
    );
    let mini = Case::new(&Options::new(Arch::Amd64, 3));
    for target in [Target::Minidump, Target::Full] {
        let error = fails(&mini.open("vmcore.0"), target);
        assert!(matches!(error, RewriteError::IsMinidump(_)), "{error}");
    }
    let mut qemu = Case::new(&Options::full(Arch::Amd64));
    let cpu = VirtualCpu {
        cs: 0x20,
        rip: 0,
        cr3: 0x5000,
        cr4: 0x20,
    };
    let file = qemu_file(qemu.full(), &[cpu]);
    std::fs::write(qemu.path("qemu"), file).unwrap();
    let bare = open(&qemu.path("qemu"), KernelChoice::None).unwrap();
    let error = fails(&bare, Target::Minidump);
    assert!(matches!(error, RewriteError::NoKernelMap), "{error}");
    std::fs::write(case.path("there"), b"mine").unwrap();
    let error = convert(&case.open("vmcore.0"), Target::Full, &case.path("there")).unwrap_err();
    assert!(
        matches!(error, RewriteError::Output(OutputError::Exists { .. })),
        "{error}"
    );
    assert_eq!(std::fs::read(case.path("there")).unwrap(), b"mine");
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_what_was_converted() {
    use std::os::unix::fs::PermissionsExt as _;
    let case = Case::new(&Options::full(Arch::I386));
    let mut last = (0, 0);
    let to = case.path("mini");
    let session = case.open("vmcore.0");
    let done = rewrite::convert(&session, Target::Minidump, &to, false, |done, total| {
        assert!(done >= last.0 && done <= total);
        last = (done, total);
    });
    let done = done.unwrap();
    assert_eq!(last, (done.len_bytes, done.len_bytes));
    let metadata = std::fs::metadata(&to).unwrap();
    assert_eq!(
        (metadata.permissions().mode() & 0o777, metadata.len()),
        (0o600, done.len_bytes)
    );
}
