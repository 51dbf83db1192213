//! Dumps that say what kernel they are of: what is without these records is the same as without them, and
//! a reader needs nothing else.

use crate::round_trip::payload;
use std::io::Write as _;
use vmcore::process::{self, OffsetSource, PcbSource};
use vmcore::session::KernelChoice;
use vmcore::{OpenOptions, Session};
use vmcore_format::addr::VirtAddr;
use vmcore_format::extension::kernel::{AddressSpace, Module, TableKind};
use vmcore_format::extension::{Locator, RecordKind};
use vmcore_format::identity::Identity;
use vmcore_format::paging::{
    Amd64, Arm64Granule4K, Arm64Granule16K, ArmV6, I386, I386Pae, Riscv64,
};
use vmcore_testkit::writer::models::{self, Model, small};
use vmcore_testkit::writer::run::{dump, full, settings};
use vmcore_testkit::writer::sim::{Sim, ix};
use vmcore_writer::arch::KernelPaging;
use vmcore_writer::machine::{Module as ToldModule, Process, Thread, ThreadState, Window, name};
use vmcore_writer::settings::Settings;

fn session(file: &[u8]) -> Session {
    let mut temporary = tempfile::NamedTempFile::new().unwrap();
    temporary.write_all(file).unwrap();
    let options = OpenOptions::default();
    Session::open(temporary.path(), KernelChoice::None, &options).unwrap()
}

const DESCRIBED: Settings = Settings {
    minidump: true,
    version: None,
    fall_back_to_full: false,
    self_describing: true,
};

/// A kernel whose image is in the low half, its heap above, its stacks in the high half.
fn hobby<P: KernelPaging>(model: Model) -> (Sim<P>, Vec<(u64, u64)>) {
    let mut sim = small::<P>(model);
    sim.system = "HOBBY";
    let places = [0x20_0000, 0x4444_4444_0000, 0xffff_8000_0000_1000_u64];
    let mut mapped = Vec::new();
    for (number, va) in (0..).zip(places) {
        for page in 0..3 + number {
            let pa = sim.allocate() << model.page_shift;
            sim.map_page(va + page * 4096, pa, 0);
            mapped.push((va + page * 4096, pa));
        }
    }
    sim.windows = vec![
        Window {
            first: VirtAddr(0),
            last: VirtAddr(0x7fff_ffff_ffff),
        },
        Window {
            first: VirtAddr(0xffff_8000_0000_0000),
            last: VirtAddr(u64::MAX),
        },
    ];
    (sim, mapped)
}

#[test]
fn everything_before_the_new_records_is_as_without_them() {
    let sim = small::<Amd64>(models::AMD64);
    let plain = dump(&sim, settings(None)).1;
    let described = dump(&sim, DESCRIBED).1;
    let extension = ix(Locator::parse(plain.last_chunk().unwrap())
        .unwrap()
        .offset
        .0);
    assert!(described.starts_with(&plain[..extension]));
    let of = |file: &[u8], kind| payload(file, kind).to_vec();
    for kind in [
        RecordKind::Identity,
        RecordKind::Pages,
        RecordKind::Cpus,
        RecordKind::Damage,
    ] {
        assert_eq!(of(&plain, kind), of(&described, kind), "{kind:?}");
    }
    // Its page directories are in no page of the dump.
    assert!(!Identity::parse(&described[1024..]).unwrap().walkable);
}

/// The records as `docs/format-extension.md` has them.
#[test]
fn the_address_space_is_specified_byte_by_byte() {
    let sim = small::<Amd64>(models::AMD64);
    let file = dump(&sim, DESCRIBED).1;
    let record = payload(&file, RecordKind::AddressSpace);
    let word = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().unwrap());
    assert_eq!(record.len(), 80);
    // amd64, no flag; entries of level 3, addresses of 48 bits.
    assert_eq!(
        record[..16],
        [1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 48, 0, 0, 0]
    );
    assert_eq!((word(16), word(24), word(32)), (sim.root.0, 512, 0));
    let direct = sim.model.direct_map.unwrap();
    assert_eq!(
        (word(40), word(48), word(56)),
        (direct.base.0, direct.end.0, 0)
    );
    assert_eq!((word(64), word(72)), (sim.msgbuf.0, sim.msgbuf.1.into()));
    let system = payload(&file, RecordKind::System);
    assert_eq!(system.len(), 320);
    assert_eq!(system[..32], [0; 32]);
    assert!(system[32..].starts_with(b"FreeBSD 15.1-RELEASE GENERIC\n\0"));
    assert!(system[224..].starts_with(b"rustc 1.95.0\0"));
}

#[test]
fn a_kernel_in_pieces_is_read_from_its_root() {
    let (mut sim, mapped) = hobby::<Amd64>(models::AMD64);
    // A page that is mapped and that its owner wants in no dump.
    let (secret, pa) = mapped[1];
    sim.forbidden.insert(pa >> 12);
    let file = dump(&sim, DESCRIBED).1;
    let space = AddressSpace::parse(payload(&file, RecordKind::AddressSpace)).unwrap();
    assert!(space.tables_are_pages);
    let session = session(&file);
    assert_eq!(session.dump().warnings(), []);
    let space = session.space().unwrap();
    for (va, pa) in mapped.iter().filter(|(va, _)| *va != secret) {
        let mut bytes = [0; 4096];
        space.read_exact(VirtAddr(*va), &mut bytes).unwrap();
        assert_eq!(bytes[..], sim.page(pa >> 12), "{va:#x}");
    }
    let error = space.read_u64(VirtAddr(secret)).unwrap_err();
    assert!(error.to_string().contains("not in the dump"), "{error}");
    let error = space.read_u64(VirtAddr(0x1234_5678_9000)).unwrap_err();
    assert!(error.to_string().contains("PML4"), "{error}");
    // The direct map comes first, and reaches what was added.
    let slab = *sim.added.first().unwrap();
    let direct = sim.model.direct_map.unwrap().base.0;
    let mut bytes = [0; 64];
    space
        .read_exact(VirtAddr(direct + (slab << 12)), &mut bytes)
        .unwrap();
    assert_eq!(bytes[..], sim.page(slab)[..64]);
}

#[test]
fn a_full_dump_is_read_without_the_kernel_file() {
    let described = Settings {
        self_describing: true,
        ..full()
    };
    let (sim, mapped) = hobby::<Amd64>(models::AMD64);
    let session = session(&dump(&sim, described).1);
    let space = session.space().unwrap();
    for (va, pa) in mapped {
        let mut bytes = [0; 64];
        space.read_exact(VirtAddr(va), &mut bytes).unwrap();
        assert_eq!(bytes[..], sim.page(pa >> 12)[..64], "{va:#x}");
    }
}

/// The kernel map of a machine, walked from the root that the dump names.
fn walked<P: KernelPaging>(model: Model, tables: TableKind) {
    let mut sim = small::<P>(model);
    sim.windows = vec![Window {
        first: VirtAddr(model.kernbase),
        last: VirtAddr(model.kernend - 1),
    }];
    let file = dump(&sim, DESCRIBED).1;
    let space = AddressSpace::parse(payload(&file, RecordKind::AddressSpace)).unwrap();
    assert_eq!(space.tables, tables);
    let session = session(&file);
    let dump = session.dump();
    let translation = dump.translation(None).unwrap();
    assert!(!sim.mapped.is_empty());
    for (va, (pa, _)) in &sim.mapped {
        let found = translation.lookup(dump.memory(), VirtAddr(*va)).unwrap();
        assert_eq!(found.leaf.pa.0, *pa, "{tables:?} {va:#x}");
    }
}

#[test]
fn every_architecture_is_walked_from_its_root() {
    walked::<Amd64>(models::AMD64, TableKind::Amd64);
    walked::<Amd64>(models::AMD64_LA57, TableKind::Amd64);
    walked::<Arm64Granule4K>(models::ARM64, TableKind::Arm64Granule4K);
    walked::<Arm64Granule16K>(models::ARM64_16K, TableKind::Arm64Granule16K);
    walked::<Riscv64>(models::RISCV64, TableKind::Riscv64);
    walked::<I386>(models::I386, TableKind::I386);
    walked::<I386Pae>(models::I386_PAE, TableKind::I386Pae);
    walked::<ArmV6>(models::ARM, TableKind::ArmV6);
}

#[test]
fn cpus_are_threads_at_least() {
    let (sim, _) = hobby::<Amd64>(models::AMD64);
    let session = session(&dump(&sim, DESCRIBED).1);
    let list = process::list(&session).unwrap();
    assert_eq!(list.offsets, OffsetSource::Recorded);
    assert_eq!(list.processes.len(), 1);
    assert_eq!(list.processes[0].comm, b"HOBBY");
    let told: Vec<_> = list
        .threads()
        .map(|thread| {
            (
                thread.tid,
                thread.cpu,
                thread.crashed,
                thread.registers.is_some(),
            )
        })
        .collect();
    // The third one did not stop.
    let expected = [
        (100_000, Some(0), true, true),
        (100_001, Some(1), false, true),
        (3, Some(2), false, false),
    ];
    assert_eq!(told, expected);
    assert_eq!(list.crashed_tid, Some(100_000));
    let rip = list.processes[0].threads[1]
        .registers
        .as_ref()
        .unwrap()
        .get("rip");
    assert_eq!(rip, Some(1016));
}

#[test]
fn processes_threads_and_modules_are_as_the_kernel_told() {
    let (mut sim, _) = hobby::<Amd64>(models::AMD64);
    sim.processes = vec![Process {
        id: 7,
        parent: 1,
        address: VirtAddr(0x4444_4444_0100),
        name: name("shell"),
    }];
    let sleeper = Thread {
        process: 7,
        state: ThreadState::Sleeping,
        stack: (VirtAddr(0x4444_4444_1000), 4096),
        wait: name("keyboard"),
        ..Thread::new(12, name("reader"))
    };
    sim.saved.insert((12, 16), 0x20_1234);
    let running = Thread {
        cpu: Some(0),
        ..Thread::new(100_000, name("main"))
    };
    // The last one leads back.
    sim.threads = vec![running, sleeper, running];
    sim.modules = vec![ToldModule {
        base: VirtAddr(0x40_0000),
        len_bytes: 0x3000,
        name: name("net"),
        build_id: ([5; 32], 20),
    }];
    let file = dump(&sim, DESCRIBED).1;
    let session = session(&file);
    assert_eq!(session.dump().warnings(), []);
    let list = process::list(&session).unwrap();
    let names: Vec<_> = list
        .processes
        .iter()
        .map(|process| {
            (
                process.pid,
                String::from_utf8_lossy(&process.comm).into_owned(),
            )
        })
        .collect();
    assert_eq!(names, [(7, "shell".to_owned()), (0, "HOBBY".to_owned())]);
    let reader = &list.processes[0].threads[0];
    assert_eq!((reader.tid, &reader.name[..]), (12, &b"reader"[..]));
    assert_eq!(reader.pcb, Some(PcbSource::Recorded));
    let registers = reader.registers.as_ref().unwrap();
    assert_eq!(
        (registers.get("rip"), registers.get("rsp")),
        (Some(0x20_1234), None)
    );
    let recorded = reader.recorded.as_ref().unwrap();
    assert_eq!(
        (recorded.state, &recorded.wait[..]),
        (Some('S'), "keyboard")
    );
    assert_eq!(recorded.stack, Some((VirtAddr(0x4444_4444_1000), 4096)));
    let main = list.processes[1]
        .threads
        .iter()
        .find(|thread| thread.tid == 100_000);
    assert!(main.unwrap().crashed && main.unwrap().registers.is_some());
    assert_eq!(list.threads().count(), 4);
    let extension = session.dump().extension().unwrap();
    let modules: Vec<Module<'_>> = extension.modules().unwrap().collect();
    assert_eq!(modules.len(), 1);
    assert_eq!(
        (modules[0].name, modules[0].build_id),
        (&b"net"[..], &[5; 20][..])
    );
    assert_eq!(modules[0].base, VirtAddr(0x40_0000));
    let system = vmcore::info::info(&session).unwrap().system.unwrap();
    assert_eq!(
        (&system.name[..], &system.compiler[..]),
        ("HOBBY", "rustc 1.95.0")
    );
    assert_eq!(system.modules[0].build_id, "05".repeat(20));
    let cpus = vmcore::info::cpus(session.dump());
    let told: Vec<_> = cpus
        .iter()
        .map(|cpu| (cpu.state, cpu.registers.get("rax")))
        .collect();
    let expected = [
        ("dumping", Some(0)),
        ("stopped", Some(1000)),
        ("running", None),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_list_without_an_end_is_cut() {
    let (mut sim, _) = hobby::<Amd64>(models::AMD64);
    sim.threads = vec![Thread::new(1, name("again")); 10_000];
    let file = dump(&sim, DESCRIBED).1;
    let threads = payload(&file, RecordKind::Threads);
    assert_eq!(threads[..4], 8192_u32.to_le_bytes());
    let list = process::list(&session(&file)).unwrap();
    assert_eq!(list.threads().count(), 4);
}

/// Whatever a record says, with a right checksum, every question is answered or refused.
#[test]
fn any_record_is_survived() {
    let (mut sim, mapped) = hobby::<Amd64>(models::AMD64);
    sim.processes = vec![Process::default(); 3];
    sim.threads = vec![Thread::new(1, name("a")), Thread::new(2, name("b"))];
    sim.modules = vec![ToldModule::default()];
    let whole = dump(&sim, DESCRIBED).1;
    let mut random = 1_u64;
    let mut next = |below: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(random >> 33).unwrap() % below
    };
    let kinds = [
        RecordKind::AddressSpace,
        RecordKind::System,
        RecordKind::Processes,
        RecordKind::Threads,
        RecordKind::Modules,
        RecordKind::Cpus,
    ];
    let mut answered = 0;
    for _ in 0..200 {
        let mut file = whole.clone();
        for kind in kinds {
            let start = payload(&file, kind).as_ptr() as usize - file.as_ptr() as usize;
            // The heads and the first fields say how much there is.
            let len = payload(&file, kind).len().min(128);
            for _ in 0..next(4) {
                file[start + next(len)] = [0, 1, 0x7f, 0x80, 0xff][next(5)];
            }
            let record = start - 16;
            let end = record + 16 + payload(&whole, kind).len().next_multiple_of(8);
            let sum = vmcore_format::checksum::checksum(&file[record..end]);
            file[end..end + 8].copy_from_slice(&sum.to_le_bytes());
        }
        let session = session(&file);
        answered += u32::from(process::list(&session).is_ok());
        if let Ok(space) = session.space() {
            for (va, _) in &mapped {
                let _ = space.read_u64(VirtAddr(*va));
            }
            let _ = space.read_u64(VirtAddr(u64::MAX - 7));
        }
        let _ = vmcore::info::info(&session);
        let _ = vmcore::info::cpus(session.dump());
        let _ = vmcore::verify::verify(&session, |_| {});
    }
    assert!(answered > 50, "{answered}");
}
