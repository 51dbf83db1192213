//! The kernel's address space: by its symbols, and by what its page tables say.
//!
//! Where the direct map is differs by version; which of the known places it is, the page tables
//! tell: the direct map maps the root of the page tables to its own address.

use super::RewriteError;
use vmcore::kernel::{KernelFile, Symbol};
use vmcore::memory::Memory;
use vmcore::session::{Session, SessionError};
use vmcore::space::AddressSpace;
use vmcore::translation::{PagingMode, WindowKind};
use vmcore_format::addr::{PhysAddr, VirtAddr};
use vmcore_format::arch::Arch;
use vmcore_format::endian::Width;
use vmcore_format::header::DirectMap;
use vmcore_format::msgbuf::Msgbuf;
use vmcore_format::paging::{self, Amd64, ArmV6, I386, I386Pae, Paging, Radix, TableRef};
use vmcore_writer::machine::{Kernel, KernelImage, MessageBuffer};

/// amd64's `KERNBASE`, and the distance of the image behind it (`KERNLOAD`).
const AMD64_KERNBASE: u64 = 0xffff_ffff_8000_0000;
const AMD64_KERNLOAD: u64 = 2 << 20;
/// i386's `KERNBASE` up to 11.x; and since then, where the image is mapped at its physical address.
const I386_KERNBASE: u64 = 0xc000_0000;
const I386_SPLIT_KERNBASE: u64 = 0x80_0000;
/// arm's `KERNBASE`, if its symbol is missing.
const ARM_KERNBASE: u64 = 0xc000_0000;
/// Most page-table pages for the image: 2 GiB in 2 MiB each.
const NKPT_MAX: u64 = 1024;
/// Largest message buffer that is believed.
const MAX_RING: u32 = 64 << 20;

/// Direct map from, to, and first address of the kernel map: 15.x with five levels, 10.0 and later,
/// 9.x, older.
const AMD64_LAYOUTS: [[u64; 3]; 4] = [
    [
        0xff01_0000_0000_0000,
        0xff21_0000_0000_0000,
        0xffff_fe00_0000_0000,
    ],
    [
        0xffff_f800_0000_0000,
        0xffff_fc00_0000_0000,
        0xffff_fe00_0000_0000,
    ],
    [
        0xffff_fe00_0000_0000,
        0xffff_ff00_0000_0000,
        0xffff_ff80_0000_0000,
    ],
    [
        0xffff_ff00_0000_0000,
        0xffff_ff80_0000_0000,
        0xffff_ff80_0000_0000,
    ],
];

/// The kernel's memory, by the names of its variables.
pub(super) struct KernelMemory<'s> {
    kernel: &'s KernelFile,
    pub(super) space: AddressSpace<'s>,
    pub(super) mode: PagingMode,
    pub(super) radix: Radix,
}

impl<'s> KernelMemory<'s> {
    /// `None` if there is no kernel file.
    pub(super) fn of(session: &'s Session) -> Result<Option<Self>, RewriteError> {
        let kernel = match session.matching_kernel() {
            Ok(kernel) => kernel,
            Err(SessionError::NoKernel { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let space = session.space()?;
        match space.translation().windows().first().map(|w| &w.kind) {
            Some(WindowKind::Radix { mode, radix }) => Ok(Some(Self {
                kernel,
                space,
                mode: *mode,
                radix: *radix,
            })),
            _ => Err(RewriteError::NoRoot),
        }
    }

    pub(super) fn symbol(&self, name: &str) -> Option<Symbol<'s>> {
        self.kernel.symbols().find(name)
    }

    pub(super) fn u32(&self, name: &str) -> Option<u32> {
        self.space.read_u32(self.symbol(name)?.address).ok()
    }

    /// A word of the kernel's size.
    pub(super) fn word(&self, name: &str) -> Option<u64> {
        self.space.read_word(self.symbol(name)?.address).ok()
    }

    /// A number of 4 or 8 bytes, as its symbol says: `time_t` of arm is wider than its words.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        let symbol = self.symbol(name)?;
        match symbol.size {
            8 => self.space.read_u64(symbol.address).ok(),
            _ => self.word(name),
        }
    }

    /// Width of `vm_paddr_t`: arm has 32 bits, as i386 without PAE had before one kernel could do both.
    pub(super) fn physical_address_width(&self) -> Width {
        let is_old = self.symbol("vm_page_dump_pages").is_none();
        match self.mode {
            PagingMode::ArmV6 => Width::W32,
            PagingMode::I386 if is_old => Width::W32,
            _ => Width::W64,
        }
    }

    /// Where the message buffer's ring is; empty if it cannot be found.
    pub(super) fn message_buffer(&self) -> MessageBuffer {
        self.ring().unwrap_or(NO_MESSAGE_BUFFER)
    }

    fn ring(&self) -> Option<MessageBuffer> {
        let at = self
            .space
            .read_pointer(self.symbol("msgbufp")?.address)
            .ok()?;
        let mut raw = [0; 72];
        let raw = raw.get_mut(..Msgbuf::len_bytes(self.space.word()))?;
        self.space.read_exact(at, raw).ok()?;
        let state = Msgbuf::parse(raw, self.space.endian(), self.space.word()).ok()?;
        if state.msg_size > MAX_RING {
            return None;
        }
        let pa = |offset: u64| {
            let va = state.msg_ptr.checked_add(offset)?;
            Some(self.space.locate(va).ok()?.0.leaf.pa)
        };
        let start = pa(0)?;
        // The writer takes it as one piece of physical memory, which it is unless this is no ring.
        let page = self.space.memory().page_size().bytes();
        let mut offsets = (0..u64::from(state.msg_size)).step_by(usize::try_from(page).ok()?);
        offsets
            .all(|offset| pa(offset) == start.checked_add(offset))
            .then_some(MessageBuffer {
                start,
                len_bytes: state.msg_size,
            })
    }
}

/// No message buffer.
pub(super) const NO_MESSAGE_BUFFER: MessageBuffer = MessageBuffer {
    start: PhysAddr(0),
    len_bytes: 0,
};

/// Where page tables lead.
fn lookup(mode: PagingMode, radix: &Radix, memory: &Memory, va: u64) -> Option<PhysAddr> {
    let va = VirtAddr(va);
    let leaf = match mode {
        PagingMode::Amd64 => paging::lookup::<Amd64, _>(radix, memory, va).ok()?,
        PagingMode::ArmV6 => paging::lookup::<ArmV6, _>(radix, memory, va).ok()?,
        PagingMode::I386 => paging::lookup::<I386, _>(radix, memory, va).ok()?,
        PagingMode::I386Pae => paging::lookup::<I386Pae, _>(radix, memory, va).ok()?,
        _ => return None,
    };
    Some(leaf.pa)
}

/// Whether page tables map a kernel's image.
pub(super) fn maps_a_kernel(mode: PagingMode, radix: &Radix, memory: &Memory) -> bool {
    match mode {
        PagingMode::Amd64 => image(mode, radix, memory).is_some(),
        // Where its image starts differs by version, and it is the only thing at such addresses.
        _ => [I386_SPLIT_KERNBASE, 0xc040_0000, 0xc100_0000]
            .into_iter()
            .any(|va| lookup(mode, radix, memory, va).is_some()),
    }
}

/// Where the image of an amd64 kernel was loaded.
pub(super) fn image(mode: PagingMode, radix: &Radix, memory: &Memory) -> Option<KernelImage> {
    let PagingMode::Amd64 = mode else {
        return None;
    };
    let paddr = lookup(mode, radix, memory, AMD64_KERNBASE + AMD64_KERNLOAD)?;
    Some(KernelImage {
        vaddr: VirtAddr(AMD64_KERNBASE),
        paddr,
        hole: AMD64_KERNLOAD,
    })
}

/// The address space that `radix` is the root of.
pub(super) fn address_space(
    arch: Arch,
    mode: PagingMode,
    radix: Radix,
    memory: &Memory,
    kernel: Option<&KernelMemory<'_>>,
) -> Result<Kernel, RewriteError> {
    if !maps_a_kernel(mode, &radix, memory) && kernel.is_none() {
        return Err(RewriteError::NoKernelMap);
    }
    match arch {
        Arch::Amd64 => {
            let [base, end, kernbase] = amd64_layout(&radix, memory);
            Ok(Kernel {
                radix,
                kernbase: VirtAddr(kernbase),
                kernend: VirtAddr(amd64_end(kernel, kernbase).unwrap_or(u64::MAX)),
                direct_map: Some(DirectMap {
                    base: VirtAddr(base),
                    end: VirtAddr(end),
                    phys: PhysAddr(0),
                }),
                image: image(mode, &radix, memory),
            })
        }
        Arch::I386 => {
            let shift = match mode {
                PagingMode::I386Pae => I386Pae::shift(1),
                _ => I386::shift(1),
            };
            let symbol = kernel.and_then(|kernel| kernel.symbol("kernbase"));
            let split = PhysAddr(I386_SPLIT_KERNBASE);
            let is_split = lookup(mode, &radix, memory, split.0) == Some(split);
            let kernbase = match (symbol, is_split) {
                (Some(symbol), _) => symbol.address.0,
                (None, true) => I386_SPLIT_KERNBASE,
                (None, false) => I386_KERNBASE,
            };
            Ok(narrow(radix, kernbase, shift, kernel))
        }
        Arch::Arm => {
            let symbol = kernel.and_then(|kernel| kernel.symbol("kernbase"));
            let kernbase = symbol.map_or(ARM_KERNBASE, |symbol| symbol.address.0);
            Ok(narrow(radix, kernbase, ArmV6::shift(1), kernel))
        }
        _ => Err(RewriteError::Architecture(arch)),
    }
}

/// The kernel map of a 32-bit kernel: without a direct map, and all of it behind `kernbase`, where the
/// image is, too. It starts with a whole table, and ends with what was ever mapped.
fn narrow(
    radix: Radix,
    kernbase: u64,
    table_shift: u32,
    kernel: Option<&KernelMemory<'_>>,
) -> Kernel {
    let kernbase = (kernbase & u64::from(u32::MAX)) >> table_shift << table_shift;
    let end = kernel
        .and_then(|kernel| kernel.word("kernel_vm_end"))
        .filter(|end| *end > kernbase);
    Kernel {
        radix,
        kernbase: VirtAddr(kernbase),
        kernend: VirtAddr(end.unwrap_or(1 << 32)),
        direct_map: None,
        image: None,
    }
}

/// An address space that nobody looks at: full dumps need no page tables.
pub(super) const fn no_address_space() -> Kernel {
    Kernel {
        radix: Radix::section(0, VirtAddr(0), 0),
        kernbase: VirtAddr(0),
        kernend: VirtAddr(0),
        direct_map: None,
        image: None,
    }
}

/// The layout whose direct map the page tables have.
fn amd64_layout(radix: &Radix, memory: &Memory) -> [u64; 3] {
    let TableRef::At(root) = radix.top else {
        return AMD64_LAYOUTS[1];
    };
    let is_mapped = |layout: &&[u64; 3]| {
        let [base, ..] = **layout;
        lookup(
            PagingMode::Amd64,
            radix,
            memory,
            base.saturating_add(root.0),
        ) == Some(root)
    };
    let found = AMD64_LAYOUTS.iter().find(is_mapped);
    found.copied().unwrap_or(AMD64_LAYOUTS[1])
}

/// Where the kernel map ends, as `cpu_minidumpsys` has it: behind what was ever mapped, and behind
/// the image.
fn amd64_end(kernel: Option<&KernelMemory<'_>>, kernbase: u64) -> Option<u64> {
    let kernel = kernel?;
    let nkpt = u64::from(kernel.u32("nkpt")?);
    let vm_end = kernel.word("kernel_vm_end")?;
    let is_sound = (1..=NKPT_MAX).contains(&nkpt) && vm_end >= kernbase;
    let image_end = AMD64_KERNBASE.checked_add(nkpt.checked_mul(2 << 20)?)?;
    is_sound.then_some(image_end.max(vm_end))
}
