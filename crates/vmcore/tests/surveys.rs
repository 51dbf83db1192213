//! Map, search and verify: surveys of a whole dump, against what is true about the machine.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests may fail")]

use std::path::Path;
use vmcore::format::addr::{PhysAddr, VirtAddr};
use vmcore::map::map;
use vmcore::search::{MAX_PATTERN, Pattern, SearchError, search};
use vmcore::session::KernelChoice;
use vmcore::verify::{Verdict, Verification, verify};
use vmcore::{OpenOptions, Session};
use vmcore_synth::machine::{DumpFile, Machine, Options, Page};
use vmcore_synth::minidump::Minidump;
use vmcore_synth::{Arch, machines};

fn open(path: &Path, kernel: Option<&Path>) -> Session {
    let kernel = kernel.map_or(KernelChoice::None, KernelChoice::Given);
    Session::open(path, kernel, &OpenOptions::default()).unwrap()
}

/// The session of a machine's dump, with its kernel.
fn session(dir: &Path, machine: &Machine) -> Session {
    let (dump, kernel) = (dir.join("vmcore.0"), dir.join("kernel"));
    std::fs::write(&dump, machine.dump.build()).unwrap();
    std::fs::write(&kernel, machine.kernel.build()).unwrap();
    open(&dump, Some(&kernel))
}

fn minidump(dir: &Path, dump: &Minidump) -> Session {
    let path = dir.join("vmcore.0");
    std::fs::write(&path, dump.build()).unwrap();
    open(&path, None)
}

#[test]
fn the_map_counts_every_page_once_and_by_its_kind() {
    for (name, options) in machines::all() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::new(&options);
        let truth = &machine.truth;
        let map = map(&session(dir.path(), &machine), 64).unwrap();
        let is_full = matches!(machine.dump, DumpFile::Full(_));
        // The page tables of a full dump hold the direct map too.
        let is_mapped =
            |page: &&Page| !page.kernel_map.is_empty() || is_full && page.direct_map.is_some();
        let mapped = truth.pages.iter().filter(is_mapped).count();
        assert_eq!(map.total.kernel_map, mapped as u64, "{name}");
        assert_eq!(map.total.in_dump(), truth.pages.len() as u64, "{name}");
        assert_eq!((map.total.truncated, map.padding_pages), (0, 0), "{name}");
        assert!(
            map.mapped_but_absent >= Some(truth.absent.len() as u64),
            "{name}"
        );
        assert!(!map.is_cut_short, "{name}");
        for range in &map.ranges {
            let cells: u64 = range.cells.iter().map(|cell| cell.ram).sum();
            assert_eq!(cells, range.pages.ram, "{name}");
            let cells: u64 = range.cells.iter().map(|cell| cell.in_dump()).sum();
            assert_eq!(cells, range.pages.in_dump(), "{name}");
        }
        if !is_full {
            let only_tables = |pa: &&u64| {
                let mut pages = truth.pages.iter();
                pages.any(|page| page.pa == **pa && page.kernel_map.is_empty())
            };
            let tables = truth.table_pages.iter().filter(only_tables).count();
            assert_eq!(map.total.page_tables, tables as u64, "{name}");
        }
    }
}

#[test]
fn pages_that_are_mapped_but_not_dumped_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut dump = three_pages();
    // A page of 2 MiB, of which the dump has three small ones.
    dump.page_tables[..8].copy_from_slice(&0x83_u64.to_le_bytes());
    let map = map(&minidump(dir.path(), &dump), 64).unwrap();
    assert_eq!(map.mapped_but_absent, Some(509));
    assert_eq!(map.total.kernel_map, 3);
}

#[test]
fn a_truncated_dump_shows_what_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine::new(&Options::new(Arch::Amd64, 3));
    let DumpFile::Mini(mut dump) = machine.dump else {
        panic!("a minidump was asked for")
    };
    let pages = machine.truth.pages.len() as u64;
    dump.truncate_to = Some(dump.build().len() as u64 - 2 * 4096 - 1);
    let session = minidump(dir.path(), &dump);
    let map = map(&session, 64).unwrap();
    assert_eq!(map.total.truncated, 3);
    assert_eq!(map.total.in_dump(), pages - 3);
    let length = check(&verify(&session, |_| {}).unwrap(), "length");
    assert_eq!(length.0, Verdict::Bad);
    assert!(
        length.1.contains("8,193 bytes early: 3 pages"),
        "{}",
        length.1
    );
}

fn check(verification: &Verification, name: &str) -> (Verdict, String) {
    let check = verification.checks.iter().find(|check| check.name == name);
    let check = check.unwrap_or_else(|| panic!("there is no check {name}"));
    (check.verdict, check.detail.clone())
}

#[test]
fn sound_machines_have_nothing_bad() {
    for (name, options) in machines::all() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::new(&options);
        let mut reports = 0;
        let verification = verify(&session(dir.path(), &machine), |_| reports += 1).unwrap();
        let bad: Vec<_> = verification
            .checks
            .iter()
            .filter(|check| check.verdict == Verdict::Bad)
            .collect();
        assert!(bad.is_empty(), "{name}: {bad:#?}");
        assert_eq!(
            verification.pages_read,
            machine.truth.pages.len() as u64,
            "{name}"
        );
    }
}

#[test]
fn each_defect_is_found_by_its_check() {
    type Harm = fn(&mut Minidump);
    let cases: [(&str, Verdict, Harm); 7] = [
        ("length", Verdict::Warning, |dump| {
            dump.trailing = vec![0; 512]
        }),
        ("header page", Verdict::Warning, |dump| {
            dump.patches.push((2000, vec![1]))
        }),
        ("page tables", Verdict::Warning, |dump| {
            dump.kernbase += 4096
        }),
        ("bitmap size", Verdict::Warning, |dump| {
            dump.dump_avail = vec![(0, 0x80_0000_0000)];
            let mut bitmap = vec![0; 4096];
            bitmap[0] = 2;
            dump.bitmap = Some(bitmap);
        }),
        ("bitmap", Verdict::Bad, |dump| {
            dump.extra_bits.insert(32_000);
        }),
        ("message buffer", Verdict::Warning, |dump| {
            dump.msgbuf = vec![0; 120]
        }),
        ("kernel map", Verdict::Bad, |dump| {
            dump.page_tables = vec![0; 4096]
        }),
    ];
    for (name, verdict, harm) in cases {
        let dir = tempfile::tempdir().unwrap();
        let (mut dump, _) = machines::small(Arch::Amd64, 3);
        let before = verify(&minidump(dir.path(), &dump), |_| {}).unwrap();
        assert_eq!(check(&before, name).0, Verdict::Sound, "{name} before");
        harm(&mut dump);
        let after = verify(&minidump(dir.path(), &dump), |_| {}).unwrap();
        assert_eq!(
            check(&after, name).0,
            verdict,
            "{name}: {:?}",
            check(&after, name)
        );
    }
}

#[test]
fn a_damaged_message_buffer_does_not_match_its_checksum() {
    let dir = tempfile::tempdir().unwrap();
    let (mut dump, _) = machines::small(Arch::Amd64, 3);
    let first = dump.msgbuf.iter_mut().find(|byte| **byte != 0).unwrap();
    *first ^= 1;
    let found = check(
        &verify(&minidump(dir.path(), &dump), |_| {}).unwrap(),
        "message buffer",
    );
    assert_eq!(found.0, Verdict::Warning);
    assert!(found.1.contains("sum up to"), "{}", found.1);
}

#[test]
fn another_kernels_file_is_bad() {
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine::new(&Options::new(Arch::Amd64, 3));
    let mut other = machine.kernel.clone();
    other.build_id = Some(vec![9; 20]);
    let (dump, kernel) = (dir.path().join("vmcore.0"), dir.path().join("kernel"));
    std::fs::write(&dump, machine.dump.build()).unwrap();
    std::fs::write(&kernel, other.build()).unwrap();
    let found = check(
        &verify(&open(&dump, Some(&kernel)), |_| {}).unwrap(),
        "kernel file",
    );
    assert_eq!(found.0, Verdict::Bad, "{}", found.1);
}

/// A dump of three pages: the first two follow each other, the third lies apart.
fn three_pages() -> Minidump {
    let mut dump = Minidump::new(Arch::Amd64, 3);
    dump.dump_avail = vec![(0, 0x80_0000)];
    dump.page_tables = vec![0; 4096];
    let mut page = vec![0; 4096];
    page[4090..].copy_from_slice(b"need a");
    dump.pages.insert(0x1000, page.clone());
    page[..9].copy_from_slice(b" haystack");
    dump.pages.insert(0x2000, page.clone());
    page[100..104].copy_from_slice(b"need");
    dump.pages.insert(0x5000, page);
    dump
}

fn found(session: &Session, pattern: &[u8], limit: usize) -> (Vec<u64>, bool) {
    let found = search(session, &Pattern::Bytes(pattern.to_vec()), limit).unwrap();
    let places = found.matches.iter().map(|place| place.pa.unwrap().0);
    (places.collect(), found.more)
}

#[test]
fn patterns_are_found_in_pages_and_over_their_ends_only_where_memory_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let session = minidump(dir.path(), &three_pages());
    assert_eq!(
        found(&session, b"need a haystack", 9),
        (vec![0x1ffa], false)
    );
    assert_eq!(
        found(&session, b"need", 9),
        (vec![0x1ffa, 0x2ffa, 0x5064, 0x5ffa], false)
    );
    assert_eq!(found(&session, b"need", 2), (vec![0x1ffa, 0x2ffa], true));
    assert_eq!(found(&session, b"nowhere", 9), (vec![], false));
    let place = &search(&session, &Pattern::Bytes(b" haystack".to_vec()), 1)
        .unwrap()
        .matches[0];
    assert_eq!(place.pa, Some(PhysAddr(0x2000)));
    assert_eq!(place.addresses, [VirtAddr(0xffff_f800_0000_2000)]);
}

#[test]
fn pointers_are_found_at_aligned_places_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut dump = three_pages();
    let page = dump.pages.get_mut(&0x5000).unwrap();
    page[200..208].copy_from_slice(&0xffff_f800_0000_2000_u64.to_le_bytes());
    page[301..309].copy_from_slice(&0xffff_f800_0000_2000_u64.to_le_bytes());
    let session = minidump(dir.path(), &dump);
    let pattern = Pattern::Pointer(VirtAddr(0xffff_f800_0000_2000));
    let places = search(&session, &pattern, 9).unwrap().matches;
    assert_eq!(places.len(), 1);
    assert_eq!(places[0].pa, Some(PhysAddr(0x5000 + 200)));
}

#[test]
fn patterns_have_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let session = minidump(dir.path(), &three_pages());
    let search = |len| search(&session, &Pattern::Bytes(vec![1; len]), 1);
    assert_eq!(search(0), Err(SearchError::Empty));
    assert!(search(MAX_PATTERN).unwrap().matches.is_empty());
    let len_bytes = MAX_PATTERN + 1;
    assert_eq!(search(len_bytes), Err(SearchError::TooLong { len_bytes }));
}

#[test]
fn a_match_names_every_address_of_its_page() {
    for (name, options) in machines::all() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::new(&options);
        let session = session(dir.path(), &machine);
        let kernel = machine.truth.version.as_bytes();
        let places = search(&session, &Pattern::Bytes(kernel.to_vec()), 100)
            .unwrap()
            .matches;
        assert!(!places.is_empty(), "{name}");
        for place in places {
            let pa = place.pa.unwrap().0;
            let page = pa & !(options.page_size - 1);
            let truth = machine
                .truth
                .pages
                .iter()
                .find(|known| known.pa == page)
                .unwrap();
            let mut expected: Vec<u64> = truth.kernel_map.clone();
            expected.extend(truth.direct_map);
            expected.dedup();
            let mut expected: Vec<u64> = expected.iter().map(|va| va + (pa - page)).collect();
            let mut addresses: Vec<u64> = place.addresses.iter().map(|va| va.0).collect();
            expected.sort_unstable();
            addresses.sort_unstable();
            assert_eq!(addresses, expected, "{name}");
        }
    }
}
