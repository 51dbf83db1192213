//! Hypervisors' files: the machine is found by the registers of its CPUs, or by its kernel.

use super::*;

/// A CPU of a virtual machine.
pub(crate) struct VirtualCpu {
    pub(crate) cs: u32,
    pub(crate) rip: u64,
    pub(crate) cr3: u64,
    pub(crate) cr4: u64,
}

/// The memory file that QEMU's `dump-guest-memory` makes of a machine: notes first, then RAM, and a
/// device's memory, which is not RAM of the kernel.
pub(crate) fn qemu_file(dump: &FullDump, cpus: &[VirtualCpu]) -> Vec<u8> {
    let mut notes = Vec::new();
    let mut note = |owner: &[u8; 4], kind: u32, contents: &[u8]| {
        for number in [5, contents.len().try_into().unwrap(), kind] {
            notes.extend_from_slice(&u32::to_le_bytes(number));
        }
        notes.extend_from_slice(owner);
        notes.extend_from_slice(&[0; 4]);
        notes.extend_from_slice(contents);
    };
    let is_wide = dump.arch == Arch::Amd64;
    for _ in cpus {
        note(b"CORE", 1, &vec![0x77; if is_wide { 336 } else { 144 }]);
    }
    for (number, cpu) in (1u64..).zip(cpus) {
        let mut state = vec![0; 440];
        let mut put = |at: usize, value: u64| {
            state[at..at + 8].copy_from_slice(&value.to_le_bytes());
        };
        put(0, 1 | 440 << 32);
        for register in 0..16 {
            put(8 + register * 8, number << 16 | register as u64);
        }
        put(136, cpu.rip);
        put(152, cpu.cs.into());
        put(392, 0x8000_0011);
        put(392 + 24, cpu.cr3);
        put(392 + 32, cpu.cr4);
        note(b"QEMU", 0, &state);
    }
    let device = (0xfd00_0000, vec![0xdd; 2 * PAGE]);
    let parts: Vec<(u64, &[u8])> = (dump.segments.iter())
        .map(|segment| (segment.p_paddr, segment.content.as_slice()))
        .chain([(device.0, device.1.as_slice())])
        .collect();
    let (ehdr, phdr) = if is_wide { (64, 56) } else { (52, 32) };
    let mut offset = ehdr + phdr * (parts.len() + 1);
    let mut headers = vec![(4u32, offset as u64, 0, notes.len() as u64)];
    offset += notes.len();
    for (pa, content) in &parts {
        headers.push((1, offset as u64, *pa, content.len() as u64));
        offset += content.len();
    }
    let mut file = vec![0x7f, b'E', b'L', b'F', if is_wide { 2 } else { 1 }, 1, 1, 0];
    file.resize(16, 0);
    let half = |file: &mut Vec<u8>, value: usize| {
        file.extend_from_slice(&u16::try_from(value).unwrap().to_le_bytes());
    };
    half(&mut file, 4);
    half(&mut file, if is_wide { 62 } else { 3 });
    file.extend_from_slice(&1u32.to_le_bytes());
    let width = if is_wide { 8 } else { 4 };
    for value in [0, ehdr as u64, 0] {
        file.extend_from_slice(&value.to_le_bytes()[..width]);
    }
    file.extend_from_slice(&[0; 4]);
    for value in [ehdr, phdr, headers.len(), 0, 0, 0] {
        half(&mut file, value);
    }
    for (kind, offset, pa, len) in headers {
        file.extend_from_slice(&kind.to_le_bytes());
        if is_wide {
            file.extend_from_slice(&[0; 4]);
        }
        for value in [offset, pa, pa, len, len] {
            file.extend_from_slice(&value.to_le_bytes()[..width]);
        }
        file.extend_from_slice(&[0; 8]);
    }
    assert_eq!(file.len(), ehdr + phdr * (parts.len() + 1));
    file.extend_from_slice(&notes);
    parts
        .iter()
        .for_each(|(_, content)| file.extend_from_slice(content));
    file
}

/// The root of a machine's page tables, and `CR4`, by what its kernel says.
fn root(case: &Case, options: &Options) -> (u64, u64) {
    let session = case.open("vmcore.0");
    let names = match (options.arch, options.la57, options.pae, options.version) {
        (Arch::Amd64, true, ..) => ("KPML5phys", 0x1020),
        (Arch::Amd64, ..) => ("KPML4phys", 0x20),
        (_, _, true, _) => ("IdlePDPT", 0x20),
        (_, _, false, 1) => ("IdlePTD", 0),
        _ => ("IdlePTD_nopae", 0),
    };
    let address = session.symbol(names.0).unwrap().address;
    let root = session.space().unwrap().read_u32(address).unwrap();
    (root.into(), names.1)
}

#[test]
fn a_hypervisors_file_becomes_a_minidump_by_the_root_of_a_cpu() {
    for (name, options) in full_machines() {
        let mut case = Case::new(&options);
        let (cr3, cr4) = root(&case, &options);
        let cpus = [
            // In a process, with page tables that lack the kernel.
            VirtualCpu {
                cs: 0x43,
                rip: 0x20_1000,
                cr3: 0x1000,
                cr4,
            },
            VirtualCpu {
                cs: 0x20,
                rip: 0x1234_5678,
                cr3: cr3 | 0x18,
                cr4,
            },
        ];
        std::fs::write(case.path("qemu"), qemu_file(case.full(), &cpus)).unwrap();
        let bare = open(&case.path("qemu"), KernelChoice::None).unwrap();
        let done = convert(&bare, TargetFormat::Minidump, &case.path("mini")).unwrap();
        assert_eq!(done.cpus, 2, "{name}");
        assert_eq!(
            done.message_buffer_bytes, 0,
            "{name}: only symbols lead there"
        );
        let new = case.open("mini");
        for known in &case.machine.truth.pages {
            let is_mapped = !known.kernel_map.is_empty();
            let expected = options.arch == Arch::Amd64 || is_mapped;
            let found = page(&new, known.pa);
            assert_eq!(found.is_some(), expected, "{name}: {:#x}", known.pa);
            for va in &known.kernel_map {
                let located = new.space().unwrap().locate(VirtAddr(*va)).unwrap();
                assert_eq!(located.0.leaf.pa, PhysAddr(known.pa), "{name}: {va:#x}");
            }
        }
        let (identity, cpus) = extension(&case.path("mini"));
        assert_eq!(identity.origin, Origin::Hypervisor, "{name}");
        let id = bare.dump().id().unwrap();
        assert_eq!(done.dump_id, id, "{name}: it gets the id of its file");
        assert_eq!(identity.dump_id, identity.source_id, "{name}");
        assert!(cpus.iter().all(|cpu| cpu.0 == CpuState::Stopped), "{name}");
        let (pc, cr3_at) = if options.arch == Arch::Amd64 {
            (16, 29)
        } else {
            (8, 18)
        };
        let second = &cpus[1].1;
        assert_eq!(
            (second[pc], second[cr3_at]),
            (0x1234_5678, cr3 | 0x18),
            "{name}"
        );
        // rax, rcx, rdx, rbx, rsp: QEMU has another order.
        let general: Vec<u64> = second[..5].iter().map(|value| value & 0xffff).collect();
        assert_eq!(general, [0, 2, 3, 1, 6], "{name}");
    }
}

#[test]
fn with_symbols_a_hypervisors_file_gives_the_same_minidump_as_a_full_dump() {
    for (name, options) in full_machines() {
        let mut case = Case::new(&options);
        add_bitmap(&mut case, &options, options.version == 1);
        let cpu = VirtualCpu {
            cs: 0x43,
            rip: 0,
            cr3: 0x1000,
            cr4: 0,
        };
        std::fs::write(case.path("qemu"), qemu_file(case.full(), &[cpu])).unwrap();
        let one = case.convert("vmcore.0", TargetFormat::Minidump, "one");
        let two = case.convert("qemu", TargetFormat::Minidump, "two");
        assert_eq!((one.pages, one.choice), (two.pages, two.choice), "{name}");
        let (one, two) = (case.path("one"), case.path("two"));
        let (mut one, mut two) = (std::fs::read(one).unwrap(), std::fs::read(two).unwrap());
        for file in [&mut one, &mut two] {
            let locator = Locator::parse(file.last_chunk().unwrap()).unwrap();
            file.truncate(usize::try_from(locator.offset.0).unwrap());
            file[1024..1024 + 192].fill(0);
        }
        assert!(
            one == two,
            "{name}: outside identity and extension they are equal"
        );
    }
}

#[test]
fn a_full_dump_of_a_hypervisors_file_is_what_the_kernel_would_have_written() {
    for (name, options) in full_machines() {
        let mut case = Case::new(&options);
        add_bitmap(&mut case, &options, options.version == 1);
        let cpu = VirtualCpu {
            cs: 0x20,
            rip: 0,
            cr3: 0,
            cr4: 0,
        };
        std::fs::write(case.path("qemu"), qemu_file(case.full(), &[cpu])).unwrap();
        let done = case.convert("qemu", TargetFormat::Full, "full");
        assert_eq!(
            (done.missing_pages, done.damage, done.choice),
            (0, 0, None),
            "{name}"
        );
        let mut expected = case.full().clone();
        if options.arch == Arch::Amd64 && expected.delta.is_none() {
            expected.delta = Some(vmcore_synth::elf::Delta {
                p_vaddr: 0xffff_ffff_8000_0000,
                p_paddr: 0x20_0000 + options.load_offset,
                p_align: 0x20_0000,
            });
        }
        let expected = expected.build();
        let mut found = std::fs::read(case.path("full")).unwrap();
        found.truncate(expected.len());
        found[1024..1024 + 192].fill(0);
        assert!(found == expected, "{name}");
        assert_eq!(extension(&case.path("full")).0.origin, Origin::Hypervisor);
        // What is not known to be RAM is kept, too, if no kernel file says so.
        let bare = open(&case.path("qemu"), KernelChoice::None).unwrap();
        let all = convert(&bare, TargetFormat::Full, &case.path("all")).unwrap();
        assert_eq!(all.pages, done.pages + 2, "{name}");
    }
}
