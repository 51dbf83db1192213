//! The dump device: the part of a disk driver that still works in a panic.

use thiserror::Error;

/// What a device looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of a block: a power of two from 512 to 4096.
    pub block_bytes: u32,
    /// The most bytes of one write; at least a block.
    pub max_transfer_bytes: u32,
    /// Where the dump partition starts on the device, in bytes.
    pub media_offset: u64,
    /// Its size in bytes.
    pub media_bytes: u64,
}

/// Why a device did not do what it was told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// It did not answer in time; the command was given up.
    #[error("the device did not answer in time")]
    Timeout,
    /// It reported an error.
    #[error("the device reported error {0}")]
    Io(u32),
    /// It wrote less than it was told to, again and again.
    #[error("the device wrote {written} of {wanted} bytes")]
    Short {
        /// Bytes written.
        written: usize,
        /// Bytes wanted.
        wanted: usize,
    },
    /// It is not there any more.
    #[error("the device is gone")]
    Gone,
}

/// A block device that is driven by polling, with interrupts off and every other CPU stopped.
///
/// No method may panic, take a lock, allocate, sleep, or touch memory that the rest of the kernel may
/// have left half changed. Every wait ends at `timeout_ms`, by a clock that runs in a panic or by
/// counting. One command is under way at most.
pub trait BlockDevice {
    /// What the device looks like; does not change.
    fn geometry(&self) -> Geometry;

    /// Takes the device over from the rest of the kernel: gives up what is under way, resets the
    /// controller if that is needed, and makes it ready for polled commands.
    ///
    /// # Errors
    /// Returns an error if the device cannot be used.
    fn prepare(&mut self, timeout_ms: u32) -> Result<(), DeviceError>;

    /// Starts to write `data` at byte `offset` of the device. Both are multiples of a block, within the
    /// partition and within `max_transfer_bytes`. The caller leaves `data` as it is until
    /// [`BlockDevice::complete`] has returned, so that the device may fetch it meanwhile.
    ///
    /// # Errors
    /// Returns an error if the command cannot be started; then nothing is under way.
    fn submit(&mut self, offset: u64, data: &[u8]) -> Result<(), DeviceError>;

    /// Waits until the write that is under way has ended, and returns how many bytes the device took.
    /// Afterwards nothing is under way, and the device fetches nothing any more: a command that timed
    /// out must have been given up for good, because its buffer is used again.
    ///
    /// # Errors
    /// Returns an error if the write failed; then any part of it may be on the media.
    fn complete(&mut self, timeout_ms: u32) -> Result<usize, DeviceError>;

    /// Has all completed writes on the media when it returns. A device without a cache has nothing to
    /// do, and succeeds.
    ///
    /// # Errors
    /// Returns an error if they may not be there.
    fn flush(&mut self, timeout_ms: u32) -> Result<(), DeviceError>;
}
