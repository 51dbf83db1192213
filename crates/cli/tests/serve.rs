//! `vmcore serve` and `netdumpd`: a dump sent by a few lines arrives, and who listens says so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

fn message(kind: u32, seqno: u32, offset: u64, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap();
    let mut bytes = [kind.to_be_bytes(), seqno.to_be_bytes()].concat();
    bytes.extend(offset.to_be_bytes());
    bytes.extend([len.to_be_bytes(), [0; 4]].concat());
    bytes.extend(payload);
    bytes
}

/// Starts a server, and returns it with the port that it says it listens on.
fn start(arg0: &str, args: &[&str]) -> (Child, u16, BufReader<std::process::ChildStderr>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmcore"));
    #[cfg(unix)]
    std::os::unix::process::CommandExt::arg0(&mut command, arg0);
    listening(command.args(args))
}

/// The same of a command that starts one.
fn listening(command: &mut Command) -> (Child, u16, BufReader<std::process::ChildStderr>) {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    let port = line
        .trim_end()
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok());
    (child, port.unwrap_or_else(|| panic!("{line}")), stderr)
}

/// Sends a dump of two pages.
fn send(port: u16, header: &[u8]) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let mut server = format!("127.0.0.1:{port}").parse().unwrap();
    let datagrams = [
        message(1, 1, 0, b""),
        message(3, 2, 0, &[7; 4096]),
        message(3, 3, 4096, &[8; 4096]),
        message(4, 4, 0, header),
        message(2, 5, 0, b""),
    ];
    for datagram in datagrams {
        let mut ack = [0; 8];
        socket.send_to(&datagram, server).unwrap();
        let (len, from) = socket.recv_from(&mut ack).expect("an ack");
        assert_eq!(ack[..len], datagram[4..8]);
        server = from;
    }
}

#[test]
fn a_dump_arrives_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let args = [
        "serve",
        path,
        "--listen",
        "127.0.0.1:0",
        "--count",
        "1",
        "--keep-free",
        "0",
        "--json",
    ];
    let (mut child, port, _) = start("vmcore", &args);
    let header = vmcore_synth::header::DumpHeader::new("amd64", 8192);
    send(port, &header.build());
    let mut said = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(child.wait().unwrap().success());
    let record: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(record["schema"], "vmcore.serve/1");
    assert_eq!(record["outcome"], "complete");
    assert_eq!(record["core_file"], "vmcore.127.0.0.1.0");
    let core = std::fs::read(dir.path().join("vmcore.127.0.0.1.0")).unwrap();
    assert_eq!(core, [[7; 4096], [8; 4096]].concat());
    let kept = std::fs::read(dir.path().join("record.127.0.0.1.0.json")).unwrap();
    let kept: serde_json::Value = serde_json::from_slice(&kept).unwrap();
    assert_eq!(kept, record);
}

#[cfg(unix)]
#[test]
fn netdumpd_takes_freebsds_options() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    std::fs::create_dir(dir.path().join("below")).unwrap();
    let pid = dir.path().join("pid");
    let args = [
        "-D",
        "-a",
        "127.0.0.1:0",
        "-d",
        path,
        "-p",
        "below",
        "-P",
        pid.to_str().unwrap(),
    ];
    let (mut child, port, mut stderr) = start("netdumpd", &args);
    send(port, &[0; 512]);
    let mut said = String::new();
    while !said.contains("incomplete") {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "{said}");
    }
    assert!(said.contains("only this host can send"), "{said}");
    assert!(said.contains("header is missing or damaged"), "{said}");
    assert!(
        dir.path()
            .join("below/vmcore.127.0.0.1.0.incomplete")
            .exists()
    );
    let number = std::fs::read_to_string(&pid).unwrap();
    assert_eq!(number.trim(), child.id().to_string());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn who_cannot_serve_says_why_and_what_to_type() {
    let dir = tempfile::tempdir().unwrap();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let path = dir.path().to_str().unwrap();
    let missing = format!("{path}/missing");
    for (args, said) in [
        (
            vec![path, "--listen", &taken],
            format!("cannot listen on {taken}"),
        ),
        (
            vec![&missing],
            format!("try: mkdir -p {missing} && vmcore serve {missing}"),
        ),
        (vec!["/dev/null"], "try: vmcore serve DIR".to_owned()),
    ] {
        let run = Command::new(env!("CARGO_BIN_EXE_vmcore"))
            .arg("serve")
            .args(args)
            .output()
            .unwrap();
        let stderr = String::from_utf8(run.stderr).unwrap();
        assert_eq!(run.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(&said), "{stderr}");
    }
}

#[test]
fn a_disk_that_is_too_full_is_told_at_once_and_for_each_client() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let args = [
        "serve",
        path,
        "--listen",
        "127.0.0.1:0",
        "--keep-free",
        "1000000T",
    ];
    let (mut child, port, mut stderr) = start("vmcore", &args);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let timeout = Duration::from_secs(5);
    socket.set_read_timeout(Some(timeout)).unwrap();
    let mut server = format!("127.0.0.1:{port}").parse().unwrap();
    socket.send_to(&message(1, 1, 0, b""), server).unwrap();
    (_, server) = socket.recv_from(&mut [0; 8]).unwrap();
    socket
        .send_to(&message(3, 2, 0, &[7; 1448]), server)
        .unwrap();
    let mut said = String::new();
    while !said.contains("nothing could be kept") {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "{said}");
    }
    assert!(said.contains("warning: no dump can be taken"), "{said}");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A limit for files of some kilobytes fails as a full disk does, in the middle of a dump.
#[cfg(unix)]
#[test]
fn a_write_that_fails_ends_the_dump_without_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let script = "trap '' XFSZ; ulimit -f 32; exec \"$0\" serve \"$1\" --listen 127.0.0.1:0 --keep-free 0 --count 1";
    let path = dir.path().to_str().unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_vmcore"), path]);
    let (mut child, port, _stderr) = listening(&mut shell);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let timeout = Duration::from_secs(5);
    socket.set_read_timeout(Some(timeout)).unwrap();
    let mut server = format!("127.0.0.1:{port}").parse().unwrap();
    socket.send_to(&message(1, 1, 0, b""), server).unwrap();
    (_, server) = socket.recv_from(&mut [0; 8]).unwrap();
    // 64 KiB are more than the limit, in whatever unit the shell counts; nobody acks what was not written.
    for number in 0..16 {
        let page = message(3, 2 + number, u64::from(number) * 4096, &[7; 4096]);
        socket.send_to(&page, server).unwrap();
        if socket.recv_from(&mut [0; 8]).is_err() {
            break;
        }
    }
    assert!(child.wait().unwrap().success());
    let record = std::fs::read(dir.path().join("record.127.0.0.1.0.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["outcome"], "write_error");
    let error = record["error"].as_str().unwrap();
    assert!(error.starts_with("@ offset 0000"), "{error}");
    let names = std::fs::read_dir(dir.path()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "bounds.127.0.0.1",
            "info.127.0.0.1.0",
            "record.127.0.0.1.0.json",
            "vmcore.127.0.0.1.0.incomplete"
        ]
    );
}

#[test]
fn what_a_killed_server_left_is_named_and_tidied_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let args = ["serve", path, "--listen", "127.0.0.1:0", "--keep-free", "0"];
    std::fs::create_dir(dir.path().join("below")).unwrap();
    let begin = |port: u16, asked: &[u8]| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let timeout = Duration::from_secs(5);
        socket.set_read_timeout(Some(timeout)).unwrap();
        let mut server = format!("127.0.0.1:{port}").parse().unwrap();
        for datagram in [message(1, 1, 0, asked), message(3, 2, 0, &[7; 4096])] {
            socket.send_to(&datagram, server).unwrap();
            (_, server) = socket.recv_from(&mut [0; 8]).unwrap();
        }
    };
    let (mut child, port, _) = start("vmcore", &args);
    begin(port, b"");
    begin(port, b"below\0");
    child.kill().unwrap();
    child.wait().unwrap();
    // Killed while it wrote a small file, or tried whether it can.
    let small = ["info.127.0.0.1.7.999.3.new", ".vmcore.999.probe"];
    let others = ["info.new", "record.a.b.new", ".vmcore.probe"];
    for name in small.iter().chain(&others) {
        std::fs::write(dir.path().join(name), b"").unwrap();
    }
    let (mut child, port, mut stderr) = start("vmcore", &args);
    // A directory that clients ask for is looked at when one does.
    begin(port, b"below\0");
    let mut said = String::new();
    for left in [
        "vmcore.127.0.0.1.0.incomplete",
        "below/vmcore.127.0.0.1.0.incomplete",
    ] {
        while !said.contains(&format!(
            " {left}: a dump that an earlier server was stopped in"
        )) {
            assert!(stderr.read_line(&mut said).unwrap() > 0, "{said}");
        }
        assert!(dir.path().join(left).exists(), "{left}");
    }
    for name in small {
        assert!(!dir.path().join(name).exists(), "{name}");
    }
    for name in others {
        assert!(dir.path().join(name).exists(), "{name}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Messages that nobody reads are dropped, and the dumps are received.
#[test]
fn a_terminal_that_is_stopped_stops_no_dump() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let args = [
        "serve",
        path,
        "--listen",
        "127.0.0.1:0",
        "--keep-free",
        "0",
        "--silence",
        "0",
        "--max-per-host",
        "200",
    ];
    let (mut child, port, _stderr) = start("vmcore", &args);
    // Each client that sends nothing else makes two lines; a pipe holds some hundreds.
    let sockets: Vec<UdpSocket> = (0..200)
        .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
        .collect();
    for _ in 0..12 {
        for socket in &sockets {
            let herald = message(1, 1, 0, b"");
            socket.send_to(&herald, ("127.0.0.1", port)).unwrap();
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    std::thread::sleep(Duration::from_millis(500));
    let header = vmcore_synth::header::DumpHeader::new("amd64", 8192);
    send(port, &header.build());
    let core = dir.path().join("vmcore.127.0.0.1.0");
    while !core.exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
