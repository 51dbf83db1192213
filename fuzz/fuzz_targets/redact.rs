//! A redacted dump: what was read of the dump is in it, the same bytes; nothing else is; its own
//! checksums are right. The input is a dump and a kernel file as for `session`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use vmcore::format::addr::PhysAddr;
use vmcore::session::{KernelChoice, Session};
use vmcore::source::Recorder;
use vmcore::verify::{self, Verdict};
use vmcore::{OpenOptions, log, pages, process};
use vmcore_fuzz::file::{InputFile, output_folder};
use vmcore_fuzz::input::Input;
use vmcore_fuzz::limit;
use vmcore_pipeline::redact::Redaction;

/// Pages that are compared.
const COMPARED: usize = 256;

fuzz_target!(|data: &[u8]| {
    let (dump, kernel) = Input(data).two_files();
    let (dump, kernel) = (InputFile::new(dump), InputFile::new(kernel));
    let folder = output_folder();
    limit::memory(data.len(), || {
        let recorder = Arc::new(Recorder::default());
        let options = OpenOptions {
            recorder: Some(recorder.clone()),
            ..OpenOptions::default()
        };
        let choice = KernelChoice::Given(kernel.path());
        let Ok(session) = Session::open(dump.path(), choice, &options) else {
            return;
        };
        let session = session.with_force(true);
        recorder.set(true);
        let _ = process::list(&session);
        let _ = log::read(&session);
        let memory = session.dump().memory();
        // One page goes again, by its address.
        let first = pages::all(memory).find_map(|(pfn, _)| pfn);
        let dropped: Vec<PhysAddr> = first
            .map(|pfn| memory.page_size().base(pfn))
            .into_iter()
            .collect();
        let Ok(redaction) = Redaction::new(&session, &recorder, vec!["threads"], false, &dropped)
        else {
            return;
        };
        let path = folder.path().join("small");
        let Ok(written) = redaction.write(&path, false) else {
            assert!(!path.exists());
            return;
        };
        let len = std::fs::metadata(&path).map(|metadata| metadata.len());
        assert_eq!(len.ok(), Some(written.len_bytes));
        let small = Session::open(&path, KernelChoice::None, &OpenOptions::default());
        let small = small.expect("a dump that we have written");
        let kept = small.dump().memory();
        let count = pages::all(kept).count();
        assert_eq!(count as u64, redaction.manifest().kept_pages);
        for (pfn, _) in pages::all(kept).take(COMPARED) {
            let pfn = pfn.expect("a page of RAM");
            let (ours, theirs) = (kept.page(pfn), memory.page(pfn));
            assert!(dropped.iter().all(|pa| memory.page_size().pfn(*pa) != pfn));
            assert_eq!(*ours.expect("it was kept"), *theirs.expect("it was read"));
        }
        let found = verify::verify(&small, |_| {}).expect("its bitmap");
        let bad = found.checks.iter().find(|check| {
            check.verdict == Verdict::Bad && matches!(check.name, "page sums" | "section sums")
        });
        assert!(bad.is_none(), "{bad:?}");
    });
});
