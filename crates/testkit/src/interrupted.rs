//! Programs that run natively under gdb, and are interrupted or fault: each place becomes a thread of a
//! dump, with a trap frame on its own stack.

use crate::kernel::{Pcb, TestKernel, write_pcb};
use crate::source;
use std::path::Path;
use std::process::Command;

/// Where the native program is loaded.
const NATIVE: u64 = 0x1020_0000;
/// Bytes of stack that are kept of each place, and where the stacks of the dump begin.
const STACK_LEN: u64 = 0x2000;
const STACKS: u64 = 0xffff_ffff_9000_0000;
/// The threads, and their PCBs.
const THREADS: u64 = 0xffff_ffff_8f00_0000;
const PCBS: u64 = 0xffff_ffff_8f80_0000;
const PCB_LEN: u64 = 512;
/// Registers of a trap frame, and where they are in it.
const REGISTERS: [(&str, u64); 17] = [
    ("rdi", 0),
    ("rsi", 8),
    ("rdx", 16),
    ("rcx", 24),
    ("r8", 32),
    ("r9", 40),
    ("rax", 48),
    ("rbx", 56),
    ("rbp", 64),
    ("r10", 72),
    ("r11", 80),
    ("r12", 88),
    ("r13", 96),
    ("r14", 104),
    ("r15", 112),
    ("rip", 152),
    ("rsp", 176),
];
/// The id of the first thread; the others follow.
pub const FIRST_TID: u32 = 200_000;

/// A program, and where it starts.
#[derive(Clone, Copy)]
struct Program {
    source: &'static str,
    start: &'static str,
    /// What is done in gdb for each place, before its registers are read.
    step: &'static str,
}

/// Some instructions further on, each time.
const VARIABLES: Program = Program {
    source: "variables.c",
    start: "native_start",
    step: "if place == 0: gdb.execute('stepi 5', to_string=True)\n\
           \x20   step = (step * 1103515245 + 12345) & 0x7fffffff\n\
           \x20   gdb.execute('stepi %d' % (1 + (step >> 8) % 23), to_string=True)\n",
};

/// From the start to the fault, each time another one.
const FAULTS: Program = Program {
    source: "faults.c",
    start: "fault_start",
    step: "if place > 0: gdb.execute('starti', to_string=True)\n\
           \x20   gdb.execute('set variable f_scenario = %d' % place)\n\
           \x20   gdb.execute('continue', to_string=True)\n\
           \x20   info = gdb.parse_and_eval('$_siginfo')\n\
           \x20   fault = int(info['_sifields']['_sigfault']['si_addr'])\n\
           \x20   number = 9 if int(info['si_code']) == 128 else 12\n",
};

/// From the start to a check that fails, or to what the processor refuses.
const PANICS: Program = Program {
    source: "panics.c",
    start: "panic_start",
    step: "if place > 0: gdb.execute('starti', to_string=True)\n\
           \x20   gdb.execute('set variable p_scenario = %d' % place)\n\
           \x20   gdb.execute('continue', to_string=True)\n\
           \x20   info = gdb.parse_and_eval('$_siginfo')\n\
           \x20   fault = int(info['_sifields']['_sigfault']['si_addr'])\n\
           \x20   number = {4: 1, 8: 18, 11: 12}[int(info['si_signo'])]\n",
};

/// The dump of a kernel with variables of every kind, one thread for each of so many places; `None` if
/// gdb cannot run programs here.
pub fn kernel(compiler: &str, flags: &[&str], places: usize) -> Option<TestKernel> {
    kernel_of(VARIABLES, compiler, flags, places)
}

/// The dump of a kernel with a thread for each of so many mistakes.
pub fn faults(compiler: &str, flags: &[&str], places: usize) -> Option<TestKernel> {
    kernel_of(FAULTS, compiler, flags, places)
}

/// The dump of a kernel with a thread for each of so many failed checks; [`crashed_with`] makes one of
/// them the one that panicked.
pub fn panics(compiler: &str, flags: &[&str], places: usize) -> Option<TestKernel> {
    kernel_of(PANICS, compiler, flags, places)
}

/// Makes a thread the one that panicked, with this message.
pub fn crashed_with(kernel: &mut TestKernel, number: u32, message: &str) {
    let at = kernel.address("p_message");
    let mut text = message.as_bytes().to_vec();
    text.push(0);
    kernel.write(at, &text);
    let panicstr = kernel.address("panicstr");
    kernel.write_words(panicstr, &[at]);
    let dumptid = kernel.address("dumptid");
    kernel.write(dumptid, &(FIRST_TID + number).to_le_bytes());
    let pcb =
        (0..PCB_LEN / 8).map(|word| kernel.word(PCBS + u64::from(number) * PCB_LEN + word * 8));
    let pcb: Vec<u64> = pcb.collect();
    let dumppcb = kernel.address("dumppcb");
    kernel.write_words(dumppcb, &pcb);
}

/// Has a thread fault elsewhere, on a read of an address: at the start of a function, with its first
/// argument.
pub fn faulted_at(kernel: &mut TestKernel, number: u64, function: u64, argument: u64, fault: u64) {
    const RBP_IN_PCB: u64 = 32;
    let trap = kernel.word(PCBS + number * PCB_LEN + RBP_IN_PCB);
    let frame = trap + 16;
    let (rdi, trapno, address, rip) = (0, 120, 128, 152);
    for (offset, value) in [
        (rdi, argument),
        (trapno, 12),
        (address, fault),
        (rip, function),
    ] {
        kernel.write_words(frame + offset, &[value]);
    }
}

fn kernel_of(
    program: Program,
    compiler: &str,
    flags: &[&str],
    places: usize,
) -> Option<TestKernel> {
    let dir = tempfile::tempdir().unwrap();
    let object = dir.path().join("program.o");
    let status = Command::new(compiler)
        .args(["-c", "-g", "-ffreestanding", "-mcmodel=kernel", "-fno-pic"])
        .args(["-mno-red-zone", "-mno-sse", "-fno-stack-protector"])
        .args(["-fno-optimize-sibling-calls"])
        .args(flags)
        .arg("-o")
        .args([&object, &source(program.source)])
        .status();
    assert!(status.expect(compiler).success());
    let mut kernel =
        TestKernel::compile_with("kernel.c", &["-gdwarf-5"], std::slice::from_ref(&object));
    let native = dir.path().join("native");
    let entry = format!(
        "-Wl,-Ttext-segment={NATIVE:#x},-e,{},--build-id",
        program.start
    );
    let status = Command::new("gcc")
        .args(["-g", "-ffreestanding", "-mcmodel=kernel", "-fno-pic"])
        .args(["-no-pie", "-nostdlib", "-static", "-fno-stack-protector"])
        .args(["-Wno-attributes", "-gdwarf-5", &entry])
        .arg("-o")
        .args([&native, &object, &source("kernel.c"), &source("stack.S")])
        .status();
    assert!(status.expect("gcc").success());
    let end = kernel.address("stacks") + 3 * 16384 - kernel.bias();
    let recorded = record(program, &native, dir.path(), end, places)?;
    for (number, place) in (0..).zip(&recorded) {
        add_thread(&mut kernel, number, place, end);
    }
    // The process that had one thread has these.
    let shell = kernel.address("shell");
    let threads = kernel.word(kernel.address("proc_off_p_threads")) & 0xffff_ffff;
    kernel.write_words(shell + threads, &[THREADS]);
    let dumptid = kernel.address("dumptid");
    kernel.write(dumptid, &FIRST_TID.to_le_bytes());
    Some(kernel)
}

/// Where the program was.
struct Interruption {
    /// Number and address of the trap.
    trap: [u64; 2],
    registers: Vec<u64>,
    stack: Vec<u8>,
}

/// Runs the program, and interrupts it in so many places.
fn record(
    program: Program,
    native: &Path,
    dir: &Path,
    end: u64,
    places: usize,
) -> Option<Vec<Interruption>> {
    let out = dir.join("places");
    let names: Vec<&str> = REGISTERS.iter().map(|(name, _)| *name).collect();
    let script = format!(
        "import gdb, struct\n\
         out = open({out:?}, 'wb')\n\
         gdb.execute('starti', to_string=True)\n\
         step, number, fault = 7, 12, 0x18\n\
         for place in range({places}):\n\
         \x20   {step}\
         \x20   out.write(struct.pack('<QQ', number, fault))\n\
         \x20   for name in {names:?}:\n\
         \x20       value = int(gdb.parse_and_eval('(unsigned long)$' + name))\n\
         \x20       out.write(struct.pack('<Q', value & 0xffffffffffffffff))\n\
         \x20   out.write(gdb.selected_inferior().read_memory({start}, {STACK_LEN}))\n\
         out.close()\n\
         gdb.execute('kill')\n",
        out = out.to_str().unwrap(),
        step = program.step,
        start = end - STACK_LEN,
    );
    let path = dir.join("record.py");
    std::fs::write(&path, script).unwrap();
    let output = Command::new("gdb")
        .args(["-nx", "-batch", "-ex", "set confirm off", "-x"])
        .args([&path, native])
        .output()
        .ok()?;
    let bytes = std::fs::read(&out).unwrap_or_default();
    if bytes.is_empty() {
        eprintln!("skipped: gdb cannot run programs here: {output:?}");
        return None;
    }
    let words = 2 + REGISTERS.len();
    let len = words * 8 + STACK_LEN as usize;
    assert_eq!(bytes.len(), len * places, "{output:?}");
    let place = |bytes: &[u8]| {
        let (words, stack) = bytes.split_at(words * 8);
        let words = words.chunks(8);
        let words: Vec<u64> = words
            .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
            .collect();
        Interruption {
            trap: [words[0], words[1]],
            registers: words[2..].to_vec(),
            stack: stack.to_vec(),
        }
    };
    Some(bytes.chunks(len).map(place).collect())
}

/// Adds a thread that was interrupted at a place.
fn add_thread(kernel: &mut TestKernel, number: u64, place: &Interruption, end: u64) {
    let bias = kernel.bias();
    let image_end = end + (1 << 20);
    let stack_end = STACKS + (number + 1) * STACK_LEN * 2;
    // A pointer into the native stack or image, as it is in the dump.
    let moved = |word: u64| match word {
        _ if (end - STACK_LEN..=end).contains(&word) => word + (stack_end - end),
        _ if (NATIVE..image_end).contains(&word) => word.wrapping_add(bias),
        other => other,
    };
    let stack: Vec<u64> = place
        .stack
        .chunks(8)
        .map(|word| moved(u64::from_le_bytes(word.try_into().unwrap())))
        .collect();
    kernel.write(stack_end - STACK_LEN * 2, &vec![0; STACK_LEN as usize * 2]);
    kernel.write_words(stack_end - STACK_LEN, &stack);
    let named = REGISTERS.iter().zip(&place.registers);
    let value = |wanted: &str| {
        let mut named = named.clone();
        moved(*named.find(|((name, _), _)| *name == wanted).unwrap().1)
    };
    let (rsp, rbp) = (value("rsp"), value("rbp"));
    let trap_frame = (rsp & !15) - 192;
    kernel.write(trap_frame, &[0; 192]);
    for ((_, offset), value) in named.clone() {
        kernel.write_words(trap_frame + offset, &[moved(*value)]);
    }
    let [trap, fault] = place.trap;
    let number_and_segments = [
        (120, trap),
        (128, fault),
        (160, 0x20),
        (168, 0x246),
        (184, 0x28),
    ];
    for (offset, value) in number_and_segments {
        kernel.write_words(trap_frame + offset, &[value]);
    }
    // The handler: panic's way down to doadump, as in `crash`.
    let ret = |kernel: &TestKernel, name: &str| kernel.address(&format!("ret_{name}"));
    let trap = trap_frame - 16;
    kernel.write_words(trap, &[rbp, ret(kernel, "calltrap")]);
    let panic = trap - 32 - 8;
    let after_panic = kernel.address("savectx");
    kernel.write_words(panic - 16, &[after_panic, 0x1111, ret(kernel, "trap")]);
    let pcb = Pcb {
        rbp: trap,
        rsp: panic - 16 - 40 - 8,
        rbx: 0x2222,
        rip: ret(kernel, "doadump"),
    };
    let first = kernel.address("dumppcb");
    write_pcb(kernel, PCBS + number * PCB_LEN, &pcb);
    if number == 0 {
        write_pcb(kernel, first, &pcb);
    }
    let like = kernel.address("shell_thread");
    let constant =
        |kernel: &TestKernel, name: &str| kernel.word(kernel.address(name)) & 0xffff_ffff;
    let len = constant(kernel, "thread_len");
    let at = THREADS + number * 1024;
    let words: Vec<u64> = (0..len / 8)
        .map(|word| kernel.word(like + 8 * word))
        .collect();
    kernel.write_words(at, &words);
    let tid = FIRST_TID + number as u32;
    let tid_at = at + constant(kernel, "thread_off_td_tid");
    kernel.write(tid_at, &tid.to_le_bytes());
    let pcb_at = at + constant(kernel, "thread_off_td_pcb");
    kernel.write_words(pcb_at, &[PCBS + number * PCB_LEN]);
    // It is the last one, and the one before leads to it.
    let list = constant(kernel, "thread_off_td_plist");
    kernel.write_words(at + list, &[0]);
    if number > 0 {
        kernel.write_words(at - 1024 + list, &[at]);
    }
}

impl TestKernel {
    /// A word of the memory.
    fn word(&self, va: u64) -> u64 {
        let byte = |va: u64| {
            let page = self.pages.get(&(va & !0xfff));
            page.map_or(0, |page| page[usize::try_from(va & 0xfff).unwrap()])
        };
        let bytes: Vec<u8> = (va..va + 8).map(byte).collect();
        u64::from_le_bytes(bytes.try_into().unwrap())
    }

    /// How far the kernel is from where the native program is.
    fn bias(&self) -> u64 {
        0xffff_ffff_8020_0000 - NATIVE
    }
}
