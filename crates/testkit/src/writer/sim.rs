//! The simulated machine: RAM with holes, page tables with every page size, an allocator that uses
//! the dump map, a message buffer, memory that cannot be read. It keeps its own books of what is
//! mapped, added and forbidden, by which the tests predict the dump. Entries are encoded here by the
//! architectures' manuals, not by the library.

use super::models::Model;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::sync::atomic::AtomicU64;
use vmcore_format::addr::{Pfn, PhysAddr, PhysRange, VirtAddr};
use vmcore_format::arch::Arch;
use vmcore_format::dump_avail::NumberedRange;
use vmcore_format::header::{Mmu, Powerpc64Mmu};
use vmcore_format::identity::{BuildId, Clock, Identity, Trap};
use vmcore_format::paging::{Radix, TableRef};
use vmcore_writer::DumpMap;
use vmcore_writer::arch::KernelPaging;
use vmcore_writer::machine::{
    Cpu, CpuState, Kernel, KernelImage, MAX_REGISTERS, Machine, MessageBuffer, Module, Process,
    Progress, Text, Thread, Unreadable, Window,
};

pub fn ix(value: u64) -> usize {
    usize::try_from(value).unwrap()
}

/// Where the kernel of a powerpc64 runs.
pub const START_KERNEL: u64 = 0xc000_0000_0010_0100;
pub const END_KERNEL: u64 = 0xc000_0000_0020_0000;

/// What hooks may do while the writer copies.
pub type Hook = Box<dyn Fn(u64)>;

/// A machine whose kernel has the page tables of `P`.
pub struct Sim<P> {
    pub model: Model,
    pub ranges: Vec<PhysRange>,
    pub map: DumpMap<'static>,
    /// Pages that were written; the others have [`pattern`].
    pages: BTreeMap<u64, Vec<u8>>,
    next_free: u64,
    pub root: PhysAddr,
    /// Mappings of the kernel map, by address: physical address and log2 of the size.
    pub mapped: BTreeMap<u64, (u64, u32)>,
    /// Page-table pages: page number and level.
    pub tables: BTreeSet<(u64, u32)>,
    pub added: BTreeSet<u64>,
    pub forbidden: BTreeSet<u64>,
    pub unreadable: BTreeSet<u64>,
    pub msgbuf: (u64, u32),
    pub image: Option<KernelImage>,
    pub cpus: Vec<Cpu>,
    pub panic: Vec<u8>,
    /// What it tells of itself.
    pub system: &'static str,
    pub windows: Vec<Window>,
    pub processes: Vec<Process>,
    pub threads: Vec<Thread>,
    /// What was saved of a thread's registers: by its number and theirs.
    pub saved: BTreeMap<(u64, usize), u64>,
    pub modules: Vec<Module>,
    pub time_seconds: i64,
    /// Called with the number of the copy, before each.
    pub on_copy: RefCell<Option<Hook>>,
    pub copies: Cell<u64>,
    pub pats: Cell<u64>,
    pub polls: Cell<u64>,
    /// Number of the poll that aborts.
    pub abort_at: Cell<u64>,
    pub progress: RefCell<Vec<Progress>>,
    paging: PhantomData<P>,
}

/// What is in an unwritten page: its own number all over.
pub fn pattern(pfn: u64, len: usize) -> Vec<u8> {
    let word = |index: u64| pfn.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ index;
    (0..len as u64 / 8)
        .flat_map(|index| word(index).to_le_bytes())
        .collect()
}

pub fn range(start: u64, end: u64) -> PhysRange {
    PhysRange {
        start: PhysAddr(start),
        end: PhysAddr(end),
    }
}

impl<P: KernelPaging> Sim<P> {
    /// A machine with this RAM, an empty root table and a message buffer of `msgbuf_len` bytes.
    pub fn new(model: Model, ranges: &[PhysRange], msgbuf_len: u32) -> Self {
        let ranges: &'static [PhysRange] = Box::leak(ranges.to_vec().into_boxed_slice());
        let numbered = Box::leak(vec![NumberedRange::default(); ranges.len()].into_boxed_slice());
        let count = DumpMap::words_needed(P::PAGE_SIZE, ranges).unwrap();
        let words: Vec<AtomicU64> = (0..count).map(|_| AtomicU64::new(0)).collect();
        let words: &'static [AtomicU64] = Box::leak(words.into_boxed_slice());
        let map = DumpMap::new(P::PAGE_SIZE, ranges, numbered, words).unwrap();
        let mut sim = Self {
            model,
            ranges: ranges.to_vec(),
            map,
            pages: BTreeMap::new(),
            next_free: 0,
            root: PhysAddr(0),
            mapped: BTreeMap::new(),
            tables: BTreeSet::new(),
            added: BTreeSet::new(),
            forbidden: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            msgbuf: (0, msgbuf_len),
            image: None,
            cpus: vec![Cpu::RUNNING; 3],
            panic: b"page fault".to_vec(),
            system: "",
            windows: Vec::new(),
            processes: Vec::new(),
            threads: Vec::new(),
            saved: BTreeMap::new(),
            modules: Vec::new(),
            time_seconds: 1_700_000_000,
            on_copy: RefCell::new(None),
            copies: Cell::new(0),
            pats: Cell::new(0),
            polls: Cell::new(0),
            abort_at: Cell::new(u64::MAX),
            progress: RefCell::new(Vec::new()),
            paging: PhantomData,
        };
        for (number, cpu) in sim.cpus.iter_mut().enumerate().take(2) {
            cpu.state = if number == 0 {
                CpuState::Dumping
            } else {
                CpuState::Stopped
            };
            cpu.thread = 100_000 + number as u64;
            cpu.registers = std::array::from_fn(|index| (number * 1000 + index) as u64);
        }
        // Two pages in front are left free, so that the root is not the first page of RAM.
        // A root of several pages is aligned to its size.
        let root_pages = model.root_pages();
        sim.next_free = root_pages.max(2);
        let root = sim.allocate_run(root_pages);
        sim.root = PhysAddr(root << model.page_shift);
        for page in root..root + root_pages {
            sim.write(page, &vec![0; model.page_bytes()]);
        }
        sim.make_message_buffer();
        sim
    }

    fn make_message_buffer(&mut self) {
        let page = self.model.page_bytes();
        let pages = (ix(self.msgbuf.1.into()) + 72).div_ceil(page);
        let first = self.allocate_run(pages as u64);
        let mut bytes: Vec<u8> = (0..pages * page)
            .map(|at| b'a' + u8::try_from(at % 26).unwrap())
            .collect();
        bytes[ix(self.msgbuf.1.into())..].fill(0xee);
        for (index, page) in bytes.chunks(page).enumerate() {
            self.write(first + index as u64, page);
            self.add(first + index as u64);
        }
        self.msgbuf.0 = first << self.model.page_shift;
    }

    /// The `index`th page of RAM, over all ranges.
    pub fn nth_page(&self, index: u64) -> u64 {
        let mut index = index;
        let mut seen = 0;
        for range in &self.ranges {
            let first = (range.start.0 >> self.model.page_shift).max(seen);
            let end = range.end.0.div_ceil(1 << self.model.page_shift);
            if index < end - first {
                return first + index;
            }
            index -= end - first;
            seen = end;
        }
        panic!("out of memory");
    }

    pub fn is_ram(&self, pfn: u64) -> bool {
        self.ranges.iter().any(|range| {
            (range.start.0 >> self.model.page_shift) <= pfn
                && pfn < range.end.0.div_ceil(1 << self.model.page_shift)
        })
    }

    /// A free page.
    pub fn allocate(&mut self) -> u64 {
        self.next_free += 1;
        self.nth_page(self.next_free - 1)
    }

    /// The first of `pages` pages that follow one another: a range of RAM may end among them.
    fn allocate_run(&mut self, pages: u64) -> u64 {
        let (mut first, mut count) = (self.allocate(), 1);
        while count < pages {
            let next = self.allocate();
            (first, count) = match next == first + count {
                true => (first, count + 1),
                false => (next, 1),
            };
        }
        first
    }

    /// A slab: a page that only the direct map reaches.
    pub fn allocate_slab(&mut self) -> u64 {
        let pfn = self.allocate();
        self.add(pfn);
        pfn
    }

    pub fn add(&mut self, pfn: u64) {
        self.map
            .add_page(PhysAddr(pfn << self.model.page_shift))
            .unwrap();
        self.added.insert(pfn);
    }

    pub fn free_slab(&mut self, pfn: u64) {
        self.map
            .drop_page(PhysAddr(pfn << self.model.page_shift))
            .unwrap();
        self.added.remove(&pfn);
    }

    pub fn write(&mut self, pfn: u64, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.model.page_bytes());
        self.pages.insert(pfn, bytes.to_vec());
    }

    /// What is in a page.
    pub fn page(&self, pfn: u64) -> Vec<u8> {
        self.pages
            .get(&pfn)
            .cloned()
            .unwrap_or_else(|| pattern(pfn, self.model.page_bytes()))
    }

    /// Writes entry `index` of the table at `pa`.
    pub fn set_entry(&mut self, pa: u64, index: u64, raw: u64) {
        let width = self.model.entry_bytes;
        let at = pa + index * width;
        let pfn = at >> self.model.page_shift;
        let mut page = self.page(pfn);
        let at = ix(at & (self.model.page_bytes() as u64 - 1));
        page[at..at + ix(width)].copy_from_slice(&self.model.put_entry(raw));
        self.write(pfn, &page);
    }

    pub fn entry(&self, pa: u64, index: u64) -> u64 {
        let width = self.model.entry_bytes;
        let at = pa + index * width;
        let page = self.page(at >> self.model.page_shift);
        let at = ix(at & (self.model.page_bytes() as u64 - 1));
        self.model.entry(&page[at..at + ix(width)])
    }

    /// Maps the page of level `level` at `va` to `pa`, making tables on the way.
    pub fn map_page(&mut self, va: u64, pa: u64, level: u32) {
        let model = self.model;
        let raw = (model.leaf)(pa, level);
        let table = self.table_of(va, level);
        self.set_entry(table, model.index(va, level), raw);
        if va >= model.kernbase && va < model.kernend {
            self.mapped.insert(va, (pa, model.shift(level)));
        }
    }

    /// The table of level `level` that covers `va`, made if it is not there.
    pub fn table_of(&mut self, va: u64, level: u32) -> u64 {
        let model = self.model;
        let mut table = self.root.0;
        for at in (level + 1..=model.root_level).rev() {
            let index = model.index(va, at);
            let raw = self.entry(table, index);
            if raw == 0 {
                let new = self.allocate();
                self.write(new, &vec![0; model.page_bytes()]);
                // Those of the direct map are not the kernel map's.
                if va >= model.kernbase {
                    self.tables.insert((new, at - 1));
                }
                // A table that is smaller than a page is at its end.
                let pa =
                    (new << model.page_shift) + (model.page_bytes() - model.table_bytes()) as u64;
                self.set_entry(table, index, (model.table)(pa));
                table = pa;
            } else {
                table = (model.frame)(raw);
            }
        }
        table
    }

    /// Pages that a minidump of `version` must hold, by the rules of the specification.
    pub fn predicted(&self, version: u32) -> BTreeSet<u64> {
        let mut pages = self.added.clone();
        for (pa, shift) in self.mapped.values() {
            let first = pa >> self.model.page_shift;
            pages.extend(first..first + (1 << (shift - self.model.page_shift)));
        }
        if self.model.tables_are_pages(version) {
            let level = self.model.section_level(version);
            let kernel_tables = self.tables.iter().filter(|(_, at)| *at < level);
            pages.extend(kernel_tables.map(|(pfn, _)| *pfn));
        }
        pages.retain(|pfn| self.is_ram(*pfn) && !self.forbidden.contains(pfn));
        pages
    }
}

impl<P: KernelPaging> Machine for Sim<P> {
    type Paging = P;

    fn kernel(&self) -> Kernel {
        let model = &self.model;
        Kernel {
            radix: Radix {
                top: TableRef::At(self.root),
                level: model.root_level,
                first_va: VirtAddr(model.first_va),
                entries: model.root_entries,
                va_bits: model.va_bits,
            },
            kernbase: VirtAddr(model.kernbase),
            kernend: VirtAddr(model.kernend),
            direct_map: model.direct_map,
            image: self.image,
        }
    }

    fn mmu(&self) -> Mmu {
        match self.model.arch {
            Arch::Powerpc64 => Mmu::Powerpc64(Powerpc64Mmu {
                hashed: false,
                kernend: VirtAddr(self.model.kernend - 1),
                hw_direct_map: true,
                startkernel: VirtAddr(START_KERNEL),
                endkernel: VirtAddr(END_KERNEL),
            }),
            _ => P::MMU,
        }
    }

    fn message_buffer(&self) -> MessageBuffer {
        MessageBuffer {
            start: PhysAddr(self.msgbuf.0),
            len_bytes: self.msgbuf.1,
        }
    }

    fn copy(&self, from: PhysAddr, to: &mut [u8]) -> Result<(), Unreadable> {
        self.copies.set(self.copies.get() + 1);
        if let Some(hook) = self.on_copy.borrow().as_ref() {
            hook(self.copies.get());
        }
        let page = self.model.page_bytes();
        let mut at = from.0;
        let mut rest = to;
        while !rest.is_empty() {
            let pfn = at >> self.model.page_shift;
            let inside = ix(at & (page as u64 - 1));
            let len = rest.len().min(page - inside);
            assert!(
                self.is_ram(pfn),
                "the writer touched {at:#x}, which is not RAM"
            );
            if self.unreadable.contains(&pfn) {
                rest[..len].fill(0xbd);
                return Err(Unreadable);
            }
            rest[..len].copy_from_slice(&self.page(pfn)[inside..inside + len]);
            at += len as u64;
            rest = &mut rest[len..];
        }
        Ok(())
    }

    fn dumpable(&self, page: Pfn) -> bool {
        !self.forbidden.contains(&page.0)
    }

    fn text(&self, text: Text, to: &mut [u8]) -> usize {
        let text: &[u8] = match text {
            Text::Hostname => b"testhost",
            Text::Version => b"FreeBSD 15.1-RELEASE GENERIC\n",
            Text::Panic => &self.panic,
            Text::System => self.system.as_bytes(),
            Text::Compiler => b"rustc 1.95.0",
        };
        let len = text.len().min(to.len());
        to[..len].copy_from_slice(&text[..len]);
        len
    }

    fn identity(&self) -> Identity {
        Identity {
            boot_id: [0xb0; 16],
            machine_id: [0x3a; 16],
            build_id: BuildId::new(&[0xbd; 20]),
            trap: Trap::PageFault,
            time_seconds: self.time_seconds,
            clock: Clock::Synchronised,
            uptime_us: 12_345_678,
            ..Identity::default()
        }
    }

    fn cpus(&self) -> u32 {
        u32::try_from(self.cpus.len()).unwrap()
    }

    fn cpu(&self, cpu: u32) -> Cpu {
        self.cpus[ix(cpu.into())]
    }

    fn window(&self, index: u32) -> Option<Window> {
        self.windows.get(ix(index.into())).copied()
    }

    fn process(&self, cursor: &mut u64) -> Option<Process> {
        next(&self.processes, cursor)
    }

    fn thread(&self, cursor: &mut u64) -> Option<Thread> {
        next(&self.threads, cursor)
    }

    fn thread_register(&self, thread: &Thread, place: usize) -> Option<u64> {
        self.saved.get(&(thread.id, place)).copied()
    }

    fn module(&self, cursor: &mut u64) -> Option<Module> {
        next(&self.modules, cursor)
    }

    fn pat_watchdog(&self) {
        self.pats.set(self.pats.get() + 1);
    }

    fn poll_abort(&self) -> bool {
        self.polls.set(self.polls.get() + 1);
        self.polls.get() >= self.abort_at.get()
    }

    fn progress(&self, progress: Progress) {
        self.progress.borrow_mut().push(progress);
    }
}

/// The item at a cursor, which is an index.
fn next<T: Copy>(list: &[T], cursor: &mut u64) -> Option<T> {
    *cursor += 1;
    list.get(ix(*cursor - 1)).copied()
}

const _: () = assert!(MAX_REGISTERS == 40);
