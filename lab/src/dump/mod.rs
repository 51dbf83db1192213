//! Dumping: what this kernel does so that the writer can write.
//!
//! At boot: the dump map and the writer's memory ([`map`], [`init`]). While the kernel runs:
//! allocators add and drop pages. In a panic: [`doadump`], with the kernel's answers in [`machine`]
//! and the disk in [`device`]. [`predict`] says how large the dump would be, from counters alone.

pub(crate) mod device;
pub(crate) mod machine;
pub(crate) mod map;
pub(crate) mod predict;

use crate::arch::pcb::{PcbCell, savectx};
use crate::arch::{pcpu, time};
use crate::kern::console::printf;
use crate::kern::sysctl::{FULL_FALLBACK, MINIDUMP};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use device::PanicDisk;
use machine::LabMachine;
use vmcore_writer::disk::DiskSink;
use vmcore_writer::error::DumpError;
use vmcore_writer::latch::{Latch, Owner};
use vmcore_writer::settings::{Patience, Settings};
use vmcore_writer::sink::{Durability, SinkError};
use vmcore_writer::writer::{DumpKind, Summary};
use vmcore_writer::{Writer, sink};

/// The registers of the thread that dumps, where its dump began; file-local in old kernels.
#[unsafe(no_mangle)]
static dumppcb: PcbCell = PcbCell::new();
/// Its number; 0 until there was a dump.
#[unsafe(no_mangle)]
static dumptid: AtomicI32 = AtomicI32::new(0);
#[unsafe(no_mangle)]
static dumping: AtomicI32 = AtomicI32::new(0);
#[unsafe(no_mangle)]
static dumped_core: AtomicBool = AtomicBool::new(false);

static LATCH: Latch = Latch::new();
/// The dump that this CPU is writing, for those who come second.
static DUMPING_CPU: AtomicU32 = AtomicU32::new(u32::MAX);

/// The writer and its disk: whoever holds the latch has them.
struct Held<T>(UnsafeCell<Option<T>>);
// SAFETY: filled at boot by one CPU; used afterwards by the owner of `LATCH` only.
unsafe impl<T> Sync for Held<T> {}
static WRITER: Held<Writer<'static>> = Held(UnsafeCell::new(None));
static SINK: Held<DiskSink<PanicDisk>> = Held(UnsafeCell::new(None));

/// Gives the writer its memory.
pub(crate) fn init() {
    let memory = map::init();
    match Writer::new(map::get(), Settings::default(), memory) {
        // SAFETY: nobody dumps yet.
        Ok(writer) => unsafe { *WRITER.0.get() = Some(writer) },
        Err(error) => panic!("the dump's memory: {error}"),
    }
}

/// Makes the disk the place for dumps.
pub(crate) fn attach_disk() {
    if crate::dev::vtblk::media_bytes() > 0 {
        let sink = DiskSink::new(PanicDisk, Patience::default());
        // SAFETY: nobody dumps yet. The sink stays in this static, where the disk can reach it.
        unsafe { *SINK.0.get() = Some(sink) }
    }
}

/// Why there is no dump.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failure {
    /// A dump is going on.
    Busy,
    /// There is no disk.
    NoDevice,
    /// The writer says why.
    Failed,
}

/// Writes a dump to the disk.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) fn doadump() -> Result<(), Failure> {
    let owner = match LATCH.enter() {
        Ok(owner) => owner,
        Err(reentry) => {
            printf!("{reentry}\n");
            return Err(Failure::Busy);
        }
    };
    // SAFETY: whoever holds the latch has the PCB. The context is that of this very function, which
    // does not return before the dump is written.
    unsafe { savectx(dumppcb.get()) }
    let tid = pcpu::curthread().map_or(0, |thread| thread.td_tid);
    dumptid.store(tid, Ordering::Relaxed);
    dumping.store(1, Ordering::Relaxed);
    DUMPING_CPU.store(pcpu::cpuid() as u32, Ordering::Release);
    let result = dumpsys(&owner);
    DUMPING_CPU.store(u32::MAX, Ordering::Release);
    dumping.store(0, Ordering::Relaxed);
    if result.is_ok() {
        dumped_core.store(true, Ordering::Relaxed);
    }
    result
}

/// Writes a dump without a word, and returns its bytes, and how many of them it wrote in a microsecond.
pub(crate) fn measure() -> Option<(u64, u64)> {
    let owner = LATCH.enter().ok()?;
    // SAFETY: the latch is ours.
    let (writer, sink) = unsafe { (&mut *WRITER.0.get(), &mut *SINK.0.get()) };
    let start_us = time::uptime_us();
    let summary = writer
        .as_mut()?
        .dump(&owner, &LabMachine::silent(), sink.as_mut()?);
    let elapsed_us = (time::uptime_us() - start_us).max(1);
    let len_bytes = summary.ok()?.len_bytes;
    Some((len_bytes, len_bytes / elapsed_us))
}

/// Lets the writer write, and says what came of it in FreeBSD's words.
fn dumpsys(owner: &Owner<'_>) -> Result<(), Failure> {
    // SAFETY: the latch is ours.
    let (writer, sink) = unsafe { (&mut *WRITER.0.get(), &mut *SINK.0.get()) };
    let (Some(writer), Some(sink)) = (writer, sink) else {
        return Err(Failure::NoDevice);
    };
    let settings = writer.settings_mut();
    settings.minidump = MINIDUMP.get() != 0;
    settings.fall_back_to_full = FULL_FALLBACK.get() != 0;
    let machine = LabMachine::new();
    let start_us = time::uptime_us();
    let result = writer.dump(owner, &machine, sink);
    let elapsed_us = time::uptime_us() - start_us;
    machine.end_line();
    match result {
        Ok(summary) => {
            report(&summary, elapsed_us);
            Ok(())
        }
        Err(error) => {
            complain(&error);
            Err(Failure::Failed)
        }
    }
}

fn report(summary: &Summary, elapsed_us: u64) {
    printf!("Dump complete\n");
    match summary.kind {
        DumpKind::Mini { version } => printf!("minidump version {version}: "),
        DumpKind::Full { fallback: false } => printf!("full dump: "),
        DumpKind::Full { fallback: true } => {
            printf!("full dump, because the page tables are damaged beyond use: ");
        }
    }
    let rate = summary.len_bytes / elapsed_us.max(1);
    printf!(
        "{} bytes, {} pages, {} ms, {rate} MB/s\n",
        summary.len_bytes,
        summary.pages,
        elapsed_us / 1000
    );
    if summary.damage > 0 {
        printf!("{} times something could not be read\n", summary.damage);
    }
    if let Durability::Unknown(error) = summary.durability {
        printf!("Synchronize cache failed: {error}\n");
    }
}

fn complain(error: &DumpError) {
    match error {
        DumpError::Aborted => printf!("Dump aborted\n"),
        DumpError::Sink(sink::SinkError::NoRoom { need_bytes, .. }) => printf!(
            "Dump failed. Partition too small (about {}MB were needed this time).\n",
            need_bytes >> 20
        ),
        DumpError::Sink(SinkError::Write { .. }) => {
            printf!("Aborting dump due to I/O error.\n** DUMP FAILED: {error} **\n");
        }
        error => printf!("** DUMP FAILED: {error} **\n"),
    }
}

/// Whether this CPU is writing a dump.
pub(crate) fn is_dumping() -> bool {
    DUMPING_CPU.load(Ordering::Acquire) == pcpu::cpuid() as u32
}

/// Tells that something went wrong while a dump was being written: the latch keeps how far it had
/// come. There is no second dump; whoever calls this resets the machine.
pub(crate) fn note_reentry() {
    if dumping.load(Ordering::Relaxed) != 0
        && let Err(reentry) = LATCH.enter()
    {
        printf!("\n{reentry}\n");
    }
}

/// What the debugger's `dump` says of an error.
pub(crate) fn command() {
    match doadump() {
        Ok(()) | Err(Failure::Failed) => {}
        Err(Failure::Busy) => printf!("Cannot dump: debugger got invoked while dumping.\n"),
        Err(Failure::NoDevice) => printf!("Cannot dump: no dump device specified.\n"),
    }
}
