//! What the command promises, whatever the dump: exit statuses, files, order of words, escaping.

mod support;

use support::Folder;
use vmcore_synth::Arch;
use vmcore_synth::machine::Options;

#[test]
fn smoke() {
    let folder = Folder::new(&Options::new(Arch::Amd64, 3));
    for l in [
        "info vmcore.0",
        "info -v vmcore.0",
        "log vmcore.0",
        "ps vmcore.0",
        "read vmcore.0 hz",
        "read vmcore.0 version",
        "translate vmcore.0 hz",
        "sym vmcore.0 hz",
        "map vmcore.0",
        "verify vmcore.0",
        "search vmcore.0 panic",
        "convert vmcore.0 o.elf --to elf",
        "list -d .",
        "list -v -d .",
        "info vmcore.0 --json",
        "ps vmcore.0 --json",
        "map vmcore.0 --svg x.svg",
    ] {
        let run = folder.vmcore(l);
        println!("$ vmcore {l}\n{}{}[{}]", run.text(), run.stderr, run.status);
    }
    std::fs::copy(folder.path().join("x.svg"), "/tmp/x.svg").unwrap();
}
