//! CTF: types from bytes that are laid out here by the manual page alone, in both versions.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on shall stop"
)]

mod common;

use common::Open as _;
use std::io::Write as _;
use std::process::Command;
use vmcore_debug::object_file::ObjectFile;
use vmcore_debug::show::Options;
use vmcore_debug::types::{Tag, TypeError, TypeKind, Types};
use vmcore_debug::{DebugFiles, Target};
use vmcore_testkit::TestKernel;

/// Writes the sections of CTF data.
struct Writer {
    version: u8,
    types: Vec<u8>,
    strings: Vec<u8>,
    objects: Vec<u8>,
}

impl Writer {
    fn new(version: u8) -> Self {
        Self {
            version,
            types: Vec::new(),
            strings: vec![0],
            objects: Vec::new(),
        }
    }

    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = u32::try_from(self.strings.len()).unwrap();
        self.strings.extend(text.as_bytes());
        self.strings.push(0);
        at
    }

    fn word(&mut self, value: u32) {
        self.types.extend(value.to_le_bytes());
    }

    /// The number of a type, as wide as the version has it.
    fn id(&mut self, value: u32) {
        if self.version == 2 {
            self.types
                .extend(u16::try_from(value).unwrap().to_le_bytes());
        } else {
            self.word(value);
        }
    }

    /// The fixed part of a type.
    fn head(&mut self, name: &str, kind: u32, len: u32, size: u64) {
        let name = self.string(name);
        self.word(name);
        let (info, sentinel) = if self.version == 2 {
            (kind << 11 | 1 << 10 | len, 0xffff)
        } else {
            (kind << 26 | 1 << 25 | len, 0xffff_ffff)
        };
        self.id(info);
        if size >= u64::from(sentinel) || size == 20_000 {
            self.id(sentinel);
            self.word(u32::try_from(size >> 32).unwrap());
            self.word(u32::try_from(size & 0xffff_ffff).unwrap());
        } else {
            self.id(u32::try_from(size).unwrap());
        }
    }

    /// A member of a small structure; `bit_offset` from its start.
    fn member(&mut self, name: &str, type_: u32, bit_offset: u32) {
        let name = self.string(name);
        self.word(name);
        self.id(type_);
        self.id(bit_offset);
    }

    fn wide_member(&mut self, name: &str, type_: u32, bit_offset: u64) {
        let name = self.string(name);
        self.word(name);
        self.id(type_);
        if self.version == 2 {
            self.id(0);
        }
        self.word(u32::try_from(bit_offset >> 32).unwrap());
        self.word(u32::try_from(bit_offset & 0xffff_ffff).unwrap());
    }

    fn build(&self) -> Vec<u8> {
        let objects = self.objects.len().next_multiple_of(4);
        let types_len = self.types.len();
        let mut section = 0xcff1_u16.to_le_bytes().to_vec();
        section.extend([self.version, 0]);
        let at = |len: usize| u32::try_from(len).unwrap();
        for offset in [
            0,
            0,
            0,
            0,
            at(objects),
            at(objects),
            at(objects + types_len),
            at(self.strings.len()),
        ] {
            section.extend(offset.to_le_bytes());
        }
        section.extend(&self.objects);
        section.resize(36 + objects, 0);
        section.extend(&self.types);
        section.extend(&self.strings);
        section
    }
}

const INT: u32 = 1;
const PROC_POINTER: u32 = 4;

/// Types: 1 int, 2 char, 3 struct proc, 4 pointer to it, 5 char [20], 6 pid_t, 7 enum, 8 a big
/// structure, 9 unsigned :3, 10 const char, 11 pointer to 10, 12 a function, 13 forward.
fn example(version: u8) -> Writer {
    let mut ctf = Writer::new(version);
    ctf.head("int", 1, 0, 4);
    ctf.word(1 << 24 | 32);
    ctf.head("char", 1, 0, 1);
    ctf.word(3 << 24 | 8);
    ctf.head("proc", 6, 4, 40);
    ctf.member("p_next", PROC_POINTER, 0);
    ctf.member("p_pid", 6, 64);
    ctf.member("p_comm", 5, 96);
    ctf.member("p_low", 9, 261);
    ctf.head("", 3, 0, 3);
    ctf.head("", 4, 0, 0);
    ctf.id(2);
    ctf.id(INT);
    ctf.word(20);
    ctf.head("pid_t", 10, 0, u64::from(INT));
    ctf.head("state", 8, 2, 4);
    for (name, value) in [("NEW", 0_i32), ("BAD", -1)] {
        let name = ctf.string(name);
        ctf.word(name);
        ctf.word(value.cast_unsigned());
    }
    let big: u64 = if version == 2 { 20_000 } else { 1 << 30 };
    ctf.head("big", 6, 1, big);
    ctf.wide_member("last", INT, (big - 4) * 8);
    ctf.head("unsigned int", 1, 0, 4);
    ctf.word(3);
    ctf.head("", 12, 0, 2);
    ctf.head("", 3, 0, 10);
    ctf.head("handler", 5, 3, u64::from(INT));
    for argument in [INT, 2, 11, 0] {
        ctf.id(argument);
    }
    ctf.head("vnode", 9, 0, 6);
    ctf
}

/// A compiled kernel with this CTF instead of its DWARF.
fn kernel_with(section: &[u8]) -> TestKernel {
    let kernel = TestKernel::compile("kernel.c", &[]);
    let data = kernel.dir.path().join("ctf");
    std::fs::write(&data, section).unwrap();
    let mut add = std::ffi::OsString::from(".SUNW_ctf=");
    add.push(&data);
    let status = Command::new("objcopy")
        .args(["--strip-debug", "--add-section"])
        .arg(&add)
        .arg(&kernel.file)
        .status();
    assert!(status.unwrap().success());
    kernel
}

fn with_types(section: &[u8], test: impl Fn(&Types<'_>)) {
    let kernel = kernel_with(section);
    let file = ObjectFile::open(&kernel.file).unwrap();
    test(&Types::of(&[&file]));
}

#[test]
fn both_versions_say_the_same() {
    for version in [2, 3] {
        with_types(&example(version).build(), |types| {
            assert_eq!(types.origin(), Some("CTF"));
            let proc_ = types.find(Tag::Struct, "proc").unwrap();
            assert_eq!(types.size_of(&proc_), Ok(40));
            assert_eq!(types.offset_of("proc", "p_pid"), Some(8));
            assert_eq!(types.offset_of("proc", "p_comm"), Some(12));
            let next = types.member(&proc_, "p_next").unwrap().unwrap();
            assert_eq!(types.name_of(&next.type_), "struct proc *");
            let comm = types.member(&proc_, "p_comm").unwrap().unwrap();
            assert_eq!(types.name_of(&comm.type_), "char [20]");
            assert_eq!(types.size_of(&comm.type_), Ok(20));
            let low = types.member(&proc_, "p_low").unwrap().unwrap();
            assert_eq!((low.bit_offset, low.bits), (261, Some(3)));
            let pid = types.find(Tag::Plain, "pid_t").unwrap();
            assert_eq!(types.size_of(&pid), Ok(4));
            let (_, state) = types
                .resolve(&types.find(Tag::Enum, "state").unwrap())
                .unwrap();
            let values = [("NEW".to_owned(), 0), ("BAD".to_owned(), -1)];
            assert_eq!(state.kind, TypeKind::Enum(values.to_vec()));
            let big = if version == 2 { 20_000 } else { 1 << 30 };
            assert_eq!(
                types.size_of(&types.find(Tag::Struct, "big").unwrap()),
                Ok(big)
            );
            assert_eq!(types.offset_of("big", "last"), Some(big - 4));
            assert!(types.find(Tag::Struct, "vnode").is_none());
        });
    }
}

#[test]
fn expressions_work_on_ctf_as_on_dwarf() {
    let mut ctf = example(3);
    // Every object of the symbol table has a type, in its order; all are int here.
    ctf.objects = [INT.to_le_bytes(); 4096].concat();
    let kernel = kernel_with(&ctf.build());
    let session = kernel.session();
    let files = DebugFiles::of(&session).unwrap();
    let target = Target::new(&session, &files).unwrap();
    let text = |expression: &str| {
        let value = target.evaluate(expression).unwrap();
        target.print(&value, &Options::default()).to_string()
    };
    assert_eq!(text("hz + 1"), "101");
    assert_eq!(
        text("((struct proc *)&hz)->p_next == *(unsigned long *)&hz"),
        "1"
    );
    assert_eq!(text("sizeof(struct proc)"), "40");
    // Kernels carry it compressed.
    let plain = ctf.build();
    let mut packed = plain[..36].to_vec();
    packed[3] = 1;
    let mut encoder = flate2::write::ZlibEncoder::new(packed, flate2::Compression::default());
    encoder.write_all(&plain[36..]).unwrap();
    let packed = encoder.finish().unwrap();
    assert!(packed.len() < plain.len());
    with_types(&packed, |types| {
        assert_eq!(types.offset_of("proc", "p_comm"), Some(12))
    });
}

#[test]
fn arguments_without_padding_are_read_too() {
    let mut ctf = example(3);
    // Take the padding of the function's three arguments out: it stands before the last type.
    let last = ctf.types.len() - 12;
    ctf.types.drain(last - 4..last);
    with_types(&ctf.build(), |types| {
        assert_eq!(types.offset_of("proc", "p_pid"), Some(8));
    });
}

#[test]
fn damaged_ctf_is_no_types_or_an_error() {
    let whole = example(2).build();
    for (at, value) in [(0, 0), (2, 1), (2, 9), (3, 1)] {
        let mut section = whole.clone();
        section[at] = value;
        with_types(&section, |types| assert!(types.is_empty()));
    }
    for len in [0, 10, 36, 60, 100] {
        with_types(&whole[..len.min(whole.len())], |types| {
            // Whatever is left, nothing runs away.
            let _ = types.find(Tag::Struct, "proc");
        });
    }
    let mut selfish = Writer::new(2);
    selfish.head("loop", 10, 0, 1);
    with_types(&selfish.build(), |types| {
        let found = types.find(Tag::Plain, "loop").unwrap();
        assert!(matches!(
            types.resolve(&found),
            Err(TypeError::Endless { .. })
        ));
    });
    let mut holed = Writer::new(2);
    holed.head("", 3, 0, 99);
    holed.head("name", 10, 0, 99);
    with_types(&holed.build(), |types| {
        let found = types.find(Tag::Plain, "name").unwrap();
        assert!(matches!(
            types.size_of(&found),
            Err(TypeError::Damaged { .. })
        ));
    });
}
