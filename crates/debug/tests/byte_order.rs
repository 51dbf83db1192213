//! Expressions over the memory of big-endian machines.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

use vmcore::session::KernelChoice;
use vmcore::{OpenOptions, Session};
use vmcore_debug::expr::{Evaluator, Location, SymbolSource, Value};
use vmcore_debug::types::{TypeRef, Types};
use vmcore_format::addr::VirtAddr;
use vmcore_synth::Arch;
use vmcore_synth::minidump::Minidump;

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
