//! A kernel stack that was too small: how deep it was, which functions called each other, and which have
//! the largest frames.

use super::{Reason, ReasonKind, Scene, joined, place_of};
use crate::details::Details;
use crate::report::{base_name, recursion};
use crate::unwind::{Cause, TrapFrame};
use vmcore_format::addr::VirtAddr;

/// How far below a stack an access is one of its own.
const BELOW: u64 = 2 * 4096;
/// What a processor pushes for an exception, at most.
const PUSHED: u64 = 256;
/// The large frames that are named.
const LARGEST: usize = 3;

pub(super) fn find(scene: &Scene<'_, '_>) -> Option<Reason> {
    let trap = scene.trap_at_fault()?;
    let details = Details::of(scene.target).thread(scene.thread);
    let (start, len_bytes) = details.stack?;
    let sp = trap.registers.get(scene.target.machine().sp)?;
    let (below, what) = below_stack(trap, sp, start)?;
    let own = scene.frames.get(scene.culprit.at..)?;
    let depth = own.len();
    let parts = recursion::fold(own);
    let longest = parts.iter().max_by_key(|part| part.len - part.shown);
    let longest = longest.filter(|part| part.len > part.shown);
    let place = place_of(scene.frame());
    let mut entry = None;
    let why = match longest {
        Some(part) => {
            let round = own.get(part.start..part.start + part.shown)?;
            let names = round.iter().filter_map(|frame| frame.function());
            let mut names: Vec<&str> = names.map(base_name).collect();
            // Where in the round it ended is chance.
            let first = (0..names.len())
                .min_by_key(|at| names.get(*at))
                .unwrap_or(0);
            names.rotate_left(first);
            let rounds = part.len / part.shown;
            entry = names.first().copied();
            match names.as_slice() {
                [one] => format!("{one} calls itself, {rounds} times"),
                [] => return None,
                names => format!("{} call each other, {rounds} rounds", joined(names)),
            }
        }
        None => format!("{depth} frames are on it"),
    };
    let headline = format!("the kernel stack overflowed{place}: {why}");
    let mut reason = scene.reason(ReasonKind::StackOverflow, scene.culprit.at, headline);
    // In which function of a recursion it ended is chance.
    reason.function = entry.map(str::to_owned).or(reason.function);
    reason.evidence.push(format!(
        "{what} {below:#x} bytes below the stack of {len_bytes} bytes at {start}"
    ));
    let mut sizes: Vec<(u64, &str)> = Vec::new();
    for (inner, outer) in own.iter().zip(own.iter().skip(1)) {
        let (Some(from), Some(to)) = (inner.frame.sp, outer.frame.sp) else {
            continue;
        };
        let (size, name) = (to.0.wrapping_sub(from.0), inner.function());
        let name = name.map_or("?", base_name);
        let is_new = sizes.iter().all(|(_, known)| *known != name);
        if size < len_bytes && is_new {
            sizes.push((size, name));
        }
    }
    sizes.sort_unstable_by(|one, other| other.cmp(one));
    sizes.truncate(LARGEST);
    let sizes: Vec<String> = sizes
        .iter()
        .map(|(size, name)| format!("{name} {size}"))
        .collect();
    if !sizes.is_empty() {
        let line = format!("the largest frames, in bytes: {}", sizes.join(", "));
        reason.evidence.push(line);
    }
    if longest.is_some()
        && let Some(reached) = reached_by(scene, own, longest.map(|part| part.start + part.len))
    {
        reason.evidence.push(reached);
    }
    Some(reason)
}

/// How far below its stack a thread was, and what was there.
fn below_stack(trap: &TrapFrame, sp: u64, start: VirtAddr) -> Option<(u64, &'static str)> {
    let below = |address: u64| {
        let below = start.0.checked_sub(address)?;
        (1..=BELOW).contains(&below).then_some(below)
    };
    match trap.cause {
        // By the thread's own stack pointer, not by a pointer that went astray.
        Cause::PageFault(_) if sp < start.0 + BELOW => {
            Some((below(trap.fault_address?.0)?, "the access was"))
        }
        // The stack pointer may still be inside: the processor could not push below it.
        Cause::DoubleFault => match below(sp) {
            Some(below) => Some((below, "the stack pointer was")),
            None => (sp.wrapping_sub(start.0) < PUSHED).then_some((0, "the stack pointer was")),
        },
        _ => None,
    }
}

/// Who called into a recursion.
fn reached_by(
    scene: &Scene<'_, '_>,
    own: &[crate::stack::NamedFrame],
    outside: Option<usize>,
) -> Option<String> {
    let outer = own.get(outside?)?;
    let place = place_of(Some(outer));
    let at = scene.culprit.at + outside?;
    (!place.is_empty()).then(|| format!("it began{place} (frame {at})"))
}
