//! Dumping: what this kernel does so that the writer can write.
//!
//! At boot: the dump map and the writer's memory ([`dump_map`], [`init`]). While the kernel runs:
//! allocators add and drop pages. In a panic: [`doadump`], with the kernel's answers in [`machine`],
//! disk and network in [`device`], compression and encryption in [`layers`]; [`config`] says which of
//! them, [`key`] with what. [`predict`] says how large the dump would be, from counters alone, and
//! [`footprint`] which memory it changes.

pub(crate) mod config;
pub(crate) mod device;
pub(crate) mod footprint;
mod key;
mod layers;
pub(crate) mod machine;
pub(crate) mod predict;

use crate::arch::pcb::{PcbCell, savectx};
use crate::arch::time;
use crate::kern::setting::{FULL_FALLBACK, MINIDUMP};
use crate::sys::console::printf;
use crate::sys::pcpu;
use crate::vm::dump_map;
use config::Config;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use device::PanicDisk;
use layers::SinkSetupError;
use machine::LabMachine;
use vmcore_writer::Writer;
use vmcore_writer::disk::DiskSink;
use vmcore_writer::error::DumpError;
use vmcore_writer::latch::{Latch, Owner};
use vmcore_writer::settings::{Patience, Settings};
use vmcore_writer::sink::{Durability, Sink, SinkError};
use vmcore_writer::writer::{DumpKind, Summary};

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

/// The writer and its disk: the owner of the latch has them.
struct Held<T>(UnsafeCell<Option<T>>);
// SAFETY: filled at boot by one CPU; used afterwards by the owner of `LATCH` only.
unsafe impl<T> Sync for Held<T> {}
static WRITER: Held<Writer<'static>> = Held(UnsafeCell::new(None));
static SINK: Held<DiskSink<PanicDisk>> = Held(UnsafeCell::new(None));

/// Gives the writer its memory.
pub(crate) fn init() {
    let memory = dump_map::init();
    match Writer::new(dump_map::get(), Settings::default(), memory) {
        // SAFETY: no dump can be in progress yet.
        Ok(writer) => unsafe { *WRITER.0.get() = Some(writer) },
        Err(error) => panic!("the dump's memory: {error}"),
    }
}

/// Looks where dumps can go, and takes what the boot tunables say of that.
pub(crate) fn attach() {
    layers::init();
    if crate::dev::vtblk::media_bytes() > 0 {
        let sink = DiskSink::new(PanicDisk, Patience::default());
        // SAFETY: no dump can be in progress yet. The sink stays in this static, where the disk can reach it.
        unsafe { *SINK.0.get() = Some(sink) }
    }
    config::init();
}

/// Why there is no dump.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failure {
    /// A dump is going on.
    Busy,
    /// There is no disk.
    NoDevice,
    /// The server does not answer.
    Unreachable,
    /// The writer says why.
    Failed,
}

/// Writes a dump to where dumps go. If this very CPU was dumping already, a layer has panicked: then
/// it does so once more, without that.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) fn doadump() -> Result<(), Failure> {
    let mut config = config::get();
    let owner = if let Some(owner) = restart() {
        printf!("Dumping once more, without compression\n");
        config = config.without_compression();
        owner
    } else {
        match LATCH.enter() {
            Ok(owner) => owner,
            Err(reentry) => {
                printf!("{reentry}\n");
                return Err(Failure::Busy);
            }
        }
    };
    // SAFETY: the owner of the latch has the PCB. The context is that of this very function, which
    // does not return before the dump is written.
    unsafe { savectx(dumppcb.get()) }
    let tid = pcpu::curthread().map_or(0, |thread| thread.td_tid);
    dumptid.store(tid, Ordering::Relaxed);
    dumping.store(1, Ordering::Relaxed);
    DUMPING_CPU.store(pcpu::cpuid() as u32, Ordering::Release);
    let result = dumpsys(&owner, &config);
    DUMPING_CPU.store(u32::MAX, Ordering::Release);
    dumping.store(0, Ordering::Relaxed);
    if result.is_ok() {
        dumped_core.store(true, Ordering::Relaxed);
    }
    result
}

/// Writes a dump without a word, and returns its bytes, and how many of them it wrote in a microsecond.
pub(crate) fn measure(config: &Config) -> Option<(u64, u64)> {
    let owner = LATCH.enter().ok()?;
    // SAFETY: the latch is ours.
    let (writer, disk) = unsafe { (&mut *WRITER.0.get(), &mut *SINK.0.get()) };
    let writer = writer.as_mut()?;
    let machine = LabMachine::silent();
    let start_us = time::uptime_us();
    let mut write = |mut sink: &mut dyn Sink| writer.dump(&owner, &machine, &mut sink);
    // SAFETY: the latch is ours.
    let summary = unsafe { layers::with(config, disk.as_mut(), &mut write) }.ok()?;
    let elapsed_us = (time::uptime_us() - start_us).max(1);
    let len_bytes = summary.ok()?.len_bytes;
    Some((len_bytes, len_bytes / elapsed_us))
}

/// The latch, taken from the dump that this CPU was writing when it panicked, if that may be.
fn restart() -> Option<Owner<'static>> {
    if is_dumping() { LATCH.restart() } else { None }
}

/// Lets the writer write, and says what came of it in FreeBSD's words. If the server cannot be reached,
/// the disk gets the dump.
fn dumpsys(owner: &Owner<'_>, config: &Config) -> Result<(), Failure> {
    match dump_to(owner, config) {
        Err(Failure::Unreachable) if crate::dev::vtblk::media_bytes() > 0 => {
            printf!("Trying the disk\n");
            dump_to(owner, &config.on_disk())
        }
        result => result,
    }
}

fn dump_to(owner: &Owner<'_>, config: &Config) -> Result<(), Failure> {
    // SAFETY: the latch is ours.
    let (writer, disk) = unsafe { (&mut *WRITER.0.get(), &mut *SINK.0.get()) };
    let writer = writer.as_mut().ok_or(Failure::NoDevice)?;
    let settings = writer.settings_mut();
    settings.minidump = MINIDUMP.get() != 0;
    settings.fall_back_to_full = FULL_FALLBACK.get() != 0;
    if config.may_panic() {
        owner.allow_restart();
    }
    let machine = LabMachine::new();
    let start_us = time::uptime_us();
    let mut write = |mut sink: &mut dyn Sink| writer.dump(owner, &machine, &mut sink);
    // SAFETY: the latch is ours.
    let result = match unsafe { layers::with(config, disk.as_mut(), &mut write) } {
        Ok(result) => result,
        Err(SinkSetupError::NoDevice) => return Err(Failure::NoDevice),
        Err(SinkSetupError::Layer(error)) => {
            printf!("** DUMP FAILED: {error} **\n");
            return Err(Failure::Failed);
        }
    };
    let elapsed_us = time::uptime_us() - start_us;
    machine.end_line();
    match result {
        Ok(summary) => {
            report(&summary, elapsed_us);
            Ok(())
        }
        Err(error) => {
            report_error(&error);
            Err(match error {
                DumpError::Sink(SinkError::Network(_)) => Failure::Unreachable,
                _ => Failure::Failed,
            })
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

fn report_error(error: &DumpError) {
    match error {
        DumpError::Aborted => printf!("Dump aborted\n"),
        DumpError::Sink(SinkError::NoRoom { need_bytes, .. }) => printf!(
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
/// come. There is no second dump; the caller resets the machine.
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
        Ok(()) | Err(Failure::Failed | Failure::Unreachable) => {}
        Err(Failure::Busy) => printf!("Cannot dump: debugger got invoked while dumping.\n"),
        Err(Failure::NoDevice) => printf!("Cannot dump: no dump device specified.\n"),
    }
}

/// The debugger's `netdump`: a dump over the network, now, to whom the words name.
pub(crate) fn netdump(line: &str) {
    match config::over_network(line) {
        Ok(config) => {
            let before = config::replace(config);
            command();
            config::replace(before);
        }
        Err(why) => printf!("netdump: {why}\n"),
    }
}
