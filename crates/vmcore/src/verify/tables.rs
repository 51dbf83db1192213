//! Checks of every page-table entry, and of the kernel's image.

use super::{Check, Verdict};
use crate::image::{self, Image};
use crate::memory::{Memory, PageReadError};
use crate::pages::{self, Census, Mapping, MappingVisitor, VisitSummary};
use crate::session::Session;
use crate::text::{count, counted};
use std::ops::ControlFlow;
use vmcore_format::elf::ELF_MAGIC;

/// What a kernel's `hz` may be.
const HZ_RANGE: std::ops::RangeInclusive<u32> = 10..=100_000;

/// The kernel map and what it maps.
pub(super) fn checks(session: &Session) -> Result<Vec<Check>, PageReadError> {
    let space = match session.space() {
        Ok(space) => space,
        Err(error) => {
            return Ok(vec![Check::new(
                "kernel map",
                Verdict::Skipped,
                error.to_string(),
            )]);
        }
    };
    let mut count = Count {
        memory: space.memory(),
        mappings: 0,
        pages: Pages::default(),
        failed: Ok(()),
    };
    let summary = pages::visit_mappings(space, &mut count)?;
    count.failed?;
    let mut checks = vec![tables(&summary, count.mappings), mapped_pages(&count.pages)];
    if let Some(Image { va, .. }) = image::fixed(session.dump().arch()) {
        let mut magic = [0; 4];
        let read = space.read_exact(va, &mut magic);
        checks.push(match read {
            Ok(()) => Check::of(
                "kernel image",
                &magic == ELF_MAGIC,
                Verdict::Warning,
                match &magic == ELF_MAGIC {
                    true => format!("an ELF header at {va}"),
                    false => format!("no ELF header at {va}, where the image starts"),
                },
            ),
            Err(error) => Check::new("kernel image", Verdict::Warning, error.to_string()),
        });
    }
    if let Ok(symbol) = session.symbol("hz") {
        checks.push(match space.read_u32(symbol.address) {
            Ok(hz) => Check::of(
                "hz",
                HZ_RANGE.contains(&hz),
                Verdict::Bad,
                match HZ_RANGE.contains(&hz) {
                    true => format!("{hz}"),
                    false => format!("{hz}: not plausible, so symbols do not fit this dump"),
                },
            ),
            Err(error) => Check::new("hz", Verdict::Warning, error.to_string()),
        });
    }
    Ok(checks)
}

fn tables(summary: &VisitSummary, mappings: u64) -> Check {
    let VisitSummary {
        table_pages,
        unreadable_tables,
        budget_exhausted,
    } = *summary;
    let detail = format!(
        "{}; {}",
        counted(mappings, "mapping", "mappings"),
        counted(table_pages, "page-table page", "page-table pages")
    );
    if budget_exhausted {
        let detail = format!("{detail}; more than a sound kernel has: cyclic or aliased tables");
        return Check::new("kernel map", Verdict::Bad, detail);
    }
    match unreadable_tables {
        0 if mappings == 0 => Check::new("kernel map", Verdict::Bad, "nothing is mapped"),
        0 => Check::new("kernel map", Verdict::Sound, detail),
        unreadable => Check::new(
            "kernel map",
            Verdict::Bad,
            format!("{detail}; {unreadable} of them are not in the dump or cut"),
        ),
    }
}

/// What the kernel map names, page by page.
#[derive(Default)]
struct Pages {
    named: u64,
    not_ram: u64,
    not_dumped: u64,
    truncated: u64,
}

fn mapped_pages(pages: &Pages) -> Check {
    let Pages {
        named,
        not_ram,
        not_dumped,
        truncated,
    } = *pages;
    let detail = format!(
        "{} named by the kernel map; absent: {} device memory, {} not dumped, {} truncated",
        count(named),
        count(not_ram),
        count(not_dumped),
        count(truncated)
    );
    Check::of("mapped pages", truncated == 0, Verdict::Bad, detail)
}

struct Count<'a> {
    memory: &'a Memory,
    mappings: u64,
    pages: Pages,
    failed: Result<(), PageReadError>,
}

impl MappingVisitor for Count<'_> {
    fn mapping(&mut self, mapping: Mapping) -> ControlFlow<()> {
        self.mappings += 1;
        match pages::census(self.memory, mapping) {
            Ok(census) => self.pages.add(census),
            Err(reason) => self.failed = Err(reason),
        }
        ControlFlow::Continue(())
    }
}

impl Pages {
    /// Numbers of damaged tables may be too large to be added.
    fn add(&mut self, census: Census) {
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        add(&mut self.named, census.named);
        add(&mut self.not_ram, census.named.saturating_sub(census.ram));
        add(
            &mut self.not_dumped,
            census.ram.saturating_sub(census.in_dump),
        );
        add(
            &mut self.truncated,
            census.in_dump.saturating_sub(census.in_file),
        );
    }
}
