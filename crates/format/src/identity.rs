//! The identity block: which dump this is, which boot of which machine, and when.
//!
//! It is ours, not FreeBSD's: 192 bytes at byte 1024 of the dump, in the part of the header page
//! that every FreeBSD reader ignores, so that a dump that lost its end still says what it is. A full
//! dump whose program headers reach beyond byte 1024 has it only in its extension
//! ([`crate::extension`]), where every dump has a copy. Specified byte by byte in
//! `docs/format-extension.md`. All integers are little-endian on every architecture.
//!
//! A later version may be longer; its fields of today stay where they are, and its checksum moves
//! to its end. So version and length are not compared for equality.
//!
//! ```
//! use vmcore_format::identity::{IDENTITY_LEN, Identity};
//! let identity = Identity { dump_id: [7; 16], ..Identity::default() };
//! let block = identity.encode();
//! assert_eq!(block.len(), IDENTITY_LEN);
//! assert_eq!(Identity::parse(&block), Ok(identity));
//! ```

use crate::checksum::checksum;
use crate::numbered::numbered;
use thiserror::Error;
use zerocopy::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Where the block starts in the dump, in bytes.
pub const IDENTITY_OFFSET: u64 = 1024;
/// Bytes of the block in version 1.
pub const IDENTITY_LEN: usize = 192;
/// The most bytes that a later version may have: it ends with a header page of 4 KiB.
pub const IDENTITY_MAX_LEN: usize = 3072;
/// The first bytes of the block.
pub const IDENTITY_MAGIC: [u8; 8] = *b"vmcoreID";
/// The version written today.
pub const IDENTITY_VERSION: u32 = 1;
/// The most bytes of a build id; GNU tools write 20.
pub const BUILD_ID_MAX: usize = 32;

/// The damage flag: the writer met damaged page tables before it wrote the header. What it met
/// later is in the extension only.
const FLAG_DAMAGED: u32 = 1;
/// A full dump that replaces a minidump, because the page tables were damaged beyond use.
const FLAG_FALLBACK: u32 = 1 << 1;
/// The system went on running while the dump was written: its pages need not agree.
const FLAG_LIVE: u32 = 1 << 2;
/// The extension names the root of the page tables, which are all in the dump.
const FLAG_WALKABLE: u32 = 1 << 3;

/// On disk.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawIdentity {
    magic: [u8; 8],
    version: U32,
    length: U32,
    dump_id: [u8; 16],
    boot_id: [u8; 16],
    machine_id: [u8; 16],
    build_id: [u8; BUILD_ID_MAX],
    build_id_len: U32,
    trap: U32,
    time_seconds: I64,
    time_nanoseconds: U32,
    clock: U32,
    uptime_us: U64,
    flags: U32,
    origin: U32,
    source_id: [u8; 16],
    reserved: [u8; 32],
    checksum: U64,
}

const _: () = {
    assert!(size_of::<RawIdentity>() == IDENTITY_LEN);
    assert!(core::mem::offset_of!(RawIdentity, dump_id) == 16);
    assert!(core::mem::offset_of!(RawIdentity, build_id) == 64);
    assert!(core::mem::offset_of!(RawIdentity, trap) == 100);
    assert!(core::mem::offset_of!(RawIdentity, time_seconds) == 104);
    assert!(core::mem::offset_of!(RawIdentity, uptime_us) == 120);
    assert!(core::mem::offset_of!(RawIdentity, source_id) == 136);
    assert!(core::mem::offset_of!(RawIdentity, checksum) == 184);
};

numbered! {
    /// How far the crash time can be trusted.
    Clock {
        /// Nothing is known about the clock.
        Unknown = 0,
        /// There is no clock: the time counts from boot.
        SinceBoot = 1,
        /// Set from the machine's clock chip at boot.
        ClockChip = 2,
        /// Kept in step with a time server.
        Synchronised = 3,
    }
}

numbered! {
    /// Why the kernel dumped.
    Trap {
        /// The writer was not told.
        Unknown = 0,
        /// The kernel called panic.
        Panic = 1,
        /// A page fault in the kernel.
        PageFault = 2,
        /// A protection or alignment fault.
        Protection = 3,
        /// An instruction that the processor does not know.
        Instruction = 4,
        /// A double fault, or a stack overflow.
        DoubleFault = 5,
        /// The processor reported broken hardware.
        MachineCheck = 6,
        /// A non-maskable interrupt.
        Nmi = 7,
        /// The watchdog expired.
        Watchdog = 8,
        /// The dump was requested; nothing had failed.
        Request = 9,
    }
}

numbered! {
    /// Who made the dump, and of what.
    Origin {
        /// The kernel that crashed.
        Kernel = 0,
        /// Converted from a minidump.
        Minidump = 1,
        /// Converted from a full dump.
        FullDump = 2,
        /// Made of a hypervisor's memory file.
        Hypervisor = 3,
        /// A part of another dump, without what was not to be shared.
        Redacted = 4,
    }
}

/// The build id of a kernel file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BuildId {
    bytes: [u8; BUILD_ID_MAX],
    len: usize,
}

impl BuildId {
    /// The build id in `bytes`, cut after [`BUILD_ID_MAX`] bytes. Empty if it is not known.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let mut id = Self::default();
        for (to, from) in id.bytes.iter_mut().zip(bytes) {
            *to = *from;
            id.len += 1;
        }
        id
    }

    /// Its bytes; none if it is not known.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }
}

/// The identity block, decoded. An id of all zeros is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Names this crash for good: conversions keep it.
    pub dump_id: [u8; 16],
    /// Names the boot of the machine.
    pub boot_id: [u8; 16],
    /// Names the machine.
    pub machine_id: [u8; 16],
    /// Build id of the kernel.
    pub build_id: BuildId,
    /// Why the kernel dumped.
    pub trap: Trap,
    /// When, in seconds since 1970 UTC.
    pub time_seconds: i64,
    /// And nanoseconds.
    pub time_nanoseconds: u32,
    /// How far this time can be trusted.
    pub clock: Clock,
    /// Microseconds since the kernel started.
    pub uptime_us: u64,
    /// The writer met damaged page tables before it wrote the header.
    pub damaged: bool,
    /// A full dump in place of a minidump, because of that damage.
    pub fallback: bool,
    /// The system went on running meanwhile.
    pub live: bool,
    /// The extension says where the page tables start, and all of them are in the dump: its virtual
    /// addresses are translated without help.
    pub walkable: bool,
    /// Who made the dump.
    pub origin: Origin,
    /// The identity of the file that it was converted from.
    pub source_id: [u8; 16],
}

impl Default for Identity {
    /// Nothing is known.
    fn default() -> Self {
        Self {
            dump_id: [0; 16],
            boot_id: [0; 16],
            machine_id: [0; 16],
            build_id: BuildId::default(),
            trap: Trap::Unknown,
            time_seconds: 0,
            time_nanoseconds: 0,
            clock: Clock::Unknown,
            uptime_us: 0,
            damaged: false,
            fallback: false,
            live: false,
            walkable: false,
            origin: Origin::Kernel,
            source_id: [0; 16],
        }
    }
}

/// Why bytes are not an identity block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// No identity block: another writer's dump.
    #[error("no identity block")]
    Absent,
    /// The block ends past the end of the bytes.
    #[error("the identity block is truncated: {have} bytes of {need}")]
    Truncated {
        /// Bytes there are.
        have: usize,
        /// Bytes that the block has.
        need: usize,
    },
    /// Version 0, or a length that no version can have.
    #[error("the identity block has version {version} and {length} bytes, which cannot be")]
    BadVersion {
        /// Version.
        version: u32,
        /// Length in bytes.
        length: u32,
    },
    /// The checksum is wrong.
    #[error("the identity block is damaged: its checksum is {found:#x}, not {expected:#x}")]
    BadChecksum {
        /// What its bytes sum up to.
        found: u64,
        /// What it says.
        expected: u64,
    },
}

impl Identity {
    /// The block's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; IDENTITY_LEN] {
        let flag = |set: bool, bit: u32| if set { bit } else { 0 };
        let flags = flag(self.damaged, FLAG_DAMAGED)
            | flag(self.fallback, FLAG_FALLBACK)
            | flag(self.live, FLAG_LIVE)
            | flag(self.walkable, FLAG_WALKABLE);
        let mut raw = RawIdentity {
            magic: IDENTITY_MAGIC,
            version: U32::new(IDENTITY_VERSION),
            length: U32::new(u32::try_from(IDENTITY_LEN).unwrap_or(0)),
            dump_id: self.dump_id,
            boot_id: self.boot_id,
            machine_id: self.machine_id,
            build_id: self.build_id.bytes,
            build_id_len: U32::new(u32::try_from(self.build_id.len).unwrap_or(0)),
            trap: U32::new(self.trap.number()),
            time_seconds: I64::new(self.time_seconds),
            time_nanoseconds: U32::new(self.time_nanoseconds),
            clock: U32::new(self.clock.number()),
            uptime_us: U64::new(self.uptime_us),
            flags: U32::new(flags),
            origin: U32::new(self.origin.number()),
            source_id: self.source_id,
            reserved: [0; 32],
            checksum: U64::new(0),
        };
        let summed = raw.as_bytes().get(..IDENTITY_LEN - 8).unwrap_or_default();
        raw.checksum = U64::new(checksum(summed));
        zerocopy::transmute!(raw)
    }

    /// Decodes the block at the start of `bytes`, which may be longer.
    ///
    /// # Errors
    /// Returns an error if there is no block, or if it is cut or damaged.
    pub fn parse(bytes: &[u8]) -> Result<Self, IdentityError> {
        if !bytes.starts_with(&IDENTITY_MAGIC) {
            return Err(IdentityError::Absent);
        }
        let have = bytes.len();
        let (raw, _) =
            RawIdentity::ref_from_prefix(bytes).map_err(|_| IdentityError::Truncated {
                have,
                need: IDENTITY_LEN,
            })?;
        let (version, length) = (raw.version.get(), raw.length.get());
        let need = usize::try_from(length).unwrap_or(usize::MAX);
        if version == 0 || !(IDENTITY_LEN..=IDENTITY_MAX_LEN).contains(&need) {
            return Err(IdentityError::BadVersion { version, length });
        }
        let block = bytes
            .get(..need)
            .ok_or(IdentityError::Truncated { have, need })?;
        let (summed, sum) = block
            .split_last_chunk::<8>()
            .ok_or(IdentityError::Truncated { have, need })?;
        let (found, expected) = (checksum(summed), u64::from_le_bytes(*sum));
        if found != expected {
            return Err(IdentityError::BadChecksum { found, expected });
        }
        let build_id_len = usize::try_from(raw.build_id_len.get()).unwrap_or(BUILD_ID_MAX);
        let flags = raw.flags.get();
        Ok(Self {
            dump_id: raw.dump_id,
            boot_id: raw.boot_id,
            machine_id: raw.machine_id,
            build_id: BuildId::new(raw.build_id.get(..build_id_len).unwrap_or(&raw.build_id)),
            trap: Trap::from_number(raw.trap.get()),
            time_seconds: raw.time_seconds.get(),
            time_nanoseconds: raw.time_nanoseconds.get(),
            clock: Clock::from_number(raw.clock.get()),
            uptime_us: raw.uptime_us.get(),
            damaged: flags & FLAG_DAMAGED != 0,
            fallback: flags & FLAG_FALLBACK != 0,
            live: flags & FLAG_LIVE != 0,
            walkable: flags & FLAG_WALKABLE != 0,
            origin: Origin::from_number(raw.origin.get()),
            source_id: raw.source_id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn sample() -> Identity {
        Identity {
            dump_id: [1; 16],
            boot_id: [2; 16],
            machine_id: [3; 16],
            build_id: BuildId::new(&[4; 20]),
            trap: Trap::PageFault,
            time_seconds: -5,
            time_nanoseconds: 6,
            clock: Clock::Synchronised,
            uptime_us: 0x0102_0304_0506_0708,
            damaged: true,
            fallback: false,
            live: true,
            walkable: true,
            origin: Origin::Hypervisor,
            source_id: [9; 16],
        }
    }

    #[test]
    fn every_field_stands_where_the_specification_says() {
        let block = sample().encode();
        assert_eq!(&block[..8], b"vmcoreID");
        assert_eq!(block[8..16], [1, 0, 0, 0, 192, 0, 0, 0]);
        assert_eq!(
            (block[16], block[32], block[48], block[64], block[84]),
            (1, 2, 3, 4, 0)
        );
        assert_eq!(block[96..104], [20, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(block[104..112], (-5i64).to_le_bytes());
        assert_eq!(block[112..120], [6, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(block[120..128], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(block[128..136], [13, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!((block[136], block[151], block[152]), (9, 9, 0));
        assert_eq!(
            block[184..],
            xxhash_rust::xxh64::xxh64(&block[..184], 0).to_le_bytes()
        );
        assert_eq!(Identity::parse(&block), Ok(sample()));
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let block = sample().encode();
        for bit in 0..IDENTITY_LEN * 8 {
            let mut damaged = block;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Identity::parse(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn cut_and_absent_blocks_are_told_apart() {
        let block = sample().encode();
        assert_eq!(Identity::parse(&[0; 400]), Err(IdentityError::Absent));
        assert_eq!(
            Identity::parse(&block[..191]),
            Err(IdentityError::Truncated {
                have: 191,
                need: 192
            })
        );
    }

    #[test]
    fn a_longer_block_of_a_later_version_is_read() {
        let mut block = Vec::from(&sample().encode()[..184]);
        block[8..16].copy_from_slice(&[2, 0, 0, 0, 208, 0, 0, 0]);
        block.extend_from_slice(&[0xee; 16]);
        block.extend_from_slice(&checksum(&block).to_le_bytes());
        assert_eq!(block.len(), 208);
        assert_eq!(Identity::parse(&block), Ok(sample()));
        block[12..16].copy_from_slice(&[0xff; 4]);
        assert_eq!(
            Identity::parse(&block),
            Err(IdentityError::BadVersion {
                version: 2,
                length: u32::MAX
            })
        );
    }
}
