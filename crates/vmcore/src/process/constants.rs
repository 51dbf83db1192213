//! Where the members of `struct proc` and `struct thread` are: by the debug constants that a kernel
//! exports, in the dump or in the kernel file; else by its types; else by its release.

use super::releases::Release;
use crate::kernel::KernelFile;
use crate::session::{Session, SessionError};
use crate::space::AddressSpace;
use serde::Serialize;
use std::cell::Cell;

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
    /// How the offsets are known.
    pub source: OffsetSource,
}

/// How the offsets are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OffsetSource {
    /// The kernel's exported constants.
    #[default]
    Constants,
    /// The kernel's types, at least for one of them.
    Types,
    /// The release: a guess, as options of a kernel move members.
    Release,
    /// None are needed: the kernel told the writer of its threads.
    Recorded,
}

/// Tells the offset of a member from types: structure, member. Without a member: its size.
pub type Offsets<'a> = &'a dyn Fn(&str, &str) -> Option<u64>;

/// No member of the structures lies further in than this.
const MAX_OFFSET: u64 = 1 << 16;

impl Constants {
    /// Reads the constants of a session's kernel.
    ///
    /// # Errors
    /// Returns an error without a matching kernel file, or if a constant that the walk needs is
    /// missing from it and from the dump.
    pub fn read(session: &Session) -> Result<Self, SessionError> {
        Self::read_with(session, &|_, _| None)
    }

    /// As [`Constants::read`]; where constants are missing, `types` may know the member.
    ///
    /// # Errors
    /// As for [`Constants::read`].
    pub fn read_with(session: &Session, types: Offsets<'_>) -> Result<Self, SessionError> {
        let kernel = session.matching_kernel()?;
        let space = session.space()?;
        let osreldate = integer(kernel, space, "osreldate");
        let release = osreldate.and_then(|date| Release::of(session.dump().arch(), date));
        let source = Cell::new(OffsetSource::Constants);
        let offset = |name: &str| {
            let value = integer(kernel, space, name).and_then(|value| u64::try_from(value).ok());
            value.filter(|value| *value < MAX_OFFSET)
        };
        let found = |name: &str, structure: &str, member: &str| {
            if let Some(value) = offset(name) {
                return Some(value);
            }
            let (value, how) = match types(structure, member) {
                Some(value) => (value, OffsetSource::Types),
                None => (release?.offset(member)?, OffsetSource::Release),
            };
            if source.get() != OffsetSource::Release {
                source.set(how);
            }
            Some(value).filter(|value| *value < MAX_OFFSET)
        };
        let needed = |name: &str, structure: &str, member: &str| {
            found(name, structure, member).ok_or_else(|| {
                let (name, kernel_path) = (name.to_owned(), kernel.path().to_owned());
                match kernel.symbols().find(&name) {
                    Some(_) => SessionError::ImpossibleValue {
                        value: integer(kernel, space, &name),
                        name,
                        kernel: kernel_path,
                    },
                    None => SessionError::NoSymbol {
                        name,
                        kernel: kernel_path,
                    },
                }
            })
        };
        let proc = |name: &str, member: &str| needed(name, "proc", member);
        let thread = |name: &str, member: &str| needed(name, "thread", member);
        Ok(Self {
            p_pid: proc("proc_off_p_pid", "p_pid")?,
            p_comm: proc("proc_off_p_comm", "p_comm")?,
            p_list: proc("proc_off_p_list", "p_list")?,
            p_threads: proc("proc_off_p_threads", "p_threads")?,
            // Older kernels export the others without it.
            p_hash: offset("proc_off_p_hash")
                .or_else(|| types("proc", "p_hash"))
                .or_else(|| release?.offset("p_hash")),
            td_tid: thread("thread_off_td_tid", "td_tid")?,
            td_name: thread("thread_off_td_name", "td_name")?,
            td_oncpu: thread("thread_off_td_oncpu", "td_oncpu")?,
            td_pcb: thread("thread_off_td_pcb", "td_pcb")?,
            td_plist: thread("thread_off_td_plist", "td_plist")?,
            pcb_size: offset("pcb_size")
                .filter(|size| *size > 0)
                .or_else(|| types("pcb", ""))
                .or_else(|| release?.offset("pcb")),
            dumptid: integer(kernel, space, "dumptid").filter(|tid| *tid > 0),
            osreldate,
            mp_maxid: integer(kernel, space, "mp_maxid").and_then(|id| u32::try_from(id).ok()),
            source: source.get(),
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
