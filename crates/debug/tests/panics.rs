//! Why a kernel panicked, by the panic's own words and by what the processor refused: failed checks of a
//! compiled program, each with the variable that the message is about.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on shall stop"
)]

mod common;

use common::with_target;
use vmcore_debug::reason::{self, ReasonKind};
use vmcore_debug::report::signature;
use vmcore_testkit::interrupted;

/// What each is: the message, with `ADDRESS` of a symbol; the kind; the variable and the member; a part
/// of the first line.
const EXPECTED: [(&str, ReasonKind, &str, Option<&str>, &str); 6] = [
    (
        "Bad link elm {p_elms+24} prev->next != elm",
        ReasonKind::ListCorruption,
        "elm",
        None,
        "likely `elm` was removed before, in p_remove, ",
    ),
    (
        "refcount {p_cred+4} wraparound",
        ReasonKind::Refcount,
        "cr",
        Some("ref"),
        "`cr->ref` was released more often than it was held, in p_crfree, ",
    ),
    (
        "Duplicate free of {p_elms+48} from zone {p_head+0}(mbuf) slab {p_elms+0}(3)",
        ReasonKind::DoubleFree,
        "m",
        None,
        "`m` was free already, an item of zone mbuf, in p_freem, ",
    ),
    (
        "Assertion sb->sb_ccc == sum failed at uipc_sockbuf.c:12",
        ReasonKind::Assertion,
        "sb",
        Some("sb_ccc"),
        "`sb->sb_ccc` is 4096 in p_check, ",
    ),
    (
        "integer divide fault",
        ReasonKind::DivideByZero,
        "dp->sectorsize",
        None,
        "`dp->sectorsize` is 0 in p_sectors, ",
    ),
    (
        "page fault",
        ReasonKind::WildJump,
        "driver->probe",
        None,
        "`driver->probe` is 0x",
    ),
];

/// A message with the addresses of its symbols.
fn message(words: &str, address: impl Fn(&str) -> u64) -> String {
    let mut parts = words.split(['{', '}']);
    let mut text = parts.next().unwrap().to_owned();
    while let (Some(symbol), Some(after)) = (parts.next(), parts.next()) {
        let (name, offset) = symbol.split_once('+').unwrap();
        let at = address(name) + offset.parse::<u64>().unwrap();
        text += &format!("{at:#x}{after}");
    }
    text
}

#[test]
fn failed_checks_are_explained_whatever_compiled_them() {
    if !vmcore_testkit::has("gdb") {
        return;
    }
    let variants: [(&str, &[&str]); 6] = [
        ("gcc", &["-O0", "-gdwarf-5"]),
        ("gcc", &["-O2", "-gdwarf-4"]),
        ("gcc", &["-Os", "-gdwarf-5"]),
        ("clang", &["-O0", "-gdwarf-4"]),
        ("clang", &["-O2", "-gdwarf-5"]),
        ("clang", &["-Os", "-gdwarf-4"]),
    ];
    let mut signatures = [const { None }; EXPECTED.len()];
    for (compiler, flags) in variants {
        if !vmcore_testkit::has(compiler) {
            continue;
        }
        let Some(mut kernel) = interrupted::panics(compiler, flags, EXPECTED.len()) else {
            return;
        };
        for (number, (words, kind, variable, member, first)) in (0..).zip(EXPECTED) {
            let message = message(words, |name| kernel.address(name));
            interrupted::crashed_with(&mut kernel, number, &message);
            let reason = with_target(&kernel, |target| {
                let list = target.processes().unwrap();
                let mut threads = list.threads();
                let thread = threads.find(|thread| thread.crashed).unwrap();
                reason::of(target, &list, thread)
            });
            let said = format!("{compiler} {flags:?} {number} {message}: {reason:#?}");
            // What a register held that the call of panic does not keep is lost, and no address in the
            // message tells it.
            if reason.is_none() && kind == ReasonKind::Assertion && flags[0] != "-O0" {
                continue;
            }
            let reason = reason.unwrap_or_else(|| panic!("{said}"));
            assert_eq!(reason.kind, kind, "{said}");
            assert!(reason.headline.starts_with(first), "{said}");
            assert!(reason.headline.contains("panics.c:"), "{said}");
            assert_eq!(reason.variable.as_deref(), Some(variable), "{said}");
            assert_eq!(reason.member.as_deref(), member, "{said}");
            let place = &mut signatures[usize::try_from(number).unwrap()];
            let expected = place.get_or_insert_with(|| signature::v2_of(&reason));
            assert_eq!(&signature::v2_of(&reason), expected, "{said}");
        }
    }
}
