//! Call frame information that makes stock gdb see through trap frames.
//!
//! A small ELF file with `.debug_frame`, to be loaded with `add-symbol-file`: for each exception
//! entry a description that finds every register in the trap frame, marked as a signal frame; where
//! threads start, the end of the stack. Code between them is described by frame pointers if the kernel
//! file describes none.
//!
//! It is to be loaded before the kernel file, for gdb takes the first description that it finds: on
//! arm64 that file says of its entries what is true of functions without a frame.

use crate::arch::{Chain, Entries, Machine};
use crate::target::Target;
use crate::unwind::{Code as _, THREAD_STARTS};
use std::collections::BTreeMap;
use vmcore_format::addr::VirtAddr;

/// What the instructions behind a label are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    /// They stand above a trap frame.
    Entry,
    /// Nothing called them.
    ThreadStart,
}

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
    let kind = |name: &[u8]| match str::from_utf8(name) {
        Ok(name) if THREAD_STARTS.contains(&name) => Kind::ThreadStart,
        Ok(name) if (entries.is_entry)(name) => Kind::Entry,
        _ => Kind::Code,
    };
    // Where each label ends: at the next one.
    let mut labels = BTreeMap::new();
    for symbol in target.symbols.iter() {
        if text.contains(&symbol.address.0) {
            let known = labels.entry(symbol.address.0).or_insert(Kind::Code);
            if *known == Kind::Code {
                *known = kind(symbol.name);
            }
        }
    }
    let starts: Vec<(u64, Kind)> = labels.into_iter().collect();
    let mut described: Vec<(u64, u64, Kind)> = Vec::new();
    let has_own = target
        .call_frames(VirtAddr(text.start))
        .is_some_and(|frames| !frames.is_empty());
    for (position, (start, kind)) in starts.iter().enumerate() {
        let next = starts.get(position + 1);
        let mut end = next.map_or(text.end, |(next, _)| *next);
        let mut start = *start;
        match described.last_mut() {
            Some((_, last_end, Kind::Code)) if *kind == Kind::Code => {
                *last_end = end;
                continue;
            }
            Some((_, last_end, Kind::Entry)) => start = start.max(*last_end),
            _ => {}
        }
        if *kind == Kind::Entry && next.is_some_and(|(_, next)| *next != Kind::Entry) {
            // Signal frames are looked up by the return address itself, which stands behind the
            // call: on the next label, if the call is the last instruction.
            end += 1;
        }
        if *kind != Kind::Code || !has_own {
            described.push((start, end, *kind));
        }
    }
    described
        .iter()
        .any(|(_, _, kind)| *kind == Kind::Entry)
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

/// `.debug_frame` for these ranges: start, end, what is there.
fn debug_frame(machine: &Machine, entries: &Entries, ranges: &[(u64, u64, Kind)]) -> Vec<u8> {
    const UNDEFINED: u8 = 0x07;
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
    let outermost = u32::try_from(section.len()).unwrap_or(0);
    common(
        &mut section,
        machine.pc,
        b"",
        &[DEF_CFA, number(machine.sp), 0, UNDEFINED, pc],
    );
    for (start, end, kind) in ranges {
        let common = match kind {
            Kind::Code => 0,
            Kind::Entry => signal,
            Kind::ThreadStart => outermost,
        };
        let mut body = common.to_le_bytes().to_vec();
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
            let ranges = [
                (0x1000, 0x1100, Kind::Entry),
                (0x1100, 0x1110, Kind::ThreadStart),
            ];
            let bytes = debug_frame(machine, entries, &ranges);
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
            let pc = Register(u16::from(number(machine.pc)));
            let outermost = section
                .unwind_info_for_address(&bases, &mut context, 0x1105, DebugFrame::cie_from_offset)
                .unwrap();
            let found = outermost.register(pc);
            assert_eq!(found, Some(RegisterRule::Undefined), "{arch}");
        }
    }
}
