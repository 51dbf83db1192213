//! The stream of a dump's bytes: staged, checksummed, and handed to the sink one buffer at a time,
//! while the other buffer is filled.

use crate::error::DumpError;
use crate::latch::{Owner, Stage};
use crate::machine::{Machine, Progress};
use crate::sink::{Durability, Sink};
use vmcore_format::addr::{FileOffset, PageSize};
use vmcore_format::checksum::Checksum;
use vmcore_format::extension::SectionSum;

/// The most sections before the pages.
pub(crate) const MAX_SECTIONS: usize = 5;

/// Checksums of runs of pages, as they go by.
#[derive(Debug)]
struct RunSums<'w> {
    slots: &'w mut [u64],
    used: usize,
    run_bytes: u64,
    in_run: u64,
    sum: Checksum,
}

impl RunSums<'_> {
    fn update(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let room = usize::try_from(self.run_bytes - self.in_run).unwrap_or(usize::MAX);
            let (part, rest) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            self.sum.update(part);
            self.in_run += part.len() as u64;
            bytes = rest;
            if self.in_run >= self.run_bytes {
                self.close();
            }
        }
    }

    fn close(&mut self) {
        if self.in_run == 0 {
            return;
        }
        if let Some(slot) = self.slots.get_mut(self.used) {
            *slot = self.sum.value();
            self.used += 1;
        }
        self.sum = Checksum::new();
        self.in_run = 0;
    }
}

/// What is being summed.
#[derive(Debug)]
enum Summing<'w> {
    /// A section, or a record of the extension.
    One(Checksum),
    /// Runs of pages.
    Runs(RunSums<'w>),
}

/// A dump on its way to a sink.
pub(crate) struct Stream<'w, M, S> {
    pub(crate) machine: &'w M,
    sink: &'w mut S,
    owner: &'w Owner<'w>,
    stage: Stage,
    filling: &'w mut [u8],
    other: &'w mut [u8],
    filled: usize,
    /// Bytes of the other buffer that the sink has not confirmed.
    in_flight: usize,
    position: u64,
    total_bytes: u64,
    summing: Summing<'w>,
    sections: [SectionSum; MAX_SECTIONS],
    section_count: usize,
    section_start: u64,
}

const NO_SECTION: SectionSum = SectionSum {
    section: 0,
    offset: FileOffset(0),
    stored_bytes: 0,
    checksum: 0,
};

impl<'w, M: Machine, S: Sink> Stream<'w, M, S> {
    /// A stream of `total_bytes` to a sink that has begun.
    pub(crate) fn new(
        machine: &'w M,
        sink: &'w mut S,
        owner: &'w Owner<'w>,
        staging: (&'w mut [u8], &'w mut [u8]),
        page_size: PageSize,
        total_bytes: u64,
    ) -> Self {
        let (filling, other) = staging;
        let page = usize::try_from(page_size.bytes()).unwrap_or(usize::MAX);
        let liked = sink.chunk_bytes().min(filling.len()).min(other.len());
        // Whole pages, and at least one.
        let chunk = liked
            .checked_rem(page)
            .map_or(liked, |rest| liked - rest)
            .max(page);
        let cut = |buffer: &'w mut [u8]| match buffer.split_at_mut_checked(chunk) {
            Some((chunk, _)) => chunk,
            None => &mut [],
        };
        Self {
            machine,
            sink,
            owner,
            stage: owner.stage(),
            filling: cut(filling),
            other: cut(other),
            filled: 0,
            in_flight: 0,
            position: 0,
            total_bytes,
            summing: Summing::One(Checksum::new()),
            sections: [NO_SECTION; MAX_SECTIONS],
            section_count: 0,
            section_start: 0,
        }
    }

    /// Bytes that were put in so far.
    pub(crate) const fn position(&self) -> u64 {
        self.position
    }

    /// Starts a stage: everything before it has come out as planned.
    pub(crate) fn start(&mut self, stage: Stage) {
        self.owner.reach(stage);
        self.stage = stage;
    }

    /// Free room, at least a byte; whole pages if only whole pages were put in so far.
    pub(crate) fn room(&mut self) -> Result<&mut [u8], DumpError> {
        if self.filled >= self.filling.len() {
            self.push()?;
        }
        Ok(self.filling.get_mut(self.filled..).unwrap_or_default())
    }

    /// Puts in the first `len` bytes of the room.
    pub(crate) fn commit(&mut self, len: usize) -> Result<(), DumpError> {
        let end = self.filled.saturating_add(len);
        let bytes = self
            .filling
            .get(self.filled..end)
            .ok_or(self.inconsistent(self.total_bytes))?;
        match &mut self.summing {
            Summing::One(sum) => sum.update(bytes),
            Summing::Runs(runs) => runs.update(bytes),
        }
        self.filled = end;
        self.position = self.position.saturating_add(len as u64);
        self.expect_within()
    }

    /// Puts in `bytes`.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<(), DumpError> {
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let room = self.room()?;
            let len = room.len().min(bytes.len());
            for (to, from) in room.iter_mut().zip(bytes) {
                *to = *from;
            }
            self.commit(len)?;
            bytes = bytes.get(len..).unwrap_or_default();
        }
        Ok(())
    }

    /// Puts in `count` words of eight bytes, a buffer at a time. The position is a multiple of eight.
    pub(crate) fn put_words(
        &mut self,
        count: u64,
        word: impl Fn(u64) -> [u8; 8],
    ) -> Result<(), DumpError> {
        let mut index = 0;
        while index < count {
            let mut len = 0_usize;
            let room = self.room()?.as_chunks_mut::<8>().0;
            for (to, number) in room.iter_mut().zip(index..count) {
                *to = word(number);
                len = len.saturating_add(8);
            }
            if len == 0 {
                return Err(self.inconsistent(self.total_bytes));
            }
            self.commit(len)?;
            index = index.saturating_add(len as u64 / 8);
        }
        Ok(())
    }

    /// Puts in zeros up to byte `end` of the dump.
    pub(crate) fn put_zeros_to(&mut self, end: u64) -> Result<(), DumpError> {
        while self.position < end {
            let left = usize::try_from(end - self.position).unwrap_or(usize::MAX);
            let room = self.room()?;
            let len = room.len().min(left);
            room.get_mut(..len).unwrap_or_default().fill(0);
            self.commit(len)?;
        }
        self.expect(end)
    }

    /// Ends a section, which must end at byte `planned` of the dump, and keeps its checksum.
    pub(crate) fn end_section(&mut self, section: u32, planned: u64) -> Result<(), DumpError> {
        self.expect(planned)?;
        let checksum = self.take_sum();
        if let Some(slot) = self.sections.get_mut(self.section_count) {
            *slot = SectionSum {
                section,
                offset: FileOffset(self.section_start),
                stored_bytes: self.position - self.section_start,
                checksum,
            };
            self.section_count += 1;
        }
        self.section_start = self.position;
        Ok(())
    }

    /// Sums runs of `run_bytes` from here on.
    pub(crate) fn sum_runs(&mut self, slots: &'w mut [u64], run_bytes: u64) {
        let run_bytes = run_bytes.max(1);
        let sum = Checksum::new();
        self.summing = Summing::Runs(RunSums {
            slots,
            used: 0,
            run_bytes,
            in_run: 0,
            sum,
        });
    }

    /// Ends the runs, and returns their checksums.
    pub(crate) fn take_runs(&mut self) -> &'w [u64] {
        let summing = core::mem::replace(&mut self.summing, Summing::One(Checksum::new()));
        match summing {
            Summing::Runs(mut runs) => {
                runs.close();
                runs.slots.get(..runs.used).unwrap_or_default()
            }
            Summing::One(_) => &[],
        }
    }

    /// The checksum of what was put in since it was last taken.
    pub(crate) fn take_sum(&mut self) -> u64 {
        match core::mem::replace(&mut self.summing, Summing::One(Checksum::new())) {
            Summing::One(sum) => sum.value(),
            Summing::Runs(_) => 0,
        }
    }

    /// The sections that have ended.
    pub(crate) fn sections(&self) -> [SectionSum; MAX_SECTIONS] {
        self.sections
    }

    /// Fails unless exactly `planned` bytes were put in.
    pub(crate) fn expect(&self, planned: u64) -> Result<(), DumpError> {
        if self.position == planned {
            return Ok(());
        }
        Err(self.inconsistent(planned))
    }

    const fn inconsistent(&self, planned: u64) -> DumpError {
        DumpError::Inconsistent {
            position: self.position,
            planned,
        }
    }

    fn expect_within(&self) -> Result<(), DumpError> {
        if self.position <= self.total_bytes {
            return Ok(());
        }
        Err(self.inconsistent(self.total_bytes))
    }

    /// Hands the filled part to the sink as soon as it is done with the other buffer, and goes on
    /// with that one. Watchdog and console get their turn.
    fn push(&mut self) -> Result<(), DumpError> {
        self.wait_in_flight()?;
        let ready = self.filling.get(..self.filled).unwrap_or_default();
        if !ready.is_empty() {
            self.sink.submit(ready)?;
            core::mem::swap(&mut self.filling, &mut self.other);
            self.in_flight = self.filled;
            self.filled = 0;
        }
        self.machine.pat_watchdog();
        self.machine.progress(Progress {
            stage: self.stage,
            done_bytes: self.position,
            total_bytes: self.total_bytes,
        });
        if self.machine.poll_abort() {
            return Err(DumpError::Aborted);
        }
        Ok(())
    }

    /// Waits for the sink to be done with the other buffer.
    fn wait_in_flight(&mut self) -> Result<(), DumpError> {
        if self.in_flight > 0 {
            let sent = self.other.get(..self.in_flight).unwrap_or_default();
            self.in_flight = 0;
            self.sink.complete(sent)?;
        }
        Ok(())
    }

    /// Ends the dump: all bytes to the sink, and then the headers that make it valid.
    pub(crate) fn finish(mut self) -> Result<Durability, DumpError> {
        self.expect(self.total_bytes)?;
        self.start(Stage::Finish);
        self.push()?;
        self.wait_in_flight()?;
        Ok(self.sink.finish(self.total_bytes)?)
    }
}
