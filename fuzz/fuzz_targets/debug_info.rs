//! Debug information of odd shapes. The input is a program that writes it: a few bytes make deep nests,
//! long repetitions, shared long names, many abbreviations and rows, and sections that expand a
//! thousandfold. Reading them takes no more memory than the length of the file allows.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::io::Write as _;
use vmcore::format::addr::VirtAddr;
use vmcore::format::arch::Arch;
use vmcore_debug::lines::Lines;
use vmcore_debug::object_file::ObjectFile;
use vmcore_debug::types::{Tag, Types};
use vmcore_debug::unwind::CallFrames;
use vmcore_fuzz::input::Input;
use vmcore_fuzz::limit;

use vmcore_testkit::dwarf::{Abbreviations, elf, line_program, uleb, unit};

const TEXT: u64 = 0xffff_ffff_8020_0000;
/// The most bytes of a section, and what reading any file may cost for each of its first bytes.
const MOST: usize = 1 << 20;
const FLOOR: usize = 4 << 20;
const SHF_COMPRESSED: u64 = 0x800;
/// Names that are asked for.
const NAMES: [&str; 4] = ["proc", "thread", "a::b::Inner", "Option<u8>"];
/// Types and their parts, functions, inlined ones, variables, namespaces, variants.
const TAGS: [u64; 16] = [
    0x13, 0x17, 0x04, 0x16, 0x24, 0x0f, 0x01, 0x21, 0x0d, 0x28, 0x2e, 0x1d, 0x34, 0x39, 0x33, 0x19,
];
/// Name, size, member's place, type, bounds, ranges, origin, line, sibling, declaration, signature.
const ATTRIBUTES: [u64; 16] = [
    0x03, 0x0b, 0x38, 0x49, 0x2f, 0x37, 0x11, 0x12, 0x31, 0x47, 0x10, 0x01, 0x3c, 0x69, 0x16, 0x02,
];
const FORMS: [u64; 16] = [
    0x0b, 0x05, 0x06, 0x07, 0x08, 0x0e, 0x13, 0x18, 0x17, 0x19, 0x0f, 0x0d, 0x0a, 0x09, 0x16, 0x20,
];

fuzz_target!(|data: &[u8]| {
    let bytes = write(Input(data));
    limit::memory(FLOOR + bytes.len(), || {
        let file = ObjectFile::from_bytes(bytes, Arch::Amd64);
        let types = Types::of(&[&file]);
        for name in NAMES {
            for tag in [Tag::Plain, Tag::Struct, Tag::Union, Tag::Enum] {
                let Some(found) = types.find(tag, name) else {
                    continue;
                };
                let _ = (types.name_of(&found), types.size_of(&found));
                let _ = types.member(&found, "p_list");
            }
            let _ = (types.variable(name, None), types.enumerator(name));
        }
        let lines = Lines::of(&file);
        for address in [TEXT, TEXT + 5, TEXT + 4095] {
            assert!(lines.at(VirtAddr(address)).len() <= 1000);
        }
        let _ = CallFrames::new(&file).is_empty();
    });
});

/// How often something is repeated: once as often as not, seldom very often.
fn times(input: &mut Input<'_>) -> usize {
    1 << (input.byte() % 32).saturating_sub(14)
}

/// Carries the program out.
fn write(mut input: Input<'_>) -> Vec<u8> {
    let is_packed = input.byte() & 1 == 1;
    let mut abbreviations = Abbreviations::default();
    let mut entries = abbreviations.add(0x11, true, &[(0x10, 0x17), (0x11, 0x01), (0x12, 0x07)]);
    entries.extend([vec![0; 4], TEXT.to_le_bytes().to_vec(), vec![0, 16]].concat());
    entries.extend([0; 6]);
    let mut kinds: Vec<(Vec<u8>, Vec<u64>)> = Vec::new();
    let (mut names, mut rows) = (b"proc\0".to_vec(), Vec::new());
    while !input.0.is_empty() && entries.len() < MOST {
        match input.byte() % 8 {
            0 => {
                let head = input.byte();
                let attributes: Vec<(u64, u64)> = (0..input.byte() % 5)
                    .map(|_| {
                        let which = input.byte();
                        (
                            ATTRIBUTES[usize::from(which >> 4)],
                            FORMS[usize::from(which & 15)],
                        )
                    })
                    .collect();
                let tag = TAGS[usize::from(head & 15)];
                for _ in 0..times(&mut input).min(4096) {
                    let code = abbreviations.add(tag, head & 16 != 0, &attributes);
                    let forms = attributes.iter().map(|(_, form)| *form).collect();
                    kinds.push((code, forms));
                }
            }
            1..=4 => {
                let which = usize::from(input.byte()) % kinds.len().max(1);
                let Some((code, forms)) = kinds.get(which) else {
                    continue;
                };
                let mut entry = code.clone();
                for form in forms {
                    entry.extend(value(&mut input, *form, entries.len(), names.len()));
                }
                let most = (MOST - entries.len()).div_ceil(entry.len());
                entries.extend(entry.repeat(times(&mut input).min(most)));
            }
            5 => entries.extend(vec![0; times(&mut input)]),
            6 => rows.extend(vec![input.byte(); times(&mut input)]),
            _ => {
                let name = NAMES[usize::from(input.byte()) % NAMES.len()];
                names.extend(name.repeat(times(&mut input).min(1 << 16)).bytes());
                names.push(0);
            }
        }
    }
    rows.truncate(MOST);
    names.truncate(MOST);
    names.push(0);
    let info = unit(4, 0, &entries);
    let (flags, info) = match is_packed {
        true => (SHF_COMPRESSED, packed(&info)),
        false => (0, info),
    };
    elf(&[
        (".debug_info", flags, &info),
        (".debug_abbrev", 0, &abbreviations.table()),
        (".debug_str", 0, &names),
        (".debug_line", 0, &line_program(TEXT, &rows)),
    ])
}

/// An attribute of a form.
fn value(input: &mut Input<'_>, form: u64, entries: usize, names: usize) -> Vec<u8> {
    let below = |number: u32, end: usize| (number as usize % (end + 16)) as u32;
    match form {
        0x0b => vec![input.byte()],
        0x05 => input.array::<2>().to_vec(),
        0x06 | 0x17 => input.array::<4>().to_vec(),
        0x07 | 0x20 => match input.byte() & 1 {
            0 => (TEXT + u64::from(input.byte())).to_le_bytes().to_vec(),
            _ => input.array::<8>().to_vec(),
        },
        0x08 => {
            let name = NAMES[usize::from(input.byte()) % NAMES.len()];
            [name.as_bytes(), b"\0"].concat()
        }
        0x0e => below(input.u32(), names).to_le_bytes().to_vec(),
        0x13 => below(input.u32(), entries).to_le_bytes().to_vec(),
        0x18 => {
            let len = input.byte() % 16;
            let body = (0..len).map(|_| input.byte());
            std::iter::once(len).chain(body).collect()
        }
        0x19 => Vec::new(),
        0x0a => vec![1, input.byte()],
        // A block may claim any length.
        0x09 => uleb(input.u64() >> (input.byte() % 64)),
        // The form itself is in the entry.
        0x16 => [uleb(FORMS[usize::from(input.byte() & 15)]), vec![0]].concat(),
        _ => uleb(u64::from(input.byte())),
    }
}

/// A compressed section.
fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend([1_u32.to_le_bytes(), [0; 4]].concat());
    header.extend([(bytes.len() as u64).to_le_bytes(), 1_u64.to_le_bytes()].concat());
    let mut encoder = flate2::write::ZlibEncoder::new(header, flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}
