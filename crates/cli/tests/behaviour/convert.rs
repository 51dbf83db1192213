//! Dumps that become other dumps.

use crate::amd64;
use vmcore_synth::Arch;
use vmcore_synth::machine::Options;
use vmcore_testkit::command::Folder;

#[test]
fn a_converted_core_is_a_dump_again() {
    let folder = amd64();
    let report = folder
        .vmcore("convert vmcore.0 core.elf --to elf --json")
        .expect(0)
        .json();
    assert_eq!(report["thread"], folder.machine.truth.crashed_tid);
    assert_eq!(report["truncated_pages"], 0);
    let info = folder.vmcore("info core.elf").expect(0).text();
    assert!(
        info.starts_with("core.elf: FreeBSD/amd64 ELF core, complete"),
        "{info}"
    );
    let ps = folder
        .vmcore("ps core.elf kernel --kernel-order")
        .expect(0)
        .text();
    assert_eq!(
        ps,
        folder.vmcore("ps vmcore.0 --kernel-order").expect(0).text()
    );
}

#[test]
fn a_full_dump_becomes_a_minidump_and_a_full_dump_again() {
    let folder = Folder::new(&Options::full(Arch::Amd64));
    let report = folder
        .vmcore("convert vmcore.0 mini --to minidump --json")
        .expect(0)
        .json();
    assert_eq!(
        (&report["to"], &report["version"]),
        (&"minidump".into(), &3.into())
    );
    assert_eq!(
        (&report["choice"], &report["missing_pages"]),
        (&"all_ram".into(), &0.into())
    );
    assert_eq!(report["identity"], report["dump_id"]);
    let info = folder.vmcore("info mini").expect(0).text();
    assert!(info.starts_with("mini: FreeBSD/amd64 minidump"), "{info}");
    let ps = |dump: &str| {
        folder
            .vmcore(&format!("ps {dump} kernel --kernel-order"))
            .expect(0)
            .text()
    };
    assert_eq!(ps("mini"), ps("vmcore.0"));
    let said = folder
        .vmcore("convert vmcore.0 full --to full")
        .expect(0)
        .text();
    assert!(said.starts_with("full: full dump, "), "{said}");
    assert_eq!(ps("full"), ps("vmcore.0"));
    // Compressed on the way, and nothing is left of what was in between.
    for (to, method, file) in [("minidump", "zstd", "mini.zst"), ("elf", "gzip", "core.gz")] {
        let words = format!("convert vmcore.0 {file} --to {to} --compress {method} --json");
        let report = folder.vmcore(&words).expect(0).json();
        assert_eq!(
            (&report["to"], &report["compressed"]),
            (&to.into(), &method.into())
        );
        let len = std::fs::metadata(folder.path().join(file)).unwrap().len();
        assert_eq!(report["len_bytes"], len);
        assert_eq!(ps(file), ps("vmcore.0"));
    }
    let plain = std::fs::metadata(folder.path().join("mini")).unwrap().len();
    let packed = std::fs::metadata(folder.path().join("mini.zst")).unwrap();
    assert!(packed.len() < plain / 2);
    let names = std::fs::read_dir(folder.path()).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        names
            .iter()
            .all(|name| !name.to_string_lossy().starts_with('.')),
        "{names:?}"
    );
    let refused = folder.vmcore("convert vmcore.0 mini.zst --to minidump --compress zstd");
    assert_eq!(refused.status, 1);
    folder
        .vmcore("convert vmcore.0 x --to plain --compress zstd")
        .expect(2);
    // What is converted already is told what can be done instead.
    let refused = folder.vmcore("convert mini out --to full").expect(1);
    assert!(
        refused
            .stderr
            .contains("try: vmcore convert mini OUT --to elf")
    );
}
