//! Reading virtual memory: `kvm_read`, `kvm_read2`.

use crate::handle::{Kvm, with};
use std::ffi::{c_ulong, c_void};
use vmcore_format::addr::VirtAddr;

/// Reads `nbytes` bytes at `addr` into `buf`. Returns how many there are up to the first one that is
/// missing, or -1 if not even the first one is there.
///
/// # Safety
/// `kd` is null, or a handle from `kvm_open` that was not closed; `buf` has room for `nbytes` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_read(
    kd: *mut Kvm,
    addr: c_ulong,
    buf: *mut c_void,
    nbytes: usize,
) -> isize {
    #[allow(
        clippy::useless_conversion,
        reason = "`long` is narrower on some hosts"
    )]
    let addr = u64::from(addr);
    // SAFETY: the caller's promise.
    unsafe { kvm_read2(kd, addr, buf, nbytes) }
}

/// As [`kvm_read`], for addresses wider than this host's.
///
/// # Safety
/// As [`kvm_read`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_read2(
    kd: *mut Kvm,
    addr: u64,
    buf: *mut c_void,
    nbytes: usize,
) -> isize {
    let read = |kvm: &Kvm| {
        if nbytes == 0 {
            return Ok(0);
        }
        if buf.is_null() || isize::try_from(nbytes).is_err() {
            return Err(format!("there is no buffer of {nbytes} bytes"));
        }
        let space = kvm.session.space().map_err(|error| error.to_string())?;
        // SAFETY: the caller's promise. The bytes may never have been written: they are now.
        let buffer = unsafe {
            buf.cast::<u8>().write_bytes(0, nbytes);
            std::slice::from_raw_parts_mut(buf.cast::<u8>(), nbytes)
        };
        let part = space.read(VirtAddr(addr), buffer);
        match part.fault {
            Some(fault) if part.len == 0 => return Err(fault.to_string()),
            Some(fault) => kvm.fail(&fault.to_string()),
            None => {}
        }
        Ok(isize::try_from(part.len).unwrap_or(isize::MAX))
    };
    // SAFETY: the caller's promise.
    unsafe { with(kd, -1, read) }
}
