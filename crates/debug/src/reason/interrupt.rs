//! A panic that an interrupt from outside caused, a watchdog's or a person's: what it cut into, which need
//! not be at fault.

use super::{Reason, ReasonKind, Scene, place_of};
use crate::unwind::Cause;

pub(super) fn find(scene: &Scene<'_, '_>) -> Option<Reason> {
    let message = scene.message?;
    let before = scene.frames.get(scene.culprit.at.checked_sub(1)?)?;
    let trap = before.frame.trap.as_ref()?;
    let is_watchdog = scene.culprit.is_by_watchdog() || message.contains("watchdog");
    let (kind, what) = match (is_watchdog, trap.cause) {
        (true, _) => (ReasonKind::Watchdog, "the watchdog expired"),
        (false, Cause::Nmi) => (ReasonKind::Nmi, "a non-maskable interrupt came"),
        _ => return None,
    };
    let cpu = scene.thread.cpu;
    let cpu = cpu.map_or_else(String::new, |cpu| format!(" on CPU {cpu}"));
    let name = scene.name_of(scene.thread.tid);
    let place = place_of(scene.frame());
    let headline = format!("{what} while {name} ran{cpu}{place}");
    let mut reason = scene.reason(kind, scene.culprit.at, headline);
    reason
        .evidence
        .push("it cut into that; nothing says that this code is at fault".to_owned());
    Some(reason)
}
