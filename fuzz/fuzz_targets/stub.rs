//! The bytes that a debugger sends to the stub: whatever they are, answers are whole packets, and
//! the dump stays as it is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use vmcore::process::{self, ProcessList};
use vmcore::session::{KernelChoice, Session};
use vmcore::{OpenOptions, format::arch::Arch};
use vmcore_debug::gdb::Stub;
use vmcore_debug::gdb::packet::framed;
use vmcore_debug::{DebugFiles, Target};
use vmcore_fuzz::file::InputFile;
use vmcore_synth::machine::{Machine, Options};

/// A session that lives as long as the process.
struct Dump {
    session: Session,
    files: DebugFiles,
    list: ProcessList,
}

fn dump() -> &'static Dump {
    static DUMP: OnceLock<Dump> = OnceLock::new();
    DUMP.get_or_init(|| {
        let machine = Machine::new(&Options::new(Arch::Amd64, 3));
        let dump = InputFile::new(&machine.dump.build());
        let kernel = InputFile::new(&machine.kernel.build());
        let choice = KernelChoice::Given(kernel.path());
        let session = Session::open(dump.path(), choice, &OpenOptions::default());
        let session = session.expect("a sound dump");
        let files = DebugFiles::of(&session).expect("its kernel");
        let list = process::list(&session).expect("its processes");
        Dump {
            session,
            files,
            list,
        }
    })
}

fuzz_target!(|data: &[u8]| {
    let dump = dump();
    let target = Target::new(&dump.session, &dump.files).expect("a sound dump");
    let mut stub = Stub::new(&target, &dump.list);
    // As it comes, and as the contents of packets.
    let answers = stub.converse(data);
    assert!(answers.is_empty() || matches!(answers.first(), Some(b'+' | b'-' | b'$')));
    for packet in data.split(|byte| *byte == b'\n').take(16) {
        let (answers, _) = stub.answer(packet);
        for answer in answers {
            assert!(framed(&answer).starts_with(b"$"));
        }
    }
});
