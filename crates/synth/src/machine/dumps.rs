//! The dump of a machine that was put together: which pages it has, and what is true of them.

use super::build::Build;
use super::layout::{AMD64_KERNBASE, HASHED_GROUPS, TSB_ENTRIES};
use super::truth::Page;
use super::{DumpFile, DumpKind, Machine, info};
use crate::bytes::index;
use crate::elf::{Delta, FullDump};
use crate::hashed;
use crate::minidump::Minidump;
use crate::sparc64::{self, RegionDump};
use crate::tables::{Mapping, Paging, Tree};
use std::collections::{BTreeMap, BTreeSet};

/// powerpc64: where the kernel proper starts in its image.
const POWERPC64_HEADERS_LEN: u64 = 0x100;

impl Build {
    /// Addresses in the kernel map of every page of RAM that has some.
    pub(crate) fn mapped(&self, ram: &[(u64, u64)]) -> BTreeMap<u64, Vec<u64>> {
        let mut mapped: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for mapping in &self.mappings {
            for (start, end) in ram {
                let first = mapping.pa.max(*start);
                let last = (mapping.pa + mapping.size).min(*end);
                for pa in (first..last).step_by(index(self.layout.page)) {
                    mapped
                        .entry(pa)
                        .or_default()
                        .push(mapping.va + (pa - mapping.pa));
                }
            }
        }
        mapped
            .values_mut()
            .for_each(|addresses| addresses.sort_unstable());
        mapped
    }

    /// Page-table pages that a minidump holds: those below the level that its section has.
    pub(crate) fn dumped_tables(&self, tree: &Tree) -> Vec<u64> {
        let of_section = tree.paging.section_level(self.options.version);
        let below = tree
            .tables
            .iter()
            .filter(|(_, table)| table.level < of_section);
        below.map(|(pa, _)| *pa).collect()
    }

    /// A minidump without any page, and the page tables.
    pub(crate) fn empty_minidump(&mut self) -> (Minidump, Tree) {
        let tree = self.tree();
        let (layout, version) = (self.layout, self.options.version);
        let mut dump = Minidump::new(self.options.arch, version);
        dump.page_size = layout.page;
        dump.flags = u32::from(layout.page == 16384);
        dump.paemode = u32::from(self.options.pae);
        dump.kernbase = layout.kernbase;
        if let Some(map) = layout.direct_map {
            (dump.dmapbase, dump.dmapend, dump.dmapphys) = (map.base, map.end, map.phys);
        }
        dump.msgbuf.clone_from(&self.msgbuf);
        dump.msgbuf_control = self.msgbuf_control;
        match layout.paging {
            Paging::Arm => dump.flags = 2,
            Paging::Radix | Paging::Hashed => {
                dump.mmu_name = match (layout.paging, version) {
                    (Paging::Radix, _) => "mmu_radix",
                    (_, 1) => "mmu_g5",
                    _ => "mmu_phyp",
                }
                .to_owned();
                dump.hw_direct_map = !self.options.one_to_one;
                dump.kernend = layout.kernbase + 0x7_ffff_ffff;
                dump.dmapend -= 1;
                let start = layout.image_va + POWERPC64_HEADERS_LEN;
                let end = layout.image_va + self.kernel.image().len() as u64;
                dump.kernel_range = (start, end);
            }
            _ => {}
        }
        dump.page_tables = match layout.paging {
            Paging::Hashed => {
                hashed::section(self.options.arch, HASHED_GROUPS, &self.hashed_mappings())
            }
            _ => self.as_stored(tree.section(version, layout.kernbase, layout.map_end)),
        };
        (dump, tree)
    }

    /// What the hashed table has entries for. Without large pages: the image in the direct map, but not
    /// every third page of the allocator, whose groups were full.
    fn hashed_mappings(&self) -> Vec<Mapping> {
        let layout = self.layout;
        let is_lost = |mapping: &&Mapping| {
            mapping.va == mapping.pa && (mapping.pa / layout.page).is_multiple_of(3)
        };
        let mappings = self.mappings.iter().filter(|mapping| !is_lost(mapping));
        let mut mappings: Vec<Mapping> = mappings.copied().collect();
        if self.options.one_to_one {
            let pages = (0..self.kernel.image().len() as u64).step_by(index(layout.page));
            mappings.extend(pages.map(|inside| {
                Mapping::code(
                    layout.image_va + inside,
                    layout.image_pa + inside,
                    layout.page,
                )
            }));
        }
        mappings
    }

    /// Page-table entries in the byte order that the machine has them in.
    fn as_stored(&self, mut entries: Vec<u8>) -> Vec<u8> {
        let paging = self.layout.paging;
        if paging.is_big_endian(self.options.arch.is_big_endian()) {
            let width = index(paging.entry_bytes());
            entries.chunks_mut(width).for_each(<[u8]>::reverse);
        }
        entries
    }

    pub(crate) fn finish(mut self) -> Machine {
        let dump = match self.options.kind {
            DumpKind::Mini => DumpFile::Mini(Box::new(self.minidump())),
            DumpKind::Full if self.layout.paging == Paging::Tsb => {
                DumpFile::Regions(self.region_dump())
            }
            DumpKind::Full => DumpFile::Full(self.full_dump()),
        };
        let header = info::header(self.options.arch, dump.build().len() as u64, &self.truth);
        let info = info::info_text(&header);
        Machine {
            dump,
            kernel: self.kernel,
            header,
            info,
            truth: self.truth,
        }
    }

    fn minidump(&mut self) -> Minidump {
        let (mut dump, tree) = self.empty_minidump();
        let ram = self.ram();
        let tables = self.dumped_tables(&tree);
        let mapped = self.mapped(&ram);
        let mut dumped: BTreeSet<u64> = mapped.keys().copied().collect();
        dumped.extend(self.marked.iter().chain(&tables));
        dumped.retain(|pa| !self.no_dump.contains(pa));
        for pa in &dumped {
            let table = tree.tables.get(pa);
            let table = table.map(|table| self.as_stored(table.bytes.clone()));
            let page = table.or_else(|| self.memory.pages.get(pa).cloned());
            dump.pages.insert(*pa, page.unwrap_or_default());
        }
        dump.dump_avail = ram;
        if let Some(low) = dump.dump_avail.first_mut() {
            // Ranges need not start and end at pages.
            *low = (low.0 + self.layout.page / 2, low.1 - self.layout.page / 2);
        }
        self.truth.table_pages = tables;
        self.tell_pages(dumped, &mapped);
        dump
    }

    fn full_dump(&mut self) -> FullDump {
        let tree = self.tree();
        let ram = self.ram();
        let mut pages = self.memory.pages.clone();
        pages.extend(
            tree.tables
                .iter()
                .map(|(pa, table)| (*pa, table.bytes.clone())),
        );
        let mut dump = FullDump::of_memory(self.options.arch, &ram, &pages);
        dump.is_virtual = self.layout.paging == Paging::Virtual;
        if self.options.has_delta {
            dump.delta = Some(Delta {
                p_vaddr: AMD64_KERNBASE,
                p_paddr: self.layout.image_pa,
                p_align: 2 << 20,
            });
        }
        self.truth.table_pages = tree.tables.into_keys().collect();
        self.tell_all_pages(&ram);
        dump
    }

    fn region_dump(&mut self) -> RegionDump {
        let ram = self.ram();
        let tsb_pa = self.layout.tables_pa;
        let buffer = sparc64::buffer(TSB_ENTRIES, &self.mappings);
        self.memory.write(tsb_pa, &buffer);
        self.tell_all_pages(&ram);
        RegionDump {
            tsb_pa,
            tsb_entries: TSB_ENTRIES,
            ..RegionDump::of_memory(&ram, &self.memory.pages)
        }
    }

    /// A full dump has every page of RAM.
    fn tell_all_pages(&mut self, ram: &[(u64, u64)]) {
        let page = index(self.layout.page);
        let all = ram
            .iter()
            .flat_map(|(start, end)| (*start..*end).step_by(page));
        let mut mapped = self.mapped(ram);
        if self.layout.paging == Paging::Virtual {
            // Each address is its own, what was mapped between two stacks too.
            mapped = all.clone().map(|va| (va, vec![va])).collect();
            self.truth.unmapped.clear();
        }
        self.truth
            .absent
            .retain(|(_, pa)| !ram.iter().any(|range| (range.0..range.1).contains(pa)));
        self.tell_pages(all.collect(), &mapped);
    }

    fn tell_pages(&mut self, dumped: BTreeSet<u64>, mapped: &BTreeMap<u64, Vec<u64>>) {
        let layout = self.layout;
        let page = |pa: u64| Page {
            pa,
            kernel_map: mapped.get(&pa).cloned().unwrap_or_default(),
            direct_map: layout.direct_va(pa),
        };
        self.truth.pages = dumped.into_iter().map(page).collect();
    }
}
