//! Parameters and local variables of frames, with stock gdb as the witness: a program is interrupted in
//! many places, and in each every variable that gdb gives a value has that value here.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on shall stop"
)]

#[path = "../common/mod.rs"]
mod common;
mod foreign;

use common::{Open as _, with_target};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use vmcore::process;
use vmcore_debug::expr::NoValue;
use vmcore_debug::gdb::{self, Stub};
use vmcore_debug::show::{Content, Options, Shown};
use vmcore_debug::stack::NamedFrame;
use vmcore_debug::variables::{ShownValue, ShownVariable, Storage};
use vmcore_debug::{DebugFiles, Target};
use vmcore_testkit::TestKernel;
use vmcore_testkit::interrupted;

/// Values by thread, frame and name: `200003 1 v_pass pair.first`.
type Values = BTreeMap<String, String>;

const PLACES: usize = 200;
const OPTIMIZED_OUT: &str = "optimized out";

/// All values of all frames that gdb shows, a line each, as a function in gdb's Python.
const VALUES: &str = r#"
import gdb
def flat(name, value, out):
    if value.is_optimized_out:
        out.append((name, 'optimized out'))
        return
    kind = value.type.strip_typedefs()
    try:
        if kind.code in (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION):
            for field in kind.fields():
                flat(name + '.' + field.name, value[field], out)
        elif kind.code == gdb.TYPE_CODE_ARRAY:
            low, high = kind.range()
            for index in range(low, high + 1):
                flat('%s[%d]' % (name, index), value[index], out)
        elif kind.code == gdb.TYPE_CODE_PTR and 'synthetic' in str(value):
            out.append((name, 'synthetic pointer'))
            flat('*' + name, value.dereference(), out)
        else:
            out.append((name, str(int(value))))
    except gdb.error as error:
        out.append((name, 'error: %s' % error))
def values_of_frames():
    frame = gdb.newest_frame()
    number = 0
    while frame is not None:
        name = frame.name() or ''
        if name.startswith('v_'):
            frame.select()
            seen = set()
            block = frame.block()
            while block is not None:
                for symbol in block:
                    if not (symbol.is_argument or symbol.is_variable) or symbol.name in seen:
                        continue
                    seen.add(symbol.name)
                    out = []
                    try:
                        flat(symbol.name, symbol.value(frame), out)
                    except gdb.error as error:
                        out.append((symbol.name, 'error: %s' % error))
                    for path, value in out:
                        yield '%d %s %s = %s' % (number, name, path, value)
                if block.function is not None:
                    break
                block = block.superblock
            number += 1
        frame = frame.older()
"#;

/// The same for every thread.
const THREADS: &str = r#"
for thread in sorted(gdb.selected_inferior().threads(), key=lambda one: one.ptid[1]):
    thread.switch()
    for line in values_of_frames():
        print('@ %d %s' % (thread.ptid[1], line))
"#;

/// What gdb says through the stub.
fn witness(kernel: &TestKernel) -> Values {
    let session = kernel.session();
    let files = DebugFiles::of(&session).unwrap();
    let target = Target::new(&session, &files).unwrap();
    let list = process::list(&session).unwrap();
    let mut stub = Stub::new(&target, &list);
    let frames = kernel.dir.path().join("frames");
    std::fs::write(&frames, gdb::frames::for_gdb(&target).unwrap()).unwrap();
    let script = kernel.dir.path().join("witness.py");
    std::fs::write(&script, format!("{VALUES}{THREADS}")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let remote = format!("target remote {}", listener.local_addr().unwrap());
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch"]);
    for command in [
        "set confirm off",
        "set pagination off",
        "set osabi none",
        "set print entry-values no",
        &format!("add-symbol-file {} -o 0", frames.display()),
        &format!("file {}", kernel.file.display()),
        &remote,
        &format!("source {}", script.display()),
        "detach",
    ] {
        gdb.args(["-ex", command]);
    }
    let started = gdb
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("gdb");
    let session = std::thread::spawn(move || started.wait_with_output().unwrap());
    let (stream, _) = listener.accept().unwrap();
    gdb::serve(&mut stub, &stream, &stream).unwrap();
    let output = session.join().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = said.lines().filter_map(|line| line.strip_prefix("@ "));
    let values: Values = lines
        .map(|line| line.split_once(" = ").unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let problems = String::from_utf8_lossy(&output.stderr);
    assert!(!values.is_empty(), "{said}\n{problems}");
    values
}

/// What is found here.
fn found(kernel: &TestKernel) -> Values {
    with_target(kernel, |target| {
        let mut values = Values::new();
        let list = target.processes().unwrap();
        let threads = list.threads();
        for thread in threads.filter(|one| one.tid >= interrupted::FIRST_TID.cast_signed()) {
            let frames = target.stack(thread).frames;
            let name = thread.tid.to_string();
            found_in_stack(target, &name, &frames, &mut values);
        }
        values
    })
}

/// What is found in the frames of one stack.
fn found_in_stack(target: &Target<'_>, name: &str, frames: &[NamedFrame], values: &mut Values) {
    let options = Options {
        elements: 100,
        ..Options::default()
    };
    let mut number = 0;
    for (position, frame) in frames.iter().enumerate() {
        let lists = target.shown_variables(frames, position, &options);
        for (level, (place, list)) in frame.places.iter().zip(&lists).enumerate() {
            if !place.function.starts_with("v_") {
                continue;
            }
            let before = format!("{name} {number} {}", place.function);
            for variable in visible(list) {
                flatten(&format!("{before} {}", variable.name), variable, values);
                if let ShownValue::Missing {
                    why: NoValue::Synthetic,
                    ..
                } = variable.value
                {
                    let pointed = format!("*{}", variable.name);
                    if let Ok(value) = target.evaluate_in(&pointed, frames, position, level) {
                        let shown = target.print(&value, &options);
                        flatten_shown(&format!("{before} {pointed}"), &shown, values);
                    }
                }
            }
            number += 1;
        }
    }
}

/// The variables that no deeper one hides.
fn visible(list: &[ShownVariable]) -> impl Iterator<Item = &ShownVariable> {
    list.iter().enumerate().filter_map(|(position, variable)| {
        let mut rest = list.get(position + 1..).unwrap_or_default().iter();
        let hidden = rest.any(|other| other.name == variable.name);
        (!hidden).then_some(variable)
    })
}

fn flatten(name: &str, variable: &ShownVariable, values: &mut Values) {
    match &variable.value {
        ShownValue::Value(shown) => flatten_shown(name, shown, values),
        ShownValue::Missing { why, .. } => {
            values.insert(name.to_owned(), why.to_string());
        }
    }
}

fn flatten_shown(name: &str, shown: &Shown, values: &mut Values) {
    let value = match &shown.content {
        Content::Number(number) => number.to_string(),
        Content::Address(address) => address.0.to_string(),
        Content::Enum { number, .. } => number.to_string(),
        Content::Pointer { to, .. } => to.0.to_string(),
        Content::Unreadable(why) => why.clone(),
        Content::Array { elements, .. } => {
            for (index, element) in elements.iter().enumerate() {
                flatten_shown(&format!("{name}[{index}]"), element, values);
            }
            return;
        }
        Content::Struct(members) => {
            for (member, value) in members {
                flatten_shown(&format!("{name}.{member}"), value, values);
            }
            return;
        }
        // Bytes of a string are compared where they are numbers.
        Content::String(_) => return,
        other => panic!("{name}: {other:?}"),
    };
    values.insert(name.to_owned(), value);
}

/// How many values gdb has, how many it says to be optimized out, and how many of those have one here;
/// and how many gdb reads from registers that a call has changed since.
#[derive(Debug)]
struct Counts {
    same: usize,
    optimized_out: usize,
    proven: usize,
    overwritten: usize,
    /// Of the same ones, those that a pointer without a value of its own points to.
    pointed: usize,
}

fn compare(compiler: &str, flags: &[&str]) {
    let tools = ["gdb", compiler];
    if tools.iter().any(|tool| !vmcore_testkit::has(tool)) {
        return;
    }
    let Some(kernel) = interrupted::kernel(compiler, flags, PLACES) else {
        return;
    };
    let counts = compare_values(&witness(&kernel), &found(&kernel));
    assert!(counts.same > 2500, "{counts:?}");
    // gcc ends a location before the call that changes its register, clang after it.
    let most = if compiler == "gcc" { 0 } else { 150 };
    assert!(counts.overwritten <= most, "{counts:?}");
    let keeps_values_alone = compiler == "gcc" && !flags.contains(&"-O0");
    assert_eq!(counts.pointed > 0, keeps_values_alone, "{counts:?}");
}

/// Every value that gdb has is the same here, and none that it does not have is here.
fn compare_values(witness: &Values, found: &Values) -> Counts {
    let mut counts = Counts {
        same: 0,
        optimized_out: 0,
        proven: 0,
        overwritten: 0,
        pointed: 0,
    };
    let mut wrong = Vec::new();
    for (name, value) in witness {
        let here = found.get(name).map_or("absent", String::as_str);
        if value == OPTIMIZED_OUT {
            counts.optimized_out += 1;
            counts.proven += usize::from(here.parse::<i128>().is_ok());
        } else if same(value, here) {
            counts.same += 1;
            counts.pointed += usize::from(name.contains(" *"));
        } else if here.ends_with("which is lost in this frame") {
            counts.overwritten += 1;
        } else if value.starts_with("error") && here.starts_with("unknown location") {
            // clang's typed arithmetic on values of other types, which gdb refuses as well.
        } else if !name.contains("bytes[") {
            wrong.push(format!("{name}: gdb {value}, here {here}"));
        }
    }
    let all = wrong.len();
    wrong.truncate(40);
    let wrong = wrong.join("\n");
    assert!(wrong.is_empty(), "{all} of {}\n{wrong}", witness.len());
    assert_eq!(counts.proven, 0, "{counts:?}");
    counts
}

/// Pointers have no sign here, and one in gdb's numbers.
fn same(gdb: &str, here: &str) -> bool {
    let numbers = (gdb.parse::<i128>(), here.parse::<i128>());
    match numbers {
        (Ok(gdb), Ok(here)) => gdb == here || gdb == here - (1 << 64),
        _ => gdb == here,
    }
}

#[test]
fn code_of_gcc_without_optimization() {
    compare("gcc", &["-O0", "-gdwarf-4"]);
}

#[test]
fn code_of_gcc_optimized() {
    compare("gcc", &["-O2", "-gdwarf-5"]);
}

#[test]
fn code_of_gcc_optimized_for_size() {
    compare("gcc", &["-Os", "-gdwarf-4"]);
}

#[test]
fn code_of_clang_without_optimization() {
    compare("clang", &["-O0", "-gdwarf-5"]);
}

#[test]
fn code_of_clang_optimized() {
    compare("clang", &["-O2", "-gdwarf-4"]);
}

#[test]
fn code_of_clang_optimized_for_size() {
    compare("clang", &["-Os", "-gdwarf-5"]);
}

/// Parameters of frames that have moved on: what was passed is known from the call.
#[test]
fn values_at_entry_are_solved_through_the_call() {
    if !vmcore_testkit::has("gdb") {
        return;
    }
    let Some(kernel) = interrupted::kernel("gcc", &["-O2", "-gdwarf-5"], 60) else {
        return;
    };
    let from_caller = with_target(&kernel, |target| {
        let list = target.processes().unwrap();
        let threads = list.threads();
        let mut count = 0;
        for thread in threads {
            let frames = target.stack(thread).frames;
            let lists = (0..frames.len()).flat_map(|number| target.variables(&frames, number));
            let entries = lists
                .flatten()
                .filter(|variable| variable.storage == Some(Storage::EntryValue));
            count += entries.count();
        }
        count
    });
    assert!(from_caller > 50, "{from_caller}");
}
