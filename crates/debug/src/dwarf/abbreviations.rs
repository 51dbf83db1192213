//! Abbreviation tables, looked through before they are decoded: decoded they are a hundred times as
//! long as in the file.

use super::ReadError;
use crate::budget::Budget;
use gimli::Error;

/// The most attributes of an entry: compilers write a tenth of it.
const MAX_ATTRIBUTES: u64 = 256;
/// Bytes of an abbreviation in memory, twice because tables grow by doubling, and of each of its
/// attributes.
const ABBREVIATION_BYTES: u64 = 256;
const ATTRIBUTE_BYTES: u64 = 32;

/// A place in a section.
struct At<'a> {
    section: &'a [u8],
    at: usize,
}

impl At<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = self.section.get(self.at).copied()?;
        self.at += 1;
        Some(byte)
    }

    /// A number in LEB128; what does not fit is cut off.
    fn number(&mut self) -> Option<u64> {
        let (mut value, mut shift) = (0_u64, 0_u32);
        loop {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            shift = shift.saturating_add(7);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
    }

    /// Passes over an abbreviation behind its code; the number of its attributes.
    fn abbreviation(&mut self) -> Option<u64> {
        self.number()?;
        self.byte()?;
        let mut count = 0;
        loop {
            let (name, form) = (self.number()?, self.number()?);
            if form == u64::from(gimli::DW_FORM_implicit_const.0) {
                self.number()?;
            }
            if name == 0 && form == 0 {
                return Some(count);
            }
            count += 1;
        }
    }
}

const fn cut(start: usize) -> Error {
    Error::UnexpectedEof(gimli::ReaderOffsetId(start as u64))
}

/// Bytes of memory that the table at `start` takes.
pub(super) fn cost(section: &[u8], start: usize, budget: &Budget) -> Result<u64, ReadError> {
    let mut table = At { section, at: start };
    let mut bytes = 0;
    // A table may lack its end.
    while let Some(code) = table.number()
        && code != 0
    {
        let count = table.abbreviation().ok_or_else(|| cut(start))?;
        if count > MAX_ATTRIBUTES {
            return Err(budget.refuse().into());
        }
        bytes += ABBREVIATION_BYTES + count * ATTRIBUTE_BYTES;
    }
    budget.work(table.at.saturating_sub(start) as u64)?;
    Ok(bytes)
}

/// The one abbreviation with this code of the table at `start`, as a table of its own.
pub(super) fn one<'a>(
    section: &'a [u8],
    start: usize,
    code: u64,
    budget: &Budget,
) -> Result<&'a [u8], ReadError> {
    let mut table = At { section, at: start };
    loop {
        let from = table.at;
        let found = table.number().filter(|found| *found != 0);
        let found = found.ok_or(Error::InvalidAbbreviationCode(code))?;
        let count = table.abbreviation().ok_or_else(|| cut(start))?;
        budget.work(table.at.saturating_sub(from) as u64)?;
        if count > MAX_ATTRIBUTES {
            return Err(budget.refuse().into());
        }
        if found == code {
            return Ok(section.get(from..table.at).unwrap_or_default());
        }
    }
}
