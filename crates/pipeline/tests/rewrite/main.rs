//! Full dumps and hypervisors' files as minidumps and full dumps: every page that a model predicts,
//! no other, and everything that was true before.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests may fail")]

mod hypervisor;

use hypervisor::{VirtualCpu, qemu_file};
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
use vmcore_pipeline::rewrite::{self, Choice, RewriteError, Rewritten, TargetFormat};
use vmcore_synth::elf::FullDump;
use vmcore_synth::machine::{CRASH_TIME, DumpFile, DumpKind, Machine, Options};
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

    fn convert(&self, from: &str, target: TargetFormat, to: &str) -> Rewritten {
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

fn convert(session: &Session, target: TargetFormat, to: &Path) -> Result<Rewritten, RewriteError> {
    rewrite::convert(session, target, to, false, |_, _| {})
}

/// Full dumps of the architectures that have minidumps, too.
fn full_machines() -> impl Iterator<Item = (String, Options)> {
    let all = machines::all().into_iter();
    all.filter(|(_, options)| options.kind == DumpKind::Full && options.arch.newest_version() > 0)
}

#[test]
fn what_kernels_never_wrote_is_refused_by_the_architectures_name() {
    for (arch, target) in [
        (Arch::Powerpc, TargetFormat::Minidump),
        (Arch::Powerpc, TargetFormat::Full),
        (Arch::Sparc64, TargetFormat::Minidump),
        (Arch::Sparc64, TargetFormat::Full),
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
    let read = session.dump().memory().read(PhysAddr(pa), &mut bytes);
    read.exact().is_ok().then_some(bytes)
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
        let read = session.dump().memory().read(PhysAddr(pa), &mut raw);
        assert_eq!(read.error, None);
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
            assert_eq!((read.len, read.error), (PAGE, None), "{name}: {va:#x}");
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
        let done = case.convert("vmcore.0", TargetFormat::Minidump, "mini");
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
        kind: DumpKind::Mini,
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
        let done = case.convert("vmcore.0", TargetFormat::Minidump, "mini");
        assert_eq!(done.choice, Some(Choice::KernelBitmap), "{name}");
        assert_eq!(done.pages, expected.len() as u64, "{name}");
        check(&name, &case, "mini", &expected);
    }
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

#[test]
fn conversions_keep_the_id_and_name_their_source() {
    let case = Case::new(&Options::full(Arch::Amd64));
    let first = case.convert("vmcore.0", TargetFormat::Full, "full");
    let second = case.convert("full", TargetFormat::Minidump, "mini");
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
    for (target, name) in [
        (TargetFormat::Minidump, "mini"),
        (TargetFormat::Full, "full"),
    ] {
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
    let error = fails(&bare, TargetFormat::Minidump);
    assert!(
        matches!(error, RewriteError::Session(SessionError::NoKernel { .. })),
        "{error}"
    );
    let mini = Case::new(&Options::new(Arch::Amd64, 3));
    for target in [TargetFormat::Minidump, TargetFormat::Full] {
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
    let error = fails(&bare, TargetFormat::Minidump);
    assert!(matches!(error, RewriteError::NoKernelMap), "{error}");
    std::fs::write(case.path("there"), b"mine").unwrap();
    let error = convert(
        &case.open("vmcore.0"),
        TargetFormat::Full,
        &case.path("there"),
    )
    .unwrap_err();
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
    let done = rewrite::convert(
        &session,
        TargetFormat::Minidump,
        &to,
        false,
        |done, total| {
            assert!(done >= last.0 && done <= total);
            last = (done, total);
        },
    );
    let done = done.unwrap();
    assert_eq!(last, (done.len_bytes, done.len_bytes));
    let metadata = std::fs::metadata(&to).unwrap();
    assert_eq!(
        (metadata.permissions().mode() & 0o777, metadata.len()),
        (0o600, done.len_bytes)
    );
}
