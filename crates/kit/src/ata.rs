//! An ATA disk by programmed input and output: no interrupts, no DMA, nothing that a panic can have left
//! half done. Slow (a few MiB/s), and on every PC with a legacy controller and in every emulator.
//!
//! Source: ATA/ATAPI-6, `WRITE SECTOR(S) EXT`, `IDENTIFY DEVICE`, `FLUSH CACHE EXT`.
//!
//! ```no_run
//! use vmcore_kit::ata::Ata;
//! // SAFETY: nobody else uses the first controller any more.
//! let disk = unsafe { Ata::find(0x1f0, 0x3f6, false) };
//! println!("{} MiB", disk.ok_or("no disk")?.len_bytes() >> 20);
//! # Ok::<(), &str>(())
//! ```

use crate::x86::{inb, inw, outb, outw};
use vmcore_writer::device::{BlockDevice, DeviceError, Geometry};

const SECTOR_BYTES: u32 = 512;
/// Sectors of one command.
const MAX_SECTORS: u32 = 256;
/// Reads of a port in a millisecond: each takes about 1 µs on the bus of old, more elsewhere.
const POLLS_PER_MS: u32 = 1000;
/// How long a disk may take to say what it is.
const IDENTIFY_MS: u32 = 1000;

/// Registers, from the controller's base.
const DATA: u16 = 0;
const COUNT: u16 = 2;
const LBA_LOW: u16 = 3;
const LBA_MIDDLE: u16 = 4;
const LBA_HIGH: u16 = 5;
const DEVICE: u16 = 6;
const STATUS: u16 = 7;

const BUSY: u8 = 0x80;
const FAULT: u8 = 0x20;
const REQUEST: u8 = 0x08;
const ERROR: u8 = 0x01;

const IDENTIFY: u8 = 0xec;
const WRITE_EXT: u8 = 0x34;
const FLUSH_EXT: u8 = 0xea;

/// A disk.
#[derive(Debug)]
pub struct Ata {
    base: u16,
    control: u16,
    select: u8,
    sectors: u64,
    /// Bytes that the last write handed over.
    written: usize,
}

impl Ata {
    /// The disk of a controller: `base` is 0x1f0 or 0x170, `control` 0x3f6 or 0x376. `None` if there is none,
    /// or one without 48-bit addresses.
    ///
    /// # Safety
    /// The ports must be those of such a controller, and nobody else may use it afterwards.
    #[must_use]
    pub unsafe fn find(base: u16, control: u16, is_second: bool) -> Option<Self> {
        let mut disk = Self {
            base,
            control,
            select: 0xe0 | u8::from(is_second) << 4,
            sectors: 0,
            written: 0,
        };
        disk.put(DEVICE, disk.select);
        disk.pause();
        // Nothing on the bus reads as ones, a disk that is not there as zeros.
        if matches!(disk.status(), 0 | 0xff) {
            return None;
        }
        disk.reset(IDENTIFY_MS).ok()?;
        disk.command(IDENTIFY);
        disk.wait(REQUEST, IDENTIFY_MS).ok()?;
        let mut words = [0; 256];
        for word in &mut words {
            // SAFETY: the disk has 256 words for us.
            *word = unsafe { inw(base + DATA) };
        }
        let [_, features, ..] = words
            .get(82..)
            .and_then(|from| from.first_chunk::<2>().copied())?;
        if features & 1 << 10 == 0 {
            return None;
        }
        for word in words.get(100..104)?.iter().rev() {
            disk.sectors = disk.sectors << 16 | u64::from(*word);
        }
        (disk.sectors > 0).then_some(disk)
    }

    /// Its size in bytes.
    #[must_use]
    pub const fn len_bytes(&self) -> u64 {
        self.sectors.saturating_mul(SECTOR_BYTES as u64)
    }

    fn status(&self) -> u8 {
        // SAFETY: the controller is ours; the alternate status changes nothing.
        unsafe { inb(self.control) }
    }

    fn put(&self, register: u16, value: u8) {
        // SAFETY: the controller is ours.
        unsafe { outb(self.base + register, value) }
    }

    fn command(&self, command: u8) {
        self.put(DEVICE, self.select);
        self.pause();
        self.put(STATUS, command);
        self.pause();
    }

    /// The 400 ns that a disk may take to notice.
    fn pause(&self) {
        for _ in 0..4 {
            self.status();
        }
    }

    /// Waits until the disk is not busy, and has all of `bits`.
    fn wait(&self, bits: u8, timeout_ms: u32) -> Result<(), DeviceError> {
        for _ in 0..timeout_ms.saturating_mul(POLLS_PER_MS) {
            let status = self.status();
            if status & BUSY != 0 {
                continue;
            }
            if status & (ERROR | FAULT) != 0 {
                return Err(DeviceError::Io(status.into()));
            }
            if status & bits == bits {
                return Ok(());
            }
        }
        Err(DeviceError::Timeout)
    }

    /// Gives up what is under way, and turns interrupts off.
    fn reset(&self, timeout_ms: u32) -> Result<(), DeviceError> {
        // SAFETY: the controller is ours.
        unsafe {
            outb(self.control, 6);
            self.pause();
            outb(self.control, 2);
        }
        self.pause();
        self.wait(0, timeout_ms)?;
        // A reset selects the first disk.
        self.put(DEVICE, self.select);
        self.pause();
        self.wait(0, timeout_ms)
    }
}

impl BlockDevice for Ata {
    fn geometry(&self) -> Geometry {
        Geometry {
            block_bytes: SECTOR_BYTES,
            max_transfer_bytes: MAX_SECTORS * SECTOR_BYTES,
            media_offset: 0,
            media_bytes: self.len_bytes(),
        }
    }

    fn prepare(&mut self, timeout_ms: u32) -> Result<(), DeviceError> {
        self.reset(timeout_ms)
    }

    fn submit(&mut self, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        self.written = 0;
        let first = offset / u64::from(SECTOR_BYTES);
        let (sectors, _) = data.as_chunks::<512>();
        let count = u16::try_from(sectors.len()).map_err(|_| DeviceError::Io(0))?;
        let [a, b, c, d, e, f, ..] = first.to_le_bytes();
        let [count_low, count_high] = count.to_le_bytes();
        self.put(DEVICE, self.select);
        self.pause();
        for (register, value) in [
            (COUNT, count_high),
            (LBA_LOW, d),
            (LBA_MIDDLE, e),
            (LBA_HIGH, f),
            (COUNT, count_low),
            (LBA_LOW, a),
            (LBA_MIDDLE, b),
            (LBA_HIGH, c),
        ] {
            self.put(register, value);
        }
        self.command(WRITE_EXT);
        for sector in sectors {
            self.wait(REQUEST, 5000)?;
            for word in sector.as_chunks::<2>().0 {
                // SAFETY: the disk asks for the sector.
                unsafe { outw(self.base + DATA, u16::from_le_bytes(*word)) }
            }
            self.written += sector.len();
        }
        Ok(())
    }

    fn complete(&mut self, timeout_ms: u32) -> Result<usize, DeviceError> {
        match self.wait(0, timeout_ms) {
            Ok(()) => Ok(self.written),
            Err(error) => {
                self.reset(timeout_ms)?;
                Err(error)
            }
        }
    }

    fn flush(&mut self, timeout_ms: u32) -> Result<(), DeviceError> {
        self.command(FLUSH_EXT);
        self.wait(0, timeout_ms)
    }
}
