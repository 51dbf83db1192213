//! Dumps as they come: in front of the dump there may be a disk, a device, a cipher, a compressor.
//!
//! Each layer is known by its content, never by its name, and taken off without unpacking anything
//! to disk: a partition of a disk (GPT, MBR, BSD label), the dump at the end of a dump device, a dump
//! header in front, encryption (`key.N`, or the key block on the device), zstd, gzip. A disk, a device
//! or a header may itself be compressed, as when somebody has packed an image to send it.
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
use crate::disk;
pub use crate::error::ContainerError;
use crate::input::Input;
use crate::locate::{self, Found, Search};
use crate::open::read_small;
use crate::source::Source;
use serde::Serialize;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vmcore_format::elf::ELF_MAGIC;
use vmcore_format::gzip;
use vmcore_format::header::MINIDUMP_PREFIX;
use vmcore_format::kerneldump::{self, DumpHeader, HEADER_LEN, HeaderKind};
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
    /// Whether that header says that it is a textdump, not memory.
    pub is_text: bool,
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
pub fn open(path: &Path, options: &ContainerOptions) -> Result<Opened, ContainerError> {
    unpack(path, find(path, options)?, options)
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
        is_text,
        ..
    } = stored;
    // Once only: nobody packs a packed image.
    let may_be_image = layers.is_empty();
    let io_error = |source| ContainerError::io(path, source);
    let (layer, chunks) = match chunks(payload).map_err(io_error)? {
        Ok(chunks) => chunks,
        Err(payload) => {
            let opened = Opened {
                source: Source::of_input(payload),
                layers,
                device_header,
                is_text,
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
        is_text,
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

/// What a part of a file or device expands to, which must be zstd or gzip.
///
/// # Errors
/// Returns an error if it cannot be read, or is neither.
pub fn expand_part(path: &Path, range: std::ops::Range<u64>) -> io::Result<Source> {
    expand(Input::open(path, Access::Positional)?.part(range))
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
pub fn open_decrypted(
    path: &Path,
    options: &ContainerOptions,
) -> Result<Option<Opened>, ContainerError> {
    let mut stored = find(path, options)?;
    if decrypt(&mut stored, path, options)?.is_none() {
        return Ok(None);
    }
    Ok(Some(Opened {
        source: Source::of_input(stored.payload),
        layers: stored.layers,
        device_header: stored.device_header,
        is_text: stored.is_text,
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
    match find(path, &ContainerOptions::default()) {
        Ok(stored) => !stored.layers.is_empty() || stored.key.is_some(),
        Err(error) => matches!(
            error,
            ContainerError::SeveralDumps { .. }
                | ContainerError::NoDumpOnDisk { .. }
                | ContainerError::UnsoundHeader { .. }
        ),
    }
}

/// Whether what follows the header is memory.
fn is_plain(header: &DumpHeader<'_>) -> bool {
    header.kind != HeaderKind::Text
        && header.compression == kerneldump::Compression::None
        && header.dumpkeysize == 0
}

/// Finds the dump in a file or on a device.
pub(crate) fn find(path: &Path, options: &ContainerOptions) -> Result<Stored, ContainerError> {
    let input = Input::open(path, options.access);
    let input = input.map_err(|source| ContainerError::io(path, source))?;
    find_stored(path, input, options)
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
        is_text: false,
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

/// Finds the dump behind a header, on a disk, or at the end of a device; `None` if it is none of
/// these.
fn find_in(
    path: &Path,
    input: &Input,
    first: &[u8],
    options: &ContainerOptions,
) -> Result<Option<Stored>, ContainerError> {
    let io_error = |source| ContainerError::io(path, source);
    if let Ok(header) = DumpHeader::parse(first)
        && options.partition.is_none()
    {
        return after_header(input, &header).map(Some).map_err(io_error);
    }
    match locate::search(input, options.partition.as_deref()).map_err(io_error)? {
        Search::One(partition, medium, found) => {
            let Some(mut stored) = stored(&medium, &found).map_err(io_error)? else {
                return Err(ContainerError::UnsoundHeader {
                    path: path.to_owned(),
                    problems: found.problems().to_vec(),
                });
            };
            let disk = partition.map(|partition| Layer::Disk { partition });
            stored.layers.splice(0..0, disk);
            Ok(Some(stored))
        }
        Search::Several(found) => Err(ContainerError::SeveralDumps {
            path: path.to_owned(),
            partitions: found
                .into_iter()
                .filter_map(|(name, found)| {
                    let header = DumpHeader::parse_damaged(found.revived()).ok()?;
                    Some((name, DeviceHeader::of(&header)))
                })
                .collect(),
        }),
        Search::Nowhere(looked_at)
            if looked_at.is_empty() && !disk::has_table(input).map_err(io_error)? =>
        {
            Ok(None)
        }
        Search::Nowhere(looked_at) => Err(ContainerError::NoDumpOnDisk {
            path: path.to_owned(),
            partitions: looked_at.into_iter().map(|(name, _)| name).collect(),
        }),
        Search::NoSuchPartition(partitions) => Err(ContainerError::NoSuchPartition {
            path: path.to_owned(),
            wanted: options.partition.clone().unwrap_or_default(),
            partitions,
        }),
    }
}

/// The dump at the end of a dump device; `None` if its header is not sound.
fn stored(medium: &Input, found: &Found) -> io::Result<Option<Stored>> {
    let Some((header, parts)) = found.sound() else {
        return Ok(None);
    };
    Ok(Some(Stored {
        payload: medium.part(parts.payload.clone()),
        key: key_block(medium, parts.key.start, &header)?,
        layers: vec![Layer::Device {
            is_cleared: found.is_cleared(),
            headers_differ: found.headers_differ(),
        }],
        device_header: Some(DeviceHeader::of(&header)),
        is_text: header.kind == HeaderKind::Text,
    }))
}

/// The dump behind a header at the start of a file.
fn after_header(input: &Input, header: &DumpHeader<'_>) -> io::Result<Stored> {
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
        is_text: header.kind == HeaderKind::Text,
    })
}

/// The key block at `at`, if the header says that there is one.
fn key_block(input: &Input, at: u64, header: &DumpHeader<'_>) -> io::Result<Option<Vec<u8>>> {
    if header.dumpkeysize == 0 || header.kind == HeaderKind::Text {
        return Ok(None);
    }
    let len = usize::try_from(header.dumpkeysize).unwrap_or(usize::MAX);
    let block = input.read_vec(at, len.min(PREFIX_LEN + ENCRYPTED_KEY_MAX))?;
    Ok(Some(block))
}

/// The key block in a file of its own: the one that was named, or `key.N` beside
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
