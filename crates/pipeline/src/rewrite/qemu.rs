//! The notes of a hypervisor's memory file: the CPUs, with their registers and page-table roots.
//!
//! QEMU's command `dump-guest-memory` writes an ELF core whose segments are RAM, with a note for
//! each CPU: owner `QEMU`, type 0, and its own structure (`QEMUCPUState` in
//! `target/i386/arch_dump.c`): version 1 and its size, general registers, program counter and flags,
//! ten segments of 24 bytes, five control registers; later QEMUs add the kernel's GS base.

use super::arch::{ArchConversion, Qemu};
use vmcore::Dump;
use vmcore::dump::DumpFormat;
use vmcore::translation::PagingMode;
use vmcore_format::addr::VirtAddr;
use vmcore_format::arch::Arch;
use vmcore_format::elf::{PN_XNUM, PT_NOTE};
use vmcore_format::endian::Endian;
use vmcore_format::paging::Radix;
use vmcore_format::registers::{MAX_REGISTERS, names};

/// Owner of the notes, with its NUL.
const OWNER: &[u8] = b"QEMU\0";
/// The only version of the structure.
const VERSION: u32 = 1;
/// The most bytes of notes that are looked at: some 500 for each CPU.
const MAX_NOTES: u64 = 4 << 20;

/// General registers, in the structure's order, from byte 8 on.
const GENERAL: [&str; 18] = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15", "rip", "rflags",
];
const GENERAL_AT: usize = 8;
/// Segments, as far as they have names here: a selector, and a base at byte 16 of 24.
const SEGMENTS: [&str; 6] = ["cs", "ds", "es", "fs", "gs", "ss"];
const SEGMENTS_AT: usize = 152;
const SEGMENT_LEN: usize = 24;
/// Control registers 0 to 4, and after them the kernel's GS base.
const CONTROL_AT: usize = 392;
const KERNEL_GS_AT: usize = 432;

/// A CPU of the virtual machine.
#[derive(Clone, Debug)]
pub(super) struct QemuCpu {
    arch: &'static Qemu,
    state: Vec<u8>,
}

/// The CPUs that the notes of a core tell of, in their order.
pub(super) fn cpus(arch: &'static ArchConversion, dump: &Dump) -> Vec<QemuCpu> {
    let Some(arch) = &arch.qemu else {
        return Vec::new();
    };
    let notes = notes(dump).unwrap_or_default();
    let mut cpus = Vec::new();
    let mut rest = notes.as_slice();
    while let Some((note, tail)) = Note::first(rest) {
        let cpu = QemuCpu {
            arch,
            state: note.contents.to_vec(),
        };
        if note.owner == OWNER && note.kind == 0 && cpu.is_sound() {
            cpus.push(cpu);
        }
        rest = tail;
    }
    cpus
}

/// The contents of the core's notes.
fn notes(dump: &Dump) -> Option<Vec<u8>> {
    let DumpFormat::Full(header) = dump.kind() else {
        return None;
    };
    let source = dump.memory().source();
    let elf = header.elf.as_ref()?;
    // Notes come first; a core with more headers than 16 bits can count has them in front, too.
    let count = usize::from(elf.e_phnum.min(PN_XNUM - 1));
    let mut headers = vec![0; count * elf.phdr_len()];
    let read = source.read_positional(elf.e_phoff, &mut headers).ok()?;
    headers.truncate(read);
    let mut all = Vec::new();
    for raw in headers.chunks_exact(elf.phdr_len()) {
        let Some(segment) = elf.segment(raw).filter(|found| found.p_type == PT_NOTE) else {
            continue;
        };
        let len = segment.p_filesz.min(MAX_NOTES).min(source.len());
        let mut notes = vec![0; usize::try_from(len).ok()?];
        let read = source.read_positional(segment.p_offset, &mut notes).ok()?;
        notes.truncate(read);
        all.append(&mut notes);
        if all.len() as u64 > MAX_NOTES {
            break;
        }
    }
    Some(all)
}

/// A note of an ELF file.
struct Note<'n> {
    owner: &'n [u8],
    kind: u32,
    contents: &'n [u8],
}

impl<'n> Note<'n> {
    /// The first note, and what follows it.
    fn first(bytes: &'n [u8]) -> Option<(Self, &'n [u8])> {
        let field = |at| {
            let value = Endian::Little.u32_at(bytes, at)?;
            usize::try_from(value).ok()
        };
        let (owner_len, len) = (field(0)?, field(4)?);
        let start = 12usize.checked_add(owner_len.checked_next_multiple_of(4)?)?;
        let end = start.checked_add(len)?;
        let note = Self {
            owner: bytes.get(12..12usize.checked_add(owner_len)?)?,
            kind: Endian::Little.u32_at(bytes, 8)?,
            contents: bytes.get(start..end)?,
        };
        let next = end.checked_next_multiple_of(4)?.min(bytes.len());
        Some((note, bytes.get(next..)?))
    }
}

impl QemuCpu {
    fn is_sound(&self) -> bool {
        Endian::Little.u32_at(&self.state, 0) == Some(VERSION) && self.state.len() >= KERNEL_GS_AT
    }

    fn word(&self, at: usize) -> Option<u64> {
        Endian::Little.u64_at(&self.state, at)
    }

    fn segment(&self, name: &str) -> Option<usize> {
        let number = SEGMENTS.iter().position(|segment| *segment == name)?;
        Some(SEGMENTS_AT + number * SEGMENT_LEN)
    }

    fn control(&self, number: usize) -> u64 {
        self.word(CONTROL_AT + number * 8).unwrap_or(0)
    }

    /// A register by the name that it has on amd64.
    fn get(&self, name: &str) -> Option<u64> {
        if let Some(number) = GENERAL.iter().position(|general| *general == name) {
            return self.word(GENERAL_AT + number * 8);
        }
        match name {
            "fs_base" => self.word(self.segment("fs")? + 16),
            "gs_base" => self.word(self.segment("gs")? + 16),
            "kernel_gs_base" => self.word(KERNEL_GS_AT),
            "cr0" => Some(self.control(0)),
            "cr2" => Some(self.control(2)),
            "cr3" => Some(self.control(3)),
            "cr4" => Some(self.control(4)),
            _ => Endian::Little
                .u32_at(&self.state, self.segment(name)?)
                .map(u64::from),
        }
    }

    /// Its registers, in the order of `vmcore_format::registers::names`.
    pub(super) fn registers(&self, arch: Arch) -> [u64; MAX_REGISTERS] {
        let mut registers = [0; MAX_REGISTERS];
        for (value, name) in registers.iter_mut().zip(names(arch)) {
            let name = (self.arch.name_on_amd64)(name);
            *value = self.get(&name).unwrap_or(0);
        }
        registers
    }

    /// Whether it ran the kernel's code, not a process'.
    pub(super) fn is_in_kernel(&self) -> bool {
        self.get("cs").is_some_and(|cs| cs & 3 == 0)
    }

    /// Address of the kernel's data for this CPU (`struct pcpu`), as far as its registers tell.
    pub(super) fn pcpu(&self) -> Option<VirtAddr> {
        let [in_kernel, in_process] = self.arch.pcpu;
        let register = match self.is_in_kernel() {
            true => in_kernel,
            false => in_process,
        };
        self.get(register?).filter(|va| *va != 0).map(VirtAddr)
    }

    /// Its page tables.
    pub(super) fn page_tables(&self) -> (PagingMode, Radix) {
        (self.arch.page_tables)(self.control(3), self.control(4))
    }
}
