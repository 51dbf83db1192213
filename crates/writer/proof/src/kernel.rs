//! A toy kernel: 32 pages of RAM with a full set of page tables, and a disk that forgets. Its values
//! are opaque to the optimiser.

use core::hint::black_box;
use core::marker::PhantomData;
use vmcore_format::addr::{Pfn, PhysAddr, PhysRange, VirtAddr};
use vmcore_format::arch::Arch;
use vmcore_format::dump_avail::NumberedRange;
use vmcore_format::endian::{Endian, Width};
use vmcore_format::header::{DirectMap, Mmu, Powerpc64Mmu};
use vmcore_format::identity::{Identity, Trap};
use vmcore_format::paging::{Radix, TableRef};
use vmcore_writer::arch::KernelPaging;
use vmcore_writer::device::{BlockDevice, DeviceError, Geometry};
use vmcore_writer::machine::{
    Cpu, CpuState, Kernel, KernelImage, MAX_REGISTERS, Machine, MessageBuffer, Module, Process,
    Text, Thread, Unreadable, Window,
};

/// Bytes of RAM.
const RAM_BYTES: usize = 512 << 10;

pub const RANGES: [PhysRange; 2] = [
    PhysRange {
        start: PhysAddr(0),
        end: PhysAddr(0x4_0000),
    },
    PhysRange {
        start: PhysAddr(0x4_0800),
        end: PhysAddr(RAM_BYTES as u64),
    },
];
pub const NO_RANGE: NumberedRange = NumberedRange {
    first: Pfn(0),
    end: Pfn(0),
    first_bit: 0,
};

/// The machine's memory.
pub struct Ram([u8; RAM_BYTES]);

impl Ram {
    pub const EMPTY: Self = Self([0; RAM_BYTES]);
}

/// The kernel.
pub struct Toy<'r, P> {
    ram: &'r Ram,
    radix: Radix,
    kernbase: VirtAddr,
    paging: PhantomData<P>,
}

impl<'r, P: KernelPaging> Toy<'r, P> {
    /// A kernel one small page of which is mapped, through every level.
    pub fn new(ram: &'r mut Ram) -> Self {
        let is_pae = P::ARCH == Arch::I386 && P::ENTRY == Width::W64;
        let (level, first_va, va_bits, kernbase) = match P::ARCH {
            Arch::Amd64 => (4, 0, 57, 0xffff_fe00_0000_0000),
            Arch::Arm64 if P::PAGE_SHIFT == 14 => {
                (2, 0xffff_0000_0000_0000, 64, 0xffff_0000_0000_0000)
            }
            Arch::Arm64 => (3, 0xffff_0000_0000_0000, 64, 0xffff_0000_0000_0000),
            Arch::I386 if is_pae => (2, 0, 64, 0x80_0000),
            Arch::I386 => (1, 0, 64, 0x80_0000),
            Arch::Arm => (1, 0, 64, 0xc000_0000),
            Arch::Powerpc64 => (3, 3 << 62, 64, 0xc008_0000_0000_0000),
            // Riscv64: nothing else is written.
            _ => (3, 0, 48, 0xffff_ffc0_0000_0000),
        };
        let page = P::PAGE_SIZE.bytes();
        // The roots of these are larger than a page; what they have elsewhere does not matter.
        let entries = match P::ARCH {
            _ if is_pae => 4,
            Arch::Arm => 4096,
            Arch::Powerpc64 => 8192,
            _ => 1 << P::INDEX_BITS,
        };
        ram.0.fill(0);
        let root = PhysAddr(page);
        let radix = Radix {
            top: TableRef::At(root),
            level,
            first_va: VirtAddr(first_va),
            entries,
            va_bits,
        };
        for at in (0..=level).rev() {
            let table = root.0 + u64::from(level - at) * page;
            let next = table + page;
            let index_mask = match at == level {
                true => entries - 1,
                false => (1u64 << P::INDEX_BITS) - 1,
            };
            let index = (kernbase - first_va) >> P::shift(at) & index_mask;
            let raw = match (P::ARCH, at) {
                (Arch::Riscv64, 0) => next >> 12 << 10 | 0xcf,
                (Arch::Riscv64, _) => next >> 12 << 10 | 1,
                (Arch::I386, 2) => next | 1,
                (Arch::Arm, 0) => next | 0x12,
                (Arch::Arm, _) => next | 1,
                (Arch::Powerpc64, 0) => 3 << 62 | next | 6,
                (Arch::Powerpc64, _) => 1 << 63 | next | 9,
                _ => next | 0x703,
            };
            let raw = if P::ARCH == Arch::Arm64 {
                raw
            } else {
                raw & !0x700
            };
            let width = P::ENTRY.bytes();
            let start = usize::try_from(table + index * width).unwrap_or(0);
            let bytes = match P::ENDIAN {
                Endian::Little => raw.to_le_bytes(),
                Endian::Big => raw.to_be_bytes(),
            };
            for (to, from) in ram.0.iter_mut().skip(start).zip(bytes) {
                *to = from;
            }
        }
        Self {
            ram,
            radix,
            kernbase: VirtAddr(kernbase),
            paging: PhantomData,
        }
    }
}

impl<P: KernelPaging> Machine for Toy<'_, P> {
    type Paging = P;

    fn kernel(&self) -> Kernel {
        black_box(Kernel {
            radix: self.radix,
            kernbase: self.kernbase,
            kernend: VirtAddr(self.kernbase.0 + (64 << 20)),
            direct_map: (!matches!(P::ARCH, Arch::I386 | Arch::Arm)).then_some(DirectMap {
                base: VirtAddr(0xffff_f800_0000_0000),
                end: VirtAddr(0xffff_fc00_0000_0000),
                phys: PhysAddr(0),
            }),
            image: Some(KernelImage {
                vaddr: VirtAddr(0x8000_0000),
                paddr: PhysAddr(0),
                hole: 0,
            }),
        })
    }

    fn mmu(&self) -> Mmu {
        match P::ARCH {
            Arch::Powerpc64 => Mmu::Powerpc64(Powerpc64Mmu {
                hashed: false,
                kernend: VirtAddr(self.kernbase.0 + (64 << 20) - 1),
                hw_direct_map: true,
                startkernel: VirtAddr(0xc000_0000_0000_0100),
                endkernel: VirtAddr(0xc000_0000_0000_1000),
            }),
            _ => P::MMU,
        }
    }

    fn message_buffer(&self) -> MessageBuffer {
        black_box(MessageBuffer {
            start: PhysAddr(0x1_2345),
            len_bytes: 10_000,
        })
    }

    fn copy(&self, from: PhysAddr, to: &mut [u8]) -> Result<(), Unreadable> {
        let start = usize::try_from(from.0).map_err(|_| Unreadable)?;
        let end = start.checked_add(to.len()).ok_or(Unreadable)?;
        let bytes = self.ram.0.get(start..end).ok_or(Unreadable)?;
        for (to, from) in to.iter_mut().zip(bytes) {
            *to = *from;
        }
        black_box(Ok(()))
    }

    fn dumpable(&self, page: Pfn) -> bool {
        black_box(page.0 != 7)
    }

    fn text(&self, _: Text, to: &mut [u8]) -> usize {
        to.fill(black_box(b'x'));
        black_box(to.len())
    }

    fn identity(&self) -> Identity {
        black_box(Identity {
            trap: Trap::Panic,
            ..Identity::default()
        })
    }

    fn cpus(&self) -> u32 {
        black_box(3)
    }

    fn cpu(&self, cpu: u32) -> Cpu {
        black_box(Cpu {
            state: CpuState::Stopped,
            thread: cpu.into(),
            registers: [1; MAX_REGISTERS],
        })
    }

    fn window(&self, index: u32) -> Option<Window> {
        let all = Window {
            first: self.kernbase,
            last: VirtAddr(self.kernbase.0 + (64 << 20) - 1),
        };
        black_box((index == 0).then_some(all))
    }

    fn process(&self, cursor: &mut u64) -> Option<Process> {
        *cursor += 1;
        black_box((*cursor < 9).then(Process::default))
    }

    fn thread(&self, cursor: &mut u64) -> Option<Thread> {
        *cursor += 1;
        black_box((*cursor < 9).then(|| Thread::new(*cursor, [b'x'; 32])))
    }

    fn thread_register(&self, thread: &Thread, place: usize) -> Option<u64> {
        black_box((place < 20).then_some(thread.id))
    }

    fn module(&self, cursor: &mut u64) -> Option<Module> {
        *cursor += 1;
        black_box((*cursor < 9).then(Module::default))
    }

    fn pat_watchdog(&self) {
        black_box(());
    }

    fn poll_abort(&self) -> bool {
        black_box(false)
    }
}

/// A disk that forgets what is written to it.
pub struct Disk {
    under_way: usize,
}

impl Disk {
    pub fn new() -> Self {
        Self {
            under_way: black_box(0),
        }
    }
}

impl BlockDevice for Disk {
    fn geometry(&self) -> Geometry {
        black_box(Geometry {
            block_bytes: 512,
            max_transfer_bytes: 64 << 10,
            media_offset: 1 << 20,
            media_bytes: 64 << 20,
        })
    }

    fn prepare(&mut self, _: u32) -> Result<(), DeviceError> {
        black_box(Ok(()))
    }

    fn submit(&mut self, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        self.under_way = black_box((offset, data)).1.len();
        black_box(Ok(()))
    }

    fn complete(&mut self, _: u32) -> Result<usize, DeviceError> {
        black_box(Ok(self.under_way))
    }

    fn flush(&mut self, _: u32) -> Result<(), DeviceError> {
        black_box(Ok(()))
    }
}
