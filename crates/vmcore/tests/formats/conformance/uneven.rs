//! arm's page tables are whole KiB, not whole pages: kernels write the pages right behind them, other
//! writers on the next page boundary. What a dump holds is read right in both.

use crate::common::{open, session};
use vmcore::dump::{Completeness, Warning};
use vmcore::format::addr::VirtAddr;
use vmcore::format::layout::Section;
use vmcore::verify::{Verdict, verify};
use vmcore::{Dump, Session, log};
use vmcore_synth::Arch;
use vmcore_synth::header::DumpHeader;
use vmcore_synth::machine::{DumpFile, Machine, Options};
use vmcore_synth::minidump::Minidump;

const ARM: [Arch; 2] = [Arch::Armv7, Arch::Armeb];

/// A machine whose page tables end inside a page.
fn machine(arch: Arch, is_padded: bool) -> (Machine, Minidump) {
    let machine = Machine::new(&Options::new(arch, 2));
    let DumpFile::Mini(dump) = &machine.dump else {
        panic!("a minidump")
    };
    let mut dump = (**dump).clone();
    // The kernel map is a MiB longer.
    dump.page_tables.extend([0; 1024]);
    assert_eq!(dump.page_tables.len() % 4096, 1024);
    dump.page_tables_padded = is_padded;
    (machine, dump)
}

/// Both kinds of both byte orders.
fn each(check: impl Fn(&str, &Machine, &Minidump)) {
    for arch in ARM {
        for is_padded in [false, true] {
            let (machine, dump) = machine(arch, is_padded);
            check(&format!("{arch:?} padded {is_padded}"), &machine, &dump);
        }
    }
}

fn pages_at(dump: &Dump) -> u64 {
    let layout = dump.memory().sparse().unwrap().layout();
    layout.section(Section::Pages).offset.0
}

/// Every value whose page the file has is right.
fn says_the_truth(name: &str, machine: &Machine, session: &Session) -> usize {
    let space = session.space().unwrap();
    let mut read = 0;
    for (va, value) in &machine.truth.values {
        let mut found = vec![0; value.len()];
        if space.read_exact(VirtAddr(*va), &mut found).is_ok() {
            assert_eq!(&found, value, "{name} {va:#x}");
            read += 1;
        }
    }
    read
}

#[test]
fn whole_dumps_are_read_by_their_length() {
    each(|name, machine, dump| {
        let session = session(&dump.build(), Some(&machine.kernel.build()));
        assert_eq!(pages_at(session.dump()), dump.sections().pages, "{name}");
        let complete = Completeness::Complete { trailing_bytes: 0 };
        assert_eq!(session.dump().completeness(), Ok(complete), "{name}");
        assert_eq!(session.dump().warnings(), [], "{name}");
        let all = machine.truth.values.len();
        assert_eq!(says_the_truth(name, machine, &session), all, "{name}");
        assert_eq!(
            log::read(&session).unwrap().text(),
            machine.truth.log,
            "{name}"
        );
        let checks = verify(&session, |_| {}).unwrap().checks;
        let tables = checks
            .iter()
            .find(|check| check.name == "page tables")
            .unwrap();
        let expected = match dump.page_tables_padded {
            false => (Verdict::Sound, "the pages follow at once"),
            true => (Verdict::Warning, "filled up to whole pages"),
        };
        assert_eq!(tables.verdict, expected.0, "{name}");
        assert!(
            tables.detail.contains(expected.1),
            "{name}: {}",
            tables.detail
        );
        let worst = checks.iter().filter(|check| check.name != "page tables");
        let bad: Vec<_> = worst
            .filter(|check| check.verdict == Verdict::Bad)
            .collect();
        assert!(bad.is_empty(), "{name}: {bad:?}");
    });
}

#[test]
fn files_that_were_cut_or_filled_up_are_read_by_what_they_hold() {
    each(|name, machine, dump| {
        let (whole, kernel) = (dump.build(), machine.kernel.build());
        let pages = usize::try_from(dump.sections().pages).unwrap();
        let mut at_least = 0;
        // Cuts that leave a file of the other layout's length are among them.
        let cuts = (0..8).map(|kib| whole.len() - 1024 * kib - 1);
        let lens = cuts.chain([whole.len() - 1024, whole.len() - 3072, whole.len() - 4096]);
        for len in lens.chain([(whole.len() + pages) / 2]) {
            let session = session(&whole[..len], Some(&kernel));
            assert_eq!(pages_at(session.dump()), pages as u64, "{name} {len}");
            at_least += says_the_truth(name, machine, &session);
        }
        assert!(at_least > 0, "{name}");
        for more in [1, 512, 1024, 3072, 4096, 5000] {
            let mut file = whole.clone();
            file.resize(whole.len() + more, 0);
            let session = session(&file, Some(&kernel));
            assert_eq!(pages_at(session.dump()), pages as u64, "{name} +{more}");
            let all = machine.truth.values.len();
            assert_eq!(
                says_the_truth(name, machine, &session),
                all,
                "{name} +{more}"
            );
        }
    });
}

/// A dump of pages that say nothing about where they are.
fn silent(arch: Arch, is_padded: bool) -> Minidump {
    let mut dump = Minidump::new(arch, 2);
    dump.flags = 2;
    dump.dump_avail = vec![(0x8000_0000, 0x8000_8000)];
    dump.msgbuf = vec![b'x'; 100];
    dump.page_tables_padded = is_padded;
    dump.page_tables = vec![0; 3 * 1024];
    for number in 0..4_u32 {
        let entry = arch.u32(0x8000_0012 + (number << 12));
        let at = usize::try_from(number * 4).unwrap();
        dump.page_tables[at..at + 4].copy_from_slice(&entry);
        let fill = u8::try_from(0x40 + number).unwrap();
        dump.pages
            .insert(0x8000_0000 + u64::from(number << 12), vec![fill; 4096]);
    }
    dump
}

#[test]
fn a_dump_header_tells_how_long_a_cut_dump_was() {
    for (arch, is_padded) in ARM
        .into_iter()
        .flat_map(|arch| [(arch, false), (arch, true)])
    {
        let dump = silent(arch, is_padded);
        let built = dump.build();
        for len in [built.len(), built.len() - 5000] {
            let header = DumpHeader::new(arch.machine_arch(), built.len() as u64);
            let opened = open(&header.before(&built[..len]));
            assert_eq!(
                pages_at(&opened),
                dump.sections().pages,
                "{arch:?} {is_padded}"
            );
            assert_eq!(opened.doubt(), None);
        }
    }
}

#[test]
fn heads_of_empty_lists_tell_where_pages_start() {
    for (arch, is_padded) in ARM
        .into_iter()
        .flat_map(|arch| [(arch, false), (arch, true)])
    {
        let mut dump = silent(arch, is_padded);
        let head = 0xc000_1000_u32 + 0x7f8;
        let page = dump.pages.get_mut(&0x8000_1000).unwrap();
        page[0x7f8..0x7fc].fill(0);
        page[0x7fc..0x800].copy_from_slice(&arch.u32(head));
        let mut built = dump.build();
        built.truncate(built.len() - 5000);
        let opened = open(&built);
        assert_eq!(
            pages_at(&opened),
            dump.sections().pages,
            "{arch:?} {is_padded}"
        );
        assert_eq!(opened.doubt(), None);
    }
}

#[test]
fn where_nothing_tells_the_kernels_way_is_taken_and_said_to_be_a_guess() {
    for arch in ARM {
        let dump = silent(arch, false);
        let mut built = dump.build();
        built.truncate(built.len() - 5000);
        let opened = open(&built);
        assert_eq!(pages_at(&opened), dump.sections().pages);
        let uncertain = Warning::PagesUncertain { tables_bytes: 3072 };
        assert_eq!(opened.doubt(), Some(&uncertain));
        let session = session(&built, None);
        let checks = verify(&session, |_| {}).unwrap().checks;
        let is_bad = |name| {
            let mut named = checks.iter().filter(|check| check.name == name);
            named.any(|check| check.verdict == Verdict::Bad)
        };
        assert!(is_bad("page tables"));
        // Whole pages leave no doubt, wherever the file was cut.
        let mut even = dump.clone();
        even.page_tables.resize(4096, 0);
        let mut built = even.build();
        built.truncate(built.len() - 5000);
        assert_eq!(open(&built).doubt(), None);
    }
}
