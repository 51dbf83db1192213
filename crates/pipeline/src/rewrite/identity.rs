//! Which dump it is: what an earlier writer of ours left in the file, and what the conversion adds.

use super::kernel::KernelMemory;
use super::qemu::QemuCpu;
use std::fmt::Write as _;
use vmcore::Session;
use vmcore::memory::PageReadError;
use vmcore::source::Source;
use vmcore_format::arch::Arch;
use vmcore_format::extension::{self, Cpu as CpuRecord, LOCATOR_LEN, Locator, Record, RecordKind};
use vmcore_format::identity::{
    BuildId, Clock, IDENTITY_MAX_LEN, IDENTITY_OFFSET, Identity, Origin, Trap,
};
use vmcore_format::registers::{MAX_REGISTERS, layout_number};
use vmcore_writer::machine::Cpu;

/// The most bytes of records that are read: checksums of a machine of 32 TiB.
const MAX_RECORDS: u64 = 64 << 20;

/// What an earlier writer of ours left in the file.
pub(super) struct Earlier {
    identity: Option<Identity>,
    /// The records of its extension.
    records: Vec<u8>,
}

impl Earlier {
    pub(super) fn read(source: &Source) -> Self {
        let mut block = vec![0; IDENTITY_MAX_LEN];
        let read = source.read_positional(IDENTITY_OFFSET, &mut block);
        block.truncate(read.unwrap_or(0));
        let mut earlier = Self {
            identity: Identity::parse(&block).ok(),
            records: records(source).unwrap_or_default(),
        };
        if earlier.identity.is_none() {
            let record = earlier.record(RecordKind::Identity);
            earlier.identity = record.and_then(|record| Identity::parse(record.payload).ok());
        }
        earlier
    }

    fn record(&self, kind: RecordKind) -> Option<Record<'_>> {
        extension::records(&self.records)
            .filter_map(Result::ok)
            .find(|record| record.kind == kind)
    }

    /// The CPUs, by their numbers, as far as they are below `limit`.
    pub(super) fn cpus(&self, arch: Arch, limit: u32) -> Vec<Cpu> {
        let Some(record) = self.record(RecordKind::Cpus) else {
            return Vec::new();
        };
        let Ok((layout, found)) = CpuRecord::parse_all(record.payload) else {
            return Vec::new();
        };
        if layout != layout_number(arch) {
            return Vec::new();
        }
        let mut cpus = Vec::new();
        for cpu in found.filter(|cpu| cpu.cpu < limit) {
            let number = usize::try_from(cpu.cpu).unwrap_or(0);
            if cpus.len() <= number {
                cpus.resize(number + 1, Cpu::RUNNING);
            }
            let mut registers = [0; MAX_REGISTERS];
            for (to, from) in registers.iter_mut().zip(cpu.registers()) {
                *to = from;
            }
            if let Some(slot) = cpus.get_mut(number) {
                *slot = Cpu {
                    state: cpu.state,
                    thread: cpu.thread,
                    registers,
                };
            }
        }
        cpus
    }
}

/// The records that the locator at the end of the file tells of.
fn records(source: &Source) -> Option<Vec<u8>> {
    let at = source.len().checked_sub(LOCATOR_LEN as u64)?;
    let mut raw = [0; LOCATOR_LEN];
    source.read_positional(at, &mut raw).ok()?;
    let locator = Locator::parse(&raw).ok()?;
    let end = locator.offset.checked_add(locator.len_bytes)?;
    if end.0 > at || locator.len_bytes > MAX_RECORDS {
        return None;
    }
    let mut records = vec![0; usize::try_from(locator.len_bytes).ok()?];
    let read = source
        .read_positional(locator.offset.0, &mut records)
        .ok()?;
    (read == records.len()).then_some(records)
}

/// The identity of the new dump: that of the earlier one if it had one, else what can be found out.
/// The dump keeps its id; one that had none gets that of the file, so that every conversion of the
/// file has the same.
pub(super) fn identity(
    session: &Session,
    earlier: &Earlier,
    notes: &[QemuCpu],
    kernel: Option<&KernelMemory<'_>>,
) -> Result<Identity, PageReadError> {
    let source_id = u128::from_str_radix(&session.dump().id()?, 16)
        .unwrap_or(0)
        .to_be_bytes();
    let origin = match notes {
        [] => Origin::FullDump,
        _ => Origin::Hypervisor,
    };
    let known = match earlier.identity {
        Some(known) => known,
        None => Identity {
            dump_id: source_id,
            ..found(session, kernel)
        },
    };
    // The writer's own findings belong to the dump that it wrote.
    Ok(Identity {
        damaged: false,
        fallback: false,
        origin,
        source_id,
        ..known
    })
}

/// What the kernel's memory tells.
fn found(session: &Session, kernel: Option<&KernelMemory<'_>>) -> Identity {
    let mut identity = Identity::default();
    if let Some(id) = session.build_ids().and_then(|ids| ids.certain()) {
        identity.build_id = BuildId::new(id.as_bytes());
    }
    if let Some(header) = session.dump().device_header() {
        identity.time_seconds = i64::try_from(header.dumptime).unwrap_or(0);
    }
    let Some(kernel) = kernel else {
        return identity;
    };
    if kernel.word("panicstr").is_some_and(|panic| panic != 0) {
        identity.trap = Trap::Panic;
    }
    if let Some(seconds) = kernel.number("time_second") {
        identity.time_seconds = i64::try_from(seconds).unwrap_or(0);
        identity.clock = Clock::Unknown;
    }
    if let Some(seconds) = kernel.number("time_uptime") {
        identity.uptime_us = seconds.saturating_mul(1_000_000);
    }
    identity
}

/// An id as 32 hexadecimal digits.
pub(super) fn text(id: &[u8; 16]) -> String {
    id.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
