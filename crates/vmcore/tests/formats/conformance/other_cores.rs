//! Cores that are no minidumps: arm's full dumps, powerpc's virtual ones, sparc64's with a header of
//! their own.

use crate::common::{Virtual, locate, open, session, try_open};
use std::collections::BTreeMap;
use vmcore::dump::Warning;
use vmcore::format::addr::{PhysAddr, VirtAddr};
use vmcore::format::arch::Arch as Of;
use vmcore::format::endian::Endian;
use vmcore::pages::{Mapping, visit_mappings};
use vmcore::translation::TranslationError;
use vmcore::{Dump, OpenOptions};
use vmcore_synth::Arch;
use vmcore_synth::elf::{Delta, FullDump, Kernel, SectionKind};
use vmcore_synth::header::DumpHeader;
use vmcore_synth::sparc64::{RegionDump, buffer};
use vmcore_synth::tables::Mapping as Mapped;

/// A page with its own address as text.
fn text(pa: u64) -> Vec<u8> {
    let mut page = format!("page at {pa:#x}").into_bytes();
    page.resize(4096, b'.');
    page
}

#[test]
fn arm_walks_from_the_first_level_table() {
    for arch in [Arch::Armv7, Arch::Armeb] {
        let mut pages: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let (root, coarse) = (0x8000_4000_u64, 0x8000_8400_u64);
        let mut put = |pa: u64, value: u32| {
            let page = pages
                .entry(pa / 4096 * 4096)
                .or_insert_with(|| vec![0; 4096]);
            let at = usize::try_from(pa % 4096).unwrap();
            page[at..at + 4].copy_from_slice(&arch.u32(value));
        };
        put(root + 4 * 0xc00, 0x8000_8401);
        put(root + 4 * 0xc01, 0x8020_0c0e);
        put(root + 4 * 0xc10, 0x8104_0c0e);
        for slot in 0..16 {
            put(coarse + 4 * (0x10 + slot), 0x8003_0015);
        }
        put(coarse + 4 * 2, 0x8002_0036);
        // The variable, in the image at 0x80010000.
        put(0x8001_0100, 0x8000_4000);
        for pa in [0x8002_0000, 0x8003_3000, 0x8020_5000, 0x8100_0000] {
            pages.insert(pa, text(pa));
        }
        let ram = [(0x8000_0000, 0x8040_0000), (0x8100_0000, 0x8100_4000)];
        let mut dump = FullDump::of_memory(arch, &ram, &pages);
        let mut kernel = Kernel::new(arch, 0xc001_0000);
        kernel.add_section(".bss", SectionKind::Bss, 0xc001_0100, &[0; 8]);
        kernel.add_object("kernel_l1pa", 0xc001_0100, 4);
        kernel.add_object("kernbase", 0xc000_0000, 0);
        kernel.add_object("physaddr", 0x8000_0000, 0);
        let check = |dump: &FullDump, kernel: &Kernel| {
            let session = session(&dump.build(), Some(&kernel.build()));
            let space = session.space().unwrap();
            for (va, pa) in [
                (0xc000_2010, 0x8002_0010),
                (0xc001_3000, 0x8003_3000),
                (0xc010_5000, 0x8020_5000),
            ] {
                let (found, offset) = space.locate(VirtAddr(va)).unwrap();
                assert_eq!(found.leaf.pa, PhysAddr(pa), "{va:#x}");
                assert_eq!(Some(offset.0), dump.offset_of(pa));
            }
            // A supersection of 16 MiB.
            let (found, _) = space.locate(VirtAddr(0xc100_0000)).unwrap();
            assert_eq!((found.leaf.pa.0, found.leaf.size_shift), (0x8100_0000, 24));
            let unmapped = space.locate(VirtAddr(0xc000_3000));
            assert!(matches!(unmapped, Err(TranslationError::NotMapped { .. })));
            let gone = space.locate(VirtAddr(0xc100_4000));
            assert!(matches!(gone, Err(TranslationError::PageAbsent { .. })));
        };
        check(&dump, &kernel);
        // The dump's own word counts more than the symbols'.
        dump.delta = Some(Delta {
            p_vaddr: 0xc000_0000,
            p_paddr: 0x8000_0000,
            p_align: 4096,
        });
        for symbol in &mut kernel.symbols {
            if symbol.name == "physaddr" {
                symbol.address = 0x1234_0000;
            }
        }
        check(&dump, &kernel);
        kernel.symbols.retain(|symbol| symbol.name != "kernel_l1pa");
        let session = session(&dump.build(), Some(&kernel.build()));
        let error = session.space().unwrap_err().to_string();
        assert!(error.contains("no symbol kernel_l1pa"), "{error}");
    }
}

/// A core with one segment of virtual memory.
fn virtual_core(arch: Arch) -> FullDump {
    let pages = BTreeMap::from([(0xd000_2000, text(0xd000_2000))]);
    let ranges = [(0xd000_1000, 0xd000_4000)];
    FullDump {
        is_virtual: true,
        ..FullDump::of_memory(arch, &ranges, &pages)
    }
}

#[test]
fn powerpc_has_virtual_cores_with_and_without_a_device_header() {
    for (arch, expected) in [
        (Arch::Powerpc, Of::Powerpc),
        (Arch::Powerpc64, Of::Powerpc64),
        (Arch::Powerpc64le, Of::Powerpc64),
    ] {
        let built = virtual_core(arch).build();
        let wrapped = DumpHeader::new(arch.machine_arch(), built.len() as u64).before(&built);
        for file in [built, wrapped] {
            let dump = open(&file);
            assert_eq!(dump.arch(), expected);
            assert_eq!(dump.kind().name(), "ELF core");
            assert!(dump.warnings().contains(&Warning::NoPhysicalAddresses));
            let space = Virtual::of(&dump);
            assert_eq!(space.text(0xd000_2000, 18).unwrap(), b"page at 0xd0002000");
            assert!(matches!(
                space.place(0xd000_4000),
                Err(TranslationError::NoWindow { .. })
            ));
            assert!(matches!(
                space.place(0x1000),
                Err(TranslationError::NoWindow { .. })
            ));
        }
    }
    // One with physical addresses can be read by them, and translates nothing.
    let mut physical = virtual_core(Arch::Powerpc64);
    physical.is_virtual = false;
    physical.segments[0].p_vaddr = u64::MAX;
    physical.segments[0].p_paddr = 0x1000;
    let dump = open(&physical.build());
    assert_eq!(dump.kind().name(), "full dump");
    assert_eq!(locate(&dump, 0x2000), Ok(0x2000));
    let error = dump.translation(None).unwrap_err().to_string();
    assert!(error.contains("powerpc64"), "{error}");
}

#[test]
fn a_core_in_an_order_that_its_machine_never_had_is_refused() {
    let mut dump = virtual_core(Arch::Mipsel);
    dump.e_machine = Arch::Powerpc.e_machine();
    let error = try_open(&dump.build(), &OpenOptions::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("byte order is not that of powerpc"),
        "{error}"
    );
}

/// Two regions, and a translation storage buffer of 512 entries in the first. It maps 0xc0002000 to
/// 0x802000, where `mapped` stands, and 64 KiB from 0xc0100000 on; at 0x402000 stands `direct`.
fn sparc64() -> RegionDump {
    let tsb = buffer(
        512,
        &[
            Mapped::page(0xc000_2000, 0x80_2000, 0x2000),
            Mapped::page(0xc010_0000, 0x80_0000, 0x1_0000),
        ],
    );
    let mut pages: BTreeMap<u64, Vec<u8>> = (0x40_4000..)
        .step_by(0x2000)
        .zip(tsb.chunks(0x2000).map(<[u8]>::to_vec))
        .collect();
    pages.insert(0x40_2000, b"direct".to_vec());
    pages.insert(0x80_2000, b"mapped".to_vec());
    let ranges = [(0x40_0000, 0x41_0000), (0x80_0000, 0x80_4000)];
    RegionDump {
        tsb_pa: 0x40_4000,
        tsb_entries: 512,
        ..RegionDump::of_memory(&ranges, &pages)
    }
}

#[test]
fn sparc64_has_a_direct_map_and_a_translation_buffer() {
    let dump: Dump = open(&sparc64().build());
    assert_eq!(
        (dump.arch(), dump.memory().endian()),
        (Of::Sparc64, Endian::Big)
    );
    assert_eq!(dump.memory().page_size().bytes(), 8192);
    let space = Virtual::of(&dump);
    assert_eq!(space.text(0xffff_f800_0040_2000, 6).unwrap(), b"direct");
    assert_eq!(space.text(0xc000_2000, 6).unwrap(), b"mapped");
    assert_eq!(space.place(0xc000_2008), Ok((0x80_2008, 512 + 0x1_2008)));
    // A page of 64 KiB.
    assert_eq!(space.pa(0xc010_0010), Ok(0x80_0010));
    let va = VirtAddr(0xc000_4000);
    assert_eq!(
        space.place(va.0),
        Err(TranslationError::NoEntry { va, what: "TSB" })
    );
    // All that the buffer maps: of a large page the small one whose entry it is.
    let mut mapped = Vec::new();
    visit_mappings(space.space(), &mut |mapping: Mapping| {
        mapped.push((mapping.va.0, mapping.pa.0, mapping.len_bytes));
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    mapped.sort_unstable();
    let mut expected = vec![(0xc000_2000, 0x80_2000, 0x2000)];
    expected.extend((0..8).map(|n| (0xc010_0000 + n * 0x2000, 0x80_0000 + n * 0x2000, 0x2000)));
    assert_eq!(mapped, expected);
    let gone = space.place(0xffff_f800_0100_0000);
    assert!(matches!(gone, Err(TranslationError::PageAbsent { .. })));
}

#[test]
fn damaged_headers_of_sparc64_are_refused_or_read_as_far_as_they_go() {
    let sound = sparc64().build();
    for len in [0, 7, 39, 100, 511, 512, 0x8000, sound.len() - 1] {
        let _ = try_open(&sound[..len], &OpenOptions::default());
    }
    for at in (0..88).step_by(8) {
        for value in [0, 1, 512, u64::MAX, 1 << 63] {
            let mut file = sound.clone();
            file[at..at + 8].copy_from_slice(&value.to_be_bytes());
            let Ok(dump) = try_open(&file, &OpenOptions::default()) else {
                continue;
            };
            let space = Virtual::of(&dump);
            for va in [0, 0xc000_2000, 0xc010_0000, 0xffff_f800_0040_0000, u64::MAX] {
                let _ = space.text(va, 16);
            }
        }
    }
}
