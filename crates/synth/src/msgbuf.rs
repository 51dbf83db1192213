//! The kernel's message buffer: a ring of text, and the structure that says where it starts.
//!
//! ```
//! use vmcore_synth::{Arch, msgbuf};
//! let (ring, control) = msgbuf::written(64, b"panic: invented\n", 0xffff_f800_0001_0000);
//! assert_eq!(ring.len(), 64);
//! assert_eq!(control.msg_wseq, 16);
//! assert_eq!(control.bytes(Arch::Amd64).len(), 72);
//! assert_eq!(control.bytes(Arch::I386).len(), 56);
//! ```

use crate::Arch;
use crate::bytes::{index, low32, put};

/// `msg_magic`.
pub const MAGIC: u32 = 0x0006_3062;
/// `msg_flags`: the ring has wrapped.
const MSGBUF_WRAP: u32 = 2;

/// `struct msgbuf`, by its fields' own names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the kernel's own names")]
pub struct Msgbuf {
    pub msg_ptr: u64,
    pub msg_magic: u32,
    pub msg_size: u32,
    pub msg_wseq: u32,
    pub msg_rseq: u32,
    pub msg_cksum: u32,
    pub msg_seqmod: u32,
    pub msg_lastpri: i32,
    pub msg_flags: u32,
}

impl Msgbuf {
    /// Bytes of the structure: what a kernel takes off the buffer's end for it.
    #[must_use]
    pub const fn len_bytes(arch: Arch) -> u64 {
        if arch.is_32_bit() { 56 } else { 72 }
    }

    /// The structure in memory; its lock is free, all zero.
    #[must_use]
    pub fn bytes(&self, arch: Arch) -> Vec<u8> {
        let mut raw = vec![0; index(Self::len_bytes(arch))];
        let word = arch.word_bytes();
        put(&mut raw, 0, &arch.word(self.msg_ptr));
        let fields = [
            self.msg_magic,
            self.msg_size,
            self.msg_wseq,
            self.msg_rseq,
            self.msg_cksum,
            self.msg_seqmod,
            self.msg_lastpri.cast_unsigned(),
            self.msg_flags,
        ];
        for (number, field) in (0..).zip(fields) {
            put(&mut raw, word + 4 * number, &arch.u32(field));
        }
        raw
    }
}

/// A ring of `size` bytes at address `msg_ptr` into which a kernel has written `text`.
///
/// What does not fit overwrites the oldest bytes.
#[must_use]
pub fn written(size: u32, text: &[u8], msg_ptr: u64) -> (Vec<u8>, Msgbuf) {
    let mut ring = vec![0; index(u64::from(size))];
    let (mut position, mut sequence, mut checksum) = (0, 0, 0_u32);
    let modulus = 16 * u64::from(size);
    for byte in text {
        checksum = checksum
            .wrapping_sub(u32::from(ring[position]))
            .wrapping_add(u32::from(*byte));
        ring[position] = *byte;
        position = (position + 1) % ring.len();
        sequence = (sequence + 1) % modulus;
    }
    let has_wrapped = text.len() > ring.len();
    let control = Msgbuf {
        msg_ptr,
        msg_magic: MAGIC,
        msg_size: size,
        msg_wseq: low32(sequence),
        msg_rseq: low32(sequence),
        msg_cksum: checksum,
        msg_seqmod: low32(modulus),
        msg_lastpri: -1,
        msg_flags: if has_wrapped { MSGBUF_WRAP } else { 0 },
    };
    (ring, control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_longer_than_the_ring_overwrites_its_start() {
        let (ring, control) = written(8, b"abcdefghij", 0);
        assert_eq!(ring, b"ijcdefgh");
        assert_eq!(
            (control.msg_wseq, control.msg_seqmod, control.msg_flags),
            (10, 128, 2)
        );
        let sum: u32 = ring.iter().map(|byte| u32::from(*byte)).sum();
        assert_eq!(control.msg_cksum, sum);
    }

    #[test]
    fn sequence_numbers_start_again_after_sixteen_rounds() {
        let (_, control) = written(4, &[b'x'; 70], 0);
        assert_eq!(control.msg_wseq, 6);
    }

    #[test]
    fn fields_stand_where_the_structure_has_them() {
        let (_, control) = written(98232, b"x", 0x1122_3344_5566_7788);
        let wide = control.bytes(Arch::Arm64);
        assert_eq!(
            wide[..12],
            [
                0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x62, 0x30, 6, 0
            ]
        );
        assert_eq!(wide[12..16], 98232_u32.to_le_bytes());
        assert_eq!(wide[28..32], 1_571_712_u32.to_le_bytes());
        assert_eq!(wide[32..36], [0xff; 4]);
        let narrow = control.bytes(Arch::I386);
        assert_eq!(narrow[..8], [0x88, 0x77, 0x66, 0x55, 0x62, 0x30, 6, 0]);
        assert_eq!(narrow[28..32], [0xff; 4]);
    }
}
