//! Why a thread crashed: classic mistakes of a compiled program, each with the sentence that names the
//! variable, the member, the function and the line.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on shall stop"
)]

mod common;

use common::with_target;
use object::{Object as _, ObjectSection as _};
use vmcore::session::KernelChoice;
use vmcore::{OpenOptions, Session};
use vmcore_debug::reason::{self, Reason};
use vmcore_debug::report::signature;
use vmcore_debug::{DebugFiles, Target};
use vmcore_testkit::interrupted;

/// What each mistake is, as far as the code was compiled in the same way everywhere.
const EXPECTED: [(&str, &str); 9] = [
    ("ifp", "is NULL"),
    ("ro->ifp->vnet", "is NULL"),
    ("so->route", "is NULL"),
    ("ifp", "is NULL"),
    ("so", "is NULL"),
    ("ifp", "is 0xdeadc0dedeadc0de, what free(9) and UMA leave"),
    ("ifp", "holds the text \": error:\""),
    ("ifp", "is 0x123456789000, not a kernel address"),
    ("ifp", "is -12, not a pointer"),
];
const MEMBERS: [&str; 9] = [
    "flags",
    "counters[2]",
    "refs",
    "addrs[1].family",
    "rcv.used",
    "flags",
    "flags",
    "flags",
    "flags",
];

/// The mistake in an accessor that is always inlined.
const MERGED: usize = 4;

fn reasons(compiler: &str, flags: &[&str]) -> Option<Vec<Option<Reason>>> {
    let kernel = interrupted::faults(compiler, flags, EXPECTED.len())?;
    Some(with_target(&kernel, |target| {
        let list = target.processes().unwrap();
        let threads = list.threads();
        let threads = threads.filter(|one| one.tid >= interrupted::FIRST_TID.cast_signed());
        threads
            .map(|thread| reason::of(target, &list, thread))
            .collect()
    }))
}

/// The signatures of the mistakes; none if they cannot be made here.
fn check(compiler: &str, flags: &[&str]) -> Vec<String> {
    let tools = ["gdb", compiler];
    if tools.iter().any(|tool| !vmcore_testkit::has(tool)) {
        return Vec::new();
    }
    let Some(reasons) = reasons(compiler, flags) else {
        return Vec::new();
    };
    let rows = reasons.iter().zip(EXPECTED).zip(MEMBERS);
    for (number, ((reason, (variable, bad)), member)) in rows.enumerate() {
        let reason = reason
            .as_ref()
            .unwrap_or_else(|| panic!("{compiler} {flags:?} {number}: no reason"));
        let said = format!("{compiler} {flags:?} {number}: {reason:#?}");
        assert!(reason.headline.contains(bad), "{said}");
        assert_eq!(reason.variable.as_deref(), Some(variable), "{said}");
        assert_eq!(reason.member.as_deref(), Some(member), "{said}");
        assert!(reason.headline.contains("faults.c:"), "{said}");
    }
    let reasons = reasons.iter().flatten();
    reasons.map(signature::v2_of).collect()
}

/// Equal bugs have equal signatures, whatever compiled them and put what into what.
fn check_all(variants: &[(&str, &[&str])]) {
    let mut first: Option<Vec<String>> = None;
    for (compiler, flags) in variants {
        let mut signatures = check(compiler, flags);
        if signatures.is_empty() {
            continue;
        }
        // Its access is in an accessor of one line, whose instruction optimizers make one with that of
        // the caller: nothing in the code says any more whose it was.
        signatures.remove(MERGED);
        let expected = first.get_or_insert_with(|| signatures.clone());
        assert_eq!(&signatures, expected, "{compiler} {flags:?}");
    }
}

#[test]
fn mistakes_of_every_compiler_have_the_same_reasons_and_signatures() {
    check_all(&[
        ("gcc", &["-O0", "-gdwarf-5"]),
        ("clang", &["-O0", "-gdwarf-4"]),
        ("gcc", &["-O2", "-gdwarf-4"]),
        ("clang", &["-O2", "-gdwarf-5"]),
        ("gcc", &["-Os", "-gdwarf-5"]),
        ("clang", &["-Os", "-gdwarf-4"]),
    ]);
}

/// Whatever bytes of the debug information are wrong, variables and reasons are answered, and what is still
/// said of a crash names the register that was bad.
#[test]
fn damaged_debug_information_ends_no_answer() {
    if !vmcore_testkit::has("gdb") {
        return;
    }
    let Some(kernel) = interrupted::faults("gcc", &["-O2", "-gdwarf-5"], EXPECTED.len()) else {
        return;
    };
    let dump = kernel.write_dump();
    let whole = std::fs::read(&kernel.file).unwrap();
    let file = object::File::parse(&*whole).unwrap();
    let debug: Vec<(u64, u64)> = file
        .sections()
        .filter(|section| section.name().is_ok_and(|name| name.starts_with(".debug_")))
        .filter_map(|section| section.file_range())
        .collect();
    let damaged = kernel.dir.path().join("damaged");
    let mut random = 7_u64;
    let mut next = |below: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) % below
    };
    let mut said = 0;
    for _ in 0..40 {
        let mut bytes = whole.clone();
        for _ in 0..50 {
            let (start, len) = debug[usize::try_from(next(debug.len() as u64)).unwrap()];
            let at = usize::try_from(start + next(len.max(1))).unwrap();
            bytes[at] = u8::try_from(next(256)).unwrap();
        }
        std::fs::write(&damaged, bytes).unwrap();
        let choice = KernelChoice::Given(&damaged);
        let session = Session::open(&dump, choice, &OpenOptions::default()).unwrap();
        let files = DebugFiles::of(&session).unwrap();
        let target = Target::new(&session, &files).unwrap();
        let list = target.processes().unwrap();
        for thread in list.threads() {
            let frames = target.stack(thread).frames;
            for number in 0..frames.len() {
                let _ = target.shown_variables(&frames, number, &Default::default());
            }
            let Some(reason) = reason::of(&target, &list, thread) else {
                continue;
            };
            said += 1;
            let number = usize::try_from(thread.tid.cast_unsigned() - interrupted::FIRST_TID);
            let (_, bad) = EXPECTED[number.unwrap()];
            assert!(reason.headline.contains(bad), "{reason:#?}");
        }
    }
    assert!(said > 100, "{said}");
}
