//! The example does what it says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

#[allow(dead_code, unreachable_pub, reason = "its `main` is for people")]
#[path = "../examples/processes.rs"]
mod processes;

#[test]
fn processes_of_a_dump() {
    let (dump, kernel) = vmcore_synth::machines::small(vmcore_synth::Arch::Amd64, 3);
    let folder = tempfile::tempdir().unwrap();
    let [vmcore, file] = ["vmcore.0", "kernel"].map(|name| folder.path().join(name));
    std::fs::write(&vmcore, dump.build()).unwrap();
    std::fs::write(&file, kernel.build()).unwrap();
    let text = processes::processes(&vmcore, &file).unwrap();
    assert!(text.starts_with("panic: "), "{text}");
    assert!(text.contains("\nhz = "), "{text}");
    assert!(text.contains(" threads\n"), "{text}");
}
