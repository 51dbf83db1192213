//! Numbers and bytes out of a fuzzer's input, from its front; what is missing is 0.

/// The part of an input that is not used yet.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let (front, rest) = self.0.split_at(N.min(self.0.len()));
        let mut array = [0; N];
        array[..front.len()].copy_from_slice(front);
        self.0 = rest;
        array
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    /// The next four bytes as a number.
    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// The next eight bytes as a number.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// Two files: the first four bytes are the length of the first one, at most what there is.
    pub fn two_files(mut self) -> (&'a [u8], &'a [u8]) {
        let len = usize::try_from(self.u32()).unwrap_or(usize::MAX);
        self.0.split_at(len.min(self.0.len()))
    }
}
