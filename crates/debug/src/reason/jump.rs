//! A call of what is not code: the pointer that was called, and what it points to.

use super::access::passed_by;
use super::origin::Tracker;
use super::{BadValue, Reason, ReasonKind, Scene, place_of};
use crate::instructions::{Flow, Operand};
use crate::unwind::{Access, Cause, Doubt};

pub(super) fn find(scene: &Scene<'_, '_>) -> Option<Reason> {
    let trap = scene.trap()?;
    let first = scene.frames.get(scene.culprit.hidden)?;
    let is_wild = first.frame.doubt == Some(Doubt::NotCode)
        || trap.cause == Cause::PageFault(Access::Execute);
    let caller = scene.frame()?;
    if !is_wild || first.frame.pc != trap.pc || scene.culprit.at <= scene.culprit.hidden {
        return None;
    }
    // The call is the last instruction before the return address.
    let tracker = Tracker::new(scene.target, scene.frames, scene.culprit.at);
    let call = tracker.in_front_of(caller.frame.pc)?;
    let end = call.address.0.wrapping_add(call.bytes.len() as u64);
    if call.flow != Flow::Call || call.refers_to.is_some() || end != caller.frame.pc.0 {
        return None;
    }
    let origin = call.operands.iter().find_map(|operand| match operand {
        Operand::Memory(memory) => tracker.member_in(memory, call.address),
        Operand::Register { number, .. } => tracker.pointer_in((*number)?, call.address),
        Operand::Immediate { .. } => None,
    });
    let value = trap.pc.0;
    let bad = BadValue::of_call(scene, value);
    let subject = match &origin {
        Some(origin) => origin.subject(),
        None => "the function pointer".to_owned(),
    };
    let words = bad.to_string();
    let comma = if words.contains(',') { "," } else { "" };
    let place = place_of(Some(caller));
    let headline = format!("{subject} {words}, not code{comma}{place}: it calls it");
    let mut reason = scene.reason(ReasonKind::WildJump, scene.culprit.at, headline);
    reason.evidence.push(format!(
        "{} at {} went to {value:#x}",
        call.text, call.address
    ));
    if let Some(origin) = &origin {
        reason.evidence.extend(origin.evidence.iter().cloned());
        reason.evidence.extend(passed_by(scene, origin));
    }
    Some(Reason {
        bad: Some(bad),
        certainty: origin.as_ref().map(|origin| origin.certainty),
        variable: origin.map(|origin| origin.text),
        ..reason
    })
}
