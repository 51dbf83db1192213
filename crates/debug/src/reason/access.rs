//! An access to memory that was refused: the instruction, its operand, the register that made it bad, the
//! variable in that register, and the member at the displacement.

use super::origin::{Origin, Tracker};
use super::{BadValue, Reason, ReasonKind, Scene, caller_of, item, place_of, value};
use crate::instructions::{Instruction, Memory, Operand};
use crate::target::Target;
use crate::unwind::{Access, Cause, TrapFrame};
use vmcore_format::addr::VirtAddr;

/// The longest instruction, in bytes.
pub(super) const MAX_INSTRUCTION: u64 = 16;
/// How far the address of a fault may be from that of the operand: of an access that begins in one page
/// and faults in the next.
const MAX_ACCESS: u64 = 64;

pub(super) fn find(scene: &Scene<'_, '_>) -> Option<Reason> {
    let (target, at) = (scene.target, scene.culprit.at);
    let trap = scene.trap_at_fault()?;
    let is_access = match trap.cause {
        Cause::PageFault(access) => access != Access::Execute,
        Cause::ProtectionFault => true,
        _ => false,
    };
    if !is_access {
        return None;
    }
    let decoded = target.instructions_of(trap.pc, MAX_INSTRUCTION);
    let instruction = decoded.list.first()?;
    let (memory, base, value) = bad_operand(target, instruction, trap)?;
    let bad = BadValue::of(scene, value)?;
    let tracker = Tracker::new(target, scene.frames, at);
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
    let accessed = match (&origin, &member) {
        (Some(origin), Some(member)) => format!("{}->{member}", origin.text),
        (Some(origin), None) if memory.displacement == 0 => format!("*{}", origin.text),
        _ => address_in_words(memory),
    };
    let subject = match &origin {
        Some(origin) => origin.subject(),
        None => name.clone(),
    };
    // A remark after a comma ends before the place.
    let words = bad.to_string();
    let comma = if words.contains(',') { "," } else { "" };
    let place = place_of(scene.frame());
    let kind = match bad {
        BadValue::Null => ReasonKind::NullPointer,
        BadValue::Fill { .. } => ReasonKind::UseAfterFree,
        _ => ReasonKind::BadPointer,
    };
    let headline = format!("{subject} {words}{comma}{place}: it {does} {accessed}");
    let mut reason = scene.reason(kind, at, headline);
    reason.evidence.push(format!(
        "{} was refused; {name} = {value:#x}",
        instruction.text
    ));
    if let Some(origin) = &origin {
        reason.evidence.extend(origin.evidence.iter().cloned());
    }
    if let (Some(member), true) = (&member, memory.displacement != 0) {
        reason.evidence.push(format!(
            "{:#x} is the offset of {member}",
            memory.displacement
        ));
    }
    if let Some(origin) = &origin {
        reason.evidence.extend(passed_by(scene, origin));
        let local = origin.parameter.is_none() && origin.read_from.is_none();
        let loaded = tracker.pointer_loaded(base, trap.pc).filter(|_| local);
        let loaded = loaded.filter(|loaded| loaded.text != origin.text);
        if let Some(loaded) = &loaded {
            let was = "was loaded from";
            reason
                .evidence
                .push(format!("`{}` {was} {}", origin.text, loaded.text));
        }
        let holder = loaded.as_ref().unwrap_or(origin);
        reason.evidence.extend(item::evidence(scene, holder, &bad));
    }
    Some(Reason {
        bad: Some(bad),
        certainty: origin.as_ref().map(|origin| origin.certainty),
        variable: origin.map(|origin| origin.text),
        member,
        ..reason
    })
}

/// The operand in memory whose address was refused, the number of its base register, and what that held.
fn bad_operand<'i>(
    target: &Target<'_>,
    instruction: &'i Instruction,
    trap: &TrapFrame,
) -> Option<(&'i Memory, usize, u64)> {
    let machine = target.machine();
    let mut operands = instruction.operands.iter().filter_map(Operand::memory);
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

/// Who passed a bad parameter.
pub(super) fn passed_by(scene: &Scene<'_, '_>, origin: &Origin) -> Option<String> {
    let (number, at) = (origin.parameter?, scene.culprit.at);
    let inner = scene.frame()?.places.get(origin.level)?;
    let caller = caller_of(scene.frames, at, origin.level)?;
    let function = &inner.function;
    Some(format!(
        "it is argument {number} of {function}, called by {caller}"
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
