//! Real dumps of FreeBSD kernels: every value that is known of them, on every kind of access.
//!
//! `expected.json` beside the dumps holds what an independent reader found in them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod memory;
mod threads;

use serde_json::Value;
use std::path::PathBuf;
use vmcore::container::ContainerOptions;
use vmcore::dump::{Completeness, DumpFormat};
use vmcore::format::addr::{FileOffset, PhysAddr, VirtAddr};
use vmcore::format::header::DirectMap;
use vmcore::format::layout::Section;
use vmcore::format::paging::TableRef;
use vmcore::kernel::KernelFile;
use vmcore::session::KernelChoice;
use vmcore::source::Access;
use vmcore::{OpenOptions, Session, info, log};
use vmcore_testkit::corpus::corpus;

/// A dump of the corpus, opened in one way, and what is known of it.
struct Case {
    name: String,
    expected: Value,
    path: PathBuf,
    session: Session,
}

/// Runs a check on every dump by every kind of access.
fn each(check: impl Fn(&Case)) {
    by(&[Access::Auto, Access::Mapped, Access::Positional], check);
}

/// Runs a check on every dump once: one that reads all of the file does so by position anyway.
fn each_once(check: impl Fn(&Case)) {
    by(&[Access::Auto], check);
}

fn by(accesses: &[Access], check: impl Fn(&Case)) {
    let Some(corpus) = corpus() else {
        return;
    };
    let expected: Value = serde_json::from_str(&corpus.text("expected.json")).unwrap();
    for (name, expected) in expected["dumps"].as_object().unwrap() {
        let path = corpus.file(&format!("vmcore-{name}"));
        let kernel = corpus.file(&format!("kernel-{}", text(&expected["machine"])));
        for access in accesses {
            let options = OpenOptions::from(ContainerOptions {
                access: *access,
                ..ContainerOptions::default()
            });
            let session = Session::open(&path, KernelChoice::Given(&kernel), &options).unwrap();
            check(&Case {
                name: format!("{name} ({access:?})"),
                expected: expected.clone(),
                path: path.clone(),
                session,
            });
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// A number, written as such or in hexadecimal.
fn number(value: &Value) -> u64 {
    match value.as_str() {
        Some(hex) => u64::from_str_radix(hex.strip_prefix("0x").unwrap(), 16).unwrap(),
        None => value.as_u64().unwrap(),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

#[test]
fn kernels_are_read_as_they_lie_beside_their_dumps() {
    let Some(corpus) = corpus() else {
        return;
    };
    for name in ["kernel-amd64", "kernel-arm64", "kernel-i386"] {
        let packed = KernelFile::open(&corpus.packed(name)).unwrap();
        assert!(packed.is_packed());
        let whole = std::fs::read(corpus.file(name)).unwrap();
        assert!(packed.data() == whole, "{name}");
    }
}

#[test]
fn headers_hold_what_the_kernels_wrote() {
    each(|case| {
        let (dump, expected) = (case.session.dump(), &case.expected);
        assert_eq!(
            dump.arch().name(),
            text(&expected["machine"]),
            "{}",
            case.name
        );
        assert_eq!(dump.memory().source().len(), number(&expected["size"]));
        assert_eq!(dump.warnings(), [], "{}", case.name);
        assert!(dump.device_header().is_none());
        let Some(header) = dump.minidump() else {
            assert_eq!(text(&expected["kind"]), "elf-full");
            return;
        };
        assert_eq!(text(&expected["kind"]), "minidump");
        let expected = &expected["header"];
        let field = |name: &str| number(&expected[name]);
        let pmapsize = if expected["pmapsize"].is_null() {
            "ptesize"
        } else {
            "pmapsize"
        };
        assert_eq!(u64::from(header.version), field("version"));
        assert_eq!(u64::from(header.msgbufsize), field("msgbufsize"));
        assert_eq!(u64::from(header.bitmapsize), field("bitmapsize"));
        assert_eq!(u64::from(header.pmapsize), field(pmapsize));
        assert_eq!(
            header.dumpavailsize.map(u64::from),
            Some(field("dumpavailsize"))
        );
        assert_eq!(header.kernbase.0, field("kernbase"));
        let direct_map = (!expected["dmapbase"].is_null()).then(|| DirectMap {
            base: VirtAddr(field("dmapbase")),
            end: VirtAddr(field("dmapend")),
            phys: PhysAddr(expected.get("dmapphys").map_or(0, number)),
        });
        assert_eq!(header.direct_map, direct_map, "{}", case.name);
        assert_eq!(
            header.is_pae(),
            expected
                .get("paemode")
                .is_some_and(|mode| number(mode) != 0)
        );
    });
}

#[test]
fn sections_and_ranges_lie_where_they_were_found() {
    each(|case| {
        let memory = case.session.dump().memory();
        let sections = list(&case.expected["sections"]);
        if let Some(segments) = memory.segments() {
            let loads = list(&case.expected["loads"]);
            assert_eq!(segments.segments().len(), loads.len());
            for ((segment, load), section) in
                segments.segments().iter().zip(loads).zip(&sections[1..])
            {
                assert_eq!(segment.range.start.0, number(&load["pa"]));
                assert_eq!(segment.range.len_bytes(), number(&load["len"]));
                assert_eq!(segment.file_bytes, number(&load["len"]));
                assert_eq!(segment.offset.0, number(&load["off"]));
                assert_eq!(segment.offset.0, number(&section["off"]));
            }
            return;
        }
        let sparse = memory.sparse().unwrap();
        let all = [
            Section::Header,
            Section::MessageBuffer,
            Section::DumpAvail,
            Section::Bitmap,
            Section::PageTables,
            Section::Pages,
        ];
        assert_eq!(sections.len(), all.len());
        for (section, expected) in all.into_iter().zip(sections) {
            let extent = sparse.layout().section(section);
            assert_eq!(section.to_string(), text(&expected["name"]));
            assert_eq!(
                extent.offset.0,
                number(&expected["off"]),
                "{} {section}",
                case.name
            );
            let len = match section {
                // The pages go on to the end of the file, which is cut.
                Section::Pages => memory.source().len() - extent.offset.0,
                _ => extent.stored_bytes,
            };
            assert_eq!(len, number(&expected["len"]), "{} {section}", case.name);
        }
        let page = memory.page_size();
        let ranges = sparse.numbering().ranges().iter();
        let ranges: Vec<_> = ranges
            .map(|range| (page.base(range.first).0, page.base(range.end).0))
            .collect();
        let expected: Vec<_> = list(&case.expected["dump_avail"])
            .iter()
            .map(|range| (number(&range[0]), number(&range[1])))
            .collect();
        assert_eq!(ranges, expected, "{}", case.name);
    });
}

#[test]
fn what_is_missing_at_the_end_is_known_to_the_byte() {
    each(|case| {
        let dump = case.session.dump();
        let size = number(&case.expected["size"]);
        let end = match dump.kind() {
            DumpFormat::Mini(_) => {
                let sparse = dump.memory().sparse().unwrap();
                let pages = sparse.set_bits(dump.memory().source()).unwrap();
                assert_eq!(
                    pages,
                    number(&case.expected["pages_in_bitmap"]),
                    "{}",
                    case.name
                );
                let end = number(&case.expected["layout_end"]);
                assert_eq!(sparse.layout().end(pages), Some(FileOffset(end)));
                end
            }
            DumpFormat::Full(_) => {
                let last = list(&case.expected["loads"]).last().unwrap();
                number(&last["off"]) + number(&last["len"])
            }
        };
        let expected = Completeness::Truncated {
            missing_bytes: end - size,
            missing_pages: (end - size).div_ceil(4096),
        };
        assert_eq!(dump.completeness().unwrap(), expected, "{}", case.name);
    });
}

#[test]
fn symbols_lead_to_the_kernels_constants() {
    each(|case| {
        let space = case.session.space().unwrap();
        for (name, address) in case.expected["symbols"].as_object().unwrap() {
            let symbol = case.session.symbol(name).unwrap();
            assert_eq!(symbol.address.0, number(address), "{} {name}", case.name);
        }
        for (name, value) in case.expected["constants"].as_object().unwrap() {
            let address = case.session.symbol(name).unwrap().address;
            let found = space.read_u32(address).unwrap();
            assert_eq!(u64::from(found), number(value), "{} {name}", case.name);
        }
        let allproc = case.session.symbol("allproc").unwrap().address;
        let first = space.read_pointer(allproc).unwrap();
        assert_eq!(first.0, number(&case.expected["allproc_first"]));
        let hz = space
            .read_u32(case.session.symbol("hz").unwrap().address)
            .unwrap();
        assert_eq!(u64::from(hz), number(&case.expected["lldb_expected"]["hz"]));
    });
}

#[test]
fn a_full_dumps_page_tables_start_at_the_kernels_root() {
    each(|case| {
        let Some(root) = case.expected.get("page_table_root") else {
            return;
        };
        let space = case.session.space().unwrap();
        let hz = case.session.symbol("hz").unwrap().address;
        let mut steps = Vec::new();
        let found = space
            .translation()
            .trace(space.memory(), hz, |_, step| {
                steps.push((step.level, step.table))
            })
            .unwrap();
        assert_eq!(steps[0], (3, TableRef::At(PhysAddr(number(root)))));
        assert_eq!((steps.len(), found.leaf.size_shift), (3, 21));
        assert_eq!(found.leaf.pa, PhysAddr(0x1cd_4c0c));
    });
}

#[test]
fn their_message_buffers_were_blanked() {
    each(|case| {
        if case.session.dump().minidump().is_some() {
            let log = log::read(&case.session).unwrap();
            let capacity = number(&case.expected["header"]["msgbufsize"]);
            assert!(
                log.is_empty() && log.capacity_bytes == capacity,
                "{}",
                case.name
            );
        } else {
            assert!(log::read(&case.session).is_err(), "{}", case.name);
        }
    });
}

#[test]
fn what_is_told_of_them_fits_together() {
    each_once(|case| {
        let info = info::info(&case.session).unwrap();
        let is_mini = case.session.dump().minidump().is_some();
        assert_eq!(info.kind, if is_mini { "minidump" } else { "full dump" });
        assert_eq!(info.arch.name(), text(&case.expected["machine"]));
        assert_eq!(info.size_bytes, number(&case.expected["size"]));
        assert_eq!(info.state, case.session.dump().completeness().unwrap());
        if is_mini {
            assert_eq!(
                info.pages.in_dump,
                Some(number(&case.expected["pages_in_bitmap"]))
            );
            assert_eq!(
                info.predicted_bytes,
                Some(number(&case.expected["layout_end"]))
            );
        }
        // Every page without a line that is not zero is a page of zeros.
        let lines = list(&case.expected["present"]).iter();
        let mut used: Vec<u64> = lines
            .filter_map(|line| Some(number(line.get("pa")?) / 4096))
            .collect();
        used.dedup();
        let pages = match is_mini {
            true => number(&case.expected["size"]) - number(&case.expected["sections"][5]["off"]),
            false => number(&case.expected["size"]) - 0x1000,
        };
        let zeros = pages.div_ceil(4096) - used.len() as u64;
        assert_eq!(info.pages.zeros, Some(zeros), "{}", case.name);
        // Nothing but what a debugger reads for its threads is left in them.
        assert_eq!(
            (info.panic, info.kernel_version, info.build_ids),
            (None, None, None)
        );
    });
}
