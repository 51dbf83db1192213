//! A division by zero: what the divisor is in the source.

use super::access::{MAX_INSTRUCTION, address_of, passed_by};
use super::origin::Tracker;
use super::{Reason, ReasonKind, Scene, place_of};
use crate::instructions::Operand;
use crate::unwind::Cause;

pub(super) fn find(scene: &Scene<'_, '_>) -> Option<Reason> {
    let trap = scene.trap_at_fault()?;
    let is_division = trap
        .exception
        .as_deref()
        .is_some_and(|words| words.contains("divide"));
    if trap.cause != Cause::Other || !is_division {
        return None;
    }
    let decoded = scene.target.instructions_of(trap.pc, MAX_INSTRUCTION);
    let instruction = decoded.list.first()?;
    let tracker = Tracker::new(scene.target, scene.frames, scene.culprit.at);
    // A quotient that is too large is refused in the same way: the divisor must be zero.
    let origin = match instruction.operands.first()? {
        Operand::Memory(memory) => {
            let at = address_of(memory, |number| trap.registers.get(number))?;
            (scene.target.space().read_u32(at).ok()? == 0).then_some(())?;
            tracker.member_in(memory, trap.pc)
        }
        Operand::Register { number, .. } => {
            let number = (*number)?;
            let divisor = trap.registers.get(number)?;
            (divisor & 0xffff_ffff == 0).then_some(())?;
            tracker.value_in(number, trap.pc)
        }
        Operand::Immediate { .. } => None,
    }?;
    let place = place_of(scene.frame());
    let headline = format!("{} is 0{place}: it divides by it", origin.subject());
    let mut reason = scene.reason(ReasonKind::DivideByZero, scene.culprit.at, headline);
    reason
        .evidence
        .push(format!("{} was refused", instruction.text));
    reason.evidence.extend(origin.evidence.iter().cloned());
    reason.evidence.extend(passed_by(scene, &origin));
    Some(Reason {
        certainty: Some(origin.certainty),
        variable: Some(origin.text),
        ..reason
    })
}
