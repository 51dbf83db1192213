//! The command on dumps of real machines, against what is known about them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

use serde_json::Value;
use vmcore_testkit::command::line;
use vmcore_testkit::corpus;

/// A thread as `ps` and the list of expected values have it.
#[derive(Debug, PartialEq)]
struct Thread {
    process: String,
    thread: String,
    pid: i64,
    tid: i64,
    cpu: Option<i64>,
    comm: String,
    name: String,
    crashed: bool,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[test]
fn every_thread_and_hz_of_the_real_dumps_is_as_expected() {
    let Some(reals) = corpus::unpacked() else {
        return;
    };
    let expected = corpus::expected();
    assert_eq!(reals.len(), expected["dumps"].as_object().unwrap().len());
    for real in reals {
        let expected = &expected["dumps"][&real.name];
        let run = line(
            &real.folder,
            &format!("ps {} {} --json", real.dump, real.kernel),
        )
        .expect(0);
        let json = run.json();
        assert_eq!(threads(&json), expected_threads(expected), "{}", real.name);

        let hz = line(
            &real.folder,
            &format!("read {} hz 4 -k {} --raw", real.dump, real.kernel),
        );
        let value = i64::from(u32::from_le_bytes(hz.expect(0).stdout.try_into().unwrap()));
        assert_eq!(
            value,
            expected["constants"]["hz"].as_i64().unwrap(),
            "{}",
            real.name
        );
    }
}

#[test]
fn a_redacted_dump_of_a_truncated_one_has_its_threads() {
    let Some(reals) = corpus::unpacked() else {
        return;
    };
    let expected = corpus::expected();
    let mut cut = 0;
    for real in reals {
        let folder = tempfile::tempdir().unwrap();
        let small = folder.path().join("small");
        let words = format!(
            "redact {} {} -k {}",
            real.dump,
            small.display(),
            real.kernel
        );
        let run = line(&real.folder, &format!("{words} --json"));
        let missing = run.json()["manifest"]["missing_pages"].as_u64().unwrap();
        run.expect(if missing > 0 { 3 } else { 0 });
        cut += u64::from(missing > 0);
        let words = format!("ps {} -k {} --json", small.display(), real.kernel);
        let found = threads(&line(&real.folder, &words).expect(0).json());
        let expected = expected_threads(&expected["dumps"][&real.name]);
        assert_eq!(found, expected, "{}", real.name);
    }
    assert!(cut > 0, "the samples are truncated");
}

/// The sample ends inside a page that a list of threads goes through.
#[test]
fn the_real_full_dump_becomes_a_minidump_with_the_same_threads() {
    let Some(reals) = corpus::unpacked() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mini = folder.path().join("vmcore.mini");
    let mut converted = 0;
    for real in reals {
        if !real.name.ends_with("-full") {
            continue;
        }
        converted += 1;
        let to_mini = format!(
            "convert {} {} --to minidump -k {} --json",
            real.dump,
            mini.display(),
            real.kernel
        );
        let report = line(&real.folder, &to_mini).expect(3).json();
        assert_eq!(report["missing_pages"], 1618);
        assert_eq!(report["damage"], 1, "the page that the file ends in");
        let ps = |dump: &str| {
            let run = line(&real.folder, &format!("ps {dump} {} --json", real.kernel));
            threads(&run.expect(0).json())
        };
        assert_eq!(ps(mini.to_str().unwrap()), ps(&real.dump));
    }
    assert_eq!(converted, 1);
}

fn threads(json: &Value) -> Vec<Thread> {
    let processes = json["processes"].as_array().unwrap();
    let of = |process: &Value| {
        let threads = process["threads"].as_array().unwrap().clone();
        let (address, pid, comm) = (
            text(&process["address"]),
            process["pid"].as_i64().unwrap(),
            text(&process["comm"]),
        );
        threads.into_iter().map(move |thread| Thread {
            process: address.clone(),
            thread: text(&thread["address"]),
            pid,
            tid: thread["tid"].as_i64().unwrap(),
            cpu: thread["cpu"].as_i64(),
            comm: comm.clone(),
            name: text(&thread["name"]),
            crashed: thread["crashed"].as_bool().unwrap(),
        })
    };
    processes.iter().flat_map(of).collect()
}

fn expected_threads(expected: &Value) -> Vec<Thread> {
    let of = |thread: &Value| Thread {
        process: text(&thread["proc"]),
        thread: text(&thread["thread"]),
        pid: thread["pid"].as_i64().unwrap(),
        tid: thread["tid"].as_i64().unwrap(),
        cpu: thread["oncpu"].as_i64().filter(|cpu| *cpu >= 0),
        comm: text(&thread["comm"]),
        name: text(&thread["td_name"]),
        crashed: thread["crashed"].as_bool().unwrap(),
    };
    expected["threads"]
        .as_array()
        .unwrap()
        .iter()
        .map(of)
        .collect()
}
