//! Test dumps whose kernel is compiled by the C compiler: real debug information, real variables.

use crate::source;
use object::{Object as _, ObjectSegment as _, ObjectSymbol as _};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;
use vmcore_synth::Arch;
use vmcore_synth::minidump::Minidump;
use vmcore_synth::tables::{Frames, Mapping, Paging, Tree};

/// Where the page tables of the test dumps begin.
const KERNBASE: u64 = 0xffff_ffff_8000_0000;

/// A compiled kernel and its memory, page by page, to be changed before it is written.
pub struct TestKernel {
    pub dir: TempDir,
    pub file: PathBuf,
    pub pages: BTreeMap<u64, Vec<u8>>,
    /// What the message buffer holds.
    pub log: String,
    symbols: BTreeMap<String, u64>,
}

impl TestKernel {
    /// Compiles `c/NAME` with these flags, and the code for stacks with it.
    pub fn compile(name: &str, flags: &[&str]) -> Self {
        Self::compile_with(name, flags, &[])
    }

    /// The same with more objects, which come first in the file.
    pub fn compile_with(name: &str, flags: &[&str], objects: &[PathBuf]) -> Self {
        let mut sources = objects.to_vec();
        sources.push(source(name));
        sources.push(source("stack.S"));
        Self::link(flags, &sources)
    }

    /// The same without the code for stacks.
    pub fn compile_alone(name: &str, flags: &[&str], objects: &[PathBuf]) -> Self {
        let mut sources = objects.to_vec();
        sources.push(source(name));
        Self::link(flags, &sources)
    }

    fn link(flags: &[&str], sources: &[PathBuf]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("kernel");
        let output = Command::new("gcc")
            .args(flags)
            .args([
                "-g",
                "-ffreestanding",
                "-mcmodel=kernel",
                "-fno-pic",
                "-no-pie",
            ])
            .args([
                "-nostdlib",
                "-static",
                "-fno-stack-protector",
                "-Wno-attributes",
            ])
            .args(["-Wl,-Ttext-segment=0xffffffff80200000,-e,kernel_main,--build-id"])
            .arg("-o")
            .arg(&file)
            .args(sources)
            .output()
            .expect("gcc");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let bytes = std::fs::read(&file).unwrap();
        let elf = object::File::parse(&*bytes).unwrap();
        let mut kernel = Self {
            dir,
            file,
            pages: BTreeMap::new(),
            log: String::new(),
            symbols: elf
                .symbols()
                .map(|symbol| (symbol.name().unwrap().to_owned(), symbol.address()))
                .collect(),
        };
        for segment in elf.segments() {
            let mut content = segment.data().unwrap().to_vec();
            content.resize(usize::try_from(segment.size()).unwrap(), 0);
            kernel.write(segment.address(), &content);
        }
        kernel
    }

    pub fn address(&self, symbol: &str) -> u64 {
        *self
            .symbols
            .get(symbol)
            .unwrap_or_else(|| panic!("no symbol {symbol}"))
    }

    /// Writes into the memory.
    pub fn write(&mut self, va: u64, content: &[u8]) {
        write(&mut self.pages, va, content);
    }

    pub fn write_words(&mut self, va: u64, words: &[u64]) {
        for (va, word) in (va..).step_by(8).zip(words) {
            self.write(va, &word.to_le_bytes());
        }
    }

    /// Writes the dump, `vmcore.0` beside the kernel, and returns its path.
    pub fn write_dump(&self) -> PathBuf {
        self.write_dump_of(0x1000_0000)
    }

    /// Writes the dump of a machine whose RAM ends there.
    pub fn write_dump_of(&self, ram_end: u64) -> PathBuf {
        let core = self.dir.path().join("vmcore.0");
        let mut dump = minidump(&self.pages, ram_end);
        dump.msgbuf = self.log.clone().into_bytes();
        std::fs::write(&core, dump.build()).unwrap();
        core
    }
}

/// Writes into memory of pages of 4 KiB.
pub(crate) fn write(pages: &mut BTreeMap<u64, Vec<u8>>, va: u64, content: &[u8]) {
    for (va, byte) in (va..).zip(content) {
        let page = pages.entry(va & !0xfff).or_insert_with(|| vec![0; 4096]);
        page[usize::try_from(va & 0xfff).unwrap()] = *byte;
    }
}

/// An amd64 minidump with these pages, of a machine whose RAM ends there.
pub fn dump_of(pages: &BTreeMap<u64, Vec<u8>>, ram_end: u64) -> Vec<u8> {
    minidump(pages, ram_end).build()
}

/// The same before it is built.
pub fn minidump(pages: &BTreeMap<u64, Vec<u8>>, ram_end: u64) -> Minidump {
    let mut dump = Minidump::new(Arch::Amd64, 3);
    dump.kernbase = KERNBASE;
    dump.dump_avail = vec![(0x10_0000, ram_end)];
    let frames = Frames::new(&[(0x10_0000, 0x80_0000)], 4096);
    let mut tree = Tree::new(Paging::Amd64, frames);
    for (pa, (va, content)) in (0x100_0000..).step_by(4096).zip(pages) {
        tree.map(&Mapping::page(*va, pa, 4096));
        dump.pages.insert(pa, content.clone());
    }
    dump.page_tables = tree.section(3, KERNBASE, 0xffff_ffff_ffff_f000);
    for (pa, table) in &tree.tables {
        dump.pages.insert(*pa, table.bytes.clone());
    }
    dump
}

/// Words of a PCB up to `rip`.
pub struct Pcb {
    pub rbp: u64,
    pub rsp: u64,
    pub rbx: u64,
    pub rip: u64,
}

pub fn write_pcb(kernel: &mut TestKernel, at: u64, pcb: &Pcb) {
    kernel.write_words(
        at,
        &[0xf, 0xe, 0xd, 0xc, pcb.rbp, pcb.rsp, pcb.rbx, pcb.rip],
    );
}

/// The stack of a thread that panicked on a null pointer; from its top down:
///
/// fork_trampoline's trap frame (all zero), fork_exit, worker, leaf interrupted at its first
/// instruction, the trap frame, trap, panic, doadump.
pub fn crash(kernel: &mut TestKernel) {
    let ret = |kernel: &TestKernel, name: &str| kernel.address(&format!("ret_{name}"));
    let top = kernel.address("stacks") + 3 * 16384;
    let fork_frame = top - 192;
    kernel.write_words(fork_frame - 8, &[ret(kernel, "fork_trampoline")]);
    let fork_exit = fork_frame - 16;
    kernel.write_words(fork_exit, &[0]);
    let worker = fork_exit - 32 - 16;
    kernel.write_words(worker, &[fork_exit, ret(kernel, "fork_exit")]);
    let leaf_sp = worker - 16 - 8;
    kernel.write_words(leaf_sp, &[ret(kernel, "worker")]);
    let trap_frame = leaf_sp - 8 - 192;
    for (offset, value) in [
        (64, worker),
        (88, 0x1212),
        (120, 12),
        (128, 0x18),
        (152, kernel.address("leaf")),
        (160, 0x20),
        (168, 0x246),
        (176, leaf_sp),
    ] {
        kernel.write_words(trap_frame + offset, &[value]);
    }
    let trap = trap_frame - 16;
    kernel.write_words(trap, &[worker, ret(kernel, "calltrap")]);
    let panic = trap - 32 - 8;
    // What panic calls does not return: the return address is that of the next function.
    let ret_panic = kernel.address("savectx");
    kernel.write_words(panic - 16, &[ret_panic, 0x1111, ret(kernel, "trap")]);
    let pcb = Pcb {
        rbp: trap,
        rsp: panic - 16 - 40 - 8,
        rbx: 0x2222,
        rip: ret(kernel, "doadump"),
    };
    let at = kernel.address("dumppcb");
    write_pcb(kernel, at, &pcb);
}
