//! Items of the zone allocator, in each of the ways in which a kernel finds the slab of an address.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on shall stop"
)]

mod common;

use common::with_target;
use vmcore_debug::whatis::{self, Fact};
use vmcore_debug::zones::{Allocation, Item, State};
use vmcore_format::addr::VirtAddr;
use vmcore_testkit::TestKernel;

/// Memory of the allocator: outside of the kernel's image, so that nothing else names it.
const MEMORY: u64 = 0xffff_ffff_9000_0000;
const PAGE: u64 = 4096;
/// Two slabs of the zone `mbuf`, their headers in themselves.
const FIRST: u64 = MEMORY;
const SECOND: u64 = MEMORY + PAGE;
/// A slab of two pages that `malloc` uses, noted in the description of its pages.
const MALLOC: u64 = MEMORY + 2 * PAGE;
/// A slab of the zone `VNODE`, known from its keg's table.
const VNODE: u64 = MEMORY + 4 * PAGE;
/// Memory of `malloc` in pages of its own.
const LARGE: u64 = MEMORY + 5 * PAGE;
/// Headers that stand elsewhere.
const HEADERS: u64 = MEMORY + 6 * PAGE;
/// A page of nobody's.
const OTHER: u64 = MEMORY + 7 * PAGE;
/// Where `mbuf` has its headers.
const HEADER: u64 = 4032;
/// Bytes in front of the header in the structure around it.
const OUTER: u64 = 24;
/// The frame of the first page of a test dump.
const FIRST_FRAME: u64 = 0x100_0000;

struct Allocator {
    kernel: TestKernel,
    lists: u64,
}

impl Allocator {
    fn new(flags: &[&str]) -> Self {
        let mut kernel = TestKernel::compile("kernel.c", flags);
        for page in 0..8 {
            kernel.write(MEMORY + page * PAGE, &[0xa5; 4096]);
        }
        let lists = with_target(&kernel, |target| {
            target.types().offset_of("uma_keg", "uk_domain").unwrap()
        });
        let mut allocator = Self { kernel, lists };
        allocator.slabs();
        allocator.caches();
        allocator.descriptions();
        allocator
    }

    fn address(&self, symbol: &str) -> u64 {
        self.kernel.address(symbol)
    }

    fn slabs(&mut self) {
        let kegs = self.address("vnode_keg");
        let malloc_keg = self.address("malloc_keg");
        self.kernel.write_words(kegs, &[malloc_keg]);
        // mbuf: the list leads to the second slab, then to the first.
        let head = self.address("mbuf_keg") + self.lists;
        let (first, second) = (FIRST + HEADER, SECOND + HEADER);
        self.kernel.write_words(head, &[second]);
        self.kernel.write_words(second, &[first, head, 15, 0]);
        self.kernel.write_words(first, &[0, second, 15, 1 << 3]);
        // malloc-1024: all slabs are full but for item 5; the header is elsewhere.
        let head = malloc_keg + self.lists + 16;
        let slab = HEADERS + OUTER;
        self.kernel.write_words(head, &[slab]);
        self.kernel
            .write_words(HEADERS, &[0, 0, MALLOC, 0, head, 0, 1 << 5]);
        let kind = self.address("temp_type");
        self.kernel.write_words(MALLOC + 6 * 1024 - 8, &[kind]);
        // VNODE: in the second slot of the table, behind another slab.
        let outer = HEADERS + 0x100;
        let slot = self.address("vnode_slabs") + VNODE / PAGE % 4 * 8;
        self.kernel.write_words(slot, &[outer + 0x80]);
        self.kernel
            .write_words(outer + 0x80, &[outer, slot, OTHER + PAGE, 0, 0, 0, 0]);
        let head = kegs + self.lists + 16;
        self.kernel
            .write_words(outer, &[0, outer + 0x80, VNODE, 0, head, 0, 1]);
    }

    /// Item 5 of the first slab is in a CPU's cache, item 6 in the domain's.
    fn caches(&mut self) {
        let (cpu, full) = (self.address("cpu_bucket"), self.address("full_bucket"));
        self.kernel
            .write_words(cpu, &[0, 0, 0xdead, FIRST + 5 * 256, FIRST + 7 * 256]);
        self.kernel
            .write_words(full, &[0, 1 | 4 << 16, FIRST + 6 * 256]);
        let (zone, cache, len) = (self.address("mbuf_zone"), 48, 64);
        // The bucket of CPU 1 has two items, whatever it says itself; the third is a leftover.
        self.kernel
            .write_words(zone + cache + len + 16, &[cpu, 2 | 4 << 16]);
        self.kernel.write_words(zone + cache + 2 * len, &[full]);
    }

    /// Descriptions of the pages that have a note.
    fn descriptions(&mut self) {
        let array = self.address("page_array");
        let segments = self.address("vm_phys_segs");
        let end = FIRST_FRAME + 256 * PAGE;
        self.kernel
            .write_words(segments, &[0, PAGE, 0, 0, FIRST_FRAME, end, array, 0]);
        let count = self.address("vm_phys_nsegs");
        self.kernel.write(count, &2_u32.to_le_bytes());
        let zone = self.address("malloc_zone");
        self.describe(MALLOC, HEADERS + OUTER, zone);
        self.describe(MALLOC + PAGE, HEADERS + OUTER, zone);
        self.describe(LARGE, 0x3000 << 1 | 1, 0);
        // A queue of pages, which is no note.
        self.describe(OTHER, array + 24, array);
    }

    fn describe(&mut self, page: u64, slab: u64, zone: u64) {
        // Pages have their frames in the order of their addresses.
        let index = self.kernel.pages.range(..page).count() as u64;
        let at = self.address("page_array") + index * 24;
        self.kernel.write_words(at, &[slab, zone]);
    }

    fn facts(&self, addresses: &[u64]) -> Vec<Vec<Fact>> {
        with_target(&self.kernel, |target| {
            let list = target.processes().unwrap();
            let at = |address: &u64| whatis::at(target, &list, VirtAddr(*address));
            addresses.iter().map(at).collect()
        })
    }

    /// What is found at these addresses, beside that they are mapped.
    fn found(&self, addresses: &[u64]) -> Vec<Option<Allocation>> {
        let memory = |facts: Vec<Fact>| match &facts[..] {
            [Fact::Memory(found), Fact::Mapped { .. }] => Some(found.clone()),
            [Fact::Mapped { .. }] => None,
            _ => panic!("{facts:?}"),
        };
        self.facts(addresses).into_iter().map(memory).collect()
    }
}

fn slab(zone: &str, slab: u64, item: Option<Item>) -> Option<Allocation> {
    Some(Allocation::Slab {
        zones: vec![zone.to_owned()],
        slab: VirtAddr(slab),
        item,
    })
}

const fn item(address: u64, offset: u64, bytes: u64, state: State) -> Option<Item> {
    Some(Item {
        address: VirtAddr(address),
        offset,
        bytes,
        state,
        freed_as: None,
    })
}

#[test]
fn an_item_is_found_by_the_header_in_its_page() {
    for flags in [&["-gdwarf-4"][..], &["-gdwarf-5"]] {
        let allocator = Allocator::new(flags);
        let state = |number: u64, state| {
            let start = FIRST + number * 256;
            slab("mbuf", FIRST + HEADER, item(start, 0x10, 256, state))
        };
        let addresses: Vec<u64> = (2..8).map(|number| FIRST + number * 256 + 0x10).collect();
        let expected = [
            state(2, State::InUse),
            state(3, State::Free),
            state(4, State::InUse),
            state(5, State::Cached),
            state(6, State::Cached),
            // Behind the items of the bucket: a leftover.
            state(7, State::InUse),
        ];
        assert_eq!(allocator.found(&addresses), expected);
        // The last slab of the list, and what is behind the items.
        let found = allocator.found(&[SECOND, SECOND + 15 * 256, SECOND + HEADER]);
        let header = SECOND + HEADER;
        assert_eq!(
            found[0],
            slab("mbuf", header, item(SECOND, 0, 256, State::InUse))
        );
        assert_eq!(found[1], slab("mbuf", header, None));
        assert_eq!(found[2], slab("mbuf", header, None));
    }
}

#[test]
fn an_item_is_found_by_what_is_noted_of_its_page() {
    let allocator = Allocator::new(&["-gdwarf-5"]);
    let header = HEADERS + OUTER;
    let found = allocator.found(&[MALLOC + PAGE + 5, MALLOC + 5 * 1024, LARGE + 7, OTHER]);
    let second_page = item(MALLOC + PAGE, 5, 1024, State::InUse);
    assert_eq!(found[0], slab("malloc-1024", header, second_page));
    // What was freed names what it was freed as.
    let mut freed = item(MALLOC + 5 * 1024, 0, 1024, State::Free).unwrap();
    freed.freed_as = Some("temp".to_owned());
    assert_eq!(found[1], slab("malloc-1024", header, Some(freed)));
    assert_eq!(found[2], Some(Allocation::Large { bytes: 0x3000 }));
    assert_eq!(found[3], None);
    let text: Vec<String> = found.iter().flatten().map(Allocation::to_string).collect();
    assert_eq!(
        text[1],
        "zone malloc-1024, item 0xffffffff90003400+0x0 of 1024 bytes, free, freed as malloc type \
         temp, slab 0xffffffff90006018"
    );
    assert_eq!(text[2], "malloc'd, 12288 bytes in its own pages");
    let json = serde_json::to_value(&allocator.facts(&[MALLOC + 5 * 1024])[0][0]).unwrap();
    assert_eq!(
        (&json["what"], &json["kind"]),
        (&"memory".into(), &"slab".into())
    );
    assert_eq!(json["item"]["state"], "free");
}

#[test]
fn an_item_is_found_in_its_keg_s_table() {
    let allocator = Allocator::new(&["-gdwarf-5"]);
    let header = HEADERS + 0x100 + OUTER;
    let found = allocator.found(&[VNODE, VNODE + 448 + 3]);
    assert_eq!(
        found[0],
        slab("VNODE", header, item(VNODE, 0, 448, State::Free))
    );
    let second = item(VNODE + 448, 3, 448, State::InUse);
    assert_eq!(found[1], slab("VNODE", header, second));
}

#[test]
fn lists_and_tables_that_run_in_circles_end() {
    let mut allocator = Allocator::new(&["-gdwarf-5"]);
    // The slabs of mbuf lead to each other, and to no keg.
    let (first, second) = (FIRST + HEADER, SECOND + HEADER);
    allocator.kernel.write_words(first, &[second, second]);
    allocator.kernel.write_words(second, &[first, first]);
    // So do those in the table; a bucket has more items than there is memory, another itself.
    let outer = HEADERS + 0x100;
    allocator
        .kernel
        .write_words(outer, &[outer + 0x80, 0, OTHER]);
    let full = allocator.address("full_bucket");
    allocator.kernel.write_words(full, &[full, 0x7fff]);
    let found = allocator.found(&[FIRST, VNODE, MALLOC + 9]);
    assert_eq!(found[..2], [None, None]);
    let expected = item(MALLOC, 9, 1024, State::InUse);
    assert_eq!(found[2], slab("malloc-1024", HEADERS + OUTER, expected));
}

#[test]
fn without_types_it_says_that_they_are_missing() {
    let allocator = Allocator::new(&["-gdwarf-5"]);
    let status = std::process::Command::new("objcopy")
        .arg("--strip-debug")
        .arg(&allocator.kernel.file)
        .status();
    assert!(status.unwrap().success());
    let facts = &allocator.facts(&[FIRST, 0xffff_ffff_c000_0000]);
    assert!(
        matches!(&facts[0][0], Fact::Untold { reason } if reason.contains("no types")),
        "{facts:?}"
    );
    assert!(matches!(&facts[1][..], [Fact::Missing { .. }]));
}
