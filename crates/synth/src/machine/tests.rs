//! Every machine against its own truth, read with nothing but offsets.

use super::*;
use crate::bytes::{index, word};
use crate::machines;
use std::collections::{BTreeMap, BTreeSet};

/// A dump whose addresses are found in the truth's list of pages.
struct Reader {
    machine: Machine,
    file: Vec<u8>,
    page_size: u64,
    word_bytes: u64,
    /// File offset of each page by each of its addresses.
    offsets: BTreeMap<u64, u64>,
}

impl Reader {
    fn new(options: &Options) -> Self {
        let machine = Machine::new(options);
        let mut offsets = BTreeMap::new();
        let stored: BTreeMap<u64, u64> = match &machine.dump {
            DumpFile::Mini(dump) => dump.offsets().into_iter().collect(),
            dump => {
                let pas = machine.truth.pages.iter().map(|page| page.pa);
                pas.map(|pa| (pa, dump.offset_of(pa).unwrap())).collect()
            }
        };
        for page in &machine.truth.pages {
            let offset = stored[&page.pa];
            for va in page.kernel_map.iter().chain(&page.direct_map) {
                assert_eq!(offsets.insert(*va, offset), None, "{va:#x} twice");
            }
            if let Some(segment) = machine.truth.segment {
                offsets.insert(segment.base + page.pa - segment.phys, offset);
            }
        }
        let file = machine.dump.build();
        let word_bytes = options.arch.word_bytes();
        Self {
            machine,
            file,
            page_size: options.page_size,
            word_bytes,
            offsets,
        }
    }

    fn number(&self, va: u64, width: u64) -> u64 {
        let mut raw = self.read(va, index(width));
        if self.machine.kernel.arch.is_big_endian() {
            raw.reverse();
        }
        word(&raw, 0, width)
    }

    fn read(&self, va: u64, len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let at = va + bytes.len() as u64;
            let inside = at % self.page_size;
            let offset = self
                .offsets
                .get(&(at - inside))
                .unwrap_or_else(|| panic!("{at:#x} is absent"));
            let n = (len - bytes.len()).min(index(self.page_size - inside));
            let start = index(offset + inside);
            bytes.extend_from_slice(&self.file[start..start + n]);
        }
        bytes
    }

    fn pointer(&self, va: u64) -> u64 {
        self.number(va, self.word_bytes)
    }

    fn int(&self, va: u64) -> u64 {
        self.number(va, 4)
    }

    fn text(&self, va: u64) -> String {
        let bytes = self.read(va, 20);
        String::from_utf8(bytes.split(|byte| *byte == 0).next().unwrap().to_vec()).unwrap()
    }

    fn symbol(&self, name: &str) -> u64 {
        self.machine
            .kernel
            .running_address_of(name)
            .unwrap_or_else(|| panic!("no {name}"))
    }

    fn constant(&self, name: &str) -> u64 {
        self.int(self.symbol(name))
    }

    /// Addresses along a list.
    fn list(&self, head: u64, link: u64) -> Vec<u64> {
        let mut found = Vec::new();
        let mut next = self.pointer(head);
        while next != 0 {
            found.push(next);
            next = self.pointer(next + link);
        }
        found
    }
}

fn readers() -> impl Iterator<Item = (String, Options, Reader)> {
    machines::all().into_iter().map(|(name, options)| {
        let reader = Reader::new(&options);
        (name, options, reader)
    })
}

#[test]
fn every_value_is_found_at_its_address() {
    for (name, _, reader) in readers() {
        assert!(reader.machine.truth.values.len() > 20);
        for (va, value) in &reader.machine.truth.values {
            assert_eq!(reader.read(*va, value.len()), *value, "{name}: {va:#x}");
        }
    }
}

#[test]
fn processes_and_threads_are_found_by_walking_their_lists() {
    for (name, options, reader) in readers() {
        let truth = &reader.machine.truth;
        let mut found = reader.list(reader.symbol("allproc"), reader.constant("proc_off_p_list"));
        if let Some(zombies) = reader.machine.kernel.running_address_of("zombproc") {
            found.extend(reader.list(zombies, 0));
        } else {
            let (table, mask) = (
                reader.pointer(reader.symbol("pidhashtbl")),
                reader.pointer(reader.symbol("pidhash")),
            );
            for slot in 0..=mask {
                let chain = reader.list(
                    table + slot * reader.word_bytes,
                    reader.constant("proc_off_p_hash"),
                );
                found.extend(
                    chain
                        .into_iter()
                        .filter(|at| !found.contains(at))
                        .collect::<Vec<_>>(),
                );
            }
        }
        let told: Vec<u64> = truth
            .processes
            .iter()
            .map(|process| process.address)
            .collect();
        assert_eq!(found, told, "{name}");
        for process in &truth.processes {
            assert_eq!(
                reader.text(process.address + reader.constant("proc_off_p_comm")),
                process.comm
            );
            let pid = reader.int(process.address + reader.constant("proc_off_p_pid"));
            assert_eq!(pid, u64::from(process.pid.cast_unsigned()));
            let head = process.address + reader.constant("proc_off_p_threads");
            let threads = reader.list(head, reader.constant("thread_off_td_plist"));
            assert_eq!(threads.len(), process.threads.len());
            for (address, thread) in threads.iter().zip(&process.threads) {
                assert_eq!(*address, thread.address);
                assert_eq!(
                    reader.text(address + reader.constant("thread_off_td_name")),
                    thread.name
                );
                let tid = reader.int(address + reader.constant("thread_off_td_tid"));
                assert_eq!(tid, u64::from(thread.tid.cast_unsigned()));
                check_pcb(&reader, options.arch, thread);
            }
        }
        assert_eq!(
            reader.int(reader.symbol("dumptid")),
            u64::from(truth.crashed_tid.cast_unsigned())
        );
    }
}

/// The PCB's place and contents, by the rules for which one counts.
fn check_pcb(reader: &Reader, arch: Arch, thread: &Thread) {
    let pcb_size = reader.constant("pcb_size");
    let td_pcb = reader.pointer(thread.address + reader.constant("thread_off_td_pcb"));
    let stoppcbs = reader.symbol("stoppcbs");
    let symbol = reader
        .machine
        .kernel
        .symbols
        .iter()
        .find(|symbol| symbol.name == "stoppcbs")
        .unwrap();
    let stoppcbs = if symbol.size == reader.word_bytes {
        reader.pointer(stoppcbs)
    } else {
        stoppcbs
    };
    let stopped = reader.pointer(reader.symbol("stopped_cpus"));
    let expected = match (thread.pcb, thread.cpu) {
        (Pcb::Dumppcb, Some(cpu)) => {
            assert_eq!(stopped >> cpu & 1, 0);
            reader.symbol("dumppcb")
        }
        (Pcb::Stoppcbs, Some(cpu)) => {
            assert_eq!(stopped >> cpu & 1, 1);
            stoppcbs + u64::from(cpu) * pcb_size
        }
        (Pcb::Stale, Some(cpu)) => {
            assert_eq!(stopped >> cpu & 1, 0);
            td_pcb
        }
        (Pcb::TdPcb, None) => td_pcb,
        other => panic!("{other:?}"),
    };
    assert_eq!(thread.pcb_address, expected);
    if let Some(cpu) = thread.cpu {
        let pcpu =
            reader.pointer(reader.symbol("cpuid_to_pcpu") + u64::from(cpu) * reader.word_bytes);
        assert_eq!(reader.pointer(pcpu), thread.address);
    }
    if !arch.has_known_pcb() {
        return;
    }
    let (pc, sp, fp) = match (arch, pcb_size) {
        (Arch::Amd64, _) => (56, 40, 32),
        (Arch::I386, _) => (20, 12, 8),
        (Arch::Arm64, 0x560) => (240, 256, 232),
        (Arch::Arm64, _) => (88, 96, 80),
        (Arch::Riscv64, _) => (0, 8, 32),
        (Arch::Powerpc, _) => (92, 84, 76),
        (Arch::Powerpc64 | Arch::Powerpc64le, _) => (184, 168, 152),
        _ => (44, 36, 28),
    };
    assert_eq!(reader.pointer(expected + pc), thread.pc);
    assert_eq!(reader.pointer(expected + sp), thread.sp);
    assert_eq!(reader.pointer(expected + fp), thread.fp);
    check_frames(reader, arch, thread);
}

/// The frames, by following frame pointers as far as they lead into the kernel.
fn check_frames(reader: &Reader, arch: Arch, thread: &Thread) {
    let width = reader.word_bytes;
    if matches!(arch, Arch::Amd64 | Arch::I386) && thread.frames.len() > 1 {
        assert_eq!(reader.pointer(thread.sp), thread.pc);
    }
    let mut frames = vec![thread.pc];
    if matches!(arch, Arch::Armv7 | Arch::Armeb) && thread.frames.len() > 1 && thread.fp != 0 {
        // The link register leads out of the routine that saved the registers.
        frames.push(reader.pointer(thread.pcb_address + 40));
    }
    if arch.is_powerpc() && thread.fp != 0 {
        let return_at = if width == 8 { 16 } else { 4 };
        let mut sp = reader.pointer(thread.sp);
        while sp != 0 && sp != 0x7fff_e9f0 {
            frames.push(reader.pointer(sp + return_at));
            sp = reader.pointer(sp);
        }
    }
    let mut fp = if arch.is_powerpc() { 0 } else { thread.fp };
    while fp != 0 && fp != 0x7fff_e9f0 {
        assert!(fp > thread.sp);
        let (next_at, return_at) = if arch == Arch::Riscv64 {
            (fp - 16, fp - 8)
        } else {
            (fp, fp + width)
        };
        frames.push(reader.pointer(return_at));
        fp = reader.pointer(next_at);
    }
    assert_eq!(frames, thread.frames);
    for pc in frames {
        let linked = pc.wrapping_sub(reader.machine.kernel.displacement);
        let holds =
            |symbol: &&crate::elf::Symbol| linked.wrapping_sub(symbol.address) < symbol.size;
        let symbol = reader.machine.kernel.symbols.iter().find(holds);
        assert!(symbol.is_some_and(|symbol| symbol.is_function), "{pc:#x}");
    }
}

#[test]
fn the_log_is_in_the_ring_that_msgbufp_names() {
    for (name, options, reader) in readers() {
        let control = reader.pointer(reader.symbol("msgbufp"));
        let w = reader.word_bytes;
        assert_eq!(reader.int(control + w), 0x0006_3062);
        let (ring_at, size) = (reader.pointer(control), reader.int(control + w + 4));
        assert_eq!(ring_at + size, control);
        let ring = reader.read(ring_at, index(size));
        let start = index(reader.int(control + w + 8) % size);
        let log: Vec<u8> = ring[start..]
            .iter()
            .chain(&ring[..start])
            .copied()
            .filter(|byte| *byte != 0)
            .collect();
        assert_eq!(log, reader.machine.truth.log, "{name}");
        assert_eq!(log.len() == ring.len(), options.log_repeats > 1);
        if let DumpFile::Mini(dump) = &reader.machine.dump {
            assert_eq!(dump.msgbuf, ring);
        }
        assert!(log.ends_with(b"Uptime: 41d2h3m4s\n"));
        assert_eq!(
            log.iter().filter(|byte| **byte == 0x1b).count() > 0,
            log.len() > 1000
        );
    }
}

#[test]
fn minidumps_are_as_long_as_their_bits_say() {
    for (name, options, reader) in readers() {
        let DumpFile::Mini(dump) = &reader.machine.dump else {
            continue;
        };
        let bits: u64 = dump
            .bitmap_bytes()
            .iter()
            .map(|byte| u64::from(byte.count_ones()))
            .sum();
        assert_eq!(bits, reader.machine.truth.pages.len() as u64, "{name}");
        assert_eq!(
            reader.file.len() as u64,
            dump.sections().pages + bits * options.page_size,
            "{name}"
        );
        assert_eq!(reader.machine.header.dumplength, reader.file.len() as u64);
    }
}

/// Virtual to physical as the format says it, written once more for this test.
fn translate(dump: &Minidump, file: &[u8], va: u64, is_n32: bool) -> Option<u64> {
    let in_direct_map = (dump.dmapbase..dump.dmapend).contains(&va);
    if in_direct_map && dump.arch != Arch::Amd64 {
        return Some(va - dump.dmapbase + dump.dmapphys);
    }
    if matches!(dump.arch, Arch::Mips64 | Arch::Mips64el) && va >= 0xffff_ffff_8000_0000 {
        return Some(va & 0x1fff_ffff);
    }
    if va < dump.kernbase {
        return in_direct_map.then(|| va - dump.dmapbase);
    }
    let entry = |shift: u32, width: u64| {
        let number = (va - dump.kernbase) >> shift;
        let is_there = (number + 1) * width <= dump.page_tables.len() as u64;
        is_there.then(|| word(&dump.page_tables, number * width, width))
    };
    let frame = 0x000f_ffff_ffff_f000;
    match (dump.arch, dump.version) {
        (Arch::Amd64, 2..) => {
            let pde = entry(21, 8).filter(|pde| pde & 1 == 1)?;
            if pde & 0x80 != 0 {
                return Some((pde & 0x000f_ffff_ffe0_0000) + va % (2 << 20));
            }
            let pte = word(file, dump.offset_of(pde & frame)? + 8 * (va >> 12 & 511), 8);
            (pte & 1 == 1).then(|| (pte & frame) + va % 4096)
        }
        (Arch::Amd64, _) => entry(12, 8)
            .filter(|pte| pte & 1 == 1)
            .map(|pte| (pte & frame) + va % 4096),
        (Arch::I386, _) => {
            let width = if dump.paemode == 0 { 4 } else { 8 };
            entry(12, width)
                .filter(|pte| pte & 1 == 1)
                .map(|pte| (pte & frame) + va % 4096)
        }
        (Arch::Arm64, _) => {
            let shift = if dump.page_size == 16384 { 14 } else { 12 };
            let valid = entry(shift, 8).filter(|descriptor| descriptor & 3 == 3)?;
            Some((valid & 0x0000_ffff_ffff_f000) + va % dump.page_size)
        }
        (Arch::Riscv64, _) => {
            let valid = entry(12, 8).filter(|pte| pte & 1 == 1 && pte & 0xe != 0)?;
            Some((valid >> 10 << 12) + va % 4096)
        }
        (arch, _) if arch.is_mips() => {
            let is_wide = is_n32 || !arch.is_32_bit();
            let (width, frame) = if is_wide {
                (8, 0x3_ffff_ffc0)
            } else {
                (4, 0x1fff_ffc0)
            };
            let raw = entry(12, width)?;
            let raw = match (arch.is_big_endian(), is_wide) {
                (true, true) => raw.swap_bytes(),
                (true, false) => raw.swap_bytes() >> 32,
                (false, _) => raw,
            };
            (raw & 2 == 2).then_some(((raw & frame) << 6) + va % 4096)
        }
        (arch, _) => {
            let raw = entry(12, 4)?;
            let raw = match arch.is_big_endian() {
                true => raw.swap_bytes() >> 32,
                false => raw,
            };
            (raw & 2 == 2).then_some((raw & 0xffff_f000) + va % 4096)
        }
    }
}

#[test]
fn minidumps_translate_every_address_as_their_truth_says() {
    for (name, options) in machines::all() {
        // What powerpc64 has instead of an array of entries has its own tests.
        let is_array = !options.arch.is_powerpc();
        if options.kind == DumpKind::Full || options.shape == Shape::Real || !is_array {
            continue;
        }
        let reader = Reader::new(&options);
        let DumpFile::Mini(dump) = &reader.machine.dump else {
            continue;
        };
        let truth = &reader.machine.truth;
        for page in &truth.pages {
            for va in page.kernel_map.iter().chain(&page.direct_map) {
                assert_eq!(
                    translate(dump, &reader.file, va + 5, options.n32),
                    Some(page.pa + 5),
                    "{name}: {va:#x}"
                );
            }
        }
        for (va, pa) in &truth.absent {
            assert_eq!(
                translate(dump, &reader.file, *va, options.n32),
                Some(*pa),
                "{name}: {va:#x}"
            );
            assert_eq!(dump.offset_of(*pa), None, "{name}: {pa:#x}");
        }
        for va in &truth.unmapped {
            assert_eq!(
                translate(dump, &reader.file, *va, options.n32),
                None,
                "{name}: {va:#x}"
            );
        }
        let tables: BTreeSet<u64> = truth.pages.iter().map(|page| page.pa).collect();
        assert!(truth.table_pages.iter().all(|pa| tables.contains(pa)));
        let has_tables = options.arch == Arch::Amd64 && options.version >= 2;
        assert_eq!(!truth.table_pages.is_empty(), has_tables, "{name}");
    }
}

#[test]
fn full_dumps_have_a_root_where_their_symbols_say() {
    for (name, options, reader) in readers() {
        let DumpFile::Full(dump) = &reader.machine.dump else {
            continue;
        };
        let at = |pa: u64, width: u64| word(&reader.file, dump.offset_of(pa).unwrap(), width);
        let kernbase = reader.symbol("kernbase");
        let frame = 0x000f_ffff_ffff_f000;
        if dump.is_virtual {
            continue;
        }
        let image = reader.machine.kernel.base;
        let image_pa = reader
            .machine
            .truth
            .pages
            .iter()
            .find(|page| page.kernel_map.contains(&image));
        let image_pa = image_pa.unwrap().pa;
        match options.arch {
            Arch::Amd64 => {
                let delta = dump.delta.map_or(0, |delta| delta.p_paddr - delta.p_align);
                let root = at(reader.symbol("KPML4phys") - kernbase + delta, 8);
                let pml4e = at(root + 8 * 511, 8);
                let pdpe = at((pml4e & frame) + 8 * 510, 8);
                let pde = at((pdpe & frame) + 8, 8);
                assert_eq!(pde & 0x000f_ffff_ffe0_0081, image_pa | 0x81, "{name}");
                let five = at(reader.symbol("KPML5phys") - kernbase + delta, 8);
                assert_eq!(five != 0, options.la57);
                if options.la57 {
                    assert_eq!(at(five + 8 * 511, 8) & frame, root);
                    let direct = at(five + 8 * 257, 8) & frame;
                    assert_eq!(at(at(direct, 8) & frame, 8) & 0x81, 0x81);
                } else {
                    assert_eq!(at(root + 8 * 256, 8) & frame, root);
                }
            }
            _ => {
                let is_old = kernbase == 0xc000_0000;
                let phys = |va: u64| if is_old { va - kernbase } else { va };
                let name = match (options.pae, is_old) {
                    (true, _) => "IdlePDPT",
                    (false, true) => "IdlePTD",
                    (false, false) => "IdlePTD_nopae",
                };
                let root = at(phys(reader.symbol(name)), 4);
                let pde = if options.pae {
                    let pdpe = at(root + 8 * (image >> 30), 8);
                    at((pdpe & frame) + 8 * (image >> 21 & 511), 8)
                } else {
                    at(root + 4 * (image >> 22), 4)
                };
                assert_eq!(pde & 0xffe0_0081, image_pa | 0x81, "{name}");
            }
        }
    }
}

#[test]
fn the_image_in_memory_starts_as_the_kernel_file() {
    for (name, _, reader) in readers() {
        let file = reader.machine.kernel.build();
        let kernel = &reader.machine.kernel;
        if kernel.arch == Arch::Powerpc {
            // Its dumps start after the code.
            continue;
        }
        let headers = reader.read(kernel.base.wrapping_add(kernel.displacement), 0x200);
        assert_eq!(headers, file[..0x200], "{name}");
        let id = &reader.machine.truth.build_id;
        assert!(headers.windows(id.len()).any(|window| window == &id[..]));
    }
}

#[test]
fn the_same_machine_comes_out_every_time() {
    let options = Options::new(Arch::Amd64, 3);
    assert_eq!(
        Machine::new(&options).dump.build(),
        Machine::new(&options).dump.build()
    );
}
