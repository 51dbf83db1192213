//! Hex dumps: address, bytes, characters; missing parts as lines that say why.

use crate::output::{Out, Style};
use crate::text;
use std::io::{self, Write as _};

/// Bytes of a line.
const LINE: usize = 16;

/// Writes a hex dump as its parts come, in ascending order.
#[derive(Debug)]
pub(crate) struct HexDump<'a> {
    out: &'a mut Out,
    /// Digits of an address.
    digits: usize,
    /// The line that is being filled, and its address.
    line: Vec<u8>,
    address: u64,
    /// The line before, and how many bytes like it were left out since.
    previous: Vec<u8>,
    skipped: u64,
    /// A missing part that may go on: address, bytes, why.
    hole: Option<(u64, u64, &'static str)>,
}

impl<'a> HexDump<'a> {
    /// `digits` are those of an address.
    pub(crate) fn new(out: &'a mut Out, digits: usize) -> Self {
        Self {
            out,
            digits,
            line: Vec::with_capacity(LINE),
            address: 0,
            previous: Vec::new(),
            skipped: 0,
            hole: None,
        }
    }

    /// Bytes at `address`, which go on where the last part ended.
    pub(crate) fn bytes(&mut self, address: u64, bytes: &[u8]) -> io::Result<()> {
        self.end_hole()?;
        if self.line.is_empty() {
            self.address = address;
        }
        for byte in bytes {
            self.line.push(*byte);
            if self.line.len() == LINE {
                self.end_line()?;
            }
        }
        Ok(())
    }

    /// `len_bytes` are missing at `address`.
    pub(crate) fn hole(
        &mut self,
        address: u64,
        len_bytes: u64,
        why: &'static str,
    ) -> io::Result<()> {
        self.end_data()?;
        match &mut self.hole {
            Some((_, len, known)) if *known == why => *len += len_bytes,
            _ => {
                self.end_hole()?;
                self.hole = Some((address, len_bytes, why));
            }
        }
        Ok(())
    }

    /// Writes what is left.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.end_data()?;
        self.end_hole()
    }

    fn address_text(&self, address: u64) -> String {
        self.out.paint(
            Style::Label,
            &format!("0x{address:0digits$x}", digits = self.digits),
        )
    }

    /// Writes the line, unless it is like the one before.
    fn end_line(&mut self) -> io::Result<()> {
        if self.line == self.previous {
            self.skipped += LINE as u64;
        } else {
            self.end_skipped()?;
            self.write_line()?;
            self.previous.clone_from(&self.line);
        }
        self.address = self.address.wrapping_add(LINE as u64);
        self.line.clear();
        Ok(())
    }

    fn write_line(&mut self) -> io::Result<()> {
        let mut hex = String::with_capacity(3 * LINE + 1);
        for position in 0..LINE {
            if position == LINE / 2 {
                hex.push(' ');
            }
            match self.line.get(position) {
                Some(byte) => hex.push_str(&format!(" {byte:02x}")),
                None => hex.push_str("   "),
            }
        }
        let visible = |byte: &u8| {
            if matches!(byte, b' '..=b'~') {
                char::from(*byte)
            } else {
                '.'
            }
        };
        let characters: String = self.line.iter().map(visible).collect();
        let address = self.address_text(self.address);
        writeln!(self.out, "{address} {hex}  {characters}")
    }

    /// Says how many lines were left out.
    fn end_skipped(&mut self) -> io::Result<()> {
        if self.skipped > 0 {
            let words = format!(
                "* {} more like it",
                text::counted(self.skipped, "byte", "bytes")
            );
            writeln!(
                self.out,
                "{:digits$}    {}",
                "",
                self.out.paint(Style::Faint, &words),
                digits = self.digits
            )?;
            self.skipped = 0;
        }
        Ok(())
    }

    /// The end of a run of data.
    fn end_data(&mut self) -> io::Result<()> {
        self.end_skipped()?;
        if !self.line.is_empty() {
            self.write_line()?;
            self.line.clear();
        }
        self.previous.clear();
        Ok(())
    }

    fn end_hole(&mut self) -> io::Result<()> {
        if let Some((address, len, why)) = self.hole.take() {
            let words = format!("-- {}: {why}", text::counted(len, "byte", "bytes"));
            let address = self.address_text(address);
            writeln!(
                self.out,
                "{address}  {}",
                self.out.paint(Style::Warning, &words)
            )?;
        }
        Ok(())
    }
}
