//! Compressed dumps: made, and read in place, beside the stock tools and the bare decompressors.

use crate::clock::{both_of, median, once};
use crate::table::{Row, Table};
use std::fs::File;
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use vmcore::container::{self, ContainerOptions};
use vmcore::source::{Access, Source};
use vmcore_pipeline::compress::{self, Method};

/// Bytes of the dump that are compressed.
const LEN: u64 = 512 << 20;
/// Bytes of a frame as we write it.
const FRAME: u64 = 256 << 10;
const ROUNDS: usize = 3;

/// Measures on the start of `dump`, in `folder`.
pub(crate) fn measure(name: &str, dump: &Path, folder: &Path, table: &mut Table) {
    let plain = folder.join("packed.plain");
    let mut start = File::open(dump).expect("the dump").take(LEN);
    let mut file = File::create(&plain).expect("room");
    std::io::copy(&mut start, &mut file).expect("room");
    drop(file);
    let mut rows = Rows {
        name,
        plain: &plain,
        folder,
        table,
    };
    // The rows on reading need the files that these make.
    if rows.zstd() {
        rows.frames();
        rows.one_frame();
    }
    if rows.gzip() {
        rows.one_member();
    }
    for file in ["plain", "ours.zst", "stock.zst", "ours.gz", "stock.gz"] {
        // Left over, it is overwritten by the next run.
        let _ = std::fs::remove_file(folder.join(format!("packed.{file}")));
    }
}

struct Rows<'a> {
    name: &'a str,
    plain: &'a Path,
    folder: &'a Path,
    table: &'a mut Table,
}

/// Opens a file in whatever form it is.
fn open(path: &Path) -> Source {
    container::open(path, &ContainerOptions::default())
        .expect("it opens")
        .source
}

/// The bare decompressor, which reads the file, too.
fn libzstd(path: &Path) {
    let file = File::open(path).expect("it was made");
    zstd::stream::copy_decode(file, std::io::sink()).expect("it is sound");
}

fn read_all(source: &Source, buf: &mut [u8]) -> u64 {
    let mut at = 0;
    loop {
        match source.read_positional(at, buf).expect("it is sound") {
            0 => return at,
            read => at += read as u64,
        }
    }
}

impl Rows<'_> {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.join(format!("packed.{name}"))
    }

    fn row(
        &mut self,
        what: &'static str,
        reference: &'static str,
        (ours, theirs): (f64, f64),
        limits: (Option<f64>, Option<f64>),
        size_ratio: Option<f64>,
    ) {
        self.table.add(Row {
            machine: self.name.to_owned(),
            what,
            reference,
            ours_seconds: ours,
            reference_seconds: theirs,
            ratio: ours / theirs,
            limit_ratio: limits.0,
            limit_seconds: limits.1,
            peak_memory_bytes: None,
            size_ratio,
        });
    }

    /// Compresses with ours and with a stock tool, in turn.
    fn compress(
        &mut self,
        method: Method,
        ours: &str,
        stock: &[&str],
        stock_file: &str,
    ) -> Option<((f64, f64), f64)> {
        let (ours, stock_file) = (self.path(ours), self.path(stock_file));
        let source = Source::open(self.plain, Access::Auto).expect("it opens");
        let (program, options) = stock.split_first()?;
        let stock_once = || {
            let output = File::create(&stock_file).expect("room");
            let mut command = Command::new(program);
            command.args(options).stdin(Stdio::null()).stdout(output);
            once(|| command.arg(self.plain).status())
        };
        if Command::new(program).arg("--version").output().is_err() {
            eprintln!("{program} is not installed");
            return None;
        }
        let times = both_of(
            ROUNDS,
            || once(|| compress::convert(&source, method, &ours, true, |_, _| {}).expect("room")),
            stock_once,
        );
        let len = |path: &Path| std::fs::metadata(path).map_or(0, |meta| meta.len());
        #[expect(clippy::cast_precision_loss, reason = "a ratio")]
        let sizes = len(&stock_file) as f64 / len(&ours) as f64;
        Some((times, sizes))
    }

    /// Makes a file as we do and one by the stock tool; whether there is that tool.
    fn zstd(&mut self) -> bool {
        let stock = ["zstd", "-1", "-T2", "-q", "-c"];
        let made = self.compress(Method::Zstd, "ours.zst", &stock, "stock.zst");
        if let Some((times, sizes)) = made {
            let limit = (Some(1.0 / 1.3), None);
            self.row(
                "convert --compress zstd",
                "zstd -1 -T2",
                times,
                limit,
                Some(sizes),
            );
        }
        made.is_some()
    }

    /// The same of gzip.
    fn gzip(&mut self) -> bool {
        let stock = ["pigz", "-p2", "-c"];
        let made = self.compress(Method::Gzip, "ours.gz", &stock, "stock.gz");
        if let Some((times, sizes)) = made {
            self.row(
                "convert --compress gzip",
                "pigz -p2",
                times,
                (Some(1.0), None),
                Some(sizes),
            );
        }
        made.is_some()
    }

    /// Reads from our own frames.
    fn frames(&mut self) {
        let path = self.path("ours.zst");
        let file = File::open(&path).expect("it was made");
        let bytes = std::fs::read(&path).expect("it was made");
        let mut starts = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let len = zstd::zstd_safe::find_frame_compressed_size(&bytes[at..]).expect("a frame");
            starts.push((at as u64, len));
            at += len;
        }
        // The last is the seek table; the order is any but that of the file.
        let frames = starts.len() as u64 - 1;
        let order: Vec<u64> = (0..frames).map(|index| index * 7919 % frames).collect();
        let (mut page, mut packed, mut frame) = (vec![0; 4096], Vec::new(), Vec::new());
        let mut bare = zstd::bulk::Decompressor::new().expect("memory");
        frame.reserve(FRAME as usize);
        let per_read = |took: Duration| took / u32::try_from(frames).unwrap_or(1);
        let times = both_of(
            ROUNDS,
            || {
                let source = open(&path);
                per_read(once(|| {
                    for index in &order {
                        source
                            .read_at(index * FRAME + 8192, &mut page)
                            .expect("sound");
                    }
                }))
            },
            || {
                per_read(once(|| {
                    for index in &order {
                        let (at, len) = starts[*index as usize];
                        packed.resize(len, 0);
                        file.read_exact_at(&mut packed, at).expect("it is there");
                        frame.clear();
                        bare.decompress_to_buffer(&packed, &mut frame)
                            .expect("sound");
                        black_box(&frame);
                    }
                }))
            },
        );
        let limit = (Some(1.5), None);
        self.row(
            "4 KiB of a .zst, not cached",
            "pread + one frame",
            times,
            limit,
            None,
        );

        let source = open(&path);
        const CACHED: u64 = 100_000;
        let cached = (0..ROUNDS * 3).map(|_| {
            once(|| {
                for index in 0..CACHED {
                    let at = index * 7919 % 64 * FRAME + index % 32 * 4096;
                    source.read_at(at, &mut page).expect("sound");
                }
            }) / CACHED as u32
        });
        let cached = median(cached.skip(1).collect());
        self.row(
            "4 KiB of a .zst, cached",
            "-",
            (cached, cached),
            (None, Some(200e-9)),
            None,
        );

        let mut buf = vec![0; 1 << 20];
        let times = both_of(
            ROUNDS,
            || once(|| read_all(&open(&path), &mut buf)),
            || once(|| libzstd(&path)),
        );
        self.row(
            "all of a .zst in order",
            "libzstd alone",
            times,
            (Some(1.0 / 0.9), None),
            None,
        );
    }

    /// The one pass over a frame that says nothing.
    fn one_frame(&mut self) {
        let path = self.path("stock.zst");
        let mut packed = zstd::stream::Encoder::new(Vec::new(), 3).expect("memory");
        packed.include_checksum(true).expect("a parameter");
        packed
            .write_all(&std::fs::read(self.plain).expect("it is there"))
            .expect("memory");
        let packed = packed.finish().expect("memory");
        std::fs::write(&path, &packed).expect("room");
        let times = both_of(
            ROUNDS,
            || once(|| open(&path).len()),
            || once(|| libzstd(&path)),
        );
        self.row(
            "first pass, one frame of zstd",
            "libzstd alone",
            times,
            (Some(1.0 / 0.9), None),
            None,
        );
        self.random_reads(&path, "4 KiB after it, anywhere");
    }

    fn one_member(&mut self) {
        let path = self.path("stock.gz");
        let mut buf = vec![0; 1 << 20];
        let times = both_of(
            ROUNDS,
            || once(|| open(&path).len()),
            || {
                once(|| {
                    let file = File::open(&path).expect("it was made");
                    let file = std::io::BufReader::with_capacity(1 << 17, file);
                    let mut bare = flate2::bufread::MultiGzDecoder::new(file);
                    while bare.read(&mut buf).expect("sound") > 0 {}
                })
            },
        );
        self.row(
            "first pass, gzip",
            "zlib-rs alone",
            times,
            (Some(1.0 / 0.9), None),
            None,
        );
        self.random_reads(&path, "4 KiB after it, anywhere (gzip)");
    }

    /// Random reads once the pass is over, beside the whole pass that they would take without
    /// checkpoints.
    fn random_reads(&mut self, path: &Path, what: &'static str) {
        let source = open(path);
        let pass = once(|| source.len()).as_secs_f64();
        let mut page = vec![0; 4096];
        let len = source.len();
        let reads = (1..30u64).map(|index| {
            once(|| {
                source
                    .read_at(index * 7919 * 4096 % (len - 4096), &mut page)
                    .expect("sound")
            })
        });
        let times = (median(reads.collect()), pass);
        self.row(what, "the pass", times, (None, None), None);
    }
}
