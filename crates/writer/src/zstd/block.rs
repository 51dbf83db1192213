//! Blocks and frames: RFC 8878, 3.1.1. A frame says its size and its checksum, and needs no other.

use super::huffman::Huffman;
use super::matches::{HASH_ENTRIES, Recent, find};
use super::sequences::{Sequence, Tables};
use zerocopy::{FromBytes, IntoBytes, KnownLayout};

/// Bytes of content of a frame; the last has less.
pub(super) const FRAME: usize = 1 << 20;
/// Bytes of content of a block.
pub(super) const BLOCK: usize = 128 << 10;
/// Sequences of a block; one with more is cut short.
const SEQUENCES: usize = 16 << 10;
/// A block in the making may be a bit longer before that is noticed.
const SLACK: usize = 64;

/// The encoder's memory.
#[derive(FromBytes, IntoBytes, KnownLayout)]
#[repr(C)]
pub(super) struct Encoder {
    table: [u32; HASH_ENTRIES],
    sequences: [Sequence; SEQUENCES],
    tables: Tables,
    huffman: Huffman,
    literals: [u8; BLOCK],
    block: [u8; BLOCK + SLACK],
}

/// A frame's header: its magic, what it says of itself, and its size.
pub(super) fn frame_header(content_bytes: u32) -> [u8; 9] {
    /// Size in four bytes, no separate window, a checksum after the last block.
    const DESCRIPTOR: u8 = 2 << 6 | 1 << 5 | 1 << 2;
    let [a, b, c, d] = content_bytes.to_le_bytes();
    [0x28, 0xb5, 0x2f, 0xfd, DESCRIPTOR, a, b, c, d]
}

/// A frame that decoders skip, with `len_bytes` zeros in it: its header.
pub(super) fn skippable_header(len_bytes: u32) -> [u8; 8] {
    let [a, b, c, d] = len_bytes.to_le_bytes();
    [0x50, 0x2a, 0x4d, 0x18, a, b, c, d]
}

/// An encoded block.
pub(super) struct Block<'e> {
    pub(super) header: [u8; 3],
    pub(super) body: &'e [u8],
    /// Where its content ends in the frame.
    pub(super) end: usize,
}

impl Encoder {
    /// Forgets what was before.
    pub(super) fn reset(&mut self) {
        self.table.fill(0);
    }

    /// Encodes the block of `frame` from `start` to `end`, or as much of it as fits in one. `is_last`
    /// says whether nothing of the frame follows `end`.
    pub(super) fn block<'e>(
        &'e mut self,
        frame: &'e [u8],
        (start, end): (usize, usize),
        recent: &mut Recent,
        is_last: bool,
    ) -> Block<'e> {
        const RAW: u8 = 0;
        const RLE: u8 = 1;
        const COMPRESSED: u8 = 2;
        let content = frame.get(start..end).unwrap_or_default();
        if let Some((first, rest)) = content.split_first()
            && is_all(rest, *first)
        {
            let body = content.get(..1).unwrap_or_default();
            let header = header(RLE, content.len(), is_last);
            return Block { header, body, end };
        }
        let before = *recent;
        let found = find(
            frame,
            (start, end),
            &mut self.table,
            recent,
            &mut self.sequences,
            &mut self.literals,
        );
        let is_last = is_last && found.end == end;
        let content = frame.get(start..found.end).unwrap_or_default();
        let sequences = self.sequences.get(..found.sequences).unwrap_or_default();
        let literals = self.literals.get(..found.literals).unwrap_or_default();
        let len = compress(
            &mut self.huffman,
            &mut self.tables,
            literals,
            sequences,
            &mut self.block,
        );
        let (kind, body) = match len {
            Some(len) if len < content.len() => {
                (COMPRESSED, self.block.get(..len).unwrap_or_default())
            }
            _ => {
                // The decoder sees no sequence, and keeps its distances.
                *recent = before;
                (RAW, content)
            }
        };
        let header = header(kind, body.len(), is_last);
        Block {
            header,
            body,
            end: found.end,
        }
    }
}

fn header(kind: u8, size: usize, is_last: bool) -> [u8; 3] {
    let fields = (size as u64) << 3 | u64::from(kind) << 1 | u64::from(is_last);
    let [a, b, c, ..] = fields.to_le_bytes();
    [a, b, c]
}

/// Whether all bytes are `byte`; with one comparison a word, because most dumps have many such pages.
fn is_all(bytes: &[u8], byte: u8) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    let word = [byte; 8];
    words.iter().all(|other| *other == word) && rest.iter().all(|other| *other == byte)
}

/// Literals and sequences as the body of a block.
fn compress(
    huffman: &mut Huffman,
    tables: &mut Tables,
    literals: &[u8],
    sequences: &[Sequence],
    out: &mut [u8],
) -> Option<usize> {
    let at = match huffman.encode(literals, out) {
        Some(len) => len,
        None => plain(literals, out)?,
    };
    Some(at + tables.encode(sequences, out.get_mut(at..)?)?)
}

/// Literals as they are; or one of them, if all are the same.
fn plain(literals: &[u8], out: &mut [u8]) -> Option<usize> {
    let same = match literals.split_first() {
        Some((first, rest)) if rest.len() > 2 => is_all(rest, *first),
        _ => false,
    };
    let len = literals.len() as u64;
    let (header_len, fields) = match literals.len() {
        0..=31 => (1, len << 3),
        32..=4095 => (2, len << 4 | 1 << 2),
        _ => (3, len << 4 | 3 << 2),
    };
    let fields = fields | u64::from(same);
    for (to, from) in out
        .get_mut(..header_len)?
        .iter_mut()
        .zip(fields.to_le_bytes())
    {
        *to = from;
    }
    let body = if same { literals.get(..1)? } else { literals };
    out.get_mut(header_len..)?
        .get_mut(..body.len())?
        .copy_from_slice(body);
    Some(header_len + body.len())
}
