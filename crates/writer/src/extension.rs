//! Emission of the extension: identity, checksums, registers, damage, what the kernel tells of itself, and
//! the locator at the end.

mod described;

use crate::arch::KernelPaging;
use crate::damage::{self, DamageList};
use crate::error::DumpError;
use crate::latch::Stage;
use crate::machine::Machine;
use crate::plan::ExtensionPlan;
use crate::sink::Sink;
use crate::stream::Stream;
use vmcore_format::extension::{
    Cpu, DAMAGE_ENTRY_LEN, Damage, EXTENSION_VERSION, LOCATOR_LEN, Locator, PageSums, RecordHeader,
    RecordKind,
};
use vmcore_format::identity::IDENTITY_LEN;
use vmcore_format::registers;

/// Puts in the extension: what comes after the last page, up to the end of the dump.
#[inline(never)]
pub(crate) fn extension<M: Machine, S: Sink>(
    stream: &mut Stream<'_, M, S>,
    plan: &ExtensionPlan,
    identity: &[u8; IDENTITY_LEN],
    dump_id: [u8; 16],
    damage: &DamageList,
) -> Result<(), DumpError> {
    let sums = stream.take_runs();
    stream.start(Stage::Extension);
    let mut records = 0;
    for (kind, len_bytes) in plan.records().into_iter().flatten() {
        begin(stream, kind, len_bytes)?;
        match kind {
            RecordKind::Identity => stream.put(identity)?,
            RecordKind::Sections => sections(stream, plan)?,
            RecordKind::Pages => page_sums(stream, plan, sums)?,
            RecordKind::Cpus => cpus(stream, plan)?,
            RecordKind::Damage => damage_list(stream, damage)?,
            described => described::record(stream, plan, described)?,
        }
        end(stream)?;
        records += 1;
    }
    stream.expect(plan.offset.0.saturating_add(plan.records_bytes))?;
    stream.put_zeros_to(plan.end.0.saturating_sub(LOCATOR_LEN as u64))?;
    let locator = Locator {
        version: EXTENSION_VERSION,
        records,
        offset: plan.offset,
        len_bytes: plan.records_bytes,
        dump_id,
    };
    stream.put(&locator.encode())
}

fn begin<M: Machine, S: Sink>(
    stream: &mut Stream<'_, M, S>,
    kind: RecordKind,
    len_bytes: u64,
) -> Result<(), DumpError> {
    stream.take_sum();
    stream.put(&RecordHeader::new(kind, len_bytes).encode())
}

/// Pads the record, and puts its checksum after it.
fn end<M: Machine, S: Sink>(stream: &mut Stream<'_, M, S>) -> Result<(), DumpError> {
    // The extension starts on a page boundary, so the position tells the padding.
    stream.put_zeros_to(stream.position().saturating_add(7) & !7)?;
    let sum = stream.take_sum();
    stream.put(&sum.to_le_bytes())
}

fn sections<M: Machine, S: Sink>(
    stream: &mut Stream<'_, M, S>,
    plan: &ExtensionPlan,
) -> Result<(), DumpError> {
    let count = usize::try_from(plan.sections).unwrap_or(0);
    for section in stream.sections().iter().take(count) {
        stream.put(&section.encode())?;
    }
    Ok(())
}

fn page_sums<M: Machine, S: Sink>(
    stream: &mut Stream<'_, M, S>,
    plan: &ExtensionPlan,
    sums: &[u64],
) -> Result<(), DumpError> {
    let head = PageSums::encode_head(plan.pages, plan.len_bytes(), plan.run_bytes, plan.runs);
    stream.put(&head)?;
    let sum = |index| {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        sums.get(index).copied().unwrap_or(0).to_le_bytes()
    };
    stream.put_words(sums.len() as u64, sum)
}

fn cpus<M: Machine, S: Sink>(
    stream: &mut Stream<'_, M, S>,
    plan: &ExtensionPlan,
) -> Result<(), DumpError> {
    let layout = registers::layout_number(<M::Paging as KernelPaging>::ARCH);
    stream.put(&Cpu::encode_head(layout, plan.cpus, plan.registers))?;
    let count = usize::try_from(plan.registers).unwrap_or(0);
    for number in 0..plan.cpus {
        let cpu = stream.machine.cpu(number);
        stream.put(&Cpu::encode_cpu(number, cpu.state, cpu.thread))?;
        for value in cpu.registers.iter().take(count) {
            stream.put(&value.to_le_bytes())?;
        }
    }
    Ok(())
}

/// The list, with zeros for the entries that are not needed: its size was planned before there was
/// any damage.
fn damage_list<M: Machine, S: Sink>(
    stream: &mut Stream<'_, M, S>,
    damage: &DamageList,
) -> Result<(), DumpError> {
    let entries = damage.entries();
    stream.put(&Damage::encode_head(damage.found(), entries.len() as u64))?;
    for entry in entries {
        stream.put(&entry.encode())?;
    }
    let free = damage::CAPACITY
        .saturating_sub(entries.len())
        .saturating_mul(DAMAGE_ENTRY_LEN);
    stream.put_zeros_to(stream.position().saturating_add(free as u64))
}
