//! The one file that calls zlib: deflate in memory of ours, behind an interface that needs no care.
//!
//! zlib-rs offers its encoder by zlib's C interface only. All that is `unsafe` about it is here: the
//! pointers of `z_stream`, and the allocator that it calls once, at the start of a stream.
#![expect(unsafe_code, reason = "zlib's interface is C's")]

use core::ffi::{c_int, c_uint, c_void};
use core::marker::PhantomData;
use core::mem::{align_of, size_of};
use core::ptr::{self, NonNull};
use libz_rs_sys::{
    Z_DEFAULT_STRATEGY, Z_DEFLATED, Z_FINISH, Z_NO_FLUSH, Z_OK, Z_STREAM_END, deflate,
    deflateInit2_, z_stream, zlibVersion,
};

/// Bytes that a stream takes: what zlib-rs allocates at any level, what precedes it, and
/// some for alignment.
pub(super) const SHIM_BYTES: usize = 380_032 + size_of::<StreamMemory>() + 2 * ALIGN;
/// zlib-rs aligns what it gets to 64 bytes by itself; ours is aligned already.
const ALIGN: usize = 64;
/// Raw deflate with a window of 32 KiB, and the memory level that FreeBSD uses.
const WINDOW_BITS: c_int = -15;
const MEMORY_LEVEL: c_int = 8;

/// What is at the start of the memory. The stream must not move while it is used.
#[repr(C)]
struct StreamMemory {
    stream: z_stream,
    arena: Arena,
}

/// Memory that is given out from its start and never taken back.
#[repr(C)]
struct Arena {
    next: *mut u8,
    left: usize,
}

/// A deflate stream in borrowed memory.
pub(super) struct Deflate<'m> {
    place: NonNull<StreamMemory>,
    /// What follows the place.
    room: NonNull<u8>,
    room_bytes: usize,
    begun: bool,
    memory: PhantomData<&'m mut [u8]>,
}

/// What a step did.
pub(super) struct Step {
    pub(super) taken: usize,
    pub(super) given: usize,
    pub(super) is_end: bool,
}

impl<'m> Deflate<'m> {
    /// A stream in `memory`; `None` if that is too small.
    pub(super) fn new(memory: &'m mut [u8]) -> Option<Self> {
        const { assert!(align_of::<StreamMemory>() <= ALIGN) }
        let skip = memory.as_ptr().align_offset(ALIGN);
        let memory = memory.get_mut(skip..)?;
        let (place, room) =
            memory.split_at_mut_checked(size_of::<StreamMemory>().next_multiple_of(ALIGN))?;
        Some(Self {
            place: NonNull::new(place.as_mut_ptr())?.cast(),
            room: NonNull::new(room.as_mut_ptr())?,
            room_bytes: room.len(),
            begun: false,
            memory: PhantomData,
        })
    }

    /// Begins a stream. Of an earlier one nothing is left: all its memory was ours.
    pub(super) fn begin(&mut self, level: u8) -> Option<()> {
        let place = self.place.as_ptr();
        let mut stream = z_stream {
            zalloc: Some(allocate),
            zfree: Some(free),
            ..z_stream::default()
        };
        // SAFETY: `place` is aligned and `size_of::<StreamMemory>()` bytes of `memory`, which is borrowed for
        // as long as `self` lives and is not shared; any bytes may be overwritten.
        unsafe {
            stream.opaque = (&raw mut (*place).arena).cast();
            place.write(StreamMemory {
                stream,
                arena: Arena {
                    next: self.room.as_ptr(),
                    left: self.room_bytes,
                },
            });
        }
        // SAFETY: the stream was just initialised, with an allocator whose memory outlives it, and
        // stays where it is; version and size are those of the library's own `z_stream`.
        let result = unsafe {
            deflateInit2_(
                &raw mut (*place).stream,
                level.into(),
                Z_DEFLATED,
                WINDOW_BITS,
                MEMORY_LEVEL,
                Z_DEFAULT_STRATEGY,
                zlibVersion(),
                c_int::try_from(size_of::<z_stream>()).ok()?,
            )
        };
        self.begun = result == Z_OK;
        self.begun.then_some(())
    }

    /// Compresses some of `from` to `to`; with `finish`, `from` is the last there is.
    pub(super) fn step(&mut self, from: &[u8], to: &mut [u8], finish: bool) -> Option<Step> {
        if !self.begun {
            return None;
        }
        let place = self.place.as_ptr();
        let (from_len, to_len) = (
            c_uint::try_from(from.len()).ok()?,
            c_uint::try_from(to.len()).ok()?,
        );
        // SAFETY: `begin` has initialised the stream, which is where it was. Input and output are
        // live slices of these lengths, and zlib keeps neither pointer beyond the call: they are
        // reset below.
        let (result, from_left, to_left) = unsafe {
            let stream = &raw mut (*place).stream;
            (*stream).next_in = from.as_ptr();
            (*stream).avail_in = from_len;
            (*stream).next_out = to.as_mut_ptr();
            (*stream).avail_out = to_len;
            let result = deflate(stream, if finish { Z_FINISH } else { Z_NO_FLUSH });
            let left = ((*stream).avail_in, (*stream).avail_out);
            (*stream).next_in = ptr::null();
            (*stream).avail_in = 0;
            (*stream).next_out = ptr::null_mut();
            (*stream).avail_out = 0;
            (result, left.0, left.1)
        };
        let is_end = result == Z_STREAM_END;
        (result == Z_OK || is_end).then_some(Step {
            taken: from_len.checked_sub(from_left)? as usize,
            given: to_len.checked_sub(to_left)? as usize,
            is_end,
        })
    }
}

/// The CRC-32 of gzip, continued from `crc`.
pub(super) fn crc32(crc: u32, bytes: &[u8]) -> u32 {
    let Ok(len) = c_uint::try_from(bytes.len()) else {
        return crc;
    };
    // SAFETY: pointer and length are those of a live slice.
    let sum = unsafe { libz_rs_sys::crc32(crc.into(), bytes.as_ptr(), len) };
    // The function works on 32 bits, whatever `c_ulong` is.
    u32::try_from(sum & 0xffff_ffff).unwrap_or(crc)
}

unsafe extern "C" fn allocate(opaque: *mut c_void, items: c_uint, size: c_uint) -> *mut c_void {
    let arena = opaque.cast::<Arena>();
    let Some(len) = (items as usize)
        .checked_mul(size as usize)
        .and_then(|len| len.checked_next_multiple_of(ALIGN))
    else {
        return ptr::null_mut();
    };
    // SAFETY: `opaque` is what `begin` set: the arena of this stream, which is not shared while
    // zlib is called. `next` and the `left` bytes after it are borrowed memory; `len` of them are
    // given out, and never again.
    unsafe {
        if len > (*arena).left {
            return ptr::null_mut();
        }
        let start = (*arena).next;
        (*arena).next = start.add(len);
        (*arena).left -= len;
        start.cast()
    }
}

unsafe extern "C" fn free(_: *mut c_void, _: *mut c_void) {}
