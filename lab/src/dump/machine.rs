//! What the writer asks, and this kernel's answers. Nothing here takes a lock, allocates or waits.

use crate::arch::layout::{KERNBASE, KERNLOAD, KVA_MIN, PAGE_2M, PAGE_SIZE};
use crate::arch::pcb::{pcb, trapframe};
use crate::arch::{cpu, layout, probe, time};
use crate::kern::panic_record::Registers;
use crate::kern::setting::FAULT_AT_PAGE;
use crate::kern::{crash, panic_record, version, watchdog};
use crate::sys::console::{print_unlogged, print_unlogged_args};
use crate::sys::proc::thread;
use crate::sys::{mp, msgbuf, pcpu, uart};
use crate::vm::{phys, pmap};
use core::cell::Cell;
use vmcore_format::addr::{Pfn, PhysAddr, VirtAddr};
use vmcore_format::header::DirectMap;
use vmcore_format::identity::{BuildId, Clock, Identity, Trap};
use vmcore_format::paging::{Amd64, Radix};
use vmcore_writer::Machine;
use vmcore_writer::machine::{
    Cpu, CpuState, Kernel, KernelImage, MAX_REGISTERS, MessageBuffer, Progress, Text, Unreadable,
};

/// The key that stops a dump.
const CONTROL_C: u8 = 3;
/// Percent between two signs of progress.
const STEP_PERCENT: u64 = 10;

/// The kernel that is being dumped, and what was said about that so far.
pub(crate) struct LabMachine {
    /// The next percentage worth a word; `None` before the line has begun.
    next_percent: Cell<Option<u64>>,
    /// Pages that were read, for a fault on purpose.
    pages_read: Cell<u64>,
}

impl LabMachine {
    pub(crate) const fn new() -> Self {
        Self {
            next_percent: Cell::new(None),
            pages_read: Cell::new(0),
        }
    }

    /// One that says nothing of its progress.
    pub(crate) const fn silent() -> Self {
        Self {
            next_percent: Cell::new(Some(u64::MAX)),
            pages_read: Cell::new(0),
        }
    }

    /// Ends the line of the progress.
    pub(crate) fn end_line(&self) {
        if self.next_percent.get().is_some() {
            print_unlogged("\n");
        }
    }
}

/// Where the kernel map ends: after the image.
pub(crate) fn kernel_end() -> VirtAddr {
    VirtAddr(layout::image().end.next_multiple_of(PAGE_2M))
}

impl Machine for LabMachine {
    type Paging = Amd64;

    fn kernel(&self) -> Kernel {
        Kernel {
            // The register and the variable say the same, unless one of them was overwritten.
            radix: Radix::root::<Amd64>(pmap::root(), 3),
            kernbase: KVA_MIN,
            kernend: kernel_end(),
            direct_map: Some(DirectMap {
                base: layout::DMAP_MIN,
                end: VirtAddr(layout::DMAP_MIN.0 + pmap::dmap_limit()),
                phys: PhysAddr(0),
            }),
            image: Some(KernelImage {
                vaddr: KERNBASE,
                paddr: PhysAddr(KERNLOAD),
                hole: KERNLOAD,
            }),
        }
    }

    fn message_buffer(&self) -> MessageBuffer {
        MessageBuffer {
            start: msgbuf::physical().unwrap_or_default(),
            len_bytes: msgbuf::ring().map_or(0, |(_, len)| len),
        }
    }

    fn copy(&self, from: PhysAddr, to: &mut [u8]) -> Result<(), Unreadable> {
        let before = self.pages_read.get();
        let after = before + to.len() as u64 / PAGE_SIZE;
        self.pages_read.set(after);
        if (before + 1..=after).contains(&FAULT_AT_PAGE.get()) {
            crash::load_from(8);
        }
        let end = from.checked_add(to.len() as u64).ok_or(Unreadable)?;
        if end.0 > pmap::dmap_limit() {
            return Err(Unreadable);
        }
        probe::copy(layout::dmap_address(from), to).map_err(|_| Unreadable)
    }

    fn dumpable(&self, page: Pfn) -> bool {
        phys::is_dumpable(page)
    }

    fn text(&self, text: Text, to: &mut [u8]) -> usize {
        let text = match text {
            Text::Hostname => version::hostname(),
            Text::Version => version::version.as_str(),
            Text::Panic => panic_record::message().unwrap_or_default(),
            Text::System => "FreeBSD",
            Text::Compiler => "",
        };
        for (to, from) in to.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        text.len().min(to.len())
    }

    fn identity(&self) -> Identity {
        Identity {
            boot_id: version::boot_id(),
            build_id: BuildId::new(version::build_id()),
            trap: panic_record::cause(),
            time_seconds: i64::try_from(time::seconds()).unwrap_or(0),
            clock: Clock::ClockChip,
            uptime_us: time::uptime_us(),
            live: panic_record::cause() == Trap::Request,
            ..Identity::default()
        }
    }

    fn cpus(&self) -> u32 {
        mp::ncpus() as u32
    }

    fn cpu(&self, cpu: u32) -> Cpu {
        let number = cpu as usize;
        let current = pcpu::find(number).and_then(pcpu::pcpu::thread);
        let thread = current.map_or(0, |thread: &thread| u64::from(thread.td_tid.unsigned_abs()));
        if number == pcpu::cpuid() {
            let registers = match panic_record::registers() {
                Registers::Trap(frame) => from_frame(&frame),
                Registers::Call(pcb) => from_pcb(&pcb),
            };
            return Cpu {
                state: CpuState::Dumping,
                thread,
                registers,
            };
        }
        if !mp::is_stopped(number) {
            return Cpu {
                thread,
                ..Cpu::RUNNING
            };
        }
        let pcb = mp::registers(number);
        let mut registers = match mp::interrupted(number) {
            Some(frame) => from_frame(&frame),
            None => from_pcb(&pcb),
        };
        registers[CR0..CR0 + 4].copy_from_slice(&[
            pcb.pcb_cr0,
            pcb.pcb_cr2,
            pcb.pcb_cr3,
            pcb.pcb_cr4,
        ]);
        Cpu {
            state: CpuState::Stopped,
            thread,
            registers,
        }
    }

    fn pat_watchdog(&self) {
        watchdog::pat();
    }

    fn poll_abort(&self) -> bool {
        match uart::poll() {
            Some(CONTROL_C) => true,
            Some(_) => {
                print_unlogged(" (CTRL-C to abort) ");
                false
            }
            None => false,
        }
    }

    fn progress(&self, progress: Progress) {
        let percent = progress.done_bytes * 100 / progress.total_bytes.max(1);
        let next = match self.next_percent.get() {
            Some(next) => next,
            None => {
                let (total, ram) = (progress.total_bytes >> 20, phys::total_pages() >> 8);
                // To the console only: the message buffer is being dumped, and stays as it is.
                print_unlogged_args(format_args!("Dumping {total} out of {ram} MB:"));
                STEP_PERCENT
            }
        };
        if percent >= next {
            print_unlogged_args(format_args!("..{percent}%"));
            self.next_percent
                .set(Some((percent / STEP_PERCENT + 1) * STEP_PERCENT));
        } else {
            self.next_percent.set(Some(next));
        }
    }
}

/// Position of `cr0` among the registers; `cr2`, `cr3`, `cr4` follow.
const CR0: usize = 27;

/// In the order of `vmcore_format::registers`.
fn from_frame(frame: &trapframe) -> [u64; MAX_REGISTERS] {
    let mut registers = [0; MAX_REGISTERS];
    let general = [
        frame.tf_rax,
        frame.tf_rcx,
        frame.tf_rdx,
        frame.tf_rbx,
        frame.tf_rsp,
        frame.tf_rbp,
        frame.tf_rsi,
        frame.tf_rdi,
        frame.tf_r8,
        frame.tf_r9,
        frame.tf_r10,
        frame.tf_r11,
        frame.tf_r12,
        frame.tf_r13,
        frame.tf_r14,
        frame.tf_r15,
        frame.tf_rip,
        frame.tf_rflags,
    ];
    let segments = [
        frame.tf_cs & 0xffff,
        frame.tf_ss & 0xffff,
        frame.tf_ds.into(),
        frame.tf_es.into(),
        frame.tf_fs.into(),
        frame.tf_gs.into(),
    ];
    registers[..18].copy_from_slice(&general);
    registers[18..24].copy_from_slice(&segments);
    registers[CR0 + 1] = frame.tf_addr;
    registers[CR0 + 2] = cpu::cr3();
    registers
}

fn from_pcb(pcb: &pcb) -> [u64; MAX_REGISTERS] {
    let mut registers = [0; MAX_REGISTERS];
    registers[3..6].copy_from_slice(&[pcb.pcb_rbx, pcb.pcb_rsp, pcb.pcb_rbp]);
    registers[12..17].copy_from_slice(&[
        pcb.pcb_r12,
        pcb.pcb_r13,
        pcb.pcb_r14,
        pcb.pcb_r15,
        pcb.pcb_rip,
    ]);
    registers[25] = pcb.pcb_gsbase;
    registers[CR0..CR0 + 4].copy_from_slice(&[pcb.pcb_cr0, pcb.pcb_cr2, pcb.pcb_cr3, pcb.pcb_cr4]);
    registers
}
