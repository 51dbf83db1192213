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
