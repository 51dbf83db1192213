//! The example does what it says; the debugger that it uses is shared between threads.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

use vmcore::session::KernelChoice;
use vmcore_debug::debugger::ThreadError;
use vmcore_debug::show::Options;
use vmcore_debug::{Debugger, Target};

#[allow(dead_code, unreachable_pub, reason = "its `main` is for people")]
#[path = "../examples/backtrace.rs"]
mod backtrace;

#[test]
fn the_backtrace_of_the_thread_that_crashed() {
    let mut kernel = vmcore_testkit::TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    vmcore_testkit::kernel::crash(&mut kernel);
    let text = backtrace::backtrace(&kernel.write_dump(), &kernel.file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("#0   0x") && lines[0].contains(" in doadump at "),
        "{text}"
    );
}

#[test]
fn a_debugger_answers_several_threads_and_outlives_its_first_owner() {
    let mut kernel = vmcore_testkit::TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    vmcore_testkit::kernel::crash(&mut kernel);
    let choice = KernelChoice::Given(&kernel.file);
    let debugger = Debugger::open(&kernel.write_dump(), choice).unwrap();
    let tid = debugger.thread(None).unwrap().tid;
    let ask = |debugger: Debugger| {
        std::thread::spawn(move || debugger.backtrace(Some(tid)).unwrap().to_string())
    };
    let asked = [ask(debugger.clone()), ask(debugger.clone())];
    drop(debugger.clone());
    let expected = debugger.backtrace(None).unwrap().to_string();
    drop(debugger);
    for answer in asked {
        assert_eq!(answer.join().unwrap(), expected);
    }
    let debugger = Debugger::open(&kernel.write_dump(), choice).unwrap();
    let error = debugger.backtrace(Some(-7)).unwrap_err();
    assert!(matches!(error, ThreadError::NoThread(-7)), "{error}");
    let shown = |target: &Target<'_>| {
        let hz = target.evaluate("hz").unwrap();
        target.print(&hz, &Options::default()).to_string()
    };
    assert_eq!(debugger.with(shown), "100");
}
