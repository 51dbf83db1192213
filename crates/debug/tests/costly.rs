//! Debug information that is small in the file and large when it is read: it is left out, and said.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on shall stop"
)]

mod common;

use common::Open as _;
use std::ops::Range;
use std::process::Command;
use vmcore::session::KernelChoice;
use vmcore::{OpenOptions, Session};
use vmcore_debug::expr::{Location, SymbolSource, Value};
use vmcore_debug::lines::Lines;
use vmcore_debug::object_file::ObjectFile;
use vmcore_debug::show::{self, Options};
use vmcore_debug::types::{Tag, Types};
use vmcore_debug::unwind::{CallFrames, Code, How, NearSymbol, Registers, Start, Unwinder};
use vmcore_debug::{DebugFiles, Target};
use vmcore_format::addr::VirtAddr;
use vmcore_format::arch::Arch;
use vmcore_synth::minidump::Minidump;
use vmcore_testkit::TestKernel;
use vmcore_testkit::dwarf::{Abbreviations, elf, line_program, uleb, unit};

const TEXT: u64 = 0xffff_ffff_8020_0000;
/// Set in the process that does the work.
const LIMITED: &str = "VMCORE_TEST_LIMITED";

/// Runs the test of this name in a process that can have so much memory.
fn within(mebibytes: u64, name: &str, work: impl FnOnce()) {
    // In an emulator it cannot start itself anew, and runs without the limit.
    let is_limited = [LIMITED, "VMCORE_QUICK"]
        .iter()
        .any(|name| std::env::var_os(name).is_some());
    if is_limited {
        return work();
    }
    let limit = format!("ulimit -v {}; exec \"$0\" \"$@\"", mebibytes << 10);
    let status = Command::new("sh")
        .args(["-c", &limit])
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--test-threads=1"])
        .env(LIMITED, "1")
        .status();
    assert!(status.unwrap().success(), "{name}");
}

fn file(sections: &[(&str, u64, &[u8])]) -> ObjectFile {
    ObjectFile::from_bytes(elf(sections), Arch::Amd64)
}

#[test]
fn inlined_functions_nest_without_end() {
    let mut abbreviations = Abbreviations::default();
    let root = abbreviations.add(0x11, true, &[(0x11, 0x01), (0x12, 0x07)]);
    let function = abbreviations.add(0x2e, true, &[(0x03, 0x08), (0x11, 0x01), (0x12, 0x07)]);
    let inlined = abbreviations.add(0x1d, true, &[(0x31, 0x13), (0x11, 0x01), (0x12, 0x07)]);
    let range = [TEXT.to_le_bytes(), 0x1000_u64.to_le_bytes()].concat();
    let mut entries = [root, range.clone()].concat();
    let at = 11 + entries.len() as u32;
    entries.extend([function, b"outer\0".to_vec(), range.clone()].concat());
    for _ in 0..20_000 {
        entries.extend([inlined.clone(), at.to_le_bytes().to_vec(), range.clone()].concat());
    }
    entries.extend(vec![0; 20_002]);
    let file = file(&[
        (".debug_info", 0, &unit(4, 0, &entries)),
        (".debug_abbrev", 0, &abbreviations.table()),
    ]);
    let places = Lines::of(&file).at(VirtAddr(TEXT + 5));
    assert_eq!(places.len(), 256);
    assert!(places.iter().all(|place| place.function == "outer"));
    assert!(!places.last().unwrap().inlined);
}

#[test]
fn names_that_share_a_long_string_are_not_read_again_and_again() {
    let mut abbreviations = Abbreviations::default();
    let root = abbreviations.add(0x11, true, &[]);
    let structure = abbreviations.add(0x13, false, &[(0x03, 0x0e), (0x0b, 0x0b)]);
    let long = [structure.clone(), vec![0; 4], vec![8]].concat();
    let last = [structure, 1_000_001_u32.to_le_bytes().to_vec(), vec![4]].concat();
    let entries = [root, long.repeat(700_000), last, vec![0]].concat();
    let names = [vec![b'a'; 1_000_000], vec![0], b"proc\0".to_vec()].concat();
    let file = file(&[
        (".debug_info", 0, &unit(4, 0, &entries)),
        (".debug_abbrev", 0, &abbreviations.table()),
        (".debug_str", 0, &names),
    ]);
    let types = Types::of(&[&file]);
    assert!(types.find(Tag::Struct, "thread").is_none());
    let found = types.find(Tag::Struct, "proc").unwrap();
    assert_eq!(types.size_of(&found), Ok(4));
}

#[test]
fn a_million_abbreviations_are_refused() {
    within(700, "a_million_abbreviations_are_refused", || {
        let mut abbreviations = Abbreviations::default();
        let root = abbreviations.add(0x11, true, &[]);
        for _ in 0..3_000_000 {
            abbreviations.add(0x13, false, &[]);
        }
        let file = file(&[
            (".debug_info", 0, &unit(4, 0, &[root, vec![0]].concat())),
            (".debug_abbrev", 0, &abbreviations.table()),
        ]);
        assert!(Types::of(&[&file]).find(Tag::Struct, "proc").is_none());
        assert!(file.is_too_costly());
    });
}

#[test]
fn rows_of_lines_are_bounded() {
    within(900, "rows_of_lines_are_bounded", || {
        let mut abbreviations = Abbreviations::default();
        let root = abbreviations.add(0x11, false, &[(0x10, 0x17), (0x11, 0x01), (0x12, 0x07)]);
        let range = [TEXT.to_le_bytes(), (1_u64 << 30).to_le_bytes()].concat();
        // Each byte moves on by one line and one address.
        let program = line_program(TEXT, &vec![33; 30_000_000]);
        let entries = [root, vec![0; 4], range].concat();
        let file = file(&[
            (".debug_info", 0, &unit(4, 0, &entries)),
            (".debug_abbrev", 0, &abbreviations.table()),
            (".debug_line", 0, &program),
        ]);
        assert!(Lines::of(&file).at(VirtAddr(TEXT + 5)).is_empty());
        assert!(file.is_too_costly());
    });
}

#[test]
fn compressed_sections_are_bounded_together() {
    within(500, "compressed_sections_are_bounded_together", || {
        let zeros = vec![0; 60 << 20];
        let mut packed = Vec::new();
        for word in [1_u32, 0] {
            packed.extend(word.to_le_bytes());
        }
        for word in [zeros.len() as u64, 1] {
            packed.extend(word.to_le_bytes());
        }
        let mut encoder = flate2::write::ZlibEncoder::new(packed, flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, &zeros).unwrap();
        let packed = encoder.finish().unwrap();
        drop(zeros);
        let names = [
            ".debug_info",
            ".debug_abbrev",
            ".debug_line",
            ".debug_str",
            ".debug_addr",
            ".debug_loc",
            ".debug_ranges",
            ".debug_types",
            ".debug_frame",
            ".eh_frame",
        ];
        let sections: Vec<_> = names.map(|name| (name, 0x800, &*packed)).to_vec();
        let file = file(&sections);
        let bytes: usize = names.iter().map(|name| file.section(name).len()).sum();
        assert!(bytes <= 60 << 20, "{bytes}");
        assert!(file.is_too_costly());
    });
}

/// Attributes that take no byte of an entry: so that a small file is long to read.
#[test]
fn an_entry_with_too_many_attributes_is_refused() {
    let mut abbreviations = Abbreviations::default();
    let root = abbreviations.add(0x11, true, &[]);
    let many = abbreviations.add(0x13, false, &[(0x3c, 0x19); 100_000]);
    let entries = [root, many.repeat(100_000), vec![0]].concat();
    let file = file(&[
        (".debug_info", 0, &unit(4, 0, &entries)),
        (".debug_abbrev", 0, &abbreviations.table()),
    ]);
    assert!(Types::of(&[&file]).find(Tag::Struct, "proc").is_none());
    assert!(file.is_too_costly());
}

struct NoSymbols;

impl SymbolSource for NoSymbols {
    fn symbol(&self, _: &str) -> Option<VirtAddr> {
        None
    }
}

#[test]
fn types_that_contain_themselves_are_shown_down_to_a_level() {
    let mut abbreviations = Abbreviations::default();
    let root = abbreviations.add(0x11, true, &[]);
    let structure = abbreviations.add(0x13, true, &[(0x03, 0x08), (0x0b, 0x0b)]);
    let member = abbreviations.add(0x0d, false, &[(0x03, 0x08), (0x49, 0x13), (0x38, 0x0b)]);
    let array = abbreviations.add(0x01, true, &[(0x49, 0x13), (0x0b, 0x0b)]);
    let bound = abbreviations.add(0x21, false, &[(0x37, 0x0b)]);
    let typedef = abbreviations.add(0x16, false, &[(0x03, 0x08), (0x49, 0x13)]);
    let mut entries = root;
    let here = |entries: &Vec<u8>| 11 + entries.len() as u32;
    let own = here(&entries).to_le_bytes().to_vec();
    entries.extend([structure, b"own\0".to_vec(), vec![8]].concat());
    entries.extend([member.clone(), b"inner\0".to_vec(), own, vec![0, 0]].concat());
    // An array of itself, by its name.
    let arrays = here(&entries).to_le_bytes().to_vec();
    entries.extend([array, arrays.clone(), vec![8], bound, vec![2, 0]].concat());
    entries.extend([typedef.clone(), b"arrays\0".to_vec(), arrays].concat());
    let circle = here(&entries).to_le_bytes().to_vec();
    entries.extend([typedef, b"circle\0".to_vec(), circle].concat());
    entries.push(0);
    let file = file(&[
        (".debug_info", 0, &unit(4, 0, &entries)),
        (".debug_abbrev", 0, &abbreviations.table()),
    ]);
    let types = Types::of(&[&file]);
    let kernel = TestKernel::compile("kernel.c", &[]);
    let session = kernel.session();
    let files = DebugFiles::of(&session).unwrap();
    let target = Target::new(&session, &files).unwrap();
    let evaluator = vmcore_debug::expr::Evaluator {
        space: target.space(),
        types: &types,
        symbols: &NoSymbols,
        locals: &[],
    };
    let options = Options {
        depth: 1_000_000,
        values: 50_000,
        ..Options::default()
    };
    for (tag, name, contains) in [
        (Tag::Struct, "own", "inner = {…}"),
        (Tag::Plain, "arrays", "{…}"),
        (Tag::Plain, "circle", "refers to itself"),
    ] {
        let value = Value {
            type_: types.find(tag, name).unwrap(),
            location: Location::Memory(VirtAddr(kernel.address("shell"))),
        };
        let shown = show::show(&evaluator, &value, &options, &|_| None);
        let text = shown.to_string();
        assert!(text.contains(contains), "{name}: {}", text.len());
        assert!(serde_json::to_string(&shown).unwrap().len() < 200 << 20);
    }
    assert_eq!(uleb(300), [0xac, 2]);
}

/// Functions of one name, with call frame information.
struct Described<'a>(CallFrames<'a>);

impl Code for Described<'_> {
    fn symbol(&self, _: VirtAddr) -> Option<NearSymbol> {
        None
    }

    fn text(&self) -> &[Range<u64>] {
        &[]
    }

    fn call_frames(&self, _: VirtAddr) -> Option<&CallFrames<'_>> {
        Some(&self.0)
    }

    fn instructions(&self, _: VirtAddr, _: &mut [u8]) -> usize {
        0
    }
}

#[test]
fn a_long_unwind_program_does_not_run_for_every_frame() {
    let section = |id: u32, contents: &[u8]| {
        let len = (contents.len() as u32 + 4).to_le_bytes();
        [&len, &id.to_le_bytes(), contents].concat()
    };
    // Version 4, addresses of 8 bytes, code by 1, data by -8, the return address in column 16: below
    // the caller's stack pointer, rsp + 16.
    let common = [
        4, 0, 8, 0, 1, 0x78, 16, 0x0c, 7, 16, 0x90, 1, 0, 0, 0, 0, 0, 0,
    ];
    let remember_and_restore = [0x0a, 0x0b].repeat(500_000);
    let range = [TEXT.to_le_bytes(), 0x1000_u64.to_le_bytes()].concat();
    let described = section(0, &[range, remember_and_restore].concat());
    let frames = [section(u32::MAX, &common), described].concat();
    let file = file(&[(".debug_frame", 0, &frames)]);

    // A stack of 256 frames on the page that the direct map has at 0.
    let mut dump = Minidump::new(vmcore_synth::Arch::Amd64, 2);
    dump.dump_avail = vec![(0, 0x4000)];
    dump.dmapbase = 0xffff_f800_0000_0000;
    dump.dmapend = dump.dmapbase + (1 << 30);
    let returns = |_| [0_u64.to_le_bytes(), (TEXT + 0x10).to_le_bytes()].concat();
    dump.pages
        .insert(0x1000, (0..256).flat_map(returns).collect());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vmcore.0");
    std::fs::write(&path, dump.build()).unwrap();
    let session = Session::open(&path, KernelChoice::Find(&[]), &OpenOptions::default()).unwrap();
    let mut registers = Registers::default();
    registers.set(7, Some(dump.dmapbase + 0x1000));
    registers.set(16, Some(TEXT + 0x10));
    let code = Described(CallFrames::new(&file));
    let backtrace = Unwinder::new(Arch::Amd64, session.space().unwrap(), &code).walk(&Start {
        registers,
        never_ran: false,
        interrupted: true,
    });
    let by_cfi = backtrace
        .frames
        .iter()
        .filter(|frame| frame.how == How::Cfi);
    let by_cfi = by_cfi.count();
    assert!((2..8).contains(&by_cfi), "{by_cfi} frames");
    assert!(file.is_too_costly());
}
