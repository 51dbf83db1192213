//! The line table of a unit: rows of address, file and line.

use crate::budget::Budget;
use crate::dwarf::{Debug, Entry, MAX_NAME, ReadError, Slice};
use gimli::{AttributeValue, IncompleteLineProgram, LineInstruction, LineRow, Unit};

/// Bytes of a row, twice because the list grows by doubling, and rows that are paid for at once.
const ROW_BYTES: u64 = 2 * size_of::<Row>() as u64;
const ROWS_AT_ONCE: usize = 1024;
/// Bytes in memory for each byte of a header, at most: a file that is named by an index is short.
const HEADER_FACTOR: u64 = 128;
/// Bytes of a file's name in memory, without its characters.
const FILE_BYTES: u64 = 256;

#[derive(Clone, Copy, Debug)]
struct Row {
    address: u64,
    file: u32,
    line: u32,
}

/// Rows without a gap.
#[derive(Clone, Copy, Debug)]
struct Sequence {
    start: u64,
    end: u64,
    first: usize,
    last: usize,
}

/// The line table of a unit.
#[derive(Debug, Default)]
pub(super) struct Rows<'a> {
    /// By ascending start.
    sequences: Vec<Sequence>,
    rows: Vec<Row>,
    program: Option<IncompleteLineProgram<Slice<'a>>>,
    /// What it has cost.
    bytes: u64,
}

impl<'a> Rows<'a> {
    /// Runs the line program of a unit; it may have none.
    pub(super) fn of(
        debug: &Debug<'a>,
        unit: &Unit<Slice<'a>>,
        root: &Entry<'a>,
    ) -> Result<Self, ReadError> {
        let Some(AttributeValue::DebugLineRef(offset)) = root.value(gimli::DW_AT_stmt_list) else {
            return Ok(Self::default());
        };
        let budget = debug.budget();
        let mut rows = Self::default();
        let header = header_len(debug.file.section(".debug_line"), offset.0, debug);
        rows.pay(budget, header.saturating_mul(HEADER_FACTOR))?;
        budget.work(header)?;
        let size = unit.header.address_size();
        let lines = &debug.sections.debug_line;
        let program = lines.program(offset, size, unit.comp_dir, unit.name)?;
        let kept =
            program.header().file_names().len() + program.header().include_directories().len();
        // What the header does not need after all.
        let kept = (kept as u64).saturating_mul(FILE_BYTES);
        if let Some(unneeded) = rows.bytes.checked_sub(kept) {
            budget.give_back(unneeded);
            rows.bytes = kept;
        }
        let end = rows.run(budget, program);
        if end.is_err() {
            rows.give_back(budget);
        }
        end?;
        Ok(rows)
    }

    fn pay(&mut self, budget: &Budget, bytes: u64) -> Result<(), ReadError> {
        budget.memory(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Returns what the rows have cost: they go.
    pub(super) fn give_back(&self, budget: &Budget) {
        budget.give_back(self.bytes);
    }

    fn run(
        &mut self,
        budget: &Budget,
        mut program: IncompleteLineProgram<Slice<'a>>,
    ) -> Result<(), ReadError> {
        budget.work(program.header().raw_program_buf().len() as u64)?;
        let mut row = LineRow::new(program.header());
        let mut instructions = program.header().instructions();
        let highest = u64::MAX >> (64 - 8 * u32::from(program.header().address_size().clamp(1, 8)));
        let mut first = 0;
        let mut dropped = false;
        let mut paid = 0;
        // What is before damage is sound.
        while let Ok(Some(instruction)) = instructions.next_instruction(program.header()) {
            match instruction {
                // Obsolete, and it would make the header grow.
                LineInstruction::DefineFile(_) => continue,
                // Linkers move what they have dropped to the end or the beginning.
                LineInstruction::SetAddress(to) => {
                    dropped = to < row.address() || to >= highest - 1 || to <= 1;
                }
                _ => {}
            }
            let Ok(is_row) = row.execute(instruction, &mut program) else {
                break;
            };
            if !is_row {
                continue;
            }
            if row.end_sequence() {
                self.end(first, row.address());
                first = self.rows.len();
                dropped = false;
            } else if !dropped {
                if self.rows.len() >= paid {
                    paid += ROWS_AT_ONCE;
                    self.pay(budget, ROW_BYTES * ROWS_AT_ONCE as u64)?;
                }
                self.push(first, &row);
            }
            row.reset(program.header());
        }
        self.rows.truncate(first);
        self.sequences.sort_by_key(|sequence| sequence.start);
        self.program = Some(program);
        Ok(())
    }

    fn push(&mut self, first: usize, row: &LineRow) {
        let line = row.line().map_or(0, std::num::NonZeroU64::get);
        let new = Row {
            address: row.address(),
            file: u32::try_from(row.file_index()).unwrap_or(u32::MAX),
            line: u32::try_from(line).unwrap_or(0),
        };
        match self.rows.get_mut(first..).and_then(<[Row]>::last_mut) {
            Some(last) if last.address == new.address => *last = new,
            Some(last) if (last.file, last.line) == (new.file, new.line) => {}
            _ => self.rows.push(new),
        }
    }

    /// Ends the sequence whose rows begin at `first`.
    fn end(&mut self, first: usize, end: u64) {
        match self.rows.get(first) {
            Some(row) if row.address < end => self.sequences.push(Sequence {
                start: row.address,
                end,
                first,
                last: self.rows.len(),
            }),
            _ => self.rows.truncate(first),
        }
    }

    /// The addresses of all rows without a gap.
    pub(super) fn sequences(&self) -> impl Iterator<Item = gimli::Range> {
        self.sequences.iter().map(|sequence| gimli::Range {
            begin: sequence.start,
            end: sequence.end,
        })
    }

    /// Number of the file, and line, at an address.
    pub(super) fn at(&self, address: u64) -> Option<(u64, u32)> {
        let after = self
            .sequences
            .partition_point(|sequence| sequence.start <= address);
        let sequence = self.sequences.get(after.checked_sub(1)?)?;
        let rows = self.rows.get(sequence.first..sequence.last)?;
        let after = rows.partition_point(|row| row.address <= address);
        let row = rows.get(after.checked_sub(1)?)?;
        (address < sequence.end).then_some((u64::from(row.file), row.line))
    }

    /// The path of a file, as the compiler was told.
    pub(super) fn file(
        &self,
        debug: &Debug<'a>,
        unit: &Unit<Slice<'a>>,
        number: u64,
    ) -> Option<String> {
        let header = self.program.as_ref()?.header();
        let file = header.file(number)?;
        let text = |value| {
            let text = debug.string(unit, value)?;
            Some(String::from_utf8_lossy(text).into_owned())
        };
        let name = text(file.path_name())?;
        let directory = match file.directory_index() {
            // The directory of the unit.
            0 => None,
            _ => file.directory(header).and_then(text),
        };
        let base = unit
            .comp_dir
            .map(|base| base.to_string_lossy().into_owned());
        let mut path = String::new();
        for part in [base, directory, Some(name)].into_iter().flatten() {
            if part.starts_with('/') {
                path.clear();
            } else if !path.is_empty() && !path.ends_with('/') {
                path.push('/');
            }
            path += &part;
        }
        path.truncate(path.floor_char_boundary(MAX_NAME));
        Some(path)
    }
}

/// Bytes of the header of the line program at `offset`, as it says.
fn header_len(section: &[u8], offset: usize, debug: &Debug<'_>) -> u64 {
    let endian = debug.file.endian();
    let wide = endian.u32_at(section, offset) == Some(u32::MAX);
    let length_at = if wide { offset + 12 } else { offset + 4 };
    let version = match (section.get(length_at), section.get(length_at + 1)) {
        (Some(first), Some(second)) => first | second,
        _ => 0,
    };
    // Since version 5 the sizes of addresses and segments follow it.
    let at = length_at + if version >= 5 { 4 } else { 2 };
    let len = match wide {
        true => endian.u64_at(section, at),
        false => endian.u32_at(section, at).map(u64::from),
    };
    len.unwrap_or(0).min(section.len() as u64)
}
