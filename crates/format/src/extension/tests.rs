use super::*;
use crate::addr::{PhysAddr, VirtAddr};
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

fn record(kind: u32, flags: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&kind.to_le_bytes());
    bytes.extend_from_slice(&flags.to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    bytes.extend_from_slice(payload);
    while bytes.len() % 8 != 0 {
        bytes.push(0);
    }
    let sum = xxhash_rust::xxh64::xxh64(&bytes, 0);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

#[test]
fn the_locator_stands_as_specified() {
    let locator = Locator {
        version: 1,
        records: 5,
        offset: FileOffset(0x0102_0304_0506_0708),
        len_bytes: 0x1000,
        dump_id: [9; 16],
    };
    let bytes = locator.encode();
    assert_eq!(&bytes[..8], b"vmcoreXT");
    assert_eq!(bytes[8..16], [1, 0, 0, 0, 5, 0, 0, 0]);
    assert_eq!(bytes[16..24], [8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(bytes[24..32], [0, 0x10, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[32..48], [9; 16]);
    assert_eq!(
        bytes[56..],
        xxhash_rust::xxh64::xxh64(&bytes[..56], 0).to_le_bytes()
    );
    assert_eq!(Locator::parse(&bytes), Ok(locator));
    assert_eq!(Locator::parse(&[0; 64]), Err(ExtensionError::Absent));
    let mut damaged = bytes;
    damaged[20] ^= 1;
    assert!(matches!(
        Locator::parse(&damaged),
        Err(ExtensionError::BadChecksum { .. })
    ));
}

#[test]
fn records_are_read_in_order_and_a_damaged_one_is_passed_over() {
    let mut bytes = record(1, 0, b"first");
    let second = bytes.len();
    bytes.extend(record(0x77, 1, b"12345678"));
    bytes.extend(record(5, 0, b""));
    bytes.extend(vec![0; 50]);
    let read = |bytes: &[u8]| {
        records(bytes)
            .map(|found| found.map(|record| record.payload.len()))
            .collect::<Vec<_>>()
    };
    assert_eq!(read(&bytes), [Ok(5), Ok(8), Ok(0)]);
    let found: Vec<_> = records(&bytes).flatten().collect();
    assert_eq!(
        found
            .iter()
            .map(|record| record.must_understand)
            .collect::<Vec<_>>(),
        [false, true, false]
    );
    assert_eq!(found[1].kind, RecordKind::Other(0x77));
    bytes[second + 17] ^= 0x80;
    let damaged = read(&bytes);
    assert_eq!((damaged.len(), damaged[2]), (3, Ok(0)));
    assert!(
        matches!(damaged[1], Err(ExtensionError::BadChecksum { at, .. }) if at == second as u64)
    );
}

#[test]
fn records_that_reach_the_locator_end_there() {
    let mut bytes = record(1, 0, b"first");
    let locator = Locator {
        version: 1,
        records: 1,
        offset: FileOffset(0),
        len_bytes: bytes.len() as u64,
        dump_id: [9; 16],
    };
    bytes.extend(locator.encode());
    let found: Vec<_> = records(&bytes)
        .map(|record| record.unwrap().payload)
        .collect();
    assert_eq!(found, [b"first"]);
}

#[test]
fn a_cut_record_ends_the_records() {
    let bytes = record(1, 0, b"first");
    let found: Vec<_> = records(&bytes[..bytes.len() - 1]).collect();
    assert_eq!(found, [Err(ExtensionError::Truncated { at: 0 })]);
    let mut endless = bytes;
    endless[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(
        records(&endless).collect::<Vec<_>>(),
        [Err(ExtensionError::Truncated { at: 0 })]
    );
}

#[test]
fn page_sums_cover_all_pages_and_the_last_run_is_short() {
    let mut payload = Vec::from(PageSums::encode_head(FileOffset(0x8000), 0x5000, 0x2000, 3));
    for sum in [11u64, 12, 13] {
        payload.extend_from_slice(&sum.to_le_bytes());
    }
    let sums = PageSums::parse(&payload).unwrap();
    assert_eq!(
        sums.runs().collect::<Vec<_>>(),
        [
            (FileOffset(0x8000), 0x2000, 11),
            (FileOffset(0xa000), 0x2000, 12),
            (FileOffset(0xc000), 0x1000, 13)
        ]
    );
    assert!(PageSums::parse(&payload[..payload.len() - 8]).is_err());
    payload[16..24].fill(0); // runs of no bytes
    assert!(PageSums::parse(&payload).is_err());
    // No bytes in runs of no bytes.
    assert!(PageSums::parse(&[0; 32]).is_err());
    assert!(PageSums::parse(&PageSums::encode_head(FileOffset(0), 0, 0x2000, 0)).is_ok());
}

#[test]
fn cpus_that_did_not_stop_have_no_registers() {
    let mut payload = Vec::from(Cpu::encode_head(4, 2, 2));
    payload.extend_from_slice(&Cpu::encode_cpu(0, CpuState::Dumping, 100_001));
    payload.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    payload.extend_from_slice(&Cpu::encode_cpu(1, CpuState::Running, 0));
    payload.extend_from_slice(&[0; 16]);
    let (layout, cpus) = Cpu::parse_all(&payload).unwrap();
    let cpus: Vec<_> = cpus.collect();
    assert_eq!((layout, cpus.len()), (4, 2));
    assert_eq!(
        (cpus[0].cpu, cpus[0].state, cpus[0].thread),
        (0, CpuState::Dumping, 100_001)
    );
    assert_eq!(cpus[0].registers().collect::<Vec<_>>(), [1, 2]);
    assert_eq!((cpus[1].cpu, cpus[1].registers().count()), (1, 0));
}

#[test]
fn sections_and_damage_come_back() {
    let section = SectionSum {
        section: 4,
        offset: FileOffset(0x3000),
        stored_bytes: 0x1000,
        checksum: 77,
    };
    assert_eq!(
        SectionSum::parse_all(&section.encode()).collect::<Vec<_>>(),
        [section]
    );
    let damage = Damage {
        kind: DamageKind::TableNotRam,
        level: 2,
        va: VirtAddr(0xffff_ffff_8000_0000),
        pa: PhysAddr(0xdead_b000),
        count: 1,
    };
    let mut payload = Vec::from(Damage::encode_head(9, 1));
    payload.extend_from_slice(&damage.encode());
    let (found, entries) = Damage::parse_all(&payload).unwrap();
    assert_eq!((found, entries.collect::<Vec<_>>()), (9, vec![damage]));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..400), sum: bool) {
        let bytes = if sum { record(3, 0, &bytes) } else { bytes };
        for record in records(&bytes).flatten() {
            if let Ok(sums) = PageSums::parse(record.payload) {
                prop_assert!(sums.runs().count() * 8 <= bytes.len());
            }
            if let Ok((_, cpus)) = Cpu::parse_all(record.payload) {
                prop_assert!(cpus.count() * 16 <= bytes.len());
            }
            if let Ok((_, entries)) = Damage::parse_all(record.payload) {
                prop_assert!(entries.count() * 32 <= bytes.len());
            }
        }
    }
}

/// Entries as `docs/format-extension.md` has them, with 8 more bytes that a later version has.
fn table(count: u32, entry: &[u8], layout: u32, registers: u32) -> Vec<u8> {
    let longer = [entry, &[0xee; 8]].concat();
    let mut bytes = Vec::new();
    let len = u32::try_from(longer.len()).unwrap();
    for word in [count, len, layout, registers] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend_from_slice(&longer);
    bytes
}

fn words(bytes: &mut Vec<u8>, words: &[u64]) {
    for word in words {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
}

fn text(bytes: &mut Vec<u8>, text: &str, len: usize) {
    let end = bytes.len() + len;
    bytes.extend_from_slice(text.as_bytes());
    bytes.resize(end, 0);
}

#[test]
fn threads_stand_as_specified() {
    let mut entry = Vec::new();
    words(&mut entry, &[12, 7, 0xffff_8000_0000_1000]);
    entry.extend_from_slice(&[3, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    words(&mut entry, &[0x4444_0000, 0x4000, 0b101]);
    text(&mut entry, "reader", 32);
    text(&mut entry, "keyboard", 32);
    assert_eq!(entry.len(), kernel::THREAD_LEN);
    let mut thread = kernel::Thread::new(12);
    thread.process = 7;
    thread.address = VirtAddr(0xffff_8000_0000_1000);
    thread.state = kernel::ThreadState::Sleeping;
    thread.stack = (VirtAddr(0x4444_0000), 0x4000);
    thread.known = 0b101;
    thread.name = b"reader";
    thread.wait = b"keyboard";
    assert_eq!(thread.encode()[..], entry);
    words(&mut entry, &[100, 200, 300]);
    let payload = table(1, &entry, 1, 3);
    let (layout, mut found) = kernel::Thread::parse_all(&payload).unwrap();
    let found = (layout, found.next().unwrap(), found.count());
    assert_eq!((found.0, found.2), (1, 0));
    let registers: Vec<_> = found.1.registers().collect();
    assert_eq!(registers, [(0, 100), (2, 300)]);
    assert_eq!((found.1.cpu, found.1.wait), (None, &b"keyboard"[..]));
    // Entries that are too short for what they hold.
    let short = table(1, &entry[..kernel::THREAD_LEN + 8], 1, 3);
    assert!(kernel::Thread::parse_all(&short).is_err());
}

#[test]
fn processes_and_modules_stand_as_specified() {
    let mut entry = Vec::new();
    words(&mut entry, &[7, 1, 0xffff_8000_0000_2000]);
    text(&mut entry, "shell", 32);
    let process = kernel::Process {
        id: 7,
        parent: 1,
        address: VirtAddr(0xffff_8000_0000_2000),
        name: b"shell",
    };
    assert_eq!(process.encode()[..], entry);
    let found: Vec<_> = kernel::Process::parse_all(&table(9, &entry, 0, 0))
        .unwrap()
        .map(|one| one.id)
        .collect();
    assert_eq!(found, [7]);
    let mut entry = Vec::new();
    words(&mut entry, &[0x40_0000, 0x3000, 20]);
    entry.extend_from_slice(&[[5; 20].as_slice(), &[0; 12]].concat());
    text(&mut entry, "net", 64);
    let module = kernel::Module {
        base: VirtAddr(0x40_0000),
        len_bytes: 0x3000,
        build_id: &[5; 20],
        name: b"net",
    };
    assert_eq!(module.encode()[..], entry);
    let payload = table(1, &entry, 0, 0);
    let found: Vec<_> = kernel::Module::parse_all(&payload).unwrap().collect();
    assert_eq!(found, [module]);
}

#[test]
fn an_address_space_that_cannot_be_is_refused() {
    let space = |level: u32, bits: u32, entries: u64| {
        let mut payload = [0; kernel::ADDRESS_SPACE_LEN];
        payload[8..12].copy_from_slice(&level.to_le_bytes());
        payload[12..16].copy_from_slice(&bits.to_le_bytes());
        payload[24..32].copy_from_slice(&entries.to_le_bytes());
        kernel::AddressSpace::parse(&payload)
    };
    assert!(space(3, 48, 512).is_ok());
    assert!(space(3, 48, 512).unwrap().direct_map.is_none());
    for (level, bits, entries) in [(5, 48, 512), (3, 0, 512), (3, 65, 512), (3, 48, 1 << 21)] {
        assert!(space(level, bits, entries).is_err());
    }
    assert!(kernel::AddressSpace::parse(&[0; 79]).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_a_table_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok((_, threads)) = kernel::Thread::parse_all(&bytes) {
            for thread in threads {
                prop_assert!(thread.registers().count() <= 64);
            }
        }
        if let Ok(processes) = kernel::Process::parse_all(&bytes) {
            prop_assert!(processes.count() <= bytes.len());
        }
        if let Ok(modules) = kernel::Module::parse_all(&bytes) {
            prop_assert!(modules.count() <= bytes.len());
        }
        let _ = kernel::AddressSpace::parse(&bytes);
        let _ = kernel::System::parse(&bytes);
    }
}
