//! The kernel's memory: by its symbols, and by its page tables.

use super::error::RewriteError;
use vmcore::kernel::{KernelFile, Symbol};
use vmcore::memory::Memory;
use vmcore::session::{Session, SessionError};
use vmcore::space::AddressSpace;
use vmcore::translation::{PagingMode, WindowKind};
use vmcore_format::addr::{PhysAddr, VirtAddr};
use vmcore_format::msgbuf::Msgbuf;
use vmcore_format::paging::Radix;
use vmcore_writer::machine::{Kernel, MessageBuffer};

/// Largest message buffer that is believed.
const MAX_RING: u32 = 64 << 20;

/// The kernel's memory, by the names of its variables.
pub(crate) struct KernelMemory<'s> {
    kernel: &'s KernelFile,
    pub(super) space: AddressSpace<'s>,
    pub(crate) mode: PagingMode,
    pub(super) radix: Radix,
}

impl<'s> KernelMemory<'s> {
    /// `None` if there is no kernel file.
    pub(super) fn of(session: &'s Session) -> Result<Option<Self>, RewriteError> {
        let kernel = match session.matching_kernel() {
            Ok(kernel) => kernel,
            Err(SessionError::NoKernel { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let space = session.space()?;
        match space.translation().windows().first().map(|w| &w.kind) {
            Some(WindowKind::Radix { mode, radix }) => Ok(Some(Self {
                kernel,
                space,
                mode: *mode,
                radix: *radix,
            })),
            _ => Err(RewriteError::NoRoot),
        }
    }

    pub(crate) fn symbol(&self, name: &str) -> Option<Symbol<'s>> {
        self.kernel.symbols().find(name)
    }

    pub(crate) fn u32(&self, name: &str) -> Option<u32> {
        self.space.read_u32(self.symbol(name)?.address).ok()
    }

    /// A word of the kernel's size.
    pub(crate) fn word(&self, name: &str) -> Option<u64> {
        self.space.read_word(self.symbol(name)?.address).ok()
    }

    /// A number of 4 or 8 bytes, as its symbol says: `time_t` of arm is wider than its words.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        let symbol = self.symbol(name)?;
        match symbol.size {
            8 => self.space.read_u64(symbol.address).ok(),
            _ => self.word(name),
        }
    }

    /// Where the message buffer's ring is; empty if it cannot be found.
    pub(super) fn message_buffer(&self) -> MessageBuffer {
        self.ring().unwrap_or(NO_MESSAGE_BUFFER)
    }

    fn ring(&self) -> Option<MessageBuffer> {
        let at = self
            .space
            .read_pointer(self.symbol("msgbufp")?.address)
            .ok()?;
        let mut raw = [0; 72];
        let raw = raw.get_mut(..Msgbuf::len_bytes(self.space.word()))?;
        self.space.read_exact(at, raw).ok()?;
        let state = Msgbuf::parse(raw, self.space.endian(), self.space.word()).ok()?;
        if state.msg_size > MAX_RING {
            return None;
        }
        let pa = |offset: u64| {
            let va = state.msg_ptr.checked_add(offset)?;
            Some(self.space.locate(va).ok()?.0.leaf.pa)
        };
        let start = pa(0)?;
        // The writer takes it as one piece of physical memory, which it is unless this is not a ring.
        let page = self.space.memory().page_size().bytes();
        let mut offsets = (0..u64::from(state.msg_size)).step_by(usize::try_from(page).ok()?);
        offsets
            .all(|offset| pa(offset) == start.checked_add(offset))
            .then_some(MessageBuffer {
                start,
                len_bytes: state.msg_size,
            })
    }
}

/// No message buffer.
pub(super) const NO_MESSAGE_BUFFER: MessageBuffer = MessageBuffer {
    start: PhysAddr(0),
    len_bytes: 0,
};

/// Page tables of physical memory.
pub(crate) struct Tables<'m> {
    pub(crate) mode: PagingMode,
    pub(crate) radix: Radix,
    pub(super) memory: &'m Memory,
}

impl Tables<'_> {
    /// Where they lead.
    pub(crate) fn lookup(&self, va: u64) -> Option<PhysAddr> {
        let found = self.mode.lookup(&self.radix, self.memory, VirtAddr(va));
        Some(found.ok()?.pa)
    }
}

/// An unused address space: full dumps need no page tables.
pub(super) const fn no_address_space() -> Kernel {
    Kernel {
        radix: Radix::section(0, VirtAddr(0), 0),
        kernbase: VirtAddr(0),
        kernend: VirtAddr(0),
        direct_map: None,
        image: None,
    }
}
