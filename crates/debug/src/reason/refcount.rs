//! A count of references that fell below zero, or overflowed.

use super::held;
use super::{Reason, ReasonKind, Scene, address_after, words_of_place};
use crate::report::base_name;
use vmcore_format::addr::VirtAddr;

/// What the kernel says of a count, and what happened.
const WORDS: [(&str, &str); 3] = [
    ("wraparound", "was released more often than it was held,"),
    ("underflow", "was released more often than it was held,"),
    ("overflow", "was held too often,"),
];
/// Functions that only count on behalf of their callers.
const COUNTING: &str = "refcount_";

pub(super) fn find(scene: &Scene<'_, '_>) -> Option<Reason> {
    let message = scene.message?;
    let address = address_after(message, "refcount ")?;
    let (_, what) = WORDS.iter().find(|(words, _)| message.contains(words))?;
    let is_counting = |name: &str| name.trim_start_matches('_').starts_with(COUNTING);
    let held = held::find(scene, address, |function| !is_counting(function));
    let callers = scene.frames.iter().enumerate().skip(scene.culprit.at);
    let mut callers = callers.filter_map(|(at, frame)| {
        let place = frame.places.iter().find(|one| !is_counting(&one.function));
        Some((at, place?))
    });
    let (at, place) = callers.next()?;
    let (subject, words) = (held.subject(), words_of_place(place));
    let headline = format!("{subject} {what} in {words}");
    let mut reason = scene.reason(ReasonKind::Refcount, at, headline);
    reason.function = Some(base_name(&place.function).to_owned());
    if let Ok(count) = scene.target.space().read_u32(VirtAddr(address)) {
        reason
            .evidence
            .push(format!("the count is {}", count.cast_signed()));
    }
    Some(held.complete(reason, address))
}
