//! Machines of realistic size, written straight to a file: for demos and benchmarks.
//!
//! An amd64 minidump of version 3 with the processes of [`crate::machine`], and so many other pages
//! that the dump has the wanted size: runs of small pages in the kernel map, some of them
//! contiguous in RAM and some scattered, large pages, and pages that only the direct map reaches.
//! The same size always gives the same bytes; no page is empty.
//!
//! ```
//! use vmcore_synth::big::{BigMachine, Size};
//! let machine = BigMachine::new(Size { ram_bytes: 4 << 30, dump_bytes: 16 << 20 });
//! let mut file = Vec::new();
//! assert_eq!(machine.write(&mut file)?, machine.len_bytes());
//! assert!(file.starts_with(b"minidump FreeBSD/amd64\0"));
//! assert!(machine.kernel_map().len() > 100);
//! # Ok::<(), std::io::Error>(())
//! ```

use crate::Arch;
use crate::bytes::{index, put_u64};
use crate::elf::{FullDump, Kernel};
use crate::machine::{Build, Options, Shape, Truth, info};
use crate::minidump::Minidump;
use crate::random::Random;
use crate::tables::{Mapping, Tree};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

/// How large a machine and its dump are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Bytes of RAM; at least 4 GiB.
    pub ram_bytes: u64,
    /// Bytes of the dump, about; at least 16 MiB.
    pub dump_bytes: u64,
}

/// 8 GiB of RAM, a dump of 48 MiB.
pub const DEMO: Size = Size {
    ram_bytes: 8 << 30,
    dump_bytes: 48 << 20,
};
/// 64 GiB of RAM, a dump of 2 GiB.
pub const SERVER: Size = Size {
    ram_bytes: 64 << 30,
    dump_bytes: 2 << 30,
};
/// 1 TiB of RAM, a dump of 4 GiB; the bitmap alone has 32 MiB.
pub const HUGE: Size = Size {
    ram_bytes: 1 << 40,
    dump_bytes: 4 << 30,
};

const PAGE: u64 = 4096;
const LARGE: u64 = 2 << 20;
/// What the small machine and the page tables are in; other pages are taken from above.
const RESERVED_END: u64 = 64 << 20;
/// Where page tables are.
const TABLES: (u64, u64) = (32 << 20, RESERVED_END);
/// Where the variables and the bitmap of a full dump's kernel are: memory that is otherwise unused.
const BITMAP_AT: u64 = 20 << 20;
/// Distance of the filled part of the kernel map from its start.
const FILLED_AT: u64 = 4 << 30;
/// Of a hundred pages, so many are in large pages, and so many only in the direct map.
const LARGE_PERCENT: u64 = 30;
const DIRECT_PERCENT: u64 = 15;
/// The longest runs of pages.
const LONGEST_RUN: u64 = 64;
/// Pages that are written in one go.
const BATCH: usize = 256;

/// A machine of realistic size.
#[derive(Debug)]
pub struct BigMachine {
    /// Its kernel file.
    pub kernel: Kernel,
    /// The text of `info.0`.
    pub info: String,
    /// What is true about its processes and variables; its lists of pages are empty.
    pub truth: Truth,
    build: Build,
    front: Minidump,
    tree: Tree,
    ram: Ram,
    /// A bit for each page in the dump.
    dumped: Vec<u64>,
}

/// RAM: ranges of pages, numbered through.
#[derive(Clone, Debug)]
struct Ram {
    ranges: Vec<(u64, u64)>,
}

impl Ram {
    fn of(ram_bytes: u64) -> Self {
        let above = ram_bytes.saturating_sub(2 << 30).max(1 << 30);
        let four_gib = 4 << 30;
        Self {
            ranges: vec![
                (0, 0x9f000),
                (0x10_0000, 0x7ffe_0000),
                (four_gib, four_gib + above),
            ],
        }
    }

    /// Number of pages.
    fn pages(&self) -> u64 {
        self.ranges
            .iter()
            .map(|(start, end)| (end - start) / PAGE)
            .sum()
    }

    /// Number of the page at `pa`.
    fn number_of(&self, pa: u64) -> Option<u64> {
        let mut base = 0;
        for (start, end) in &self.ranges {
            if (*start..*end).contains(&pa) {
                return Some(base + (pa - start) / PAGE);
            }
            base += (end - start) / PAGE;
        }
        None
    }

    /// Address of a page by its number.
    fn address_of(&self, number: u64) -> u64 {
        let mut left = number;
        for (start, end) in &self.ranges {
            let pages = (end - start) / PAGE;
            if left < pages {
                return start + left * PAGE;
            }
            left -= pages;
        }
        u64::MAX
    }
}

/// Takes pages of free RAM.
struct Taker {
    ram: Ram,
    dumped: Vec<u64>,
    random: Random,
    taken: u64,
}

impl Taker {
    fn is_free(&self, number: u64) -> bool {
        self.dumped[index(number / 64)] >> (number % 64) & 1 == 0
    }

    fn take(&mut self, number: u64) {
        if self.is_free(number) {
            self.taken += 1;
            self.dumped[index(number / 64)] |= 1 << (number % 64);
        }
    }

    /// Takes the page at `pa`, if it is RAM.
    fn take_at(&mut self, pa: u64) {
        if let Some(number) = self.ram.number_of(pa) {
            self.take(number);
        }
    }

    /// Takes `pages` contiguous pages at a multiple of `align`; gives their address. Half of them
    /// are close together in the first sixteenth of RAM.
    fn run(&mut self, pages: u64, align: u64) -> u64 {
        loop {
            let all = self.ram.pages();
            let limit = if self.random.below(2) == 0 {
                all / 16
            } else {
                all
            };
            let pa = self.ram.address_of(self.random.below(limit)) / align * align;
            let Some(first) = self.ram.number_of(pa) else {
                continue;
            };
            let last_pa = pa + (pages - 1) * PAGE;
            let is_whole = self.ram.number_of(last_pa) == Some(first + pages - 1);
            if pa >= RESERVED_END && is_whole && (first..first + pages).all(|n| self.is_free(n)) {
                (first..first + pages).for_each(|number| self.take(number));
                return pa;
            }
        }
    }
}

impl BigMachine {
    /// Plans a machine; nothing is written yet.
    #[must_use]
    pub fn new(size: Size) -> Self {
        let mut build = Build::new(&Options {
            shape: Shape::Real,
            has_giga: false,
            cpus: 8,
            ram_bytes: size.ram_bytes,
            ..Options::new(Arch::Amd64, 3)
        });
        build.table_frames = TABLES;
        let ram = Ram::of(size.ram_bytes);
        let words = index(ram.pages().div_ceil(64));
        let mut taker = Taker {
            ram,
            dumped: vec![0; words],
            random: Random::new(size.ram_bytes),
            taken: 0,
        };
        take_small_machine(&mut taker, &build);
        // What precedes the pages: mostly the page-table section and the bitmap.
        let front = (9 << 20) + words as u64 * 8;
        let pages = (size.dump_bytes.saturating_sub(front) / PAGE).saturating_sub(taker.taken);
        let mut va = build.layout.kernbase + FILLED_AT;
        let large = pages * LARGE_PERCENT / 100 / (LARGE / PAGE);
        va = map_large_pages(&mut taker, &mut build, va, large);
        let direct = pages * DIRECT_PERCENT / 100;
        let mapped = pages - direct - large * (LARGE / PAGE);
        map_runs(&mut taker, &mut build, va, mapped);
        let mut left = direct;
        while left > 0 {
            let run = (1 + taker.random.below(16)).min(left);
            taker.run(run, PAGE);
            left -= run;
        }
        let (mut dump, tree) = build.empty_minidump();
        for pa in build.dumped_tables(&tree) {
            taker.take_at(pa);
        }
        dump.dump_avail.clone_from(&taker.ram.ranges);
        let mut bitmap = vec![0; index((words as u64 * 8).next_multiple_of(PAGE))];
        for (number, word) in (0..).zip(&taker.dumped) {
            put_u64(&mut bitmap, 8 * number, *word);
        }
        dump.bitmap = Some(bitmap);
        let mut machine = Self {
            kernel: build.kernel.clone(),
            info: String::new(),
            truth: build.truth.clone(),
            build,
            front: dump,
            tree,
            ram: taker.ram,
            dumped: taker.dumped,
        };
        // Its holes are RAM here.
        let mut absent = std::mem::take(&mut machine.truth.absent);
        absent.retain(|(_, pa)| machine.is_absent(*pa));
        machine.truth.absent = absent;
        machine.info = info::info_text(&info::header(
            Arch::Amd64,
            machine.len_bytes(),
            &machine.truth,
        ));
        machine
    }

    fn is_absent(&self, pa: u64) -> bool {
        self.ram.number_of(pa).is_none() || self.build.no_dump.contains(&pa)
    }

    /// Number of pages in the dump.
    #[must_use]
    pub fn page_count(&self) -> u64 {
        self.dumped
            .iter()
            .map(|word| u64::from(word.count_ones()))
            .sum()
    }

    /// Bytes of the dump.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.front.sections().pages + self.page_count() * PAGE
    }

    /// Physical address of every page in the dump, ascending.
    pub fn pages(&self) -> impl Iterator<Item = u64> + '_ {
        let bits = (0..)
            .zip(&self.dumped)
            .flat_map(|(number, word): (u64, &u64)| {
                (0..64)
                    .filter(move |bit| word >> bit & 1 == 1)
                    .map(move |bit| 64 * number + bit)
            });
        bits.map(|number| self.ram.address_of(number))
    }

    /// Every address in the kernel map of a page in the dump, a page apart.
    #[must_use]
    pub fn kernel_map(&self) -> Vec<u64> {
        let mut addresses = Vec::new();
        for mapping in &self.build.mappings {
            let offsets = (0..mapping.size).step_by(index(PAGE));
            let present = offsets.filter(|offset| !self.is_absent(mapping.pa + offset));
            addresses.extend(present.map(|offset| mapping.va + offset));
        }
        addresses.sort_unstable();
        addresses
    }

    /// Every address in the direct map of a page in the dump, a page apart.
    #[must_use]
    pub fn direct_map(&self) -> Vec<u64> {
        self.pages()
            .filter_map(|pa| self.build.layout.direct_va(pa))
            .collect()
    }

    /// Writes the dump; gives its length in bytes.
    ///
    /// # Errors
    /// Returns an error if `out` does.
    pub fn write(&self, out: &mut impl Write) -> io::Result<u64> {
        let front = self.front.front();
        out.write_all(&front)?;
        let mut len = front.len() as u64;
        let mut batch = Vec::with_capacity(BATCH * index(PAGE));
        for pa in self.pages() {
            self.append_page(pa, &mut batch);
            if batch.len() >= BATCH * index(PAGE) {
                out.write_all(&batch)?;
                len += batch.len() as u64;
                batch.clear();
            }
        }
        out.write_all(&batch)?;
        len += batch.len() as u64;
        out.flush()?;
        Ok(len)
    }

    fn append_page(&self, pa: u64, batch: &mut Vec<u8>) {
        if let Some(table) = self.tree.tables.get(&pa) {
            return batch.extend_from_slice(&table.bytes);
        }
        if let Some(page) = self.build.memory.pages.get(&pa) {
            return batch.extend_from_slice(page);
        }
        let mut random = Random::new(pa / PAGE);
        for _ in 0..PAGE / 8 {
            batch.extend_from_slice(&random.next_number().to_le_bytes());
        }
    }

    /// Writes the full dump of the machine as `vmcore.full`, and as `kernel.full` its kernel, which
    /// knows what it would have put into its minidump (`vm_page_dump`). Pages that would not be in it
    /// are holes of the file.
    ///
    /// # Errors
    /// Returns an error if a file cannot be made or written.
    pub fn write_full_into(&self, folder: &Path) -> io::Result<()> {
        let mut kernel = self.kernel.clone();
        let words: Vec<u8> = self.dumped.iter().flat_map(|w| w.to_le_bytes()).collect();
        let pages = self.ram.pages();
        let mut variables = vec![0; index(PAGE)];
        let at = |offset: u64| self.build.layout.direct_va(BITMAP_AT + offset).unwrap_or(0);
        let mut avail: Vec<u64> = self.ram.ranges.iter().flat_map(|r| [r.0, r.1]).collect();
        avail.extend([0, 0]);
        put_u64(&mut variables, 0, at(PAGE));
        put_u64(&mut variables, 8, pages);
        for (number, address) in (0..).zip(&avail) {
            put_u64(&mut variables, 16 + number * 8, *address);
        }
        kernel.add_object("vm_page_dump", at(0), 8);
        kernel.add_object("vm_page_dump_pages", at(8), 8);
        kernel.add_object("dump_avail", at(16), avail.len() as u64 * 8);
        std::fs::write(folder.join("kernel.full"), kernel.build())?;

        let segments: Vec<(u64, u64)> = self.ram.ranges.clone();
        let mut offset = PAGE;
        let mut starts = Vec::new();
        for (start, end) in &segments {
            starts.push((*start, offset));
            offset += end - start;
        }
        let mut file = File::create(folder.join("vmcore.full"))?;
        file.set_len(offset)?;
        file.write_all(&FullDump::headers(Arch::Amd64, &segments))?;
        let offset_of = |pa: u64| {
            let found = starts.iter().rev().find(|(start, _)| *start <= pa);
            found.map_or(0, |(start, offset)| offset + (pa - start))
        };
        let mut pages: BTreeSet<u64> = self.pages().collect();
        pages.extend(self.tree.tables.keys());
        let mut batch = Vec::new();
        for pa in pages {
            self.append_page(pa, &mut batch);
            file.seek(SeekFrom::Start(offset_of(pa)))?;
            file.write_all(&batch)?;
            batch.clear();
        }
        variables.extend(words);
        file.seek(SeekFrom::Start(offset_of(BITMAP_AT)))?;
        file.write_all(&variables)
    }

    /// Writes `vmcore.0`, `info.0` and `kernel` into a folder.
    ///
    /// # Errors
    /// Returns an error if a file cannot be made or written.
    pub fn write_into(&self, folder: &Path) -> io::Result<()> {
        self.write(&mut File::create(folder.join("vmcore.0"))?)?;
        std::fs::write(folder.join("info.0"), &self.info)?;
        std::fs::write(folder.join("kernel"), self.kernel.build())
    }
}

/// Takes the pages of the small machine: the kernel image, stacks, structures, the log.
fn take_small_machine(taker: &mut Taker, build: &Build) {
    for pa in build.mapped(&taker.ram.ranges.clone()).into_keys() {
        if !build.no_dump.contains(&pa) {
            taker.take_at(pa);
        }
    }
    for pa in &build.marked {
        taker.take_at(*pa);
    }
}

/// Maps large pages from `va` on; gives the address after them.
fn map_large_pages(taker: &mut Taker, build: &mut Build, va: u64, count: u64) -> u64 {
    let mut va = va;
    for _ in 0..count {
        let pa = taker.run(LARGE / PAGE, LARGE);
        build.mappings.push(Mapping::page(va, pa, LARGE));
        // Now and then one is missing.
        va += LARGE * (1 + taker.random.below(4) / 3);
    }
    va
}

/// Maps runs of small pages from `va` on, with gaps between them.
fn map_runs(taker: &mut Taker, build: &mut Build, va: u64, count: u64) {
    let mut va = va;
    let mut left = count;
    while left > 0 {
        let run = (1 + taker.random.below(LONGEST_RUN)).min(left);
        let is_contiguous = taker.random.below(2) == 0;
        let start = if is_contiguous {
            taker.run(run, PAGE)
        } else {
            0
        };
        for number in 0..run {
            let pa = if is_contiguous {
                start + number * PAGE
            } else {
                taker.run(1, PAGE)
            };
            build
                .mappings
                .push(Mapping::page(va + number * PAGE, pa, PAGE));
        }
        va += (run + 1 + taker.random.below(8)) * PAGE;
        left -= run;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::word;

    const SMALL: Size = Size {
        ram_bytes: 4 << 30,
        dump_bytes: 18 << 20,
    };

    fn written(size: Size) -> (BigMachine, Vec<u8>) {
        let machine = BigMachine::new(size);
        let mut file = Vec::new();
        machine.write(&mut file).unwrap();
        (machine, file)
    }

    #[test]
    fn a_dump_has_the_wanted_size() {
        let (machine, file) = written(SMALL);
        assert_eq!(file.len() as u64, machine.len_bytes());
        assert!(file.len().abs_diff(18 << 20) < 1 << 20, "{}", file.len());
        let sections = machine.front.sections();
        assert_eq!(sections.page_tables - sections.bitmap, 1 << 17);
        assert_eq!(sections.pages - sections.page_tables, 0x7f_f000);
        let bitmap = &file[index(sections.bitmap)..index(sections.page_tables)];
        let bits: u64 = bitmap.iter().map(|byte| u64::from(byte.count_ones())).sum();
        assert_eq!(file.len() as u64, sections.pages + bits * PAGE);
    }

    #[test]
    fn pages_are_where_counting_says() {
        let (machine, file) = written(SMALL);
        let start = machine.front.sections().pages;
        for (position, pa) in (0..).zip(machine.pages()) {
            let at = index(start + position * PAGE);
            assert!(
                file[at..at + 4096].iter().any(|byte| *byte != 0) || pa < RESERVED_END,
                "{pa:#x}"
            );
            if pa >= RESERVED_END {
                assert_eq!(
                    word(&file, at as u64, 8),
                    Random::new(pa / PAGE).next_number()
                );
            }
            if position % 500 == 0 {
                assert_eq!(machine.front.offset_of(pa), Some(at as u64), "{pa:#x}");
            }
        }
    }

    #[test]
    fn every_kind_of_page_has_its_part() {
        let machine = BigMachine::new(DEMO);
        let all = machine.page_count();
        let frames: BTreeSet<u64> = machine
            .kernel_map()
            .iter()
            .filter_map(|va| machine.tree.translate(*va))
            .collect();
        assert!(frames.iter().all(|pa| machine.ram.number_of(*pa).is_some()));
        let tables = machine.build.dumped_tables(&machine.tree).len() as u64;
        let direct_only = all - frames.len() as u64 - tables;
        assert!(
            (12..19).contains(&(direct_only * 100 / all)),
            "{direct_only} of {all}"
        );
        assert_eq!(machine.direct_map().len() as u64, all);
        let large = machine
            .build
            .mappings
            .iter()
            .filter(|mapping| mapping.size == LARGE)
            .count();
        assert!(large > 4, "{large}");
    }

    #[test]
    fn the_same_size_gives_the_same_bytes() {
        assert!(written(SMALL).1 == written(SMALL).1);
    }
}
