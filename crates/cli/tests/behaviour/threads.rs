//! Processes and threads.

use crate::amd64;
use vmcore_synth::Arch;
use vmcore_synth::machine::Options;
use vmcore_testkit::command::Folder;

#[test]
fn ps_has_every_thread_and_the_one_that_crashed() {
    let folder = amd64();
    let truth = &folder.machine.truth;
    let text = folder.vmcore("ps vmcore.0").expect(0).text();
    let crashed = text.lines().nth(2).unwrap();
    assert!(
        crashed.starts_with('*') && crashed.contains(&truth.crashed_tid.to_string()),
        "{text}"
    );
    assert!(
        text.starts_with(&format!("crashed: thread {} of process", truth.crashed_tid)),
        "{text}"
    );
    let json = folder.vmcore("ps vmcore.0 --json").expect(0).json();
    let found: Vec<(i64, i64)> = json["processes"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|process| {
            let threads = process["threads"].as_array().unwrap();
            threads.iter().map(|thread| {
                (
                    process["pid"].as_i64().unwrap(),
                    thread["tid"].as_i64().unwrap(),
                )
            })
        })
        .collect();
    let expected: Vec<(i64, i64)> = truth
        .processes
        .iter()
        .flat_map(|process| {
            process
                .threads
                .iter()
                .map(|thread| (process.pid.into(), thread.tid.into()))
        })
        .collect();
    assert_eq!(found, expected);
    let in_order = folder.vmcore("ps vmcore.0 --kernel-order").expect(0).text();
    let first = in_order.lines().nth(2).unwrap();
    assert!(
        first.contains(&truth.processes[0].threads[0].tid.to_string()),
        "{in_order}"
    );
}

#[test]
fn the_crashed_thread_and_the_others_are_told_apart() {
    // A CPU that did not stop has a thread with stale registers.
    let folder = Folder::new(&Options {
        unstopped_cpu: Some(3),
        ..Options::new(Arch::Amd64, 3)
    });
    let json = folder.vmcore("ps vmcore.0 --json").expect(0).json();
    let threads = json["processes"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|process| process["threads"].as_array().unwrap());
    let stale: Vec<_> = threads
        .filter(|thread| thread["pcb"]["stale"] == true)
        .collect();
    assert_eq!(stale.len(), 1, "{json}");
    assert_eq!(stale[0]["cpu"], 3);
}
