//! Reading virtual memory: `kvm_read`, `kvm_read2`.

use crate::handle::{Kvm, with};
use std::ffi::{c_ulong, c_void};
use vmcore_format::addr::VirtAddr;

/// Bytes that are read on the stack, as most reads are; and at most at once on the heap.
const FEW: usize = 256;
const MANY: usize = 1 << 20;

/// Reads `nbytes` bytes at `addr` into `buf`. Returns how many there are up to the first one that is
/// missing, or -1 if not even the first one is there. The rest of `buf` is left as it is.
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
        let mut few = [0; FEW];
        let mut many = vec![0; if nbytes > FEW { nbytes.min(MANY) } else { 0 }];
        let part = if nbytes > FEW {
            &mut many
        } else {
            &mut few[..]
        };
        let mut done = 0;
        while done < nbytes {
            let want = part.len().min(nbytes - done);
            let part = part.get_mut(..want).unwrap_or_default();
            let Some(va) = VirtAddr(addr).checked_add(done as u64) else {
                kvm.fail("the address space ends here");
                break;
            };
            let read = space.read(va, part);
            // SAFETY: the caller's promise: `done` and what is read are in the buffer, which is
            // not shared. Bytes after them stay as the program left them.
            unsafe {
                let to = buf.cast::<u8>().add(done);
                to.copy_from_nonoverlapping(part.as_ptr(), read.len);
            }
            done += read.len;
            match read.error {
                Some(error) if done == 0 => return Err(error.to_string()),
                Some(error) => {
                    kvm.fail(&error.to_string());
                    break;
                }
                None => {}
            }
        }
        Ok(isize::try_from(done).unwrap_or(isize::MAX))
    };
    // SAFETY: the caller's promise.
    unsafe { with(kd, -1, read) }
}
