//! The debug constants that a kernel exports, read from the dump or from the kernel file.

use crate::kernel::KernelFile;
use crate::session::{Session, SessionError};
use crate::space::AddressSpace;

/// Offsets in `struct proc` and `struct thread`, in bytes, and a few numbers of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the kernel's own names")]
pub struct Constants {
    pub p_pid: u64,
    pub p_comm: u64,
    pub p_list: u64,
    pub p_threads: u64,
    /// Absent before FreeBSD 13.
    pub p_hash: Option<u64>,
    pub td_tid: u64,
    pub td_name: u64,
    pub td_oncpu: u64,
    pub td_pcb: u64,
    pub td_plist: u64,
    pub pcb_size: Option<u64>,
    pub dumptid: Option<i32>,
    pub osreldate: Option<i32>,
    pub mp_maxid: Option<u32>,
}

/// No member of the structures lies further in than this.
const MAX_OFFSET: u64 = 1 << 16;

impl Constants {
    /// Reads the constants of a session's kernel.
    ///
    /// # Errors
    /// Returns an error without a matching kernel file, or if a constant that the walk needs is
    /// missing from it and from the dump.
    pub fn read(session: &Session) -> Result<Self, SessionError> {
        let kernel = session.matching_kernel()?;
        let space = session.space()?;
        let offset = |name: &str| {
            let value = integer(kernel, space, name).and_then(|value| u64::try_from(value).ok());
            value.filter(|value| *value < MAX_OFFSET)
        };
        let needed = |name: &str| {
            offset(name).ok_or_else(|| SessionError::NoSymbol {
                name: name.to_owned(),
                kernel: kernel.path().to_owned(),
            })
        };
        Ok(Self {
            p_pid: needed("proc_off_p_pid")?,
            p_comm: needed("proc_off_p_comm")?,
            p_list: needed("proc_off_p_list")?,
            p_threads: needed("proc_off_p_threads")?,
            p_hash: offset("proc_off_p_hash"),
            td_tid: needed("thread_off_td_tid")?,
            td_name: needed("thread_off_td_name")?,
            td_oncpu: needed("thread_off_td_oncpu")?,
            td_pcb: needed("thread_off_td_pcb")?,
            td_plist: needed("thread_off_td_plist")?,
            pcb_size: offset("pcb_size").filter(|size| *size > 0),
            dumptid: integer(kernel, space, "dumptid").filter(|tid| *tid > 0),
            osreldate: integer(kernel, space, "osreldate"),
            mp_maxid: integer(kernel, space, "mp_maxid").and_then(|id| u32::try_from(id).ok()),
        })
    }
}

/// An `int` of the kernel by its symbol: from the dump, else from the kernel file.
fn integer(kernel: &KernelFile, space: AddressSpace<'_>, name: &str) -> Option<i32> {
    let symbol = kernel.symbols().find(name)?;
    if let Ok(value) = space.read_i32(symbol.address) {
        return Some(value);
    }
    let raw = kernel.contents(symbol.address, 4)?.first_chunk()?;
    Some(space.endian().u32(*raw).cast_signed())
}
