//! Dumps of sound machines: equal to the golden ones, and read right by both readers.

use crate::golden::{self, IDENTITY};
use crate::naive::Naive;
use proptest::prelude::*;
use std::io::Write as _;
use vmcore::dump::Warning;
use vmcore::{Dump, OpenOptions};
use vmcore_format::addr::{FileOffset, Pfn, PhysAddr, VirtAddr};
use vmcore_format::arch::Arch;
use vmcore_format::checksum::checksum;
use vmcore_format::extension::{
    Cpu, CpuState, Damage, DamageKind, Locator, PageSums, RecordKind, SectionSum, records,
};
use vmcore_format::identity::{Identity, Trap};
use vmcore_format::paging::{
    Amd64, Arm64Granule4K, Arm64Granule16K, ArmV6, I386, I386Pae, Powerpc64Radix,
    Powerpc64RadixSwapped, Riscv64,
};
use vmcore_testkit::writer::models::{self, Model, small, small_ram};
use vmcore_testkit::writer::run::{dump, full, onto_disk, settings};
use vmcore_testkit::writer::sim::{Sim, ix, pattern, range};
use vmcore_writer::DumpError;
use vmcore_writer::arch::{ArmV6Big, KernelPaging};
use vmcore_writer::error::PlanError;
use vmcore_writer::machine::KernelImage;
use vmcore_writer::settings::Settings;
use vmcore_writer::sink::SinkError;
use vmcore_writer::writer::DumpKind;

/// Compares a minidump with the golden one, reads it with both readers, and checks its extension.
pub(crate) fn check<P: KernelPaging>(sim: &Sim<P>, version: u32) -> Vec<u8> {
    let (summary, file) = dump(sim, settings(Some(version)));
    assert_eq!(summary.kind, DumpKind::Mini { version });
    let mut expected = golden::minidump(sim, version);
    expected[IDENTITY].copy_from_slice(&file[IDENTITY]);
    assert!(
        file.starts_with(&expected),
        "first difference at {:#x}",
        difference(&file, &expected)
    );
    check_extension(&file, expected.len());
    let naive = Naive::read(sim.model, &file);
    assert_eq!(naive.end, expected.len());
    assert_eq!(
        naive.pages.keys().copied().collect::<Vec<_>>(),
        Vec::from_iter(sim.predicted(version))
    );
    assert_eq!(naive.msgbuf.len(), ix(sim.msgbuf.1.into()));
    for (va, (pa, shift)) in &sim.mapped {
        let last = ((1 << shift) - 1).min(sim.model.kernend - va - 1);
        for inside in [0, 0x123, last] {
            assert_eq!(
                naive.translate(va + inside),
                Ok(pa + inside),
                "{:#x}",
                va + inside
            );
        }
    }
    check_library(sim, version, &file);
    file
}

fn difference(a: &[u8], b: &[u8]) -> usize {
    a.iter()
        .zip(b)
        .position(|(a, b)| a != b)
        .unwrap_or(a.len().min(b.len()))
}

/// Opens a dump with the library, and compares every page of RAM and every mapping.
fn check_library<P: KernelPaging>(sim: &Sim<P>, version: u32, file: &[u8]) {
    let mut temporary = tempfile::NamedTempFile::new().unwrap();
    temporary.write_all(file).unwrap();
    let dump = Dump::open(temporary.path(), &OpenOptions::default()).unwrap();
    // A powerpc64's kernel may be outside of what random machines have as RAM.
    let start = PhysAddr(0x10_0100);
    let has_image =
        sim.model.arch != Arch::Powerpc64 || sim.ranges.iter().any(|range| range.contains(start));
    let is_told = |warning: &Warning| matches!(warning, Warning::NoKernelImage { .. });
    match has_image {
        true => assert_eq!(dump.warnings(), []),
        false => assert!(dump.warnings().iter().all(is_told)),
    }
    let predicted = sim.predicted(version);
    let last = sim.ranges.last().unwrap().end.0 >> sim.model.page_shift;
    for pfn in 0..last + 4 {
        let found = dump.memory().page(Pfn(pfn));
        match found {
            Ok(bytes) if predicted.contains(&pfn) => {
                let expected = if sim.unreadable.contains(&pfn) {
                    vec![0; sim.model.page_bytes()]
                } else {
                    sim.page(pfn)
                };
                assert!(*bytes == expected[..], "page {pfn:#x}");
            }
            Ok(_) => panic!("page {pfn:#x} is in the dump"),
            Err(why) => assert!(!predicted.contains(&pfn), "page {pfn:#x}: {why}"),
        }
    }
    let translation = dump.translation(None).unwrap();
    for (va, (pa, shift)) in &sim.mapped {
        let last = ((1 << shift) - 1).min(sim.model.kernend - va - 1);
        for inside in [0, last] {
            match translation.lookup(dump.memory(), VirtAddr(va + inside)) {
                Ok(found) => assert_eq!(found.leaf.pa, PhysAddr(pa + inside)),
                Err(fault) => panic!("{:#x}: {fault:?}", va + inside),
            }
        }
    }
}

/// Checks the extension against the file it is in.
pub(crate) fn check_extension(file: &[u8], pages_end: usize) {
    let locator = Locator::parse(file.last_chunk().unwrap()).unwrap();
    assert_eq!(locator.offset, FileOffset(pages_end as u64));
    let found: Vec<_> = records(&file[pages_end..]).map(Result::unwrap).collect();
    assert_eq!(found.len(), ix(locator.records.into()));
    let kinds: Vec<_> = found.iter().map(|record| record.kind).collect();
    use RecordKind as Kind;
    assert_eq!(
        kinds,
        [
            Kind::Identity,
            Kind::Sections,
            Kind::Pages,
            Kind::Cpus,
            Kind::Damage
        ]
    );
    let identity = Identity::parse(found[0].payload).unwrap();
    assert_eq!(identity.dump_id, locator.dump_id);
    assert_ne!(identity.dump_id, [0; 16]);
    if file[..8] == *b"minidump" {
        assert_eq!(Identity::parse(&file[1024..]), Ok(identity));
    }
    let mut at = 0;
    for section in SectionSum::parse_all(found[1].payload) {
        assert_eq!(section.offset.0, at);
        at += section.stored_bytes;
        let bytes = &file[ix(section.offset.0)..ix(at)];
        assert_eq!(
            section.checksum,
            checksum(bytes),
            "section {}",
            section.section
        );
    }
    let sums = PageSums::parse(found[2].payload).unwrap();
    assert_eq!(
        (sums.offset.0, sums.offset.0 + sums.len_bytes),
        (at, pages_end as u64)
    );
    for (offset, len, sum) in sums.runs() {
        assert_eq!(
            sum,
            checksum(&file[ix(offset.0)..ix(offset.0 + len)]),
            "run at {offset}"
        );
    }
    assert_eq!(file.len() % 4096, 0);
}

/// The payload of a record.
pub(crate) fn payload(file: &[u8], kind: RecordKind) -> &[u8] {
    let locator = Locator::parse(file.last_chunk().unwrap()).unwrap();
    let mut found = records(&file[ix(locator.offset.0)..]).map(Result::unwrap);
    found.find(|record| record.kind == kind).unwrap().payload
}

#[test]
fn amd64_version_3_is_the_golden_dump() {
    check(&small::<Amd64>(models::AMD64), 3);
}

#[test]
fn amd64_version_3_with_five_levels_is_the_golden_dump() {
    check(&small::<Amd64>(models::AMD64_LA57), 3);
}

#[test]
fn amd64_version_1_is_the_golden_dump() {
    check(&small::<Amd64>(models::AMD64_V1), 1);
}

#[test]
fn arm64_with_either_page_size_is_the_golden_dump() {
    check(&small::<Arm64Granule4K>(models::ARM64), 3);
    check(&small::<Arm64Granule16K>(models::ARM64_16K), 3);
}

#[test]
fn riscv64_is_the_golden_dump() {
    check(&small::<Riscv64>(models::RISCV64), 2);
}

#[test]
fn i386_with_and_without_pae_is_the_golden_dump() {
    check(&small::<I386>(models::I386), 2);
    check(&small::<I386Pae>(models::I386_PAE), 2);
}

#[test]
fn arm_is_the_golden_dump() {
    check(&small::<ArmV6>(models::ARM), 2);
    // A kernel map that ends inside a page of the section.
    for mib in [5, 6, 7] {
        check(&small::<ArmV6>(narrow(models::ARM, mib << 20)), 2);
    }
}

#[test]
fn big_endian_arm_is_the_golden_dump() {
    check(&small::<ArmV6Big>(models::ARMEB), 2);
    for mib in [5, 6, 7] {
        check(&small::<ArmV6Big>(narrow(models::ARMEB, mib << 20)), 2);
    }
}

#[test]
fn arms_largest_pages_are_made_up_from_all_their_entries() {
    let mut sim = small::<ArmV6>(models::ARM);
    for number in 0..16 {
        let va = models::ARM.kernbase + (0x100_0000 + (number << 20));
        sim.map_page(va, 0x4000_0000 + (number << 20), 1);
        // Each entry is the same: a section of 16 MiB.
        sim.set_entry(sim.root.0, va >> 20, 0x4004_0412);
    }
    check(&sim, 2);
}

#[test]
fn powerpc64_of_either_byte_order_is_the_golden_dump() {
    check(&small::<Powerpc64Radix>(models::POWERPC64), 2);
    check(&small::<Powerpc64RadixSwapped>(models::POWERPC64LE), 2);
}

#[test]
fn the_newest_version_is_written_by_default() {
    let (summary, file) = dump(&small::<Amd64>(models::AMD64), settings(None));
    assert_eq!(summary.kind, DumpKind::Mini { version: 3 });
    assert_eq!(file[24], 3);
}

#[test]
fn versions_that_nobody_writes_are_refused_before_the_first_byte() {
    let sim = small::<Amd64>(models::AMD64);
    for version in [0, 2, 4] {
        let (result, state) = onto_disk(
            &sim,
            settings(Some(version)),
            vmcore_testkit::writer::disk::Disk::new(1 << 20, 512),
        );
        assert_eq!(result, Err(DumpError::Plan(PlanError::Version(version))));
        assert!(state.writes.borrow().is_empty());
    }
}

#[test]
fn version_1_refuses_a_kernel_map_whose_size_does_not_fit_its_field() {
    let minidump = Settings {
        fall_back_to_full: false,
        ..settings(Some(1))
    };
    let result = |slots: u64| {
        let kernbase = models::AMD64.kernbase - (1 << 40);
        let wide = narrow(
            Model {
                kernbase,
                ..models::AMD64
            },
            slots << 21,
        );
        let sim = Sim::<Amd64>::new(wide, &small_ram(&wide), 100);
        let (result, state) = onto_disk(
            &sim,
            minidump,
            vmcore_testkit::writer::disk::Disk::new(1 << 20, 512),
        );
        assert!(state.writes.borrow().is_empty());
        result
    };
    let section_bytes = 1 << 32;
    let too_large = DumpError::Plan(PlanError::SpanTooLarge { section_bytes });
    assert_eq!(result(1 << 20), Err(too_large));
    // One 2 MiB less is a plan, for which there is no room.
    let no_room = result((1 << 20) - 1);
    assert!(
        matches!(no_room, Err(DumpError::Sink(SinkError::NoRoom { need_bytes, .. })) if need_bytes > section_bytes),
        "{no_room:?}"
    );
}

#[test]
fn size_is_that_of_the_parts_and_not_a_page_more() {
    let sim = small::<Amd64>(models::AMD64);
    let (summary, file) = dump(&sim, settings(None));
    let pages = sim.predicted(3).len();
    assert_eq!(summary.pages, pages as u64);
    let parts = 1 + 24 + 1 + 1 + 4 + pages; // header, message buffer, ranges, bitmap, tables
    let extension = file.len() - parts * 4096;
    let runs = PageSums::parse(payload(&file, RecordKind::Pages))
        .unwrap()
        .runs()
        .count();
    let records = (24 + 192)
        + (24 + 5 * 32)
        + (24 + 32 + runs * 8)
        + (24 + 16 + 3 * (16 + 31 * 8))
        + (24 + 16 + 32 * 32);
    assert_eq!(extension, (records + 64).div_ceil(4096) * 4096);
}

#[test]
fn registers_of_every_cpu_that_stopped_are_in_the_extension() {
    let (_, file) = dump(&small::<Amd64>(models::AMD64), settings(None));
    let (layout, cpus) = Cpu::parse_all(payload(&file, RecordKind::Cpus)).unwrap();
    let cpus: Vec<_> = cpus.collect();
    assert_eq!((layout, cpus.len()), (1, 3));
    assert_eq!(
        (cpus[0].state, cpus[0].thread),
        (CpuState::Dumping, 100_000)
    );
    assert_eq!(
        (cpus[1].state, cpus[1].registers().nth(16)),
        (CpuState::Stopped, Some(1016))
    );
    assert_eq!(
        (cpus[2].state, cpus[2].registers().count()),
        (CpuState::Running, 0)
    );
}

#[test]
fn the_identity_says_who_when_and_why() {
    let (summary, file) = dump(&small::<Amd64>(models::AMD64), settings(None));
    let identity = Identity::parse(&file[1024..]).unwrap();
    assert_eq!(identity.dump_id, summary.dump_id);
    assert_eq!(
        (identity.boot_id, identity.machine_id),
        ([0xb0; 16], [0x3a; 16])
    );
    assert_eq!(
        (identity.trap, identity.uptime_us),
        (Trap::PageFault, 12_345_678)
    );
    assert_eq!(identity.build_id.bytes(), [0xbd; 20]);
    assert!(!identity.damaged && !identity.fallback);
}

#[test]
fn two_dumps_of_one_boot_have_different_names() {
    let mut sim = small::<Amd64>(models::AMD64);
    let first = dump(&sim, settings(None)).0.dump_id;
    sim.time_seconds += 1;
    assert_ne!(dump(&sim, settings(None)).0.dump_id, first);
}

#[test]
fn pages_that_cannot_be_read_are_zero_and_recorded() {
    let mut sim = small::<Amd64>(models::AMD64);
    let slabs: Vec<u64> = sim
        .added
        .iter()
        .copied()
        .filter(|pfn| !sim.forbidden.contains(pfn))
        .collect();
    // in the middle of a run of pages, two in a row; and the very last one
    let (poisoned, last) = (slabs[slabs.len() - 6], slabs[slabs.len() - 1]);
    sim.unreadable.extend([poisoned, poisoned + 1, last]);
    let file = check(&sim, 3);
    let (found, damage) = Damage::parse_all(payload(&file, RecordKind::Damage)).unwrap();
    let damage: Vec<_> = damage.collect();
    assert!(
        damage
            .iter()
            .all(|entry| entry.kind == DamageKind::PageUnreadable)
    );
    let pages: u64 = damage.iter().map(|entry| entry.count).sum();
    assert_eq!((found, pages), (3, 3));
    assert_eq!(
        (damage[0].pa, damage[0].count),
        (PhysAddr(poisoned << 12), 2)
    );
}

#[test]
fn a_message_buffer_that_cannot_be_read_is_zero_and_recorded() {
    let mut sim = small::<Amd64>(models::AMD64);
    sim.unreadable.insert((sim.msgbuf.0 >> 12) + 3);
    let (_, file) = dump(&sim, settings(None));
    let ring = &file[4096..][..98232];
    assert_eq!(
        ring[3 * 4096 - 1],
        b'a' + u8::try_from((3 * 4096 - 1) % 26).unwrap()
    );
    assert!(ring[3 * 4096..4 * 4096].iter().all(|byte| *byte == 0));
    let (_, mut damage) = Damage::parse_all(payload(&file, RecordKind::Damage)).unwrap();
    assert_eq!(damage.next().unwrap().kind, DamageKind::MessageBuffer);
}

#[test]
fn message_buffers_of_any_size_and_place_come_out_whole() {
    for len in [0, 1, 4095, 4096, 4097, 98232] {
        let mut sim = Sim::<Amd64>::new(models::AMD64, &small_ram(&models::AMD64), len);
        models::fill(&mut sim);
        check(&sim, 3);
    }
    // one that does not start on a page boundary
    let mut sim = Sim::<Amd64>::new(models::AMD64, &small_ram(&models::AMD64), 9000);
    models::fill(&mut sim);
    sim.msgbuf.0 += 72;
    sim.msgbuf.1 -= 72;
    let (_, file) = dump(&sim, settings(None));
    let expected: Vec<u8> = (72..9000usize)
        .map(|at| b'a' + u8::try_from(at % 26).unwrap())
        .collect();
    assert!(file[4096..][..expected.len()] == expected[..]);
}

#[test]
fn full_dumps_are_the_golden_ones() {
    let mut sim = small::<Amd64>(models::AMD64);
    check_full(&sim);
    sim.image = Some(KernelImage {
        vaddr: VirtAddr(0xffff_ffff_8000_0000),
        paddr: PhysAddr(0x20_0000),
        hole: 0x20_0000,
    });
    sim.unreadable.insert(0x105);
    check_full(&sim);
    check_full(&small::<I386>(models::I386));
    check_full(&small::<I386Pae>(models::I386_PAE));
    let mut arm = small::<ArmV6>(models::ARM);
    check_full(&arm);
    arm.image = Some(KernelImage {
        vaddr: VirtAddr(0xc000_0000),
        paddr: PhysAddr(0),
        hole: 4096,
    });
    check_full(&arm);
    check_full(&small::<ArmV6Big>(models::ARMEB));
}

#[test]
fn full_dumps_have_no_limit_of_ten_ranges() {
    for count in [11, 17, 18, 100] {
        let ranges: Vec<_> = (0..count)
            .map(|index| range(index * 0x1_0000, index * 0x1_0000 + 0x8000))
            .collect();
        let sim = Sim::<Amd64>::new(models::AMD64, &ranges, 100);
        check_full(&sim);
    }
}

fn check_full<P: KernelPaging>(sim: &Sim<P>) {
    let (summary, file) = dump(sim, full());
    assert_eq!(summary.kind, DumpKind::Full { fallback: false });
    let mut expected = golden::full_dump(sim);
    let phdrs = sim.ranges.len() + usize::from(sim.image.is_some());
    if 64 + phdrs * 56 <= 1024 || sim.model.entry_bytes == 4 || sim.model.pae {
        assert!(Identity::parse(&file[1024..]).is_ok());
        expected[IDENTITY].copy_from_slice(&file[IDENTITY]);
    }
    assert!(
        file.starts_with(&expected),
        "first difference at {:#x}",
        difference(&file, &expected)
    );
    check_extension(&file, expected.len());
    let mut temporary = tempfile::NamedTempFile::new().unwrap();
    temporary.write_all(&file).unwrap();
    let dump = Dump::open(temporary.path(), &OpenOptions::default()).unwrap();
    assert_eq!(dump.warnings(), []);
    let last = sim.ranges.last().unwrap().end.0.div_ceil(4096);
    for pfn in 0..last + 2 {
        match dump.memory().page(Pfn(pfn)) {
            Ok(bytes) if sim.unreadable.contains(&pfn) => {
                assert!(bytes.iter().all(|byte| *byte == 0))
            }
            Ok(bytes) => assert!(*bytes == sim.page(pfn)[..], "page {pfn:#x}"),
            Err(_) => assert!(!sim.is_ram(pfn), "page {pfn:#x}"),
        }
    }
}

#[test]
fn full_dumps_that_cannot_be_expressed_are_refused_before_the_first_byte() {
    let high = [range(0, 0x10_0000), range(1 << 32, (1 << 32) + 0x10_0000)];
    let sim = Sim::<I386Pae>::new(models::I386_PAE, &high, 100);
    let (result, state) = onto_disk(
        &sim,
        full(),
        vmcore_testkit::writer::disk::Disk::new(8 << 20, 512),
    );
    assert!(matches!(result, Err(DumpError::Plan(PlanError::Full(_)))));
    assert!(state.writes.borrow().is_empty());
    let sim = small::<Riscv64>(models::RISCV64);
    let (result, _) = onto_disk(
        &sim,
        full(),
        vmcore_testkit::writer::disk::Disk::new(8 << 20, 512),
    );
    assert!(matches!(result, Err(DumpError::Plan(PlanError::Full(_)))));
}

/// 8 GiB of RAM, 32 MiB of which the kernel uses, and a kernel map of 2 GiB.
fn large(model: Model) -> Sim<Amd64> {
    let ranges = [
        range(0, 0x9_f000),
        range(0x10_0000, 0xc000_0000),
        range(1 << 32, (1 << 32) + (5 << 30)),
    ];
    let mut sim = Sim::<Amd64>::new(model, &ranges, 98232);
    for index in 0..4096 {
        let pfn = sim.allocate();
        sim.map_page(model.kernbase + index * 4096, pfn << 12, 0);
    }
    for index in 0..8 {
        sim.map_page(
            model.kernbase + (64 << 20) + index * (2 << 20),
            0x4000_0000 + index * (2 << 20),
            1,
        );
    }
    sim
}

#[test]
fn a_machine_of_8_gib_with_32_mib_of_kernel_takes_at_most_48_mib() {
    for (model, version) in [
        (models::AMD64_V1, 1),
        (
            Model {
                kernend: models::AMD64.kernbase + (2 << 30),
                ..models::AMD64
            },
            3,
        ),
    ] {
        let sim = large(model);
        let disk = vmcore_testkit::writer::disk::Disk::new(64 << 20, 4096);
        let (result, state) = onto_disk(&sim, settings(Some(version)), disk);
        let summary = result.unwrap();
        assert!(summary.len_bytes <= 48 << 20, "{}", summary.len_bytes);
        let file = vmcore_testkit::writer::run::recover(&state.media(), 4096).unwrap();
        let naive = Naive::read(model, &file);
        let predicted = sim.predicted(version);
        assert_eq!(naive.pages.len(), predicted.len());
        for (pfn, bytes) in &naive.pages {
            assert!(
                predicted.contains(pfn) && **bytes == sim.page(*pfn)[..],
                "page {pfn:#x}"
            );
        }
    }
}

#[derive(Clone, Debug)]
enum Action {
    Map { slot: u64, level: u32, page: u64 },
    Slab { free: bool },
    Forbid { page: u64 },
    Poison { page: u64 },
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        4 => (0u64..2000, 0u32..3, 0u64..4000).prop_map(|(slot, level, page)| Action::Map { slot, level, page }),
        3 => any::<bool>().prop_map(|free| Action::Slab { free }),
        1 => (0u64..4000).prop_map(|page| Action::Forbid { page }),
        1 => (0u64..4000).prop_map(|page| Action::Poison { page }),
    ];
    prop::collection::vec(action, 0..60)
}

fn ram() -> impl Strategy<Value = Vec<(u64, u64)>> {
    prop::collection::vec((0u64..0x20_0000, 0x1000u64..0x40_0000), 1..6)
}

/// A model with a kernel map of `bytes`.
const fn narrow(model: Model, bytes: u64) -> Model {
    Model {
        kernend: model.kernbase + bytes,
        ..model
    }
}

/// A machine by chance: holes of any size, boundaries inside pages, whatever is mapped.
fn random<P: KernelPaging>(model: Model, ram: &[(u64, u64)], actions: &[Action]) -> Sim<P> {
    let page = model.page_bytes() as u64;
    let mut ranges = Vec::new();
    let mut at = model.direct_map.map_or(0, |map| map.phys.0);
    for (gap, len) in ram {
        // Ranges do not meet inside a page here; enough of them for the tables.
        let start = (at + gap).div_ceil(page) * page + gap % page / 2;
        ranges.push(range(start, start + len));
        at = start + len;
    }
    ranges.push(range(
        at.div_ceil(page) * page + page,
        at.div_ceil(page) * page + 600 * page,
    ));
    let mut sim = Sim::<P>::new(model, &ranges, 5000);
    // Tables that map nothing at all are damaged.
    let pfn = sim.allocate();
    sim.map_page(model.kernbase, pfn << model.page_shift, 0);
    let root = sim.root.0 >> model.page_shift;
    let root = root..root + model.root_pages();
    for action in actions {
        match *action {
            Action::Map { slot, level, page } => {
                let fits =
                    |level: &u32| 1u64 << model.shift(*level) <= model.kernend - model.kernbase;
                let level = (0..=level.min(model.large_level)).rev().find(fits).unwrap();
                let size = 1u64 << model.shift(level);
                let va = model.kernbase + slot % ((model.kernend - model.kernbase) / size) * size;
                let free = sim.mapped.range(va..va + size).next().is_none()
                    && sim
                        .mapped
                        .range(..va)
                        .next_back()
                        .is_none_or(|(at, (_, shift))| at + (1 << shift) <= va);
                // A table in the place would stay there.
                if free && (level == 0 || no_table(&sim, va, level)) {
                    sim.map_page(va, (page << model.page_shift) & !(size - 1), level);
                }
            }
            Action::Slab { free } => {
                let pfn = sim.allocate_slab();
                if free {
                    sim.free_slab(pfn);
                }
            }
            Action::Forbid { page } => {
                sim.forbidden.insert(page);
            }
            Action::Poison { page } => {
                let is_table = sim.tables.iter().any(|(pfn, _)| *pfn == page);
                if !is_table && !root.contains(&page) && !sim.added.contains(&page) {
                    sim.unreadable.insert(page);
                }
            }
        }
    }
    // Tables that were made later than a page was forbidden or poisoned.
    let tables: Vec<u64> = sim.tables.iter().map(|(pfn, _)| *pfn).collect();
    for pfn in tables.into_iter().chain(root) {
        sim.unreadable.remove(&pfn);
        sim.forbidden.remove(&pfn);
    }
    let slabs: Vec<u64> = sim.added.iter().copied().collect();
    for pfn in slabs {
        sim.unreadable.remove(&pfn);
    }
    sim
}

fn no_table<P: KernelPaging>(sim: &Sim<P>, va: u64, level: u32) -> bool {
    let model = &sim.model;
    let mut table = sim.root.0;
    for at in (level..=model.root_level).rev() {
        let raw = sim.entry(table, model.index(va, at));
        if raw == 0 {
            return true;
        }
        table = (model.frame)(raw);
    }
    false
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn any_machine_gives_the_golden_dump(ram in ram(), actions in actions()) {
        check(&random::<Amd64>(models::AMD64, &ram, &actions), 3);
        check(&random::<Amd64>(narrow(models::AMD64_V1, 16 << 20), &ram, &actions), 1);
        check(&random::<Arm64Granule16K>(narrow(models::ARM64_16K, 256 << 20), &ram, &actions), 3);
        check(&random::<Riscv64>(narrow(models::RISCV64, 16 << 20), &ram, &actions), 2);
        check(&random::<I386>(models::I386, &ram, &actions), 2);
        check(&random::<I386Pae>(models::I386_PAE, &ram, &actions), 2);
        check(&random::<ArmV6>(narrow(models::ARM, 16 << 20), &ram, &actions), 2);
        check(&random::<ArmV6Big>(narrow(models::ARMEB, 7 << 20), &ram, &actions), 2);
        check(&random::<Powerpc64Radix>(models::POWERPC64, &ram, &actions), 2);
        check(&random::<Powerpc64RadixSwapped>(models::POWERPC64LE, &ram, &actions), 2);
    }
}

#[test]
fn patterns_tell_pages_apart() {
    assert_ne!(pattern(1, 4096), pattern(2, 4096));
}
