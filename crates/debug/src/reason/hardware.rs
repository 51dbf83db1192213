//! A machine check: what the hardware reported, as the kernel decoded it into its log.

use super::{Reason, ReasonKind, Scene, place_of};
use crate::unwind::Cause;

/// What the kernel writes before each line about an error.
const PREFIX: &str = "MCA: ";

pub(super) fn find(scene: &Scene<'_, '_>) -> Option<Reason> {
    let is_check = scene
        .trap()
        .is_some_and(|trap| trap.cause == Cause::MachineCheck)
        || scene
            .message
            .is_some_and(|message| message.to_lowercase().contains("machine check"));
    if !is_check {
        return None;
    }
    let lines = scene.log.iter().filter_map(|line| line.split_once(PREFIX));
    let lines: Vec<&str> = lines.map(|(_, line)| line.trim()).collect();
    // `CPU 0 UNCOR PCC MEMRD channel 1 memory error` after the lines with the raw words.
    let decoded = lines.iter().rev().find(|line| line.starts_with("CPU "))?;
    let place = place_of(scene.frame());
    let headline =
        format!("the hardware reported an error: {decoded}; it interrupted the kernel{place}");
    let mut reason = scene.reason(ReasonKind::Hardware, scene.culprit.at, headline);
    let raw = lines.iter().filter(|line| *line != decoded);
    reason.evidence.extend(raw.map(|line| (*line).to_owned()));
    Some(reason)
}
