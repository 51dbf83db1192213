//! Call frame information that makes stock gdb see through trap frames.
//!
//! A small ELF file with `.debug_frame`, to be loaded with `add-symbol-file`: for each exception
//! entry a description that finds every register in the trap frame, marked as a signal frame. Code
//! between them is described by frame pointers if the kernel file describes none.
//!
//! It is to be loaded before the kernel file, for gdb takes the first description that it finds: on
//! arm64 that file says of its entries what is true of functions without a frame.

use crate::arch::{Chain, Entries, Machine};
use crate::target::Target;
use crate::unwind::Code as _;
use std::collections::BTreeMap;
use vmcore_format::addr::VirtAddr;

/// The file; `None` for architectures whose gdb needs none or knows no way, and for kernels whose
/// file has no symbols of code.
#[must_use]
pub fn for_gdb(target: &Target<'_>) -> Option<Vec<u8>> {
    let machine = target.machine();
    let entries = (machine.gdb.entries?)((machine.has_old_trap_frames)(target));
    let text = target
        .text()
        .iter()
        .max_by_key(|range| range.end - range.start)?;
    let is_entry = |name: &[u8]| str::from_utf8(name).is_ok_and(entries.is_entry);
    // Where each label ends: at the next one.
    let mut labels = BTreeMap::new();
    for symbol in target.symbols.iter() {
        if text.contains(&symbol.address.0) {
            *labels.entry(symbol.address.0).or_insert(false) |= is_entry(symbol.name);
        }
    }
    let starts: Vec<(u64, bool)> = labels.into_iter().collect();
    let mut described: Vec<(u64, u64, bool)> = Vec::new();
    let has_own = target
        .call_frames(VirtAddr(text.start))
        .is_some_and(|frames| !frames.is_empty());
    for (position, (start, is_entry)) in starts.iter().enumerate() {
        let (mut end, next_is_entry) = starts
            .get(position + 1)
            .map_or((text.end, true), |(next, is_entry)| (*next, *is_entry));
        let mut start = *start;
        match described.last_mut() {
            Some((_, last_end, false)) if !is_entry => {
                *last_end = end;
                continue;
            }
            Some((_, last_end, true)) => start = start.max(*last_end),
            _ => {}
        }
        if *is_entry && !next_is_entry {
            // Signal frames are looked up by the return address itself, which stands behind the
            // call: on the next label, if the call is the last instruction.
            end += 1;
        }
        if *is_entry || !has_own {
            described.push((start, end, *is_entry));
        }
    }
    described
        .iter()
        .any(|(_, _, is_entry)| *is_entry)
        .then(|| elf(machine, &debug_frame(machine, entries, &described)))
}

fn uleb(bytes: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

/// An entry with its length in front, padded to words.
fn entry(section: &mut Vec<u8>, mut body: Vec<u8>) {
    while !(body.len() + 4).is_multiple_of(8) {
        body.push(0); // DW_CFA_nop
    }
    let len = u32::try_from(body.len()).unwrap_or(0);
    section.extend(len.to_le_bytes());
    section.extend(body);
}

/// A register's number as instructions hold it.
fn number(register: usize) -> u8 {
    u8::try_from(register).unwrap_or(0)
}

/// A common part: data alignment −8, return address in the program counter.
fn common(section: &mut Vec<u8>, pc: usize, augmentation: &[u8], instructions: &[u8]) {
    let mut body = vec![0xff; 4];
    body.push(1); // version
    body.extend(augmentation);
    body.push(0);
    body.extend([1, 0x78, number(pc)]);
    body.extend(instructions);
    entry(section, body);
}

/// `.debug_frame` for these ranges: start, end, whether it is an entry.
fn debug_frame(machine: &Machine, entries: &Entries, ranges: &[(u64, u64, bool)]) -> Vec<u8> {
    const DEF_CFA: u8 = 0x0c;
    const OFFSET: u8 = 0x80;
    let mut section = Vec::new();
    let (pc, fp) = (number(machine.pc), number(machine.fp));
    // By frame pointer: pc at CFA − 8, fp at CFA − 16.
    let above = match machine.chain {
        Chain::RecordBelow => 0,
        _ => 16,
    };
    common(
        &mut section,
        machine.pc,
        b"",
        &[DEF_CFA, fp, above, OFFSET | pc, 1, OFFSET | fp, 2],
    );
    let signal = u32::try_from(section.len()).unwrap_or(0);
    // By trap frame: CFA is its end; every register below it.
    let (register, above) = entries.end;
    let mut instructions = vec![DEF_CFA, number(register)];
    uleb(&mut instructions, above as u64);
    for (register, offset) in entries.fields {
        instructions.push(OFFSET | number(*register));
        uleb(&mut instructions, ((entries.len_bytes - offset) / 8) as u64);
    }
    common(&mut section, machine.pc, b"S", &instructions);
    for (start, end, is_entry) in ranges {
        let mut body = if *is_entry { signal } else { 0 }.to_le_bytes().to_vec();
        body.extend(start.to_le_bytes());
        body.extend((end - start).to_le_bytes());
        entry(&mut section, body);
    }
    section
}

/// An ELF file with an empty `.text`, so that gdb sees no overlap with the kernel, and `.debug_frame`.
fn elf(machine: &Machine, frames: &[u8]) -> Vec<u8> {
    const HEADER_LEN: usize = 64;
    const NAMES: &[u8] = b"\0.text\0.debug_frame\0.shstrtab\0";
    let mut file = vec![0; HEADER_LEN];
    let frames_at = file.len() as u64;
    file.extend(frames);
    let names_at = file.len() as u64;
    file.extend(NAMES);
    file.resize(file.len().next_multiple_of(8), 0);
    let headers_at = file.len() as u64;
    // name, type, flags, address, offset, size
    let sections: [[u64; 6]; 4] = [
        [0; 6],
        [1, 8, 6, 0, 0, 0],
        [7, 1, 0, 0, frames_at, frames.len() as u64],
        [20, 3, 0, 0, names_at, NAMES.len() as u64],
    ];
    for [name, kind, flags, address, offset, size] in sections {
        for narrow in [name, kind] {
            file.extend(u32::try_from(narrow).unwrap_or(0).to_le_bytes());
        }
        for wide in [flags, address, offset, size] {
            file.extend(wide.to_le_bytes());
        }
        file.extend([0; 8]); // link, info
        file.extend(1_u64.to_le_bytes()); // alignment
        file.extend([0; 8]); // size of an entry
    }
    let mut header = Vec::with_capacity(HEADER_LEN);
    header.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    header.extend(2_u16.to_le_bytes()); // executable
    header.extend(machine.arch.elf_machine().to_le_bytes());
    header.extend(1_u32.to_le_bytes());
    header.extend([0; 16]); // entry, program headers
    header.extend(headers_at.to_le_bytes());
    header.extend([0; 4]); // flags
    for field in [64_u16, 56, 0, 64, 4, 3] {
        header.extend(field.to_le_bytes());
    }
    if let Some(start) = file.get_mut(..HEADER_LEN) {
        start.copy_from_slice(&header);
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use gimli::{
        BaseAddresses, CfaRule, DebugFrame, LittleEndian, Register, RegisterRule, UnwindContext,
        UnwindSection as _,
    };
    use vmcore_format::arch::Arch;

    #[test]
    fn trap_frames_are_where_each_architecture_leaves_them() {
        for (arch, old, entry, cfa, (register, offset)) in [
            (Arch::Amd64, false, "calltrap", (7, 192), (3, 56 - 192)),
            (
                Arch::Arm64,
                false,
                "handle_el1h_sync",
                (29, 0),
                (19, 200 - 288),
            ),
            (
                Arch::Arm64,
                true,
                "handle_el1h_irq",
                (29, 0),
                (19, 184 - 272),
            ),
            (
                Arch::Riscv64,
                false,
                "cpu_exception_handler_user",
                (2, 280),
                (8, 88 - 280),
            ),
        ] {
            let machine = Machine::of(arch);
            let entries = (machine.gdb.entries.unwrap())(old);
            assert!((entries.is_entry)(entry), "{entry}");
            let bytes = debug_frame(machine, entries, &[(0x1000, 0x1100, true)]);
            let mut section = DebugFrame::new(&bytes, LittleEndian);
            section.set_address_size(8);
            let bases = BaseAddresses::default();
            let entry = section
                .fde_for_address(&bases, 0x1010, DebugFrame::cie_from_offset)
                .unwrap();
            assert!(entry.is_signal_trampoline());
            let mut context = UnwindContext::new();
            let row = entry
                .unwind_info_for_address(&section, &bases, &mut context, 0x1010)
                .unwrap();
            let expected = CfaRule::RegisterAndOffset {
                register: Register(cfa.0),
                offset: cfa.1,
            };
            assert_eq!(*row.cfa(), expected, "{arch}");
            let found = row.register(Register(register));
            assert_eq!(found, Some(RegisterRule::Offset(offset)), "{arch}");
        }
    }
}
