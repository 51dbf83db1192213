//! What the loader hands over (Xen's `hvm_start_info`): command line, memory map, one module.
//!
//! All of it is in memory that the map itself calls RAM, so it is copied before any page is given
//! away.

use crate::arch::layout;
use vmcore_format::addr::{PhysAddr, PhysRange};

const MAGIC: u32 = 0x336e_c578;
const RAM: u32 = 1;
/// The longest command line that is kept.
pub(crate) const CMDLINE_MAX: usize = 2048;
/// The most RAM ranges of a machine.
pub(crate) const RANGES_MAX: usize = 31;

#[repr(C)]
struct HvmStartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    nr_modules: u32,
    modlist: u64,
    cmdline: u64,
    rsdp: u64,
    memmap: u64,
    memmap_entries: u32,
    reserved: u32,
}

#[repr(C)]
struct MemmapEntry {
    addr: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

#[repr(C)]
struct ModlistEntry {
    paddr: u64,
    size: u64,
    cmdline: u64,
    reserved: u64,
}

/// A copy of it all.
pub(crate) struct StartInfo {
    cmdline: [u8; CMDLINE_MAX],
    cmdline_len: usize,
    ram: [PhysRange; RANGES_MAX],
    ram_len: usize,
    /// The kernel's own file, for its symbols.
    pub(crate) module: Option<PhysRange>,
}

impl StartInfo {
    /// Copies the structure at `at`.
    ///
    /// # Safety
    /// `at` must be what the loader left in `ebx`, and the direct map must cover the first gigabyte.
    pub(crate) unsafe fn read(at: PhysAddr) -> Option<Self> {
        // SAFETY: the loader's structure, untouched so far.
        let info = unsafe { &*layout::dmap(at).cast::<HvmStartInfo>() };
        if info.magic != MAGIC || info.version < 1 {
            return None;
        }
        let empty = PhysRange {
            start: PhysAddr(0),
            end: PhysAddr(0),
        };
        let mut copy = Self {
            cmdline: [0; CMDLINE_MAX],
            cmdline_len: 0,
            ram: [empty; RANGES_MAX],
            ram_len: 0,
            module: None,
        };
        // SAFETY: the loader's string, ended by NUL, in low memory.
        unsafe { copy.copy_cmdline(layout::dmap(PhysAddr(info.cmdline))) }
        for index in 0..u64::from(info.memmap_entries) {
            let entry = PhysAddr(info.memmap + index * size_of::<MemmapEntry>() as u64);
            // SAFETY: the loader's array has that many entries.
            let entry = unsafe { &*layout::dmap(entry).cast::<MemmapEntry>() };
            if entry.kind == RAM && copy.ram_len < RANGES_MAX {
                copy.ram[copy.ram_len] = PhysRange {
                    start: PhysAddr(entry.addr),
                    end: PhysAddr(entry.addr + entry.size),
                };
                copy.ram_len += 1;
            }
        }
        if info.nr_modules > 0 {
            // SAFETY: the loader's list has an entry.
            let module = unsafe { &*layout::dmap(PhysAddr(info.modlist)).cast::<ModlistEntry>() };
            copy.module = Some(PhysRange {
                start: PhysAddr(module.paddr),
                end: PhysAddr(module.paddr + module.size),
            });
        }
        Some(copy)
    }

    /// # Safety
    /// `from` must be a string ended by NUL.
    unsafe fn copy_cmdline(&mut self, from: *const u8) {
        for (index, slot) in self.cmdline.iter_mut().enumerate() {
            // SAFETY: all bytes before were not the end.
            match unsafe { *from.add(index) } {
                0 => return,
                byte => *slot = byte,
            }
            self.cmdline_len = index + 1;
        }
    }

    pub(crate) fn cmdline(&self) -> &str {
        core::str::from_utf8(&self.cmdline[..self.cmdline_len]).unwrap_or_default()
    }

    pub(crate) fn ram(&self) -> &[PhysRange] {
        &self.ram[..self.ram_len]
    }
}
