//! Call frame information that makes stock gdb see through trap frames.
//!
//! A small ELF file with `.debug_frame`, to be loaded with `add-symbol-file`: for each exception
//! entry a description that finds every register in the trap frame, marked as a signal frame; where
//! threads start, the end of the stack; for routines that save registers, their caller. Code between
//! them is described by frame pointers if the kernel file describes none. Where entries run from a copy
//! of what was linked, the copy is described too, and has its symbols here.
//!
//! It is to be loaded before the kernel file, for gdb takes the first description that it finds: on
//! arm64 that file says of its entries what is true of functions without a frame.

use super::frames_elf::{self, Bytes};
use crate::arch::machine::{Chain, Entries, Machine, TrapFrameEnd};
use crate::target::Target;
use crate::unwind::{Code as _, THREAD_STARTS, Unwinder};
use std::collections::BTreeMap;
use std::ops::Range;
use vmcore_format::addr::VirtAddr;

/// What the instructions behind a label are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FrameKind {
    Code,
    /// They stand above a trap frame: which of the architecture's kinds of entries.
    Entry(usize),
    /// They save registers, and have no frame.
    Saving,
    /// Nothing called them.
    ThreadStart,
}

/// Routines that save registers, where the program counter that they save is their own.
const SAVING: [&str; 2] = ["cpu_switch", "savectx"];

/// The file; `None` for architectures whose gdb needs none or knows no way, and for kernels whose
/// file has no symbols of code.
#[must_use]
pub fn for_gdb(target: &Target<'_>) -> Option<Vec<u8>> {
    let machine = target.machine();
    let entries = (machine.gdb.entries)(target.has_old_trap_frames());
    let text = target
        .text()
        .iter()
        .max_by_key(|range| range.end - range.start)?;
    let kind = |name: &[u8]| match str::from_utf8(name) {
        Ok(name) if THREAD_STARTS.contains(&name) => FrameKind::ThreadStart,
        Ok(name) if machine.saves_in_routine && SAVING.contains(&name) => FrameKind::Saving,
        Ok(name) => entries
            .iter()
            .position(|entries| (entries.is_entry)(name))
            .map_or(FrameKind::Code, FrameKind::Entry),
        _ => FrameKind::Code,
    };
    // Where each label ends: at the next one.
    let mut labels = BTreeMap::new();
    for symbol in target.symbols.iter() {
        if text.contains(&symbol.address.0) {
            let known = labels.entry(symbol.address.0).or_insert(FrameKind::Code);
            if *known == FrameKind::Code {
                *known = kind(symbol.name);
            }
        }
    }
    let has_own = target
        .call_frames(VirtAddr(text.start))
        .is_some_and(|frames| !frames.is_empty());
    let mut described = ranges(&labels, text.end);
    if !described.iter().any(|(_, kind)| *kind != FrameKind::Code) {
        return None;
    }
    let unwinder = target.unwinder();
    let copied = |(range, kind): &(Range<u64>, FrameKind)| {
        let start = unwinder.copy_of(VirtAddr(range.start))?.0;
        let end = start.checked_add(range.end - range.start)?;
        (end <= machine.arch.va_max()).then_some((start..end, *kind))
    };
    let copies: Vec<_> = described.iter().filter_map(copied).collect();
    described.retain(|(_, kind)| !(has_own && *kind == FrameKind::Code));
    described.extend(copies);
    let bytes = Bytes::new(machine.arch.word(), target.space.endian());
    let symbols = copied_symbols(target, &unwinder);
    let frames = debug_frame(machine, bytes, entries, &described);
    Some(frames_elf::file(machine.arch, bytes, &frames, &symbols))
}

/// The symbols of the copy that entries run from: name and address.
fn copied_symbols(target: &Target<'_>, unwinder: &Unwinder<'_>) -> Vec<(Vec<u8>, u64)> {
    let is_text = |at: u64| target.text().iter().any(|range| range.contains(&at));
    let symbols = target.symbols.iter();
    symbols
        .filter(|symbol| is_text(symbol.address.0))
        .filter_map(|symbol| Some((symbol.name.to_vec(), unwinder.copy_of(symbol.address)?.0)))
        .collect()
}

/// What is from each label to the next; code that is not interrupted by anything else is one range.
fn ranges(labels: &BTreeMap<u64, FrameKind>, text_end: u64) -> Vec<(Range<u64>, FrameKind)> {
    let mut described: Vec<(Range<u64>, FrameKind)> = Vec::new();
    let nexts = labels.iter().skip(1).map(Some).chain([None]);
    for ((start, kind), next) in labels.iter().zip(nexts) {
        let mut end = next.map_or(text_end, |(next, _)| *next);
        let mut start = *start;
        let is_entry = |kind: FrameKind| matches!(kind, FrameKind::Entry(_));
        match described.last_mut() {
            Some((last, FrameKind::Code)) if *kind == FrameKind::Code => {
                last.end = end;
                continue;
            }
            Some((last, FrameKind::Entry(_))) => start = start.max(last.end),
            _ => {}
        }
        if is_entry(*kind) && next.is_some_and(|(_, next)| !is_entry(*next)) {
            // Signal frames are looked up by the return address itself, which stands behind the
            // call: on the next label, if the call is the last instruction.
            end += 1;
        }
        if start < end {
            described.push((start..end, *kind));
        }
    }
    described
}

/// A register's number as instructions hold it.
fn number(register: usize) -> u8 {
    u8::try_from(register).unwrap_or(0)
}

const ADVANCE_NOTHING: u8 = 0x00; // DW_CFA_nop
const OFFSET_EXTENDED: u8 = 0x05;
const UNDEFINED: u8 = 0x07;
const REGISTER: u8 = 0x09;
const DEF_CFA: u8 = 0x0c;
const DEF_CFA_EXPRESSION: u8 = 0x0f;
const OFFSET_EXTENDED_SF: u8 = 0x11;
/// `DW_OP_breg0`, `DW_OP_deref`.
const BASE_REGISTER: u8 = 0x70;
const DEREF: u8 = 0x06;

/// A section that grows.
struct Section {
    bytes: Bytes,
    content: Vec<u8>,
}

impl Section {
    /// An entry with its length in front, padded to words.
    fn entry(&mut self, mut body: Vec<u8>) {
        while !(body.len() + 4).is_multiple_of(self.bytes.word_bytes()) {
            body.push(ADVANCE_NOTHING);
        }
        self.bytes.word32(&mut self.content, body.len() as u64);
        self.content.extend(body);
    }

    /// A common part, and where it is: offsets count words downwards.
    fn common(&mut self, ra: usize, augmentation: &[u8], instructions: &[u8]) -> u64 {
        let start = self.content.len() as u64;
        let mut body = vec![0xff; 4];
        body.push(1); // version
        body.extend(augmentation);
        let below = number(self.bytes.word_bytes());
        // Alignment of code 1, of data minus a word, as a signed number of 7 bits.
        body.extend([0, 1, below.wrapping_neg() & 0x7f, number(ra)]);
        body.extend(instructions);
        self.entry(body);
        start
    }
}

/// `.debug_frame` for these ranges.
fn debug_frame(
    machine: &Machine,
    bytes: Bytes,
    entries: &[Entries],
    ranges: &[(Range<u64>, FrameKind)],
) -> Vec<u8> {
    let word = bytes.word_bytes();
    let content = Vec::new();
    let mut section = Section { bytes, content };
    // Where the return address is: on powerpc the program counter has no number.
    let ra = match (machine.chain, machine.lr) {
        (Chain::BackChain { .. }, Some(lr)) => lr,
        _ => machine.pc,
    };
    let (pc, fp, sp) = (machine.pc, number(machine.fp), number(machine.sp));
    let offset = |register: usize, words: usize| {
        let mut instruction = vec![OFFSET_EXTENDED];
        frames_elf::uleb(&mut instruction, register as u64);
        frames_elf::uleb(&mut instruction, words as u64);
        instruction
    };
    let by_frame_pointer = |above: usize| {
        let cfa = vec![DEF_CFA, fp, number(above)];
        [cfa, offset(ra, 1), offset(machine.fp, 2)].concat()
    };
    let code = match machine.chain {
        Chain::Record => Some(by_frame_pointer(2 * word)),
        Chain::RecordBelow => Some(by_frame_pointer(0)),
        Chain::BackChain { saved_lr } => {
            let words = u8::try_from(saved_lr).unwrap_or(0) / number(word);
            let expression = [BASE_REGISTER + sp, 0, DEREF];
            let cfa = [&[DEF_CFA_EXPRESSION, 3], &expression[..]].concat();
            let up = [OFFSET_EXTENDED_SF, number(ra), words.wrapping_neg() & 0x7f];
            Some([cfa, up.to_vec()].concat())
        }
        Chain::Unknown => None,
    };
    let code = code.map(|instructions| section.common(ra, b"", &instructions));
    let signals: Vec<u64> = entries
        .iter()
        .map(|entries| {
            // CFA is the end of the trap frame; every register below it.
            let mut instructions = match entries.end {
                TrapFrameEnd::Above(register, above) => {
                    let mut instructions = vec![DEF_CFA, number(register)];
                    frames_elf::uleb(&mut instructions, above as u64);
                    instructions
                }
                TrapFrameEnd::Expression(expression) => {
                    let len = number(expression.len());
                    [&[DEF_CFA_EXPRESSION, len], expression].concat()
                }
            };
            for (register, at) in entries.fields {
                instructions.extend(offset(*register, (entries.len_bytes - at) / word));
            }
            section.common(pc, b"S", &instructions)
        })
        .collect();
    let outermost = section.common(ra, b"", &[DEF_CFA, sp, 0, UNDEFINED, number(ra)]);
    let saving = machine.lr.map(|lr| {
        let caller = [DEF_CFA, sp, 0, REGISTER, number(ra), number(lr)];
        section.common(ra, b"", &caller)
    });
    for (range, kind) in ranges {
        let common = match kind {
            FrameKind::Code => code,
            FrameKind::Entry(which) => signals.get(*which).copied(),
            FrameKind::Saving => saving,
            FrameKind::ThreadStart => Some(outermost),
        };
        let Some(common) = common else { continue };
        let mut body = Vec::new();
        bytes.word32(&mut body, common);
        bytes.word(&mut body, range.start);
        bytes.word(&mut body, range.end - range.start);
        section.entry(body);
    }
    section.content
}

#[cfg(test)]
mod tests {
    use super::*;
    use gimli::{
        BaseAddresses, CfaRule, DebugFrame, LittleEndian, Register, RegisterRule, UnwindContext,
        UnwindSection as _,
    };
    use vmcore_format::arch::Arch;
    use vmcore_format::endian::Endian;

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
            let entries = (machine.gdb.entries)(old);
            assert!((entries[0].is_entry)(entry), "{entry}");
            let ranges = [
                (0x1000..0x1100, FrameKind::Entry(0)),
                (0x1100..0x1110, FrameKind::ThreadStart),
            ];
            let bytes = Bytes::new(arch.word(), Endian::Little);
            let bytes = debug_frame(machine, bytes, entries, &ranges);
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
