//! Pages: which are there, where in the file, under which addresses, and why others are not.

use super::{Case, each, each_once, list, number};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use vmcore::format::addr::{FileOffset, PhysAddr, VirtAddr};
use vmcore::format::layout::Section;
use vmcore::memory::{PageReadError, PartialRead};
use vmcore::pages::{self, Mapping, PageMap};
use vmcore::translation::TranslationError;

const PAGE: u64 = 4096;

/// Lines of the dump that are not zero: file offset, length, and the rest of what is known.
fn lines(case: &Case) -> Vec<(u64, usize, &serde_json::Value)> {
    let mut lines = Vec::new();
    for line in list(&case.expected["present"]) {
        let len = usize::try_from(number(&line["len"])).unwrap();
        lines.push((number(&line["off"]), len, line));
    }
    lines
}

#[test]
fn file_physical_and_virtual_addresses_lead_to_the_same_bytes() {
    each(|case| {
        let file = std::fs::read(&case.path).unwrap();
        let (memory, space) = (case.session.dump().memory(), case.session.space().unwrap());
        for (off, len, line) in lines(case) {
            let start = usize::try_from(off).unwrap();
            let bytes = &file[start..start + len];
            assert!(
                bytes
                    .chunks(512)
                    .all(|line| line.iter().any(|byte| *byte != 0))
            );
            if line["pa"].is_null() {
                continue;
            }
            let (at, pa) = (
                format!("{} line at {off:#x}", case.name),
                number(&line["pa"]),
            );
            assert_eq!(memory.locate(PhysAddr(pa)), Ok(FileOffset(off)), "{at}");
            let mut buf = vec![0; len];
            let read = memory.read(PhysAddr(pa), &mut buf);
            assert_eq!((read.len, read.error), (len, None), "{at}");
            assert_eq!(buf, bytes, "{at}");
            for va in line["va"].as_array().into_iter().flatten() {
                let va = VirtAddr(number(va));
                let (found, offset) = space.locate(va).unwrap();
                assert_eq!((found.leaf.pa.0, offset.0), (pa, off), "{at} {va}");
                buf.fill(0);
                space.read_exact(va, &mut buf).unwrap();
                assert_eq!(buf, bytes, "{at} {va}");
            }
            let direct = case
                .session
                .dump()
                .minidump()
                .and_then(|header| header.direct_map);
            if let Some(va) = direct.and_then(|map| map.virt_of(PhysAddr(pa))) {
                assert_eq!(
                    space.locate(va).map(|(_, offset)| offset.0),
                    Ok(off),
                    "{at} {va}"
                );
            }
        }
    });
}

/// The lists of lines are complete: every other page of the file is zero.
#[test]
fn pages_without_listed_lines_are_zero() {
    each_once(|case| {
        let mut listed = lines(case)
            .into_iter()
            .filter(|(.., line)| !line["pa"].is_null())
            .map(|(off, ..)| off)
            .peekable();
        let zeros = [0; 4096];
        pages::scan(case.session.dump().memory(), |page| {
            let mut is_listed = false;
            while let Some(off) = listed.next_if(|off| *off < page.offset.0 + PAGE) {
                assert!(off >= page.offset.0, "{} {off:#x}", case.name);
                is_listed = true;
            }
            let is_zero = *page.bytes == zeros[..page.bytes.len()];
            assert_eq!(is_zero, !is_listed, "{} {}", case.name, page.offset);
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(listed.next(), None, "{}", case.name);
    });
}

/// Every page of RAM is in the file, cut off, or not dumped, exactly as a naive count says.
#[test]
fn every_page_of_ram_is_there_or_says_why_not() {
    each(|case| {
        let memory = case.session.dump().memory();
        let Some(sparse) = memory.sparse() else {
            return;
        };
        let file = std::fs::read(&case.path).unwrap();
        let section = |section| usize::try_from(sparse.layout().section(section).offset.0).unwrap();
        let bitmap = &file[section(Section::Bitmap)..section(Section::PageTables)];
        let mut next = section(Section::Pages) as u64;
        let (mut bit, mut counts) = (0, [0u64; 3]);
        for range in list(&case.expected["dump_avail"]) {
            for pa in (number(&range[0])..number(&range[1])).step_by(4096) {
                let pa = PhysAddr(pa);
                let is_set = bitmap[bit / 8] >> (bit % 8) & 1 == 1;
                let expected = match is_set {
                    true if next < file.len() as u64 => Ok(FileOffset(next)),
                    true => {
                        let file_len = FileOffset(file.len() as u64);
                        Err(PageReadError::Truncated {
                            pa,
                            offset: FileOffset(next),
                            file_len,
                        })
                    }
                    false => Err(PageReadError::NotDumped { pa }),
                };
                assert_eq!(memory.locate(pa), expected, "{}", case.name);
                counts[match expected {
                    Ok(_) => 0,
                    Err(PageReadError::Truncated { .. }) => 1,
                    Err(_) => 2,
                }] += 1;
                bit += 1;
                next += if is_set { PAGE } else { 0 };
            }
        }
        assert_eq!(
            counts[0] + counts[1],
            number(&case.expected["pages_in_bitmap"])
        );
        assert!(
            counts.iter().all(|count| *count > 0),
            "{} {counts:?}",
            case.name
        );
        // Between the ranges and behind them there is no RAM.
        let last = list(&case.expected["dump_avail"]).last().unwrap();
        for hole in [
            number(&case.expected["dump_avail"][0][1]),
            number(&last[1]),
            1 << 51,
        ] {
            let reason = memory.locate(PhysAddr(hole));
            assert_eq!(
                reason,
                Err(PageReadError::NotRam { pa: PhysAddr(hole) }),
                "{}",
                case.name
            );
        }
    });
}

#[test]
fn the_last_page_is_truncated_and_no_dump_memory_is_not_dumped() {
    each(|case| {
        let space = case.session.space().unwrap();
        let file_len = FileOffset(number(&case.expected["size"]));
        if case.name.starts_with("amd64-full") {
            let pa = PhysAddr(0x7fd_e000);
            let offset = FileOffset(0x7f7_a000);
            let reason = PageReadError::Truncated {
                pa,
                offset,
                file_len,
            };
            assert_eq!(space.memory().locate(pa), Err(reason));
        }
        if case.name.starts_with("amd64-minidump") {
            let (pa, va) = (PhysAddr(0x7fd_e000), VirtAddr(0xffff_f800_07fd_e000));
            let offset = FileOffset(0x666_9000);
            let reason = PageReadError::Truncated {
                pa,
                offset,
                file_len,
            };
            let error = space.read_u64(va).unwrap_err();
            assert_eq!(error, TranslationError::PageAbsent { va, pa, reason });
            assert!(error.is_loss());
            let words = error.to_string();
            assert!(words.contains("truncated at 0x60f9800"), "{words}");
            // A valid entry of the page tables names RAM that the kernel did not dump.
            let (pa, va) = (PhysAddr(0x400_f000), VirtAddr(0xffff_fe00_4580_f000));
            let reason = PageReadError::NotDumped { pa };
            let error = space.read_u64(va).unwrap_err();
            assert_eq!(error, TranslationError::PageAbsent { va, pa, reason });
            assert!(!error.is_loss());
            assert!(error.to_string().contains("bit is clear"), "{error}");
        }
    });
}

/// A read that runs over the end of the file brings what is there.
#[test]
fn reads_over_the_cut_are_partial() {
    each(|case| {
        let memory = case.session.dump().memory();
        let (off, len, line) = lines(case).into_iter().last().unwrap();
        assert_eq!(
            off + len as u64,
            number(&case.expected["size"]),
            "{}",
            case.name
        );
        let pa = PhysAddr(number(&line["pa"]));
        let mut buf = vec![0; len + 64];
        let PartialRead {
            len: read,
            error: reason,
        } = memory.read(pa, &mut buf);
        assert!(
            matches!(reason, Some(PageReadError::Truncated { .. })),
            "{} {reason:?}",
            case.name
        );
        let space = case.session.space().unwrap();
        let va = VirtAddr(number(&line["va"][0]));
        let part = space.read(va, &mut buf);
        assert_eq!(part.len, len, "{}", case.name);
        assert!(
            part.error.is_some_and(|error| error.is_loss()),
            "{}",
            case.name
        );
        assert_eq!(
            read, part.len,
            "physical and virtual reads bring the same: {}",
            case.name
        );
    });
}

/// All mappings, merged where they are contiguous in both address spaces: first address to
/// physical address and length.
fn merged(case: &Case) -> (usize, BTreeMap<u64, (u64, u64)>) {
    let mut runs: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let (mut leaves, mut last) = (0, 0);
    let summary = pages::visit_mappings(case.session.space().unwrap(), &mut |mapping: Mapping| {
        leaves += 1;
        let (va, pa) = (mapping.va.0, mapping.pa.0);
        match runs.get_mut(&last) {
            Some((first_pa, len)) if last + *len == va && *first_pa + *len == pa => {
                *len += mapping.len_bytes;
            }
            _ => {
                assert!(va >= last, "{}: visited in order", case.name);
                last = va;
                runs.insert(va, (pa, mapping.len_bytes));
            }
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(!summary.budget_exhausted, "{}", case.name);
    (leaves, runs)
}

#[test]
fn mapped_ranges_are_found_by_lookup_and_by_visit() {
    each(|case| {
        let space = case.session.space().unwrap();
        let (leaves, runs) = merged(case);
        for range in list(&case.expected["mapped_ranges"]) {
            let [va, pa, len] = ["va", "pa", "len"].map(|name| number(&range[name]));
            for inside in (0..len).step_by(4096) {
                let found = space
                    .translation()
                    .lookup(space.memory(), VirtAddr(va + inside));
                assert_eq!(
                    found.map(|found| found.leaf.pa.0),
                    Ok(pa + inside),
                    "{}",
                    case.name
                );
            }
            let (first, (first_pa, run_len)) = runs.range(..=va).next_back().unwrap();
            assert_eq!(va - first, pa - first_pa, "{} {va:#x}", case.name);
            assert!(va - first + len <= *run_len, "{} {va:#x}", case.name);
        }
        if case.name.starts_with("amd64-minidump") {
            assert_eq!((leaves, runs.len()), (2073, 321));
        }
    });
}

/// The map of pages has every page once, and of each the addresses that are known.
#[test]
fn the_page_map_has_every_address_of_every_listed_page() {
    each(|case| {
        let map = PageMap::build(case.session.space().unwrap()).unwrap();
        assert!(!map.is_cut_short(), "{}", case.name);
        let total = map.pages().count();
        assert_eq!(total, map.len());
        if let Some(pages) = case.expected.get("pages_in_bitmap") {
            assert_eq!(total as u64, number(pages));
        }
        for (off, _, line) in lines(case) {
            if line["pa"].is_null() {
                continue;
            }
            let page = map.page_at(FileOffset(off)).unwrap();
            assert_eq!(
                page.pa().map(|pa| pa.0),
                Some(number(&line["pa"]) / PAGE * PAGE)
            );
            assert_eq!(page.offset.0, off - number(&line["pa"]) % PAGE);
            let found: Vec<u64> = page.mappings().map(|(va, _)| va.0).collect();
            let expected = line["va"].as_array().map(Vec::as_slice).unwrap_or_default();
            let expected: Vec<u64> = expected.iter().map(|va| number(va) / PAGE * PAGE).collect();
            assert_eq!(found, expected, "{} page at {off:#x}", case.name);
        }
    });
}
