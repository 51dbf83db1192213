//! Stacks of the architectures of which there are no compiled test kernels: words in the page of a
//! dump, over code that has names only.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on shall stop"
)]

use std::ops::Range;
use std::path::PathBuf;
use vmcore::session::KernelChoice;
use vmcore::{OpenOptions, Session};
use vmcore_debug::arch::Machine;
use vmcore_debug::unwind::{
    Backtrace, CallFrames, Code, End, How, NearSymbol, Registers, Start, Unwinder,
};
use vmcore_format::addr::VirtAddr;
use vmcore_synth::Arch;
use vmcore_synth::minidump::Minidump;

/// Functions by their addresses, ascending.
struct Names(&'static [(u64, &'static str)], [Range<u64>; 1]);

impl Names {
    fn new(names: &'static [(u64, &'static str)]) -> Self {
        let first = names.first().unwrap().0;
        Self(names, [first..names.last().unwrap().0 + 0x1000; 1])
    }
}

impl Code for Names {
    fn symbol(&self, address: VirtAddr) -> Option<NearSymbol> {
        let at = self.0.partition_point(|(start, _)| *start <= address.0);
        let (start, name) = self.0.get(at.checked_sub(1)?)?;
        Some(NearSymbol {
            name: (*name).to_owned(),
            start: VirtAddr(*start),
        })
    }

    fn text(&self) -> &[Range<u64>] {
        &self.1
    }

    fn call_frames(&self, _: VirtAddr) -> Option<&CallFrames<'_>> {
        None
    }

    fn instructions(&self, _: VirtAddr, _: &mut [u8]) -> usize {
        0
    }
}

/// A page of a stack, and where it is mapped.
struct Stack {
    arch: Arch,
    base: u64,
    page: Vec<u8>,
}

const STACK_PA: u64 = 0x2_0000;
const ARM_KERNBASE: u64 = 0xc000_0000;
const POWERPC64_DIRECT: u64 = 0xc000_0000_0000_0000;

impl Stack {
    fn new(arch: Arch) -> Self {
        let base = match arch {
            Arch::Armv7 | Arch::Armeb => ARM_KERNBASE + 0x3000,
            _ => POWERPC64_DIRECT + STACK_PA,
        };
        Self {
            arch,
            base,
            page: vec![0; 4096],
        }
    }

    /// Writes words at a distance from the start of the page.
    fn put(&mut self, at: u64, words: &[u64]) {
        let width = self.arch.word_bytes();
        for (number, word) in (0..).zip(words) {
            let at = usize::try_from(at + number * width).unwrap();
            let bytes = self.arch.word(*word);
            self.page[at..at + bytes.len()].copy_from_slice(&bytes);
        }
    }

    fn dump(&self) -> Minidump {
        let mut dump = Minidump::new(self.arch, 2);
        dump.dump_avail = vec![(0x1_0000, 0x4_0000)];
        dump.pages.insert(STACK_PA, self.page.clone());
        if self.arch.is_32_bit() {
            dump.kernbase = ARM_KERNBASE;
            dump.page_tables = vec![0; 4096];
            // A small page.
            let entry = self.arch.u32(u32::try_from(STACK_PA).unwrap() | 2);
            dump.page_tables[12..16].copy_from_slice(&entry);
        } else {
            dump.dmapbase = POWERPC64_DIRECT;
            dump.dmapend = 0xc007_ffff_ffff_ffff;
        }
        dump
    }

    /// Walks from registers by their names, of which `pc` is one.
    fn walk(&self, code: &Names, registers: &[(&str, u64)]) -> Backtrace {
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = folder.path().join("vmcore.0");
        std::fs::write(&path, self.dump().build()).unwrap();
        let options = OpenOptions::default();
        let session = Session::open(&path, KernelChoice::Find(&[]), &options).unwrap();
        let arch = session.dump().arch();
        let machine = Machine::of(arch);
        let mut start = Registers::default();
        for (name, value) in registers {
            let number = machine.names.iter().position(|known| known == name);
            start.set(number.unwrap(), Some(*value));
        }
        let space = session.space().unwrap();
        Unwinder::new(arch, space, code).walk(&Start {
            registers: start,
            never_ran: false,
            interrupted: false,
        })
    }
}

fn found(backtrace: &Backtrace) -> Vec<(&str, How)> {
    let frames = backtrace.frames.iter();
    let name = |name: &'_ Option<String>| name.clone().unwrap_or_default();
    let names: Vec<(String, How)> = frames.map(|frame| (name(&frame.name), frame.how)).collect();
    names
        .into_iter()
        .map(|(name, how)| (&*name.leak(), how))
        .collect()
}

const ARM_CODE: &[(u64, &str)] = &[
    (0xc010_0000, "savectx"),
    (0xc010_1000, "doadump"),
    (0xc010_2000, "abort_handler"),
    (0xc010_3000, "data_abort_entry"),
    (0xc010_4000, "exception_exit"),
    (0xc010_5000, "victim"),
    (0xc010_6000, "syscall"),
    (0xc010_7000, "between"),
    (0xc010_8000, "swi_exit"),
];

#[test]
fn an_arm_stack_is_walked_through_its_trap_frames() {
    for arch in [Arch::Armv7, Arch::Armeb] {
        let mut stack = Stack::new(arch);
        let base = stack.base;
        // doadump was called by abort_handler, whose record ends below the trap frame.
        stack.put(0x100, &[base + 0x178, 0xc010_2040]);
        stack.put(0x178, &[0, 0xc010_4000]);
        let spsr = 0x6000_0013;
        let mut trap = vec![spsr];
        trap.extend((0..13).map(|number| 0x1000 + number));
        trap[12] = base + 0x300; // r11
        trap.extend([0x7777, 0x8888, base + 0x2f0, 0xc010_5010, 0xc010_5044]);
        stack.put(0x180, &trap);
        // victim was called in the end by syscall, which swi_entry called.
        stack.put(0x300, &[base + 0x338, 0xc010_6020]);
        stack.put(0x338, &[0, 0xc010_8000]);
        let mut user = vec![0x10];
        user.extend((0..13).map(|number| 0x2000 + number));
        user.extend([0xbfff_0000, 0x0001_2345, 0, 0, 0x0001_0000]);
        stack.put(0x340, &user);
        let backtrace = stack.walk(
            &Names::new(ARM_CODE),
            &[
                ("pc", 0xc010_0014),
                ("lr", 0xc010_1020),
                ("sp", base + 0xf0),
                ("r11", base + 0x100),
                ("r4", 0x4444),
            ],
        );
        assert_eq!(
            found(&backtrace),
            [
                ("savectx+0x14", How::Pcb),
                ("doadump+0x20", How::Pcb),
                ("abort_handler+0x40", How::FramePointer),
                ("exception_exit", How::FramePointer),
                ("victim+0x44", How::TrapFrame),
                ("syscall+0x20", How::FramePointer),
                ("swi_exit", How::FramePointer),
                ("", How::TrapFrame),
            ]
        );
        assert_eq!(backtrace.end, End::UserMode);
        let trap = backtrace.frames[3].trap.as_ref().unwrap();
        assert_eq!((trap.address, trap.user), (VirtAddr(base + 0x180), false));
        assert_eq!(trap.other, [("spsr", spsr)]);
        // The handler says what it was; a system call is none.
        assert_eq!(trap.exception.as_deref(), Some("data or prefetch abort"));
        let call = backtrace.frames[6].trap.as_ref().unwrap();
        assert_eq!(call.exception, None);
        let victim = &backtrace.frames[4];
        assert!(victim.exact);
        let value = |number| victim.registers.get(number);
        assert_eq!(value(0), Some(0x1000));
        assert_eq!(
            (value(13), value(14)),
            (Some(base + 0x2f0), Some(0xc010_5010))
        );
        // A user's stack pointer and link register are those of user mode.
        let user = &backtrace.frames[6].trap.as_ref().unwrap().registers;
        assert_eq!(
            (user.get(13), user.get(14)),
            (Some(0xbfff_0000), Some(0x0001_2345))
        );
    }
}

#[test]
fn an_arm_thread_that_never_ran_ends_where_threads_start() {
    let mut stack = Stack::new(Arch::Armv7);
    let base = stack.base;
    stack.put(0x100, &[base + 0x180, 0xc010_1020]);
    const CODE: &[(u64, &str)] = &[
        (0xc010_0000, "cpu_switch"),
        (0xc010_1000, "before"),
        (0xc010_2000, "fork_trampoline"),
    ];
    let backtrace = stack.walk(
        &Names::new(CODE),
        &[
            ("pc", 0xc010_0014),
            ("lr", 0xc010_2000),
            ("sp", base + 0xf0),
            ("r11", base + 0x100),
        ],
    );
    assert_eq!(
        found(&backtrace),
        [("cpu_switch+0x14", How::Pcb), ("fork_trampoline", How::Pcb)]
    );
    assert_eq!(backtrace.end, End::ThreadStart);
}

const POWERPC64_CODE: &[(u64, &str)] = &[
    (0xc000_0000_0001_0000, "cpu_switch"),
    (0xc000_0000_0001_1000, "mi_switch"),
    (0xc000_0000_0001_2000, "trap"),
    (0xc000_0000_0001_3000, "trapagain"),
    (0xc000_0000_0001_4000, "victim"),
    (0xc000_0000_0001_5000, "fork_exit"),
    (0xc000_0000_0001_6000, "fork_trampoline"),
];

#[test]
fn a_powerpc64_stack_is_walked_by_its_back_chain_and_through_trap_frames() {
    for arch in [Arch::Powerpc64, Arch::Powerpc64le] {
        let mut stack = Stack::new(arch);
        let base = stack.base;
        let code = POWERPC64_DIRECT + 0x1_0000;
        // Each frame: the back chain; in the frame above, 16 bytes in, where to return.
        stack.put(0x100, &[base + 0x180]);
        stack.put(0x180, &[base + 0x200, 0, code + 0x2040]);
        stack.put(0x200, &[base + 0x400, 0, code + 0x3020]);
        // The frame of trapagain has the trap frame.
        let mut trap: Vec<u64> = (0..32).map(|number| 0x3000 + number).collect();
        trap[1] = base + 0x500;
        trap.extend([code + 0x4010, 0x2222, 0, 0, code + 0x4044, 0x9000, 0x300]);
        // dar and dsisr: a store.
        trap.extend([0xdead_0018, 0x4200_0000]);
        stack.put(0x200 + 48, &trap);
        stack.put(0x500, &[base + 0x580, 0, 0]);
        stack.put(0x580, &[base + 0x600, 0, code + 0x5020]);
        stack.put(0x600, &[0, 0, code + 0x6004]);
        let backtrace = stack.walk(
            &Names::new(POWERPC64_CODE),
            &[("pc", code + 0x1030), ("r1", base + 0x100)],
        );
        assert_eq!(
            found(&backtrace),
            [
                ("mi_switch+0x30", How::Pcb),
                ("trap+0x40", How::BackChain),
                ("trapagain+0x20", How::BackChain),
                ("victim+0x44", How::TrapFrame),
                ("fork_exit+0x20", How::BackChain),
                ("fork_trampoline+0x4", How::BackChain),
            ]
        );
        assert_eq!(backtrace.end, End::ThreadStart);
        let trap = backtrace.frames[2].trap.as_ref().unwrap();
        assert_eq!((trap.number, trap.user), (Some(0x300), false));
        let words = trap.fault_in_words(Machine::of(vmcore_format::arch::Arch::Powerpc64));
        let expected = "vector 0x300 (data storage interrupt): write to 0xdead0018";
        assert_eq!(words.as_deref(), Some(expected));
        assert_eq!(trap.address, VirtAddr(base + 0x230));
        let victim = &backtrace.frames[3];
        assert!(victim.exact);
        assert_eq!(victim.registers.get(14), Some(0x300e));
        // The same with a trap of user code ends there.
        stack.put(0x200 + 48 + 37 * 8, &[0x4000]);
        let backtrace = stack.walk(
            &Names::new(POWERPC64_CODE),
            &[("pc", code + 0x1030), ("r1", base + 0x100)],
        );
        assert_eq!(backtrace.end, End::UserMode);
        assert_eq!(backtrace.frames.len(), 4);
    }
}

#[test]
fn damaged_back_chains_end() {
    let code = POWERPC64_DIRECT + 0x1_0000;
    let walk = |words: &[(u64, [u64; 3])]| {
        let mut stack = Stack::new(Arch::Powerpc64);
        for (at, words) in words {
            stack.put(*at, words);
        }
        let base = stack.base;
        stack
            .walk(
                &Names::new(POWERPC64_CODE),
                &[("pc", code + 0x1030), ("r1", base + 0x100)],
            )
            .end
    };
    let base = Stack::new(Arch::Powerpc64).base;
    // To itself, downwards, out of memory, into user memory, and not aligned.
    let itself = walk(&[(0x100, [base + 0x100, 0, code + 0x40])]);
    assert!(!matches!(itself, End::TooLong), "{itself:?}");
    let down = walk(&[
        (0x100, [base + 0x200, 0, 0]),
        (0x200, [base + 0x80, 0, code + 0x40]),
        (0x80, [base + 0x200, 0, code + 0x40]),
    ]);
    assert!(!matches!(down, End::TooLong), "{down:?}");
    assert!(matches!(
        walk(&[(0x100, [base + 0x10_0000, 0, 0])]),
        End::Unreadable { .. }
    ));
    let user = walk(&[(0x100, [0x1000, 0, 0])]);
    assert!(
        matches!(user, End::Unreadable { .. } | End::UserMode),
        "{user:?}"
    );
}
