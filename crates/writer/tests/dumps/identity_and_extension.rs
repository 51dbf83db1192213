//! What the library reports of the writer's dumps beyond their pages: the identity block and the
//! extension, sound and damaged.

use crate::round_trip::payload;
use std::io::Write as _;
use vmcore::dump::{Completeness, Warning, WarningSubject};
use vmcore::format::identity::IDENTITY_LEN;
use vmcore::info::{Info, info};
use vmcore::kernel::Evidence;
use vmcore::session::KernelChoice;
use vmcore::verify::{Verdict, Verification, verify};
use vmcore::{Dump, OpenOptions, Session};
use vmcore_format::checksum::checksum;
use vmcore_format::extension::{LOCATOR_LEN, Locator, PageSums, RecordHeader, RecordKind};
use vmcore_format::identity::Identity;
use vmcore_format::paging::{Amd64, Arm64Granule16K, ArmV6, I386, Riscv64};
use vmcore_testkit::writer::models::{self, small};
use vmcore_testkit::writer::run::{dump, full, settings};
use vmcore_testkit::writer::sim::{Sim, ix, range};
use vmcore_writer::arch::{ArmV6Big, KernelPaging};
use vmcore_writer::machine::Cpu;

fn session(file: &[u8]) -> Session {
    let mut temporary = tempfile::NamedTempFile::new().unwrap();
    temporary.write_all(file).unwrap();
    let options = OpenOptions::default();
    Session::open(temporary.path(), KernelChoice::None, &options).unwrap()
}

fn opened(file: &[u8]) -> Dump {
    let mut temporary = tempfile::NamedTempFile::new().unwrap();
    temporary.write_all(file).unwrap();
    Dump::open(temporary.path(), &OpenOptions::default()).unwrap()
}

fn verified(file: &[u8]) -> Verification {
    verify(&session(file), |_| {}).unwrap()
}

fn facts(file: &[u8]) -> Info {
    info(&session(file)).unwrap()
}

/// The details of bad checks of this name.
fn bad(verification: &Verification, name: &str) -> Vec<String> {
    let checks = verification.checks.iter();
    checks
        .filter(|check| check.verdict == Verdict::Bad && check.name == name)
        .map(|check| check.detail.clone())
        .collect()
}

fn sample() -> Vec<u8> {
    dump(&small::<Amd64>(models::AMD64), settings(None)).1
}

/// Where the extension starts.
fn extension_of(file: &[u8]) -> usize {
    ix(Locator::parse(file.last_chunk().unwrap()).unwrap().offset.0)
}

/// Where the record of a kind starts.
fn record_of(file: &[u8], kind: RecordKind) -> usize {
    let payload = payload(file, kind);
    payload.as_ptr() as usize - file.as_ptr() as usize - 16
}

/// Puts the right checksum after a record that was changed.
fn sum_up(file: &mut [u8], record: usize) {
    let header = RecordHeader::parse(file[record..].first_chunk().unwrap()).unwrap();
    let end = record + ix(header.record_bytes().unwrap()) - 8;
    let sum = checksum(&file[record..end]);
    file[end..end + 8].copy_from_slice(&sum.to_le_bytes());
}

#[test]
fn the_identity_block_says_who_when_and_why() {
    let file = sample();
    let dump_id = Identity::parse(&file[1024..]).unwrap().dump_id;
    let info = facts(&file);
    let identity = info.identity.unwrap();
    let value = |known: Option<vmcore::info::Known>| {
        let known = known.unwrap();
        assert!(known.sources.contains(&"identity block".to_owned()));
        known.value
    };
    assert_eq!(value(identity.trap), "page fault");
    assert_eq!(value(identity.clock), "kept in step with a time server");
    assert_eq!(value(identity.boot_id), "b0".repeat(16));
    assert_eq!(value(identity.machine_id), "3a".repeat(16));
    assert_eq!(value(info.crashed), "2023-11-14 22:13:20 UTC");
    assert_eq!(value(info.uptime), "12s");
    assert!(!identity.damaged && !identity.fallback && !identity.live);
    assert!(identity.origin.is_none() && identity.source_id.is_none());
    let ids = info.build_ids.unwrap();
    assert_eq!(ids.evidence, Evidence::IdentityBlock);
    assert_eq!(ids.certain().unwrap().as_bytes(), [0xbd; 20]);
    let id = format!("{:032x}", u128::from_be_bytes(dump_id));
    assert_eq!(opened(&file).id(), Ok(id));
}

#[test]
fn the_extension_is_part_of_the_dump() {
    let file = sample();
    let opened_dump = opened(&file);
    let whole = Completeness::Complete { trailing_bytes: 0 };
    assert_eq!(opened_dump.completeness(), Ok(whole));
    let extension = opened_dump.extension().unwrap();
    assert_eq!(ix(extension.start().0), extension_of(&file));
    assert_eq!(ix(extension.end().0), file.len());
    let info = facts(&file).extension.unwrap();
    assert_eq!(ix(info.len_bytes), file.len() - extension_of(&file));
    assert_eq!(info.summed_sections, Some(5));
    assert_eq!(info.run_bytes, Some(4096));
    assert_eq!(info.cpus_with_registers, Some(2));
    assert_eq!(info.damage_found, Some(0));
    // Bytes after it are not: the header of a live dump.
    let mut longer = file.clone();
    longer.extend_from_slice(&[0x46; 512]);
    let opened_dump = opened(&longer);
    let trailing = Completeness::Complete {
        trailing_bytes: 512,
    };
    assert_eq!(opened_dump.completeness(), Ok(trailing));
    assert_eq!(opened_dump.warnings(), []);
    assert_eq!(ix(opened_dump.extension().unwrap().end().0), file.len());
}

/// Every check of a sound dump, but that of the kernel's image, which these machines have not.
fn is_sound<P: KernelPaging>(sim: &mut Sim<P>, settings: vmcore_writer::settings::Settings) {
    for (number, cpu) in sim.cpus.iter_mut().enumerate() {
        if number > 1 {
            *cpu = Cpu {
                state: vmcore_writer::machine::CpuState::Stopped,
                ..Cpu::RUNNING
            };
        }
    }
    let file = dump(sim, settings).1;
    let verification = verified(&file);
    let worse: Vec<_> = verification
        .checks
        .iter()
        .filter(|check| check.verdict > Verdict::Skipped && check.name != "kernel image")
        .collect();
    assert!(worse.is_empty(), "{worse:?}");
    let sound = |name: &str| {
        let mut checks = verification.checks.iter();
        checks.any(|check| check.name == name && check.verdict == Verdict::Sound)
    };
    for name in [
        "identity",
        "section sums",
        "page sums",
        "registers",
        "damage list",
    ] {
        assert!(sound(name), "{name}");
    }
    let damage = verification.damage.unwrap();
    assert_eq!((damage.found, damage.entries), (0, Vec::new()));
}

#[test]
fn nothing_is_odd_about_a_sound_dump() {
    is_sound(&mut small::<Amd64>(models::AMD64), settings(Some(3)));
    is_sound(&mut small::<Amd64>(models::AMD64_V1), settings(Some(1)));
    let mut arm64 = small::<Arm64Granule16K>(models::ARM64_16K);
    is_sound(&mut arm64, settings(None));
    is_sound(&mut small::<Riscv64>(models::RISCV64), settings(None));
    is_sound(&mut small::<I386>(models::I386), settings(None));
    is_sound(&mut small::<ArmV6>(models::ARM), settings(None));
    is_sound(&mut small::<ArmV6Big>(models::ARMEB), settings(None));
    is_sound(&mut small::<Amd64>(models::AMD64), full());
    is_sound(&mut small::<ArmV6Big>(models::ARMEB), full());
}

#[test]
fn a_full_dump_without_room_in_its_header_is_known_by_its_extension() {
    let ranges: Vec<_> = (0..18)
        .map(|index| range(index * 0x1_0000, index * 0x1_0000 + 0x8000))
        .collect();
    let sim = Sim::<Amd64>::new(models::AMD64, &ranges, 100);
    let file = dump(&sim, full()).1;
    let opened_dump = opened(&file);
    assert!(opened_dump.identity_block().is_err());
    let identity = opened_dump.identity().unwrap();
    assert_eq!(identity.boot_id, [0xb0; 16]);
    assert_eq!(opened_dump.warnings(), []);
    let named = u128::from_be_bytes(identity.dump_id);
    assert_eq!(opened_dump.id(), Ok(format!("{named:032x}")));
}

#[test]
fn a_wrong_page_is_named_by_its_address() {
    let sim = small::<Amd64>(models::AMD64);
    let mut file = dump(&sim, settings(None)).1;
    let pages: Vec<u64> = sim.predicted(3).into_iter().collect();
    let start = extension_of(&file) - pages.len() * 4096;
    file[start + 7 * 4096 + 100] ^= 1;
    file[start + 9 * 4096] ^= 0x80;
    let told = bad(&verified(&file), "page sums");
    assert_eq!(told.len(), 2, "{told:?}");
    for (line, page) in told.iter().zip([pages[7], pages[9]]) {
        assert!(
            line.starts_with(&format!("page {:#x} is not as written", page << 12)),
            "{line}"
        );
    }
}

#[test]
fn a_wrong_page_of_a_full_dump_is_named_by_the_addresses_of_its_run() {
    let sim = small::<Amd64>(models::AMD64);
    let mut file = dump(&sim, full()).1;
    let sums = PageSums::parse(payload(&file, RecordKind::Pages)).unwrap();
    assert_eq!(sums.run_bytes, 4 * 4096);
    let at = extension_of(&file) - 2 * 4096;
    file[at] ^= 1;
    let told = bad(&verified(&file), "page sums");
    let last = sim.ranges.last().unwrap().end.0;
    let pages = format!(
        "a page from {:#x} to {:#x} is",
        last - 0x4000,
        last - 0x1000
    );
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with(&pages), "{told:?} {pages}");
}

#[test]
fn a_wrong_section_is_named() {
    let file = sample();
    for (at, name) in [
        (0x380, "section header"),
        (0x1100, "section message buffer"),
        (0x1_9000 + 0xf00, "section dump_avail"),
    ] {
        let mut damaged = file.clone();
        damaged[at] ^= 4;
        let told = bad(&verified(&damaged), "section sums");
        assert_eq!(told.len(), 1, "{name}: {told:?}");
        assert!(told[0].contains(name), "{told:?}");
    }
}

#[test]
fn damage_in_the_kernel_is_listed_and_odd() {
    let mut sim = small::<Amd64>(models::AMD64);
    let top = sim.table_of(sim.model.kernbase, 2);
    sim.set_entry(top, 2, 0xdead_0000_0063);
    let file = dump(&sim, settings(None)).1;
    let verification = verified(&file);
    let damage = verification.damage.clone().unwrap();
    assert_eq!((damage.found, damage.entries.len()), (2, 2));
    let json = serde_json::to_value(damage.entries[0]).unwrap();
    let expected = serde_json::json!({
        "kind": "table_not_ram", "level": 1, "va": "0xfffffe0080000000", "pa": "0xdead00000000",
        "pages": 1,
    });
    assert_eq!(json, expected);
    let odd = verification.checks.iter();
    let odd = odd.filter(|check| check.name == "damage list" && check.verdict == Verdict::Warning);
    assert_eq!(odd.count(), 3);
    let info = facts(&file);
    assert!(info.identity.unwrap().damaged);
    assert_eq!(info.extension.unwrap().damage_found, Some(2));
}

#[test]
fn a_cpu_that_did_not_stop_is_odd() {
    let verification = verified(&sample());
    let check = verification
        .checks
        .iter()
        .find(|check| check.name == "registers")
        .unwrap();
    assert_eq!(check.verdict, Verdict::Warning);
    assert!(check.detail.ends_with("CPU 2"), "{}", check.detail);
}

#[test]
fn any_damaged_byte_of_the_identity_block_is_a_warning_and_the_copy_is_used() {
    let file = sample();
    let good = opened(&file);
    for at in 0..IDENTITY_LEN {
        let mut damaged = file.clone();
        damaged[1024 + at] ^= 0x41;
        let opened_dump = opened(&damaged);
        let places: Vec<_> = opened_dump
            .warnings()
            .iter()
            .map(Warning::subject)
            .collect();
        assert_eq!(places, [WarningSubject::Identity], "byte {at}");
        assert_eq!(opened_dump.identity(), good.identity());
        assert_eq!(opened_dump.id(), good.id());
        assert_eq!(opened_dump.completeness(), good.completeness());
    }
    let verification = verified(&{
        let mut damaged = file.clone();
        damaged[1024 + 100] ^= 1;
        damaged
    });
    assert_eq!(bad(&verification, "identity").len(), 1);
}

#[test]
fn any_damaged_byte_of_the_extension_is_a_warning_and_the_rest_is_used() {
    let file = sample();
    let good = opened(&file);
    let start = extension_of(&file);
    let locator = Locator::parse(file.last_chunk().unwrap()).unwrap();
    let records = start + ix(locator.len_bytes);
    let sums = record_of(&file, RecordKind::Pages) + 16 + 32;
    let sums_end = record_of(&file, RecordKind::Cpus) - 8;
    let locator = file.len() - LOCATOR_LEN;
    // Of the checksums every one would be the same case.
    let bytes = (start..sums + 64)
        .chain(sums_end - 8..records)
        .chain(locator..file.len());
    for at in bytes {
        let mut damaged = file.clone();
        damaged[at] ^= 0x41;
        let opened_dump = opened(&damaged);
        assert!(!opened_dump.warnings().is_empty(), "byte {at:#x}");
        for warning in opened_dump.warnings() {
            assert_eq!(warning.subject(), WarningSubject::Extension, "byte {at:#x}");
        }
        assert_eq!(opened_dump.identity(), good.identity());
        assert_eq!(opened_dump.id(), good.id());
        let found = opened_dump.completeness();
        assert!(matches!(found, Ok(Completeness::Complete { .. })));
    }
}

#[test]
fn a_record_that_does_not_hold_what_it_promises_is_a_warning() {
    for (kind, field) in [
        (RecordKind::Identity, 16),
        (RecordKind::Pages, 16 + 24),
        (RecordKind::Pages, 16 + 16),
    ] {
        let mut file = sample();
        let at = record_of(&file, kind);
        file[at + field] ^= 0x41;
        sum_up(&mut file, at);
        let opened_dump = opened(&file);
        let warnings: Vec<String> = opened_dump
            .warnings()
            .iter()
            .map(Warning::to_string)
            .collect();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].ends_with("is malformed"), "{warnings:?}");
    }
}

#[test]
fn a_record_of_a_later_version_is_passed_over_unless_it_must_be_understood() {
    for (flags, warnings) in [(0, vec![]), (1, vec![Warning::MustUnderstand { kind: 77 }])] {
        let mut file = sample();
        let at = record_of(&file, RecordKind::Cpus);
        file[at] = 77;
        file[at + 4] = flags;
        sum_up(&mut file, at);
        let opened_dump = opened(&file);
        assert_eq!(opened_dump.warnings(), warnings);
        let extension = opened_dump.extension().unwrap();
        assert!(extension.cpus().is_none() && extension.damage().is_some());
    }
}

#[test]
fn the_extension_of_another_dump_is_noticed() {
    let mut file = sample();
    let mut sim = small::<Amd64>(models::AMD64);
    sim.time_seconds += 1;
    let other = dump(&sim, settings(None)).1;
    file[1024..1024 + IDENTITY_LEN].copy_from_slice(&other[1024..1024 + IDENTITY_LEN]);
    assert_eq!(opened(&file).warnings(), [Warning::ExtensionOfAnother]);
    assert!(!bad(&verified(&file), "identity").is_empty());
}

#[test]
fn an_extension_that_is_cut_or_missing_is_told_and_the_pages_are_complete() {
    let file = sample();
    let start = extension_of(&file);
    let whole = Ok(Completeness::Complete { trailing_bytes: 0 });
    for cut in [start, start + 8, start + 16, start + 400, file.len() - 1] {
        let opened_dump = opened(&file[..cut]);
        let warnings = opened_dump.warnings();
        assert!(
            matches!(
                warnings,
                [Warning::ExtensionMissing | Warning::ExtensionCut]
            ),
            "{cut:#x}: {warnings:?}"
        );
        if cut < start + 8 || cut > start + 400 {
            assert_eq!(opened_dump.completeness(), whole, "{cut:#x}");
        }
        assert!(opened_dump.identity().is_some());
    }
    // A dump that lost pages is truncated; that its extension is lost, too, is expected.
    assert_eq!(opened(&file[..start - 1]).warnings(), []);
}

#[test]
fn a_damaged_bitmap_does_not_hide_the_extension() {
    let mut file = sample();
    let bitmap = 0x1_9000 + 0x1000;
    file[bitmap + 100] ^= 1;
    let opened_dump = opened(&file);
    assert!(matches!(
        opened_dump.warnings(),
        [Warning::ExtensionElsewhere { .. }]
    ));
    assert!(opened_dump.extension().unwrap().page_sums().is_some());
    let told = bad(&verified(&file), "section sums");
    assert!(told[0].contains("section bitmap"), "{told:?}");
}
