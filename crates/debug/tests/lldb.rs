//! The remote stub in a session of stock lldb.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on shall stop"
)]

mod common;

use common::Open as _;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use vmcore::process;
use vmcore_debug::gdb::{self, Stub, lldb};
use vmcore_debug::modules::Search;
use vmcore_debug::{DebugFiles, Target};
use vmcore_testkit::TestKernel;
use vmcore_testkit::modules::load;

#[test]
fn stock_lldb_sees_threads_registers_modules_and_no_memory_where_none_is() {
    if !vmcore_testkit::has("lldb") {
        return;
    }
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-4"]);
    vmcore_testkit::kernel::crash(&mut kernel);
    let root = tempfile::tempdir().unwrap();
    let text = load(&mut kernel, &root.path().join("flow.ko"));
    let session = kernel.session();
    let search = Search {
        sysroot: None,
        directories: vec![root.path().to_owned()],
    };
    let files = DebugFiles::of(&session).unwrap();
    let files = files.with_modules(&session, &search).unwrap();
    let target = Target::new(&session, &files).unwrap();
    let list = process::list(&session).unwrap();
    let mut stub = Stub::new(&target, &list);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("connect://{}", listener.local_addr().unwrap());
    let mut command = Command::new("lldb");
    command.args(["--no-lldbinit", "--batch"]);
    let commands = lldb::commands(&target, target.files().kernel_path(), &url);
    let own = [
        "thread list",
        "bt",
        "register read rip rax",
        "p shell.p_comm",
        "image lookup --address `(void *)flow_lookup`",
        "image list",
        "memory read 0xffffffffc0000000",
    ];
    for line in commands.iter().map(String::as_str).chain(own) {
        command.args(["-o", line]);
    }
    let started = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("lldb");
    let session = std::thread::spawn(move || started.wait_with_output().unwrap());
    let (stream, _) = listener.accept().unwrap();
    stream.set_nodelay(true).unwrap();
    gdb::serve(&mut stub, &stream, &stream).unwrap();
    // It waits for the end of the connection.
    drop(stream);
    let output = session.join().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = said + &String::from_utf8_lossy(&output.stderr);
    let in_module = format!("section '.text' loaded at {text:#x}");
    for expected in [
        "* thread #1: tid = 100077, ",
        "name = 'sh/worker (pid 77)', stop reason = kernel panic: ",
        "name = 'init (pid 1)'",
        "kernel`doadump",
        "kernel`panic",
        "rax          = error: unavailable",
        "= \"sh\\0",
        &in_module,
        "flow.ko`flow_lookup at flow.c",
        "memory read failed for 0xffffffffc0000000",
    ] {
        assert!(said.contains(expected), "{expected} is not in:\n{said}");
    }
}
