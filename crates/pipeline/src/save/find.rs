//! The dump on a device that is to be saved: what [`vmcore::locate`] finds there, as what it becomes.
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
use super::copy::Part;
use super::device::Device;
use super::error::SaveError;
use super::info::{DumpType, Header, Info, Status};
use vmcore::locate;
pub use vmcore::locate::Problem;
use vmcore_format::kerneldump::{Compression, DumpHeader, HEADER_LEN, TEXT_BLOCK};
use vmcore_format::tar;

/// Where the parts of a dump are, in bytes from the start of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    /// The encrypted key; empty if there is none.
    pub(crate) key: Part,
    /// The dump. A textdump is at the end of what was reserved.
    pub(crate) payload: Part,
}

/// A dump on a device, as its headers describe it.
#[derive(Clone, Debug)]
pub struct Found {
    header: Header,
    parts: Option<Parts>,
    place: locate::Found,
}

/// Looks for the header of a dump at the end of `device`, and for its twin. `None` if there is no
/// header at all; a header that is damaged or marked as saved is found, with its problems.
///
/// # Errors
/// Returns an error if the end of the device cannot be read.
pub fn find(device: &Device) -> Result<Option<Found>, SaveError> {
    let found = device.medium().find();
    let found =
        found.map_err(|source| SaveError::read(device.path(), device.len_bytes(), source))?;
    let Some(place) = found else {
        return Ok(None);
    };
    // Tools that copy a textdump turn it round on the way.
    let mut first = [0; TEXT_BLOCK];
    if let Some(parts) = place.parts()
        && parts.payload.end - parts.payload.start >= first.len() as u64
    {
        device.read(parts.payload.start, &mut first)?;
    }
    let is_forwards = tar::parse(&first).is_some();
    Ok(Some(place).and_then(|place| {
        let header = DumpHeader::parse_damaged(place.revived()).ok()?;
        let header = Header::new(&header, place.revived());
        let is_backwards = header.dump_type == DumpType::Textdump && !is_forwards;
        let parts = place.parts().map(|parts| Parts {
            key: Part {
                range: parts.key.clone(),
                is_backwards: false,
            },
            payload: Part {
                range: parts.payload.clone(),
                is_backwards,
            },
        });
        Some(Found {
            header,
            parts,
            place,
        })
    }))
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
        self.place.problems()
    }

    /// Whether it is marked as saved.
    #[must_use]
    pub fn is_cleared(&self) -> bool {
        self.place.is_cleared()
    }

    /// Whether the headers vouch for the dump.
    #[must_use]
    pub fn status(&self) -> Status {
        let is_harmless = |problem: &Problem| {
            matches!(problem, Problem::Cleared | Problem::UnknownVersion { .. })
        };
        if self.problems().iter().all(is_harmless) {
            Status::Good
        } else {
            Status::Bad
        }
    }

    /// What `info.N` says of it as dump `number`, but for what only the copy tells.
    #[must_use]
    pub fn info(&self, device: &Device, number: u64) -> Info {
        Info {
            dump_device: device.name(),
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
        (self.place.trailer(), self.place.stored())
    }
}
