//! AES-256-CBC, for encrypting only: FIPS 197 and SP 800-38A, in code that cannot panic.
//!
//! Indexes are bytes into tables of 256 entries, so that nothing can be out of bounds, and nothing
//! more is needed of the machine than integers: kernels are built without vector registers. Lookups
//! take a time that depends on the key. Of a kernel that dumps, with every other CPU stopped, only
//! an observer outside of a virtual machine could measure that.

/// Bytes of a block.
pub(super) const BLOCK: usize = 16;
/// Rounds between the first key and the last.
const ROUNDS: usize = 14;

const SBOX: [u8; 256] = sbox();
/// A byte's share of a column after substitution and mixing; the other three rows have it rotated.
static MIXED: [u32; 256] = mixed();

/// Inverse in the field, and the affine map: `p` runs through the powers of 3, `q` through theirs
/// of its inverse.
const fn sbox() -> [u8; 256] {
    let mut table = [0; 256];
    let (mut p, mut q) = (1u8, 1u8);
    loop {
        p ^= double(p);
        q ^= q << 1;
        q ^= q << 2;
        q ^= q << 4;
        q ^= (q >> 7) * 0x09;
        let x = q ^ q.rotate_left(1) ^ q.rotate_left(2) ^ q.rotate_left(3) ^ q.rotate_left(4);
        table[p as usize] = x ^ 0x63;
        if p == 1 {
            break;
        }
    }
    table[0] = 0x63;
    table
}

/// Twice `x` in the field.
const fn double(x: u8) -> u8 {
    (x << 1) ^ ((x >> 7) * 0x1b)
}

const fn mixed() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let s = SBOX[byte];
        table[byte] = u32::from_be_bytes([double(s), s, s, double(s) ^ s]);
        byte += 1;
    }
    table
}

fn substitute(word: u32) -> u32 {
    u32::from_be_bytes(word.to_be_bytes().map(|byte| SBOX[usize::from(byte)]))
}

/// Four columns of a block, or a round's key.
type Columns = [u32; 4];

fn add([a, b, c, d]: Columns, [k, l, m, n]: Columns) -> Columns {
    [a ^ k, b ^ l, c ^ m, d ^ n]
}

/// What row 0, 1, 2 and 3 of four columns become, as `row` says for one byte each.
fn rows([a, b, c, d]: Columns, row: impl Fn(u8, u8, u8, u8) -> u32) -> Columns {
    let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (a.to_be_bytes(), b.to_be_bytes());
    let ([c0, c1, c2, c3], [d0, d1, d2, d3]) = (c.to_be_bytes(), d.to_be_bytes());
    [
        row(a0, b1, c2, d3),
        row(b0, c1, d2, a3),
        row(c0, d1, a2, b3),
        row(d0, a1, b2, c3),
    ]
}

fn round(columns: Columns) -> Columns {
    let mixed = |byte: u8| MIXED[usize::from(byte)];
    rows(columns, |a, b, c, d| {
        mixed(a) ^ mixed(b).rotate_right(8) ^ mixed(c).rotate_right(16) ^ mixed(d).rotate_right(24)
    })
}

fn last_round(columns: Columns) -> Columns {
    rows(columns, |a, b, c, d| {
        substitute(u32::from_be_bytes([a, b, c, d]))
    })
}

/// A key in the form that the rounds use.
struct Aes256 {
    first: Columns,
    middle: [Columns; ROUNDS - 1],
    last: Columns,
}

impl Aes256 {
    fn new(key: &[u8; 32]) -> Self {
        let (words, _) = key.as_chunks::<4>();
        let mut keys = [0; 8];
        for (to, from) in keys.iter_mut().zip(words) {
            *to = u32::from_be_bytes(*from);
        }
        let halves = |[a, b, c, d, e, f, g, h]: [u32; 8]| ([a, b, c, d], [e, f, g, h]);
        let (first, second) = halves(keys);
        let mut middle = [second; ROUNDS - 1];
        let mut constant = 1u32 << 24;
        // Each eight words make the keys of two rounds; of the last eight, one is of use.
        let (_, rest) = middle.split_at_mut(1);
        let (pairs, _) = rest.as_chunks_mut::<2>();
        let mut next = || {
            keys = expand(keys, constant);
            constant <<= 1;
            halves(keys)
        };
        for [even, odd] in pairs {
            (*even, *odd) = next();
        }
        let (last, _) = next();
        Self {
            first,
            middle,
            last,
        }
    }

    fn encrypt(&self, block: Columns) -> Columns {
        let mut columns = add(block, self.first);
        for key in &self.middle {
            columns = add(round(columns), *key);
        }
        add(last_round(columns), self.last)
    }
}

/// The eight words of the key's schedule after these.
fn expand(words: [u32; 8], constant: u32) -> [u32; 8] {
    let [a, b, c, d, e, f, g, h] = words;
    let a = a ^ substitute(h.rotate_left(8)) ^ constant;
    let b = b ^ a;
    let c = c ^ b;
    let d = d ^ c;
    let e = e ^ substitute(d);
    let f = f ^ e;
    let g = g ^ f;
    [a, b, c, d, e, f, g, h ^ g]
}

/// AES-256-CBC at some block of its chain.
pub(super) struct Cbc {
    key: Aes256,
    /// The last block that was encrypted; at first the initialisation vector.
    before: Columns,
}

impl Cbc {
    pub(super) fn new(key: &[u8; 32], iv: [u8; BLOCK]) -> Self {
        Self {
            key: Aes256::new(key),
            before: columns(iv),
        }
    }

    /// Encrypts whole blocks; what follows the last is returned as it was.
    pub(super) fn encrypt<'b>(&mut self, bytes: &'b mut [u8]) -> &'b [u8] {
        let (blocks, rest) = bytes.as_chunks_mut::<BLOCK>();
        for block in blocks {
            self.before = self.key.encrypt(add(columns(*block), self.before));
            let (words, _) = block.as_chunks_mut::<4>();
            for (to, from) in words.iter_mut().zip(self.before) {
                *to = from.to_be_bytes();
            }
        }
        rest
    }
}

fn columns(block: [u8; BLOCK]) -> Columns {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = block;
    [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]].map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    #[test]
    fn a_block_is_that_of_fips_197() {
        // Appendix C.3.
        let key: [u8; 32] = std::array::from_fn(|index| index.to_le_bytes()[0]);
        let mut block = bytes("00112233445566778899aabbccddeeff");
        assert!(Cbc::new(&key, [0; 16]).encrypt(&mut block).is_empty());
        assert_eq!(block, bytes("8ea2b7ca516745bfeafc49904b496089"));
    }

    #[test]
    fn a_chain_is_that_of_sp_800_38a() {
        // F.2.5, in two pieces.
        let key = bytes("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
        let iv = bytes("000102030405060708090a0b0c0d0e0f");
        let mut text = bytes(
            "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51\
             30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
        );
        let mut cipher = Cbc::new(&key.try_into().unwrap(), iv.try_into().unwrap());
        cipher.encrypt(&mut text[..32]);
        cipher.encrypt(&mut text[32..]);
        assert_eq!(
            text,
            bytes(
                "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d\
                 39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b"
            )
        );
    }

    #[test]
    fn what_is_no_whole_block_stays() {
        let mut text = [7; 20];
        assert_eq!(Cbc::new(&[1; 32], [2; 16]).encrypt(&mut text), [7; 4]);
        assert_ne!(text[..16], [7; 16]);
    }
}
