//! What is on disk in a Zstandard file: frames, blocks, skippable frames and the seek table.
//!
//! Source: RFC 8878 for frames and blocks; the seekable format of the zstd project for the table: a
//! skippable frame at the very end, with the two lengths of each frame. All integers are
//! little-endian. Nothing is decompressed here.
//!
//! ```
//! use vmcore_format::zstd::FrameHeader;
//! // What FreeBSD's kernel writes: a checksum, no length, a window of 2 MiB.
//! let header = FrameHeader::parse(&[0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x58])?;
//! assert_eq!((header.window_bytes, header.content_bytes), (2 << 20, None));
//! assert!(header.has_checksum);
//! # Ok::<(), vmcore_format::zstd::FrameError>(())
//! ```

use thiserror::Error;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First bytes of a frame.
pub const FRAME_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The first of the sixteen magics of a skippable frame.
pub const SKIPPABLE_MAGIC: u32 = 0x184d_2a50;
/// The most bytes of a frame's header, magic included.
pub const FRAME_HEADER_MAX: usize = 18;
/// The most bytes that a block expands to.
pub const BLOCK_MAX: usize = 128 << 10;
/// Bytes of a block's header.
pub const BLOCK_HEADER_LEN: usize = 3;
/// Bytes of the checksum after the last block.
pub const CHECKSUM_LEN: usize = 4;
/// Bytes of a skippable frame's header.
pub const SKIPPABLE_HEADER_LEN: usize = 8;

/// A frame's header, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of the header, magic included.
    pub header_len: usize,
    /// How far back the frame's data refer, in bytes.
    pub window_bytes: u64,
    /// Bytes that it expands to, if it says.
    pub content_bytes: Option<u64>,
    /// Whether four bytes of checksum follow the last block.
    pub has_checksum: bool,
    /// The dictionary that it needs; 0 for none.
    pub dictionary_id: u32,
}

/// Why bytes are not a frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// Too few bytes.
    #[error("truncated inside a zstd frame header")]
    Truncated,
    /// Another magic.
    #[error("no zstd frame: its magic is missing")]
    BadMagic,
    /// A bit that must be 0 is not.
    #[error("a zstd frame header of an unknown form")]
    Reserved,
}

impl FrameHeader {
    /// Decodes the header at the start of `bytes`.
    ///
    /// # Errors
    /// Returns an error if it is not one.
    pub fn parse(bytes: &[u8]) -> Result<Self, FrameError> {
        let rest = bytes.strip_prefix(&FRAME_MAGIC).ok_or_else(|| {
            match FRAME_MAGIC.starts_with(bytes) {
                true => FrameError::Truncated,
                false => FrameError::BadMagic,
            }
        })?;
        let (descriptor, mut rest) = rest.split_first().ok_or(FrameError::Truncated)?;
        if descriptor & 0x08 != 0 {
            return Err(FrameError::Reserved);
        }
        let is_single_segment = descriptor & 0x20 != 0;
        let mut field = |len: usize| -> Result<u64, FrameError> {
            let (field, tail) = rest.split_at_checked(len).ok_or(FrameError::Truncated)?;
            rest = tail;
            let value = field.iter().rev();
            Ok(value.fold(0, |value, byte| value << 8 | u64::from(*byte)))
        };
        let window = match is_single_segment {
            true => None,
            false => Some(field(1)?),
        };
        let dictionary_len = match descriptor & 3 {
            3 => 4,
            len => usize::from(len),
        };
        let dictionary_id = field(dictionary_len)?;
        let content_bytes = match (descriptor >> 6, is_single_segment) {
            (0, false) => None,
            (0, true) => Some(field(1)?),
            (1, _) => Some(field(2)? + 256),
            (2, _) => Some(field(4)?),
            _ => Some(field(8)?),
        };
        let window_bytes = window.map_or(content_bytes.unwrap_or(0), |window| {
            let base = 1u64 << (10 + (window >> 3));
            base + (base >> 3) * (window & 7)
        });
        Ok(Self {
            header_len: bytes.len() - rest.len(),
            window_bytes,
            content_bytes,
            has_checksum: descriptor & 0x04 != 0,
            dictionary_id: u32::try_from(dictionary_id).unwrap_or(u32::MAX),
        })
    }

    /// A header for blocks with a window of at least `window_bytes`: without length, checksum and
    /// dictionary. `None` beyond what the format can say.
    #[must_use]
    pub fn encode_plain(window_bytes: u64) -> Option<[u8; 6]> {
        let exponent = window_bytes.max(1 << 10).checked_next_power_of_two()?;
        let exponent = u8::try_from(exponent.trailing_zeros().checked_sub(10)?).ok()?;
        let [a, b, c, d] = FRAME_MAGIC;
        (exponent < 32).then_some([a, b, c, d, 0, exponent << 3])
    }
}

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// Bytes as they are.
    Raw,
    /// One byte, repeated.
    Rle,
    /// Compressed bytes.
    Compressed,
}

/// A block's header, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// Whether the frame ends after it.
    pub is_last: bool,
    /// What it holds.
    pub kind: BlockKind,
    /// Bytes that follow the header in the file.
    pub stored_bytes: usize,
}

impl BlockHeader {
    /// Decodes a block's header; `None` for one that no block can have.
    #[must_use]
    pub fn parse(bytes: [u8; BLOCK_HEADER_LEN]) -> Option<Self> {
        let [a, b, c] = bytes;
        let raw = u32::from_le_bytes([a, b, c, 0]);
        let size = usize::try_from(raw >> 3).ok()?;
        let (kind, stored_bytes) = match (raw >> 1) & 3 {
            0 => (BlockKind::Raw, size),
            1 => (BlockKind::Rle, 1),
            2 => (BlockKind::Compressed, size),
            _ => return None,
        };
        (size <= BLOCK_MAX).then_some(Self {
            is_last: raw & 1 != 0,
            kind,
            stored_bytes,
        })
    }
}

/// Whether a frame that decoders skip starts here: there are sixteen magics of them.
#[must_use]
pub fn is_skippable(bytes: &[u8]) -> bool {
    U32::ref_from_prefix(bytes).is_ok_and(|(magic, _)| magic.get() & !0xf == SKIPPABLE_MAGIC)
}

/// Bytes of a skippable frame's contents, if one starts here.
#[must_use]
pub fn skippable_len(bytes: &[u8]) -> Option<u64> {
    let header = SkippableHeader::ref_from_prefix(bytes).ok()?.0;
    is_skippable(bytes).then(|| u64::from(header.len_bytes.get()))
}

/// The header of a skippable frame.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct SkippableHeader {
    magic: U32,
    len_bytes: U32,
}

/// The end of the seek table.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct SeekFooter {
    frames: U32,
    descriptor: u8,
    magic: U32,
}

/// An entry of the seek table, without the checksum that may follow it.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct SeekEntry {
    compressed: U32,
    decompressed: U32,
}

const _: () = {
    assert!(size_of::<SkippableHeader>() == SKIPPABLE_HEADER_LEN);
    assert!(size_of::<SeekFooter>() == SEEK_FOOTER_LEN);
    assert!(size_of::<SeekEntry>() == SEEK_ENTRY_LEN);
};

/// Bytes of the seek table's end.
pub const SEEK_FOOTER_LEN: usize = 9;
/// Bytes of an entry without checksum.
pub const SEEK_ENTRY_LEN: usize = 8;
const SEEK_MAGIC: u32 = 0x8f92_eab1;
/// The magic of the skippable frame that holds the table.
const SEEK_FRAME_MAGIC: u32 = SKIPPABLE_MAGIC + 0xe;

/// What the last bytes of a file say of its seek table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeekTable {
    /// How many frames it lists.
    pub frames: u32,
    /// Bytes of an entry.
    entry_len: usize,
}

impl SeekTable {
    /// Decodes the end of a file; `None` if it is not that of a seek table.
    #[must_use]
    pub fn parse_footer(end: &[u8]) -> Option<Self> {
        let footer = SeekFooter::ref_from_suffix(end).ok()?.1;
        // The five reserved bits must be 0 for a decoder to go on.
        if footer.magic.get() != SEEK_MAGIC || footer.descriptor & 0x7c != 0 {
            return None;
        }
        Some(Self {
            frames: footer.frames.get(),
            entry_len: SEEK_ENTRY_LEN + if footer.descriptor & 0x80 != 0 { 4 } else { 0 },
        })
    }

    /// Bytes of the whole skippable frame, at the end of the file.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        (SKIPPABLE_HEADER_LEN + SEEK_FOOTER_LEN) as u64
            + u64::from(self.frames) * self.entry_len as u64
    }

    /// The compressed and the expanded bytes of each frame, from the whole skippable frame; `None`
    /// if that does not start like one.
    pub fn entries<'a>(&self, frame: &'a [u8]) -> Option<impl Iterator<Item = (u32, u32)> + 'a> {
        let (header, rest) = SkippableHeader::ref_from_prefix(frame).ok()?;
        let len = u32::try_from(self.stored_bytes()).ok()?;
        let is_right = header.magic.get() == SEEK_FRAME_MAGIC
            && header.len_bytes.get().checked_add(8) == Some(len);
        let entries = rest.get(..rest.len().checked_sub(SEEK_FOOTER_LEN)?)?;
        is_right.then(|| {
            entries.chunks_exact(self.entry_len).filter_map(|entry| {
                let entry = SeekEntry::ref_from_prefix(entry).ok()?.0;
                Some((entry.compressed.get(), entry.decompressed.get()))
            })
        })
    }

    /// The header before the entries of `frames` frames; `None` if they are too many.
    #[must_use]
    pub fn encode_header(frames: u32) -> Option<[u8; SKIPPABLE_HEADER_LEN]> {
        let len = u64::from(frames) * SEEK_ENTRY_LEN as u64 + SEEK_FOOTER_LEN as u64;
        let header = SkippableHeader {
            magic: U32::new(SEEK_FRAME_MAGIC),
            len_bytes: U32::new(u32::try_from(len).ok()?),
        };
        Some(zerocopy::transmute!(header))
    }

    /// An entry.
    #[must_use]
    pub fn encode_entry(compressed: u32, decompressed: u32) -> [u8; SEEK_ENTRY_LEN] {
        zerocopy::transmute!(SeekEntry {
            compressed: U32::new(compressed),
            decompressed: U32::new(decompressed),
        })
    }

    /// The end of a table of `frames` frames.
    #[must_use]
    pub fn encode_footer(frames: u32) -> [u8; SEEK_FOOTER_LEN] {
        zerocopy::transmute!(SeekFooter {
            frames: U32::new(frames),
            descriptor: 0,
            magic: U32::new(SEEK_MAGIC),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn frame_headers_of_every_form() {
        // A single segment of 300 bytes: length in two bytes, counted from 256.
        let header = FrameHeader::parse(&[0x28, 0xb5, 0x2f, 0xfd, 0x60, 44, 0]).unwrap();
        assert_eq!(header.content_bytes, Some(300));
        assert_eq!((header.window_bytes, header.header_len), (300, 7));
        // A window of 1 KiB and three eighths, dictionary 5, eight bytes of length.
        let bytes = [
            0x28, 0xb5, 0x2f, 0xfd, 0xc1, 3, 5, 1, 0, 0, 0, 0, 0, 0, 0, 99,
        ];
        let header = FrameHeader::parse(&bytes).unwrap();
        assert_eq!((header.window_bytes, header.dictionary_id), (1408, 5));
        assert_eq!((header.content_bytes, header.header_len), (Some(1), 15));
        for len in 0..15 {
            let cut = FrameHeader::parse(&bytes[..len]);
            assert_eq!(cut, Err(FrameError::Truncated), "{len}");
        }
        assert_eq!(FrameHeader::parse(b"minidump"), Err(FrameError::BadMagic));
        let reserved = [0x28, 0xb5, 0x2f, 0xfd, 0x08, 0];
        assert_eq!(FrameHeader::parse(&reserved), Err(FrameError::Reserved));
    }

    #[test]
    fn a_plain_header_has_the_window_that_was_asked_for() {
        for window in [0, 1, 1024, 1025, 2 << 20, (2 << 20) + 1, 1 << 27] {
            let bytes = FrameHeader::encode_plain(window).unwrap();
            let header = FrameHeader::parse(&bytes).unwrap();
            assert!(header.window_bytes >= window);
            assert_eq!((header.content_bytes, header.has_checksum), (None, false));
        }
        assert_eq!(FrameHeader::encode_plain(u64::MAX), None);
    }

    #[test]
    fn block_headers() {
        let header = |last: u32, kind: u32, size: u32| {
            let raw = (last | kind << 1 | size << 3).to_le_bytes();
            BlockHeader::parse([raw[0], raw[1], raw[2]])
        };
        let rle = header(1, 1, 70_000).unwrap();
        assert_eq!(
            (rle.is_last, rle.kind, rle.stored_bytes),
            (true, BlockKind::Rle, 1)
        );
        assert_eq!(header(0, 2, 131_072).unwrap().stored_bytes, 131_072);
        assert_eq!(header(0, 0, 131_073), None);
        assert_eq!(header(0, 3, 5), None);
    }

    #[test]
    fn a_seek_table_is_read_as_it_is_written() {
        let mut table: Vec<u8> = SeekTable::encode_header(2).unwrap().to_vec();
        table.extend(SeekTable::encode_entry(10, 4096));
        table.extend(SeekTable::encode_entry(20, 8192));
        table.extend(SeekTable::encode_footer(2));
        // Byte for byte what the format's description says.
        assert_eq!(table[..8], [0x5e, 0x2a, 0x4d, 0x18, 25, 0, 0, 0]);
        assert_eq!(table[24..], [2, 0, 0, 0, 0, 0xb1, 0xea, 0x92, 0x8f]);
        let parsed = SeekTable::parse_footer(&table).unwrap();
        assert_eq!(parsed.stored_bytes(), table.len() as u64);
        let entries: Vec<_> = parsed.entries(&table).unwrap().collect();
        assert_eq!(entries, [(10, 4096), (20, 8192)]);
        assert_eq!(skippable_len(&table), Some(25));
        assert!(parsed.entries(&table[1..]).is_none());
        table[28] = 0x04;
        assert_eq!(SeekTable::parse_footer(&table), None);
    }
}
