//! The commands that need debug information, on a kernel that the C compiler made.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use vmcore::session::KernelChoice;
use vmcore::{OpenOptions, Session};
use vmcore_debug::{DebugFiles, Target};
use vmcore_testkit::TestKernel;
use vmcore_testkit::command::{Run, command, finish, line};

/// A kernel whose shell panicked while init waited for it.
fn crashed() -> TestKernel {
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    vmcore_testkit::kernel::crash(&mut kernel);
    kernel.write_dump();
    kernel
}

fn ask(kernel: &TestKernel, words: &str) -> Run {
    line(kernel.dir.path(), words)
}

#[test]
fn an_elf_core_has_the_same_stacks_as_the_dump_that_it_was_made_of() {
    let kernel = crashed();
    let words = "convert vmcore.0 core.elf -k kernel --to elf";
    ask(&kernel, words).expect(0);
    let stacks = |core: &str| {
        // Two of its threads never saved registers.
        let run = ask(&kernel, &format!("bt {core} kernel --all --json"));
        run.expect(3).json()["threads"].clone()
    };
    let (dump, elf) = (stacks("vmcore.0"), stacks("core.elf"));
    assert_eq!(elf, dump);
    let frames = elf[0]["frames"].as_array().unwrap();
    let trapped = frames.iter().find(|frame| frame["how"] == "trap_frame");
    assert!(trapped.is_some(), "{elf}");
}

#[test]
fn bt_goes_through_the_trap_with_lines_of_source() {
    let kernel = crashed();
    let text = ask(&kernel, "bt vmcore.0 kernel").expect(0).text();
    assert!(
        text.starts_with("thread 100077, process 77 (sh/worker), waits: *flow, crashed\n"),
        "{text}"
    );
    let functions: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("  #"))
        .map(|line| line.split_whitespace().nth(2).unwrap())
        .map(|name| name.split('+').next().unwrap())
        .collect();
    let expected = [
        "doadump",
        "panic",
        "trap",
        "calltrap",
        "leaf",
        "worker",
        "fork_exit",
        "fork_trampoline",
    ];
    assert_eq!(functions, expected, "{text}");
    assert!(text.contains("stack.S:"), "{text}");
    let trap = text.lines().find(|line| line.contains(" leaf")).unwrap();
    assert!(trap.ends_with(" trap"), "{trap}");

    let full = ask(&kernel, "bt vmcore.0 kernel --full").expect(0).text();
    assert!(
        full.contains("trap frame at 0x") && full.contains("sp 0x"),
        "{full}"
    );
    let regs = ask(&kernel, "bt vmcore.0 kernel --regs").expect(0).text();
    assert!(regs.contains("  rbx   0x0000000000002222"), "{regs}");

    let json = ask(&kernel, "bt vmcore.0 kernel --json").expect(0).json();
    assert_eq!(json["threads"][0]["wait"], "*flow");
    assert_eq!(json["threads"][0]["frames"][4]["how"], "trap_frame");
    assert_eq!(json["threads"][0]["frames"][3]["trap"]["number"], "0xc");
}

#[test]
fn equal_stacks_are_told_once_with_what_they_wait_for() {
    let kernel = crashed();
    let text = ask(&kernel, "bt vmcore.0 kernel --unique").expect(3).text();
    assert!(text.contains("waits: *flow\n"), "{text}");
    let json = ask(&kernel, "bt vmcore.0 kernel --unique --json").json();
    let tids: usize = json["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| group["tids"].as_array().unwrap().len())
        .sum();
    assert_eq!(tids, 3);
    ask(&kernel, "bt vmcore.0 kernel 1").expect(1);
    ask(&kernel, "bt vmcore.0 kernel --unique --full").expect(2);
}

#[test]
fn print_shows_structures_members_and_lists() {
    let kernel = crashed();
    let print = |words: &str| ask(&kernel, &format!("print vmcore.0 kernel {words}"));
    assert_eq!(print("hz").expect(0).text(), "(int) 100\n");
    assert_eq!(
        print("allproc.lh_first->p_comm").expect(0).text(),
        "(char [20]) \"sh\"\n"
    );
    let list = print("allproc --list p_list.le_next --depth 1")
        .expect(0)
        .text();
    assert_eq!(list.matches("p_comm").count(), 3, "{list}");
    assert!(
        print("loop_a --list next")
            .expect(0)
            .text()
            .contains("value")
    );
    print("broken --list next").expect(3);
    let wrong = print("nothing").expect(1);
    assert!(wrong.stderr.contains("there is no"), "{wrong:?}");
    assert!(wrong.stderr.contains("\n  try: "), "{wrong:?}");
    let json = print("hz --json").expect(0).json();
    assert_eq!(json["schema"], "vmcore.print/1");
    assert_eq!(json["types"], "DWARF");
    assert_eq!(json["values"][0]["type"], "int");
}

#[test]
fn a_kernel_without_types_names_the_file_that_has_them() {
    let kernel = crashed();
    let stripped = Command::new("strip").arg("-g").arg(&kernel.file).status();
    assert!(stripped.unwrap().success());
    for words in ["print vmcore.0 kernel hz", "locks vmcore.0 kernel"] {
        let run = ask(&kernel, words).expect(1);
        assert!(run.stderr.contains("kernel has no types"), "{run:?}");
        assert!(run.stderr.contains("-k DIR/kernel.debug"), "{run:?}");
    }
    let text = ask(&kernel, "ps vmcore.0 kernel").expect(0).text();
    assert!(
        text.contains("? needs the kernel's types (-k kernel.debug)"),
        "{text}"
    );
}

#[test]
fn ps_has_what_the_types_tell() {
    let kernel = crashed();
    let text = ask(&kernel, "ps vmcore.0 kernel").expect(0).text();
    let words = |tid: &str| -> Vec<String> {
        let line = text
            .lines()
            .skip(2)
            .find(|line| line.contains(tid))
            .unwrap();
        line.split_whitespace().map(str::to_owned).collect()
    };
    let turnstile = format!("{:#018x}", kernel.address("flow_ts"));
    let tree = format!("{:#018x}", kernel.address("tree_sx"));
    assert_eq!(
        words("100077"),
        [
            "*",
            "77",
            "1",
            "1001",
            "100077",
            "-",
            "L",
            "*flow",
            &turnstile,
            "sh/worker"
        ]
    );
    assert_eq!(
        words("100002"),
        ["1", "0", "0", "100002", "-", "D", "tree", &tree, "init"]
    );
    let json = ask(&kernel, "ps vmcore.0 kernel --json").expect(0).json();
    let init = &json["processes"][1];
    assert_eq!((&init["ppid"], &init["uid"]), (&0.into(), &0.into()));
    assert_eq!(init["threads"][0]["state"], "D");
    assert_eq!(init["threads"][0]["wait_channel"], tree);
}

#[test]
fn locks_name_the_deadlock() {
    let kernel = crashed();
    let text = ask(&kernel, "locks vmcore.0 kernel").expect(0).text();
    assert!(
        text.starts_with(
            "DEADLOCK 100002 (init) -> 100077 (sh/worker, crashed) -> 100002 (init)\n"
        ),
        "{text}"
    );
    assert!(text.contains("sleep mutex \"flow\" at 0x"), "{text}");
    assert!(
        text.ends_with("2 threads wait for 2 locks, 1 deadlock\n"),
        "{text}"
    );
    let json = ask(&kernel, "locks vmcore.0 kernel --json")
        .expect(0)
        .json();
    assert_eq!(json["cycles"][0], serde_json::json!([100_002, 100_077]));
}

#[test]
fn whatis_explains_an_address() {
    let kernel = crashed();
    let text = ask(&kernel, "whatis vmcore.0 kernel shell")
        .expect(0)
        .text();
    assert!(text.contains("  symbol shell\n"), "{text}");
    assert!(
        text.contains("  struct proc of 77 (sh)+0x0, in p_list\n"),
        "{text}"
    );
    let stack = kernel.address("stacks") + 16384 + 16;
    let words = format!("whatis vmcore.0 kernel {stack:#x} --json");
    let json = ask(&kernel, &words).expect(0).json();
    assert_eq!(json["facts"][1]["what"], "stack");
    assert_eq!(json["facts"][1]["tid"], 100_002);
    ask(&kernel, "whatis vmcore.0 kernel no_such_symbol").expect(1);
    // Nothing names this page; nor do the kernel's zones.
    let mut kernel = crashed();
    kernel.write(0xffff_ffff_9000_0000, &[1]);
    kernel.write_dump();
    let words = "whatis vmcore.0 kernel 0xffffffff90000000";
    let text = ask(&kernel, words).expect(0).text();
    assert_eq!(text.lines().count(), 2, "{text}");
    let status = Command::new("objcopy")
        .arg("--strip-debug")
        .arg(&kernel.file)
        .status();
    assert!(status.unwrap().success());
    let text = ask(&kernel, words).expect(0).text();
    assert!(
        text.contains("unknown: its zone: the kernel file has no types"),
        "{text}"
    );
}

#[test]
fn redact_takes_out_the_pages_of_a_zone() {
    let mut kernel = crashed();
    let lists = {
        let choice = KernelChoice::Given(&kernel.file);
        let options = OpenOptions::default();
        let session = Session::open(&kernel.write_dump(), choice, &options).unwrap();
        let files = DebugFiles::of(&session).unwrap();
        let target = Target::new(&session, &files).unwrap();
        target.types().offset_of("uma_keg", "uk_domain").unwrap()
    };
    // The far end of a stack, which stays, is a slab of mbufs: its header stands at its end.
    let page = (kernel.address("stacks") + 16384).next_multiple_of(4096);
    let (head, slab) = (kernel.address("mbuf_keg") + lists, page + 4032);
    kernel.write_words(head, &[slab]);
    kernel.write_words(slab, &[0, head, 15, 0]);
    kernel.write_dump();
    let redact = |options: &str| {
        let words = format!("redact vmcore.0 kernel small --dry-run --json {options}");
        let run = ask(&kernel, &words).expect(0);
        (run.json()["manifest"].clone(), run.stderr)
    };
    let (all, _) = redact("");
    let (less, said) = redact("--drop zone:mbuf,zone:VNODE");
    assert_eq!(less["dropped_by_address"], 1, "{said}");
    assert_eq!(
        less["kept_pages"].as_u64().unwrap() + 1,
        all["kept_pages"].as_u64().unwrap()
    );
    assert!(said.contains("zone mbuf: 1 page of those"), "{said}");
    assert!(said.contains("zone VNODE: 0 pages of those"), "{said}");
}

#[test]
fn mods_says_which_files_are_here() {
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    kernel.write_dump();
    let text = ask(&kernel, "mods vmcore.0 kernel").expect(0).text();
    assert!(
        text.contains("flow.ko") && text.contains("no file"),
        "{text}"
    );
    assert!(text.ends_with("1 module, 0 with a file\n"), "{text}");
    let json = ask(&kernel, "mods vmcore.0 kernel --json").expect(0).json();
    assert_eq!(json["modules"][0]["status"], "missing");
    assert_eq!(json["modules"][0]["path"], "/boot/modules/flow.ko");
    // The list leads into nowhere.
    let head = kernel.address("linker_files");
    kernel.write_words(head, &[0xffff_ffff_c000_0000]);
    kernel.write_dump();
    let run = ask(&kernel, "mods vmcore.0 kernel").expect(3);
    assert!(run.stderr.contains("the list breaks off"), "{run:?}");
}

#[test]
fn symbols_of_modules_are_known_by_name_and_address() {
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    let file = kernel.dir.path().join("flow.ko");
    let text = vmcore_testkit::modules::load(&mut kernel, &file);
    kernel.write_dump();
    let check = |options: &str| {
        let ask = |words: String| ask(&kernel, &format!("{words} {options}")).expect(0).text();
        let by_address = ask(format!("sym vmcore.0 kernel {:#x}", text + 5));
        assert!(by_address.contains(" = flow_lookup+0x5 ("), "{by_address}");
        assert!(by_address.ends_with(", in flow.ko\n"), "{by_address}");
        let by_name = ask("sym vmcore.0 kernel flow_lookup".to_owned());
        assert!(
            by_name.contains(&format!("flow_lookup = {text:#x} (")),
            "{by_name}"
        );
        let what = ask("whatis vmcore.0 kernel flow_lookup+5".to_owned());
        assert!(what.contains("symbol flow_lookup+0x5"), "{what}");
    };
    check("");
    // As a small system has it.
    let packed = Command::new("gzip").arg(&file).status();
    assert!(packed.unwrap().success());
    check("");
    let mods = ask(&kernel, "mods vmcore.0 kernel --json").expect(0).json();
    assert!(
        mods["modules"][0]["file"]
            .as_str()
            .unwrap()
            .ends_with("/flow.ko.gz")
    );
    // Below the kernel's directory, and elsewhere.
    let folder = kernel.dir.path().join("modules");
    std::fs::create_dir(&folder).unwrap();
    std::fs::rename(file.with_extension("ko.gz"), folder.join("flow.ko.gz")).unwrap();
    check("");
    std::fs::rename(&folder, kernel.dir.path().join("elsewhere")).unwrap();
    check("--modules elsewhere");
    let run = ask(&kernel, &format!("sym vmcore.0 kernel {:#x}", text + 5)).expect(0);
    assert!(run.text().contains(" = flow.ko+0x"), "{run:?}");
}

#[test]
fn the_debug_file_beside_a_compressed_kernel_is_its_own() {
    let kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    kernel.write_dump();
    let file = kernel.dir.path().join("kernel");
    let debug = kernel.dir.path().join("kernel.debug");
    for (tool, arguments) in [
        (
            "objcopy",
            vec!["--only-keep-debug".as_ref(), &*file, &*debug],
        ),
        ("objcopy", vec!["--strip-debug".as_ref(), &*file]),
        ("gzip", vec![&*file]),
    ] {
        let status = Command::new(tool).args(arguments).status();
        assert!(status.unwrap().success());
    }
    let text = ask(&kernel, "print vmcore.0 shell.p_pid -k kernel.gz")
        .expect(0)
        .text();
    assert!(text.contains("77"), "{text}");
}

fn has_gdb() -> bool {
    vmcore_testkit::has("gdb")
}

#[test]
fn stock_gdb_runs_on_the_dump() {
    if !has_gdb() {
        return;
    }
    let kernel = crashed();
    let gdb = |args: &[&str]| {
        let mut started = command(kernel.dir.path());
        started.args(["gdb", "vmcore.0", "kernel", "--", "-batch"]);
        finish(started.args(args).output().unwrap())
    };
    let run = gdb(&[
        "-ex",
        "bt",
        "-ex",
        "info threads",
        "-ex",
        "monitor ps",
        "-ex",
        "print hz",
    ])
    .expect(0);
    let text = run.text();
    for expected in [
        "<signal handler called>",
        "leaf () at ",
        "\"sh/worker (pid 77)\"",
        "$1 = 100",
    ] {
        assert!(
            text.contains(expected),
            "{expected} is not in {run:?}\n{text}"
        );
    }
    // A compressed kernel is expanded for it.
    let packed = Command::new("gzip")
        .args(["-S", ".packed", "-k", "kernel"])
        .current_dir(kernel.dir.path())
        .status();
    if packed.is_ok_and(|status| status.success()) {
        let words = "gdb vmcore.0 kernel.packed -- -batch -ex bt";
        let text = line(kernel.dir.path(), words).expect(0).text();
        assert!(text.contains("leaf () at "), "{text}");
    }
    // It ends before it connects.
    let run = line(kernel.dir.path(), "gdb vmcore.0 kernel --program false").expect(1);
    assert!(run.stderr.contains("the debugger ended with"), "{run:?}");
    let run = line(
        kernel.dir.path(),
        "gdb vmcore.0 kernel --program no-such-program",
    )
    .expect(1);
    assert!(
        run.stderr.contains("no-such-program: No such file"),
        "{run:?}"
    );
}

#[test]
fn lldb_is_given_the_kernel_and_the_socket() {
    let kernel = crashed();
    let script = kernel.dir.path().join("lldb");
    let said = kernel.dir.path().join("said");
    let text = format!("#!/bin/sh\nprintf '%s\\n' \"$@\" > {}\n", said.display());
    std::fs::write(&script, text).unwrap();
    make_executable(&script);
    let words = format!(
        "gdb vmcore.0 kernel --lldb --program {} -- -b",
        script.display()
    );
    ask(&kernel, &words).expect(0);
    let said = std::fs::read_to_string(said).unwrap();
    assert!(said.starts_with("--no-lldbinit\n"), "{said}");
    // By its whole name: lldb does not find a relative one again.
    let whole = kernel.dir.path().canonicalize().unwrap().join("kernel");
    let create = format!("\ntarget create \"{}\"\n", whole.display());
    assert!(said.contains(&create), "{said}");
    assert!(
        said.contains("\nprocess connect --plugin gdb-remote unix-connect:///"),
        "{said}"
    );
    assert!(said.ends_with("\n-b\n"), "{said}");
}

/// What `convert` shows is what opens the core.
#[test]
fn the_shown_command_opens_a_core_in_stock_gdb() {
    if !has_gdb() {
        return;
    }
    let kernel = crashed();
    let text = ask(&kernel, "convert vmcore.0 kernel core.elf --to elf")
        .expect(0)
        .text();
    let mut shown = text.lines().filter(|line| line.starts_with("  "));
    let typed = shown
        .find(|line| line.trim_start().starts_with("gdb "))
        .unwrap();
    let line_of = format!("{typed} -nx -batch -ex bt");
    let run = Command::new("sh")
        .args(["-c", &line_of])
        .current_dir(kernel.dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    for expected in [
        "add symbol table from file \"core.elf.frames.elf\"",
        "[New LWP 100077]",
        "#0  doadump () at ",
    ] {
        assert!(said.contains(expected), "{expected}: {typed}: {run:?}");
    }
    let lldb = "  lldb -c core.elf -o 'script lldb.target.AddModule(\"";
    assert!(text.contains(lldb), "{text}");
    // The second file is kept as the first is.
    std::fs::remove_file(kernel.dir.path().join("core.elf")).unwrap();
    let words = "convert vmcore.0 kernel core.elf --to elf";
    let refused = ask(&kernel, words).expect(1);
    assert!(
        refused.stderr.contains("core.elf.frames.elf exists"),
        "{refused:?}"
    );
    assert!(!kernel.dir.path().join("core.elf").exists());
}

#[test]
fn a_listening_stub_writes_the_frames_where_told() {
    let kernel = crashed();
    let mut started = command(kernel.dir.path());
    started.args([
        "gdb", "vmcore.0", "kernel", "--listen", "0", "--frames", "frames",
    ]);
    let mut server = started.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let shown: Vec<String> = lines.take(5).map(Result::unwrap).collect();
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(
        shown[1..],
        [
            "  set osabi none",
            "  set confirm off",
            "  add-symbol-file \"frames\" -o 0",
            "  file \"kernel\"",
        ]
    );
    let frames = std::fs::read(kernel.dir.path().join("frames")).unwrap();
    assert!(frames.starts_with(b"\x7fELF"));
}

fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn the_stub_listens_on_loopback_unless_told() {
    let kernel = crashed();
    let mut started = command(kernel.dir.path());
    started.args(["gdb", "vmcore.0", "kernel", "--listen", "0"]);
    let mut server = started.stdout(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    let mut lines = BufReader::new(server.stdout.take().unwrap());
    lines.read_line(&mut first).unwrap();
    let address = first.strip_prefix("serving ").unwrap().trim_end();
    let address = address.strip_suffix("; in gdb:").unwrap();
    assert!(address.starts_with("127.0.0.1:"), "{first}");
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"+$qC#b4").unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer[..8], b"+$QC186e");
    }
    server.kill().unwrap();
    server.wait().unwrap();
    let run = line(kernel.dir.path(), "gdb vmcore.0 kernel --listen nowhere:x").expect(1);
    assert!(run.stderr.contains("nowhere:x"), "{run:?}");
}

#[test]
fn the_report_says_what_crashed_where() {
    let kernel = crashed();
    let text = ask(&kernel, "report vmcore.0 kernel").expect(0).text();
    for expected in [
        "PANIC   page fault: kernel read of 0x18 (NULL + 0x18)\n",
        "        in leaf, ",
        "thread  100077, process 77 (sh/worker)\n",
        "sig     v1:",
        "FAULT   trap 12",
        "  leaf ",
        "STACK   4 frames above it hidden",
        "  #1  worker+0x",
        "  DEADLOCK 100002 -> 100077 -> 100002\n",
        "modules flow.ko (no file)",
        "NEXT    vmcore bt --unique    vmcore locks    vmcore gdb\n",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in:\n{text}");
    }
    let json = ask(&kernel, "report vmcore.0 kernel --json")
        .expect(0)
        .json();
    assert_eq!(json["crash"]["kind"], "page_fault");
    let signature = &json["signature"];
    assert_eq!(signature["functions"][0], "leaf");
    assert_eq!(signature["addresses"][0]["module"], "kernel");
    assert!(text.contains(signature["text"].as_str().unwrap()));
    // The same crash of a kernel that was built otherwise has the same signature.
    let mut other = TestKernel::compile("kernel.c", &["-gdwarf-4", "-DOTHER", "-O1"]);
    vmcore_testkit::kernel::crash(&mut other);
    other.write_dump();
    let again = ask(&other, "report vmcore.0 kernel --json")
        .expect(0)
        .json();
    assert_eq!(again["signature"]["text"], signature["text"]);
}

#[test]
fn the_page_is_one_file_that_asks_nobody() {
    let mut kernel = crashed();
    let at = ask(
        &kernel,
        "print vmcore.0 kernel &shell_thread.td_name --json",
    )
    .expect(0)
    .json();
    let at = at["values"][0]["value"]["to"].as_str().unwrap().to_owned();
    let at = u64::from_str_radix(at.trim_start_matches("0x"), 16).unwrap();
    kernel.write(at, b"<b>&bold\0");
    kernel.write_dump();
    ask(&kernel, "report vmcore.0 kernel --html page.html").expect(0);
    let page = std::fs::read_to_string(kernel.dir.path().join("page.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    assert!(page.contains("sh/&lt;b&gt;&amp;bold"), "{page}");
    assert!(!page.contains("<b>&") && !page.contains("<script"));
    assert!(page.contains("<svg") && page.contains("<details>"));
    assert!(page.contains("default-src 'none'"));
    for reference in ["src=", "url(", "@import"] {
        assert!(!page.contains(reference), "{reference}");
    }
    // Links lead to places in it.
    assert_eq!(
        page.matches("href=").count(),
        page.matches("href=\"#").count()
    );
    // It is not written over.
    ask(&kernel, "report vmcore.0 kernel --html page.html").expect(1);
}

#[test]
fn a_report_to_be_shared_names_no_machine() {
    let options = vmcore_synth::machine::Options::new(vmcore_synth::Arch::Amd64, 3);
    let folder = vmcore_testkit::command::Folder::new(&options);
    let whole = folder.vmcore("report vmcore.0").expect(0).text();
    assert!(
        whole.contains("storage7") && whole.contains("192.0.2.17"),
        "{whole}"
    );
    for words in ["report vmcore.0 --share", "report vmcore.0 --share --json"] {
        let shared = folder.vmcore(words).expect(0).text();
        for secret in ["storage7", "192.0.2.17", "02:00:5e:00:53:01", "build@"] {
            assert!(!shared.contains(secret), "{secret} is in:\n{shared}");
        }
        assert!(shared.contains("machine and boot ids"), "{shared}");
    }
}
