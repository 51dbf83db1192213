//! Registers of a device: 32-bit words (and narrower ones) that are read and written one by one.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use vmcore_format::addr::VirtAddr;

/// A window of registers, mapped uncached; empty until it is set.
pub(crate) struct Mmio {
    base: AtomicU64,
    len: AtomicUsize,
}

impl Mmio {
    pub(crate) const fn new() -> Self {
        Self {
            base: AtomicU64::new(0),
            len: AtomicUsize::new(0),
        }
    }

    /// Shows it where the registers are: what [`crate::vm::pmap::map_device`] gave.
    pub(crate) fn set(&self, base: VirtAddr, len: usize) {
        self.len.store(len, Ordering::Relaxed);
        self.base.store(base.0, Ordering::Release);
    }

    /// The address of a register; a register outside the window is a mistake in a driver.
    fn address<T>(&self, offset: usize) -> *mut T {
        let base = self.base.load(Ordering::Acquire);
        assert!(
            offset + size_of::<T>() <= self.len.load(Ordering::Relaxed),
            "register {offset:#x} is outside its window"
        );
        (base + offset as u64) as *mut T
    }

    pub(crate) fn read(&self, offset: usize) -> u32 {
        // SAFETY: the window is mapped and the register is inside.
        unsafe { self.address::<u32>(offset).read_volatile() }
    }

    pub(crate) fn write(&self, offset: usize, value: u32) {
        // SAFETY: as for `read`; drivers answer for what their devices do.
        unsafe { self.address::<u32>(offset).write_volatile(value) }
    }

    pub(crate) fn read16(&self, offset: usize) -> u16 {
        // SAFETY: as for `read`.
        unsafe { self.address::<u16>(offset).read_volatile() }
    }

    pub(crate) fn write16(&self, offset: usize, value: u16) {
        // SAFETY: as for `write`.
        unsafe { self.address::<u16>(offset).write_volatile(value) }
    }

    pub(crate) fn read8(&self, offset: usize) -> u8 {
        // SAFETY: as for `read`.
        unsafe { self.address::<u8>(offset).read_volatile() }
    }

    pub(crate) fn write8(&self, offset: usize, value: u8) {
        // SAFETY: as for `write`.
        unsafe { self.address::<u8>(offset).write_volatile(value) }
    }

    /// A 64-bit register, as two halves.
    pub(crate) fn write64(&self, offset: usize, value: u64) {
        self.write(offset, value as u32);
        self.write(offset + 4, (value >> 32) as u32);
    }
}
