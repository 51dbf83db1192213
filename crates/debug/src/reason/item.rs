//! The memory that a bad pointer was read from: the allocator's item, and who else has it; another thread's
//! stack.

use super::origin::Origin;
use super::{BadValue, Scene, joined};
use crate::details::Details;
use crate::zones::{self, Allocation, Item, State};
use std::ops::Range;
use vmcore::process::Thread;
use vmcore_format::addr::VirtAddr;

/// Bytes of a stack that are searched.
const MAX_STACK: u64 = 1 << 18;
/// Threads that are named.
const MAX_NAMED: usize = 4;

/// What is known of the memory from which a bad pointer was read; who else has it only if it was freed.
pub(super) fn evidence(scene: &Scene<'_, '_>, origin: &Origin, bad: &BadValue) -> Vec<String> {
    let Some(holder) = Holder::of(scene, origin) else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    let mut memory = holder.address.0..holder.address.0.saturating_add(holder.len_bytes);
    let mut is_free = matches!(bad, BadValue::Fill { .. });
    match zones::find(scene.target, holder.address) {
        Ok(Some(Allocation::Slab { zones, item, .. })) => {
            if let Some(item) = item {
                lines.push(words_of_item(&holder, &zones, &item));
                memory = item.address.0..item.address.0.saturating_add(item.bytes);
                is_free |= matches!(item.state, State::Free | State::Cached);
            }
        }
        _ => lines.extend(on_stack(scene, &holder)),
    }
    let others = match is_free {
        true => others(scene, memory),
        false => Vec::new(),
    };
    if !others.is_empty() {
        let shown = joined(others.get(..MAX_NAMED).unwrap_or(&others));
        let more = match others.len().saturating_sub(MAX_NAMED) {
            0 => String::new(),
            more => format!(", and of {more} more"),
        };
        lines.push(format!(
            "pointers into `*{}` are on the stack of {shown}{more}",
            holder.text
        ));
    }
    lines
}

/// The pointer through which a bad one was read.
struct Holder<'o> {
    text: &'o str,
    address: VirtAddr,
    /// Bytes of what it points to; 0 if its type does not tell.
    len_bytes: u64,
}

impl<'o> Holder<'o> {
    fn of(scene: &Scene<'_, '_>, origin: &'o Origin) -> Option<Self> {
        let text = origin.read_from.as_deref()?;
        let (target, at) = (scene.target, scene.culprit.at);
        let pointer = target.evaluate_in(text, scene.frames, at, origin.level);
        let pointer = pointer.ok()?;
        let to = target.types().pointee(&pointer.type_);
        let len = to.and_then(|to| target.types().size_of(&to).ok());
        let address = target.evaluator().load(&pointer).ok()?;
        Some(Self {
            text,
            address: VirtAddr(target.machine().cut(u64::try_from(address).ok()?)),
            len_bytes: len.unwrap_or(0),
        })
    }
}

fn words_of_item(holder: &Holder<'_>, zones: &[String], item: &Item) -> String {
    let state = match item.state {
        State::Free | State::Cached => "a free item",
        State::InUse | State::Taken => "an item in use",
    };
    let freed_as = match &item.freed_as {
        Some(name) => format!(", freed as {name}"),
        None => String::new(),
    };
    let offset = match item.offset {
        0 => String::new(),
        offset => format!("{offset:#x} into "),
    };
    format!(
        "`{}` = {} points {offset}to {state} of {} bytes of zone {}{freed_as}",
        holder.text,
        holder.address,
        item.bytes,
        zones.join(", ")
    )
}

/// Threads, but for the one that crashed, whose calls have a pointer into some memory on their stack.
fn others(scene: &Scene<'_, '_>, memory: Range<u64>) -> Vec<String> {
    let details = Details::of(scene.target);
    let threads = scene
        .list
        .threads()
        .filter(|thread| thread.tid != scene.thread.tid);
    let having = threads.filter(|thread| {
        let words = words_on_stack(scene, &details, thread).unwrap_or_default();
        words.iter().any(|word| memory.contains(word))
    });
    having
        .map(|thread| scene.words_of_thread(thread.tid))
        .collect()
}

/// The words that are on a thread's stack: what is below its stack pointer is of calls that have returned.
fn words_on_stack(
    scene: &Scene<'_, '_>,
    details: &Details<'_, '_>,
    thread: &Thread,
) -> Option<Vec<u64>> {
    let (start, len) = details.thread(thread).stack?;
    let registers = scene.target.start_of(thread)?.registers;
    let sp = registers.get(scene.target.machine().sp)?;
    let end = start.0.checked_add(len)?;
    if !(start.0..end).contains(&sp) || len > MAX_STACK {
        return None;
    }
    let mut bytes = vec![0; usize::try_from(end - sp).ok()?];
    let read = scene.target.space().read(VirtAddr(sp), &mut bytes).len;
    bytes.truncate(read);
    let (endian, word) = (scene.target.space().endian(), scene.target.space().word());
    let words = (0..).map_while(|index| word.item(endian, &bytes, index));
    Some(words.collect())
}

/// A pointer to the stack of another thread.
fn on_stack(scene: &Scene<'_, '_>, holder: &Holder<'_>) -> Option<String> {
    let details = Details::of(scene.target);
    let owner = scene.list.threads().find(|thread| {
        let stack = details.thread(thread).stack;
        let offset = stack.and_then(|(start, len)| Some((holder.address.checked_sub(start)?, len)));
        offset.is_some_and(|(offset, len)| offset < len)
    });
    let owner = owner.filter(|thread| thread.tid != scene.thread.tid)?;
    Some(format!(
        "`{}` = {} points to the stack of {}",
        holder.text,
        holder.address,
        scene.words_of_thread(owner.tid)
    ))
}
