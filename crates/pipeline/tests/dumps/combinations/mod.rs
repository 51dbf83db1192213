//! Every way out of a dying kernel, and back: a minidump and a full dump, through each compression
//! and each cipher, to a disk and to a server; saved or received, and opened. Every byte and every
//! page is that of the plain dump of the same machine.

mod stock;

use crate::link::{CLIENT, Link, SERVER, Trouble};
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use vmcore::Dump;
use vmcore::container::{self, ContainerOptions, Layer};
use vmcore_format::addr::Pfn;
use vmcore_format::kerneldump::{Compression, DumpHeader};
use vmcore_format::kerneldumpkey::Cipher;
use vmcore_format::paging::{Amd64, Arm64Granule16K};
use vmcore_pipeline::save::{self, Device, Options};
use vmcore_pipeline::serve::Outcome;
use vmcore_testkit::writer::disk;
use vmcore_testkit::writer::models::{self, small};
use vmcore_testkit::writer::run::{self, full, into_sink, settings};
use vmcore_testkit::writer::sim::Sim;
use vmcore_writer::Sink;
use vmcore_writer::arch::KernelPaging;
use vmcore_writer::disk::DiskSink;
use vmcore_writer::encrypt::{DumpKey, ENCRYPTION_MEMORY_BYTES, Encrypted};
use vmcore_writer::gzip::{GZIP_MEMORY_BYTES, Gzip};
use vmcore_writer::netdump::{NET_MEMORY_BYTES, NetConfig, NetPatience, NetSink};
use vmcore_writer::settings::{Patience, Settings};
use vmcore_writer::zstd::{ZSTD_MEMORY_BYTES, Zstd};
use zerocopy::IntoBytes as _;

/// The random key of the dumps, and the same encrypted for [`PRIVATE_KEY`].
pub(crate) const CLEAR_KEY: [u8; 64] = {
    let mut key = [0; 64];
    let mut index = 0;
    while index < 64 {
        key[index] = index as u8;
        index += 1;
    }
    key
};
const WRAPPED_KEY: &[u8; 256] = include_bytes!("wrapped.key");
/// An RSA key for these tests alone.
const PRIVATE_KEY: &str = include_str!("private.pem");

/// What a dump goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layers {
    pub(crate) compression: Compression,
    pub(crate) cipher: Option<Cipher>,
}

fn all_layers() -> impl Iterator<Item = Layers> {
    let compressions = [Compression::None, Compression::Gzip, Compression::Zstd];
    let ciphers = [None, Some(Cipher::ChaCha20), Some(Cipher::Aes256Cbc)];
    compressions.into_iter().flat_map(move |compression| {
        ciphers.into_iter().map(move |cipher| Layers {
            compression,
            cipher,
        })
    })
}

impl Layers {
    /// What the reader finds around the dump, from the outside.
    fn expected(self, outside: &[Layer]) -> Vec<Layer> {
        let mut layers = outside.to_vec();
        layers.extend(self.cipher.map(|cipher| Layer::Encrypted { cipher }));
        layers.extend(match self.compression {
            Compression::Gzip => Some(Layer::Gzip),
            Compression::Zstd => Some(Layer::Zstd),
            _ => None,
        });
        layers
    }

    /// The ending that savecore and netdumpd give the dump's file.
    fn file(self, middle: &str) -> String {
        match (self.cipher, self.compression) {
            (Some(_), _) => format!("vmcore_encrypted.{middle}0"),
            (None, Compression::Gzip) => format!("vmcore.{middle}0.gz"),
            (None, Compression::Zstd) => format!("vmcore.{middle}0.zst"),
            (None, _) => format!("vmcore.{middle}0"),
        }
    }

    /// The header says what savecore must know.
    fn check_header(self, header: &DumpHeader<'_>, block: u32, plain_bytes: u64, when: &str) {
        let key_bytes = self.cipher.map_or(0, |_| 293u32.next_multiple_of(block));
        assert_eq!(header.compression, self.compression, "{when}");
        assert_eq!(
            (header.blocksize, header.dumpkeysize),
            (block, key_bytes),
            "{when}"
        );
        assert!(header.dumpextent >= header.dumplength, "{when}");
        match self.compression {
            Compression::None => assert_eq!(header.dumplength, plain_bytes, "{when}"),
            _ => assert!(header.dumplength < plain_bytes, "{when}"),
        }
    }
}

/// Writes a dump of `sim` through `layers` to `below`.
fn dump<P: KernelPaging>(sim: &Sim<P>, settings: Settings, layers: Layers, below: &mut dyn Sink) {
    let cipher = layers.cipher.unwrap_or(Cipher::ChaCha20);
    let mut key = DumpKey::new(cipher, &CLEAR_KEY, WRAPPED_KEY, [9; 32]).unwrap();
    let mut room = vec![0; ENCRYPTION_MEMORY_BYTES];
    let mut encrypted;
    let mut below: &mut dyn Sink = match layers.cipher {
        None => below,
        Some(_) => {
            encrypted = Encrypted::new(below, &mut key, &mut room).unwrap();
            &mut encrypted
        }
    };
    let written = match layers.compression {
        Compression::Gzip => {
            let mut memory = vec![0; GZIP_MEMORY_BYTES];
            let mut sink = Gzip::new(below, 1, &mut memory).unwrap();
            into_sink(sim, settings, &mut sink)
        }
        Compression::Zstd => {
            let mut words = vec![0u64; ZSTD_MEMORY_BYTES.div_ceil(8)];
            let mut sink = Zstd::new(below, words.as_mut_bytes()).unwrap();
            into_sink(sim, settings, &mut sink)
        }
        _ => into_sink(sim, settings, &mut below),
    };
    written.unwrap();
}

/// A folder with the private key in it, and how to open what it holds.
struct Folder {
    dir: tempfile::TempDir,
    options: ContainerOptions,
}

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("private.pem");
        fs::write(&key, PRIVATE_KEY).unwrap();
        let options = ContainerOptions {
            key: Some(key),
            ..ContainerOptions::default()
        };
        Self { dir, options }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The file is `plain` in these layers: byte by byte, and page by page.
    fn check<P: KernelPaging>(
        &self,
        sim: &Sim<P>,
        file: &Path,
        layers: &[Layer],
        plain: &[u8],
        when: &str,
    ) {
        let opened = container::open(file, &self.options).unwrap();
        assert_eq!(opened.layers, layers, "{when}");
        let mut bytes = vec![0; plain.len() + 1];
        let len = opened.source.read_at(0, &mut bytes).unwrap();
        assert!(
            bytes[..len] == *plain,
            "{when}: {len} of {} bytes",
            plain.len()
        );

        let reference = self.path("plain");
        fs::write(&reference, plain).unwrap();
        let reference = Dump::open(&reference, &self.options.clone().into()).unwrap();
        let dump = Dump::open(file, &self.options.clone().into()).unwrap();
        assert_eq!(dump.warnings(), [], "{when}");
        let last = sim.ranges.last().unwrap().end.0 >> sim.model.page_shift;
        // Before and after the holes between the ranges there is nothing to compare.
        let near = |pfn: &u64| (-2..=2).any(|by| sim.is_ram(pfn.saturating_add_signed(by)));
        let mut pages = 0;
        for pfn in (0..last + 3).filter(near) {
            let pages_of = |dump: &Dump| {
                let page = dump.memory().page(Pfn(pfn));
                page.map(|page| page.to_vec())
                    .map_err(|why| why.to_string())
            };
            let (found, expected) = (pages_of(&dump), pages_of(&reference));
            pages += u64::from(found.is_ok());
            assert!(found == expected, "{when}: page {pfn:#x}");
        }
        assert!(pages > 50, "{when}: only {pages} pages");
    }
}

/// To a disk, saved from there, opened in both places.
fn over_disk<P: KernelPaging>(sim: &Sim<P>, settings: Settings, layers: Layers, block: u32) {
    let when = format!("{layers:?} on a disk, minidump: {}", settings.minidump);
    let (_, plain) = run::dump(sim, settings);
    let folder = Folder::new();
    let disk = disk::Disk::new(24 << 20, block);
    let (state, start) = (Rc::clone(&disk.state), disk.geometry.media_offset as usize);
    dump(
        sim,
        settings,
        layers,
        &mut DiskSink::new(disk, Patience::default()),
    );
    assert!(state.cached.borrow().is_empty(), "{when}: not flushed");
    let media = state.media();
    let image = folder.path("swap.img");
    fs::write(&image, &media[start..]).unwrap();

    // Where savecore looks, and with the parity that it asks for.
    let trailer = media.len() - block as usize;
    let header = DumpHeader::parse(&media[trailer..]).unwrap();
    layers.check_header(&header, block, plain.len() as u64, &when);
    let leader =
        trailer - header.dumpextent as usize - header.dumpkeysize as usize - block as usize;
    assert!(media[leader..][..512] == media[trailer..][..512], "{when}");

    let on_device = Layer::Device {
        is_cleared: false,
        headers_differ: false,
    };
    folder.check(sim, &image, &layers.expected(&[on_device]), &plain, &when);

    let device = Device::open(&image).unwrap();
    let found = device.find().unwrap().expect("a dump");
    assert_eq!(found.problems(), [], "{when}");
    let crash = folder.path("crash");
    fs::create_dir(&crash).unwrap();
    save::save(&device, &found, &crash, &Options::default(), &mut |_| {}).unwrap();
    let file = crash.join(layers.file(""));
    let saved = fs::metadata(&file).unwrap().len();
    assert_eq!(saved, header.dumplength, "{when}");
    folder.check(sim, &file, &layers.expected(&[]), &plain, &when);
    let key = layers.cipher.map(|_| crash.join("key.0"));
    stock::check(&file, key.as_deref(), layers, &plain, &when);
}

/// To a server over a bad link, and opened there.
fn over_network<P: KernelPaging>(sim: &Sim<P>, settings: Settings, layers: Layers, seed: u64) {
    let when = format!("{layers:?} to a server, minidump: {}", settings.minidump);
    let (_, plain) = run::dump(sim, settings);
    let folder = Folder::new();
    let trouble = Trouble {
        loss: 3,
        twice: 3,
        late: 3,
    };
    let crash = folder.path("crash");
    fs::create_dir(&crash).unwrap();
    let mut link = Link::new(crash.clone(), trouble, seed);
    let mut memory = vec![0; NET_MEMORY_BYTES];
    let patience = NetPatience {
        attempts: 30,
        arp_attempts: 30,
        wait_ms: 500,
    };
    let config = NetConfig::new(CLIENT, SERVER);
    let mut sink = NetSink::new(&mut link, config, patience, &mut memory).unwrap();
    dump(sim, settings, layers, &mut sink);
    let record = link.ended.pop().expect("the dump has ended").record;
    assert_eq!(record.outcome, Outcome::Complete, "{when}");
    assert_eq!(record.parity_ok, Some(true), "{when}");
    assert_eq!(record.core_file, layers.file(&format!("{CLIENT}.")));
    let header = record.header.unwrap();
    assert_eq!(header.dumpkeysize > 0, layers.cipher.is_some(), "{when}");
    let file = crash.join(&record.core_file);
    let received = fs::metadata(&file).unwrap().len();
    assert_eq!(received, header.dumplength, "{when}");
    let key = record.key_file.map(|name| crash.join(name));
    folder.check(sim, &file, &layers.expected(&[]), &plain, &when);
    stock::check(&file, key.as_deref(), layers, &plain, &when);
}

#[test]
fn every_minidump_on_a_disk_is_the_plain_one() {
    let sim = small::<Amd64>(models::AMD64);
    for layers in all_layers() {
        over_disk(&sim, settings(None), layers, 512);
        over_disk(&sim, settings(None), layers, 4096);
    }
}

#[test]
fn every_full_dump_on_a_disk_is_the_plain_one() {
    let sim = small::<Amd64>(models::AMD64);
    for layers in all_layers() {
        over_disk(&sim, full(), layers, 512);
    }
}

#[test]
fn every_minidump_to_a_server_is_the_plain_one() {
    let sim = small::<Amd64>(models::AMD64);
    for (layers, seed) in all_layers().zip(1..) {
        over_network(&sim, settings(None), layers, seed);
    }
}

#[test]
fn every_full_dump_to_a_server_is_the_plain_one() {
    let sim = small::<Amd64>(models::AMD64);
    for (layers, seed) in all_layers().zip(100..) {
        over_network(&sim, full(), layers, seed);
    }
}

#[test]
fn pages_of_another_size_go_the_same_ways() {
    let sim = small::<Arm64Granule16K>(models::ARM64_16K);
    for (layers, seed) in all_layers().zip(200..) {
        over_disk(&sim, settings(None), layers, 4096);
        over_network(&sim, settings(None), layers, seed);
    }
}
