//! Dumps as they come: in front of the dump there may be a disk, a device, a cipher, a compressor.
//!
//! Each layer is known by its content, never by its name, and taken off without unpacking anything
//! to disk: a partition of a disk (GPT, MBR, BSD label), the dump at the end of a dump device, a dump
//! header in front, encryption (`key.N`, or the key block on the device), zstd, gzip. A disk, a device
//! or a header may itself be compressed, as when somebody has packed an image to send it.
//!
//! ```
//! use vmcore::container::{self, Layer};
//! use vmcore::OpenOptions;
//! use vmcore_synth::header::DumpHeader;
//! let image = DumpHeader::new("amd64", 8192).device(1 << 17, &[], &[7; 8192]);
//! let dir = tempfile::tempdir()?;
//! let path = dir.path().join("swap.img");
//! std::fs::write(&path, image.ok_or("does not fit")?)?;
//! let opened = container::open(&path, &OpenOptions::default())?;
//! assert!(matches!(opened.layers[..], [Layer::Device { .. }]));
//! assert_eq!(opened.source.len(), 8192);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::crypt::{KeyError, PayloadKey};
use crate::disk;
use crate::dump::{DeviceHeader, OpenError, OpenOptions};
use crate::source::{Access, ChunkSource, Input, Source};
use serde::Serialize;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vmcore_format::elf::ELF_MAGIC;
use vmcore_format::gzip;
use vmcore_format::header::MINIDUMP_PREFIX;
use vmcore_format::kerneldump::{self, DumpHeader, HEADER_LEN, Kind};
use vmcore_format::kerneldumpkey::{Cipher, ENCRYPTED_KEY_MAX, KeyBlock, PREFIX_LEN};
use vmcore_format::zstd::FRAME_MAGIC;

/// Sector sizes that kernels dump to: a header must fit, and a page is the most they write at once.
const SECTORS: [u64; 4] = [512, 1024, 2048, 4096];
/// The most bytes of a key file that are read.
const KEY_FILE_MAX: u64 = 1 << 20;

/// Something around a dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "layer")]
#[non_exhaustive]
pub enum Layer {
    /// A disk with a partition table.
    Disk {
        /// The partition that holds the dump, as the disk's name for it ends: `p3`, `s1b`.
        partition: String,
    },
    /// A dump device.
    Device {
        /// Whether its header says that the dump has been saved.
        is_cleared: bool,
        /// Whether the header in front of the dump is another one: swapping has begun.
        headers_differ: bool,
    },
    /// A dump header in front.
    Header,
    /// Encryption.
    Encrypted {
        /// By which cipher.
        cipher: Cipher,
    },
    /// zstd.
    Zstd,
    /// gzip.
    Gzip,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk { partition } => write!(f, "partition {partition} of a disk"),
            Self::Device {
                is_cleared: true, ..
            } => f.write_str("dump device (marked as saved)"),
            Self::Device {
                headers_differ: true,
                ..
            } => f.write_str("dump device (its two headers differ)"),
            Self::Device { .. } => f.write_str("dump device"),
            Self::Header => f.write_str("dump header"),
            Self::Encrypted {
                cipher: Cipher::Aes256Cbc,
            } => f.write_str("AES-256-CBC"),
            Self::Encrypted {
                cipher: Cipher::ChaCha20,
            } => f.write_str("ChaCha20"),
            Self::Zstd => f.write_str("zstd"),
            Self::Gzip => f.write_str("gzip"),
        }
    }
}

/// A dump without what was around it.
#[derive(Debug)]
pub struct Opened {
    /// Its bytes.
    pub source: Source,
    /// What was around it, the outermost first.
    pub layers: Vec<Layer>,
    /// The dump header of its device.
    pub device_header: Option<DeviceHeader>,
}

/// A dump as it is stored: compressed and encrypted still, but alone.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) payload: Input,
    /// The key block, if it is encrypted.
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) device_header: Option<DeviceHeader>,
    pub(crate) is_text: bool,
}

/// Opens a file or device, and takes off every layer around the dump in it.
///
/// # Errors
/// Returns an error if it cannot be read, holds no dump or several, or is encrypted and the key is
/// missing or wrong. What is inside may still be no dump.
pub fn open(path: &Path, options: &OpenOptions) -> Result<Opened, OpenError> {
    unpack(path, find(path, options)?, options)
}

/// Takes off what is around the dump, the cipher first.
fn unpack(path: &Path, mut stored: Stored, options: &OpenOptions) -> Result<Opened, OpenError> {
    if stored.is_text {
        return Err(OpenError::Textdump {
            path: path.to_owned(),
        });
    }
    decrypt(&mut stored, path, options)?;
    let Stored {
        payload,
        mut layers,
        device_header,
        ..
    } = stored;
    // Once only: nobody packs a packed image.
    let may_be_image = layers.is_empty();
    let io_error = |source| io_error(path, source);
    let first = payload.read_vec(0, 4).map_err(io_error)?;
    let chunks = if first.starts_with(&FRAME_MAGIC) {
        layers.push(Layer::Zstd);
        ChunkSource::zstd(payload).map_err(io_error)?
    } else if first.starts_with(&gzip::MAGIC) {
        layers.push(Layer::Gzip);
        ChunkSource::gzip(payload)
    } else {
        return Ok(Opened {
            source: payload.into_source(),
            layers,
            device_header,
        });
    };
    let chunks = Arc::new(chunks);
    if may_be_image && let Some(mut inner) = find_expanded(path, &chunks, options)? {
        inner.layers.splice(0..0, layers);
        return unpack(path, inner, options);
    }
    Ok(Opened {
        source: Source::of_chunks(chunks),
        layers,
        device_header,
    })
}

/// Whether what starts so is zstd or gzip.
#[must_use]
pub fn is_compressed(first: &[u8]) -> bool {
    first.starts_with(&FRAME_MAGIC) || first.starts_with(&gzip::MAGIC)
}

/// What a part of a file or device expands to, which must be zstd or gzip.
///
/// # Errors
/// Returns an error if it cannot be read, or is neither.
pub fn expand_part(path: &Path, range: std::ops::Range<u64>) -> io::Result<Source> {
    let part = Input::open(path, Access::Positional)?.part(range);
    let first = part.read_vec(0, 4)?;
    let chunks = if first.starts_with(&FRAME_MAGIC) {
        ChunkSource::zstd(part)?
    } else if first.starts_with(&gzip::MAGIC) {
        ChunkSource::gzip(part)
    } else {
        let words = "the dump is neither zstd nor gzip, whatever its header says";
        return Err(io::Error::new(io::ErrorKind::InvalidData, words));
    };
    Ok(Source::of_chunks(Arc::new(chunks)))
}

/// What is around the dump in a file that was compressed with it; `None` if nothing is.
fn find_expanded(
    path: &Path,
    chunks: &Arc<ChunkSource>,
    options: &OpenOptions,
) -> Result<Option<Stored>, OpenError> {
    let input = Input::expanded(chunks.clone());
    // Damage is an error for who wants what is damaged.
    let Ok(first) = input.read_vec(0, HEADER_LEN) else {
        return Ok(None);
    };
    if first.is_empty() || (options.partition.is_none() && is_dump(&first)) {
        return Ok(None);
    }
    let found = find_in(path, &input, &first, options)?;
    Ok(found.filter(|stored| stored.device_header.is_some()))
}

/// Opens an encrypted file or device, and takes off every layer up to the encryption: what is inside
/// may be compressed. `None` if it is not encrypted.
///
/// # Errors
/// As [`open`].
pub fn open_decrypted(path: &Path, options: &OpenOptions) -> Result<Option<Opened>, OpenError> {
    let mut stored = find(path, options)?;
    if decrypt(&mut stored, path, options)?.is_none() {
        return Ok(None);
    }
    Ok(Some(Opened {
        source: stored.payload.into_source(),
        layers: stored.layers,
        device_header: stored.device_header,
    }))
}

/// Whether a file holds a dump by what is around it: a disk, a device, encryption. What is plain or
/// merely compressed says so by its first bytes.
#[must_use]
pub fn is_wrapped(path: &Path) -> bool {
    // Encrypted bytes look like nothing at all, and their key may be elsewhere.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with("vmcore_encrypted.") {
        return true;
    }
    match find(path, &OpenOptions::default()) {
        Ok(stored) => !stored.layers.is_empty() || stored.key.is_some(),
        Err(error) => matches!(
            error,
            OpenError::SeveralDumps { .. } | OpenError::NoDumpOnDisk { .. }
        ),
    }
}

/// Whether what follows the header is memory.
fn is_plain(header: &DumpHeader<'_>) -> bool {
    header.kind != Kind::Text
        && header.compression == kerneldump::Compression::None
        && header.dumpkeysize == 0
}

fn io_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Finds the dump in a file or on a device.
pub(crate) fn find(path: &Path, options: &OpenOptions) -> Result<Stored, OpenError> {
    let io_error = |source| io_error(path, source);
    let input = Input::open(path, options.access).map_err(io_error)?;
    let first = input.read_vec(0, HEADER_LEN).map_err(io_error)?;
    if first.is_empty() {
        return Err(OpenError::Empty {
            path: path.to_owned(),
        });
    }
    let alone = |payload, key| Stored {
        payload,
        key,
        layers: Vec::new(),
        device_header: None,
        is_text: false,
    };
    if is_compressed(&first) || (options.partition.is_none() && is_dump(&first)) {
        return Ok(alone(input, None));
    }
    match find_in(path, &input, &first, options)? {
        Some(stored) => Ok(stored),
        None => Ok(alone(input, key_block_file(path, options)?)),
    }
}

/// Whether memory starts here.
fn is_dump(first: &[u8]) -> bool {
    first.starts_with(MINIDUMP_PREFIX) || first.starts_with(ELF_MAGIC)
}

/// Finds the dump behind a header, on a disk, or at the end of a device; `None` if it is none of
/// these.
fn find_in(
    path: &Path,
    input: &Input,
    first: &[u8],
    options: &OpenOptions,
) -> Result<Option<Stored>, OpenError> {
    let io_error = |source| io_error(path, source);
    if let Some(partition) = &options.partition {
        return in_partition(path, input, Some(partition)).map(Some);
    }
    if let Ok(header) = DumpHeader::parse(first) {
        return behind_header(input, &header).map(Some).map_err(io_error);
    }
    // The last partition may end where the disk does, so the table comes first.
    let on_disk = match disk::has_table(input).map_err(io_error)? {
        true => Some(in_partition(path, input, None)),
        false => None,
    };
    let no_dump = match on_disk {
        Some(Err(error @ OpenError::NoDumpOnDisk { .. })) => Some(error),
        Some(found) => return found.map(Some),
        None => None,
    };
    match (at_the_end(input).map_err(io_error)?, no_dump) {
        (None, Some(error)) => Err(error),
        (stored, _) => Ok(stored),
    }
}

/// The dump in one of a disk's partitions.
fn in_partition(path: &Path, input: &Input, wanted: Option<&str>) -> Result<Stored, OpenError> {
    let io_error = |source| io_error(path, source);
    let partitions = disk::partitions(input).map_err(io_error)?;
    let mut found = Vec::new();
    for partition in &partitions {
        if wanted.is_some_and(|wanted| !partition.is_called(wanted)) {
            continue;
        }
        let part = input.part(partition.range.clone());
        if let Some(stored) = at_the_end(&part).map_err(io_error)? {
            found.push((partition.name.clone(), stored));
        }
    }
    // A dump that waits to be saved is likelier to be meant than one that has been.
    let is_new = |stored: &Stored| {
        !matches!(
            stored.layers.first(),
            Some(Layer::Device {
                is_cleared: true,
                ..
            })
        )
    };
    if found.iter().any(|(_, stored)| is_new(stored)) {
        found.retain(|(_, stored)| is_new(stored));
    }
    if found.len() > 1 {
        return Err(OpenError::SeveralDumps {
            path: path.to_owned(),
            partitions: found
                .into_iter()
                .filter_map(|(name, stored)| Some((name, stored.device_header?)))
                .collect(),
        });
    }
    let Some((partition, mut stored)) = found.pop() else {
        return Err(OpenError::NoDumpOnDisk {
            path: path.to_owned(),
            partitions: partitions.into_iter().map(|part| part.name).collect(),
        });
    };
    stored.layers.insert(0, Layer::Disk { partition });
    Ok(stored)
}

/// The dump behind a header at the start of a file.
fn behind_header(input: &Input, header: &DumpHeader<'_>) -> io::Result<Stored> {
    let block = u64::from(header.blocksize.max(512));
    let key_end = block + u64::from(header.dumpkeysize);
    let len = match is_plain(header) {
        true => input.len(),
        false => key_end.saturating_add(header.dumplength),
    };
    Ok(Stored {
        payload: input.part(key_end..len),
        key: key_block(input, block, header)?,
        layers: vec![Layer::Header],
        device_header: Some(DeviceHeader::of(header)),
        is_text: header.kind == Kind::Text,
    })
}

/// The dump at the end of a dump device; `None` if there is no sound header.
fn at_the_end(input: &Input) -> io::Result<Option<Stored>> {
    for sector in SECTORS {
        let Some(trailer) = input.len().checked_sub(sector) else {
            continue;
        };
        let stored = input.read_vec(trailer, HEADER_LEN)?;
        let Ok(mut revived) = <[u8; HEADER_LEN]>::try_from(stored.as_slice()) else {
            continue;
        };
        kerneldump::revive(&mut revived);
        let Ok(header) = DumpHeader::parse(&revived) else {
            continue;
        };
        let places = header.on_medium(trailer, sector);
        // A sound header of another sector size is a page of the dump that happens to hold one.
        let Some(places) = places.filter(|_| u64::from(header.blocksize) == sector) else {
            continue;
        };
        let leader = input.read_vec(places.leader, HEADER_LEN)?;
        return Ok(Some(Stored {
            payload: input.part(places.payload),
            key: key_block(input, places.key.start, &header)?,
            layers: vec![Layer::Device {
                is_cleared: stored != revived,
                headers_differ: leader != revived,
            }],
            device_header: Some(DeviceHeader::of(&header)),
            is_text: header.kind == Kind::Text,
        }));
    }
    Ok(None)
}

/// The key block at `at`, if the header says that there is one.
fn key_block(input: &Input, at: u64, header: &DumpHeader<'_>) -> io::Result<Option<Vec<u8>>> {
    if header.dumpkeysize == 0 || header.kind == Kind::Text {
        return Ok(None);
    }
    let len = usize::try_from(header.dumpkeysize).unwrap_or(usize::MAX);
    let block = input.read_vec(at, len.min(PREFIX_LEN + ENCRYPTED_KEY_MAX))?;
    Ok(Some(block))
}

/// The key block in a file of its own: the one that was named, or `key.N` beside
/// `vmcore_encrypted.N`.
fn key_block_file(path: &Path, options: &OpenOptions) -> Result<Option<Vec<u8>>, OpenError> {
    let file = match &options.key_block {
        Some(file) => file.clone(),
        None => match key_file_beside(path) {
            Some(file) => file,
            None => return Ok(None),
        },
    };
    read_small(&file).map(Some)
}

/// `key.N`, if it is there.
fn key_file_beside(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let number = name.strip_prefix("vmcore_encrypted.")?;
    let key = path.with_file_name(format!("key.{number}"));
    key.is_file().then_some(key)
}

fn read_small(path: &Path) -> Result<Vec<u8>, OpenError> {
    let io_error = |source| io_error(path, source);
    let input = Input::open(path, Access::Positional).map_err(io_error)?;
    let len = usize::try_from(input.len().min(KEY_FILE_MAX)).unwrap_or(0);
    input.read_vec(0, len).map_err(io_error)
}

/// Decrypts the payload, if it is encrypted.
pub(crate) fn decrypt(
    stored: &mut Stored,
    path: &Path,
    options: &OpenOptions,
) -> Result<Option<Cipher>, OpenError> {
    let Some(block) = stored.key.take() else {
        return Ok(None);
    };
    let block = KeyBlock::parse(&block).map_err(|source| OpenError::KeyBlock {
        path: path.to_owned(),
        source,
    })?;
    let Some(private) = &options.key else {
        return Err(OpenError::Encrypted {
            path: path.to_owned(),
        });
    };
    let pem = String::from_utf8(read_small(private)?);
    let key = pem
        .map_err(|_| KeyError::NotAKey)
        .and_then(|pem| PayloadKey::open(&block, &pem))
        .map_err(|source| OpenError::Key {
            path: private.clone(),
            source,
        })?;
    stored.payload = stored.payload.clone().decrypted(key);
    stored.layers.push(Layer::Encrypted {
        cipher: block.cipher,
    });
    Ok(Some(block.cipher))
}
