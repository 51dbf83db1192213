//! Emission of what the kernel tells of itself: address space, system, processes, threads, modules.

use crate::arch::KernelPaging;
use crate::error::DumpError;
use crate::machine::{self, Machine, Text};
use crate::plan::ExtensionPlan;
use crate::sink::Sink;
use crate::stream::Stream;
use vmcore_format::extension::RecordKind;
use vmcore_format::extension::kernel::{
    AddressSpace, MODULE_LEN, Module, PROCESS_LEN, Process, SYSTEM_COMPILER_LEN, SYSTEM_LEN,
    SYSTEM_NAME_LEN, SYSTEM_VERSION_LEN, THREAD_LEN, TableHead, Thread,
};
use vmcore_format::registers;

/// Puts in the payload of a record that a self-describing dump has.
pub(super) fn record<M: Machine, S: Sink>(
    stream: &mut Stream<'_, M, S>,
    plan: &ExtensionPlan,
    kind: RecordKind,
) -> Result<(), DumpError> {
    let Some(described) = plan.described else {
        return Ok(());
    };
    match kind {
        RecordKind::AddressSpace => address_space(stream, described.tables_are_pages),
        RecordKind::System => system(stream),
        RecordKind::Processes => processes(stream, described.processes),
        RecordKind::Threads => threads(stream, described.threads, plan.registers),
        RecordKind::Modules => modules(stream, described.modules),
        _ => Ok(()),
    }
}

#[inline(never)]
fn address_space<M: Machine, S: Sink>(
    stream: &mut Stream<'_, M, S>,
    tables_are_pages: bool,
) -> Result<(), DumpError> {
    let kernel = stream.machine.kernel();
    let buffer = stream.machine.message_buffer();
    let space = AddressSpace {
        tables: <M::Paging as KernelPaging>::TABLES,
        radix: kernel.radix,
        tables_are_pages,
        direct_map: kernel.direct_map,
        message_buffer: Some((buffer.start, buffer.len_bytes.into())),
    };
    stream.put(&space.encode())
}

#[inline(never)]
fn system<M: Machine, S: Sink>(stream: &mut Stream<'_, M, S>) -> Result<(), DumpError> {
    let mut fields = [0; SYSTEM_LEN];
    let mut rest = &mut fields[..];
    for (text, len) in [
        (Text::System, SYSTEM_NAME_LEN),
        (Text::Version, SYSTEM_VERSION_LEN),
        (Text::Compiler, SYSTEM_COMPILER_LEN),
    ] {
        let (field, others) = rest.split_at_mut_checked(len).unwrap_or_default();
        let have = stream.machine.text(text, field);
        field.get_mut(have..).unwrap_or_default().fill(0);
        rest = others;
    }
    stream.put(&fields)
}

/// Zeros for entries that were counted and are gone.
fn fill<M: Machine, S: Sink>(
    stream: &mut Stream<'_, M, S>,
    entries: u32,
    len_bytes: u64,
) -> Result<(), DumpError> {
    let missing = u64::from(entries).saturating_mul(len_bytes);
    stream.put_zeros_to(stream.position().saturating_add(missing))
}

#[inline(never)]
fn processes<M: Machine, S: Sink>(
    stream: &mut Stream<'_, M, S>,
    count: u32,
) -> Result<(), DumpError> {
    stream.put(&head(count, PROCESS_LEN, 0, 0).encode())?;
    let mut cursor = 0;
    for number in 0..count {
        let Some(process) = stream.machine.process(&mut cursor) else {
            return fill(stream, count - number, PROCESS_LEN as u64);
        };
        let entry = Process {
            id: process.id,
            parent: process.parent,
            address: process.address,
            name: &process.name,
        };
        stream.put(&entry.encode())?;
    }
    Ok(())
}

#[inline(never)]
fn threads<M: Machine, S: Sink>(
    stream: &mut Stream<'_, M, S>,
    count: u32,
    registers: u32,
) -> Result<(), DumpError> {
    let layout = registers::layout_number(<M::Paging as KernelPaging>::ARCH);
    let values = usize::try_from(registers).unwrap_or(0);
    let len = THREAD_LEN.saturating_add(values.saturating_mul(8));
    stream.put(&head(count, len, layout, registers).encode())?;
    let mut cursor = 0;
    for number in 0..count {
        let Some(thread) = &stream.machine.thread(&mut cursor) else {
            return fill(stream, count - number, len as u64);
        };
        let register =
            |stream: &Stream<'_, M, S>, place| stream.machine.thread_register(thread, place);
        let known = (0..values.min(64)).fold(0, |known, place| {
            known | u64::from(register(stream, place).is_some()) << place
        });
        stream.put(&entry(thread, known))?;
        for place in 0..values {
            let value = register(stream, place).unwrap_or(0);
            stream.put(&value.to_le_bytes())?;
        }
    }
    Ok(())
}

// Not inlined, nor is what follows: each uses its stack before the next one does.
#[inline(never)]
fn entry(thread: &machine::Thread, known: u64) -> [u8; THREAD_LEN] {
    let mut entry = Thread::new(thread.id);
    entry.process = thread.process;
    entry.address = thread.address;
    entry.state = thread.state;
    entry.cpu = thread.cpu;
    entry.stack = thread.stack;
    entry.known = known;
    entry.name = &thread.name;
    entry.wait = &thread.wait;
    entry.encode()
}

#[inline(never)]
fn modules<M: Machine, S: Sink>(
    stream: &mut Stream<'_, M, S>,
    count: u32,
) -> Result<(), DumpError> {
    stream.put(&head(count, MODULE_LEN, 0, 0).encode())?;
    let mut cursor = 0;
    for number in 0..count {
        let Some(module) = stream.machine.module(&mut cursor) else {
            return fill(stream, count - number, MODULE_LEN as u64);
        };
        let (build_id, len) = &module.build_id;
        let entry = Module {
            base: module.base,
            len_bytes: module.len_bytes,
            build_id: build_id.get(..*len).unwrap_or_default(),
            name: &module.name,
        };
        stream.put(&entry.encode())?;
    }
    Ok(())
}

fn head(count: u32, entry_bytes: usize, layout: u32, registers: u32) -> TableHead {
    TableHead {
        count,
        entry_bytes: u32::try_from(entry_bytes).unwrap_or(0),
        layout,
        registers,
    }
}
