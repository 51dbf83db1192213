//! The kernel of a synthetic machine: functions, constants and variables.

use super::era::Era;
use super::layout::{AMD64_KERNBASE, Layout};
use super::{MAX_CPUS, Options};
use crate::Arch;
use crate::bytes::{index, low32};
use crate::elf::{Kernel, SectionKind, Symbol};

/// Bytes of a function.
const FUNCTION_LEN: u64 = 0x40;
/// Bytes of a `struct pcpu`.
pub(super) const PCPU_LEN: u64 = 0x100;
/// Bytes of the panic message's buffer.
const PANIC_BUFFER_LEN: u64 = 256;
/// Bytes of a CPU set: 256 CPUs.
const CPUSET_LEN: u64 = 32;
/// `e_flags` of mips: the n32 convention.
const EF_MIPS_ABI2: u32 = 0x20;
/// Headers and notes of the image.
const HEADERS_LEN: u64 = 0x1000;

/// Functions that every kernel has here.
const FUNCTIONS: &[&str] = &[
    "btext",
    "kdb_backtrace",
    "doadump",
    "kern_reboot",
    "vpanic",
    "panic",
    "kdb_sysctl_panic",
    "sysctl_root_handler_locked",
    "sysctl_root",
    "userland_sysctl",
    "sys___sysctl",
    "cpu_switch",
    "sched_switch",
    "mi_switch",
    "sleepq_wait",
    "sleepq_catch_signals",
    "sleepq_wait_sig",
    "_sleep",
    "kern_kevent",
    "sys_kevent",
    "taskqueue_thread_loop",
    "vm_pageout",
    "swapper",
    "cpu_idle",
    "sched_idletd",
    "fork_exit",
    "fork_trampoline",
    "cpustop_handler",
];

/// The functions between a system call's entry and the kernel proper, innermost first.
pub(super) const fn system_call(arch: Arch) -> [&'static str; 2] {
    match arch {
        Arch::Amd64 => ["amd64_syscall", "fast_syscall_common"],
        Arch::Arm64 => ["do_el0_sync", "handle_el0_sync"],
        Arch::I386 => ["syscall", "int0x80_syscall"],
        Arch::Riscv64 => ["do_trap_user", "cpu_exception_handler_user"],
        Arch::Armv7 | Arch::Armeb => ["swi_handler", "swi_entry"],
        Arch::Mips | Arch::Mipsel | Arch::Mips64 | Arch::Mips64el => {
            ["trap", "MipsUserGenException"]
        }
        Arch::Powerpc | Arch::Powerpc64 | Arch::Powerpc64le => ["trap", "trapagain"],
        Arch::Sparc64 => ["syscall", "tl0_syscall"],
    }
}

/// The functions between the code that stops a CPU and what it did before, innermost first.
pub(super) const fn stop(arch: Arch) -> [&'static str; 2] {
    match arch {
        Arch::Amd64 => ["ipi_nmi_handler", "nmi_calltrap"],
        Arch::Arm64 => ["intr_ipi_dispatch", "handle_el1h_irq"],
        Arch::I386 => ["ipi_nmi_handler", "calltrap"],
        Arch::Riscv64 => ["intr_ipi_dispatch", "cpu_exception_handler_supervisor"],
        Arch::Armv7 | Arch::Armeb => ["intr_ipi_dispatch", "irq_entry"],
        Arch::Mips | Arch::Mipsel | Arch::Mips64 | Arch::Mips64el => {
            ["mips_ipi_handler", "MipsKernIntr"]
        }
        Arch::Powerpc | Arch::Powerpc64 | Arch::Powerpc64le => ["powerpc_ipi_handler", "trapagain"],
        Arch::Sparc64 => ["cpu_ipi_stop", "tl1_intr"],
    }
}

/// A section that grows.
struct Growing {
    name: &'static str,
    kind: SectionKind,
    start: u64,
    content: Vec<u8>,
}

impl Growing {
    fn after(kernel: &Kernel, name: &'static str, kind: SectionKind) -> Self {
        let end = kernel
            .sections
            .last()
            .map_or(kernel.base + HEADERS_LEN, |section| {
                section.address + section.content.len() as u64
            });
        Self {
            name,
            kind,
            start: end.next_multiple_of(64),
            content: Vec::new(),
        }
    }

    /// Adds a variable and its symbol.
    fn add(&mut self, kernel: &mut Kernel, name: &str, content: &[u8]) {
        let align = (content.len() as u64).next_power_of_two().min(16);
        let address = (self.start + self.content.len() as u64).next_multiple_of(align);
        self.content.resize(index(address - self.start), 0);
        self.content.extend_from_slice(content);
        kernel.add_object(name, address, content.len() as u64);
    }

    fn finish(self, kernel: &mut Kernel) {
        kernel.add_section(self.name, self.kind, self.start, &self.content);
    }
}

/// Makes the kernel file of a machine.
pub(super) fn kernel(options: &Options, layout: &Layout, era: &Era, version: &str) -> Kernel {
    let mut kernel = Kernel::new(options.arch, layout.image_va - layout.displacement);
    kernel.displacement = layout.displacement;
    if options.n32 {
        kernel.e_flags |= EF_MIPS_ABI2;
    }
    text(&mut kernel);
    constants(&mut kernel, era, version);
    data(&mut kernel, options, era);
    variables(&mut kernel, options, era);
    let kernbase = match options.arch {
        Arch::Amd64 => AMD64_KERNBASE,
        _ => layout.kernbase,
    };
    kernel.add_object("kernbase", kernbase, 0);
    kernel
}

fn text(kernel: &mut Kernel) {
    let start = kernel.base + HEADERS_LEN;
    let of_arch = system_call(kernel.arch)
        .into_iter()
        .chain(stop(kernel.arch));
    let is_arm = matches!(kernel.arch, Arch::Armv7 | Arch::Armeb);
    let saves = is_arm.then_some("savectx");
    let mut names: Vec<&str> = FUNCTIONS
        .iter()
        .copied()
        .chain(of_arch)
        .chain(saves)
        .collect();
    // powerpc comes in by the same way from everywhere.
    names.dedup();
    let last = names.len() - 1;
    if names[..last].contains(&names[last]) {
        names.pop();
    }
    let mut content = Vec::new();
    for name in names {
        kernel.add_function(name, start + content.len() as u64, FUNCTION_LEN);
        // Not instructions, but no two functions are alike.
        content.extend(
            (0..FUNCTION_LEN)
                .zip(name.bytes().cycle())
                .map(|(_, byte)| byte ^ 0x90),
        );
    }
    kernel.add_section(".text", SectionKind::Code, start, &content);
}

fn constants(kernel: &mut Kernel, era: &Era, version: &str) {
    let mut rodata = Growing::after(kernel, ".rodata", SectionKind::ReadOnly);
    let offsets = &era.offsets;
    let mut exported = vec![
        ("proc_off_p_pid", offsets.p_pid),
        ("proc_off_p_comm", offsets.p_comm),
        ("proc_off_p_list", offsets.p_list),
        ("proc_off_p_threads", offsets.p_threads),
        ("thread_off_td_tid", offsets.td_tid),
        ("thread_off_td_name", offsets.td_name),
        ("thread_off_td_oncpu", offsets.td_oncpu),
        ("thread_off_td_pcb", offsets.td_pcb),
        ("thread_off_td_plist", offsets.td_plist),
        ("pcb_size", offsets.pcb_size),
    ];
    if !era.has_zombproc {
        exported.push(("proc_off_p_hash", offsets.p_hash));
    }
    for (name, value) in exported {
        rodata.add(kernel, name, &kernel.arch.u32(low32(value)));
    }
    let text = |text: &str| [text.as_bytes(), b"\0"].concat();
    rodata.add(kernel, "ostype", &text("FreeBSD"));
    rodata.add(kernel, "osrelease", &text(era.release));
    rodata.add(kernel, "version", &text(version));
    rodata.finish(kernel);
}

fn data(kernel: &mut Kernel, options: &Options, era: &Era) {
    let mut data = Growing::after(kernel, ".data", SectionKind::Data);
    let hz: i32 = if options.arch == Arch::Arm64 {
        1000
    } else {
        100
    };
    let number = |value: i32| options.arch.u32(value.cast_unsigned());
    data.add(kernel, "hz", &number(hz));
    data.add(kernel, "osreldate", &number(era.osreldate));
    data.finish(kernel);
}

/// Variables that get their values when the machine runs.
fn variables(kernel: &mut Kernel, options: &Options, era: &Era) {
    let mut bss = Growing::after(kernel, ".bss", SectionKind::Bss);
    let word = options.arch.word_bytes();
    let offsets = &era.offsets;
    let stoppcbs = if era.stoppcbs_is_pointer {
        word
    } else {
        MAX_CPUS * offsets.pcb_size
    };
    // i386 has 32-bit times, and so has powerpc.
    let time = word;
    let mut wanted = vec![
        ("allproc", word),
        ("pidhashtbl", word),
        ("pidhash", word),
        ("dumptid", 4),
        ("dumppcb", offsets.pcb_size),
        ("stoppcbs", stoppcbs),
        ("stopped_cpus", CPUSET_LEN),
        ("cpuid_to_pcpu", MAX_CPUS * word),
        ("mp_maxid", 4),
        ("mp_maxcpus", 4),
        ("mp_ncpus", 4),
        ("panicstr", word),
        ("time_second", time),
        ("time_uptime", time),
        ("msgbufp", word),
        ("proc0", offsets.proc_size),
        ("thread0_st", offsets.thread_size),
    ];
    if era.has_zombproc {
        wanted.push(("zombproc", word));
    }
    match options.arch {
        Arch::Amd64 => wanted.extend([
            ("KPML4phys", 8),
            ("KPML5phys", 8),
            ("la57", 4),
            ("kernphys", 8),
        ]),
        Arch::I386 if options.version >= 2 => {
            wanted.extend([("IdlePDPT", 4), ("IdlePTD_nopae", 4), ("pae_mode", 4)]);
        }
        Arch::I386 if options.pae => wanted.push(("IdlePDPT", 4)),
        Arch::I386 => wanted.push(("IdlePTD", 4)),
        _ => {}
    }
    for (name, len) in wanted {
        bss.add(kernel, name, &vec![0; index(len)]);
    }
    let local = [
        ("vpanic.buf", PANIC_BUFFER_LEN),
        ("pcpu_array", MAX_CPUS * PCPU_LEN),
    ];
    for (name, len) in local {
        bss.add(kernel, name, &vec![0; index(len)]);
        if let Some(symbol) = kernel.symbols.last_mut() {
            *symbol = Symbol {
                is_global: false,
                ..symbol.clone()
            };
        }
    }
    bss.finish(kernel);
}
