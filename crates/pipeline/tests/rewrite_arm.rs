//! Full dumps of arm kernels of either byte order as minidumps and full dumps: every page that the
//! page tables map, or the kernel's bitmap names, and no other.
#![expect(clippy::unwrap_used, reason = "tests may fail")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use vmcore::format::addr::{PhysAddr, VirtAddr};
use vmcore::format::endian::Endian;
use vmcore::session::KernelChoice;
use vmcore::verify::{Verdict, verify};
use vmcore::{OpenOptions, Session, log};
use vmcore_pipeline::rewrite::{self, Choice, Rewritten, TargetFormat};
use vmcore_synth::elf::{Delta, FullDump, Kernel, SectionKind};
use vmcore_synth::{Arch, msgbuf};

/// RAM, the kernel's first address, and where the variables are.
const RAM: (u64, u64) = (0x8000_0000, 0x8040_0000);
const KERNBASE: u64 = 0xc000_0000;
const DATA: u64 = 0xc001_0000;
const DATA_PA: u64 = 0x8001_0000;
/// The page of the message buffer.
const LOG: u64 = 0xc000_2000;
const LOG_PA: u64 = 0x8002_0000;
/// A page of 64 KiB and one of 1 MiB.
const LARGE: (u64, u64) = (0xc002_0000, 0x8003_0000);
const SECTION: (u64, u64) = (0xc010_0000, 0x8020_0000);
/// A page that only the kernel's bitmap names: bit 9.
const SLAB: u64 = 0x8000_9000;
const CRASH_TIME: u32 = 1_700_000_000;
const TEXT: &[u8] = b"panic: on arm\n";

struct Case {
    dir: TempDir,
    dump: FullDump,
}

impl Case {
    /// A machine's full dump and kernel; with the bitmap or without.
    fn new(arch: Arch, has_bitmap: bool) -> Self {
        let (root, coarse) = (0x8000_4000_u64, 0x8000_8400_u64);
        let mut pages: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for pa in [SLAB, LARGE.1 + 0x3000, SECTION.1 + 0x5000] {
            let mut page = format!("page at {pa:#x}").into_bytes();
            page.resize(4096, b'.');
            pages.insert(pa, page);
        }
        let mut put = |pa: u64, bytes: &[u8]| {
            let page = pages.entry(pa & !0xfff).or_insert_with(|| vec![0; 4096]);
            let at = usize::try_from(pa & 0xfff).unwrap();
            page[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(root + 4 * 0xc00, &arch.u32(0x8000_8401));
        put(root + 4 * 0xc01, &arch.u32(0x8020_0c0e));
        put(coarse + 4 * 2, &arch.u32(0x8002_0036));
        put(coarse + 4 * 0x10, &arch.u32(0x8001_0036));
        for slot in 0..16 {
            put(coarse + 4 * (0x20 + slot), &arch.u32(0x8003_0015));
        }
        let (ring, control) = msgbuf::written(0xf00, TEXT, LOG);
        put(LOG_PA, &ring);
        put(LOG_PA + 0xf00, &control.bytes(arch));
        let mut kernel = Kernel::new(arch, DATA);
        kernel.add_section(".bss", SectionKind::Bss, DATA + 0x100, &[0; 0x400]);
        kernel.add_object("kernbase", KERNBASE, 0);
        kernel.add_object("physaddr", RAM.0, 0);
        let mut variable = |name: &str, offset: u64, values: &[u32]| {
            kernel.add_object(name, DATA + offset, 4 * values.len() as u64);
            let bytes: Vec<u8> = values.iter().flat_map(|value| arch.u32(*value)).collect();
            put(DATA_PA + offset, &bytes);
        };
        variable("kernel_l1pa", 0x100, &[0x8000_4000]);
        variable("kernel_vm_end", 0x104, &[0xc040_0000]);
        variable("msgbufp", 0x108, &[0xc000_2f00]);
        variable("dump_avail", 0x110, &[0x8000_0000, 0x8040_0000, 0, 0]);
        // 64 bits, of which the kernel's words are half.
        let [low, high] = [CRASH_TIME, 0];
        let time = match arch.is_big_endian() {
            true => [high, low],
            false => [low, high],
        };
        variable("time_second", 0x130, &time);
        if has_bitmap {
            variable("vm_page_dump", 0x120, &[0xc001_0200]);
            variable("vm_page_dump_pages", 0x124, &[1024]);
            variable("bitmap", 0x200, &[1 << 9]);
        }
        let case = Self {
            dir: tempfile::tempdir().unwrap(),
            dump: FullDump::of_memory(arch, &[RAM], &pages),
        };
        std::fs::write(case.path("vmcore.0"), case.dump.build()).unwrap();
        std::fs::write(case.path("kernel"), kernel.build()).unwrap();
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn open(&self, core: &str) -> Session {
        let kernel = self.path("kernel");
        let choice = KernelChoice::Given(&kernel);
        Session::open(&self.path(core), choice, &OpenOptions::default()).unwrap()
    }

    fn convert(&self, from: &str, target: TargetFormat, to: &str) -> Rewritten {
        let to: &Path = &self.path(to);
        rewrite::convert(&self.open(from), target, to, false, |_, _| {}).unwrap()
    }
}

fn page(session: &Session, pa: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 4096];
    let read = session.dump().memory().read(PhysAddr(pa), &mut bytes);
    read.exact().is_ok().then_some(bytes)
}

/// Both say the same, as far as `expected` of RAM is in the new one, which has no other page.
fn check(case: &Case, to: &str, expected: &BTreeSet<u64>) {
    let (old, new) = (case.open("vmcore.0"), case.open(to));
    for pa in (RAM.0..RAM.1).step_by(4096) {
        let found = page(&new, pa);
        assert_eq!(found.is_some(), expected.contains(&pa), "{pa:#x}");
        if found.is_some() {
            assert!(found == page(&old, pa), "{pa:#x}");
        }
    }
    let (old_space, new_space) = (old.space().unwrap(), new.space().unwrap());
    for va in [
        KERNBASE,
        LOG,
        DATA,
        LARGE.0,
        LARGE.0 + 0x3000,
        LARGE.0 + 0xf000,
    ]
    .into_iter()
    .chain([SECTION.0, SECTION.0 + 0x5000, SECTION.0 + 0xf_f000])
    .chain([SECTION.0 + 0x10_0000, 0xc03f_f000])
    {
        let [old, new] = [old_space, new_space].map(|space| {
            let found = space.locate(VirtAddr(va)).ok();
            found.map(|(found, _)| (found.leaf.pa, found.leaf.prot.write))
        });
        assert_eq!(old, new, "{va:#x}");
    }
    assert!(log::read(&new).unwrap().text().ends_with(TEXT));
    let checks = verify(&new, |_| {}).unwrap().checks;
    let mut bad = checks.iter().filter(|check| check.verdict == Verdict::Bad);
    assert_eq!(bad.next(), None);
}

fn mapped() -> BTreeSet<u64> {
    let pages = |start: u64, len: u64| (start..start + len).step_by(4096);
    pages(DATA_PA, 0x1000)
        .chain(pages(LOG_PA, 0x1000))
        .chain(pages(LARGE.1, 0x1_0000))
        .chain(pages(SECTION.1, 0x10_0000))
        .collect()
}

#[test]
fn a_full_dump_of_arm_becomes_a_minidump_that_says_the_same() {
    for (arch, endian) in [(Arch::Armv7, Endian::Little), (Arch::Armeb, Endian::Big)] {
        for has_bitmap in [false, true] {
            let case = Case::new(arch, has_bitmap);
            let done = case.convert("vmcore.0", TargetFormat::Minidump, "mini");
            let mut expected = mapped();
            expected.extend(has_bitmap.then_some(SLAB));
            let choice = match has_bitmap {
                true => Choice::KernelBitmap,
                false => Choice::KernelMap,
            };
            assert_eq!(
                (done.version, done.choice),
                (Some(2), Some(choice)),
                "{arch:?}"
            );
            assert_eq!(done.pages, expected.len() as u64, "{arch:?}");
            assert_eq!((done.damage, done.missing_pages), (0, 0), "{arch:?}");
            assert_eq!(done.message_buffer_bytes, 0xf00, "{arch:?}");
            check(&case, "mini", &expected);
            let session = case.open("mini");
            let header = session.dump().minidump().unwrap();
            assert_eq!(
                (header.endian, header.kernbase),
                (endian, VirtAddr(KERNBASE))
            );
            // An entry for each page up to the end of the kernel map.
            assert_eq!(header.pmapsize, 4 * 1024);
            assert_eq!(session.dump().warnings(), []);
            let identity = session.dump().identity().unwrap();
            assert_eq!(identity.time_seconds, i64::from(CRASH_TIME), "{arch:?}");
        }
    }
}

#[test]
fn a_full_dump_of_arm_stays_one_and_keeps_where_its_kernel_was() {
    let all: BTreeSet<u64> = (RAM.0..RAM.1).step_by(4096).collect();
    for arch in [Arch::Armv7, Arch::Armeb] {
        let mut case = Case::new(arch, false);
        let delta = Delta {
            p_vaddr: KERNBASE,
            p_paddr: RAM.0,
            p_align: 4096,
        };
        case.dump.delta = Some(delta);
        std::fs::write(case.path("vmcore.0"), case.dump.build()).unwrap();
        let done = case.convert("vmcore.0", TargetFormat::Full, "full");
        assert_eq!(done.pages, 1024, "{arch:?}");
        check(&case, "full", &all);
        let bytes = std::fs::read(case.path("full")).unwrap();
        // The same headers as the kernel's, and the same class and order.
        assert_eq!(bytes[..52], case.dump.build()[..52], "{arch:?}");
        let done = case.convert("full", TargetFormat::Minidump, "mini");
        assert_eq!(done.pages, mapped().len() as u64, "{arch:?}");
        check(&case, "mini", &mapped());
    }
}
