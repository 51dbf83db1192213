//! The example does what it says.
#![allow(clippy::unwrap_used, reason = "a test that cannot continue must stop")]

#[allow(dead_code, unreachable_pub, reason = "its `main` is for people")]
#[path = "../examples/sections.rs"]
mod sections;

#[test]
fn sections_of_a_minidump() {
    let (dump, _) = vmcore_synth::machines::small(vmcore_synth::Arch::Amd64, 3);
    let (_folder, path) = vmcore_testkit::written(&dump.build());
    let text = sections::sections(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "amd64 minidump version 3");
    assert_eq!(lines[1], "0x0      4096 header");
    assert!(lines[6].ends_with(" pages"), "{text}");
}
