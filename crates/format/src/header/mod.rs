//! The minidump header: which architecture and version, and how long each section is.
//!
//! Source of truth: `sys/<arch>/include/minidump.h` of FreeBSD, one file here for each. The magic
//! is a NUL-padded string; the version is a plain integer in the kernel's byte order at byte 24.
//! Fields that a version does not have are ignored, whatever they hold. Everything here is
//! decoded but not believed: sizes are checked against the file by [`crate::layout`].
//!
//! ```
//! use vmcore_format::header::{Header, HeaderError};
//! let mut page = [0u8; 4096];
//! page[..22].copy_from_slice(b"minidump FreeBSD/amd64");
//! page[24] = 9;
//! assert_eq!(
//!     Header::parse(&page),
//!     Err(HeaderError::BadVersion { arch: "amd64", version: 9, newest: 3 })
//! );
//! ```

mod amd64;
mod arm;
mod arm64;
mod contents;
mod i386;
mod mips;
mod powerpc64;
mod riscv64;

pub use contents::{DirectMap, Header, HeaderError, Mmu, Powerpc64Mmu};

use crate::arch::Arch;
use crate::bitmap::WordOrder;
use crate::endian::Width;
use contents::{HeaderFormat, MAGIC_LEN, until_nul};

/// The first bytes of every minidump.
pub const MINIDUMP_PREFIX: &[u8; 8] = b"minidump";

/// Bytes of powerpc64's magic field.
const LONG_MAGIC_LEN: usize = 32;

/// Minidumps of systems that are known but not read: their magic is named in the error.
const KNOWN_UNREAD: [&str; 1] = ["minidump DFlyBSD/x86_64"];

/// The minidumps of an architecture; `None` if it has none.
const fn format_of(arch: Arch) -> Option<&'static HeaderFormat> {
    match arch {
        Arch::Amd64 => Some(&amd64::FORMAT),
        Arch::Arm => Some(&arm::FORMAT),
        Arch::Arm64 => Some(&arm64::FORMAT),
        Arch::I386 => Some(&i386::FORMAT),
        Arch::Mips => Some(&mips::FORMAT),
        Arch::Mips64 => Some(&mips::FORMAT_64),
        Arch::Powerpc64 => Some(&powerpc64::FORMAT),
        Arch::Riscv64 => Some(&riscv64::FORMAT),
        Arch::Powerpc | Arch::Sparc64 => None,
    }
}

/// The newest minidump version of an architecture; 0 if it has no minidumps.
#[must_use]
pub fn newest_version(arch: Arch) -> u32 {
    format_of(arch).map_or(0, HeaderFormat::newest)
}

/// Whether minidumps of this version number their pages by `dump_avail`.
#[must_use]
pub const fn has_dump_avail(arch: Arch, version: u32) -> bool {
    match format_of(arch) {
        Some(format) => version >= format.dump_avail_since,
        None => false,
    }
}

/// The full magic string of an architecture's minidumps; empty if it has none.
#[must_use]
pub const fn magic(arch: Arch) -> &'static str {
    match format_of(arch) {
        Some(format) => format.magic,
        None => "",
    }
}

impl Header {
    /// Decodes the header at the start of a dump. `bytes` are the file's first bytes: a page, or
    /// all there is.
    ///
    /// # Errors
    /// Returns an error if the magic, the version or the page size is unknown, or if `bytes` end
    /// inside the header.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        (identify(bytes)?.decode)(bytes)
    }

    /// Writes the header to the start of `page` and clears the rest of it.
    ///
    /// # Errors
    /// Returns an error if the version is unknown, if the header says what its architecture and
    /// version cannot express, or if `page` is too short.
    pub fn encode(&self, page: &mut [u8]) -> Result<(), HeaderError> {
        let format = format_of(self.arch).ok_or(HeaderError::Unwritable("this architecture"))?;
        format.check_version(self.version)?;
        if self.dumpavailsize.is_some() != has_dump_avail(self.arch, self.version) {
            return Err(HeaderError::Unwritable("dump_avail being there or not"));
        }
        page.fill(0);
        (format.encode)(self, page)
    }

    /// Bytes of the structure of its version: after them the header page is zero.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        let lengths = format_of(self.arch).map_or(&[] as &[usize], |format| format.header_bytes);
        let index = usize::try_from(self.version).ok();
        let index = index.and_then(|version| version.checked_sub(1));
        index
            .and_then(|index| lengths.get(index).copied())
            .unwrap_or(0)
    }

    /// The order of bits in the bitmap: of the kernel's words, or of 32-bit ones in early versions.
    #[must_use]
    pub const fn bitmap_order(&self) -> WordOrder {
        let word = match format_of(self.arch) {
            Some(format) if self.version < format.bitmap_of_words_since => Width::W32,
            _ => self.arch.word(),
        };
        WordOrder::of(self.endian, word)
    }

    /// Whether the addresses of `dump_avail` could have 32 bits: [`crate::dump_avail::is_narrow`] tells.
    #[must_use]
    pub fn could_have_narrow_ranges(&self) -> bool {
        format_of(self.arch).is_some_and(|format| format.has_narrow_dump_avail)
    }
}

/// Which architecture's magic is at the start of `bytes`: equality up to the first NUL, as in
/// FreeBSD, so that `arm` and `arm64` are kept apart.
fn identify(bytes: &[u8]) -> Result<&'static HeaderFormat, HeaderError> {
    if !bytes.starts_with(MINIDUMP_PREFIX) {
        return Err(HeaderError::NotMinidump);
    }
    let field: &[u8; MAGIC_LEN] = bytes.first_chunk().ok_or(HeaderError::Truncated {
        have: bytes.len(),
        need: MAGIC_LEN,
    })?;
    // powerpc64's field is longer than the others and has its NUL after them.
    let text = until_nul(bytes.get(..LONG_MAGIC_LEN).unwrap_or(bytes));
    let mut known = Arch::ALL.into_iter().filter_map(format_of);
    if let Some(format) = known.clone().find(|format| format.magic.as_bytes() == text) {
        return Ok(format);
    }
    // Only a long magic can be cut after `MAGIC_LEN`.
    let is_cut = text.len() == bytes.len();
    if is_cut && known.any(|format| format.magic.as_bytes().starts_with(text)) {
        return Err(HeaderError::Truncated {
            have: bytes.len(),
            need: LONG_MAGIC_LEN,
        });
    }
    match KNOWN_UNREAD
        .into_iter()
        .find(|known| known.as_bytes() == text)
    {
        Some(known) => Err(HeaderError::UnsupportedArch(known)),
        None => Err(HeaderError::UnknownMagic(*field)),
    }
}

#[cfg(test)]
mod encoded;
#[cfg(test)]
mod tests;
