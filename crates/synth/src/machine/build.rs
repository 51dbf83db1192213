//! Putting a machine together: memory first, then the dump of it.

use super::era::Era;
use super::layout::{
    AMD64_KERNBASE, GIGA_PAGES, LOW_PAGES, Layout, TABLE_PAGES, TSB_ENTRIES, small,
};
use super::memory::{Arena, Location, Memory};
use super::truth::{CRASH_TIME, PANIC, Truth, UPTIME};
use super::{Options, Shape, image, info, log, processes, threads};
use crate::Arch;
use crate::bytes::{index, low32};
use crate::elf::Kernel;
use crate::msgbuf::{self, Msgbuf};
use crate::sparc64;
use crate::tables::{Frames, Mapping, Paging, Tree};
use std::collections::BTreeSet;

/// Order in which the pages of eight are taken from the pool: physical order is not virtual order.
const SCATTER: [u64; 8] = [3, 0, 6, 1, 7, 4, 2, 5];
/// Free pages of the pool: RAM that no dump needs.
const FREE_PAGES: u64 = 2;

/// A machine while it is put together.
#[derive(Clone, Debug)]
pub(crate) struct Build {
    pub(crate) options: Options,
    pub(crate) layout: Layout,
    pub(super) era: Era,
    pub(crate) kernel: Kernel,
    pub(crate) memory: Memory,
    pub(crate) mappings: Vec<Mapping>,
    /// Pages that are dumped although the kernel map does not have them.
    pub(crate) marked: BTreeSet<u64>,
    /// Pages that must not be dumped.
    pub(crate) no_dump: BTreeSet<u64>,
    pub(super) heap: Arena,
    pub(super) stoppcbs: Location,
    /// Stacks that were made.
    pub(super) stacks: u64,
    /// Pages that were taken from the pool.
    frames: u64,
    /// Where page tables may be.
    pub(crate) table_frames: (u64, u64),
    pub(super) msgbuf: Vec<u8>,
    pub(super) msgbuf_control: Option<Msgbuf>,
    pub(crate) truth: Truth,
}

impl Build {
    pub(crate) fn new(options: &Options) -> Self {
        let (layout, era) = (Layout::of(options), Era::of(options));
        let version = info::version_string(options.arch, era.release);
        let kernel = image::kernel(options, &layout, &era, &version);
        let heap_va = match options.one_to_one {
            true => layout.heap_pa,
            false => layout
                .direct_va(layout.heap_pa)
                .unwrap_or(layout.small(small::HEAP)),
        };
        let mut build = Self {
            options: options.clone(),
            layout,
            era,
            memory: Memory::new(layout.page),
            mappings: Vec::new(),
            marked: BTreeSet::new(),
            no_dump: BTreeSet::new(),
            heap: Arena::new(Location {
                va: heap_va,
                pa: layout.heap_pa,
            }),
            stoppcbs: Location { va: 0, pa: 0 },
            stacks: 0,
            frames: 0,
            table_frames: (
                layout.tables_pa,
                layout.tables_pa + TABLE_PAGES * layout.page,
            ),
            msgbuf: Vec::new(),
            msgbuf_control: None,
            truth: Truth {
                version,
                build_id: kernel.build_id.clone().unwrap_or_default(),
                direct_map: layout.direct_map,
                segment: layout.image_segment,
                ..Truth::default()
            },
            kernel,
        };
        build.load_image();
        build.place_stoppcbs();
        processes::make(&mut build);
        if build.layout.paging != Paging::Virtual {
            build.map_odd_pages();
            build.map_large_pages();
        }
        build.set_variables();
        build.write_log();
        build.place_heap();
        build
    }

    pub(super) const fn word(&self) -> u64 {
        self.options.arch.word_bytes()
    }

    /// A number as a word of the machine.
    pub(super) fn word_of(&self, value: u64) -> Vec<u8> {
        self.options.arch.word(value)
    }

    /// The place of a variable.
    pub(super) fn symbol(&self, name: &str) -> Location {
        let va = self.kernel.running_address_of(name);
        assert!(va.is_some(), "the synthetic kernel has no {name}");
        let va = va.unwrap_or(0);
        Location {
            va,
            pa: va - self.layout.image_va + self.layout.image_pa,
        }
    }

    /// Sets a variable, and remembers its value.
    pub(super) fn set(&mut self, name: &str, value: &[u8]) {
        let place = self.symbol(name);
        self.memory.write(place.pa, value);
        self.truth.values.push((place.va, value.to_vec()));
    }

    pub(super) fn set_word(&mut self, name: &str, value: u64) {
        self.set(name, &self.word_of(value));
    }

    /// A page for the small page at `va`.
    pub(super) fn frame_for(&mut self, va: u64) -> u64 {
        match self.layout.paging {
            Paging::Virtual => va,
            _ => self.frame(),
        }
    }

    /// A page of the pool.
    fn frame(&mut self) -> u64 {
        let number = self.frames;
        self.frames += 1;
        let place = number / 8 * 8 + SCATTER[index(number % 8)];
        let pa = self.layout.pool_pa + place * self.layout.page;
        self.memory.write(pa, &[0]);
        pa
    }

    pub(super) fn map_small(&mut self, va: u64, pa: u64) {
        self.mappings.push(Mapping::page(va, pa, self.layout.page));
    }

    /// Maps an area by one large page, or as far as it goes by small ones.
    fn map_area(&mut self, va: u64, pa: u64, len: u64, execute: bool) {
        let layout = self.layout;
        let size = if layout.paging.has_page(layout.large) {
            layout.large
        } else {
            layout.page
        };
        for inside in (0..len).step_by(index(size)) {
            self.mappings.push(Mapping {
                va: va + inside,
                pa: pa + inside,
                size,
                write: true,
                execute,
            });
        }
    }

    /// Fills a page with text that says which one it is.
    fn fill(&mut self, pa: u64) {
        let text = format!("This is the page at {pa:#x}. ");
        let page = index(self.layout.page);
        self.memory
            .write(pa, &text.bytes().cycle().take(page).collect::<Vec<u8>>());
    }

    fn load_image(&mut self) {
        let image = self.kernel.image();
        let layout = self.layout;
        assert!(
            image.len() as u64 <= layout.pool_pa - layout.image_pa,
            "the image needs more than one large page"
        );
        self.memory.write(layout.image_pa, &image);
        let len = image.len() as u64;
        if layout.image_is_mapped {
            self.map_area(layout.image_va, layout.image_pa, len, true);
        } else {
            let pages = (0..len).step_by(index(layout.page));
            self.marked
                .extend(pages.map(|inside| layout.image_pa + inside));
        }
        if layout.paging != Paging::Virtual {
            self.truth
                .values
                .push((layout.image_va, image[..64].to_vec()));
        }
        for (name, len) in [
            ("hz", 4),
            ("osreldate", 4),
            ("proc_off_p_comm", 4),
            ("ostype", 8),
        ] {
            let place = self.symbol(name);
            let at = index(place.pa - layout.image_pa);
            self.truth
                .values
                .push((place.va, image[at..at + len].to_vec()));
        }
    }

    fn place_stoppcbs(&mut self) {
        self.stoppcbs = self.symbol("stoppcbs");
        if self.era.stoppcbs_is_pointer {
            let len = u64::from(self.options.cpus) * self.era.offsets.pcb_size;
            self.stoppcbs = self.heap.take(len, 64);
            self.set_word("stoppcbs", self.stoppcbs.va);
        }
    }

    /// Small pages with something about them.
    fn map_odd_pages(&mut self) {
        let layout = self.layout;
        let device = (layout.small(small::DEVICE), layout.device_pa);
        self.map_small(device.0, device.1);
        let no_dump = (layout.small(small::NO_DUMP), self.frame());
        self.map_small(no_dump.0, no_dump.1);
        self.fill(no_dump.1);
        self.no_dump.insert(no_dump.1);
        self.truth.absent.extend([device, no_dump]);
        let shared = self.frame();
        let second = self.frame();
        let first = self.frame();
        let last = self.frame();
        let mapped = [
            (small::SHARED, shared),
            (small::SHARED_AGAIN, shared),
            (small::NEIGHBOURS, first),
            (small::NEIGHBOURS + 1, second),
            (small::LAST, last),
        ];
        for (number, pa) in mapped {
            self.map_small(layout.small(number), pa);
            self.fill(pa);
            let text = format!("This is the page at {pa:#x}. ");
            self.truth
                .values
                .push((layout.small(number), text.into_bytes()));
        }
        self.truth
            .unmapped
            .push(layout.small(small::NEIGHBOURS + 2));
    }

    /// A large page of which only parts are RAM, and one of 1 GiB.
    fn map_large_pages(&mut self) {
        let layout = self.layout;
        let large_len = (6 * layout.page).min(layout.large);
        self.map_area(layout.large_va, layout.large_pa, large_len, false);
        let mut filled: Vec<u64> = [0, 1, 5]
            .iter()
            .map(|n| layout.large_pa + n * layout.page)
            .collect();
        let hole = 2 * layout.page;
        self.truth
            .absent
            .push((layout.large_va + hole, layout.large_pa + hole));
        if let Some((va, pa)) = layout.giga {
            self.mappings.push(Mapping::page(va, pa, 1 << 30));
            filled.extend((0..GIGA_PAGES).map(|number| pa + number * layout.page));
            let hole = GIGA_PAGES * layout.page;
            self.truth.absent.push((va + hole, pa + hole));
        }
        // Two pages of the low end that only the direct map has.
        let has_more = layout.direct_map.is_some() && !self.options.one_to_one;
        filled.extend([0, 3].map(|number| layout.low_pa + number * layout.page));
        for pa in filled {
            self.fill(pa);
        }
        if has_more {
            self.marked
                .extend([0, 3].map(|number| layout.low_pa + number * layout.page));
        }
    }

    fn set_variables(&mut self) {
        let buffer = self.symbol("vpanic.buf");
        self.set("vpanic.buf", &[PANIC.as_bytes(), b"\0"].concat());
        self.set_word("panicstr", buffer.va);
        // Times are as wide as words.
        self.set_word("time_second", u64::from(CRASH_TIME));
        self.set_word("time_uptime", u64::from(UPTIME));
        if self.options.arch == Arch::Amd64 {
            self.set("la57", &u32::from(self.options.la57).to_le_bytes());
            self.set("kernphys", &self.layout.image_pa.to_le_bytes());
        }
    }

    /// The message buffer: a ring, and its structure at the end of the same memory.
    fn write_log(&mut self) {
        let trace = threads::panic_trace(self.options.arch, &self.kernel);
        let once = log::text(
            &self.truth.version,
            &self.options,
            processes::CRASHED_CPU,
            &trace,
        );
        let text = once.repeat(self.options.log_repeats);
        let whole = match self.options.shape {
            Shape::Compact => 8192,
            Shape::Real => 98304,
        };
        let size = whole - Msgbuf::len_bytes(self.options.arch);
        let place = match self.layout.msgbuf_pa {
            Some(pa) => Location { va: pa, pa },
            None => self.heap.take(whole, self.layout.page),
        };
        let (ring, control) = msgbuf::written(low32(size), &text, place.va);
        self.memory.write(place.pa, &ring);
        self.memory
            .write(place.pa + size, &control.bytes(self.options.arch));
        self.set_word("msgbufp", place.va + size);
        self.truth.log = text[text.len().saturating_sub(ring.len())..].to_vec();
        self.msgbuf = ring;
        self.msgbuf_control = Some(control);
    }

    /// The allocator's memory: reached through the direct map, or mapped if there is none.
    fn place_heap(&mut self) {
        let layout = self.layout;
        let end = self.heap.end().next_multiple_of(layout.page);
        for (number, pa) in (0..).zip((layout.heap_pa..end).step_by(index(layout.page))) {
            if self.options.one_to_one {
                self.marked.insert(pa);
                self.map_small(pa, pa);
            } else if layout.direct_map.is_some() {
                self.marked.insert(pa);
            } else {
                self.map_small(layout.small(small::HEAP + number), pa);
            }
        }
    }

    /// RAM in whole pages, ascending.
    pub(crate) fn ram(&self) -> Vec<(u64, u64)> {
        let (layout, page) = (self.layout, self.layout.page);
        let up = |pa: u64| pa.next_multiple_of(page);
        let image_end = layout.image_pa + self.kernel.image().len() as u64;
        if layout.paging == Paging::Virtual {
            return self.virtual_segments();
        }
        let pool_end = layout.pool_pa + (self.frames.next_multiple_of(8) + FREE_PAGES) * page;
        let mut ram = vec![
            (layout.low_pa, layout.low_pa + LOW_PAGES * page),
            (layout.image_pa, up(image_end)),
            (layout.pool_pa, pool_end),
            (
                layout.tables_pa,
                layout.tables_pa + self.table_pages() * page,
            ),
            (layout.heap_pa, up(self.heap.end())),
            (layout.large_pa, layout.large_pa + 2 * page),
            (layout.large_pa + 5 * page, layout.large_pa + 6 * page),
        ];
        ram.extend(layout.giga.map(|(_, pa)| (pa, pa + GIGA_PAGES * page)));
        ram.retain(|(start, end)| start < end);
        ram.sort_unstable();
        ram
    }

    /// What a core of virtual memory holds: the kernel's variables and constants, the message buffer,
    /// and its own address space.
    fn virtual_segments(&self) -> Vec<(u64, u64)> {
        let (layout, page) = (self.layout, self.layout.page);
        let up = |va: u64| va.next_multiple_of(page);
        let data = self.symbol("proc_off_p_pid").pa / page * page;
        let image_end = layout.image_pa + self.kernel.image().len() as u64;
        let msgbuf = layout.msgbuf_pa.unwrap_or(0);
        let control = Msgbuf::len_bytes(self.options.arch);
        vec![
            (data, up(image_end)),
            (msgbuf, up(msgbuf + self.msgbuf.len() as u64 + control)),
            (layout.small_va, up(self.heap.end())),
        ]
    }

    /// Pages of page tables that are needed.
    fn table_pages(&self) -> u64 {
        match self.layout.paging {
            Paging::Tsb => TSB_ENTRIES * sparc64::ENTRY_LEN / self.layout.page,
            // The pages of tables are not in the dump, and are not looked at.
            Paging::Mips32 | Paging::Mips64 => 0,
            _ => self.bare_tree().tables.len() as u64,
        }
    }

    fn bare_tree(&self) -> Tree {
        let layout = self.layout;
        let frames = Frames::new(&[self.table_frames], layout.page);
        let mut tree = Tree::new(layout.paging, frames);
        if layout.paging.levels() > 0 {
            self.mappings.iter().for_each(|mapping| tree.map(mapping));
        }
        if self.options.arch == Arch::Amd64 {
            tree.add_recursive_slot();
            if let Some(map) = layout.direct_map {
                for number in 0..2 {
                    tree.map(&Mapping::page(
                        map.base + (number << 30),
                        number << 30,
                        1 << 30,
                    ));
                }
            }
        }
        tree
    }

    /// The page tables, and the variables that name their root.
    pub(super) fn tree(&mut self) -> Tree {
        let tree = self.bare_tree();
        match self.options.arch {
            Arch::Amd64 => {
                let top = tree.table_of(AMD64_KERNBASE, 3).unwrap_or(0);
                let five = if self.options.la57 { tree.root } else { 0 };
                self.set("KPML4phys", &top.to_le_bytes());
                self.set("KPML5phys", &five.to_le_bytes());
            }
            Arch::I386 => {
                let root = low32(tree.root).to_le_bytes();
                let (pae, is_old) = (self.options.pae, self.options.version == 1);
                match (pae, is_old) {
                    (true, _) => self.set("IdlePDPT", &root),
                    (false, true) => self.set("IdlePTD", &root),
                    (false, false) => self.set("IdlePTD_nopae", &root),
                }
                if !is_old {
                    self.set("pae_mode", &u32::from(pae).to_le_bytes());
                }
            }
            _ => {}
        }
        tree
    }
}
