//! The example does what it says.
#![allow(clippy::unwrap_used, reason = "a test that cannot continue must stop")]

#[allow(dead_code, unreachable_pub, reason = "its `main` is for people")]
#[path = "../examples/to_elf.rs"]
mod to_elf;

#[test]
fn a_dump_becomes_an_elf_core() {
    let (dump, kernel) = vmcore_synth::machines::small(vmcore_synth::Arch::Amd64, 3);
    let folder = tempfile::tempdir().unwrap();
    let [vmcore, file, core] =
        ["vmcore.0", "kernel", "core.elf"].map(|name| folder.path().join(name));
    std::fs::write(&vmcore, dump.build()).unwrap();
    std::fs::write(&file, kernel.build()).unwrap();
    let text = to_elf::to_elf(&vmcore, &file, &core).unwrap();
    let len = std::fs::metadata(&core).unwrap().len();
    assert!(
        text.ends_with(&format!(" segments, {len} bytes\n")),
        "{text}"
    );
}
