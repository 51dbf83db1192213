//! Malformed ELF headers: of the full dumps of every architecture that has them, by one table; and
//! segments in every kind of minidump.

use super::error_of;
use crate::common::{locate, open, session};
use crate::kinds::{KINDS, kernel_va, page, text};
use std::collections::BTreeMap;
use vmcore::dump::{OpenError, Warning};
use vmcore::format::addr::{PhysAddr, VirtAddr};
use vmcore::memory::PageReadError;
use vmcore::pages;
use vmcore::session::KernelMatch;
use vmcore::translation::RootError;
use vmcore::{SessionError, process};
use vmcore_synth::Arch;
use vmcore_synth::elf::{FullDump, Kernel, SectionKind};

/// An architecture whose full dumps hold physical memory.
struct Full {
    arch: Arch,
    /// Where its kernel is linked, and the physical address of that.
    image: (u64, u64),
    /// Absolute symbols that say so, and must be there.
    absolute: &'static [(&'static str, u64)],
    /// The variables that name the root: each is enough.
    roots: &'static [&'static str],
}

const FULL: &[Full] = &[
    Full {
        arch: Arch::Amd64,
        image: (0xffff_ffff_8000_1000, 0x1000),
        absolute: &[("kernbase", 0xffff_ffff_8000_0000)],
        roots: &["KPML4phys"],
    },
    Full {
        arch: Arch::I386,
        image: (0xc000_1000, 0x1000),
        // Old kernels have no such symbol: 0xc0000000 is taken.
        absolute: &[],
        roots: &["IdlePTD", "IdlePDPT"],
    },
    Full {
        arch: Arch::Armv7,
        image: (0xc000_1000, 0x1000),
        absolute: &[("kernbase", 0xc000_0000), ("physaddr", 0)],
        roots: &["kernel_l1pa"],
    },
    Full {
        arch: Arch::Armeb,
        image: (0xc000_1000, 0x1000),
        absolute: &[("kernbase", 0xc000_0000), ("physaddr", 0)],
        roots: &["kernel_l1pa"],
    },
];

impl Full {
    /// Two ranges, and text in a page of each.
    fn sound(&self) -> FullDump {
        let pages = [0x2000, 0x10_0000].map(|pa| (pa, text(pa)));
        FullDump::of_memory(
            self.arch,
            &[(0, 0x4000), (0x10_0000, 0x10_2000)],
            &pages.into(),
        )
    }

    /// A kernel with these of its symbols.
    fn kernel(&self, absolute: &[(&str, u64)], root: Option<&str>) -> Kernel {
        let mut kernel = Kernel::new(self.arch, self.image.0);
        kernel.add_section(".data", SectionKind::Data, self.image.0 + 0x1000, &[0; 64]);
        for (name, value) in absolute {
            kernel.add_object(name, *value, 0);
        }
        if let Some(root) = root {
            kernel.add_object(root, self.image.0 + 0x1000, self.arch.word_bytes());
        }
        kernel
    }
}

/// A sound core of each architecture that has any: of physical memory, or of virtual.
fn cores() -> Vec<FullDump> {
    let of_virtual = [Arch::Powerpc, Arch::Powerpc64, Arch::Powerpc64le].map(|arch| FullDump {
        is_virtual: true,
        ..FullDump::of_memory(arch, &[(0xd000_1000, 0xd000_4000)], &BTreeMap::new())
    });
    FULL.iter().map(Full::sound).chain(of_virtual).collect()
}

fn bad_core(dump: &FullDump) -> String {
    match error_of(&dump.build()) {
        OpenError::BadCore { reason, .. } => reason,
        other => panic!("{:?}: {other}", dump.arch),
    }
}

#[test]
fn program_headers_that_are_none_are_refused() {
    for core in cores() {
        let mut dump = core.clone();
        dump.e_phnum = Some(0);
        assert!(bad_core(&dump).contains("no memory"), "{:?}", core.arch);
        let mut dump = core.clone();
        dump.segments
            .iter_mut()
            .for_each(|segment| segment.p_type = 4);
        assert!(bad_core(&dump).contains("no memory"), "{:?}", core.arch);
        let file_len = core.clone().build().len() as u64;
        let last = match core.arch.is_32_bit() {
            true => u64::from(u32::MAX),
            false => u64::MAX,
        };
        for (e_phoff, e_phnum) in [
            (Some(file_len), None),
            (Some(file_len - 1), None),
            (Some(last), None),
            (Some(last - 31), None),
            (None, Some(0xfffe)),
        ] {
            let mut dump = core.clone();
            (dump.e_phoff, dump.e_phnum) = (e_phoff, e_phnum);
            let reason = bad_core(&dump);
            let is_named = reason.contains("beyond the end of the file");
            assert!(
                is_named,
                "{:?} {e_phoff:?} {e_phnum:?}: {reason}",
                core.arch
            );
        }
        let mut dump = core.clone();
        dump.e_phentsize = Some(16);
        assert!(bad_core(&dump).contains("have 16 bytes"), "{:?}", core.arch);
    }
}

#[test]
fn overlapping_and_overflowing_segments() {
    for full in FULL {
        let ranges = [(0x1000, 0x5000), (0x2000, 0x3000), (0x4000, 0x7000)];
        let mut dump = FullDump::of_memory(full.arch, &ranges, &BTreeMap::new());
        let first = dump.content_offset();
        let opened = open(&dump.build());
        for (pa, offset) in [
            (0x1000, first),
            (0x2000, first + 0x1000),
            (0x4fff, first + 0x3fff),
            (0x5000, first + 0x6000),
            (0x6fff, first + 0x7fff),
        ] {
            assert_eq!(locate(&opened, pa), Ok(offset), "{:?}, {pa:#x}", full.arch);
        }
        assert_eq!(pages::page_count(opened.memory()), Ok(6));
        // A segment whose bytes would lie behind the last offset there is, or behind the file.
        dump.segments.truncate(2);
        dump.segments[1].p_paddr = 0x10_0000;
        let last = match full.arch.is_32_bit() {
            true => u64::from(u32::MAX) - 0xfff,
            false => u64::MAX - 0xfff,
        };
        dump.segments[1].p_offset = Some(last);
        let opened = open(&dump.build());
        assert_eq!(locate(&opened, 0x2000), Ok(first + 0x1000));
        let pa = PhysAddr(0x10_0000);
        match full.arch.is_32_bit() {
            true => assert!(matches!(
                locate(&opened, pa.0),
                Err(PageReadError::Truncated { .. })
            )),
            false => {
                assert_eq!(opened.warnings(), [Warning::SegmentsRefused { count: 1 }]);
                assert_eq!(locate(&opened, pa.0), Err(PageReadError::NotRam { pa }));
            }
        }
        // One that is cut by the file's end.
        let mut dump = full.sound();
        dump.segments[1].p_filesz = Some(0x10_0000);
        dump.segments[1].p_memsz = Some(0x10_0000);
        let opened = open(&dump.build());
        assert!(locate(&opened, 0x10_1fff).is_ok(), "{:?}", full.arch);
        assert!(matches!(
            locate(&opened, 0x10_2000),
            Err(PageReadError::Truncated { .. })
        ));
    }
}

#[test]
fn cores_of_other_machines_and_classes_are_refused() {
    for core in cores() {
        let mut dump = core.clone();
        dump.e_machine = 2;
        assert!(bad_core(&dump).contains("machine 2"), "{:?}", core.arch);
        // The machine is one of the other class.
        let mut dump = core.clone();
        dump.e_machine = if core.arch.is_32_bit() { 62 } else { 3 };
        assert!(bad_core(&dump).contains("class"), "{:?}", core.arch);
    }
}

#[test]
fn a_kernel_of_another_architecture_is_refused_for_symbols_only() {
    let machines = [
        Arch::Amd64,
        Arch::I386,
        Arch::Armv7,
        Arch::Armeb,
        Arch::Arm64,
        Arch::Riscv64,
        Arch::Mips64,
        Arch::Powerpc64,
    ];
    for kind in KINDS {
        let dump = kind.sound();
        let file = dump.build();
        for arch in machines.into_iter().filter(|arch| *arch != kind.arch) {
            let is_family = arch.e_machine() == kind.arch.e_machine()
                && arch.is_32_bit() == kind.arch.is_32_bit()
                && arch.is_big_endian() == kind.arch.is_big_endian();
            if is_family {
                continue;
            }
            let base = match arch.is_32_bit() {
                true => 0xc000_0000,
                false => 0xffff_ffff_c000_0000,
            };
            let kernel = Kernel::new(arch, base);
            let session = session(&file, Some(&kernel.build()));
            let is_other = matches!(session.kernel_match(), Some(KernelMatch::OtherArch { .. }));
            assert!(
                is_other,
                "{} and {arch:?}: {:?}",
                kind.name,
                session.kernel_match()
            );
            assert!(matches!(
                process::list(&session),
                Err(SessionError::Mismatch { .. })
            ));
            // What needs no symbols answers all the same.
            let expected = text(page(&dump, 5));
            let mut found = vec![0; expected.len()];
            let va = VirtAddr(kernel_va(&dump, 5));
            session.space().unwrap().read_exact(va, &mut found).unwrap();
            assert_eq!(found, expected, "{} and {arch:?}", kind.name);
        }
    }
}

#[test]
fn full_dumps_without_a_root_read_physical_memory() {
    for full in FULL {
        let file = full.sound().build();
        let read = |kernel: Option<&Kernel>| {
            let kernel = kernel.map(Kernel::build);
            let session = session(&file, kernel.as_deref());
            let expected = text(0x2000);
            let mut found = vec![0; expected.len()];
            let memory = session.dump().memory();
            let read = memory.read(PhysAddr(0x2000), &mut found);
            assert_eq!((read.len, read.error), (expected.len(), None));
            assert_eq!(found, expected);
            session.space().err().unwrap()
        };
        let error = read(None);
        assert!(matches!(error, SessionError::NoKernel { .. }), "{error}");
        // Without the variable that names the root, or what says where it is.
        let error = read(Some(&full.kernel(full.absolute, None)));
        let SessionError::Root(RootError::NoSymbol(missing)) = error else {
            panic!("{:?}: {error}", full.arch)
        };
        assert!(full.roots.contains(&missing), "{:?}: {missing}", full.arch);
        for root in full.roots {
            for without in full.absolute {
                let mut rest = full.absolute.to_vec();
                rest.retain(|symbol| symbol != without);
                let error = read(Some(&full.kernel(&rest, Some(root))));
                let expected = RootError::NoSymbol(without.0);
                let is_named = matches!(&error, SessionError::Root(found) if *found == expected);
                assert!(is_named, "{:?} without {}: {error}", full.arch, without.0);
            }
            // The variable is there, and what it says is no root.
            let error = read(Some(&full.kernel(full.absolute, Some(root))));
            let SessionError::Root(found) = &error else {
                panic!("{:?}, {root}: {error}", full.arch)
            };
            let is_root = matches!(found, RootError::Implausible { symbol, .. } if symbol == root);
            assert!(is_root, "{:?}, {root}: {error}", full.arch);
            // It is behind the dump.
            let mut kernel = full.kernel(full.absolute, None);
            kernel.add_object(root, full.image.0 + 0x80_0000, full.arch.word_bytes());
            let error = read(Some(&kernel));
            let is_unreadable = matches!(
                error,
                SessionError::Root(RootError::Unreadable { symbol, .. }) if symbol == *root
            );
            assert!(is_unreadable, "{:?}, {root}: {error}", full.arch);
        }
    }
}
