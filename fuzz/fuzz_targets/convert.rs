//! A dump as an ELF core: the core opens, and the memory in it is that of the dump. The input is a
//! dump and a kernel file as for `session`; the kernel file may be empty.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::ops::ControlFlow;
use vmcore::OpenOptions;
use vmcore::format::addr::VirtAddr;
use vmcore::format::endian::Width;
use vmcore::pages::{self, Mapping};
use vmcore::session::{KernelChoice, Session};
use vmcore::space::AddressSpace;
use vmcore::translation::WindowKind;
use vmcore_fuzz::file::{InputFile, output_folder};
use vmcore_fuzz::input::Input;
use vmcore_fuzz::limit;
use vmcore_pipeline::elf;

/// Segments and mappings whose bytes are compared.
const COMPARED: usize = 256;
/// Bytes of each that are compared.
const BYTES: u64 = 64;

fuzz_target!(|data: &[u8]| {
    let (dump, kernel) = Input(data).two_files();
    let has_kernel = !kernel.is_empty();
    let (dump, kernel) = (InputFile::new(dump), InputFile::new(kernel));
    let folder = output_folder();
    limit::memory(data.len(), || {
        let kernel = match has_kernel {
            true => KernelChoice::Given(kernel.path()),
            false => KernelChoice::None,
        };
        let Ok(session) = Session::open(dump.path(), kernel, &OpenOptions::default()) else {
            return;
        };
        let session = session.with_force(true);
        let path = folder.path().join("core");
        let Ok(done) = elf::convert(&session, &path, false, |_, _| {}) else {
            assert!(!path.exists());
            return;
        };
        let len = std::fs::metadata(&path).map(|metadata| metadata.len());
        assert_eq!(len.ok(), Some(done.len_bytes));
        if done.segments == 0 {
            return;
        }
        // The core has a header for each segment, and costs memory for each.
        let len = usize::try_from(done.len_bytes).expect("a file that is there");
        limit::memory(len, || {
            let core = Session::open(&path, KernelChoice::None, &OpenOptions::default());
            let core = core.expect("a core that we have written");
            assert_eq!(core.dump().arch(), session.dump().arch());
            if let (Ok(from), Ok(to)) = (session.space(), core.space()) {
                compare(from, to);
            }
        });
    });
});

/// What the core's segments hold is what the dump holds at their addresses, and it holds all that
/// the dump maps.
fn compare(from: AddressSpace<'_>, to: AddressSpace<'_>) {
    let Some(WindowKind::Segments(segments)) = to
        .translation()
        .windows()
        .first()
        .map(|window| &window.kind)
    else {
        return;
    };
    for segment in segments.iter().take(COMPARED) {
        let len = segment.p_memsz.min(BYTES);
        for start in [segment.p_vaddr, segment.p_vaddr + (segment.p_memsz - len)] {
            let expected = read(from, start, len);
            assert!(expected.is_some(), "{start:#x} is not in the dump");
            assert_eq!(read(to, start, len), expected, "{start:#x}");
        }
    }
    let mut left = COMPARED;
    let visited = pages::visit_mappings(from, &mut |mapping: Mapping| {
        left -= 1;
        // A segment without its own address is not a segment of virtual memory, and a 32-bit
        // core cannot say where PAE's high memory is.
        let is_told = mapping.va.0 != mapping.pa.0
            && (to.word() == Width::W64 || mapping.pa.0 <= u64::from(u32::MAX));
        let len = mapping.len_bytes.min(BYTES);
        if let Some(expected) = read(from, mapping.va.0, len).filter(|_| is_told) {
            assert_eq!(read(to, mapping.va.0, len), Some(expected), "{mapping:x?}");
        }
        if left == 0 {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    assert!(visited.is_ok());
}

fn read(space: AddressSpace<'_>, va: u64, len_bytes: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(len_bytes).ok()?];
    space.read_exact(VirtAddr(va), &mut bytes).ok()?;
    Some(bytes)
}
