//! A disk with a volatile cache that fails, shortens, tears and loses power on command.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use vmcore_writer::device::{BlockDevice, DeviceError, Geometry};

/// What happens to a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An error, nothing written.
    Fail,
    /// An error when it is started.
    Refuse,
    /// Some blocks of it are written, and the device says so.
    Short,
    /// Nothing of it is written, and the device says so.
    Nothing,
    /// A part of it is written, and the device says that it failed.
    Tear,
    /// No answer; it is written all the same.
    Timeout,
    /// A part of it is written, and the power goes.
    PowerCut,
}

pub const FAULTS: [Fault; 7] = [
    Fault::Fail,
    Fault::Refuse,
    Fault::Short,
    Fault::Nothing,
    Fault::Tear,
    Fault::Timeout,
    Fault::PowerCut,
];

/// When faults happen, counted in writes.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub fault: Fault,
    pub first: usize,
    /// How many writes in a row.
    pub count: usize,
}

/// What happened to the media, shared with the test.
#[derive(Debug, Default)]
pub struct State {
    /// What is on the media for good.
    pub durable: RefCell<Vec<u8>>,
    /// Writes that only the cache has.
    pub cached: RefCell<Vec<(u64, Vec<u8>)>>,
    /// Offset and length of every write.
    pub writes: RefCell<Vec<(u64, usize)>>,
    /// How many writes there were at each flush.
    pub flushes: RefCell<Vec<usize>>,
    pub dead: Cell<bool>,
}

impl State {
    /// What is on the media when everything in the cache gets there.
    pub fn media(&self) -> Vec<u8> {
        let mut media = self.durable.borrow().clone();
        for (offset, bytes) in self.cached.borrow().iter() {
            put(&mut media, *offset, bytes);
        }
        media
    }

    /// What is on the media when the cache is lost but for the writes of `kept`.
    pub fn media_after_power_cut(&self, mut kept: impl FnMut() -> bool) -> Vec<u8> {
        let mut media = self.durable.borrow().clone();
        for (offset, bytes) in self.cached.borrow().iter() {
            if kept() {
                put(&mut media, *offset, bytes);
            }
        }
        media
    }
}

fn put(media: &mut [u8], offset: u64, bytes: &[u8]) {
    let at = usize::try_from(offset).unwrap();
    media[at..at + bytes.len()].copy_from_slice(bytes);
}

#[derive(Debug)]
pub struct Disk {
    pub geometry: Geometry,
    pub state: Rc<State>,
    pub plan: Option<Plan>,
    pub flush_fails: bool,
    under_way: Option<(u64, Vec<u8>)>,
}

impl Disk {
    /// A partition of `media_bytes` after 1 MiB of something else, filled with old data.
    pub fn new(media_bytes: usize, block_bytes: u32) -> Self {
        let media_offset = 1 << 20;
        let state = Rc::new(State::default());
        *state.durable.borrow_mut() = vec![0x5a; media_offset + media_bytes];
        let geometry = Geometry {
            block_bytes,
            max_transfer_bytes: 64 << 10,
            media_offset: media_offset as u64,
            media_bytes: media_bytes as u64,
        };
        Self {
            geometry,
            state,
            plan: None,
            flush_fails: false,
            under_way: None,
        }
    }
}

impl BlockDevice for Disk {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn prepare(&mut self, timeout_ms: u32) -> Result<(), DeviceError> {
        assert!(timeout_ms > 0);
        if self.state.dead.get() {
            Err(DeviceError::Gone)
        } else {
            Ok(())
        }
    }

    fn submit(&mut self, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        assert!(self.under_way.is_none(), "two writes at a time");
        let block = u64::from(self.geometry.block_bytes);
        assert!(!data.is_empty() && data.len() <= self.geometry.max_transfer_bytes as usize);
        assert!(
            offset.is_multiple_of(block) && (data.len() as u64).is_multiple_of(block),
            "not whole blocks"
        );
        let first = self.geometry.media_offset + (64 << 10);
        let end = self.geometry.media_offset + self.geometry.media_bytes;
        assert!(
            offset >= first && offset + data.len() as u64 <= end,
            "outside: {offset:#x}"
        );
        if self.state.dead.get() {
            return Err(DeviceError::Gone);
        }
        self.state.writes.borrow_mut().push((offset, data.len()));
        if self.fault() == Some(Fault::Refuse) {
            return Err(DeviceError::Io(5));
        }
        self.under_way = Some((offset, data.to_vec()));
        Ok(())
    }

    fn complete(&mut self, timeout_ms: u32) -> Result<usize, DeviceError> {
        assert!(timeout_ms > 0);
        let (offset, data) = self.under_way.take().expect("nothing is under way");
        let block = self.geometry.block_bytes as usize;
        let keep = |len: usize| {
            self.state
                .cached
                .borrow_mut()
                .push((offset, data[..len].to_vec()));
        };
        let part = data.len() / 2 / block * block;
        match self.fault() {
            None => {
                keep(data.len());
                Ok(data.len())
            }
            Some(Fault::Fail | Fault::Refuse) => Err(DeviceError::Io(5)),
            Some(Fault::Nothing) => Ok(0),
            Some(Fault::Short) => {
                keep(part);
                Ok(part + block / 2)
            }
            Some(Fault::Tear) => {
                keep(part + block / 4);
                Err(DeviceError::Io(6))
            }
            Some(Fault::Timeout) => {
                keep(data.len());
                Err(DeviceError::Timeout)
            }
            Some(Fault::PowerCut) => {
                keep(part + block / 4);
                self.state.dead.set(true);
                Err(DeviceError::Gone)
            }
        }
    }

    fn flush(&mut self, timeout_ms: u32) -> Result<(), DeviceError> {
        assert!(timeout_ms > 0 && self.under_way.is_none());
        if self.state.dead.get() {
            return Err(DeviceError::Gone);
        }
        let writes = self.state.writes.borrow().len();
        self.state.flushes.borrow_mut().push(writes);
        if self.flush_fails {
            return Err(DeviceError::Io(7));
        }
        for (offset, bytes) in self.state.cached.borrow_mut().drain(..) {
            put(&mut self.state.durable.borrow_mut(), offset, &bytes);
        }
        Ok(())
    }
}

impl Disk {
    /// The fault of the write that was started last.
    fn fault(&self) -> Option<Fault> {
        let plan = self.plan?;
        let number = self.state.writes.borrow().len() - 1;
        (plan.first..plan.first + plan.count)
            .contains(&number)
            .then_some(plan.fault)
    }
}
