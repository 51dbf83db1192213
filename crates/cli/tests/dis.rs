//! Machine code of a compiled kernel: with lines and symbols, patched, and missing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use vmcore_testkit::TestKernel;
use vmcore_testkit::command::{Run, line};

fn crashed() -> TestKernel {
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    vmcore_testkit::kernel::crash(&mut kernel);
    kernel
}

fn ask(kernel: &TestKernel, words: &str) -> Run {
    line(kernel.dir.path(), &format!("dis vmcore.0 kernel {words}"))
}

#[test]
fn the_instruction_that_crashed_is_marked() {
    let kernel = crashed();
    kernel.write_dump();
    let text = ask(&kernel, "").expect(0).text();
    assert!(text.starts_with("leaf:\n"), "{text}");
    let leaf = kernel.address("leaf");
    let marked: Vec<&str> = text.lines().filter(|line| line.starts_with("=>")).collect();
    let [marked] = marked.as_slice() else {
        panic!("{text}");
    };
    assert!(marked.contains(&format!("{leaf:#x} +0x0")), "{marked}");
    assert!(marked.ends_with("pushq %rbp"), "{marked}");
    assert!(text.contains("stack.S:"), "{text}");
    assert!(text.contains("movq 0x18, %rax"), "{text}");
}

#[test]
fn calls_and_variables_are_named() {
    let kernel = crashed();
    kernel.write_dump();
    let text = ask(&kernel, "callee").expect(0).text();
    assert!(text.starts_with("callee:\n"), "{text}");
    assert!(text.contains("(deepest, inlined)"), "{text}");
    assert!(text.contains("  <hz>"), "{text}");
    let text = ask(&kernel, "caller").expect(0).text();
    assert!(text.contains("  <callee>"), "{text}");
    let json = ask(&kernel, "caller --json").expect(0).json();
    let list = json["instructions"].as_array().unwrap();
    let call = list.iter().find(|one| one["flow"] == "call").unwrap();
    assert_eq!(call["refers_to"]["symbol"], "callee");
    let some = format!("{:#x},+3", kernel.address("caller"));
    let json = ask(&kernel, &format!("{some} --json")).expect(0).json();
    let list = json["instructions"].as_array().unwrap().iter();
    let bytes = list.map(|one| one["bytes"].as_str().unwrap().split(' ').count());
    assert_eq!(bytes.sum::<usize>(), 3);
}

#[test]
fn code_that_differs_from_the_file_is_shown_with_it() {
    let mut kernel = crashed();
    let at = kernel.address("worker");
    kernel.write(at, &[0xcc]);
    kernel.write_dump();
    let text = ask(&kernel, "worker").expect(0).text();
    let lines: Vec<&str> = text.lines().collect();
    let patched = lines.iter().position(|line| line.contains("int3")).unwrap();
    assert_eq!(lines[patched + 1].trim(), "patched: in the file pushq %rbp");
    assert_eq!(text.matches("patched").count(), 1, "{text}");
}

#[test]
fn code_that_the_dump_lacks_comes_from_the_file() {
    let mut kernel = crashed();
    let page = kernel.address("callee") & !0xfff;
    let whole = {
        kernel.write_dump();
        ask(&kernel, "callee").expect(0).text()
    };
    kernel.pages.remove(&page);
    kernel.write_dump();
    assert_eq!(ask(&kernel, "callee").expect(0).text(), whole);
    let run = ask(&kernel, "0xffffffffc0000000,+16").expect(3);
    assert_eq!(
        run.text(),
        "-- 0xffffffffc0000000 is neither in the dump nor in the kernel file\n"
    );
}

#[test]
fn words_that_are_wrong_are_refused() {
    let kernel = crashed();
    kernel.write_dump();
    for (words, status) in [
        ("callee,4", 2),
        ("callee,+0", 2),
        ("callee,+2m", 2),
        ("nothing", 1),
    ] {
        let run = ask(&kernel, words).expect(status);
        assert!(run.stdout.is_empty(), "{run:?}");
    }
}
