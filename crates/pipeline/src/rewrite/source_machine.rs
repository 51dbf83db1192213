//! What is known of the machine in a file, gathered before anything is written.

use super::arch::{self, ArchConversion};
use super::choice::Marked;
use super::cpus;
use super::error::{RewriteError, TargetFormat};
use super::identity::{self, Earlier};
use super::kernel::{self, KernelMemory, Tables};
use super::qemu::{self, QemuCpu};
use super::ram::{self, Ram};
use vmcore::dump::DumpFormat;
use vmcore::session::{Session, SessionError};
use vmcore::translation::PagingMode;
use vmcore_format::addr::{PhysAddr, VirtAddr};
use vmcore_format::identity::Identity;
use vmcore_writer::machine::{Cpu, CpuState, Kernel, KernelImage, MessageBuffer};

/// The machine, as far as the file and the kernel's symbols tell.
pub(super) struct SourceMachine {
    pub(super) arch: &'static ArchConversion,
    pub(super) mode: PagingMode,
    pub(super) kernel: Kernel,
    pub(super) ram: Ram,
    pub(super) marked: Marked,
    pub(super) message_buffer: MessageBuffer,
    pub(super) identity: Identity,
    pub(super) cpus: Vec<Cpu>,
}

impl SourceMachine {
    pub(super) fn gather(session: &Session, target: TargetFormat) -> Result<Self, RewriteError> {
        let dump = session.dump();
        let memory = dump.memory();
        let arch = arch::of(dump.arch()).ok_or(RewriteError::Architecture(dump.arch()))?;
        let earlier = Earlier::read(memory.source());
        let notes = qemu::cpus(arch, dump);
        let known = match (KernelMemory::of(session), target) {
            (Ok(known), _) => known,
            (Err(error @ RewriteError::Session(SessionError::Mismatch { .. })), _)
            | (Err(error), TargetFormat::Minidump) => return Err(error),
            // RAM can be copied whatever the page tables say.
            (Err(_), TargetFormat::Full) => None,
        };
        let mut source = Self {
            identity: identity::identity(session, &earlier, &notes, known.as_ref())?,
            cpus: cpus::cpus(session, &earlier, &notes, known.as_ref()),
            arch,
            mode: arch.mode,
            kernel: kernel::no_address_space(),
            ram: ram::of_full_dump(memory, arch, known.as_ref()),
            marked: Marked::Nothing,
            message_buffer: kernel::NO_MESSAGE_BUFFER,
        };
        match target {
            TargetFormat::Minidump => source.for_minidump(session, &notes, known.as_ref())?,
            TargetFormat::Full => {
                let tables = known.as_ref().map(|known| Tables {
                    mode: known.mode,
                    radix: known.radix,
                    memory,
                });
                let image = tables.and_then(|tables| (arch.image)(&tables));
                source.kernel.image = given_image(session).or(image);
            }
        }
        match source.ram.ranges.is_empty() {
            true => Err(RewriteError::Ram),
            false => Ok(source),
        }
    }

    fn for_minidump(
        &mut self,
        session: &Session,
        notes: &[QemuCpu],
        known: Option<&KernelMemory<'_>>,
    ) -> Result<(), RewriteError> {
        let memory = session.dump().memory();
        let arch = self.arch;
        let tables = match known {
            Some(known) => Tables {
                mode: known.mode,
                radix: known.radix,
                memory,
            },
            None => tables_of_cpus(arch, session, notes)?,
        };
        self.mode = tables.mode;
        self.kernel = (arch.address_space)(&tables, known);
        self.ram = match known {
            Some(known) => ram::of_kernel(memory, arch, known),
            None => ram::present(memory),
        };
        self.marked = Marked::of(arch, &self.ram, known);
        if let Some(known) = known {
            self.message_buffer = known.message_buffer();
        }
        Ok(())
    }

    /// CPUs whose registers are known.
    pub(super) fn stopped_cpus(&self) -> u32 {
        let stopped = self
            .cpus
            .iter()
            .filter(|cpu| matches!(cpu.state, CpuState::Stopped | CpuState::Dumping));
        u32::try_from(stopped.count()).unwrap_or(u32::MAX)
    }
}

/// The page tables of a CPU that was in the kernel; a process' may lack the kernel's part.
fn tables_of_cpus<'s>(
    arch: &ArchConversion,
    session: &'s Session,
    notes: &[QemuCpu],
) -> Result<Tables<'s>, RewriteError> {
    if notes.is_empty() {
        return match session.space() {
            Err(error) => Err(error.into()),
            // Without a kernel file only the segments of a core translate.
            Ok(_) => Err(RewriteError::NoRoot),
        };
    }
    let maps_a_kernel = arch.qemu.as_ref().map(|qemu| qemu.maps_a_kernel);
    let maps_a_kernel = maps_a_kernel.ok_or(RewriteError::NoRoot)?;
    let memory = session.dump().memory();
    let (in_kernel, others): (Vec<&QemuCpu>, Vec<&QemuCpu>) =
        notes.iter().partition(|cpu| cpu.is_in_kernel());
    in_kernel
        .into_iter()
        .chain(others)
        .map(|cpu| cpu.page_tables())
        .map(|(mode, radix)| Tables {
            mode,
            radix,
            memory,
        })
        .find(maps_a_kernel)
        .ok_or(RewriteError::NoKernelMap)
}

/// Where the dump itself says that the image was loaded.
fn given_image(session: &Session) -> Option<KernelImage> {
    let DumpFormat::Full(header) = session.dump().kind() else {
        return None;
    };
    header.delta.map(|delta| KernelImage {
        vaddr: VirtAddr(delta.vaddr.0),
        paddr: PhysAddr(delta.paddr.0),
        hole: delta.hole,
    })
}
