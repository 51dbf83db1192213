//! Why a thread crashed: the instruction that was refused, the register that was bad, the variable that
//! was in it, and the member that it reads; each with its evidence.
//!
//! A finding is what the dump proves, not a guess: where the way from the register back to a variable is
//! not certain, it says `likely`, and where nothing is known, nothing is said.
//!
//! ```no_run
//! use vmcore_debug::{Target, reason};
//! # fn show(target: &Target<'_>, thread: &vmcore::process::Thread) {
//! let stack = target.stack(thread);
//! if let Some(reason) = reason::of(target, &stack.frames) {
//!     println!("{}", reason.headline);
//! }
//! # }
//! ```

mod origin;
mod value;

use crate::instructions::{Instruction, Memory, Operand};
use crate::report::frame_at_fault;
use crate::stack::NamedFrame;
use crate::target::Target;
use crate::unwind::{Access, Cause, TrapFrame};
use origin::Tracker;
use serde::Serialize;
pub use value::BadValue;
use vmcore_format::addr::VirtAddr;

/// The longest instruction, in bytes.
const MAX_INSTRUCTION: u64 = 16;
/// How far the address of a fault may be from that of the operand: of an access that begins in one page
/// and faults in the next.
const MAX_ACCESS: u64 = 64;

/// Why a thread crashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// In one sentence.
    pub headline: String,
    /// What was wrong with the pointer.
    pub bad: BadValue,
    /// What the pointer is in the source: `ifp`, `so->so_proto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variable: Option<String>,
    /// The member that was accessed: `if_vnet`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// How sure the variable is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certainty: Option<Certainty>,
    /// How it is known, a line each.
    pub evidence: Vec<String>,
}

/// How sure a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// The instructions before it lead there, if none of them was jumped over.
    Likely,
    /// The debug information says so.
    Sure,
}

/// The reason for the crash of a thread with this stack; `None` if it did not end in an access that was
/// refused, or nothing is known of it.
#[must_use]
pub fn of(target: &Target<'_>, frames: &[NamedFrame]) -> Option<Reason> {
    let at = frame_at_fault(frames)?;
    let frame = frames.get(at)?;
    let trap = frames.get(at.checked_sub(1)?)?.frame.trap.as_ref()?;
    let is_access = match trap.cause {
        Cause::PageFault(access) => access != Access::Execute,
        Cause::ProtectionFault => true,
        _ => false,
    };
    if !is_access || trap.pc != frame.frame.pc {
        return None;
    }
    let decoded = target.instructions_of(trap.pc, MAX_INSTRUCTION);
    let instruction = decoded.list.first()?;
    let (memory, base, value) = bad_operand(target, instruction, trap)?;
    let bad = BadValue::of(target, value)?;
    let tracker = Tracker::new(target, frames, at);
    let origin = tracker.pointer_in(base, trap.pc);
    let member = origin.as_ref().and_then(|origin| {
        let offset = u64::try_from(memory.displacement).ok()?;
        target.types().member_at(&origin.type_, offset)
    });
    let name = memory.base.clone().unwrap_or_default();
    let does = match trap.cause {
        Cause::PageFault(Access::Write) => "writes",
        _ => "reads",
    };
    let place = place_of(frame);
    let accessed = match (&origin, &member) {
        (Some(origin), Some(member)) => format!("{}->{member}", origin.text),
        (Some(origin), None) if memory.displacement == 0 => format!("*{}", origin.text),
        _ => address_in_words(memory),
    };
    let likely = match origin.as_ref().map(|origin| origin.certainty) {
        Some(Certainty::Likely) => "likely ",
        _ => "",
    };
    let mut evidence = vec![format!(
        "{} was refused; {name} = {value:#x}",
        instruction.text
    )];
    if let Some(origin) = &origin {
        evidence.extend(origin.evidence.iter().cloned());
    }
    if let (Some(member), true) = (&member, memory.displacement != 0) {
        evidence.push(format!(
            "{:#x} is the offset of {member}",
            memory.displacement
        ));
    }
    evidence.extend(
        origin
            .as_ref()
            .and_then(|origin| passed_by(origin, frames, at)),
    );
    // A remark after a comma ends before the place.
    let words = bad.to_string();
    let comma = if words.contains(',') { "," } else { "" };
    let headline = match &origin {
        Some(origin) => {
            format!(
                "{likely}`{}` {words}{comma}{place}: it {does} {accessed}",
                origin.text
            )
        }
        None => format!("{name} {words}{comma}{place}: it {does} {accessed}"),
    };
    Some(Reason {
        headline,
        bad,
        variable: origin.as_ref().map(|origin| origin.text.clone()),
        certainty: origin.as_ref().map(|origin| origin.certainty),
        member,
        evidence,
    })
}

/// The operand in memory whose address was refused, the number of its base register, and what that held.
fn bad_operand<'i>(
    target: &Target<'_>,
    instruction: &'i Instruction,
    trap: &TrapFrame,
) -> Option<(&'i Memory, usize, u64)> {
    let operands = instruction.operands.iter();
    let mut operands = operands.filter_map(|operand| match operand {
        Operand::Memory(memory) => Some(memory),
        _ => None,
    });
    let machine = target.machine();
    operands.find_map(|memory| {
        let register = memory.base_number?;
        let base = trap.registers.get(register)?;
        let index = match (memory.index_number, &memory.index) {
            (Some(index), _) => trap.registers.get(index)?,
            (None, Some(_)) => return None,
            (None, None) => 0,
        };
        let scaled = index.wrapping_mul(i64::from(memory.scale).cast_unsigned());
        let address = base
            .wrapping_add(scaled)
            .wrapping_add(memory.displacement.cast_unsigned());
        let address = machine.cut(address);
        let is_it = match trap.fault_address {
            Some(fault) => fault.0.wrapping_sub(address) < MAX_ACCESS,
            None => !value::is_canonical(address),
        };
        // With an index, either may be what is wrong.
        (is_it && index == 0).then_some((memory, register, base))
    })
}

fn address_in_words(memory: &Memory) -> String {
    let base = memory.base.as_deref().unwrap_or_default();
    match memory.displacement {
        0 => format!("where {base} points"),
        offset if offset < 0 => format!("{:#x} before {base}", offset.unsigned_abs()),
        offset => format!("{offset:#x} after {base}"),
    }
}

/// The function and the line of a frame, the innermost inlined one.
fn place_of(frame: &NamedFrame) -> String {
    let Some(place) = frame.places.first() else {
        let name = frame.function();
        return name.map_or_else(String::new, |name| format!(" in {name}"));
    };
    match (&place.file, place.line) {
        (Some(file), Some(line)) => format!(" in {}, {file}:{line}", place.function),
        _ => format!(" in {}", place.function),
    }
}

/// Who passed a bad parameter.
fn passed_by(origin: &origin::Origin, frames: &[NamedFrame], at: usize) -> Option<String> {
    let number = origin.parameter?;
    let inner = frames.get(at)?.places.get(origin.level)?;
    let function = &inner.function;
    // An inlined function was called by the next one at the same address.
    let caller = match frames.get(at)?.places.get(origin.level + 1) {
        Some(caller) => caller,
        None => frames.get(at + 1)?.places.first()?,
    };
    let line = match (&caller.file, caller.line) {
        (Some(file), Some(line)) => format!(", {file}:{line}"),
        _ => String::new(),
    };
    Some(format!(
        "it is argument {number} of {function}, called by {}{line}",
        caller.function
    ))
}

/// The address of an operand in memory, as the registers of a frame give it.
pub(super) fn address_of(memory: &Memory, get: impl Fn(usize) -> Option<u64>) -> Option<VirtAddr> {
    if memory.index.is_some() {
        return None;
    }
    let base = get(memory.base_number?)?;
    Some(VirtAddr(
        base.wrapping_add(memory.displacement.cast_unsigned()),
    ))
}
