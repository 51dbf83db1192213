//! What a panic about locks is about: threads that wait for each other, a spin lock that was kept, a thread
//! that sleeps with a lock, a lock that is not held as it must be; which lock, who has it, who waits.

use super::{Reason, ReasonKind, Scene, joined, place_of, words_of_place};
use crate::locks::{self, Holder, Lock, Locks, Spinning};
use crate::report::crash::About;
use crate::report::culprit;
use crate::stack::NamedFrame;
use vmcore::process::Thread;
use vmcore_format::addr::VirtAddr;

/// Frames in which a lock is looked for that the message names.
const MAX_FRAMES: usize = 16;
/// What messages say of a lock that is not as it must be, and what that means; the first that fits.
const WORDS: [(&str, &str); 12] = [
    (
        "blockable sleep lock",
        "was to be taken with a spin lock held, or in a critical section",
    ),
    ("recurs", "was to be taken again by the thread that has it"),
    ("not owned", "is not owned by the thread that must own it"),
    (
        "not write locked",
        "is not held exclusively by the thread that must",
    ),
    (
        "not read locked",
        "is not held by the thread that must hold it",
    ),
    (
        "not exclusively",
        "is not held exclusively by the thread that must",
    ),
    ("not locked", "is not held by the thread that must hold it"),
    (
        "exclusively locked",
        "is held exclusively where it must not be",
    ),
    ("owned at", "is owned where it must not be"),
    ("unlocked", "is not held by the thread that must hold it"),
    ("locked", "is held where it must not be"),
    ("destroyed", "was destroyed"),
];

/// What is known of locks.
struct Known<'c, 's, 'a> {
    scene: &'c Scene<'s, 'a>,
    spinning: Spinning<'s, 'a>,
    locks: Locks,
    about: About,
}

pub(super) fn find(scene: &Scene<'_, '_>) -> Option<Reason> {
    let message = scene.message?;
    let is_about_locks = [
        "lock",
        "mutex",
        "sleeping thread",
        "owned",
        " rw ",
        " sx ",
        "recurs",
    ];
    if !is_about_locks.iter().any(|words| message.contains(words)) {
        return None;
    }
    let known = Known {
        scene,
        spinning: Spinning::of(scene.target, scene.list)?,
        locks: match scene.locks {
            Some(known) => known.clone(),
            None => locks::find(scene.target, scene.list),
        },
        about: About::of(message, scene.log),
    };
    if message.contains("possible deadlock") {
        known.deadlock()
    } else if message.contains("sleeping thread") {
        known.sleeping()
    } else if message.contains("spin lock") && message.contains("too long") {
        known.spin_lock()
    } else {
        known.named(message)
    }
}

impl Known<'_, '_, '_> {
    fn thread(&self, is_it: impl Fn(&Thread) -> bool) -> Option<&Thread> {
        let mut threads = self.scene.list.threads();
        threads.find(|thread| is_it(thread))
    }

    /// The thread that the panic is about.
    fn about(&self) -> Option<&Thread> {
        self.thread(|thread| {
            Some(thread.address) == self.about.thread || Some(thread.tid) == self.about.tid
        })
    }

    fn frames(&self, thread: &Thread) -> Vec<NamedFrame> {
        self.scene.target.stack(thread).frames
    }

    /// A reason in a frame of another thread.
    fn reason_of(&self, kind: ReasonKind, thread: &Thread, headline: String) -> Reason {
        let frames = self.frames(thread);
        let found = culprit(&frames);
        let scene = Scene {
            frames: &frames,
            ..*self.scene
        };
        scene.reason(kind, found.map_or(usize::MAX, |found| found.at), headline)
    }

    /// Where a thread is: ` in f, a.c:1`.
    fn place(&self, thread: &Thread) -> String {
        let frames = self.frames(thread);
        place_of(culprit(&frames).and_then(|found| frames.get(found.at)))
    }

    fn place_by_tid(&self, tid: i32) -> String {
        let thread = self.thread(|thread| thread.tid == tid);
        thread.map_or_else(String::new, |thread| self.place(thread))
    }

    fn lock(&self, address: VirtAddr) -> Option<Lock> {
        let known = self.locks.locks.iter().find(|lock| lock.address == address);
        known.cloned().or_else(|| self.spinning.lock_at(address))
    }

    /// A lock: `sleep mutex "process lock" (proc_lock)`.
    fn words(&self, lock: &Lock) -> String {
        let symbol = self.scene.target.name_at(lock.address);
        let symbol = symbol.map_or_else(String::new, |name| format!(" ({name})"));
        format!("{} \"{}\"{symbol}", lock.class, lock.name)
    }

    /// Who holds a lock, and what that one does.
    fn holder(&self, lock: &Lock) -> Option<String> {
        match &lock.holder {
            Holder::By { tid: Some(tid), .. } => {
                let does = match &lock.owner_does {
                    Some(does) => format!(", which {does}{}", self.place_by_tid(*tid)),
                    None => self.place_by_tid(*tid),
                };
                Some(format!(
                    "held by {}{does}",
                    self.scene.words_of_thread(*tid)
                ))
            }
            Holder::By { thread, tid: None } => Some(format!("held by a thread at {thread}")),
            Holder::Free => Some("held by nobody".to_owned()),
            Holder::Shared { count } => Some(format!("held by {count} readers")),
            Holder::Disowned | Holder::Unknown => None,
        }
    }

    /// Who else waits for a lock.
    fn waiters(&self, lock: &Lock, but: i32) -> Vec<String> {
        let waits = self.locks.waits.iter();
        let waits = waits.filter(|wait| wait.lock == lock.address && wait.tid != but);
        waits
            .map(|wait| {
                let place = self.place_by_tid(wait.tid);
                format!(
                    "{} waits for it{place}",
                    self.scene.words_of_thread(wait.tid)
                )
            })
            .collect()
    }

    /// Threads that wait for each other, or one that waits for too long.
    fn deadlock(&self) -> Option<Reason> {
        let about = self.about()?;
        let lock_of = |tid: i32| {
            let wait = self.locks.waits.iter().find(|wait| wait.tid == tid)?;
            self.lock(wait.lock)
        };
        let cycle = self
            .locks
            .cycles
            .iter()
            .find(|cycle| cycle.contains(&about.tid));
        let Some(cycle) = cycle else {
            let lock = lock_of(about.tid)?;
            let headline = format!(
                "{} waits for {}{}",
                self.scene.words_of_thread(about.tid),
                self.words(&lock),
                self.place(about)
            );
            let mut reason = self.reason_of(ReasonKind::Lock, about, headline);
            reason
                .evidence
                .extend(self.holder(&lock).map(|words| format!("it is {words}")));
            reason.evidence.extend(self.waiters(&lock, about.tid));
            return Some(reason);
        };
        let names: Vec<String> = cycle.iter().map(|tid| self.scene.name_of(*tid)).collect();
        let each: Vec<String> = cycle
            .iter()
            .zip(&names)
            .filter_map(|(tid, name)| {
                let lock = lock_of(*tid)?;
                Some(format!(
                    "{name} for \"{}\"{}",
                    lock.name,
                    self.place_by_tid(*tid)
                ))
            })
            .collect();
        let headline = format!(
            "{} wait for each other: {}",
            joined(&names),
            each.join("; ")
        );
        let mut reason = self.reason_of(ReasonKind::Deadlock, about, headline);
        // Which of the threads was noticed is chance.
        let functions = cycle.iter().map(|tid| self.place_by_tid(*tid));
        let functions = functions.filter_map(|place| {
            let function = place.strip_prefix(" in ")?.split(',').next()?;
            Some(function.to_owned())
        });
        reason.function = functions.min().or(reason.function);
        for tid in cycle {
            let held = self
                .locks
                .waits
                .iter()
                .filter_map(|wait| self.lock(wait.lock));
            let mut held = held.filter(
                |lock| matches!(lock.holder, Holder::By { tid: Some(by), .. } if by == *tid),
            );
            let (Some(held), Some(wanted)) = (held.next(), lock_of(*tid)) else {
                continue;
            };
            reason.evidence.push(format!(
                "{} holds {} and waits for {}",
                self.scene.words_of_thread(*tid),
                self.words(&held),
                self.words(&wanted)
            ));
        }
        Some(reason)
    }

    /// A thread sleeps with a lock that another one is to wait for.
    fn sleeping(&self) -> Option<Reason> {
        let owner = self.about()?;
        let scene = self.scene;
        let is_its = |lock: &Lock| matches!(lock.holder, Holder::By { tid: Some(by), .. } if by == owner.tid);
        let waits = self
            .locks
            .waits
            .iter()
            .find(|wait| wait.tid == scene.thread.tid);
        let lock = waits.and_then(|wait| self.lock(wait.lock)).filter(is_its);
        // It panicked on the way to waiting.
        let lock = lock.or_else(|| self.lock_in_stack(is_its))?;
        let headline = format!(
            "{} sleeps with {}{}",
            self.scene.words_of_thread(owner.tid),
            self.words(&lock),
            self.place(owner)
        );
        let mut reason = self.reason_of(ReasonKind::SleepWithLock, owner, headline);
        reason.evidence.push(format!(
            "{} waits for the lock{}",
            self.scene.words_of_thread(scene.thread.tid),
            place_of(scene.frame())
        ));
        reason
            .evidence
            .extend(self.waiters(&lock, scene.thread.tid));
        Some(reason)
    }

    /// A spin lock that was held for too long.
    fn spin_lock(&self) -> Option<Reason> {
        let lock = self.lock(self.about.lock?)?;
        let owner = self.about()?;
        let headline = format!(
            "{} waits for {}{}",
            self.scene.words_of_thread(self.scene.thread.tid),
            self.words(&lock),
            place_of(self.scene.frame())
        );
        let mut reason =
            self.scene
                .reason(ReasonKind::SpinLockHeld, self.scene.culprit.at, headline);
        let doing = match owner.cpu {
            Some(cpu) => format!("runs on CPU {cpu}"),
            None => "does not run".to_owned(),
        };
        let place = self.place(owner);
        reason.evidence.push(format!(
            "{} has it and {doing}; it is{place}",
            self.scene.words_of_thread(owner.tid),
        ));
        // What takes a lock may be inlined into its caller.
        let places = self.scene.frame().map(|frame| frame.places.as_slice());
        if let Some([_, .., outer]) = places {
            let outer = words_of_place(outer);
            reason
                .evidence
                .push(format!("it was to be taken in {outer}"));
        }
        reason
            .evidence
            .extend(self.waiters(&lock, self.scene.thread.tid));
        Some(reason)
    }

    /// The lock of a stack whose name is in the message.
    fn named(&self, message: &str) -> Option<Reason> {
        let (_, what) = WORDS.iter().find(|(words, _)| message.contains(words))?;
        let is_named = |lock: &Lock| {
            let has_name = !lock.name.is_empty() && message.contains(&lock.name);
            has_name || message.contains(&format!("{:#x}", lock.address.0))
        };
        let lock = self.lock_in_stack(is_named)?;
        let scene = self.scene;
        let place = place_of(scene.frame());
        let headline = format!("{} {what}{place}", self.words(&lock));
        let mut reason = scene.reason(ReasonKind::Lock, scene.culprit.at, headline);
        reason
            .evidence
            .extend(self.holder(&lock).map(|words| format!("it is {words}")));
        reason
            .evidence
            .extend(self.waiters(&lock, scene.thread.tid));
        Some(reason)
    }

    /// The lock to which a variable or a register of the innermost frames points.
    fn lock_in_stack(&self, is_it: impl Fn(&Lock) -> bool) -> Option<Lock> {
        let scene = self.scene;
        let machine = scene.target.machine();
        let evaluator = scene.target.evaluator();
        let frames = 0..=scene.culprit.at.min(MAX_FRAMES);
        let lock_at = |value: u64| self.spinning.lock_at(VirtAddr(value)).filter(&is_it);
        frames.into_iter().find_map(|at| {
            let lists = scene.target.variables(scene.frames, at);
            let values = lists.iter().flatten().filter_map(|variable| {
                let value = evaluator.load(variable.value.as_ref().ok()?).ok()?;
                Some(machine.cut(u64::try_from(value).ok()?))
            });
            let registers = scene.frames.get(at).into_iter();
            let registers = registers.flat_map(|frame| frame.frame.registers.named(machine));
            let mut values = values.chain(registers.map(|(_, value)| value));
            values.find_map(lock_at)
        })
    }
}
