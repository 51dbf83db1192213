//! Debug information where builds leave it: in files beside the kernel, in units of types, in `.dwo`
//! files, in modules that the boot loader brought, by compilers of other languages.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on shall stop"
)]

mod common;

use common::Open as _;
use common::with_target;
use object::{Object as _, ObjectSection as _, SectionFlags};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use vmcore_debug::lines::Lines;
use vmcore_debug::modules::{Identity, Search, Status};
use vmcore_debug::object_file::ObjectFile;
use vmcore_debug::show::Options;
use vmcore_debug::unwind::CallFrames;
use vmcore_debug::{DebugFiles, Target};
use vmcore_format::addr::VirtAddr;
use vmcore_format::arch::Arch;
use vmcore_testkit::TestKernel;
use vmcore_testkit::dwarf::{Abbreviations, elf, line_program, unit};
use vmcore_testkit::modules::{load, load_with};

const TEXT: u64 = 0xffff_ffff_8020_0000;

fn objcopy<Word: AsRef<OsStr>>(words: &[Word]) {
    assert!(
        Command::new("objcopy")
            .args(words)
            .status()
            .unwrap()
            .success()
    );
}

fn words(expression: &str, target: &Target<'_>) -> String {
    match target.evaluate(expression) {
        Ok(value) => target.print(&value, &Options::default()).to_string(),
        Err(error) => format!("error: {error}"),
    }
}

/// Moves the debug information to a file, whose name `.gnu_debuglink` has.
fn split(kernel: &Path, debug: &Path) {
    let (kernel, debug) = (kernel.to_str().unwrap(), debug.to_str().unwrap());
    objcopy(&["--only-keep-debug", kernel, debug]);
    objcopy(&[
        "--strip-debug",
        &format!("--add-gnu-debuglink={debug}"),
        kernel,
    ]);
}

#[test]
fn the_sum_tells_another_build_s_debug_file() {
    let kernel = TestKernel::compile("kernel.c", &[]);
    let debug = kernel.dir.path().join("kernel.debug");
    objcopy(&[
        "--remove-section=.note.gnu.build-id",
        kernel.file.to_str().unwrap(),
    ]);
    split(&kernel.file, &debug);
    let session = kernel.session();
    let files = DebugFiles::of(&session).unwrap();
    assert_eq!(files.kernel_path(), debug);
    assert_eq!(files.problems(), Vec::<String>::new());
    let mut other = fs::read(&debug).unwrap();
    other.push(0);
    fs::write(&debug, other).unwrap();
    let files = DebugFiles::of(&session).unwrap();
    assert_eq!(files.kernel_path(), kernel.file);
    let problems = files.problems().concat();
    assert!(problems.contains("CRC-32"), "{problems}");
}

#[test]
fn debug_files_have_the_names_that_other_systems_give_them() {
    for form in [".debug/kernel.debug", "other.dbg", "by build id"] {
        let kernel = TestKernel::compile("kernel.c", &[]);
        let debug = kernel.dir.path().join("other.dbg");
        split(&kernel.file, &debug);
        let bytes = fs::read(&kernel.file).unwrap();
        let id = object::File::parse(&*bytes).unwrap();
        let id = id.build_id().unwrap().unwrap();
        let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = match form {
            "by build id" => format!(".build-id/{}/{}.debug", &hex[..2], &hex[2..]),
            name => name.to_owned(),
        };
        let place = kernel.dir.path().join(name);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::rename(&debug, &place).unwrap();
        let session = kernel.session();
        let files = DebugFiles::of(&session).unwrap();
        assert_eq!(files.kernel_path(), place, "{form}");
        let target = Target::new(&session, &files).unwrap();
        assert_eq!(words("hz", &target), "100", "{form}");
    }
}

#[test]
fn types_are_found_in_units_of_their_own() {
    let size = with_target(&TestKernel::compile("kernel.c", &[]), |target| {
        words("sizeof(struct thread)", target)
    });
    for version in ["-gdwarf-4", "-gdwarf-5"] {
        let flags = [version, "-fdebug-types-section"];
        let mut kernel = TestKernel::compile("kernel.c", &flags);
        let folder = tempfile::tempdir().unwrap();
        // Those of an object file are in sections of one name, each in a group.
        let text = load_with(
            &mut kernel,
            "flow.c",
            &flags,
            &folder.path().join("flow.ko"),
        );
        let session = kernel.session();
        let search = Search {
            sysroot: None,
            directories: vec![folder.path().to_owned()],
        };
        let files = DebugFiles::of(&session).unwrap();
        let files = files.with_modules(&session, &search).unwrap();
        let target = Target::new(&session, &files).unwrap();
        assert_eq!(words("sizeof(struct thread)", &target), size, "{version}");
        assert_eq!(words("shell.p_comm", &target), "\"sh\"", "{version}");
        assert_eq!(words("flows[1].id", &target), "2", "{version}");
        let places = target.places(VirtAddr(text));
        assert_eq!(places[0].function, "flow_lookup", "{version}");
        assert!(places[0].line.is_some(), "{version}");
    }
}

#[test]
fn types_in_other_files_are_said_to_be_there() {
    let kernel = TestKernel::compile("kernel.c", &["-gsplit-dwarf"]);
    let files = DebugFiles::of(&kernel.session()).unwrap();
    let problems = files.problems().concat();
    assert!(problems.contains("-gsplit-dwarf"), "{problems}");
    assert!(problems.contains(".dwo"), "{problems}");
}

/// The size that the boot loader gives a module: its sections, then the tables that the kernel links
/// by: symbols, two tables of strings, relocations of what is in memory.
fn preloaded_len(file: &Path, sections_len: u64) -> u64 {
    let bytes = fs::read(file).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    let sections: Vec<_> = elf.sections().collect();
    let of = |kind: u32| {
        let found = sections.iter().filter(move |section| {
            matches!(section.flags(), SectionFlags::Elf { sh_type, .. } if sh_type.0 == kind)
        });
        found.map(|section| (section.name().unwrap(), section.align(), section.size()))
    };
    let strings = |wanted: &'static str| of(3).filter(move |(name, ..)| *name == wanted);
    let is_loaded = |name: &str| !name.contains(".debug");
    let relocations = of(4).filter(|(name, ..)| is_loaded(name));
    let tables = of(2)
        .chain(strings(".strtab"))
        .chain(strings(".shstrtab"))
        .chain(relocations);
    tables.fold(sections_len, |end, (_, align, size)| {
        end.next_multiple_of(align) + size
    })
}

#[test]
fn a_module_of_the_boot_loader_is_as_long_as_its_tables() {
    let mut kernel = TestKernel::compile("kernel.c", &[]);
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("flow.ko");
    let text = load(&mut kernel, &module);
    let at = kernel.address("module_entry") + 72;
    let word = usize::try_from(at & 0xfff).unwrap();
    let stored = &kernel.pages[&(at & !0xfff)][word..word + 8];
    let sections_len = u64::from_le_bytes(stored.try_into().unwrap());
    let len = preloaded_len(&module, sections_len);
    assert!(len > sections_len);
    for (len, fits) in [(len, true), (len + 8, false)] {
        kernel.write_words(at, &[len]);
        let session = kernel.session();
        let search = Search {
            sysroot: None,
            directories: vec![folder.path().to_owned()],
        };
        let files = DebugFiles::of(&session).unwrap();
        let files = files.with_modules(&session, &search).unwrap();
        let found = matches!(files.modules()[0].status, Status::Found { debug: true, .. });
        assert_eq!(found, fits);
        let target = Target::new(&session, &files).unwrap();
        let places = target.places(VirtAddr(text));
        assert_eq!(
            places.first().is_some_and(|place| place.line.is_some()),
            fits
        );
    }
}

#[test]
fn a_module_of_the_boot_loader_needs_no_more_than_its_debug_file() {
    let mut kernel = TestKernel::compile("kernel.c", &[]);
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("flow.ko");
    let text = load(&mut kernel, &module);
    let at = kernel.address("module_entry") + 72;
    let word = usize::try_from(at & 0xfff).unwrap();
    let stored = &kernel.pages[&(at & !0xfff)][word..word + 8];
    let sections_len = u64::from_le_bytes(stored.try_into().unwrap());
    let len = preloaded_len(&module, sections_len);
    let status = Command::new("objcopy")
        .arg("--only-keep-debug")
        .arg(&module)
        .arg(folder.path().join("flow.ko.debug"))
        .status();
    assert!(status.unwrap().success());
    fs::remove_file(&module).unwrap();
    for (len, fits) in [(len, true), (sections_len + 8, false), (len << 8, false)] {
        kernel.write_words(at, &[len]);
        let session = kernel.session();
        let search = Search {
            sysroot: None,
            directories: vec![folder.path().to_owned()],
        };
        let files = DebugFiles::of(&session).unwrap();
        let files = files.with_modules(&session, &search).unwrap();
        let expected = Status::Found {
            debug: true,
            identity: Identity::Unproven,
        };
        assert_eq!(files.modules()[0].status == expected, fits, "{len}");
        let target = Target::new(&session, &files).unwrap();
        let places = target.places(VirtAddr(text));
        let function = places.first().map(|place| place.function.as_str());
        assert_eq!(function == Some("flow_lookup"), fits);
    }
}

#[test]
fn a_line_is_known_although_no_function_is() {
    let mut abbreviations = Abbreviations::default();
    let root = abbreviations.add(0x11, false, &[(0x10, 0x17), (0x11, 0x01), (0x12, 0x07)]);
    let range = [TEXT.to_le_bytes(), 0x20_u64.to_le_bytes()].concat();
    let entries = [root, vec![0; 4], range].concat();
    let file = elf(&[
        (".debug_info", 0, &unit(4, 0, &entries)),
        (".debug_abbrev", 0, &abbreviations.table()),
        (".debug_line", 0, &line_program(TEXT, &[33; 0x20])),
    ]);
    let file = ObjectFile::from_bytes(file, Arch::Amd64);
    let places = Lines::of(&file).at(VirtAddr(TEXT + 5));
    assert_eq!(places.len(), 1);
    assert_eq!(places[0].line, Some(6));
    // The assembler's functions have the names of their symbols.
    let kernel = TestKernel::compile("kernel.c", &[]);
    with_target(&kernel, |target| {
        let places = target.places(VirtAddr(kernel.address("trap")));
        assert_eq!(places[0].function, "trap");
        assert!(places[0].file.as_ref().unwrap().ends_with("stack.S"));
        assert!(places[0].line.is_some());
    });
}

const RUST: &str = r#"
#![no_std]
#![crate_type = "lib"]
#[repr(C)]
pub struct Softc { pub unit: u32, pub state: State, pub idle: State, pub opt: Option<&'static u32>, pub none: Option<&'static u32> }
pub enum State { Idle, Busy { since: u64, who: u32 }, Dead(u8) }
#[unsafe(no_mangle)] pub static SHARED: u32 = 77;
#[unsafe(no_mangle)] pub static SOFTC: Softc = Softc {
    unit: 3, state: State::Busy { since: 99, who: 5 }, idle: State::Idle, opt: Some(&SHARED), none: None,
};
#[unsafe(no_mangle)] pub static DEAD: State = State::Dead(4);
pub mod a { #[repr(C)] pub struct Inner { pub x: u64, pub y: u64 } #[unsafe(no_mangle)] pub static A: Inner = Inner { x: 1, y: 2 }; }
pub mod b { #[repr(C)] pub struct Inner { pub z: u8 } #[unsafe(no_mangle)] pub static B: Inner = Inner { z: 7 }; }
#[panic_handler] fn panic(_: &core::panic::PanicInfo) -> ! { loop {} }
"#;

#[test]
fn rust_s_enums_are_read_by_their_discriminants() {
    let kernel = kernel_with_rust(RUST);
    let softc = format!("(*(struct Softc *){:#x})", kernel.address("SOFTC"));
    let dead = format!("(*(struct State *){:#x})", kernel.address("DEAD"));
    let shared = kernel.address("SHARED");
    with_target(&kernel, |target| {
        for (expression, expected) in [
            (
                format!("{softc}.state"),
                "State::Busy { since: 99, who: 5 }".to_owned(),
            ),
            (format!("{softc}.idle"), "State::Idle".to_owned()),
            (format!("{softc}.state.Busy.since"), "99".to_owned()),
            (format!("{dead}.Dead.__0"), "4".to_owned()),
            (
                format!("{softc}.state.Dead"),
                "error: the value is not Dead, but Busy".to_owned(),
            ),
            ("sizeof(a::Inner)".to_owned(), "16".to_owned()),
            ("sizeof(b::Inner)".to_owned(), "1".to_owned()),
        ] {
            assert_eq!(words(&expression, target), expected, "{expression}");
        }
        let some = words(&format!("{softc}.opt"), target);
        assert!(some.starts_with(&format!("Some({shared:#x}")), "{some}");
        let none = words(&format!("{softc}.none"), target);
        assert_eq!(none, "None");
    });
}

/// Types of Rust's libraries. A `Vec` cannot be made before the kernel runs, so that its words are put
/// together: where the pointer is, an empty one tells, and the other two are equal.
const LIBRARIES: &str = r#"
#![no_std]
extern crate alloc;
use core::sync::atomic::*;
#[repr(C)] pub struct Shown {
    name: &'static str,
    list: &'static [u16],
    empty: &'static [u16],
    count: AtomicU32,
    is_on: AtomicBool,
    cell: core::cell::UnsafeCell<i64>,
    at: core::ptr::NonNull<u8>,
    numbers: core::mem::ManuallyDrop<alloc::vec::Vec<u32>>,
    text: core::mem::ManuallyDrop<alloc::string::String>,
    torn: &'static str,
}
unsafe impl Sync for Shown {}
const fn vec_words(start: *const u8, len: usize) -> [*const u8; 3] {
    let mut words = [core::ptr::without_provenance(len); 3];
    // An empty one of bytes dangles at 1.
    let empty = core::mem::ManuallyDrop::new(alloc::vec::Vec::<u8>::new());
    let empty: [usize; 3] = unsafe { core::mem::transmute(empty) };
    let mut at = 0;
    while at < 3 { if empty[at] == 1 { words[at] = start; } at += 1; }
    words
}
static NUMBERS: [u32; 3] = [7, 8, 9];
static BYTES: [u8; 4] = *b"heap";
static TORN: [u8; 3] = [0x41, 0xff, 0x42];
#[unsafe(no_mangle)] pub static SHOWN: Shown = Shown {
    name: "em0",
    list: &[1, 2, 3],
    empty: &[],
    count: AtomicU32::new(42),
    is_on: AtomicBool::new(true),
    cell: core::cell::UnsafeCell::new(-5),
    at: core::ptr::NonNull::dangling(),
    numbers: unsafe { core::mem::transmute(vec_words((&raw const NUMBERS).cast(), 3)) },
    text: unsafe { core::mem::transmute(vec_words((&raw const BYTES).cast(), 4)) },
    torn: unsafe { core::mem::transmute::<&'static [u8], &'static str>(&TORN) },
};
#[panic_handler] fn panic(_: &core::panic::PanicInfo) -> ! { loop {} }
"#;

#[test]
fn rust_s_library_types_are_shown_as_what_they_stand_for() {
    let kernel = kernel_with_rust(LIBRARIES);
    let shown = format!("(*(struct Shown *){:#x})", kernel.address("SHOWN"));
    with_target(&kernel, |target| {
        for (member, expected) in [
            ("name", "\"em0\""),
            ("list", "{1, 2, 3}"),
            ("empty", "{}"),
            ("count", "42"),
            ("is_on", "1"),
            ("cell", "-5"),
            ("at", "0x1"),
            ("numbers", "{7, 8, 9}"),
            ("text", "\"heap\""),
        ] {
            let found = words(&format!("{shown}.{member}"), target);
            assert_eq!(found, expected, "{member}");
        }
        // What is not text stays what it is.
        let torn = words(&format!("{shown}.torn"), target);
        assert!(torn.contains("length = 3"), "{torn}");
    });
}

/// A kernel with an object of Rust code in it.
fn kernel_with_rust(text: &str) -> TestKernel {
    let folder = tempfile::tempdir().unwrap();
    let (source, object) = (folder.path().join("soft.rs"), folder.path().join("soft.o"));
    fs::write(&source, text).unwrap();
    let status = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args([
            "--edition=2024",
            "--crate-type=lib",
            "--emit=obj",
            "-g",
            "-Cpanic=abort",
            "-Ccode-model=kernel",
        ])
        .args(["-Crelocation-model=static", "-o"])
        .args([&object, &source])
        .status();
    assert!(status.unwrap().success());
    TestKernel::compile_with("kernel.c", &[], &[object])
}

/// An entry of `.debug_frame`, with its length.
fn frame_entry(contents: &[u8]) -> Vec<u8> {
    let len = u32::try_from(contents.len()).unwrap();
    [&len.to_le_bytes()[..], contents].concat()
}

/// A common part with this augmentation.
fn common_part(augmentation: &[u8]) -> Vec<u8> {
    let start = [&u32::MAX.to_le_bytes()[..], &[1]].concat();
    frame_entry(&[&start, augmentation, &[0, 1, 0x78, 16, 12, 7, 8]].concat())
}

#[test]
fn call_frames_whose_common_part_is_long_are_read_within_the_budget() {
    // One that is known and one that is not.
    for (augmentation, costly) in [(b'S', true), (b'?', false)] {
        let common = common_part(&vec![augmentation; 1_000_000]);
        let second = u32::try_from(common.len()).unwrap();
        let mut section = [common.clone(), common].concat();
        for number in 0..20_000_u64 {
            let cie = if number % 2 == 0 { 0 } else { second };
            let range = [(TEXT + 16 * number).to_le_bytes(), 16_u64.to_le_bytes()].concat();
            section.extend(frame_entry(&[&cie.to_le_bytes()[..], &range].concat()));
        }
        let file = elf(&[(".debug_frame", 0, &section)]);
        let file = ObjectFile::from_bytes(file, Arch::Amd64);
        let frames = CallFrames::new(&file);
        assert!(frames.len() < 1000, "{}", frames.len());
        assert_eq!(file.is_too_costly(), costly);
    }
}
