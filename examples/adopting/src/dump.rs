//! Crash dumps: what the writer asks, and this kernel's answers.

use crate::{MESSAGES, READER_STACK, STACK, TASKS, println};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU64, Ordering};
use vmcore_kit::ata::Ata;
use vmcore_kit::writer::Settings;
use vmcore_kit::writer::format::addr::{PageSize, Pfn, PhysAddr, PhysRange, VirtAddr};
use vmcore_kit::writer::format::header::DirectMap;
use vmcore_kit::writer::format::identity::{Identity, Trap};
use vmcore_kit::writer::format::paging::{Amd64, Radix};
use vmcore_kit::writer::machine::{
    Cpu, Kernel, Machine, MessageBuffer, Text, Thread, ThreadState, Unreadable, Window, name,
};
use vmcore_kit::x86::{self, Registers};
use vmcore_kit::{Dumper, build_id};

const PAGE: PageSize = PageSize::SIZE_4K;
const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
/// All RAM: QEMU is started with 128 MiB. A real kernel takes it from its firmware, by `RamRanges`.
static RAM: [PhysRange; 2] = [range(0, 0x9_f000), range(0x10_0000, 0x800_0000)];
/// The dumper's memory: the megabyte at 16 MiB.
const RESERVE: PhysRange = range(0x100_0000, 0x110_0000);

static DUMPER: Dumper<Ata> = Dumper::new();

const fn range(start: u64, end: u64) -> PhysRange {
    PhysRange {
        start: PhysAddr(start),
        end: PhysAddr(end),
    }
}

unsafe extern "C" {
    static pml4: u8;
    static stack: u8;
    static build_id_start: u8;
    static build_id_end: u8;
}

pub(crate) fn init() {
    // SAFETY: nobody else uses the controller.
    let Some(disk) = (unsafe { Ata::find(0x1f0, 0x3f6, false) }) else {
        return println!("adopting: no disk, no dumps");
    };
    let len = usize::try_from(RESERVE.end.0 - RESERVE.start.0).unwrap_or(0);
    let at = usize::try_from(DIRECT_MAP + RESERVE.start.0).unwrap_or(0);
    let memory = core::ptr::with_exposed_provenance_mut(at);
    // SAFETY: nobody else uses that memory, and the direct map has it.
    let memory = unsafe { core::slice::from_raw_parts_mut(memory, len) };
    match DUMPER.init(PAGE, &RAM, memory, RESERVE.start, disk) {
        Ok(()) => println!("adopting: dumps go to the first disk"),
        Err(error) => println!("adopting: no dumps: {error}"),
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let registers = Registers::here();
    println!("{info}");
    match DUMPER.dump(&Crash(registers), Settings::default()) {
        Ok(summary) => println!("adopting: dumped {} pages", summary.pages),
        Err(failure) => println!("adopting: no dump: {failure}"),
    }
    // SAFETY: QEMU's way out.
    unsafe { x86::outb(0xf4, 0) }
    loop {}
}

struct Crash(Registers);

impl Machine for Crash {
    type Paging = Amd64;

    fn kernel(&self) -> Kernel {
        Kernel {
            radix: Radix::root::<Amd64>(PhysAddr((&raw const pml4).addr() as u64), 3),
            // FreeBSD's readers get the direct map; ours get everything, by `window`.
            kernbase: VirtAddr(DIRECT_MAP),
            kernend: VirtAddr(DIRECT_MAP + 0x800_0000),
            direct_map: Some(DirectMap {
                base: VirtAddr(DIRECT_MAP),
                end: VirtAddr(DIRECT_MAP + 0x4000_0000),
                phys: PhysAddr(0),
            }),
            image: None,
        }
    }

    fn window(&self, index: u32) -> Option<Window> {
        // The image, and the heap; the direct map is known.
        let (first, last) = match index {
            0 => (0x20_0000, 0x3f_ffff),
            1 => (0x4444_4440_0000, 0x4444_445f_ffff),
            _ => return None,
        };
        Some(Window {
            first: VirtAddr(first),
            last: VirtAddr(last),
        })
    }

    fn message_buffer(&self) -> MessageBuffer {
        MESSAGES.at(PhysAddr((&raw const MESSAGES).addr() as u64))
    }

    fn copy(&self, from: PhysAddr, to: &mut [u8]) -> Result<(), Unreadable> {
        // SAFETY: the writer asks for RAM only, which the direct map has.
        unsafe { x86::copy_physical(DIRECT_MAP, from, to) }
    }

    fn dumpable(&self, page: Pfn) -> bool {
        !DUMPER.is_reserve(PAGE, page)
    }

    fn text(&self, text: Text, to: &mut [u8]) -> usize {
        let text = match text {
            Text::System => "adopting",
            Text::Version => concat!("adopting ", env!("CARGO_PKG_VERSION")),
            Text::Panic => "panic",
            _ => return 0,
        };
        let len = text.len().min(to.len());
        to[..len].copy_from_slice(&text.as_bytes()[..len]);
        len
    }

    fn identity(&self) -> Identity {
        let start = &raw const build_id_start;
        let len = (&raw const build_id_end).addr() - start.addr();
        // SAFETY: the linker script has the note between the two.
        let note = unsafe { core::slice::from_raw_parts(start, len) };
        Identity {
            build_id: build_id::of_note(note),
            trap: Trap::Panic,
            ..Identity::default()
        }
    }

    fn cpu(&self, _: u32) -> Cpu {
        self.0.dumping(1)
    }

    fn thread(&self, cursor: &mut u64) -> Option<Thread> {
        let index = usize::try_from(*cursor).ok()?;
        let task = TASKS.get(index)?;
        *cursor += 1;
        let is_main = index == 0;
        Some(Thread {
            state: if is_main {
                ThreadState::Running
            } else {
                ThreadState::Sleeping
            },
            cpu: is_main.then_some(0),
            stack: match is_main {
                true => (VirtAddr((&raw const stack).addr() as u64), 65536),
                false => (
                    VirtAddr((&raw const READER_STACK).addr() as u64),
                    STACK as u64,
                ),
            },
            address: VirtAddr(core::ptr::from_ref(task).addr() as u64),
            wait: name(task.waits_for),
            ..Thread::new(*cursor, name(task.name))
        })
    }

    fn thread_register(&self, thread: &Thread, place: usize) -> Option<u64> {
        let sp = TASKS
            .get(usize::try_from(thread.id).ok()? - 1)?
            .sp
            .load(Ordering::Relaxed);
        // As `switch_to` left them: r15, r14, r13, r12, rbx, rbp, return address.
        let word = |index: u64| {
            let at = usize::try_from(sp + 8 * index).ok()?;
            let at: *const AtomicU64 = core::ptr::with_exposed_provenance(at);
            // SAFETY: the stack of a task that is switched out.
            Some(unsafe { &*at }.load(Ordering::Relaxed))
        };
        match place {
            x86::RIP => word(6),
            x86::RSP => Some(sp + 56),
            x86::RBP => word(5),
            x86::RBX => word(4),
            _ => None,
        }
    }
}
