//! The remote stub: packet by packet, and in a session of stock gdb.
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
use vmcore_debug::gdb::packet::framed;
use vmcore_debug::gdb::{self, After, Stub};
use vmcore_debug::{DebugFiles, Target};
use vmcore_testkit::TestKernel;

fn with_stub<T>(kernel: &TestKernel, test: impl FnOnce(&mut Stub<'_, '_>, &Target<'_>) -> T) -> T {
    let session = kernel.session();
    let files = DebugFiles::of(&session).unwrap();
    let target = Target::new(&session, &files).unwrap();
    let list = process::list(&session).unwrap();
    test(&mut Stub::new(&target, &list), &target)
}

fn ask(stub: &mut Stub<'_, '_>, packet: &str) -> String {
    let (replies, _) = stub.answer(packet.as_bytes());
    String::from_utf8(replies.concat()).unwrap()
}

#[test]
fn packets_are_answered_as_the_protocol_says() {
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    let dumppcb = kernel.address("dumppcb");
    kernel.write_words(
        dumppcb,
        &[0xf, 0xe, 0xd, 0xc, 0, 0x10, 0xb, 0xffff_ffff_8020_0000],
    );
    let hz = kernel.address("hz");
    with_stub(&kernel, |stub, _| {
        let supported = ask(stub, "qSupported:multiprocess+;swbreak+");
        assert!(supported.contains("qXfer:features:read+"), "{supported}");
        assert!(supported.contains("multiprocess+"));
        let stop = ask(stub, "?");
        assert!(stop.starts_with("T05thread:p1.186ed;"), "{stop}");
        assert!(stop.contains("reason:exception;description:6b65726e656c2070616e69633a20"));
        assert_eq!(ask(stub, "qC"), "QCp1.186ed");
        assert_eq!(ask(stub, "qfThreadInfo"), "mp1.186ed,p1.186a2,p1.186a0");
        assert_eq!(ask(stub, "qsThreadInfo"), "l");
        assert_eq!(ask(stub, &format!("m{hz:x},4")), "64000000");
        assert_eq!(ask(stub, "mffffffffc0000000,4"), "E01");
        assert_eq!(ask(stub, "mzz,4"), "E01");
        let registers = ask(stub, "g");
        assert_eq!(&registers[16 * 16..17 * 16], "00002080ffffffff");
        assert_eq!(&registers[..16], "xxxxxxxxxxxxxxxx");
        assert_eq!(ask(stub, "p10"), "00002080ffffffff");
        assert_eq!(ask(stub, "p0;thread:186ed;"), "xxxxxxxxxxxxxxxx");
        assert_eq!(ask(stub, "pff"), "E01");
        assert_eq!(ask(stub, "Hgp1.186a2"), "OK");
        assert_eq!(ask(stub, "Hg1"), "E01");
        assert_eq!(ask(stub, "T186a0"), "OK");
        assert_eq!(ask(stub, &format!("M{hz:x},1:00")), "E01");
        assert!(ask(stub, "vCont;c").ends_with(&stop));
        assert_eq!(ask(stub, "vUnknown"), "");
        assert_eq!(ask(stub, "qOffsets"), "");
        let xml = ask(stub, "qXfer:features:read:target.xml:0,4000");
        assert!(xml.starts_with("l<?xml") && xml.contains("i386:x86-64"));
        assert_eq!(ask(stub, "qXfer:features:read:target.xml:0,5"), "m<?xml");
        let threads = ask(stub, "qXfer:threads:read::0,4000");
        assert!(
            threads.contains("<thread id=\"p1.186ed\" name=\"sh/worker (pid 77)\"/>"),
            "{threads}"
        );
        let region = ask(stub, "qMemoryRegionInfo:ffffffffc0000123");
        assert!(
            region.starts_with("start:ffffffffc0000000;size:"),
            "{region}"
        );
        assert!(!region.contains("permissions"));
        assert!(ask(stub, &format!("qMemoryRegionInfo:{hz:x}")).contains("permissions:rwx;"));
        assert_eq!(stub.answer(b"D").1, After::Close);
        assert_eq!(stub.answer(b"QStartNoAckMode").1, After::NoAcknowledgements);
        let conversation = stub.converse(&[framed(b"qC"), framed(b"?x")].concat());
        assert_eq!(conversation, [framed(b"QCp1.186ed"), framed(b"")].concat());
    });
}

/// No name and no message of a dump reaches the terminal of a debugger as more than text.
#[test]
fn control_characters_of_a_dump_reach_no_debugger() {
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    let replacements: [(&[u8], &[u8]); 2] = [
        (b"worker\0", b"w\x1b]0;x\x07\n\x9b"),
        (b"page fault\0", b"\x1b[2J\xc2\x9b1m\r\0"),
    ];
    for (old, new) in replacements {
        let mut count = 0;
        for page in kernel.pages.values_mut() {
            let at = page.windows(old.len()).position(|part| part == old);
            if let Some(at) = at {
                page[at..at + new.len()].copy_from_slice(new);
                count += 1;
            }
        }
        assert!(count > 0);
    }
    with_stub(&kernel, |stub, _| {
        let monitored = |stub: &mut Stub<'_, '_>, command: &str| {
            let hexed = String::from_utf8(gdb::packet::hex(command.as_bytes())).unwrap();
            let (replies, _) = stub.answer(format!("qRcmd,{hexed}").as_bytes());
            let text = |reply: &Vec<u8>| gdb::packet::unhex(reply.get(1..)?);
            replies
                .iter()
                .filter_map(text)
                .flatten()
                .collect::<Vec<u8>>()
        };
        let unhexed = |text: &str| {
            let parts = text.split([':', ';', '#']);
            parts
                .filter_map(|part| gdb::packet::unhex(part.as_bytes()))
                .flatten()
                .collect::<Vec<u8>>()
        };
        let stop = ask(stub, "?");
        let extra = ask(stub, "qThreadExtraInfo,186ed");
        let said = [
            unhexed(&stop),
            unhexed(&ask(stub, "qThreadStopInfo186ed")),
            unhexed(&extra),
            ask(stub, "qXfer:threads:read::0,4000").into_bytes(),
            monitored(stub, "ps"),
            monitored(stub, "report"),
            monitored(stub, "locks"),
        ]
        .concat();
        let text = String::from_utf8(said).unwrap();
        let is_harmful = |c: char| c.is_control() && c != '\n' && c != '\t';
        assert!(!text.contains(is_harmful), "{text:?}");
        let name = "sh/w\\x1b]0;x\\x07\\x0a\\x9b";
        assert_eq!(text.matches(name).count(), 5, "{text}");
        assert!(
            text.contains("kernel panic: \\x1b[2J\\u{9b}1m\\x0d"),
            "{text}"
        );
    });
}

#[test]
fn lldb_gets_errors_for_unknown_registers_and_the_program_counter_first() {
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    let dumppcb = kernel.address("dumppcb");
    kernel.write_words(dumppcb, &[0xf, 0, 0, 0, 0, 0x10, 0, 0xffff_ffff_8020_0000]);
    with_stub(&kernel, |stub, _| {
        assert_eq!(ask(stub, "QThreadSuffixSupported"), "OK");
        assert_eq!(ask(stub, "p0;thread:186ed;"), "00002080ffffffff");
        // rax has moved up by one.
        assert_eq!(ask(stub, "p1;thread:186ed;"), "E01");
        let xml = ask(stub, "qXfer:features:read:target.xml:0,4000");
        assert!(xml.contains("<reg name=\"rip\" bitsize=\"64\" type=\"code_ptr\" regnum=\"0\""));
        assert!(xml.contains("<reg name=\"rax\" bitsize=\"64\" type=\"int64\" regnum=\"1\""));
    });
}

/// lldb from release 19 on ends itself at a kernel whose headers it cannot read.
#[test]
fn lldb_gets_the_headers_of_the_kernel_file_where_the_dump_has_none() {
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    let first = *kernel.pages.first_key_value().unwrap().0;
    kernel.pages.remove(&first);
    let file = std::fs::read(&kernel.file).unwrap();
    let headers = String::from_utf8(gdb::packet::hex(&file[..0x40])).unwrap();
    with_stub(&kernel, |stub, _| {
        assert_eq!(ask(stub, &format!("m{first:x},40")), "E01", "gdb gets none");
        assert_eq!(ask(stub, "QThreadSuffixSupported"), "OK");
        assert_eq!(ask(stub, &format!("m{first:x},40")), headers);
        assert_eq!(ask(stub, &format!("m{:x},40", first + 0x800)), "E01");
    });
}

#[test]
fn stock_gdb_sees_threads_memory_and_frames_beyond_a_trap() {
    if !vmcore_testkit::has("gdb") {
        return;
    }
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-4"]);
    vmcore_testkit::kernel::crash(&mut kernel);
    let output = with_stub(&kernel, |stub, target| {
        let frames = kernel.dir.path().join("frames");
        std::fs::write(&frames, gdb::frames::for_gdb(target).unwrap()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let remote = format!("target remote {}", listener.local_addr().unwrap());
        let file = format!("file {}", kernel.file.display());
        let add = format!("add-symbol-file {} -o 0", frames.display());
        let commands = [
            "set confirm off",
            "set pagination off",
            "set osabi none",
            &add,
            &file,
            &remote,
            "info threads",
            "backtrace",
            "print shell.p_comm",
            "print $rax",
            "x/1xb 0xffffffffc0000000",
            "set variable hz = 1",
            "monitor locks",
            "thread 2",
            "thread 1",
            "continue",
            "detach",
        ];
        let mut gdb = Command::new("gdb");
        gdb.args(["-nx", "-batch"]);
        for command in commands {
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
        gdb::serve(stub, &stream, &stream).unwrap();
        session.join().unwrap()
    });
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = said + &String::from_utf8_lossy(&output.stderr);
    for expected in [
        "\"sh/worker (pid 77)\"",
        "\"init (pid 1)\"",
        "#0  doadump () at ",
        "in panic () at ",
        "in trap () at ",
        "#3  <signal handler called>",
        "#4  leaf () at ",
        "in worker () at ",
        "in fork_exit () at ",
        "= \"sh\", '\\000' <repeats 17 times>",
        "= <unavailable>",
        "Cannot access memory at address 0xffffffffc0000000",
        "100077 waits for sleep mutex \"flow\", held by 100002",
        "deadlock: [100002, 100077]",
        "Switching to thread 2",
        "this is a crash dump",
    ] {
        assert!(said.contains(expected), "{expected} is not in:\n{said}");
    }
}
