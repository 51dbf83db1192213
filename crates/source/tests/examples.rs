//! The example does what it says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

#[allow(dead_code, unreachable_pub, reason = "its `main` is for people")]
#[path = "../examples/unpack.rs"]
mod unpack;

use std::io::Write as _;

#[test]
fn a_compressed_dump_is_unpacked() {
    let (dump, _) = vmcore_synth::machines::small(vmcore_synth::Arch::Amd64, 3);
    let folder = tempfile::tempdir().unwrap();
    let [packed, plain] = ["vmcore.0.gz", "vmcore.0"].map(|name| folder.path().join(name));
    let file = std::fs::File::create(&packed).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    encoder.write_all(&dump.build()).unwrap();
    encoder.finish().unwrap();
    let text = unpack::unpack(&packed, &plain).unwrap();
    assert!(text.ends_with(" bytes\ninside: gzip\n"), "{text}");
    assert_eq!(std::fs::read(&plain).unwrap(), dump.build());
}
