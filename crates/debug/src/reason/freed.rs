//! Memory of the allocator that was freed twice, or written after it was freed, as kernels with
//! `INVARIANTS` notice.

use super::held;
use super::{Reason, ReasonKind, Scene, address_after, place_of};
use crate::zones::{self, Allocation, State};
use vmcore_format::addr::VirtAddr;

pub(super) fn find(scene: &Scene<'_, '_>) -> Option<Reason> {
    let message = scene.message?;
    double_free(scene, message).or_else(|| written(scene, message))
}

/// `Duplicate free of 0x… from zone 0x…(mbuf) slab 0x…(3)`, and of malloc's own check.
fn double_free(scene: &Scene<'_, '_>, message: &str) -> Option<Reason> {
    let words = ["Duplicate free of", "double free of", "multiple frees of"];
    let address = words
        .iter()
        .find_map(|words| address_after(message, words))?;
    let held = held::find(scene, address, |_| true);
    let zone = zone_of(message).map_or_else(String::new, |zone| format!(" of zone {zone}"));
    let (subject, place) = (held.subject(), place_of(scene.frame()));
    let headline = format!("{subject} was free already, an item{zone},{place}: it frees it again");
    let mut reason = scene.reason(ReasonKind::DoubleFree, scene.culprit.at, headline);
    reason.evidence.extend(state(scene, address));
    Some(held.complete(reason, address))
}

/// `Memory modified after free 0x…(256) val=0 @ 0x…`: found when the item is taken again. Who wrote it is
/// not known; who had it may be.
fn written(scene: &Scene<'_, '_>, message: &str) -> Option<Reason> {
    let words = "emory modified after free";
    // Of memory of malloc the panic itself says only who used it.
    let user = "Most recently used by ";
    let line = match message.contains(user) {
        true => scene.log.iter().rev().find(|line| line.contains(words))?,
        false => message,
    };
    let address = address_after(line, words)?;
    let at = address_after(line, "@ ").filter(|at| at.wrapping_sub(address) < 1 << 20);
    let zone = match zones::find(scene.target, VirtAddr(address)) {
        Ok(Some(Allocation::Slab { zones, .. })) => format!(" of zone {}", zones.join(", ")),
        _ => String::new(),
    };
    let where_ = at.map_or_else(String::new, |at| format!(" at offset {:#x}", at - address));
    let place = place_of(scene.frame());
    let headline = format!(
        "the item {address:#x}{zone} was written{where_} after it was freed; noticed{place}"
    );
    let mut reason = scene.reason(ReasonKind::WriteAfterFree, scene.culprit.at, headline);
    let user = message.split_once(user);
    if let Some((_, name)) = user {
        let name = name.lines().next().unwrap_or_default().trim();
        reason
            .evidence
            .push(format!("it was last freed as malloc type {name}"));
    }
    Some(reason)
}

fn zone_of(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("from zone ")?;
    let (name, _) = rest.split_once('(')?.1.split_once(')')?;
    Some(name)
}

/// What the allocator itself says of an item.
fn state(scene: &Scene<'_, '_>, address: u64) -> Option<String> {
    let found = zones::find(scene.target, VirtAddr(address)).ok()??;
    let Allocation::Slab {
        item: Some(item), ..
    } = found
    else {
        return None;
    };
    let is_free = matches!(item.state, State::Free | State::Cached);
    is_free.then(|| format!("its item of {} bytes is {}", item.bytes, item.state))
}
