//! What a kernel tells of itself: its address space, its name, its processes, threads and modules. With
//! these records a reader needs no symbols of the kernel, whatever kernel it is.
//!
//! All are optional. Processes, threads and modules are tables: a head with the number and the length of
//! entries, which a later version may make longer, and the entries. An entry of zeros is none.

use super::ExtensionError;
use crate::addr::{PhysAddr, VirtAddr};
use crate::arch::Arch;
use crate::endian::Endian;
use crate::header::DirectMap;
use crate::numbered::numbered;
use crate::paging::{Radix, TableRef};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of an [`AddressSpace`] payload.
pub const ADDRESS_SPACE_LEN: usize = 80;
/// Bytes of the fields of a [`System`] payload, in their order.
pub const SYSTEM_NAME_LEN: usize = 32;
/// The version's.
pub const SYSTEM_VERSION_LEN: usize = 192;
/// The compiler's.
pub const SYSTEM_COMPILER_LEN: usize = 96;
/// Bytes of a [`System`] payload.
pub const SYSTEM_LEN: usize = SYSTEM_NAME_LEN + SYSTEM_VERSION_LEN + SYSTEM_COMPILER_LEN;
/// Bytes before the entries of a table.
pub const TABLE_HEAD_LEN: usize = 16;
/// Bytes of a [`Process`] entry.
pub const PROCESS_LEN: usize = 56;
/// Bytes of a [`Thread`] entry before its registers.
pub const THREAD_LEN: usize = 120;
/// Bytes of a [`Module`] entry.
pub const MODULE_LEN: usize = 120;
/// Every table from the root down is a page of the dump.
const FLAG_TABLES_ARE_PAGES: u32 = 1;
/// A thread that is on no CPU.
const NO_CPU: u32 = u32::MAX;

numbered! {
    /// Whose page-table entries.
    TableKind {
        /// amd64.
        Amd64 = 1,
        /// arm64, 4 KiB pages.
        Arm64Granule4K = 2,
        /// arm64, 16 KiB pages.
        Arm64Granule16K = 3,
        /// i386 without PAE.
        I386 = 4,
        /// i386 with PAE.
        I386Pae = 5,
        /// riscv64.
        Riscv64 = 6,
        /// arm since version 6 of the architecture.
        ArmV6 = 7,
        /// powerpc64's radix tables, read by a big-endian kernel.
        Powerpc64Radix = 8,
        /// The same, read by a little-endian kernel.
        Powerpc64RadixSwapped = 9,
    }
}

impl TableKind {
    /// The architecture that has such tables; `None` for those of a later version.
    #[must_use]
    pub const fn arch(self) -> Option<Arch> {
        Some(match self {
            Self::Amd64 => Arch::Amd64,
            Self::Arm64Granule4K | Self::Arm64Granule16K => Arch::Arm64,
            Self::I386 | Self::I386Pae => Arch::I386,
            Self::Riscv64 => Arch::Riscv64,
            Self::ArmV6 => Arch::Arm,
            Self::Powerpc64Radix | Self::Powerpc64RadixSwapped => Arch::Powerpc64,
            Self::Other(_) => return None,
        })
    }
}

numbered! {
    /// What a thread does.
    ThreadState {
        /// Not known.
        Unknown = 0,
        /// It runs.
        Running = 1,
        /// It could run.
        Runnable = 2,
        /// It sleeps.
        Sleeping = 3,
        /// It waits for a lock.
        WaitsForLock = 4,
        /// It was stopped, or has not started.
        Stopped = 5,
        /// It has ended.
        Dead = 6,
    }
}

/// On disk.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawAddressSpace {
    tables: U32,
    flags: U32,
    level: U32,
    va_bits: U32,
    root: U64,
    entries: U64,
    first_va: U64,
    direct_base: U64,
    direct_end: U64,
    direct_phys: U64,
    message_buffer: U64,
    message_buffer_bytes: U64,
}

/// On disk.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawSystem {
    name: [u8; SYSTEM_NAME_LEN],
    version: [u8; SYSTEM_VERSION_LEN],
    compiler: [u8; SYSTEM_COMPILER_LEN],
}

/// On disk.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawProcess {
    id: U64,
    parent: U64,
    address: U64,
    name: [u8; 32],
}

/// On disk.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawThread {
    id: U64,
    process: U64,
    address: U64,
    state: U32,
    cpu: U32,
    stack: U64,
    stack_bytes: U64,
    known: U64,
    name: [u8; 32],
    wait: [u8; 32],
}

/// On disk.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawModule {
    base: U64,
    len_bytes: U64,
    build_id_len: U32,
    reserved: U32,
    build_id: [u8; 32],
    name: [u8; 64],
}

const _: () = {
    assert!(size_of::<RawAddressSpace>() == ADDRESS_SPACE_LEN);
    assert!(core::mem::offset_of!(RawAddressSpace, message_buffer) == 64);
    assert!(size_of::<RawSystem>() == SYSTEM_LEN);
    assert!(size_of::<RawProcess>() == PROCESS_LEN);
    assert!(size_of::<RawThread>() == THREAD_LEN);
    assert!(core::mem::offset_of!(RawThread, name) == 56);
    assert!(size_of::<RawModule>() == MODULE_LEN);
};

/// How the kernel translates virtual addresses, and where its log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressSpace {
    /// Whose entries.
    pub tables: TableKind,
    /// Where the descent starts: at a physical address.
    pub radix: Radix,
    /// Every table from the root down is a page of the dump.
    pub tables_are_pages: bool,
    /// The direct map, if there is one.
    pub direct_map: Option<DirectMap>,
    /// The ring of the message buffer, and its bytes, if there is one.
    pub message_buffer: Option<(PhysAddr, u64)>,
}

impl AddressSpace {
    /// The record's payload.
    #[must_use]
    pub fn encode(&self) -> [u8; ADDRESS_SPACE_LEN] {
        let root = match self.radix.top {
            TableRef::At(pa) => pa.0,
            TableRef::Section => 0,
        };
        let direct = self.direct_map.unwrap_or(DirectMap {
            base: VirtAddr(0),
            end: VirtAddr(0),
            phys: PhysAddr(0),
        });
        let (buffer, buffer_bytes) = self.message_buffer.unwrap_or_default();
        zerocopy::transmute!(RawAddressSpace {
            tables: U32::new(self.tables.number()),
            flags: U32::new(if self.tables_are_pages {
                FLAG_TABLES_ARE_PAGES
            } else {
                0
            }),
            level: U32::new(self.radix.level),
            va_bits: U32::new(self.radix.va_bits),
            root: U64::new(root),
            entries: U64::new(self.radix.entries),
            first_va: U64::new(self.radix.first_va.0),
            direct_base: U64::new(direct.base.0),
            direct_end: U64::new(direct.end.0),
            direct_phys: U64::new(direct.phys.0),
            message_buffer: U64::new(buffer.0),
            message_buffer_bytes: U64::new(buffer_bytes),
        })
    }

    /// Decodes a payload.
    ///
    /// # Errors
    /// Returns an error if it is cut, or if no tables can be so.
    pub fn parse(payload: &[u8]) -> Result<Self, ExtensionError> {
        let malformed = ExtensionError::Malformed("address space");
        let (raw, _) = RawAddressSpace::ref_from_prefix(payload).map_err(|_| malformed)?;
        let (level, va_bits) = (raw.level.get(), raw.va_bits.get());
        // No architecture has more levels, nor longer tables at the root.
        let is_possible = level < 5 && (1..=64).contains(&va_bits) && raw.entries.get() <= 1 << 20;
        if !is_possible {
            return Err(malformed);
        }
        let direct_map = DirectMap {
            base: VirtAddr(raw.direct_base.get()),
            end: VirtAddr(raw.direct_end.get()),
            phys: PhysAddr(raw.direct_phys.get()),
        };
        let buffer = PhysAddr(raw.message_buffer.get());
        let buffer_bytes = raw.message_buffer_bytes.get();
        Ok(Self {
            tables: TableKind::from_number(raw.tables.get()),
            radix: Radix {
                top: TableRef::At(PhysAddr(raw.root.get())),
                level,
                first_va: VirtAddr(raw.first_va.get()),
                entries: raw.entries.get(),
                va_bits,
            },
            tables_are_pages: raw.flags.get() & FLAG_TABLES_ARE_PAGES != 0,
            direct_map: (direct_map.base < direct_map.end).then_some(direct_map),
            message_buffer: (buffer_bytes > 0).then_some((buffer, buffer_bytes)),
        })
    }
}

/// Which kernel it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct System<'a> {
    /// The system's name: `MOROS`.
    pub name: &'a [u8],
    /// Its release, or all that it says of its version.
    pub version: &'a [u8],
    /// What compiled it.
    pub compiler: &'a [u8],
}

impl<'a> System<'a> {
    /// Decodes a payload.
    ///
    /// # Errors
    /// Returns an error if it is cut.
    pub fn parse(payload: &'a [u8]) -> Result<Self, ExtensionError> {
        let malformed = ExtensionError::Malformed("system");
        let (raw, _) = RawSystem::ref_from_prefix(payload).map_err(|_| malformed)?;
        Ok(Self {
            name: until_nul(&raw.name),
            version: until_nul(&raw.version),
            compiler: until_nul(&raw.compiler),
        })
    }
}

/// What precedes the entries of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableHead {
    /// Number of entries.
    pub count: u32,
    /// Bytes of each.
    pub entry_bytes: u32,
    /// Of threads: which registers ([`crate::registers::layout_number`]).
    pub layout: u32,
    /// Of threads: registers of each.
    pub registers: u32,
}

impl TableHead {
    /// The head's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; TABLE_HEAD_LEN] {
        zerocopy::transmute!([
            U32::new(self.count),
            U32::new(self.entry_bytes),
            U32::new(self.layout),
            U32::new(self.registers),
        ])
    }

    /// The head of a payload, and the entries that are there and not zeros.
    fn parse<'a>(
        payload: &'a [u8],
        name: &'static str,
        least: usize,
    ) -> Result<(Self, impl Iterator<Item = &'a [u8]> + use<'a>), ExtensionError> {
        let malformed = ExtensionError::Malformed(name);
        let (head, entries) = payload
            .split_first_chunk::<TABLE_HEAD_LEN>()
            .ok_or(malformed)?;
        let field = |offset| Endian::Little.u32_at(head, offset).ok_or(malformed);
        let head = Self {
            count: field(0)?,
            entry_bytes: field(4)?,
            layout: field(8)?,
            registers: field(12)?,
        };
        let stride = usize::try_from(head.entry_bytes).map_err(|_| malformed)?;
        let registers = usize::try_from(head.registers).map_err(|_| malformed)?;
        let least = registers
            .checked_mul(8)
            .and_then(|len| len.checked_add(least));
        if least.is_none_or(|least| stride < least) {
            return Err(malformed);
        }
        let count = usize::try_from(head.count).map_err(|_| malformed)?;
        let entries = entries.chunks_exact(stride).take(count);
        let is_some = |entry: &&[u8]| entry.iter().any(|byte| *byte != 0);
        Ok((head, entries.filter(is_some)))
    }
}

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process<'a> {
    /// Its number.
    pub id: u64,
    /// That of its parent; 0: none, or not known.
    pub parent: u64,
    /// Address of what the kernel has of it; 0: not known.
    pub address: VirtAddr,
    /// Its name.
    pub name: &'a [u8],
}

impl<'a> Process<'a> {
    /// The entry's bytes; a name that is too long is cut.
    #[must_use]
    pub fn encode(&self) -> [u8; PROCESS_LEN] {
        zerocopy::transmute!(RawProcess {
            id: U64::new(self.id),
            parent: U64::new(self.parent),
            address: U64::new(self.address.0),
            name: padded(self.name),
        })
    }

    /// The entries of a payload.
    ///
    /// # Errors
    /// Returns an error if the head is cut or its lengths cannot be.
    pub fn parse_all(
        payload: &'a [u8],
    ) -> Result<impl Iterator<Item = Self> + use<'a>, ExtensionError> {
        let (_, entries) = TableHead::parse(payload, "processes", PROCESS_LEN)?;
        let raw = entries.filter_map(|entry| Some(RawProcess::ref_from_prefix(entry).ok()?.0));
        Ok(raw.map(|raw| Self {
            id: raw.id.get(),
            parent: raw.parent.get(),
            address: VirtAddr(raw.address.get()),
            name: until_nul(&raw.name),
        }))
    }
}

/// A thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread<'a> {
    /// Its number.
    pub id: u64,
    /// That of its process; 0: the kernel.
    pub process: u64,
    /// Address of what the kernel has of it; 0: not known.
    pub address: VirtAddr,
    /// What it does.
    pub state: ThreadState,
    /// The CPU that it runs on: its registers are in the record of the CPUs.
    pub cpu: Option<u32>,
    /// Its stack: first byte and length in bytes; 0: not known.
    pub stack: (VirtAddr, u64),
    /// Which of its registers are known: a bit for each.
    pub known: u64,
    /// Its name.
    pub name: &'a [u8],
    /// What it waits for, in the kernel's words.
    pub wait: &'a [u8],
    values: &'a [[u8; 8]],
}

impl<'a> Thread<'a> {
    /// One with a number; nothing else is known of it.
    #[must_use]
    pub const fn new(id: u64) -> Self {
        Self {
            id,
            process: 0,
            address: VirtAddr(0),
            state: ThreadState::Unknown,
            cpu: None,
            stack: (VirtAddr(0), 0),
            known: 0,
            name: &[],
            wait: &[],
            values: &[],
        }
    }

    /// What precedes its registers in an entry; texts that are too long are cut.
    #[must_use]
    pub fn encode(&self) -> [u8; THREAD_LEN] {
        zerocopy::transmute!(RawThread {
            id: U64::new(self.id),
            process: U64::new(self.process),
            address: U64::new(self.address.0),
            state: U32::new(self.state.number()),
            cpu: U32::new(self.cpu.unwrap_or(NO_CPU)),
            stack: U64::new(self.stack.0.0),
            stack_bytes: U64::new(self.stack.1),
            known: U64::new(self.known),
            name: padded(self.name),
            wait: padded(self.wait),
        })
    }

    /// The register layout and the entries of a payload.
    ///
    /// # Errors
    /// Returns an error if the head is cut or its lengths cannot be.
    pub fn parse_all(
        payload: &'a [u8],
    ) -> Result<(u32, impl Iterator<Item = Self> + use<'a>), ExtensionError> {
        let (head, entries) = TableHead::parse(payload, "threads", THREAD_LEN)?;
        let registers = usize::try_from(head.registers).unwrap_or(0);
        let parsed = entries.filter_map(move |entry| {
            let (raw, rest) = RawThread::ref_from_prefix(entry).ok()?;
            Some(Self {
                id: raw.id.get(),
                process: raw.process.get(),
                address: VirtAddr(raw.address.get()),
                state: ThreadState::from_number(raw.state.get()),
                cpu: Some(raw.cpu.get()).filter(|cpu| *cpu != NO_CPU),
                stack: (VirtAddr(raw.stack.get()), raw.stack_bytes.get()),
                known: raw.known.get(),
                name: until_nul(&raw.name),
                wait: until_nul(&raw.wait),
                values: rest.as_chunks().0.get(..registers)?,
            })
        });
        Ok((head.layout, parsed))
    }

    /// Its registers by their place in [`crate::registers::names`], those that are known.
    pub fn registers(&self) -> impl Iterator<Item = (usize, u64)> + use<'a> {
        let known = self.known;
        let values = self.values.iter().take(64).enumerate();
        values
            .filter(move |(place, _)| known >> place & 1 == 1)
            .map(|(place, value)| (place, u64::from_le_bytes(*value)))
    }
}

/// Code that was loaded beside the kernel: a module, or a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module<'a> {
    /// Its first address.
    pub base: VirtAddr,
    /// Its bytes in memory.
    pub len_bytes: u64,
    /// The build id of its file; empty: not known.
    pub build_id: &'a [u8],
    /// Its name.
    pub name: &'a [u8],
}

impl<'a> Module<'a> {
    /// The entry's bytes; what is too long is cut.
    #[must_use]
    pub fn encode(&self) -> [u8; MODULE_LEN] {
        zerocopy::transmute!(RawModule {
            base: U64::new(self.base.0),
            len_bytes: U64::new(self.len_bytes),
            build_id_len: U32::new(u32::try_from(self.build_id.len().min(32)).unwrap_or(0)),
            reserved: U32::new(0),
            build_id: padded(self.build_id),
            name: padded(self.name),
        })
    }

    /// The entries of a payload.
    ///
    /// # Errors
    /// Returns an error if the head is cut or its lengths cannot be.
    pub fn parse_all(
        payload: &'a [u8],
    ) -> Result<impl Iterator<Item = Self> + use<'a>, ExtensionError> {
        let (_, entries) = TableHead::parse(payload, "modules", MODULE_LEN)?;
        let raw = entries.filter_map(|entry| Some(RawModule::ref_from_prefix(entry).ok()?.0));
        Ok(raw.map(|raw| {
            let len = usize::try_from(raw.build_id_len.get()).unwrap_or(0);
            Self {
                base: VirtAddr(raw.base.get()),
                len_bytes: raw.len_bytes.get(),
                build_id: raw.build_id.get(..len).unwrap_or_default(),
                name: until_nul(&raw.name),
            }
        }))
    }
}

/// A text in a field of so many bytes, cut if it is too long.
fn padded<const N: usize>(text: &[u8]) -> [u8; N] {
    let mut field = [0; N];
    for (to, from) in field.iter_mut().zip(text) {
        *to = *from;
    }
    field
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}
