//! The records after a dump, raw and with checksums that are right: whatever decodes encodes to
//! what it was.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcore_format::checksum::{Checksum, checksum};
use vmcore_format::extension::kernel::{
    AddressSpace, MODULE_LEN, Module, PROCESS_LEN, Process, System, THREAD_LEN, Thread,
};
use vmcore_format::extension::{
    Cpu, CpuState, Damage, LOCATOR_LEN, Locator, PageSums, Record, RecordHeader, RecordKind,
    SectionSum, records,
};
use vmcore_format::identity::Identity;
use vmcore_fuzz::input::Input;

fuzz_target!(|data: &[u8]| {
    summed(data);
    let mut bytes = 0;
    for record in records(data).flatten() {
        check(&record);
        bytes += record.payload.len();
    }
    assert!(bytes <= data.len());
    // The same bytes as the payload of a record.
    let mut input = Input(data);
    let kind = RecordKind::from_number(u32::from(input.byte()) % 12);
    let payload = input.0;
    let mut record = Vec::from(RecordHeader::new(kind, payload.len() as u64).encode());
    record.extend_from_slice(payload);
    record.resize(record.len().next_multiple_of(8), 0);
    record.extend_from_slice(&checksum(&record).to_le_bytes());
    let found: Vec<_> = records(&record).collect();
    if kind == RecordKind::End {
        assert!(found.is_empty());
    } else {
        let [Ok(record)] = &found[..] else {
            panic!("not one sound record: {found:?}");
        };
        assert_eq!((record.kind, record.payload), (kind, payload));
        check(record);
    }
    if let Some(locator) = data.last_chunk::<LOCATOR_LEN>() {
        let mut locator = *locator;
        let sum = checksum(&locator[..LOCATOR_LEN - 8]);
        locator[LOCATOR_LEN - 8..].copy_from_slice(&sum.to_le_bytes());
        if let Ok(parsed) = Locator::parse(&locator) {
            assert_eq!(Locator::parse(&parsed.encode()), Ok(parsed));
        }
    }
});

/// A checksum does not depend on the parts in which the bytes come.
fn summed(data: &[u8]) {
    let mut sum = Checksum::new();
    let mut rest = data;
    let mut len = data.first().map_or(1, |byte| usize::from(*byte));
    while !rest.is_empty() {
        let (part, tail) = rest.split_at(len.clamp(1, rest.len()));
        sum.update(part);
        (rest, len) = (tail, len.wrapping_mul(5) % 200);
    }
    assert_eq!(sum.value(), checksum(data));
}

fn check(record: &Record<'_>) {
    let payload = record.payload;
    match record.kind {
        RecordKind::Identity => {
            if let Ok(identity) = Identity::parse(payload) {
                assert_eq!(Identity::parse(&identity.encode()), Ok(identity));
            }
        }
        RecordKind::Sections => {
            for section in SectionSum::parse_all(payload) {
                let again = section.encode();
                assert_eq!(SectionSum::parse_all(&again).next(), Some(section));
            }
        }
        RecordKind::Pages => {
            let Ok(sums) = PageSums::parse(payload) else {
                return;
            };
            let mut end = sums.offset;
            let mut bytes = 0;
            for (start, len_bytes, _) in sums.runs() {
                assert_eq!(start, end);
                assert!(0 < len_bytes && len_bytes <= sums.run_bytes);
                bytes += len_bytes;
                match start.checked_add(len_bytes) {
                    Some(next) => end = next,
                    None => return,
                }
            }
            assert_eq!(bytes, sums.len_bytes);
        }
        RecordKind::Cpus => {
            let Ok((_, cpus)) = Cpu::parse_all(payload) else {
                return;
            };
            let mut bytes = 0;
            for cpu in cpus {
                let registers = cpu.registers().count();
                assert!(cpu.state != CpuState::Running || registers == 0);
                bytes += 16 + 8 * registers;
            }
            assert!(bytes <= payload.len());
        }
        RecordKind::Damage => {
            let Ok((_, entries)) = Damage::parse_all(payload) else {
                return;
            };
            for damage in entries {
                let mut again = Vec::from(Damage::encode_head(1, 1));
                again.extend_from_slice(&damage.encode());
                let (found, mut again) = Damage::parse_all(&again).expect("a whole payload");
                assert_eq!((found, again.next()), (1, Some(damage)));
            }
        }
        RecordKind::AddressSpace => {
            if let Ok(space) = AddressSpace::parse(payload) {
                assert_eq!(AddressSpace::parse(&space.encode()), Ok(space));
            }
        }
        RecordKind::System => {
            let Ok(system) = System::parse(payload) else {
                return;
            };
            let texts = [system.name, system.version, system.compiler];
            assert!(texts.iter().all(|text| !text.contains(&0)));
        }
        RecordKind::Processes => {
            if let Ok(processes) = Process::parse_all(payload) {
                assert!(processes.count() * PROCESS_LEN <= payload.len());
            }
        }
        RecordKind::Threads => {
            let Ok((_, threads)) = Thread::parse_all(payload) else {
                return;
            };
            let mut bytes = 0;
            for thread in threads {
                bytes += THREAD_LEN + 8 * thread.registers().count();
            }
            assert!(bytes <= payload.len());
        }
        RecordKind::Modules => {
            if let Ok(modules) = Module::parse_all(payload) {
                assert!(modules.count() * MODULE_LEN <= payload.len());
            }
        }
        // Text, which no reader takes apart.
        RecordKind::Manifest => {}
        RecordKind::End | RecordKind::Other(_) => {}
    }
}
