//! Expressions over the memory of big-endian machines.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

use std::process::Command;
use vmcore::session::KernelChoice;
use vmcore::{OpenOptions, Session};
use vmcore_debug::expr::{Evaluator, Location, SymbolSource, Value};
use vmcore_debug::object_file::ObjectFile;
use vmcore_debug::types::{Tag, TypeRef, Types};
use vmcore_format::addr::VirtAddr;
use vmcore_synth::Arch;
use vmcore_synth::minidump::Minidump;

/// Bit fields as every version of DWARF describes them, on machines of both byte orders.
#[test]
fn bit_fields_are_where_the_compiler_put_them() {
    if ["clang", "ld.lld"]
        .iter()
        .any(|tool| !vmcore_testkit::has(tool))
    {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("bits.c");
    std::fs::write(
        &source,
        "struct bits { unsigned low : 3, mid : 7; signed sign : 5; unsigned long long wide : 40; } all;",
    )
    .unwrap();
    // The bits of a structure count from the end of the byte that is stored first.
    let expected = [
        ("low", 0, 3),
        ("mid", 3, 7),
        ("sign", 10, 5),
        ("wide", 15, 40),
    ];
    for target in ["powerpc64", "powerpc64le", "powerpc", "x86_64"] {
        for dwarf in ["-gdwarf-2", "-gdwarf-3", "-gdwarf-4", "-gdwarf-5"] {
            let object = folder.path().join("bits");
            let status = Command::new("clang")
                .args(["-nostdlib", "-static", "-fuse-ld=lld", "-Wl,-e,0"])
                .args([dwarf, "-gstrict-dwarf", "-o"])
                .arg(&object)
                .arg(&source)
                .arg(format!("--target={target}-unknown-freebsd13"))
                .status();
            assert!(status.unwrap().success(), "{target} {dwarf}");
            let file = ObjectFile::open(&object).unwrap();
            let types = Types::of(&[&file]);
            let bits = types.find(Tag::Struct, "bits").unwrap();
            for (name, bit_offset, len) in expected {
                let found = types.member(&bits, name).unwrap().unwrap();
                assert_eq!(
                    (found.bit_offset, found.bits),
                    (bit_offset, Some(len)),
                    "{target} {dwarf} {name}"
                );
            }
        }
    }
}

struct NoSymbols;

impl SymbolSource for NoSymbols {
    fn symbol(&self, _: &str) -> Option<VirtAddr> {
        None
    }
}

const DIRECT: u64 = 0xc000_0000_0000_0000;
const AT: VirtAddr = VirtAddr(DIRECT + 0x2_0000);

#[test]
fn numbers_and_bit_fields_are_read_in_the_byte_order_of_the_machine() {
    for (arch, int, short, field) in [
        (Arch::Powerpc64, 0x1234, 0, 0x23),
        (Arch::Powerpc64le, 0x3412_0000, 0, 0x41),
    ] {
        let mut page = vec![0; 4096];
        page[..8].copy_from_slice(&[0, 0, 0x12, 0x34, 0, 0, 0, 1]);
        let mut dump = Minidump::new(arch, 2);
        dump.dump_avail = vec![(0x1_0000, 0x4_0000)];
        dump.pages.insert(0x2_0000, page);
        dump.dmapbase = DIRECT;
        dump.dmapend = 0xc007_ffff_ffff_ffff;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vmcore.0");
        std::fs::write(&path, dump.build()).unwrap();
        let session =
            Session::open(&path, KernelChoice::Find(&[]), &OpenOptions::default()).unwrap();
        let evaluator = Evaluator {
            space: session.space().unwrap(),
            types: &Types::of(&[]),
            symbols: &NoSymbols,
            locals: &[],
        };
        let number = |text: &str| {
            let value = evaluator.evaluate(text).unwrap();
            evaluator.load(&value).unwrap()
        };
        assert_eq!(number("*(int *)0xc000000000020000"), int, "{arch:?}");
        assert_eq!(number("*(short *)0xc000000000020000"), short, "{arch:?}");
        let bits = Value {
            type_: TypeRef::Int {
                bytes: 4,
                signed: false,
            },
            location: Location::Bits {
                base: AT,
                bit_offset: 20,
                bits: 8,
            },
        };
        assert_eq!(evaluator.load(&bits).unwrap(), field, "{arch:?}");
    }
}
