//! Whole machines: every page, variable, process and register is found.

use crate::common::{locate, session};
use std::collections::BTreeMap;
use std::sync::OnceLock;
use vmcore::dump::Warning;
use vmcore::format::addr::VirtAddr;
use vmcore::format::arch::Arch;
use vmcore::kernel::Evidence;
use vmcore::memory::PageReadError;
use vmcore::pages::PageMap;
use vmcore::process::{self, PcbSource};
use vmcore::session::KernelMatch;
use vmcore::translation::TranslationError;
use vmcore::{Session, info, log};
use vmcore_synth::elf::Kernel;
use vmcore_synth::machine::{DumpFile, Machine, Options, PANIC, Pcb, Truth, UPTIME_TEXT};
use vmcore_synth::machines;

/// A ready-made machine, and the bytes of its dump and its kernel.
struct Made {
    name: String,
    machine: Machine,
    dump: Vec<u8>,
    kernel: Vec<u8>,
}

fn make((name, options): (String, Options)) -> Made {
    let machine = Machine::new(&options);
    let (dump, kernel) = (machine.dump.build(), machine.kernel.build());
    Made {
        name,
        machine,
        dump,
        kernel,
    }
}

/// Runs a check on every ready-made machine.
fn each(check: impl Fn(&str, &Machine, &Session)) {
    static MADE: OnceLock<Vec<Made>> = OnceLock::new();
    let all = || machines::all().into_iter().chain(machines::one_to_one());
    for made in MADE.get_or_init(|| all().map(make).collect()) {
        let session = session(&made.dump, Some(&made.kernel));
        check(&made.name, &made.machine, &session);
    }
}

#[test]
fn every_page_of_a_machine_has_the_addresses_that_it_had() {
    each(|name, machine, session| {
        let map = PageMap::build(session.space().unwrap()).unwrap();
        assert!(!map.is_cut_short(), "{name}");
        let offsets: BTreeMap<u64, u64> = match &machine.dump {
            DumpFile::Mini(dump) => dump.offsets().into_iter().collect(),
            dump => {
                let pages = machine.truth.pages.iter().map(|page| page.pa);
                pages.map(|pa| (pa, dump.offset_of(pa).unwrap())).collect()
            }
        };
        let mut found = BTreeMap::new();
        for page in map.pages() {
            let pa = page.pa().unwrap().0;
            let kernel_map: Vec<u64> = page.mappings().map(|(va, _)| va.0).collect();
            assert_eq!(Some(&page.offset.0), offsets.get(&pa), "{name} {pa:#x}");
            let is_first = found
                .insert(pa, (kernel_map, page.direct_map.map(|va| va.0)))
                .is_none();
            assert!(is_first, "{name}: {pa:#x} comes twice");
        }
        assert_eq!(found.len(), machine.truth.pages.len(), "{name}");
        let is_full = matches!(machine.dump, DumpFile::Full(_));
        for page in &machine.truth.pages {
            let (mut kernel_map, direct_map) = found.remove(&page.pa).unwrap();
            let mut expected = page.kernel_map.clone();
            if is_full {
                // The tables of a full dump hold the direct map too.
                expected.extend(page.direct_map);
                expected.sort_unstable();
                kernel_map.sort_unstable();
                assert_eq!(direct_map, None, "{name}");
            } else {
                assert_eq!(direct_map, page.direct_map, "{name} {:#x}", page.pa);
            }
            assert_eq!(kernel_map, expected, "{name} {:#x}", page.pa);
        }
    });
}

#[test]
fn variables_read_as_they_were_set_and_nothing_else_is_mapped() {
    each(|name, machine, session| {
        let space = session.space().unwrap();
        for (va, value) in &machine.truth.values {
            let mut found = vec![0; value.len()];
            let read = space.read_exact(VirtAddr(*va), &mut found);
            assert_eq!((read, &found), (Ok(()), value), "{name} {va:#x}");
        }
        for (va, pa) in &machine.truth.absent {
            let found = space
                .translation()
                .lookup(space.memory(), VirtAddr(*va))
                .unwrap();
            assert_eq!(found.leaf.pa.0, *pa, "{name} {va:#x}");
            let error = space.locate(VirtAddr(*va)).unwrap_err();
            let TranslationError::PageAbsent { reason, .. } = error else {
                panic!("{name}: {error}")
            };
            assert_eq!(locate(session.dump(), *pa), Err(reason), "{name} {va:#x}");
            let is_known = matches!(
                reason,
                PageReadError::NotRam { .. } | PageReadError::NotDumped { .. }
            );
            assert!(is_known, "{name}: {reason}");
        }
        for va in &machine.truth.unmapped {
            let error = space.locate(VirtAddr(*va)).unwrap_err();
            let is_unmapped = matches!(
                error,
                TranslationError::NotMapped { .. } | TranslationError::NoEntry { .. }
            );
            assert!(is_unmapped, "{name}: {error}");
        }
    });
}

#[test]
fn processes_and_registers_are_those_of_the_machine() {
    each(|name, machine, session| {
        let list = process::list(session).unwrap();
        assert_eq!(list.problems, [""; 0], "{name}");
        assert_eq!(list.crashed_tid, Some(machine.truth.crashed_tid), "{name}");
        assert_eq!(
            list.processes.len(),
            machine.truth.processes.len(),
            "{name}"
        );
        for (found, expected) in list.processes.iter().zip(&machine.truth.processes) {
            let at = format!("{name} pid {}", expected.pid);
            assert_eq!(
                (found.address.0, found.pid),
                (expected.address, expected.pid),
                "{at}"
            );
            assert_eq!(found.comm, expected.comm.as_bytes(), "{at}");
            assert_eq!(found.zombie, expected.is_zombie, "{at}");
            assert_eq!(found.threads.len(), expected.threads.len(), "{at}");
            for (found, expected) in found.threads.iter().zip(&expected.threads) {
                check_thread(&at, found, expected, &machine.truth, session.dump().arch());
            }
        }
    });
}

fn check_thread(
    at: &str,
    found: &process::Thread,
    expected: &vmcore_synth::machine::Thread,
    truth: &Truth,
    arch: Arch,
) {
    let at = format!("{at} tid {}", expected.tid);
    assert_eq!(
        (found.address.0, found.tid),
        (expected.address, expected.tid),
        "{at}"
    );
    assert_eq!(found.name, expected.name.as_bytes(), "{at}");
    assert_eq!(found.cpu, expected.cpu, "{at}");
    assert_eq!(found.crashed, expected.tid == truth.crashed_tid, "{at}");
    let pcb = found.pcb.unwrap();
    assert_eq!(pcb.address().unwrap().0, expected.pcb_address, "{at}");
    let source = match pcb {
        PcbSource::Dumppcb { .. } => Pcb::Dumppcb,
        PcbSource::Stoppcbs { cpu, .. } => {
            assert_eq!(Some(cpu), expected.cpu, "{at}");
            Pcb::Stoppcbs
        }
        PcbSource::TdPcb { stale: false, .. } => Pcb::TdPcb,
        PcbSource::TdPcb { stale: true, .. } => Pcb::Stale,
        PcbSource::Extension { .. } | PcbSource::Recorded => {
            panic!("{at}: no extension has registers here")
        }
    };
    assert_eq!(source, expected.pcb, "{at}");
    if matches!(arch, Arch::Mips | Arch::Mips64 | Arch::Sparc64) {
        // Nobody has told where they are, so nothing is guessed.
        assert!(found.registers.is_none(), "{at}");
        return;
    }
    let names = match arch {
        Arch::Powerpc | Arch::Powerpc64 => ["pc", "r1", "r31"],
        Arch::Amd64 => ["rip", "rsp", "rbp"],
        Arch::I386 => ["eip", "esp", "ebp"],
        Arch::Arm => ["pc", "sp", "r11"],
        _ => ["pc", "sp", "fp"],
    };
    let registers = found.registers.as_ref().unwrap();
    let values = names.map(|name| registers.get(name).unwrap());
    assert_eq!(values, [expected.pc, expected.sp, expected.fp], "{at}");
}

#[test]
fn logs_come_out_in_the_order_of_writing() {
    each(|name, machine, session| {
        let log = log::read(session).unwrap();
        assert_eq!(log.text(), machine.truth.log, "{name}");
        assert_eq!(log.wrapped, name.ends_with("wrapped"), "{name}");
    });
}

#[test]
fn the_facts_of_a_crash_are_found_without_its_info_file() {
    each(|name, machine, session| {
        let info = info::info(session).unwrap();
        let known = |known: Option<info::Known>| known.map(|known| known.value);
        assert_eq!(known(info.panic).as_deref(), Some(PANIC), "{name}");
        let version = machine.truth.version.lines().next();
        assert_eq!(known(info.kernel_version).as_deref(), version, "{name}");
        assert_eq!(
            known(info.crashed).as_deref(),
            Some("2026-03-02 04:11:09 UTC"),
            "{name}"
        );
        assert_eq!(known(info.uptime).as_deref(), Some(UPTIME_TEXT), "{name}");
        assert_eq!(
            info.pages.in_dump,
            Some(machine.truth.pages.len() as u64),
            "{name}"
        );
        let is_virtual = session.dump().arch() == Arch::Powerpc;
        let warnings = is_virtual.then_some(Warning::NoPhysicalAddresses);
        assert_eq!(info.warnings, Vec::from_iter(warnings), "{name}");
        assert!(matches!(
            info.state,
            vmcore::dump::Completeness::Complete { trailing_bytes: 0 }
        ));
        if matches!(machine.dump, DumpFile::Mini(_)) {
            let mapped = machine
                .truth
                .pages
                .iter()
                .filter(|page| !page.kernel_map.is_empty())
                .count();
            assert_eq!(info.pages.kernel_map, Some(mapped as u64), "{name}");
            let tables = machine.truth.table_pages.len() as u64;
            assert_eq!(info.pages.page_tables, Some(tables), "{name}");
        }
    });
}

/// A machine's dump with the kernel file of another, which has no build id.
fn other_kernel(machine: &Machine, kernel: &Kernel) -> Session {
    let kernel = Kernel {
        build_id: None,
        ..kernel.clone()
    };
    session(&machine.dump.build(), Some(&kernel.build()))
}

#[test]
fn the_kernel_of_another_release_is_refused_by_its_version() {
    let machines: Vec<_> = machines::all()
        .into_iter()
        .map(|(name, options)| (name, Machine::new(&options)))
        .collect();
    let mut pairs = 0;
    for (name, machine) in &machines {
        for (other_name, other) in &machines {
            let pair = format!("{name} with the kernel of {other_name}");
            let (dump, file) = (&machine.truth.version, &other.truth.version);
            if machine.kernel.arch != other.kernel.arch
                || machine.kernel.displacement != other.kernel.displacement
                || dump == file
            {
                continue;
            }
            pairs += 1;
            let session = other_kernel(machine, &other.kernel);
            if session.space().is_err() {
                // Without its page tables nothing is compared.
                continue;
            }
            let how = session.kernel_match().unwrap();
            match how {
                KernelMatch::OtherVersion {
                    dump: found,
                    file: own,
                    ..
                } => {
                    assert_eq!(found.lines().next(), dump.lines().next(), "{pair}");
                    assert_eq!(own, file, "{pair}");
                }
                KernelMatch::OtherContents { fact } => assert!(!fact.is_empty(), "{pair}"),
                other => panic!("{pair}: {other:?}"),
            }
            assert!(session.symbol("hz").is_err(), "{pair}");
            assert!(session.with_force(true).symbol("hz").is_ok(), "{pair}");
        }
    }
    assert!(pairs > 10, "{pairs}");
}

#[test]
fn a_kernel_without_version_is_known_by_its_constants_and_instructions() {
    let machine = Machine::new(&Options::new(vmcore_synth::Arch::Amd64, 3));
    let without = |names: &[&str]| {
        let mut kernel = machine.kernel.clone();
        kernel
            .symbols
            .retain(|symbol| !names.iter().any(|name| symbol.name.starts_with(name)));
        kernel
    };
    let is_contents = |kernel: &Kernel| {
        let session = other_kernel(&machine, kernel);
        matches!(session.kernel_match(), Some(KernelMatch::Contents { equal, compared }) if equal == compared)
    };
    assert!(is_contents(&without(&["version"])));
    let constants = ["version", "osreldate", "proc_", "thread_", "pcb_size"];
    assert!(is_contents(&without(&constants)));
    let fact = |kernel: &Kernel| match other_kernel(&machine, kernel).kernel_match() {
        Some(KernelMatch::OtherContents { fact }) => fact.clone(),
        other => panic!("{other:?}"),
    };
    // Each kind of fact alone is enough.
    let rotated = |mut kernel: Kernel, name: &str, bytes: usize| {
        let mut sections = kernel.sections.iter_mut();
        let section = sections.find(|section| section.name == name).unwrap();
        section.content.rotate_left(bytes);
        kernel
    };
    let found = fact(&rotated(without(&["version"]), ".rodata", 0x10));
    assert!(found.contains(" in the dump's memory, "), "{found}");
    assert!(found.ends_with(" in the file"), "{found}");
    let found = fact(&rotated(without(&constants), ".text", 0x40));
    assert!(found.starts_with("of "), "{found}");
    let mut kernel = without(&["osreldate", "proc_", "thread_", "pcb_size"]);
    kernel
        .sections
        .retain(|section| section.name != ".text" && section.name != ".rodata");
    for symbol in &mut kernel.symbols {
        if symbol.name == "version" {
            symbol.address += 7;
        }
    }
    assert!(
        fact(&kernel).starts_with("its symbol version is "),
        "{}",
        fact(&kernel)
    );
    // Nothing to compare is nothing proved.
    let mut kernel = without(&["osreldate", "proc_", "thread_", "pcb_size", "version"]);
    kernel.sections.retain(|section| section.name != ".text");
    let session = other_kernel(&machine, &kernel);
    assert_eq!(session.kernel_match(), Some(&KernelMatch::Unproven));
    assert!(session.symbol("hz").is_ok());
}

#[test]
fn a_kernel_is_matched_by_the_build_id_in_its_mapped_header() {
    each(|name, machine, session| {
        if session.dump().arch() == Arch::Powerpc {
            // Its dumps start behind the header, but have the version.
            assert_eq!(session.kernel_match(), Some(&KernelMatch::Version));
            return;
        }
        let ids = session.build_ids().unwrap();
        assert_eq!(ids.evidence, Evidence::ElfHeader, "{name}");
        assert_eq!(
            ids.certain().unwrap().as_bytes(),
            machine.truth.build_id,
            "{name}"
        );
        assert_eq!(
            session.kernel_match(),
            Some(&KernelMatch::BuildId),
            "{name}"
        );
    });
}
