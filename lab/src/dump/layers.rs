//! What a dump goes through: the layers' memory, set aside at boot, and the sinks around sinks.

use crate::arch::layout::{PAGE_SIZE, dmap};
use crate::dump::config::{Config, Device};
use crate::dump::device::{PanicDisk, PanicNet};
use crate::dump::key;
use crate::dump::key::Keys;
use crate::kern::setting::{GZIP_LEVEL, LAYER_PANIC};
use crate::sys::boot_cell::BootCell;
use crate::vm::phys;
use core::cell::UnsafeCell;
use core::slice;
use core::sync::atomic::{AtomicBool, Ordering};
use vmcore_format::addr::{PhysAddr, PhysRange};
use vmcore_format::kerneldump::{Compression, DumpHeader};
use vmcore_writer::disk::DiskSink;
use vmcore_writer::encrypt::{ENCRYPTION_MEMORY_BYTES, Encrypted};
use vmcore_writer::gzip::{GZIP_MEMORY_BYTES, Gzip};
use vmcore_writer::netdump::{NET_MEMORY_BYTES, NetPatience, NetSink};
use vmcore_writer::sink::{Durability, LayerError, Sink, SinkError};
use vmcore_writer::zstd::{ZSTD_MEMORY_BYTES, Zstd};

/// One compressor works at a time.
const COMPRESSION_BYTES: usize = if ZSTD_MEMORY_BYTES > GZIP_MEMORY_BYTES {
    ZSTD_MEMORY_BYTES
} else {
    GZIP_MEMORY_BYTES
};

static MEMORY: BootCell<[Option<PhysRange>; 4]> = BootCell::new();
static HAS_KEY: AtomicBool = AtomicBool::new(false);
static LAYERS: Held = Held(UnsafeCell::new(None));

struct Held(UnsafeCell<Option<Layers>>);
// SAFETY: filled at boot by one CPU; used afterwards by the owner of the dump's latch only.
unsafe impl Sync for Held {}

/// Memory of the layers, and what else they need.
struct Layers {
    compression: &'static mut [u8],
    encryption: &'static mut [u8],
    network: &'static mut [u8],
    keys: Option<&'static mut Keys>,
}

/// Memory in one piece, which devices can read, and which is in no minidump.
fn memory(len: usize, used: &mut Option<PhysRange>) -> &'static mut [u8] {
    let range = phys::alloc_contiguous(len as u64, PAGE_SIZE);
    phys::mark_no_dump(range);
    *used = Some(range);
    // SAFETY: fresh memory, in the direct map, and not shared.
    unsafe { slice::from_raw_parts_mut(dmap(range.start), len) }
}

/// Sets the memory aside, and takes the key that the host handed over.
pub(crate) fn init() {
    let mut used = [None; 4];
    let page = phys::alloc_page(true);
    let end = PhysAddr(page.0 + PAGE_SIZE);
    used[0] = Some(PhysRange { start: page, end });
    let keys = key::init(page);
    HAS_KEY.store(keys.is_some(), Ordering::Relaxed);
    let layers = Layers {
        compression: memory(COMPRESSION_BYTES, &mut used[1]),
        encryption: memory(ENCRYPTION_MEMORY_BYTES, &mut used[2]),
        network: memory(NET_MEMORY_BYTES, &mut used[3]),
        keys,
    };
    MEMORY.set(used);
    // SAFETY: no dump can be in progress yet.
    unsafe { *LAYERS.0.get() = Some(layers) }
}

/// Where all of it is.
pub(crate) fn memory_ranges() -> [Option<PhysRange>; 4] {
    MEMORY.try_get().copied().unwrap_or_default()
}

/// Whether dumps can be encrypted.
pub(crate) fn has_key() -> bool {
    HAS_KEY.load(Ordering::Relaxed)
}

/// Why the sink of a device cannot be set up.
pub(crate) enum SinkSetupError {
    /// There is no such device.
    NoDevice,
    /// A layer cannot be made.
    Layer(LayerError),
}

impl From<LayerError> for SinkSetupError {
    fn from(error: LayerError) -> Self {
        Self::Layer(error)
    }
}

/// Builds the sink of the device, and lets `work` use it: compression above encryption above the device.
///
/// # Safety
/// The caller holds the dump's latch.
pub(crate) unsafe fn with<T>(
    config: &Config,
    disk: Option<&mut DiskSink<PanicDisk>>,
    work: impl FnOnce(&mut dyn Sink) -> T,
) -> Result<T, SinkSetupError> {
    // SAFETY: the caller's promise.
    let layers = unsafe { &mut *LAYERS.0.get() };
    let layers = layers.as_mut().ok_or(SinkSetupError::NoDevice)?;
    let mut network;
    let device: &mut dyn Sink = match config.device {
        Device::Off => return Err(SinkSetupError::NoDevice),
        Device::Disk => disk.ok_or(SinkSetupError::NoDevice)?,
        Device::Net => {
            let config = config.network().ok_or(SinkSetupError::NoDevice)?;
            network = NetSink::new(PanicNet, config, NetPatience::default(), layers.network)?;
            &mut network
        }
    };
    let mut wire = Tripwire::new(device);
    let mut encrypted;
    let below: &mut dyn Sink = match config.cipher {
        None => &mut wire,
        Some(cipher) => {
            let keys = layers.keys.as_mut().ok_or(LayerError::Key)?;
            encrypted = Encrypted::new(wire, keys.of(cipher), layers.encryption)?;
            &mut encrypted
        }
    };
    match config.compression {
        Compression::Zstd => Ok(work(&mut Zstd::new(below, layers.compression)?)),
        Compression::Gzip => {
            let level = GZIP_LEVEL.get().min(9) as u8;
            Ok(work(&mut Gzip::new(below, level, layers.compression)?))
        }
        _ => Ok(work(below)),
    }
}

/// Between the layers and the device, and panics when `lab.layer_panic` says so: for whoever
/// calls, a layer has panicked.
struct Tripwire<'a> {
    sink: &'a mut dyn Sink,
    passed: u64,
}

impl<'a> Tripwire<'a> {
    fn new(sink: &'a mut dyn Sink) -> Self {
        Self { sink, passed: 0 }
    }
}

impl Sink for Tripwire<'_> {
    fn begin(&mut self, header: &DumpHeader<'_>, key: &[u8]) -> Result<(), SinkError> {
        self.passed = 0;
        self.sink.begin(header, key)
    }

    fn chunk_bytes(&self) -> usize {
        self.sink.chunk_bytes()
    }

    fn granule_bytes(&self) -> usize {
        self.sink.granule_bytes()
    }

    fn submit(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.sink.submit(bytes)?;
        self.passed += bytes.len() as u64;
        let limit = LAYER_PANIC.get() << 10;
        if limit != 0 && self.passed > limit {
            // Once is enough.
            LAYER_PANIC.set(0);
            panic!("a layer of the dump is broken");
        }
        Ok(())
    }

    fn complete(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.sink.complete(bytes)
    }

    fn finish(&mut self, len_bytes: u64) -> Result<Durability, SinkError> {
        self.sink.finish(len_bytes)
    }

    fn cancel(&mut self) {
        self.sink.cancel();
    }
}
