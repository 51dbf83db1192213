//! A layer that panics: the kernel's panic handler, on top of the dump that never goes on, writes a
//! plain one to the same disk, once.

use crate::golden;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use vmcore_format::kerneldump::DumpHeader;
use vmcore_format::paging::Amd64;
use vmcore_testkit::writer::disk::{Disk, State};
use vmcore_testkit::writer::models::{self, small};
use vmcore_testkit::writer::run::{owned, recover, settings};
use vmcore_testkit::writer::sim::Sim;
use vmcore_writer::disk::DiskSink;
use vmcore_writer::gzip::{GZIP_MEMORY_BYTES, Gzip};
use vmcore_writer::latch::Latch;
use vmcore_writer::settings::Patience;
use vmcore_writer::sink::{Durability, SinkError};
use vmcore_writer::{DumpError, Sink};

/// Panics at one of its calls, inside whatever layer is above.
struct Buggy<'h, S> {
    sink: S,
    calls: &'h Cell<usize>,
    panics_at: usize,
    /// The kernel's panic handler.
    handler: &'h dyn Fn(),
}

/// What the panic ends in, which is a reset in a kernel.
struct Reset;

impl<S> Buggy<'_, S> {
    fn step(&self) {
        self.calls.set(self.calls.get() + 1);
        if self.calls.get() == self.panics_at {
            (self.handler)();
            // Nothing above goes on.
            resume_unwind(Box::new(Reset));
        }
    }
}

impl<S: Sink> Sink for Buggy<'_, S> {
    fn begin(&mut self, header: &DumpHeader<'_>, key: &[u8]) -> Result<(), SinkError> {
        self.step();
        self.sink.begin(header, key)
    }

    fn chunk_bytes(&self) -> usize {
        self.sink.chunk_bytes()
    }

    fn submit(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let result = self.sink.submit(bytes);
        // With a transfer under way.
        self.step();
        result
    }

    fn complete(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let result = self.sink.complete(bytes);
        self.step();
        result
    }

    fn finish(&mut self, len_bytes: u64) -> Result<Durability, SinkError> {
        self.step();
        self.sink.finish(len_bytes)
    }

    fn cancel(&mut self) {
        self.sink.cancel();
    }
}

const PATIENCE: Patience = Patience {
    attempts: 2,
    timeout_ms: 1,
};

/// A machine whose kernel panics, and panics again in its panic path.
struct Scene {
    sim: Sim<Amd64>,
    latch: Latch,
    state: Rc<State>,
    calls: Cell<usize>,
    /// What became of the dumps of the panic handler; `None` where it had to reset.
    handled: RefCell<Vec<Option<Result<(), DumpError>>>>,
}

impl Scene {
    fn new() -> Self {
        Self {
            sim: small::<Amd64>(models::AMD64),
            latch: Latch::new(),
            state: Rc::clone(&Disk::new(16 << 20, 512).state),
            calls: Cell::new(0),
            handled: RefCell::default(),
        }
    }

    fn disk(&self) -> DiskSink<Disk> {
        let mut disk = Disk::new(16 << 20, 512);
        disk.state = Rc::clone(&self.state);
        DiskSink::new(disk, PATIENCE)
    }

    /// What a kernel does in a panic, if it dumps through a layer that may panic itself.
    fn first(&self, panics_at: usize, allowed: bool) -> bool {
        let owner = self.latch.enter().unwrap();
        if allowed {
            owner.allow_restart();
        }
        let handler = || self.second();
        let buggy = Buggy {
            sink: self.disk(),
            calls: &self.calls,
            panics_at,
            handler: &handler,
        };
        let mut memory = vec![0; GZIP_MEMORY_BYTES];
        let mut sink = Gzip::new(buggy, 1, &mut memory).unwrap();
        let went_on = catch_unwind(AssertUnwindSafe(|| {
            owned(&owner, &self.sim, settings(None), &mut sink).unwrap();
        }));
        // A kernel that resets drops nothing.
        std::mem::forget(owner);
        went_on.is_ok()
    }

    /// And what it does in the panic that this layer ends in.
    fn second(&self) {
        assert!(self.latch.enter().is_err());
        let dumped = self.latch.restart().map(|owner| {
            let result = owned(&owner, &self.sim, settings(None), &mut self.disk()).map(|_| ());
            std::mem::forget(owner);
            result
        });
        self.handled.borrow_mut().push(dumped);
    }
}

#[test]
fn a_panic_at_any_call_of_a_layer_ends_in_a_plain_dump() {
    let all = Scene::new();
    assert!(all.first(usize::MAX, true));
    let count = all.calls.get();
    assert!(count > 10, "{count} calls");
    for at in 1..=count {
        let scene = Scene::new();
        assert!(!scene.first(at, true), "call {at}");
        assert_eq!(scene.handled.take(), [Some(Ok(()))], "call {at}");
        let file = recover(&scene.state.media(), 512).expect("a dump");
        let expected = golden::minidump(&scene.sim, 3);
        assert!(file[..1024] == expected[..1024], "call {at}");
        assert!(file[2048..expected.len()] == expected[2048..], "call {at}");
        let interrupted = scene.latch.interrupted().unwrap();
        assert_eq!(interrupted.count, 1, "call {at}");
    }
}

#[test]
fn who_was_not_allowed_to_resets_and_leaves_no_half_dump() {
    let scene = Scene::new();
    assert!(!scene.first(9, false));
    assert_eq!(scene.handled.take(), [None]);
    assert_eq!(recover(&scene.state.media(), 512), None);
}

#[test]
fn a_panic_in_the_second_dump_is_the_last() {
    let scene = Scene::new();
    assert!(!scene.first(9, true));
    assert_eq!(scene.handled.take(), [Some(Ok(()))]);
    scene.second();
    assert_eq!(scene.handled.take(), [None]);
}
