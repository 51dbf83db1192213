//! What differs between FreeBSD releases: offsets in structures, and which variables there are.

use super::{DumpKind, Options};
use crate::Arch;

/// Release of a synthetic kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Era {
    pub(super) release: &'static str,
    pub(super) osreldate: i32,
    /// Zombies are in a list of their own, and the offset of the pid hash is not exported.
    pub(super) has_zombproc: bool,
    /// `stoppcbs` is a pointer, not an array.
    pub(super) stoppcbs_is_pointer: bool,
    pub(super) offsets: Offsets,
}

/// Offsets in `struct proc` and `struct thread`, by the names of their constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offsets {
    pub(super) p_list: u64,
    pub(super) p_threads: u64,
    pub(super) p_pid: u64,
    pub(super) p_hash: u64,
    pub(super) p_comm: u64,
    pub(super) td_proc: u64,
    pub(super) td_plist: u64,
    pub(super) td_tid: u64,
    pub(super) td_name: u64,
    pub(super) td_oncpu: u64,
    pub(super) td_pcb: u64,
    pub(super) pcb_size: u64,
    pub(super) proc_size: u64,
    pub(super) thread_size: u64,
}

/// amd64 up to 14.
const LP64: Offsets = Offsets {
    p_list: 0,
    p_threads: 0x10,
    p_pid: 0xc4,
    p_hash: 0xc8,
    p_comm: 0x3d8,
    td_proc: 0x8,
    td_plist: 0x10,
    td_tid: 0xa0,
    td_name: 0x2bc,
    td_oncpu: 0x6bc,
    td_pcb: 0x438,
    pcb_size: 0x140,
    proc_size: 0x550,
    thread_size: 0x6e0,
};
/// arm64 before the change of its PCB.
const ARM64_OLD: Offsets = Offsets {
    td_oncpu: 0x52c,
    pcb_size: 0x560,
    ..LP64
};
/// arm64 after it.
const ARM64: Offsets = Offsets {
    p_comm: 0x3e0,
    td_name: 0x2dc,
    td_oncpu: 0x5f4,
    td_pcb: 0x480,
    pcb_size: 0x4e0,
    proc_size: 0x560,
    thread_size: 0x700,
    ..LP64
};
const RISCV64: Offsets = Offsets {
    td_oncpu: 0x56c,
    pcb_size: 0x298,
    ..ARM64
};
const I386: Offsets = Offsets {
    p_list: 0,
    p_threads: 0x8,
    p_pid: 0x78,
    p_hash: 0x7c,
    p_comm: 0x280,
    td_proc: 0x4,
    td_plist: 0x8,
    td_tid: 0x50,
    td_name: 0x1cc,
    td_oncpu: 0x34c,
    td_pcb: 0x2c0,
    pcb_size: 0xc0,
    proc_size: 0x2c0,
    thread_size: 0x360,
};

/// 32-bit ARM.
const ARM: Offsets = Offsets {
    pcb_size: 0x170,
    ..I386
};
/// The offsets of 32-bit machines are i386's and those of 64-bit machines amd64's, of all kinds: only
/// `struct pcb` is made by the processor. Its size is invented where it is unknown.
const MIPS: Offsets = Offsets {
    pcb_size: 0x180,
    ..I386
};
const MIPS64: Offsets = Offsets {
    pcb_size: 0x300,
    ..LP64
};
const POWERPC: Offsets = Offsets {
    pcb_size: 0x200,
    ..I386
};
const POWERPC64: Offsets = Offsets {
    pcb_size: 0x400,
    ..LP64
};
const SPARC64: Offsets = Offsets {
    pcb_size: 0x600,
    ..LP64
};

impl Era {
    /// The release that goes with a dump of this version.
    pub(super) fn of(options: &Options) -> Self {
        let newest = options.version >= options.arch.newest_version();
        let year = match (options.arch, newest) {
            // Its registers are only known as 14 has them.
            (Arch::Riscv64, _) => 14,
            (Arch::Amd64 | Arch::Arm64, true) => 14,
            (Arch::I386, true) => 13,
            (Arch::Armv7 | Arch::Armeb, true) => 14,
            (Arch::Powerpc64 | Arch::Powerpc64le, true) => 14,
            // The last ones that had them.
            (Arch::Mips | Arch::Mipsel | Arch::Mips64 | Arch::Mips64el, true) => 13,
            (Arch::Sparc64, _) => 12,
            (Arch::Powerpc, _) => 13,
            (Arch::Arm64, false) if options.version == 2 => 13,
            (Arch::Amd64, false) if options.kind == DumpKind::Full => 13,
            _ => 12,
        };
        let offsets = match (options.arch, year) {
            (Arch::Amd64, _) => LP64,
            (Arch::Arm64, 14) => ARM64,
            (Arch::Arm64, _) => ARM64_OLD,
            (Arch::I386, _) => I386,
            (Arch::Riscv64, _) => RISCV64,
            (Arch::Armv7 | Arch::Armeb, _) => ARM,
            (Arch::Mips | Arch::Mipsel, _) => MIPS,
            (Arch::Mips64 | Arch::Mips64el, _) => MIPS64,
            (Arch::Powerpc, _) => POWERPC,
            (Arch::Powerpc64 | Arch::Powerpc64le, _) => POWERPC64,
            (Arch::Sparc64, _) => SPARC64,
        };
        let (release, osreldate) = match year {
            12 => ("12.2-RELEASE", 1_202_000),
            13 => ("13.2-RELEASE", 1_302_001),
            _ => ("14.0-RELEASE", 1_400_097),
        };
        Self {
            release,
            osreldate,
            has_zombproc: osreldate < 1_300_042,
            stoppcbs_is_pointer: osreldate >= 1_400_089,
            offsets,
        }
    }
}
