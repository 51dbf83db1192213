//! A list of `sys/queue.h` whose links do not agree, as kernels with `INVARIANTS` notice.

use super::held;
use super::{Certainty, Reason, ReasonKind, Scene, address_after, place_of};
use vmcore_format::addr::VirtAddr;

/// What a message says before the address of the element or head.
const WORDS: [(&str, &str); 6] = [
    ("Bad link elm", "prev->next != elm"),
    ("Bad tailq elm", "prev->next != elm"),
    ("Bad list head", "first->prev != head"),
    ("Bad tailq head", "first->prev != head"),
    ("Bad tailq NEXT(", "the last element is not the last"),
    ("Bad head", "the links of the head do not agree"),
];

pub(super) fn find(scene: &Scene<'_, '_>) -> Option<Reason> {
    let message = scene.message?;
    let (words, usual) = WORDS.iter().find(|(words, _)| message.contains(words))?;
    let address = address_after(message, words)?;
    let (_, rest) = message.split_once(words)?;
    let said = rest.split_once(' ').map(|(_, rest)| rest.trim_start());
    let said = said
        .and_then(|rest| rest.split_once(' '))
        .map(|(_, said)| said);
    let said = said.map(|said| said.lines().next().unwrap_or_default().trim());
    let said = said.filter(|said| said.contains("!=")).unwrap_or(usual);
    let held = held::find(scene, address, |_| true);
    let removed = removed_link(scene, held.size(scene), address);
    let what = match removed {
        // Another list than this one may have had it before.
        Some(_) => "was removed before",
        None => "has links that do not agree",
    };
    let (subject, place) = (held.subject(), place_of(scene.frame()));
    let likely = if removed.is_some() { "likely " } else { "" };
    let headline = format!("{likely}{subject} {what},{place}");
    let mut reason = scene.reason(ReasonKind::ListCorruption, scene.culprit.at, headline);
    reason.evidence.push(format!("{address:#x}: {said}"));
    if let Some((prev, next)) = removed {
        reason.evidence.push(format!(
            "what was before it, at {prev}, already leads past it to {next}: it was removed before"
        ));
    }
    Some(Reason {
        certainty: removed.map(|_| Certainty::Likely),
        ..held.complete(reason, address)
    })
}

/// Where the pointer to a removed element was, and to what it leads now: past the element.
fn removed_link(
    scene: &Scene<'_, '_>,
    size: Option<u64>,
    address: u64,
) -> Option<(VirtAddr, VirtAddr)> {
    let target = scene.target;
    let word = target.space().word().bytes();
    // The link is where two words of the element are a `next` and a pointer to one.
    let size = size.unwrap_or(UNKNOWN_SIZE).min(MAX_ELEMENT);
    (0..size / word).find_map(|at| {
        let next = held::word_at(scene, address.checked_add(at * word)?)?;
        let prev = held::word_at(scene, address.checked_add((at + 1) * word)?)?;
        let leads_to = held::word_at(scene, prev)?;
        // Of the last element nothing leads back.
        let back = held::word_at(scene, next.checked_add((at + 1) * word)?)?;
        let is_link = prev != 0 && prev % word == 0 && leads_to != address;
        (is_link && leads_to == next && back == prev).then_some((VirtAddr(prev), VirtAddr(next)))
    })
}

/// Bytes of an element in which its link is looked for.
const MAX_ELEMENT: u64 = 4096;
/// The same of one whose type is not known.
const UNKNOWN_SIZE: u64 = 256;
