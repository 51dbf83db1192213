//! The message buffer: what the kernel said, in a ring that is part of every dump.
//!
//! The ring and FreeBSD's `struct msgbuf`, which says where it begins, are one object, so that readers
//! find both. Writing takes no lock: CPUs that write at the same time mix their characters, and no more.
//! Source of the structure: `sys/sys/msgbuf.h`.
//!
//! ```
//! use core::fmt::Write as _;
//! use vmcore_kit::ring::MessageRing;
//! static MESSAGES: MessageRing<4024> = MessageRing::new();
//! writeln!(&MESSAGES, "up after {} ms", 12)?;
//! assert!(MESSAGES.bytes().take(8).eq(*b"up after"));
//! # Ok::<(), core::fmt::Error>(())
//! ```

use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use vmcore_writer::format::addr::PhysAddr;
use vmcore_writer::format::msgbuf::MSG_MAGIC;
use vmcore_writer::machine::MessageBuffer;

/// Positions run modulo this many rings.
const SEQMOD: u32 = 16;

/// A ring of `N` bytes, followed by 72 bytes that say where it begins. With `N` = 4096 × pages − 72 it
/// fills whole pages; make it a static, for it must be contiguous in physical memory.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct MessageRing<const N: usize> {
    ring: [AtomicU8; N],
    msg_ptr: AtomicU64,
    msg_magic: AtomicU32,
    msg_size: AtomicU32,
    msg_wseq: AtomicU32,
    msg_rseq: AtomicU32,
    msg_cksum: AtomicU32,
    msg_seqmod: AtomicU32,
    msg_lastpri: AtomicU32,
    msg_flags: AtomicU32,
    msg_lock: [AtomicU64; 4],
}

impl<const N: usize> MessageRing<N> {
    /// `N` as the structure has it.
    const SIZE: u32 = {
        assert!(N.is_multiple_of(8) && N > 0 && N < (1 << 27));
        #[expect(clippy::cast_possible_truncation, reason = "it is below 2^27")]
        let size = N as u32;
        size
    };

    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            ring: [const { AtomicU8::new(0) }; N],
            msg_ptr: AtomicU64::new(0),
            msg_magic: AtomicU32::new(MSG_MAGIC),
            msg_size: AtomicU32::new(Self::SIZE),
            msg_wseq: AtomicU32::new(0),
            msg_rseq: AtomicU32::new(0),
            msg_cksum: AtomicU32::new(0),
            msg_seqmod: AtomicU32::new(Self::SIZE * SEQMOD),
            msg_lastpri: AtomicU32::new(u32::MAX),
            msg_flags: AtomicU32::new(0),
            msg_lock: [const { AtomicU64::new(0) }; 4],
        }
    }

    /// Adds bytes. For any context, a panic and an interrupt too.
    pub fn add(&self, bytes: &[u8]) {
        let at = self.ring.as_ptr().addr() as u64;
        self.msg_ptr.store(at, Ordering::Relaxed);
        for byte in bytes {
            let next = |at: u32| Some((at + 1) % (Self::SIZE * SEQMOD));
            let moved = self
                .msg_wseq
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
            let position = moved.unwrap_or_default() % Self::SIZE;
            let Some(slot) = self.ring.get(position as usize) else {
                return;
            };
            let old = slot.swap(*byte, Ordering::Relaxed);
            let change = u32::from(*byte).wrapping_sub(u32::from(old));
            self.msg_cksum.fetch_add(change, Ordering::Relaxed);
        }
    }

    /// What it has, from the oldest byte to the newest.
    pub fn bytes(&self) -> impl Iterator<Item = u8> + '_ {
        let end = (self.msg_wseq.load(Ordering::Relaxed) % Self::SIZE) as usize;
        let (newest, oldest) = self.ring.split_at_checked(end).unwrap_or_default();
        let all = oldest.iter().chain(newest);
        all.map(|byte| byte.load(Ordering::Relaxed))
            .filter(|byte| *byte != 0)
    }

    /// What the writer is told of it, if its first byte is at this physical address.
    #[must_use]
    pub const fn at(&self, start: PhysAddr) -> MessageBuffer {
        MessageBuffer {
            start,
            len_bytes: Self::SIZE,
        }
    }
}

impl<const N: usize> Default for MessageRing<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> fmt::Write for &MessageRing<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.add(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Write as _;
    use std::mem::offset_of;
    use std::vec::Vec;
    use vmcore_writer::format::endian::{Endian, Width};
    use vmcore_writer::format::msgbuf::{Msgbuf, in_order};

    type Ring = MessageRing<4024>;

    #[test]
    fn ring_and_structure_fill_a_page() {
        assert_eq!(size_of::<Ring>(), 4096);
        assert_eq!(offset_of!(Ring, msg_ptr), 4024);
        assert_eq!(offset_of!(Ring, msg_lock), 4064);
    }

    #[test]
    fn a_ring_that_went_round_is_read_from_its_oldest_byte() {
        let ring = MessageRing::<64>::new();
        let mut expected = std::string::String::new();
        for number in 0..2000 {
            writeln!(&ring, "line {number}").unwrap();
            expected += &std::format!("line {number}\n");
        }
        let bytes: Vec<u8> = ring.bytes().collect();
        assert_eq!(bytes, expected.as_bytes()[expected.len() - 64..]);
        // As readers see it.
        let word = |value: &AtomicU32| value.load(Ordering::Relaxed).to_le_bytes();
        let mut raw = ring.msg_ptr.load(Ordering::Relaxed).to_le_bytes().to_vec();
        for field in [
            &ring.msg_magic,
            &ring.msg_size,
            &ring.msg_wseq,
            &ring.msg_rseq,
            &ring.msg_cksum,
        ] {
            raw.extend(word(field));
        }
        raw.resize(72, 0);
        let found = Msgbuf::parse(&raw, Endian::Little, Width::W64).unwrap();
        let memory: Vec<u8> = ring
            .ring
            .iter()
            .map(|byte| byte.load(Ordering::Relaxed))
            .collect();
        let (old, new) = in_order(&memory, Some(&found));
        assert_eq!([old, new].concat(), bytes);
        let sum = memory.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        assert_eq!(found.msg_cksum, sum);
    }

    #[test]
    fn threads_lose_nothing() {
        static RING: MessageRing<65_464> = MessageRing::new();
        let write = || {
            for _ in 0..1000 {
                (&RING).write_str("x").unwrap();
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(write);
            }
        });
        assert_eq!(RING.bytes().count(), 4000);
        assert_eq!(
            RING.msg_cksum.load(Ordering::Relaxed),
            4000 * u32::from(b'x')
        );
    }
}
