//! What may wrap a dump: a disk, a device, a header, a cipher, a compressor.
//!
//! Each layer is known by its content, never by its name, and taken off without unpacking anything
//! to disk: a partition of a disk (GPT, MBR, BSD label), the dump at the end of a dump device, a dump
//! header before it, encryption (`key.N`, or the key block on the device), zstd, gzip. A disk, a device
//! or a header may itself be compressed, for example an image packed for sending.
//!
//! ```
//! use vmcore_source::container::{self, ContainerOptions, Layer};
//! use vmcore_synth::header::DumpHeader;
//! let image = DumpHeader::new("amd64", 8192).device(1 << 17, &[], &[7; 8192]);
//! let dir = tempfile::tempdir()?;
//! let path = dir.path().join("swap.img");
//! std::fs::write(&path, image.ok_or("does not fit")?)?;
//! let opened = container::open(&path, &ContainerOptions::default())?;
//! assert!(matches!(opened.layers[..], [Layer::Device { .. }]));
//! assert_eq!(opened.source.len(), 8192);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::bytes::{Access, ReadAt};
use crate::chunks::ChunkSource;
use crate::crypt::PayloadKey;
pub use crate::device_header::DeviceHeader;
pub use crate::error::ContainerError;
use crate::input::Input;
use crate::locate::{FoundDump, Medium, Search};
use crate::open::{OpenFile, read_small};
use crate::source::Source;
use serde::Serialize;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vmcore_format::elf::ELF_MAGIC;
use vmcore_format::gzip;
use vmcore_format::header::MINIDUMP_PREFIX;
use vmcore_format::kerneldump::{DumpHeader, HEADER_LEN};
use vmcore_format::kerneldumpkey::{Cipher, ENCRYPTED_KEY_MAX, KeyBlock, PREFIX_LEN};
use vmcore_format::zstd::{FRAME_MAGIC, is_skippable};

/// The most bytes of a key file that are read.
const KEY_FILE_MAX: usize = 1 << 20;

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
        /// Whether the header before the dump differs: swapping has begun.
        headers_differ: bool,
    },
    /// A dump header before the dump.
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

/// How to reach a dump.
#[derive(Clone, Debug, Default)]
pub struct ContainerOptions {
    /// How the file is read.
    pub access: Access,
    /// The RSA private key of an encrypted dump, in PEM form.
    pub key: Option<PathBuf>,
    /// The key block of an encrypted dump, if it is neither on the device nor `key.N` beside
    /// `vmcore_encrypted.N`.
    pub key_block: Option<PathBuf>,
    /// The partition of a disk with several dumps: `p3`, `s1b`, or a number.
    pub partition: Option<String>,
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

/// A dump as stored: still compressed and encrypted, but without what is around it.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) payload: Input,
    /// The key block, if it is encrypted.
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) device_header: Option<DeviceHeader>,
}

/// Opens a file or device, and takes off every layer around the dump in it.
///
/// # Errors
/// Returns an error if it cannot be read, holds no dump or several, or is encrypted and the key is
/// missing or wrong. What is inside need not be a dump.
pub fn open(path: &Path, options: &ContainerOptions) -> Result<Opened, ContainerError> {
    open_file(&open_at(path)?, options)
}

/// As [`open`], but of a file that is open.
///
/// # Errors
/// As [`open`].
pub fn open_file(file: &OpenFile, options: &ContainerOptions) -> Result<Opened, ContainerError> {
    unpack(file.path(), find(file, options)?, options)
}

fn open_at(path: &Path) -> Result<OpenFile, ContainerError> {
    OpenFile::open(path).map_err(|source| ContainerError::io(path, source))
}

/// As [`open`], but of bytes that are not in a file. Errors call them `name`.
///
/// # Errors
/// As [`open`].
pub fn open_given(
    name: &Path,
    given: impl ReadAt + 'static,
    options: &ContainerOptions,
) -> Result<Opened, ContainerError> {
    let input = Input::given(Box::new(given));
    unpack(name, find_stored(name, input, options)?, options)
}

/// As [`open`], but of what a pipe or another reader gives: all of it is copied to a file without a
/// name in the directory for temporary files first. Errors call it `name`.
///
/// # Errors
/// As [`open`], or if it cannot be copied.
pub fn open_reader(
    name: &Path,
    mut reader: impl io::Read,
    options: &ContainerOptions,
) -> Result<Opened, ContainerError> {
    let input = Input::spooled(&mut reader, options.access);
    let input = input.map_err(|source| ContainerError::io(name, source))?;
    unpack(name, find_stored(name, input, options)?, options)
}

/// Takes off what is around the dump, the cipher first.
fn unpack(
    path: &Path,
    mut stored: Stored,
    options: &ContainerOptions,
) -> Result<Opened, ContainerError> {
    decrypt(&mut stored, path, options)?;
    let Stored {
        payload,
        mut layers,
        device_header,
        ..
    } = stored;
    // Once only: a packed image is not packed again.
    let may_be_image = layers.is_empty();
    let io_error = |source| ContainerError::io(path, source);
    let (layer, chunks) = match chunks(payload).map_err(io_error)? {
        Ok(chunks) => chunks,
        Err(payload) => {
            let opened = Opened {
                source: Source::of_input(payload),
                layers,
                device_header,
            };
            return Ok(opened);
        }
    };
    layers.push(layer);
    let chunks = Arc::new(chunks);
    if may_be_image && let Some(mut inner) = find_expanded(path, &chunks, options)? {
        inner.layers.splice(0..0, layers);
        return unpack(path, inner, options);
    }
    let opened = Opened {
        source: Source::of_chunks(chunks),
        layers,
        device_header,
    };
    Ok(opened)
}

/// Whether what starts so is zstd or gzip.
#[must_use]
pub fn is_compressed(first: &[u8]) -> bool {
    is_zstd(first) || first.starts_with(&gzip::MAGIC)
}

/// Whether what starts so is zstd: a frame, or one of those that decoders skip.
fn is_zstd(first: &[u8]) -> bool {
    first.starts_with(&FRAME_MAGIC) || is_skippable(first)
}

/// What a file expands to, which must be zstd or gzip.
///
/// # Errors
/// Returns an error if it cannot be read, or is neither.
pub fn expand_file(file: &OpenFile) -> io::Result<Source> {
    expand(Input::of(file, Access::Positional))
}

/// What an input expands to, which must be zstd or gzip.
pub(crate) fn expand(input: Input) -> io::Result<Source> {
    let chunks = chunks(input)?.map_err(|_| {
        let words = "the dump is neither zstd nor gzip, whatever its header says";
        io::Error::new(io::ErrorKind::InvalidData, words)
    })?;
    Ok(Source::of_chunks(Arc::new(chunks.1)))
}

/// What an input expands to, and how it is compressed; the input itself if it is not.
fn chunks(input: Input) -> io::Result<Result<(Layer, ChunkSource), Input>> {
    let first = input.read_vec(0, 4)?;
    Ok(if is_zstd(&first) {
        Ok((Layer::Zstd, ChunkSource::zstd(input)?))
    } else if first.starts_with(&gzip::MAGIC) {
        Ok((Layer::Gzip, ChunkSource::gzip(input)))
    } else {
        Err(input)
    })
}

/// What is around the dump in a file that was compressed with it; `None` if nothing is.
fn find_expanded(
    path: &Path,
    chunks: &Arc<ChunkSource>,
    options: &ContainerOptions,
) -> Result<Option<Stored>, ContainerError> {
    let input = Input::expanded(chunks.clone());
    // Damage is reported by the read that needs the damaged bytes.
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
pub fn open_decrypted(
    path: &Path,
    options: &ContainerOptions,
) -> Result<Option<Opened>, ContainerError> {
    let mut stored = find(&open_at(path)?, options)?;
    if decrypt(&mut stored, path, options)?.is_none() {
        return Ok(None);
    }
    Ok(Some(Opened {
        source: Source::of_input(stored.payload),
        layers: stored.layers,
        device_header: stored.device_header,
    }))
}

/// Whether a file holds a dump by what is around it: a disk, a device, encryption. What is plain or
/// merely compressed says so by its first bytes.
#[must_use]
pub fn is_wrapped(file: &OpenFile) -> bool {
    // Encrypted bytes look like nothing at all, and their key may be elsewhere.
    let name = file.path().file_name().unwrap_or_default();
    let name = name.to_string_lossy();
    if name.starts_with("vmcore_encrypted.") {
        return true;
    }
    match find(file, &ContainerOptions::default()) {
        Ok(stored) => !stored.layers.is_empty() || stored.key.is_some(),
        Err(error) => matches!(
            error,
            ContainerError::SeveralDumps { .. }
                | ContainerError::NoDumpOnDisk { .. }
                | ContainerError::UnsoundHeader { .. }
        ),
    }
}

/// Finds the dump in a file or on a device.
fn find(file: &OpenFile, options: &ContainerOptions) -> Result<Stored, ContainerError> {
    find_stored(file.path(), Input::of(file, options.access), options)
}

fn find_stored(
    path: &Path,
    input: Input,
    options: &ContainerOptions,
) -> Result<Stored, ContainerError> {
    let first = input.read_vec(0, HEADER_LEN);
    let first = first.map_err(|source| ContainerError::io(path, source))?;
    if first.is_empty() {
        return Err(ContainerError::Empty {
            path: path.to_owned(),
        });
    }
    let alone = |payload, key| Stored {
        payload,
        key,
        layers: Vec::new(),
        device_header: None,
    };
    if options.partition.is_none() && is_dump(&first) {
        return Ok(alone(input, None));
    }
    let key_file = key_file_of(path);
    let key = key_block_file(path, options)?;
    // Encrypted bytes may look like anything, so the name comes first.
    if key.is_some() && key_file.is_some() {
        return Ok(alone(input, key));
    }
    if is_compressed(&first) {
        return Ok(alone(input, None));
    }
    match find_in(path, &input, &first, options)? {
        Some(stored) => Ok(stored),
        None if key.is_some() || (key_file.is_none() && options.key.is_none()) => {
            Ok(alone(input, key))
        }
        None => Err(ContainerError::NoKeyBlock {
            path: path.to_owned(),
            key_file: key_file.unwrap_or_else(|| PathBuf::from("key.N")),
        }),
    }
}

/// Whether memory starts here.
fn is_dump(first: &[u8]) -> bool {
    first.starts_with(MINIDUMP_PREFIX) || first.starts_with(ELF_MAGIC)
}

/// Finds the dump after a header, on a disk, or at the end of a device; `None` if it is none of
/// these.
fn find_in(
    path: &Path,
    input: &Input,
    first: &[u8],
    options: &ContainerOptions,
) -> Result<Option<Stored>, ContainerError> {
    let io_error = |source| ContainerError::io(path, source);
    if options.partition.is_none()
        && DumpHeader::parse(first).is_ok()
        && let Some(header) = first.first_chunk()
        && let Ok(header) = DeviceHeader::parse_damaged(header)
    {
        return after_header(input, header).map(Some).map_err(io_error);
    }
    let medium = Medium::of(input.clone(), path);
    let search = medium.search(options.partition.as_deref());
    match search.map_err(io_error)? {
        Search::One(medium, found) => match on_device(&medium, &found).map_err(io_error)? {
            Some(stored) => Ok(Some(stored)),
            None => Err(ContainerError::UnsoundHeader {
                path: path.to_owned(),
                problems: found.problems().to_vec(),
            }),
        },
        Search::Several(dumps) => Err(ContainerError::SeveralDumps {
            path: path.to_owned(),
            partitions: dumps
                .into_iter()
                .map(|(name, found)| (name, found.header().clone()))
                .collect(),
        }),
        Search::Nowhere(partitions)
            if partitions.is_empty() && !medium.has_partition_table().map_err(io_error)? =>
        {
            Ok(None)
        }
        Search::Nowhere(partitions) => Err(ContainerError::NoDumpOnDisk {
            path: path.to_owned(),
            partitions: partitions
                .iter()
                .filter_map(|medium| medium.partition().map(str::to_owned))
                .collect(),
        }),
        Search::NoSuchPartition(partitions) => Err(ContainerError::NoSuchPartition {
            path: path.to_owned(),
            wanted: options.partition.clone().unwrap_or_default(),
            partitions,
        }),
    }
}

/// The dump at the end of a dump device or of a partition; `None` if its header is not sound.
fn on_device(medium: &Medium, found: &FoundDump) -> io::Result<Option<Stored>> {
    let Some(parts) = found.sound_parts() else {
        return Ok(None);
    };
    let partition = medium.partition().map(str::to_owned);
    let disk = partition.map(|partition| Layer::Disk { partition });
    let device = Layer::Device {
        is_cleared: found.is_cleared(),
        headers_differ: found.headers_differ(),
    };
    let header = found.header();
    Ok(Some(Stored {
        payload: medium.part(parts.payload.clone()),
        key: key_block(medium.part(parts.key.clone()), header)?,
        layers: disk.into_iter().chain([device]).collect(),
        device_header: Some(header.clone()),
    }))
}

/// The dump after a header at the start of a file.
fn after_header(input: &Input, header: DeviceHeader) -> io::Result<Stored> {
    let block = u64::from(header.blocksize.max(512));
    let key_end = block + u64::from(header.dumpkeysize);
    let len = match header.is_plain() {
        true => input.len(),
        false => key_end.saturating_add(header.dumplength),
    };
    Ok(Stored {
        payload: input.part(key_end..len),
        key: key_block(input.part(block..key_end), &header)?,
        layers: vec![Layer::Header],
        device_header: Some(header),
    })
}

/// The key block, if the header says that there is one.
fn key_block(stored: Input, header: &DeviceHeader) -> io::Result<Option<Vec<u8>>> {
    if !header.is_encrypted() {
        return Ok(None);
    }
    let len = usize::try_from(header.dumpkeysize).unwrap_or(usize::MAX);
    let block = stored.read_vec(0, len.min(PREFIX_LEN + ENCRYPTED_KEY_MAX))?;
    Ok(Some(block))
}

/// The key block in a separate file: the one that was named, or `key.N` beside
/// `vmcore_encrypted.N`.
fn key_block_file(
    path: &Path,
    options: &ContainerOptions,
) -> Result<Option<Vec<u8>>, ContainerError> {
    let file = match &options.key_block {
        Some(file) => file.clone(),
        None => match key_file_of(path).filter(|file| file.exists()) {
            Some(file) => file,
            None => return Ok(None),
        },
    };
    let block =
        read_small(&file, KEY_FILE_MAX).map_err(|source| ContainerError::io(&file, source))?;
    Ok(Some(block))
}

/// `key.N`, which belongs beside `vmcore_encrypted.N`.
fn key_file_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let number = name.strip_prefix("vmcore_encrypted.")?;
    Some(path.with_file_name(format!("key.{number}")))
}

/// Decrypts the payload, if it is encrypted.
pub(crate) fn decrypt(
    stored: &mut Stored,
    path: &Path,
    options: &ContainerOptions,
) -> Result<Option<Cipher>, ContainerError> {
    let Some(block) = stored.key.take() else {
        return Ok(None);
    };
    let block = KeyBlock::parse(&block).map_err(|source| ContainerError::KeyBlock {
        path: path.to_owned(),
        source,
    })?;
    let Some(private) = &options.key else {
        return Err(ContainerError::Encrypted {
            path: path.to_owned(),
        });
    };
    let pem =
        read_small(private, KEY_FILE_MAX).map_err(|source| ContainerError::io(private, source))?;
    let key = PayloadKey::open(&block, &pem).map_err(|source| ContainerError::Key {
        path: private.clone(),
        source,
    })?;
    stored.payload = stored.payload.clone().decrypted(key);
    stored.layers.push(Layer::Encrypted {
        cipher: block.cipher,
    });
    Ok(Some(block.cipher))
}
