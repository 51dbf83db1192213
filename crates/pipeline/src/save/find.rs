//! Finding the dump on a device: the header at its end, the one in front of the dump, and what
//! lies between.
//!
//! ```text
//! | 64 KiB | free | leading header | key | reserved for the dump | trailing header |
//! ```
//!
//! Each header takes a sector. The trailing one decides; the leading one, which early swapping
//! overwrites first, confirms. The sector size is the header's own: it is looked for at each size
//! that kernels dump to, so an image and a disk behind another controller are read alike. Source:
//! `sys/kern/kern_shutdown.c`, `sbin/savecore/savecore.c`.
//!
//! ```
//! use vmcore_pipeline::save::{Device, find};
//! use vmcore_synth::header::DumpHeader;
//! let image = DumpHeader::new("amd64", 4096).device(1 << 17, &[], &[7; 4096]);
//! let dir = tempfile::tempdir()?;
//! let path = dir.path().join("swap.img");
//! std::fs::write(&path, image.ok_or("does not fit")?)?;
//! let found = find(&Device::open(&path)?)?.ok_or("no header")?;
//! assert_eq!(found.header().dump_length_bytes, 4096);
//! assert!(found.problems().is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::Form;
use super::copy::{Part, TEXT_BLOCK};
use super::device::Device;
use super::error::SaveError;
use super::info::{DumpType, Header, Info, Status};
use serde::Serialize;
use thiserror::Error;
use vmcore_format::addr::FileOffset;
use vmcore_format::kerneldump::{self, Compression, DumpHeader, HEADER_LEN, NEWEST_VERSION};

/// Sector sizes that kernels dump to: a header must fit, and a page is the most they write at once.
const SECTORS: [u64; 4] = [512, 1024, 2048, 4096];

/// Something wrong with a dump on its device.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize)]
#[serde(rename_all = "snake_case", tag = "problem")]
#[non_exhaustive]
pub enum Problem {
    /// The header says that the dump has been saved.
    #[error("it is marked as saved")]
    Cleared,
    /// The header's XOR is not 0.
    #[error("the parity of its last header is {parity:#x}, not 0")]
    Parity {
        /// What it is.
        parity: u32,
    },
    /// The header's version is not known.
    #[error("its header has version {version}, and 1 to {NEWEST_VERSION} are known")]
    UnknownVersion {
        /// The version.
        version: u32,
    },
    /// The parts that the header describes are not within the device, or not within each other.
    #[error("{reason}")]
    Impossible {
        /// Why not.
        reason: String,
    },
    /// The leading header cannot be read.
    #[error("its first header, at {offset}, cannot be read: {reason}")]
    LeaderUnreadable {
        /// Where it would be, from the start of the device.
        offset: FileOffset,
        /// What the operating system said.
        reason: String,
    },
    /// The leading header is not the same.
    #[error("its first header, at {offset}, and its last header disagree")]
    LeaderDiffers {
        /// Where it would be, from the start of the device.
        offset: FileOffset,
    },
}

/// Where the parts of a dump are, in bytes from the start of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    /// The leading header.
    pub(crate) leader: u64,
    /// The encrypted key; empty if there is none.
    pub(crate) key: Part,
    /// The dump. A textdump is at the end of what was reserved.
    pub(crate) payload: Part,
}

/// A dump on a device, as its headers describe it.
#[derive(Clone, Debug)]
pub struct Found {
    header: Header,
    /// The trailing header as it is stored.
    stored: [u8; HEADER_LEN],
    trailer: u64,
    parts: Option<Parts>,
    problems: Vec<Problem>,
}

/// Looks for the header of a dump at the end of `device`, and for its twin. `None` if there is no
/// header at all; a header that is damaged or marked as saved is found, with its problems.
///
/// # Errors
/// Returns an error if the end of the device cannot be read.
pub fn find(device: &Device) -> Result<Option<Found>, SaveError> {
    let mut best: Option<Candidate> = None;
    for sector in SECTORS {
        let candidate = Candidate::read(device, sector)?;
        if let Some(candidate) = candidate
            && best
                .as_ref()
                .is_none_or(|best| candidate.rank() > best.rank())
        {
            best = Some(candidate);
        }
    }
    Ok(best.map(|candidate| candidate.examine(device)))
}

/// 512 bytes that look like a trailing header.
struct Candidate {
    header: Header,
    stored: [u8; HEADER_LEN],
    /// With its magic of before it was cleared.
    revived: [u8; HEADER_LEN],
    parity: u32,
    sector: u64,
    trailer: u64,
}

impl Candidate {
    /// Reads where a header would stand on a device of such sectors.
    fn read(device: &Device, sector: u64) -> Result<Option<Self>, SaveError> {
        let Some(trailer) = device.len_bytes().checked_sub(sector) else {
            return Ok(None);
        };
        let mut stored = [0; HEADER_LEN];
        device.read(trailer, &mut stored)?;
        let mut revived = stored;
        kerneldump::revive(&mut revived);
        let parity = kerneldump::parity(&revived);
        let Ok(header) = DumpHeader::parse_damaged(&revived) else {
            return Ok(None);
        };
        // A sound header of another sector size is a page of the dump that happens to hold one.
        if u64::from(header.blocksize) != sector && parity == 0 {
            return Ok(None);
        }
        Ok(Some(Self {
            header: Header::new(&header, &revived),
            stored,
            revived,
            parity,
            sector,
            trailer,
        }))
    }

    fn is_cleared(&self) -> bool {
        self.revived != self.stored
    }

    /// The higher, the likelier it is the one.
    fn rank(&self) -> (bool, bool) {
        (!self.is_cleared(), self.parity == 0)
    }

    fn examine(self, device: &Device) -> Found {
        let mut problems = Vec::new();
        if self.is_cleared() {
            problems.push(Problem::Cleared);
        }
        if self.parity != 0 {
            let parity = self.parity;
            problems.push(Problem::Parity { parity });
        }
        let version = self.header.header_version;
        if !(1..=NEWEST_VERSION).contains(&version) {
            problems.push(Problem::UnknownVersion { version });
        }
        let parts = match self.parts(device.len_bytes()) {
            Ok(parts) => {
                problems.extend(compare_leader(device, parts.leader, &self.revived));
                Some(parts)
            }
            Err(reason) => {
                problems.push(Problem::Impossible { reason });
                None
            }
        };
        Found {
            header: self.header,
            stored: self.stored,
            trailer: self.trailer,
            parts,
            problems,
        }
    }

    /// Where the parts are, or why they cannot be.
    fn parts(&self, media: u64) -> Result<Parts, String> {
        let header = &self.header;
        let (extent, len) = (header.extent_bytes, header.dump_length_bytes);
        let key_len = u64::from(header.key_bytes);
        let starts = || {
            let reserved = self.trailer.checked_sub(extent)?;
            let key = reserved.checked_sub(key_len)?;
            Some((key.checked_sub(self.sector)?, key, reserved))
        };
        let (leader, key, reserved) = starts().ok_or_else(|| {
            format!(
                "its header reserves {extent} bytes, and {key_len} for a key; the device has {media}"
            )
        })?;
        if len > extent {
            return Err(format!(
                "its header says {len} bytes, and reserves only {extent}"
            ));
        }
        let is_text = header.dump_type == DumpType::Textdump;
        if is_text && !len.is_multiple_of(TEXT_BLOCK as u64) {
            return Err(format!(
                "its {len} bytes are no multiple of a textdump's {TEXT_BLOCK}"
            ));
        }
        Ok(Parts {
            leader,
            key: Part {
                range: key..reserved,
                is_backwards: false,
            },
            payload: Part {
                range: if is_text {
                    self.trailer - len..self.trailer
                } else {
                    reserved..reserved + len
                },
                is_backwards: is_text,
            },
        })
    }
}

/// What is wrong with the leading header.
fn compare_leader(device: &Device, leader: u64, trailing: &[u8; HEADER_LEN]) -> Option<Problem> {
    let offset = FileOffset(leader);
    let mut leading = [0; HEADER_LEN];
    match device.read(leader, &mut leading) {
        Ok(()) if leading == *trailing => None,
        Ok(()) => Some(Problem::LeaderDiffers { offset }),
        Err(error) => Some(Problem::LeaderUnreadable {
            offset,
            reason: error.to_string(),
        }),
    }
}

impl Found {
    /// What the header says.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// What is wrong; empty for a dump that waits to be saved.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether it is marked as saved.
    #[must_use]
    pub fn is_cleared(&self) -> bool {
        self.problems.contains(&Problem::Cleared)
    }

    /// Whether the headers vouch for the dump.
    #[must_use]
    pub fn status(&self) -> Status {
        let is_harmless = |problem: &Problem| {
            matches!(problem, Problem::Cleared | Problem::UnknownVersion { .. })
        };
        if self.problems.iter().all(is_harmless) {
            Status::Good
        } else {
            Status::Bad
        }
    }

    /// What `info.N` says of it as dump `number`, but for what only the copy tells.
    #[must_use]
    pub fn info(&self, device: &Device, number: u64) -> Info {
        Info {
            dump_device: device.path().display().to_string(),
            header: self.header.clone(),
            bounds: number,
            dump_status: self.status(),
            contents: None,
        }
    }

    /// Whether its bytes are memory: no text, neither compressed nor encrypted.
    pub(crate) fn is_plain(&self) -> bool {
        self.header.dump_type == DumpType::Kernel
            && self.header.compression == Compression::None
            && !self.header.is_encrypted()
    }

    /// Whether its bytes may be compressed: nothing has been done to them yet.
    pub(crate) fn is_compressible(&self) -> bool {
        self.header.dump_type == DumpType::Textdump || self.is_plain()
    }

    /// What becomes of its bytes when `wanted` is asked for.
    pub(crate) fn form(&self, wanted: Form) -> Form {
        let is_packed = matches!(
            self.header.compression,
            Compression::Gzip | Compression::Zstd
        );
        let is_memory = self.header.dump_type == DumpType::Kernel;
        let is_possible = match wanted {
            Form::AsIs => true,
            Form::Packed(_) => self.is_compressible(),
            Form::Unpacked => is_packed && is_memory && !self.header.is_encrypted(),
        };
        match is_possible {
            true => wanted,
            false => Form::AsIs,
        }
    }

    pub(crate) const fn parts(&self) -> Option<&Parts> {
        self.parts.as_ref()
    }

    /// Where the trailing header is, and what stands there.
    pub(crate) const fn trailer(&self) -> (u64, &[u8; HEADER_LEN]) {
        (self.trailer, &self.stored)
    }
}
