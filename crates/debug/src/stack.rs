//! The backtraces of a dump's threads, with functions and lines.
//!
//! ```no_run
//! use vmcore_debug::{DebugFiles, Target};
//! # fn show(target: &Target<'_>) -> Result<(), Box<dyn std::error::Error>> {
//! for process in vmcore::process::list(target.session())?.processes {
//!     for thread in &process.threads {
//!         println!("{}: {} frames", thread.tid, target.stack(thread).frames.len());
//!     }
//! }
//! # Ok(())
//! # }
//! ```

use crate::lines::{Lines, NAMELESS, SourcePlace, demangled};
use crate::target::Target;
use crate::unwind::{
    Backtrace, CallFrames, Code, End, Frame, How, NearSymbol, Start, THREAD_STARTS, Unwinder,
};
use serde::Serialize;
use std::fmt;
use std::ops::Range;
use vmcore::process::{PcbSource, Thread};
use vmcore::registers::PcbLayout;
use vmcore_format::addr::VirtAddr;

/// A symbol without a size reaches at most so far.
const MAX_REACH: u64 = 1 << 16;

/// A frame with the functions at its address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamedFrame {
    /// The frame.
    #[serde(flatten)]
    pub frame: Frame,
    /// The functions there, the innermost inlined one first; empty without line tables.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<SourcePlace>,
}

impl NamedFrame {
    /// The function that the frame belongs to: by the symbols, without the offset.
    #[must_use]
    pub fn function(&self) -> Option<&str> {
        let name = self.frame.name.as_deref()?;
        Some(name.rsplit_once("+0x").map_or(name, |(name, _)| name))
    }

    /// Whether it is user code: the walk gives that neither a name nor a doubt.
    #[must_use]
    pub fn is_user(&self) -> bool {
        let frame = &self.frame;
        frame.how == How::TrapFrame && frame.name.is_none() && frame.doubt.is_none()
    }
}

/// A thread's stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stack {
    /// From the innermost frame out.
    pub frames: Vec<NamedFrame>,
    /// Why there are no more; nothing for a thread without registers.
    #[serde(flatten)]
    pub end: Option<End>,
    /// The thread was running on a CPU that did not stop: what is here is from long before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, frame) in self.frames.iter().enumerate() {
            let function = frame.function().unwrap_or("??");
            write!(f, "#{number:<3} {} in {function}", frame.frame.pc)?;
            let place = frame.places.first();
            match place.and_then(|place| Some((place.file.as_ref()?, place.line?))) {
                Some((file, line)) => writeln!(f, " at {file}:{line}")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

impl Code for Target<'_> {
    fn symbol(&self, address: VirtAddr) -> Option<NearSymbol> {
        if let Some(module) = self.loaded(address).and_then(|loaded| loaded.module) {
            return module.symbol(address);
        }
        let without_file = self.files.modules().iter();
        let mut without_file = without_file.filter(|module| module.object().is_none());
        if let Some(module) = without_file.find(|module| module.range().contains(&address.0)) {
            return Some(NearSymbol {
                name: module.module.name.clone(),
                start: module.module.address,
            });
        }
        let nearest = self.symbols.nearest(address)?;
        let in_text = self.text.iter().any(|range| range.contains(&address.0));
        let near = nearest.inside || in_text && nearest.offset < MAX_REACH;
        near.then(|| NearSymbol {
            name: demangled(&String::from_utf8_lossy(nearest.symbol.name)),
            start: nearest.symbol.address,
        })
    }

    fn text(&self) -> &[Range<u64>] {
        &self.text
    }

    fn call_frames(&self, address: VirtAddr) -> Option<&CallFrames<'_>> {
        let loaded = self.loaded(address)?;
        let frames = loaded
            .call_frames
            .get_or_init(|| CallFrames::new(loaded.object));
        Some(frames)
    }

    fn instructions(&self, address: VirtAddr, bytes: &mut [u8]) -> usize {
        let part = self.space.read(address, bytes).len;
        if part > 0 {
            return part;
        }
        let kernel = self.session.kernel();
        let stored = kernel.and_then(|file| file.contents(address, bytes.len() as u64));
        match stored {
            Some(stored) if stored.len() == bytes.len() => {
                bytes.copy_from_slice(stored);
                bytes.len()
            }
            _ => 0,
        }
    }
}

impl Target<'_> {
    /// Whether the kernel has the shorter trap frames of earlier ones.
    pub(crate) fn has_old_trap_frames(&self) -> bool {
        let Some(old) = self.machine().old_trap_frames else {
            return false;
        };
        let (member, offset) = old.member;
        if let Some(found) = self.types.offset_of("trapframe", member) {
            return found == offset;
        }
        let value = |name: &str| {
            let symbol = self.symbols.find(name)?;
            self.space.read_i32(symbol.address).ok()
        };
        match value("osreldate") {
            Some(date) => date < old.before,
            None => value("pcb_size") == Some(old.pcb_size),
        }
    }

    /// Walks stacks of this kernel.
    #[must_use]
    pub fn unwinder(&self) -> Unwinder<'_> {
        let number = |name: &str| {
            let symbol = self.symbols.find(name)?;
            self.space.read_word(symbol.address).ok()
        };
        let machine = self.machine();
        let copy = machine.entry_copy.as_ref();
        Unwinder::new(machine.arch, self.space, self)
            .with_displacement(copy.and_then(|copy| number(copy.displacement)))
            .with_old_trap_frames(self.has_old_trap_frames())
    }

    /// Where a thread's stack starts; `None` if its registers are not in the dump.
    #[must_use]
    pub fn start_of(&self, thread: &Thread) -> Option<Start> {
        let saved = thread.registers.as_ref()?;
        let machine = self.machine();
        let mut registers = machine.from_pcb(saved);
        // What a kernel tells of a thread that was switched out is as after the call; a PCB is as in it.
        if thread.pcb == Some(PcbSource::Recorded) && machine.pushes_return_address() {
            let sp = registers.get(machine.sp);
            let inside = sp.map(|sp| sp.wrapping_sub(machine.word_bytes()));
            registers.set(machine.sp, inside);
        }
        let pc = VirtAddr(registers.get(machine.pc)?);
        let switched_out = matches!(thread.pcb, Some(PcbSource::TdPcb { .. }));
        let pc = self.unwinder().linked(pc);
        let mut starts = THREAD_STARTS
            .iter()
            .filter_map(|name| self.symbols.find(name));
        let at_start = starts.any(|symbol| symbol.address == pc);
        Some(Start {
            registers,
            never_ran: switched_out && at_start,
            interrupted: matches!(thread.pcb, Some(PcbSource::Extension { .. })),
        })
    }

    /// The backtrace of a thread, without lines; empty if its registers are not in the dump.
    #[must_use]
    pub fn backtrace(&self, thread: &Thread) -> Backtrace {
        match self.start_of(thread) {
            Some(start) => self.unwinder().walk(&start),
            None => Backtrace {
                frames: Vec::new(),
                end: match PcbLayout::of(self.arch(), None).is_known() {
                    true => End::NoRegisters,
                    false => End::UnknownPcb,
                },
            },
        }
    }

    /// The functions at an address, the innermost inlined one first. One that only the symbols name,
    /// as those in assembly, has its name from there.
    #[must_use]
    pub fn places(&self, address: VirtAddr) -> Vec<SourcePlace> {
        let Some(loaded) = self.loaded(address) else {
            return Vec::new();
        };
        let lines = loaded.lines.get_or_init(|| Lines::of(loaded.object));
        let mut places = lines.at(address);
        for place in &mut places {
            if place.function == NAMELESS
                && let Some(near) = self.symbol(address)
            {
                place.function = near.name;
            }
        }
        places
    }

    /// The stack of a thread, with functions and lines.
    #[must_use]
    pub fn stack(&self, thread: &Thread) -> Stack {
        let backtrace = self.backtrace(thread);
        let named = |frame: Frame| NamedFrame {
            places: self.places(frame.lookup()),
            frame,
        };
        Stack {
            frames: backtrace.frames.into_iter().map(named).collect(),
            end: Some(backtrace.end),
            stale: matches!(thread.pcb, Some(PcbSource::TdPcb { stale: true, .. })),
        }
    }
}
