//! Stacks of arm64 and riscv64, laid out word by word: trap frames, signed return addresses,
//! threads that never ran.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on shall stop"
)]

use std::collections::BTreeMap;
use std::ops::Range;
use vmcore::space::AddressSpace;
use vmcore::{Dump, OpenOptions};
use vmcore_debug::arch::Machine;
use vmcore_debug::object_file::ObjectFile;
use vmcore_debug::unwind::{
    Backtrace, CallFrames, Code, End, How, NearSymbol, Registers, Start, Unwinder,
};
use vmcore_format::addr::VirtAddr;
use vmcore_format::arch::Arch;
use vmcore_synth::elf::SectionKind;
use vmcore_synth::minidump::Minidump;
use vmcore_synth::tables::{Frames, Mapping, Paging, Tree};

/// Bytes that the page tables of the test dumps map.
const MAPPED: u64 = 0x20_0000;
/// RAM starts here on these machines.
const RAM: u64 = 0x8000_0000;

/// Memory and symbols of a kernel.
struct Kernel {
    arch: Arch,
    base: u64,
    bytes: BTreeMap<u64, u64>,
    symbols: BTreeMap<u64, &'static str>,
}

impl Kernel {
    fn new(arch: Arch) -> Self {
        let base = match arch {
            Arch::Arm64 => 0xffff_0000_0000_0000,
            _ => 0xffff_ffc0_0000_0000,
        };
        Self {
            arch,
            base,
            bytes: BTreeMap::new(),
            symbols: BTreeMap::new(),
        }
    }

    /// Declares a function; gives an address inside of it.
    fn function(&mut self, name: &'static str) -> u64 {
        let start = self.base + 0x10_0000 + 0x100 * self.symbols.len() as u64;
        self.symbols.insert(start, name);
        start + 0x20
    }

    fn words(&mut self, at: u64, words: &[u64]) {
        for (at, word) in (at..).step_by(8).zip(words) {
            self.bytes.insert(at, *word);
        }
    }

    /// Writes the memory into a dump and walks a stack in it.
    fn walk(&self, old: bool, start: &Start) -> Backtrace {
        self.walk_over(self, old, start)
    }

    /// The same with call frame information.
    fn walk_with(&self, frames: &CallFrames<'_>, start: &Start) -> Backtrace {
        let code = WithFrames {
            kernel: self,
            frames,
        };
        self.walk_over(&code, false, start)
    }

    fn walk_over(&self, code: &dyn Code, old: bool, start: &Start) -> Backtrace {
        let (synth, paging, version) = match self.arch {
            Arch::Arm64 => (vmcore_synth::Arch::Arm64, Paging::Arm64Page4K, 3),
            _ => (vmcore_synth::Arch::Riscv64, Paging::Riscv64, 2),
        };
        let mut pages: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for (at, word) in &self.bytes {
            let page = pages.entry(at & !0xfff).or_insert_with(|| vec![0; 4096]);
            let offset = usize::try_from(at & 0xfff).unwrap();
            page[offset..offset + 8].copy_from_slice(&word.to_le_bytes());
        }
        let mut dump = Minidump::new(synth, version);
        dump.kernbase = self.base;
        dump.dump_avail = vec![(RAM, RAM + 0x100_0000)];
        let mut tree = Tree::new(paging, Frames::new(&[(RAM, RAM + 0x10_0000)], 4096));
        for (pa, (va, content)) in (RAM + 0x10_0000..).step_by(4096).zip(pages) {
            tree.map(&Mapping::page(va, pa, 4096));
            dump.pages.insert(pa, content);
        }
        dump.page_tables = tree.section(version, self.base, self.base + MAPPED);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vmcore.0");
        std::fs::write(&path, dump.build()).unwrap();
        let dump = Dump::open(&path, &OpenOptions::default()).unwrap();
        let translation = dump.translation(None).unwrap();
        let space = AddressSpace::new(dump.memory(), self.arch, &translation);
        Unwinder::new(self.arch, space, code)
            .with_old_trap_frames(old)
            .walk(start)
    }
}

impl Code for Kernel {
    fn symbol(&self, address: VirtAddr) -> Option<NearSymbol> {
        let (start, name) = self.symbols.range(..=address.0).next_back()?;
        Some(NearSymbol {
            name: (*name).to_owned(),
            start: VirtAddr(*start),
        })
    }
    fn text(&self) -> &[Range<u64>] {
        &[]
    }
    fn call_frames(&self, _: VirtAddr) -> Option<&CallFrames<'_>> {
        None
    }
    fn instructions(&self, _: VirtAddr, _: &mut [u8]) -> usize {
        0
    }
}

/// A kernel whose file says how its functions use their stacks.
struct WithFrames<'a> {
    kernel: &'a Kernel,
    frames: &'a CallFrames<'a>,
}

impl Code for WithFrames<'_> {
    fn symbol(&self, address: VirtAddr) -> Option<NearSymbol> {
        self.kernel.symbol(address)
    }
    fn text(&self) -> &[Range<u64>] {
        &[]
    }
    fn call_frames(&self, _: VirtAddr) -> Option<&CallFrames<'_>> {
        Some(self.frames)
    }
    fn instructions(&self, _: VirtAddr, _: &mut [u8]) -> usize {
        0
    }
}

/// `.debug_frame` of a file, written by the DWARF standard: one common part, whose functions start
/// with a frame at the stack pointer, and each function's instructions.
struct FrameWriter {
    bytes: Vec<u8>,
    arch: Arch,
}

const DEF_CFA: u8 = 0x0c;
const DEF_CFA_OFFSET: u8 = 0x0e;
/// `DW_CFA_offset`: in units of -8.
const OFFSET: u8 = 0x80;
/// `DW_CFA_AARCH64_negate_ra_state`.
const NEGATE_RA_STATE: u8 = 0x2d;

impl FrameWriter {
    fn new(arch: Arch) -> Self {
        let (sp, return_address) = match arch {
            Arch::Arm64 => (31, 30),
            _ => (2, 1),
        };
        let mut writer = Self {
            bytes: Vec::new(),
            arch,
        };
        let common = [4, 0, 8, 0, 1, 0x78, return_address, DEF_CFA, sp, 0];
        let mut entry = u32::MAX.to_le_bytes().to_vec();
        entry.extend(common);
        writer.entry(entry);
        writer
    }

    fn entry(&mut self, mut entry: Vec<u8>) {
        entry.resize((entry.len() + 4).next_multiple_of(8) - 4, 0);
        let len = u32::try_from(entry.len()).unwrap();
        self.bytes.extend(len.to_le_bytes());
        self.bytes.extend(entry);
    }

    /// Describes the function around an address that [`Kernel::function`] gave.
    fn function(&mut self, inside: u64, instructions: &[u8]) {
        let mut entry = 0_u32.to_le_bytes().to_vec();
        entry.extend((inside - 0x20).to_le_bytes());
        entry.extend(0x100_u64.to_le_bytes());
        entry.extend(instructions);
        self.entry(entry);
    }

    fn file(&self) -> ObjectFile {
        let synth = match self.arch {
            Arch::Arm64 => vmcore_synth::Arch::Arm64,
            _ => vmcore_synth::Arch::Riscv64,
        };
        let mut kernel = vmcore_synth::elf::Kernel::new(synth, 0x1000);
        kernel.add_section(".debug_frame", SectionKind::Debug, 0, &self.bytes);
        ObjectFile::from_bytes(kernel.build(), self.arch)
    }
}

fn start(arch: Arch, pc: u64, sp: u64, fp: u64, never_ran: bool) -> Start {
    let machine = Machine::of(arch);
    let mut registers = Registers::default();
    registers.set(machine.pc, Some(pc));
    registers.set(machine.sp, Some(sp));
    registers.set(machine.fp, Some(fp));
    Start {
        registers,
        never_ran,
        interrupted: false,
    }
}

fn functions(backtrace: &Backtrace) -> Vec<(&str, How)> {
    backtrace
        .frames
        .iter()
        .map(|frame| {
            let name = frame.name.as_deref().unwrap();
            (name.split('+').next().unwrap(), frame.how)
        })
        .collect()
}

#[test]
fn arm64_stacks_go_through_trap_frames_and_signed_addresses() {
    for (old, trap_len, first_register, spsr) in [(false, 288, 48, 0x5_u64), (true, 272, 32, 0x5)] {
        let mut kernel = Kernel::new(Arch::Arm64);
        let stop = kernel.function("ipi_stop");
        let entry = kernel.function("handle_el1h_irq");
        let idle = kernel.function("cpu_idle");
        let fork_exit = kernel.function("fork_exit");
        let trampoline = kernel.function("fork_trampoline");
        let stack = kernel.base + 0x1000;
        // A signature in the top bits; bit 55 says what they were.
        let signed = |address: u64| address & 0x00ff_ffff_ffff_ffff | 0xb3 << 56;
        let (stop_record, entry_record) = (stack + 0x100, stack + 0x400);
        let (idle_record, last_record) = (stack + 0x800, stack + 0x840);
        kernel.words(stop_record, &[entry_record, signed(entry)]);
        kernel.words(entry_record, &[0xbad, 0xbad]);
        let trap = entry_record - trap_len;
        kernel.words(
            trap,
            &[
                stack + 0x7f0,
                0x1b,
                idle,
                spsr | if old { 7 << 32 } else { 0 },
            ],
        );
        if !old {
            kernel.words(trap + 32, &[0x96 << 24, 0xdead]);
        }
        kernel.words(trap + first_register + 29 * 8, &[idle_record]);
        kernel.words(trap + first_register + 19 * 8, &[0x1919]);
        kernel.words(idle_record, &[last_record, signed(fork_exit)]);
        kernel.words(last_record, &[0, signed(trampoline)]);
        let begin = start(Arch::Arm64, stop, stop_record, stop_record, false);
        let backtrace = kernel.walk(old, &begin);
        let expected = [
            ("ipi_stop", How::Pcb),
            ("handle_el1h_irq", How::FramePointer),
            ("cpu_idle", How::TrapFrame),
            ("fork_exit", How::FramePointer),
            ("fork_trampoline", How::FramePointer),
        ];
        assert_eq!(functions(&backtrace), expected);
        assert_eq!(backtrace.end, End::ThreadStart);
        let trapped = backtrace.frames[1].trap.as_ref().unwrap();
        assert_eq!(trapped.address, VirtAddr(trap));
        assert!(!trapped.user);
        assert_eq!(trapped.number, Some(if old { 7 } else { 0x96 << 24 }));
        // A data abort of the kernel itself.
        assert_eq!(trapped.fault_address, (!old).then_some(VirtAddr(0xdead)));
        assert_eq!(backtrace.frames[2].registers.get(19), Some(0x1919));
        assert_eq!(backtrace.frames[2].sp, Some(VirtAddr(stack + 0x7f0)));
        // An interrupt leaves the esr of the exception before it.
        assert_eq!(trapped.exception, None);
    }
}

#[test]
fn arm64_call_frames_say_which_return_addresses_are_signed_and_which_are_in_the_link_register() {
    let arch = Arch::Arm64;
    let mut kernel = Kernel::new(arch);
    let stop = kernel.function("ipi_stop");
    let entry = kernel.function("handle_el1h_irq");
    let leaf = kernel.function("leaf");
    let worker = kernel.function("worker");
    let fork_exit = kernel.function("fork_exit");
    let trampoline = kernel.function("fork_trampoline");
    let stack = kernel.base + 0x1000;
    let signed = |address: u64| address & 0x00ff_ffff_ffff_ffff | 0xb3 << 56;
    let mut writer = FrameWriter::new(arch);
    // A frame pointer as the compiler sets it up, with a signed return address.
    let framed = [
        NEGATE_RA_STATE,
        DEF_CFA,
        29,
        16,
        OFFSET | 29,
        2,
        OFFSET | 30,
        1,
    ];
    writer.function(stop, &framed);
    // No frame at all: the return address is in the link register.
    writer.function(leaf, &[]);
    // A frame of 48 bytes without a frame pointer, the return address in the middle of it.
    writer.function(
        worker,
        &[DEF_CFA_OFFSET, 48, OFFSET | 19, 3, OFFSET | 30, 4],
    );
    writer.function(fork_exit, &framed);
    // What assembly says of itself: nothing, which is not that the link register is right.
    writer.function(trampoline, &[]);
    let file = writer.file();
    let frames = CallFrames::new(&file);
    assert_eq!(frames.len(), 5);

    let (stop_record, entry_record) = (stack + 0x100, stack + 0x400);
    kernel.words(stop_record, &[entry_record, signed(entry)]);
    let trap = entry_record - 288;
    let leaf_sp = stack + 0x600;
    let last_record = stack + 0x700;
    kernel.words(trap, &[leaf_sp, signed(worker), leaf, 5]);
    kernel.words(trap + 48 + 29 * 8, &[last_record]);
    kernel.words(leaf_sp + 16, &[signed(fork_exit), 0x1919]);
    kernel.words(last_record, &[0, signed(trampoline)]);
    let begin = start(arch, stop, stop_record, stop_record, false);
    let backtrace = kernel.walk_with(&frames, &begin);
    let expected = [
        ("ipi_stop", How::Pcb),
        ("handle_el1h_irq", How::Cfi),
        ("leaf", How::TrapFrame),
        ("worker", How::Cfi),
        ("fork_exit", How::Cfi),
        ("fork_trampoline", How::Cfi),
    ];
    assert_eq!(functions(&backtrace), expected);
    assert_eq!(backtrace.end, End::ThreadStart);
    let fork_exit = &backtrace.frames[4];
    assert_eq!(fork_exit.sp, Some(VirtAddr(leaf_sp + 48)));
    assert_eq!(fork_exit.registers.get(19), Some(0x1919));
    assert!(backtrace.frames.iter().all(|frame| frame.doubt.is_none()));
}

#[test]
fn arm64_stack_pointers_beside_a_frame_record_are_not_trusted() {
    let arch = Arch::Arm64;
    let mut kernel = Kernel::new(arch);
    let assembly = kernel.function("assembly");
    let worker = kernel.function("worker");
    let fork_exit = kernel.function("fork_exit");
    let stack = kernel.base + 0x1000;
    let mut writer = FrameWriter::new(arch);
    writer.function(
        worker,
        &[DEF_CFA_OFFSET, 48, OFFSET | 29, 6, OFFSET | 30, 5],
    );
    let file = writer.file();
    // assembly's record lies at the bottom of a frame whose size nobody tells.
    kernel.words(stack, &[stack + 0x80, worker]);
    kernel.words(stack + 0x10, &[0x1234, 0x5678]);
    kernel.words(stack + 0x80, &[0, fork_exit]);
    let begin = start(arch, assembly, stack - 0x20, stack, false);
    let backtrace = kernel.walk_with(&CallFrames::new(&file), &begin);
    let expected = [
        ("assembly", How::Pcb),
        ("worker", How::FramePointer),
        ("fork_exit", How::FramePointer),
    ];
    assert_eq!(functions(&backtrace), expected);
}

#[test]
fn riscv64_call_frames_lead_from_frames_without_a_frame_pointer() {
    let arch = Arch::Riscv64;
    let mut kernel = Kernel::new(arch);
    let switch = kernel.function("sched_switch");
    let module = kernel.function("module_function");
    let fork_exit = kernel.function("fork_exit");
    let trampoline = kernel.function("fork_trampoline");
    let stack = kernel.base + 0x1000;
    let mut writer = FrameWriter::new(arch);
    writer.function(switch, &[DEF_CFA_OFFSET, 32, OFFSET | 1, 1, OFFSET | 8, 2]);
    // s0 is a number like any other here.
    writer.function(module, &[DEF_CFA_OFFSET, 48, OFFSET | 1, 1, OFFSET | 8, 2]);
    writer.function(fork_exit, &[DEF_CFA, 8, 0, OFFSET | 1, 1, OFFSET | 8, 2]);
    let file = writer.file();
    let (module_sp, last_sp, last_fp) = (stack + 32, stack + 80, stack + 0x100);
    kernel.words(module_sp - 16, &[7, module]);
    kernel.words(last_sp - 16, &[last_fp, fork_exit]);
    kernel.words(last_fp - 16, &[0, trampoline]);
    kernel.words(last_fp + 272, &[0]);
    let begin = start(arch, switch, stack, stack + 32, false);
    let backtrace = kernel.walk_with(&CallFrames::new(&file), &begin);
    let expected = [
        ("sched_switch", How::Pcb),
        ("module_function", How::Cfi),
        ("fork_exit", How::Cfi),
        ("fork_trampoline", How::Cfi),
    ];
    assert_eq!(functions(&backtrace), expected);
    assert_eq!(backtrace.end, End::ThreadStart);
    assert_eq!(backtrace.frames[2].sp, Some(VirtAddr(last_sp)));
    assert!(backtrace.frames.iter().all(|frame| frame.doubt.is_none()));
}

#[test]
fn an_entry_whose_trap_frame_is_a_page_without_contents_is_walked_by_its_frame_pointer() {
    for arch in [Arch::Arm64, Arch::Riscv64] {
        let mut kernel = Kernel::new(arch);
        let stop = kernel.function("ipi_stop");
        let (entry, below) = match arch {
            Arch::Arm64 => (kernel.function("handle_el1h_irq"), 0),
            _ => (kernel.function("cpu_exception_handler_supervisor"), 16),
        };
        let idle = kernel.function("cpu_idle");
        let stack = kernel.base + 0x1000;
        let (first, second) = (stack + 0x100, stack + 0x600);
        kernel.words(first - below, &[second, entry]);
        kernel.words(second - below, &[0, idle]);
        kernel.words(first + 288, &[0]);
        let begin = start(arch, stop, stack, first, false);
        let backtrace = kernel.walk(false, &begin);
        let names: Vec<&str> = functions(&backtrace)
            .iter()
            .map(|(name, _)| *name)
            .collect();
        assert_eq!(names[0], "ipi_stop", "{arch}");
        assert_eq!(names[2], "cpu_idle", "{arch}");
        assert_eq!(backtrace.end, End::FramePointerZero, "{arch}");
    }
}

#[test]
fn arm64_exceptions_are_decoded_from_esr() {
    for (esr, fault_address, expected) in [
        (
            0x8600_0005_u64,
            0xdead_c0de_u64,
            "esr 0x86000005 (instruction abort: translation fault, level 1): jump to 0xdeadc0de",
        ),
        (
            0x9600_0046,
            0x18,
            "esr 0x96000046 (data abort: translation fault, level 2): write to 0x18",
        ),
        (0xf200_0000, 0x18, "esr 0xf2000000 (BRK instruction)"),
    ] {
        let mut kernel = Kernel::new(Arch::Arm64);
        let handler = kernel.function("do_el1h_sync");
        let entry = kernel.function("handle_el1h_sync");
        let culprit = kernel.function("culprit");
        let stack = kernel.base + 0x1000;
        kernel.words(stack, &[stack + 0x400, entry]);
        kernel.words(
            stack + 0x400 - 288,
            &[stack + 0x500, 0, culprit, 5, esr, fault_address],
        );
        let backtrace = kernel.walk(false, &start(Arch::Arm64, handler, stack, stack, false));
        let trap = backtrace.frames[1].trap.as_ref().unwrap();
        let words = trap.fault_in_words(Machine::of(Arch::Arm64));
        assert_eq!(words.as_deref(), Some(expected));
    }
}

#[test]
fn arm64_user_code_is_shown_and_ends_the_stack() {
    let mut kernel = Kernel::new(Arch::Arm64);
    let handler = kernel.function("do_el0_sync");
    let entry = kernel.function("handle_el0_sync");
    let stack = kernel.base + 0x1000;
    kernel.words(stack, &[stack + 0x400, entry]);
    // Mode 0 in spsr.
    kernel.words(stack + 0x400 - 288, &[0x7fff_0000, 0, 0x40_1234, 0]);
    let backtrace = kernel.walk(false, &start(Arch::Arm64, handler, stack, stack, false));
    assert_eq!(backtrace.frames.len(), 3);
    assert_eq!(backtrace.frames[2].pc, VirtAddr(0x40_1234));
    assert_eq!(backtrace.frames[2].name, None);
    assert_eq!(backtrace.end, End::UserMode);
}

#[test]
fn riscv64_stacks_go_through_trap_frames() {
    let mut kernel = Kernel::new(Arch::Riscv64);
    let stop = kernel.function("ipi_stop");
    let entry = kernel.function("cpu_exception_handler_supervisor");
    let idle = kernel.function("cpu_idle");
    let fork_exit = kernel.function("fork_exit");
    let trampoline = kernel.function("fork_trampoline");
    let stack = kernel.base + 0x1000;
    // The record lies below the frame pointer; the trap frame where the callee's frame ends.
    let (trap, idle_fp, last_fp) = (stack + 0x100, stack + 0x800, stack + 0x840);
    kernel.words(trap - 16, &[idle_fp, entry]);
    kernel.words(trap, &[0x1a, stack + 0x7f0]);
    kernel.words(trap + 88, &[idle_fp, 0x99]);
    // sepc, sstatus with SPP, stval, scause: a load page fault.
    kernel.words(trap + 248, &[idle, 1 << 8, 0x18, 13]);
    kernel.words(idle_fp - 16, &[last_fp, fork_exit]);
    kernel.words(last_fp - 16, &[0, trampoline]);
    kernel.words(last_fp + 272, &[0]);
    let backtrace = kernel.walk(false, &start(Arch::Riscv64, stop, stack, trap, false));
    let expected = [
        ("ipi_stop", How::Pcb),
        ("cpu_exception_handler_supervisor", How::FramePointer),
        ("cpu_idle", How::TrapFrame),
        ("fork_exit", How::FramePointer),
        ("fork_trampoline", How::FramePointer),
    ];
    assert_eq!(functions(&backtrace), expected);
    assert_eq!(backtrace.end, End::ThreadStart);
    let trapped = backtrace.frames[1].trap.as_ref().unwrap();
    assert_eq!((trapped.number, trapped.user), (Some(13), false));
    assert_eq!(trapped.fault_address, Some(VirtAddr(0x18)));
    let machine = Machine::of(Arch::Riscv64);
    let words = trapped.fault_in_words(machine);
    let expected = "scause 13 (load page fault): read of 0x18";
    assert_eq!(words.as_deref(), Some(expected));
    // An interrupt is no exception.
    kernel.words(trap + 272, &[1 << 63 | 5]);
    let interrupted = kernel.walk(false, &start(Arch::Riscv64, stop, stack, trap, false));
    let trapped = interrupted.frames[1].trap.as_ref().unwrap();
    assert_eq!((&trapped.exception, trapped.fault_address), (&None, None));
    assert_eq!(backtrace.frames[2].registers.get(9), Some(0x99));
}

#[test]
fn threads_that_never_ran_have_their_trap_frame_at_the_stack_pointer() {
    for arch in [Arch::Arm64, Arch::Riscv64] {
        let mut kernel = Kernel::new(arch);
        let trampoline = kernel.function("fork_trampoline") - 0x20;
        let frame = kernel.base + 0x1800;
        kernel.words(frame, &[0; 36]);
        // What looks like a frame pointer is the function that the thread would start with.
        let begin = start(arch, trampoline, frame, 0x1234, true);
        let backtrace = kernel.walk(false, &begin);
        assert_eq!(backtrace.frames.len(), 1, "{arch}");
        let found = backtrace.frames[0].trap.as_ref().unwrap();
        assert_eq!(found.address, VirtAddr(frame), "{arch}");
        assert_eq!(backtrace.end, End::ThreadStart, "{arch}");
    }
}

/// On riscv64 the register of the frame pointer still holds the function that the thread was made for.
#[test]
fn a_stack_ends_where_its_thread_started_whatever_the_frame_pointer_says() {
    for name in ["fork_trampoline", "fork_trampoline_kthread"] {
        let mut kernel = Kernel::new(Arch::Riscv64);
        let switch = kernel.function("sched_switch");
        let fork_exit = kernel.function("fork_exit");
        let trampoline = kernel.function(name);
        let work = kernel.function("work") - 0x20;
        // The trap frame at the top lies in a page that is not in the dump.
        let top = kernel.base + 0x2000;
        let fp = top - 0x80;
        kernel.words(fp - 16, &[top, fork_exit]);
        kernel.words(top - 16, &[work, trampoline]);
        // Instructions, read as a frame record.
        kernel.words(work - 16, &[0x1141_e022_e406, switch]);
        let begin = start(Arch::Riscv64, switch, fp, fp, false);
        let backtrace = kernel.walk(false, &begin);
        let expected = [
            ("sched_switch", How::Pcb),
            ("fork_exit", How::FramePointer),
            (name, How::FramePointer),
        ];
        assert_eq!(functions(&backtrace), expected);
        assert_eq!(backtrace.end, End::ThreadStart);
        assert!(backtrace.frames.iter().all(|frame| frame.doubt.is_none()));
    }
}

#[test]
fn arm64_has_entries_for_fast_interrupts_and_errors() {
    for name in [
        "handle_el1h_fiq",
        "handle_el1h_serror",
        "handle_el0_fiq",
        "handle_el0_serror",
    ] {
        let mut kernel = Kernel::new(Arch::Arm64);
        let handler = kernel.function("intr_irq_handler");
        let entry = kernel.function(name);
        let stack = kernel.base + 0x1000;
        kernel.words(stack, &[stack + 0x400, entry]);
        kernel.words(stack + 0x400 - 288, &[0x7fff_0000, 0, 0x40_1234, 0]);
        let begin = start(Arch::Arm64, handler, stack, stack, false);
        let backtrace = kernel.walk(false, &begin);
        assert_eq!(backtrace.end, End::UserMode, "{name}");
        assert_eq!(backtrace.frames[2].pc, VirtAddr(0x40_1234), "{name}");
    }
}
