//! A dump of any bytes, opened in every way of access and asked everything that needs no kernel
//! file: it ends, in memory in proportion to the file, and every way gives the same answers.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::fmt::{self, Debug, Write as _};
use std::hash::{DefaultHasher, Hasher as _};
use std::ops::ControlFlow;
use std::path::Path;
use vmcore::container::{ContainerOptions, Layer};
use vmcore::dump::Completeness;
use vmcore::format::addr::{FileOffset, Pfn, PhysAddr, VirtAddr};
use vmcore::format::endian::Width;
use vmcore::format::layout::Section;
use vmcore::memory::{Memory, PageReadError};
use vmcore::pages::{self, PageMap};
use vmcore::search::{Pattern, search};
use vmcore::session::{KernelChoice, Session};
use vmcore::source::Access;
use vmcore::translation::WindowKind;
use vmcore::{Dump, OpenOptions, info, log, map, verify};
use vmcore_fuzz::file::InputFile;
use vmcore_fuzz::limit;

/// Pages that are looked at one by one.
const LOOKED_AT: usize = 64;
/// Places that are searched for.
const LIMIT: usize = 4;

fuzz_target!(|data: &[u8]| {
    let file = InputFile::new(data);
    let answers = |access| {
        limit::memory(data.len(), || {
            let options = OpenOptions::from(ContainerOptions {
                access,
                ..ContainerOptions::default()
            });
            let options = match data.last() {
                // Every now and then a dump that is cut before its pages begin.
                Some(7) => OpenOptions {
                    up_to: Section::Header,
                    ..options
                },
                _ => options,
            };
            answers(file.path(), &options)
        })
    };
    let auto = answers(Access::Auto);
    if auto.is_some() {
        // One or the other: any change of the input changes the choice.
        let other = match data.iter().fold(0, |sum, byte| sum ^ byte) & 1 {
            0 => Access::Positional,
            _ => Access::Mapped,
        };
        assert_eq!(auto, answers(other));
    }
});

/// What a dump says, as a hash for each question; `None` for a file that is not a dump.
fn answers(path: &Path, options: &OpenOptions) -> Option<Vec<(&'static str, u64)>> {
    let session = Session::open(path, KernelChoice::None, options).ok()?;
    // What these expand to is in no proportion to the input; the target `container` has them.
    let is_packed = |layer: &Layer| matches!(layer, Layer::Zstd | Layer::Gzip);
    if session.dump().layers().iter().any(is_packed) {
        return None;
    }
    let memory = session.dump().memory();
    told(session.dump());
    let first = memory
        .sparse()
        .map_or(0, |sparse| sparse.layout().section(Section::Pages).offset.0);
    let mut needle = [0; 8];
    let read = memory.source().read_at(first, &mut needle).unwrap_or(0);
    let bytes = Pattern::Bytes(needle[..read.min(3)].to_vec());
    let word = session.dump().arch().word();
    let value = VirtAddr(word.item(memory.endian(), &needle, 0).unwrap_or(0));
    let pointer = search(&session, &Pattern::Pointer(value), LIMIT);
    let answers = vec![
        ("id", hash(&session.dump().id())),
        ("info", hash(&info::info(&session))),
        ("log", hash(&log::read(&session))),
        ("map", hash(&map::map(&session, 16))),
        ("verify", hash(&verify::verify(&session, |_| {}))),
        ("bytes", hash(&search(&session, &bytes, LIMIT))),
        ("pointer", hash(&pointer)),
        (
            "summary",
            hash(
                &memory
                    .sparse()
                    .map(|sparse| sparse.summary(memory.source())),
            ),
        ),
    ];
    if let (Ok(found), Some(_)) = (pointer, memory.sparse()) {
        let places: Vec<_> = found.matches.iter().map(|found| found.offset).collect();
        assert_eq!(places, words(memory, word, value, LIMIT));
    }
    one_by_one(memory);
    if let Ok(space) = session.space()
        && let Ok(map) = PageMap::build(space)
    {
        mapped_pages(&session, &map);
    }
    Some(answers)
}

/// What the identity block and the extension say: within the file, and the same everywhere.
fn told(dump: &Dump) {
    let identity = dump.identity();
    if let Some(identity) = identity.filter(|identity| identity.dump_id != [0; 16]) {
        let id = format!("{:032x}", u128::from_be_bytes(identity.dump_id));
        assert_eq!(dump.id(), Ok(id));
    }
    let Some(extension) = dump.extension() else {
        return;
    };
    let file_len = dump.memory().source().len();
    assert!(extension.start() <= extension.end() && extension.end().0 <= file_len);
    if let Some((_, cpus)) = extension.cpus() {
        assert!(cpus.count() as u64 * 16 <= file_len);
    }
    if let Some(sums) = extension.page_sums() {
        let sum: u64 = sums.runs().map(|(_, len_bytes, _)| len_bytes).sum();
        assert!(sum <= sums.len_bytes);
    }
    if let Ok(Completeness::Complete { trailing_bytes }) = dump.completeness() {
        assert!(trailing_bytes <= file_len);
    }
}

/// A hash of all that a value shows of itself, which may be long.
fn hash(value: &impl Debug) -> u64 {
    struct Hash(DefaultHasher);
    impl fmt::Write for Hash {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.write(text.as_bytes());
            Ok(())
        }
    }
    let mut hash = Hash(DefaultHasher::new());
    write!(hash, "{value:?}").expect("a hash takes all");
    hash.0.finish()
}

/// The pages in the order of the file: each is where its address leads.
fn one_by_one(memory: &Memory) {
    let file_len = FileOffset(memory.source().len());
    for (pfn, offset) in pages::all(memory).take(LOOKED_AT) {
        let Some(pfn) = pfn else { continue };
        let size = memory.page_size();
        let first = size.base(pfn);
        // A range of a full dump may begin or end inside a page.
        let within = |pa: PhysAddr| match memory.locate(pa) {
            Ok(at) => assert!(at < file_len),
            Err(PageReadError::Truncated { .. }) => assert!(offset.0 + size.bytes() > file_len.0),
            Err(PageReadError::NotRam { .. } | PageReadError::NotDumped { .. }) => {
                assert!(memory.sparse().is_none() || is_shared(memory, pfn));
            }
            Err(other) => panic!("{pa}: {other}"),
        };
        within(first);
        within(PhysAddr(first.0 + size.bytes() - 1));
        let (found, start) = pages::page_at(memory, offset).expect("a page of the dump");
        if memory.sparse().is_some() {
            assert_eq!((found, start), (Some(first), offset));
        }
    }
}

/// Whether two ranges meet inside a page, so that it has two bits. The first says whether it is there.
fn is_shared(memory: &Memory, pfn: Pfn) -> bool {
    let ranges = memory.sparse().map(|sparse| sparse.numbering().ranges());
    let mut pairs = ranges.unwrap_or_default().windows(2);
    pairs.any(|pair| pair[1].first == pfn && pfn < pair[0].end)
}

/// Every address of a page leads back to it, unless a window in front covers it.
fn mapped_pages(session: &Session, map: &PageMap<'_>) {
    let Ok(space) = session.space() else { return };
    let leads_to = |va: VirtAddr, is_linear: bool| {
        let window = space.translation().window(va)?;
        if matches!(window.kind, WindowKind::Linear(_)) != is_linear {
            return None;
        }
        let found = space.translation().lookup(space.memory(), va);
        Some(found.map(|found| found.leaf.pa))
    };
    for page in map.pages().take(LOOKED_AT) {
        let Some(pa) = page.pa().filter(|_| space.memory().sparse().is_some()) else {
            continue;
        };
        for (va, _) in page.mappings().take(LOOKED_AT) {
            let found = leads_to(va, false);
            assert!(
                found.is_none() || found == Some(Ok(pa)),
                "{va} to {pa}: {found:?}"
            );
        }
        if let Some(va) = page.direct_map {
            let found = leads_to(va, true);
            assert!(
                found.is_none() || found == Some(Ok(pa)),
                "{va} to {pa}: {found:?}"
            );
        }
    }
}

/// The places of a word in the pages of a minidump: those that a look at each word finds.
fn words(memory: &Memory, word: Width, value: VirtAddr, limit: usize) -> Vec<FileOffset> {
    let mut places = Vec::new();
    let scanned = pages::scan(memory, |page| {
        let items = page.bytes.len() as u64 / word.bytes();
        for index in 0..items {
            let item = word.item(memory.endian(), page.bytes, index as usize);
            if item == Some(value.0) && places.len() < limit {
                places.push(FileOffset(page.offset.0 + index * word.bytes()));
            }
        }
        ControlFlow::Continue(())
    });
    assert!(scanned.is_ok());
    places
}
