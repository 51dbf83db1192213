//! The example does what it says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

#[allow(dead_code, unreachable_pub, reason = "its `main` is for people")]
#[path = "../examples/backtrace.rs"]
mod backtrace;

#[test]
fn the_backtrace_of_the_thread_that_crashed() {
    let mut kernel = vmcore_testkit::TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    vmcore_testkit::kernel::crash(&mut kernel);
    let text = backtrace::backtrace(&kernel.write_dump(), &kernel.file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "thread 100077");
    assert!(
        lines[1].starts_with("#0   0x") && lines[1].ends_with(" doadump"),
        "{text}"
    );
}
