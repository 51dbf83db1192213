//! Full dumps of amd64 and i386, and hypervisors' files, which have physical addresses alone.

use super::page_text;
use crate::common::{locate, session};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use vmcore::dump::{DumpFormat, KernelDelta};
use vmcore::format::addr::{Pfn, PhysAddr, VirtAddr};
use vmcore::memory::PageReadError;
use vmcore::pages::{self, Mapping as Found};
use vmcore::translation::{RootError, TranslationError};
use vmcore::{Session, SessionError};
use vmcore_synth::Arch;
use vmcore_synth::elf::{Delta, FullDump, Kernel, SectionKind, Segment};
use vmcore_synth::tables::{Frames, Mapping, Paging, Tree};

const KERNBASE: u64 = 0xffff_ffff_8000_0000;
const IMAGE: u64 = KERNBASE + 0x20_0000;
const MAP: u64 = 0xffff_fe00_0000_0000;
/// RAM: the hole of every PC, and 8 MiB.
const RAM: [(u64, u64); 2] = [(0, 0x9_f000), (0x10_0000, 0x80_0000)];

/// A kernel whose image is a page of headers and a page of variables, and the page tables that it
/// ran on.
struct Amd64 {
    kernel: Kernel,
    tree: Tree,
    /// Physical address of the image.
    image: u64,
}

impl Amd64 {
    fn new(image: u64) -> Self {
        let mut kernel = Kernel::new(Arch::Amd64, IMAGE);
        kernel.add_section(".data", SectionKind::Data, IMAGE + 0x1000, &[0; 64]);
        kernel.add_object("kernbase", KERNBASE, 0);
        kernel.add_object("KPML4phys", IMAGE + 0x1010, 8);
        let mut tree = Tree::new(Paging::Amd64, Frames::new(&[(0x10_0000, 0x12_0000)], 4096));
        tree.add_recursive_slot();
        tree.map(&Mapping::code(IMAGE, image, 2 << 20));
        Self {
            kernel,
            tree,
            image,
        }
    }

    /// Memory with everything in its place.
    fn pages(&self) -> BTreeMap<u64, Vec<u8>> {
        let mut image = self.kernel.image();
        image[0x1010..0x1018].copy_from_slice(&self.tree.root.to_le_bytes());
        let image = image.chunks(4096).map(<[u8]>::to_vec);
        let mut pages: BTreeMap<u64, Vec<u8>> = (self.image..).step_by(4096).zip(image).collect();
        pages.extend(
            self.tree
                .tables
                .iter()
                .map(|(pa, table)| (*pa, table.bytes.clone())),
        );
        pages
    }

    fn session(&self, dump: &FullDump) -> Session {
        session(&dump.build(), Some(&self.kernel.build()))
    }
}

fn text(session: &Session, va: u64, len: usize) -> Result<Vec<u8>, TranslationError> {
    let mut bytes = vec![0; len];
    let space = session.space().unwrap();
    space.read_exact(VirtAddr(va), &mut bytes).map(|()| bytes)
}

#[test]
fn amd64_is_walked_through_pages_of_every_size() {
    let mut machine = Amd64::new(0x20_0000);
    machine.tree.map(&Mapping::page(MAP + 0x5000, 0x3000, 4096));
    machine
        .tree
        .map(&Mapping::page(MAP + (2 << 21), 0x60_0000, 2 << 20));
    machine
        .tree
        .map(&Mapping::page(MAP + (3 << 30), 0, 1 << 30));
    let mut pages = machine.pages();
    for pa in [0x3000, 0x60_0000, 0x7f_f000] {
        pages.insert(pa, page_text(pa));
    }
    let dump = FullDump::of_memory(Arch::Amd64, &RAM, &pages);
    let session = machine.session(&dump);
    for (va, pa, size_shift) in [
        (MAP + 0x5000, 0x3000, 12),
        (MAP + (2 << 21), 0x60_0000, 21),
        (MAP + (2 << 21) + 0x1f_f000, 0x7f_f000, 21),
        (MAP + (3 << 30) + 0x3000, 0x3000, 30),
        (MAP + (3 << 30) + 0x7f_f000, 0x7f_f000, 30),
    ] {
        let (found, offset) = session.space().unwrap().locate(VirtAddr(va)).unwrap();
        assert_eq!(
            (found.leaf.pa.0, found.leaf.size_shift),
            (pa, size_shift),
            "{va:#x}"
        );
        assert_eq!(Some(offset.0), dump.offset_of(pa), "{va:#x}");
        assert_eq!(text(&session, va, 4096), Ok(page_text(pa)), "{va:#x}");
    }
    // The image of the kernel itself.
    let header = text(&session, IMAGE, 4).unwrap();
    assert_eq!(header, b"\x7fELF");
    let error = text(&session, MAP, 1).unwrap_err();
    assert!(
        matches!(error, TranslationError::NotMapped { entry: "PTE", .. }),
        "{error}"
    );
    let va = VirtAddr(0x0000_fe00_0000_5000);
    assert_eq!(
        text(&session, va.0, 1),
        Err(TranslationError::Outside { va })
    );
}

#[test]
fn memory_between_two_segments_is_not_ram() {
    let mut machine = Amd64::new(0x20_0000);
    machine.tree.map(&Mapping::page(MAP, 0, 1 << 30));
    let dump = FullDump::of_memory(Arch::Amd64, &RAM, &machine.pages());
    let session = machine.session(&dump);
    for pa in [0x9_f000, 0xf_ffff, 0x80_0000, 1 << 45] {
        let reason = PageReadError::NotRam { pa: PhysAddr(pa) };
        assert_eq!(locate(session.dump(), pa), Err(reason));
    }
    let (va, pa) = (VirtAddr(MAP + 0x9_f000), PhysAddr(0x9_f000));
    let error = TranslationError::PageAbsent {
        va,
        pa,
        reason: PageReadError::NotRam { pa },
    };
    assert_eq!(text(&session, va.0, 1), Err(error));
    // A read that runs into the gap brings what is in front of it.
    let part = session
        .space()
        .unwrap()
        .read(VirtAddr(MAP + 0x9_eff0), &mut [0; 64]);
    assert_eq!((part.len, part.error), (16, Some(error)));
    let read = session
        .dump()
        .memory()
        .read(PhysAddr(0x9_eff0), &mut [0; 64]);
    assert_eq!(
        (read.len, read.error),
        (16, Some(PageReadError::NotRam { pa }))
    );
}

/// A segment ends inside the page at 0x3000; the next one follows in the file, not in memory.
fn cut_inside_a_page(pages: &mut BTreeMap<u64, Vec<u8>>) -> FullDump {
    pages.insert(0x10_0000 - 0x1000, vec![0; 4096]);
    let mut dump = FullDump::of_memory(Arch::Amd64, &[(0, 0x4000), (0x10_0000, 0x80_0000)], pages);
    dump.segments[0].content.truncate(0x3808);
    dump
}

#[test]
fn a_page_that_a_segment_ends_in_has_no_bytes_of_the_next_one() {
    let mut machine = Amd64::new(0x20_0000);
    machine.tree.map(&Mapping::page(MAP, 0x3000, 4096));
    let mut pages = machine.pages();
    pages.insert(0x3000, page_text(0x3000));
    let dump = cut_inside_a_page(&mut pages);
    let session = machine.session(&dump);
    let reason = PageReadError::NotRam {
        pa: PhysAddr(0x3808),
    };
    let error = TranslationError::PageAbsent {
        va: VirtAddr(MAP + 0x808),
        pa: PhysAddr(0x3808),
        reason,
    };
    let mut buf = vec![0; 4096];
    let part = session.space().unwrap().read(VirtAddr(MAP), &mut buf);
    assert_eq!((part.len, part.error), (0x808, Some(error)));
    assert_eq!(buf[..0x808], page_text(0x3000)[..0x808]);
    assert_eq!(text(&session, MAP + 0x800, 16), Err(error));
    let memory = session.dump().memory();
    let read = memory.read(PhysAddr(0x3000), &mut buf);
    assert_eq!((read.len, read.error), (0x808, Some(reason)));
    assert_eq!(memory.page(Pfn(3)).map(|page| page.len()), Err(reason));
    assert_eq!(memory.page(Pfn(2)).map(|page| page.len()), Ok(4096));
}

#[test]
fn a_page_of_two_segments_is_put_together() {
    let mut machine = Amd64::new(0x20_0000);
    machine.tree.map(&Mapping::page(MAP, 0x3000, 4096));
    let mut pages = machine.pages();
    pages.insert(0x3000, page_text(0x3000));
    let mut dump = FullDump::of_memory(
        Arch::Amd64,
        &[(0, 0x4000), (0x10_0000, 0x80_0000), (0x3000, 0x4000)],
        &pages,
    );
    // The page's tail is in the third segment, behind all others in the file.
    dump.segments[0].content.truncate(0x3800);
    dump.segments[2].content.drain(..0x800);
    (dump.segments[2].p_paddr, dump.segments[2].p_vaddr) = (0x3800, 0x3800);
    let session = machine.session(&dump);
    assert!(text(&session, MAP, 4096) == Ok(page_text(0x3000)));
    assert_eq!(
        text(&session, MAP + 0x7fc, 8),
        Ok(page_text(0x3000)[0x7fc..0x804].to_vec())
    );
    let page = session.dump().memory().page(Pfn(3)).unwrap();
    assert!(*page == page_text(0x3000));
}

/// The bytes behind a cut page table belong to another page: they are no entries.
#[test]
fn a_page_table_that_a_segment_ends_in_has_no_entries_of_the_next_one() {
    let mut machine = Amd64::new(0x20_0000);
    // The table of MAP is at 0x3000; 0x4000 is what the second segment of the file starts with.
    machine.tree.set_entry(MAP, 1, 0x3003);
    let mut pages = machine.pages();
    pages.insert(0x3000, 0x20_0003_u64.to_le_bytes().repeat(512));
    let dump = cut_inside_a_page(&mut pages);
    let session = machine.session(&dump);
    let space = session.space().unwrap();
    let error = text(&session, MAP + 257 * 4096, 1).unwrap_err();
    assert!(
        matches!(error, TranslationError::TableAbsent { entry: "PTE", .. }),
        "{error}"
    );
    let mut found = Vec::new();
    let summary = pages::visit_mappings(space, &mut |mapping: Found| {
        found.push(mapping.va.0);
        ControlFlow::Continue(())
    })
    .unwrap();
    let small: Vec<u64> = (0..257).map(|number| MAP + number * 4096).collect();
    assert_eq!(found, [small, vec![IMAGE]].concat());
    assert_eq!(summary.unreadable_tables, 1);
}

#[test]
fn the_header_says_where_a_moved_kernel_is() {
    let moved = 6 << 20;
    let machine = Amd64::new(0x20_0000 + moved);
    let ram = [(0, 0x9_f000), (0x10_0000, 0x100_0000)];
    let mut dump = FullDump::of_memory(Arch::Amd64, &ram, &machine.pages());
    dump.delta = Some(Delta {
        p_vaddr: KERNBASE,
        p_paddr: 0x20_0000 + moved,
        p_align: 2 << 20,
    });
    let session = machine.session(&dump);
    let DumpFormat::Full(header) = session.dump().kind() else {
        panic!("a full dump")
    };
    let delta = KernelDelta {
        vaddr: VirtAddr(KERNBASE),
        paddr: PhysAddr(0x20_0000 + moved),
        hole: 2 << 20,
    };
    assert_eq!(header.delta, Some(delta));
    assert_eq!(text(&session, IMAGE, 4), Ok(b"\x7fELF".to_vec()));

    // Without the header the steps of 2 MiB are tried.
    dump.delta = None;
    let session = machine.session(&dump);
    assert_eq!(text(&session, IMAGE, 4), Ok(b"\x7fELF".to_vec()));

    // A header that leads elsewhere is believed, and found to be wrong.
    dump.delta = Some(Delta {
        p_vaddr: KERNBASE,
        p_paddr: 0x20_0000,
        p_align: 2 << 20,
    });
    let error = machine.session(&dump).space().unwrap_err();
    assert!(
        matches!(
            error,
            SessionError::Root(RootError::Implausible {
                symbol: "KPML4phys",
                ..
            })
        ),
        "{error}"
    );
}

/// An i386 machine: its kernel, its RAM, the address of the variable that names the root.
fn i386(paging: Paging, kernbase: u64, root: &str, pae_mode: Option<u32>) -> (FullDump, Kernel) {
    let image_va = if kernbase < 0x8000_0000 {
        0x100_0000
    } else {
        kernbase + 0x40_0000
    };
    let image_pa = image_va - if kernbase < 0x8000_0000 { 0 } else { kernbase };
    let mut kernel = Kernel::new(Arch::I386, image_va);
    kernel.add_section(".data", SectionKind::Data, image_va + 0x1000, &[0; 64]);
    kernel.add_object("kernbase", kernbase, 0);
    kernel.add_object(root, image_va + 0x1000, 4);
    // One kernel of 13.0 and later has the root of the other mode too, with 0 in it.
    if pae_mode.is_some() {
        kernel.add_object("pae_mode", image_va + 0x1004, 4);
        let other = if root == "IdlePDPT" {
            "IdlePTD_nopae"
        } else {
            "IdlePDPT"
        };
        kernel.add_object(other, image_va + 0x1008, 4);
    }
    let mut tree = Tree::new(paging, Frames::new(&[(0x10_0000, 0x12_0000)], 4096));
    let large = if paging == Paging::I386 {
        4 << 20
    } else {
        2 << 20
    };
    tree.map(&Mapping::code(image_va, image_pa, large));
    tree.map(&Mapping::page(0xd000_5000, 0x3000, 4096));
    tree.map(&Mapping::page(0xffff_f000, 0x7000, 4096));
    let mut image = kernel.image();
    image[0x1000..0x1004].copy_from_slice(&u32::try_from(tree.root).unwrap().to_le_bytes());
    image[0x1004..0x1008].copy_from_slice(&pae_mode.unwrap_or(0).to_le_bytes());
    let image = image.chunks(4096).map(<[u8]>::to_vec);
    let mut pages: BTreeMap<u64, Vec<u8>> = (image_pa..).step_by(4096).zip(image).collect();
    pages.extend(tree.tables.into_iter().map(|(pa, table)| (pa, table.bytes)));
    pages.insert(0x3000, page_text(0x3000));
    pages.insert(0x7000, page_text(0x7000));
    let ram = [(0, 0x9_f000), (0x10_0000, image_pa + 0x2000)];
    (FullDump::of_memory(Arch::I386, &ram, &pages), kernel)
}

#[test]
fn i386_is_walked_with_and_without_pae_of_every_age() {
    for (paging, kernbase, root, pae_mode) in [
        (Paging::I386, 0xc000_0000, "IdlePTD", None),
        (Paging::I386Pae, 0xc000_0000, "IdlePDPT", None),
        (Paging::I386, 0x80_0000, "IdlePTD", None),
        (Paging::I386Pae, 0x80_0000, "IdlePDPT", None),
        (Paging::I386, 0x80_0000, "IdlePTD_nopae", Some(0)),
        (Paging::I386Pae, 0x80_0000, "IdlePDPT", Some(1)),
    ] {
        let at = format!("{paging:?} {kernbase:#x} {root}");
        let (dump, kernel) = i386(paging, kernbase, root, pae_mode);
        let session = session(&dump.build(), Some(&kernel.build()));
        assert_eq!(
            text(&session, 0xd000_5000, 4096),
            Ok(page_text(0x3000)),
            "{at}"
        );
        assert_eq!(
            text(&session, 0xffff_fff0, 16),
            Ok(page_text(0x7000)[0xff0..].to_vec()),
            "{at}"
        );
        assert_eq!(
            text(&session, kernel.base, 4),
            Ok(b"\x7fELF".to_vec()),
            "{at}"
        );
        let error = text(&session, 0xd000_4000, 1).unwrap_err();
        assert!(
            matches!(error, TranslationError::NotMapped { .. }),
            "{at}: {error}"
        );
        let error = text(&session, 0x1_0000_0000, 1).unwrap_err();
        assert!(
            matches!(error, TranslationError::NoWindow { .. }),
            "{at}: {error}"
        );
    }
}

/// The dump as VirtualBox stores memory: a note in front, and 0 for every virtual address.
fn of_a_hypervisor(mut dump: FullDump) -> FullDump {
    for segment in &mut dump.segments {
        segment.p_vaddr = 0;
    }
    let mut note = Vec::new();
    for word in [7_u32, 24, 0xb00] {
        note.extend_from_slice(&word.to_le_bytes());
    }
    note.extend_from_slice(b"VBCORE\0\0");
    note.resize(44, 0);
    let note = Segment {
        p_type: 4,
        p_paddr: 0,
        content: note,
        ..dump.segments[0].clone()
    };
    dump.segments.insert(0, note);
    (dump.osabi, dump.e_version) = (0, 1);
    dump
}

#[test]
fn a_core_whose_virtual_addresses_are_all_0_is_physical_memory() {
    let machine = Amd64::new(0x20_0000);
    let amd64 = FullDump::of_memory(Arch::Amd64, &RAM, &machine.pages());
    // One segment, with RAM that does not start at 0.
    let high = FullDump::of_memory(Arch::Amd64, &[(0x10_0000, 0x80_0000)], &machine.pages());
    let (i386, i386_kernel) = i386(Paging::I386Pae, 0x80_0000, "IdlePDPT", Some(1));
    for (dump, kernel) in [
        (amd64, &machine.kernel),
        (high, &machine.kernel),
        (i386, &i386_kernel),
    ] {
        let dump = of_a_hypervisor(dump);
        let session = session(&dump.build(), Some(&kernel.build()));
        assert_eq!(session.dump().kind().name(), "full dump");
        assert_eq!(text(&session, kernel.base, 4), Ok(b"\x7fELF".to_vec()));
        for pa in [0x10_0000, 0x12_3000] {
            assert_eq!(locate(session.dump(), pa).ok(), dump.offset_of(pa));
        }
    }
    // An architecture whose full dumps cannot be translated can be read by physical addresses.
    let pages = BTreeMap::from([(0x4000_1000, page_text(0x4000_1000))]);
    let arm64 = FullDump::of_memory(Arch::Arm64, &[(0x4000_0000, 0x4000_4000)], &pages);
    let arm64 = of_a_hypervisor(arm64);
    let session = session(&arm64.build(), None);
    assert_eq!(session.dump().kind().name(), "full dump");
    let found = locate(session.dump(), 0x4000_1000);
    assert_eq!(found.ok(), arm64.offset_of(0x4000_1000));
}

#[test]
fn one_segment_at_virtual_address_0_does_not_make_a_core_physical() {
    let pages = BTreeMap::from([(0x5000, page_text(0x5000)), (0x9000, page_text(0x9000))]);
    let mut dump = FullDump::of_memory(Arch::Amd64, &[(0x5000, 0x6000), (0x9000, 0xa000)], &pages);
    (dump.segments[0].p_vaddr, dump.segments[1].p_vaddr) = (0, MAP);
    let core = session(&dump.build(), None);
    assert_eq!(core.dump().kind().name(), "ELF core");
    assert_eq!(text(&core, 0, 4096), Ok(page_text(0x5000)));
    assert_eq!(text(&core, MAP, 4096), Ok(page_text(0x9000)));
    // A segment without memory says nothing.
    (dump.segments[0].p_vaddr, dump.segments[1].p_vaddr) = (MAP, 0);
    dump.segments[1].p_memsz = Some(0);
    assert_eq!(
        text(&session(&dump.build(), None), MAP, 4096),
        Ok(page_text(0x5000))
    );
    // powerpc's kernels are linked low enough for a core of one segment.
    let mut low = FullDump::of_memory(Arch::Powerpc, &[(0x5000, 0x6000)], &pages);
    low.segments[0].p_vaddr = 0;
    assert_eq!(
        text(&session(&low.build(), None), 0, 4096),
        Ok(page_text(0x5000))
    );
}
