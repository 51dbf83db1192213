//! Bytes at offsets: how everything here is written.

/// A number from a format as an index into memory.
pub(crate) fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The low 32 bits.
pub(crate) fn low32(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// The low 16 bits.
pub(crate) fn low16(value: u64) -> u16 {
    let [a, b, ..] = value.to_le_bytes();
    u16::from_le_bytes([a, b])
}

/// Writes `bytes` at `offset`.
pub(crate) fn put(buffer: &mut [u8], offset: u64, bytes: &[u8]) {
    let at = index(offset);
    buffer[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Writes a little-endian number of 8 bytes.
pub(crate) fn put_u64(buffer: &mut [u8], offset: u64, value: u64) {
    put(buffer, offset, &value.to_le_bytes());
}

/// Writes a little-endian number of `width` bytes: 4 or 8.
pub(crate) fn put_word(buffer: &mut [u8], offset: u64, width: u64, value: u64) {
    put(buffer, offset, &value.to_le_bytes()[..index(width)]);
}

/// Reads a little-endian number of `width` bytes: 4 or 8.
pub(crate) fn word(buffer: &[u8], offset: u64, width: u64) -> u64 {
    let (at, width) = (index(offset), index(width));
    let mut raw = [0; 8];
    raw[..width].copy_from_slice(&buffer[at..at + width]);
    u64::from_le_bytes(raw)
}

/// Rounds up to a multiple of `unit`.
pub(crate) fn round_up(value: u64, unit: u64) -> u64 {
    value.div_ceil(unit) * unit
}

/// Appends zeros up to a multiple of `unit` bytes.
pub(crate) fn pad(buffer: &mut Vec<u8>, unit: u64) {
    buffer.resize(index(round_up(buffer.len() as u64, unit)), 0);
}

/// Bytes of `content` as one page: cut or filled up with zeros.
pub(crate) fn page_of(content: &[u8], page_size: u64) -> Vec<u8> {
    let mut page = content.to_vec();
    page.resize(index(page_size), 0);
    page
}

/// What every builder does at the end: patches, then a cut or more bytes.
pub(crate) fn finish(
    mut file: Vec<u8>,
    patches: &[(u64, Vec<u8>)],
    truncate_to: Option<u64>,
    trailing: &[u8],
) -> Vec<u8> {
    for (offset, bytes) in patches {
        put(&mut file, *offset, bytes);
    }
    if let Some(len) = truncate_to {
        file.truncate(index(len));
    }
    file.extend_from_slice(trailing);
    file
}
