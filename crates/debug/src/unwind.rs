//! Stacks: from the registers that a thread saved to the bottom of its stack.
//!
//! Each step goes from a frame to its caller, by the first of these that applies: the trap frame
//! that an exception entry left on the stack, call frame information, what the instructions of a
//! function's beginning imply, the frame pointer. A frame says how it was found. The walk trusts
//! nothing: frames are bounded in number, a frame that was there before ends it, and so does one
//! that lies on the wrong side of its callee on the same stack.
//!
//! ```no_run
//! use vmcore_debug::{DebugFiles, Target};
//! # fn show(target: &Target<'_>, thread: &vmcore::process::Thread) {
//! for frame in target.backtrace(thread).frames {
//!     println!("{} {:?}", frame.pc, frame.name);
//! }
//! # }
//! ```

mod cfi;
mod chain;
mod registers;
mod trap;

pub use cfi::CallFrames;
pub use registers::Registers;
pub use trap::{Access, Cause, TrapFrame};
pub(crate) use trap::{field, registers_from};

use crate::arch::machine::Machine;
use serde::Serialize;
use std::collections::HashSet;
use std::ops::Range;
use vmcore::space::AddressSpace;
use vmcore_format::addr::VirtAddr;
use vmcore_format::arch::Arch;

/// The most frames of a stack: a kernel stack that overflowed holds several hundred.
const MAX_FRAMES: usize = 1000;
/// How far apart two frames of one stack can be, in bytes. A frame further away is on another one.
const MAX_STACK: u64 = 256 << 10;
/// How often a walk may change to another stack.
const MAX_STACKS: usize = 16;
/// Bytes of instructions that are looked at to find a return address.
const CODE_LEN: usize = 4;

/// How a frame was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// By the registers that the thread saved.
    Pcb,
    /// By the registers of a CPU that was interrupted or panicked, which the writer of the dump kept.
    Interrupted,
    /// By call frame information of the function it called.
    Cfi,
    /// By the frame pointer.
    FramePointer,
    /// By the chain that powerpc's stack pointer leads to.
    BackChain,
    /// By the trap frame that the exception entry saved.
    TrapFrame,
    /// By the instructions at the beginning or end of the function it called.
    Prologue,
    /// By the word on top of the stack: the function it called is no code.
    StackTop,
}

/// Why a walk ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "end")]
pub enum End {
    /// At the start of a kernel thread: its trap frame leads nowhere.
    ThreadStart,
    /// At the way into the kernel from user mode; minidumps have no user memory.
    UserMode,
    /// At a frame pointer of zero: the bottom of a stack.
    FramePointerZero,
    /// Nothing is known of the caller.
    NoRegisters,
    /// Before it began: it is not known where kernels of this architecture save registers.
    UnknownPcb,
    /// At memory that cannot be read.
    Unreadable {
        /// The address.
        at: VirtAddr,
        /// Why.
        reason: String,
    },
    /// At two zero words where the frame pointer leads: a page without contents, or the bottom.
    Zeros {
        /// The frame pointer.
        at: VirtAddr,
    },
    /// At a frame pointer that cannot be one.
    BadFramePointer {
        /// It.
        fp: VirtAddr,
    },
    /// At a frame that was there before.
    Loop,
    /// At the most frames that are read.
    TooLong,
}

/// A frame of a stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Frame {
    /// The program counter: the return address, or where the function was interrupted.
    pub pc: VirtAddr,
    /// The stack pointer; as it was saved, in the first frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sp: Option<VirtAddr>,
    /// The frame pointer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fp: Option<VirtAddr>,
    /// How it was found.
    pub how: How,
    /// Whether the function was interrupted there; if not, `pc` is a return address, and the call
    /// stands before it.
    pub exact: bool,
    /// The nearest symbol: `name+0x10`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What makes it doubtful.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doubt: Option<Doubt>,
    /// The trap frame that this frame, an exception entry, left on the stack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trap: Option<TrapFrame>,
    /// The registers, as far as they are known.
    #[serde(skip)]
    pub registers: Registers,
}

/// What makes a frame doubtful.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// Its program counter is outside of all code.
    NotCode,
    /// It lies on another stack, and no trap frame says why.
    OtherStack,
}

impl Frame {
    /// The address that says in which function the frame is: of the call, not behind it.
    #[must_use]
    pub const fn lookup(&self) -> VirtAddr {
        if self.exact {
            self.pc
        } else {
            VirtAddr(self.pc.0.wrapping_sub(1))
        }
    }
}

/// A stack, walked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backtrace {
    /// From the innermost frame out.
    pub frames: Vec<Frame>,
    /// Why there are no more.
    #[serde(flatten)]
    pub end: End,
}

/// A symbol and the distance from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearSymbol {
    /// Its name.
    pub name: String,
    /// Address of the symbol.
    pub start: VirtAddr,
}

/// What a walk needs to know of the code.
pub trait Code {
    /// The nearest symbol at or before an address: labels too.
    fn symbol(&self, address: VirtAddr) -> Option<NearSymbol>;

    /// Where the instructions are; empty if that is not known.
    fn text(&self) -> &[Range<u64>];

    /// Call frame information for an address.
    fn call_frames(&self, address: VirtAddr) -> Option<&CallFrames<'_>>;

    /// Instructions, from the dump or the file: as many as there are.
    fn instructions(&self, address: VirtAddr, bytes: &mut [u8]) -> usize;
}

/// Walks stacks.
#[derive(Clone, Copy)]
pub struct Unwinder<'a> {
    pub(crate) space: AddressSpace<'a>,
    pub(crate) machine: &'static Machine,
    code: &'a dyn Code,
    /// How far the copy of the exception entries is from where they were linked.
    displacement: Option<u64>,
    /// The kernel has the shorter trap frames of earlier ones.
    pub(crate) old_trap_frames: bool,
    /// The kernel is where others have the user.
    runs_low: bool,
}

impl std::fmt::Debug for Unwinder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unwinder")
            .field("arch", &self.machine.arch)
            .finish_non_exhaustive()
    }
}

/// What is known of a caller.
struct Caller {
    registers: Registers,
    how: How,
    exact: bool,
}

/// The start of a walk.
#[derive(Clone, Debug)]
pub struct Start {
    /// The registers as they were saved.
    pub registers: Registers,
    /// Whether the thread never ran: its program counter is the first instruction of a function
    /// that nobody called.
    pub never_ran: bool,
    /// Whether these are all registers of a CPU that was interrupted: no call saved them.
    pub interrupted: bool,
}

/// What new threads start in. Kernels that describe the trap frame of the first to debuggers have the
/// second for kernel threads, whose trap frame means nothing.
pub(crate) const THREAD_STARTS: [&str; 2] = ["fork_trampoline", "fork_trampoline_kthread"];

impl<'a> Unwinder<'a> {
    /// Walks stacks of kernels of this architecture.
    #[must_use]
    pub fn new(arch: Arch, space: AddressSpace<'a>, code: &'a dyn Code) -> Self {
        let machine = Machine::of(arch);
        let mut text = code.text().iter();
        Self {
            space,
            machine,
            runs_low: text.any(|range| machine.is_user(VirtAddr(range.start))),
            code,
            displacement: None,
            old_trap_frames: false,
        }
    }

    /// Whether an address is certainly the user's.
    fn is_user(&self, address: VirtAddr) -> bool {
        self.machine.is_user(address) && !self.runs_low
    }

    /// The exception entries run from a copy so far away from where they were linked: i386's
    /// `setidt_disp`.
    #[must_use]
    pub const fn with_displacement(mut self, displacement: Option<u64>) -> Self {
        self.displacement = displacement;
        self
    }

    /// Whether the kernel has the shorter trap frames of earlier ones: arm64's before osreldate 1400084.
    #[must_use]
    pub const fn with_old_trap_frames(mut self, old: bool) -> Self {
        self.old_trap_frames = old;
        self
    }

    /// Where an address of the running kernel stands in the kernel file.
    pub(crate) fn linked(&self, address: VirtAddr) -> VirtAddr {
        match (self.displacement, &self.machine.entry_copy) {
            (Some(displacement), Some(copy)) if address.0 >= copy.from => {
                VirtAddr(address.0.wrapping_sub(displacement) & self.machine.arch.va_max())
            }
            _ => address,
        }
    }

    /// Where an address of the kernel file is in the copy of the exception entries; `None` outside of
    /// it.
    pub(crate) fn copy_of(&self, address: VirtAddr) -> Option<VirtAddr> {
        let copy = self.machine.entry_copy.as_ref()?;
        let at = self.machine.cut(address.0.wrapping_add(self.displacement?));
        (at >= copy.from).then_some(VirtAddr(at))
    }

    fn symbol(&self, address: VirtAddr) -> Option<NearSymbol> {
        self.code.symbol(self.linked(address))
    }

    /// Whether a return address is a label that nothing before it called.
    fn is_return_label(&self, pc: VirtAddr) -> bool {
        let labels = self.machine.return_labels;
        !labels.is_empty()
            && self.symbol(pc).is_some_and(|symbol| {
                symbol.start == self.linked(pc) && labels.contains(&symbol.name.as_str())
            })
    }

    fn is_code(&self, address: VirtAddr) -> bool {
        let address = self.linked(address);
        let text = self.code.text();
        text.is_empty() || text.iter().any(|range| range.contains(&address.0))
    }

    /// A frame, and the symbol that it is in.
    fn frame(
        &self,
        registers: Registers,
        how: How,
        exact: bool,
    ) -> Option<(Frame, Option<NearSymbol>)> {
        let pc = VirtAddr(registers.get(self.machine.pc)?);
        let exact = exact || self.is_return_label(pc);
        let mut frame = Frame {
            pc,
            sp: registers.get(self.machine.sp).map(VirtAddr),
            fp: registers.get(self.machine.fp).map(VirtAddr),
            how,
            exact,
            name: None,
            doubt: None,
            trap: None,
            registers,
        };
        let symbol = self.symbol(frame.lookup());
        frame.name = symbol.as_ref().map(|symbol| {
            let offset = self.linked(pc).0.wrapping_sub(symbol.start.0);
            match offset {
                0 => symbol.name.clone(),
                _ => format!("{}+{offset:#x}", symbol.name),
            }
        });
        if !self.is_code(frame.lookup()) {
            frame.doubt = Some(Doubt::NotCode);
        }
        Some((frame, symbol))
    }

    /// Walks a stack.
    #[must_use]
    pub fn walk(&self, start: &Start) -> Backtrace {
        let mut frames: Vec<Frame> = Vec::new();
        let mut seen = HashSet::new();
        let mut stacks = 0;
        let exact = start.never_ran || start.interrupted;
        let how = match start.interrupted {
            true => How::Interrupted,
            false => How::Pcb,
        };
        let mut next = self.frame(start.registers.clone(), how, exact);
        let mut end = End::NoRegisters;
        let mut callee_symbol = None;
        while let Some((mut frame, symbol)) = next.take() {
            if !seen.insert((frame.pc, frame.fp, frame.sp)) {
                end = End::Loop;
                break;
            }
            if frames.len() >= MAX_FRAMES {
                end = End::TooLong;
                break;
            }
            if let Some(callee) = frames.last()
                && let Err(stop) = self.order(callee, &mut frame, symbol.as_ref(), &mut stacks)
            {
                end = stop;
                break;
            }
            let callee_trap = frames.last().and_then(|callee| callee.trap.as_ref());
            if callee_trap.is_some_and(|trap| trap.user) {
                (frame.name, frame.doubt) = (None, None);
                frames.push(frame);
                end = End::UserMode;
                break;
            }
            let is_first = frames.is_empty();
            match self.caller(&mut frame, symbol.as_ref(), start, is_first) {
                Ok(caller) => next = self.frame(caller.registers, caller.how, caller.exact),
                Err(stop) => end = stop,
            }
            self.name_exception(callee_symbol.as_ref(), &mut frame);
            frames.push(frame);
            callee_symbol = symbol;
        }
        Backtrace { frames, end }
    }

    /// Where all entries leave the same label, the handler says what was handled.
    fn name_exception(&self, handler: Option<&NearSymbol>, entry: &mut Frame) {
        let mut known = self.machine.exception_of_handler.iter();
        if let Some(handler) = handler
            && let Some((_, (name, cause))) = known.find(|(name, _)| *name == handler.name)
            && let Some(trap) = &mut entry.trap
        {
            (trap.exception, trap.cause) = (Some((*name).to_owned()), *cause);
        }
    }

    /// Whether a frame can be the caller of `callee`: on one stack callers lie above.
    fn order(
        &self,
        callee: &Frame,
        frame: &mut Frame,
        symbol: Option<&NearSymbol>,
        stacks: &mut usize,
    ) -> Result<(), End> {
        // Entries leave the frame pointer of what they interrupted alone.
        let is_entry =
            symbol.is_some_and(|symbol| (self.machine.keeps_frame_pointer)(&symbol.name));
        if callee.trap.is_some() || is_entry {
            return Ok(());
        }
        if frame.how == How::Pcb {
            // The caller of a saving routine, whose frame pointer that still has.
            return Ok(());
        }
        let by_stack_pointer = matches!(frame.how, How::Cfi | How::Prologue | How::StackTop);
        if by_stack_pointer {
            // Code without frame pointers keeps anything in that register.
            let (Some(old), Some(new)) = (callee.sp, frame.sp) else {
                return Ok(());
            };
            if new >= old && new.0 - old.0 <= MAX_STACK {
                return Ok(());
            }
        } else {
            let (Some(old), Some(new)) = (callee.fp, frame.fp) else {
                return Ok(());
            };
            if new.0 == 0 || new > old && new.0 - old.0 <= MAX_STACK {
                return Ok(());
            }
            if old.0.abs_diff(new.0) <= MAX_STACK
                && matches!(frame.how, How::FramePointer | How::BackChain)
            {
                return Err(End::BadFramePointer { fp: new });
            }
            if self.is_user(new) {
                // The user's frame pointer, left alone by the way into the kernel.
                return Ok(());
            }
        }
        *stacks += 1;
        if *stacks > MAX_STACKS {
            return Err(frame.fp.map_or(End::Loop, |fp| End::BadFramePointer { fp }));
        }
        frame.doubt = frame.doubt.or(Some(Doubt::OtherStack));
        Ok(())
    }

    /// The registers of a frame's caller.
    fn caller(
        &self,
        frame: &mut Frame,
        symbol: Option<&NearSymbol>,
        start: &Start,
        is_first: bool,
    ) -> Result<Caller, End> {
        let mut registers = frame.registers.clone();
        let never_ran = is_first && start.never_ran;
        if is_first && !start.interrupted && self.machine.pushes_return_address() {
            // The saved stack pointer still points at the return address.
            let sp = registers.get(self.machine.sp);
            registers.set(
                self.machine.sp,
                sp.map(|sp| sp.wrapping_add(self.machine.word_bytes())),
            );
        }
        let name = symbol.map(|symbol| symbol.name.as_str());
        if let Some(found) = self.through_trap(frame, name, &registers, never_ran) {
            return found;
        }
        // Nothing called what a thread starts in, whatever its registers hold: on riscv64 the frame
        // pointer is the function that the thread was made for.
        if never_ran || name.is_some_and(|name| THREAD_STARTS.contains(&name)) {
            return Err(End::ThreadStart);
        }
        if is_first && let Some(caller) = self.out_of_saving_routine(&registers) {
            return Ok(caller);
        }
        if frame.how == How::FramePointer && self.machine.record_is_anywhere {
            registers.set(self.machine.sp, None);
        }
        let by_cfi = self.by_cfi(frame, &registers);
        if let Some(caller) = by_cfi.as_ref()
            && self.leads_to_code(caller)
        {
            return by_cfi.ok_or(End::NoRegisters);
        }
        if frame.exact
            && let Some(caller) = self.by_instructions(frame, &registers)
        {
            return Ok(caller);
        }
        // What assembly says of its frames can be wrong: the frame pointer may know better.
        let by_frame_pointer = self.by_frame_pointer(&registers);
        match (by_cfi, by_frame_pointer) {
            (Some(by_cfi), Ok(caller)) if !self.leads_to_code(&caller) => Ok(by_cfi),
            (Some(by_cfi), Err(_)) => Ok(by_cfi),
            (_, by_frame_pointer) => by_frame_pointer,
        }
    }

    fn leads_to_code(&self, caller: &Caller) -> bool {
        let pc = caller.registers.get(self.machine.pc);
        let at = |pc: u64| match caller.exact {
            true => pc,
            false => pc.wrapping_sub(1),
        };
        pc.is_some_and(|pc| self.is_code(VirtAddr(at(pc))))
    }

    /// The caller of the routine that saved the registers, if the program counter is still in there.
    fn out_of_saving_routine(&self, registers: &Registers) -> Option<Caller> {
        if !self.machine.saves_in_routine {
            return None;
        }
        let lr = registers.get(self.machine.lr?)?;
        if lr == 0 || !self.is_code(VirtAddr(lr.wrapping_sub(1))) {
            return None;
        }
        let mut found = registers.callee_saved(self.machine);
        found.set(self.machine.pc, Some(lr));
        Some(Caller {
            registers: found,
            how: How::Pcb,
            exact: false,
        })
    }

    fn through_trap(
        &self,
        frame: &mut Frame,
        name: Option<&str>,
        registers: &Registers,
        never_ran: bool,
    ) -> Option<Result<Caller, End>> {
        let trap_frame = self.machine.trap_frame?;
        let name = name?;
        let found = match trap_frame(self, name, registers, never_ran)? {
            Ok(found) => found,
            // Without its trap frame an entry is walked like any function.
            Err(_) => return None,
        };
        // A jump to address 0 leaves a trap frame too, but one with a stack pointer; without one it is
        // a page without contents.
        let is_start = THREAD_STARTS.contains(&name);
        let sp = found.registers.get(self.machine.sp);
        if found.pc.0 == 0 && !is_start && sp.is_none_or(|sp| sp == 0) {
            return None;
        }
        let caller = Caller {
            registers: found.registers.clone(),
            how: How::TrapFrame,
            exact: true,
        };
        let ends = found.pc.0 == 0 && is_start;
        frame.trap = Some(found);
        Some(if ends {
            Err(End::ThreadStart)
        } else {
            Ok(caller)
        })
    }

    fn by_cfi(&self, frame: &Frame, registers: &Registers) -> Option<Caller> {
        let lookup = self.linked(frame.lookup());
        let frames = self.code.call_frames(lookup)?;
        let (mut found, signal) = frames.unwind(self.machine, self.space, lookup, registers)?;
        let pc = found.get(self.machine.pc)?;
        found.set(self.machine.pc, Some((self.machine.strip)(pc)));
        (pc != 0).then_some(Caller {
            registers: found,
            how: How::Cfi,
            exact: signal,
        })
    }

    /// Where an interrupted function has no frame of its own yet, or no longer.
    fn by_instructions(&self, frame: &Frame, registers: &Registers) -> Option<Caller> {
        let sp = registers.get(self.machine.sp)?;
        let (distance, how) = if self.is_code(frame.pc) {
            let mut code = [0; CODE_LEN];
            let len = self.code.instructions(self.linked(frame.pc), &mut code);
            let at_start = self
                .symbol(frame.pc)
                .is_some_and(|symbol| symbol.start == self.linked(frame.pc));
            let code = code.get(..len)?;
            let distance = (self.machine.return_address)(code, at_start)?;
            (distance, How::Prologue)
        } else {
            (0, How::StackTop)
        };
        let mut found = registers.callee_saved(self.machine);
        let pc = if self.machine.pushes_return_address() {
            let slot = VirtAddr(sp.checked_add(distance)?);
            let above = slot.0.checked_add(self.machine.word_bytes())?;
            found.set(self.machine.sp, Some(above));
            self.space.read_word(slot).ok()?
        } else {
            registers.get(self.machine.lr?)?
        };
        let pc = (self.machine.strip)(pc);
        found.set(self.machine.pc, Some(pc));
        (pc != 0 && self.is_code(VirtAddr(pc.wrapping_sub(1)))).then_some(Caller {
            registers: found,
            how,
            exact: false,
        })
    }
}
