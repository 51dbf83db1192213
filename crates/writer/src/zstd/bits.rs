//! Bit streams as zstd has them: written from the front, read from the back. RFC 8878, 4.1 and 4.2.

/// Writes bits to a buffer. An overrun is reported at the end.
pub(super) struct BitWriter<'o> {
    out: &'o mut [u8],
    at: usize,
    held: u64,
    held_bits: u32,
    overrun: bool,
}

impl<'o> BitWriter<'o> {
    pub(super) fn new(out: &'o mut [u8]) -> Self {
        Self {
            out,
            at: 0,
            held: 0,
            held_bits: 0,
            overrun: false,
        }
    }

    /// Adds the low `bits` bits of `value`; 56 at most between two flushes.
    #[inline]
    pub(super) fn add(&mut self, value: u64, bits: u32) {
        let value = value & !(u64::MAX << (bits & 63));
        self.held |= value << (self.held_bits & 63);
        self.held_bits = self.held_bits.wrapping_add(bits);
    }

    /// Puts whole bytes out.
    #[inline]
    pub(super) fn flush(&mut self) {
        match self
            .out
            .get_mut(self.at..)
            .and_then(<[u8]>::first_chunk_mut::<8>)
        {
            Some(to) => {
                *to = self.held.to_le_bytes();
                let bytes = (self.held_bits >> 3) & 7;
                self.at = self.at.wrapping_add(bytes as usize);
                self.held >>= bytes * 8;
                self.held_bits &= 7;
            }
            None => {
                self.overrun = true;
                self.held = 0;
                self.held_bits = 0;
            }
        }
    }

    /// Ends a stream that is read from its end, which a 1 marks; returns its bytes.
    pub(super) fn close(mut self) -> Option<usize> {
        self.add(1, 1);
        self.end()
    }

    /// Ends a stream that is read from its start.
    pub(super) fn end(mut self) -> Option<usize> {
        self.flush();
        let rest = usize::from(self.held_bits > 0);
        (!self.overrun).then_some(self.at.wrapping_add(rest))
    }
}

/// Bytes `at` and the seven after it as a number; 0 where the bytes end before.
#[inline]
pub(super) fn load64(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => 0,
    }
}

/// Bytes `at` and the three after it as a number; 0 where the bytes end before.
#[inline]
pub(super) fn load32(bytes: &[u8], at: usize) -> u32 {
    match bytes.get(at..).and_then(<[u8]>::first_chunk::<4>) {
        Some(chunk) => u32::from_le_bytes(*chunk),
        None => 0,
    }
}
