//! `vmcore map`: which memory of the machine is in the dump, as a table or a picture.

use crate::advice::{Result, Run, opening};
use crate::commands::map_svg;
use crate::context::{Context, KernelUse};
use crate::help;
use crate::outcome::Status;
use crate::output::{Out, Style};
use crate::signals;
use crate::text::{self, count};
use clap::Args;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use vmcore::map::{self, Kinds, MemoryMap, RangeMap};
use vmcore::{OpenOptions, Session};
use vmcore_pipeline::output::OutputFile;

/// Which memory is in the dump: a table or a picture
#[derive(Debug, Args)]
#[command(
    override_usage = "vmcore map [FILE] [--svg OUT] [OPTIONS]",
    after_help = help::with_files("\
Needs no kernel file for a minidump.
A full dump contains all RAM; the map shows how the RAM is used.")
)]
pub(crate) struct Map {
    /// The dump, and its kernel file if you like, in either order
    #[arg(hide = true)]
    words: Vec<OsString>,
    /// Draw a picture into this file
    #[arg(long, value_name = "OUT")]
    svg: Option<PathBuf>,
}

/// Cells of the bars in the table, and of the picture.
const TABLE_CELLS: u64 = 48;
const PICTURE_CELLS: u64 = 1920;
/// How full a cell is, from empty to full.
const SHADES: [char; 6] = [' ', '.', ':', '+', '*', '#'];

impl Run for Map {
    fn run(&self, context: &Context) -> Result<Status> {
        signals::clean_up_when_ended();
        context.choose(&self.words, 0..=0, "")?;
        let session = context.open(KernelUse::Addresses, &OpenOptions::default())?;
        let mut picture = match &self.svg {
            Some(path) => Some(OutputFile::create(path, context.common().force)?),
            None => None,
        };
        let cells = if picture.is_some() {
            PICTURE_CELLS
        } else {
            TABLE_CELLS
        };
        let map = map::map(&session, cells)?;
        if let (Some(mut file), Some(path)) = (picture.take(), &self.svg) {
            let title = title(&session);
            let svg = map_svg::draw(&title, &map);
            let written = file.file().write_all(svg.as_bytes());
            written.map_err(|error| file.error(error))?;
            file.commit()?;
            context.note(&format!("vmcore: wrote {}", text::path(path)));
            if context.common().json {
                context.json(Some(session.dump()), &map)?;
            }
            return Ok(Status::Done);
        }
        if context.common().json {
            context.json(Some(session.dump()), &map)?;
            return Ok(Status::Done);
        }
        let mut out = context.out();
        print(&mut out, &map, &session)?;
        out.finish()?;
        Ok(Status::Done)
    }
}

fn title(session: &Session) -> String {
    let dump = session.dump();
    let name = dump
        .path()
        .file_name()
        .map(|name| text::path(name.as_ref()))
        .unwrap_or_default();
    format!("{name}: FreeBSD/{} {}", dump.arch(), dump.kind().name())
}

fn print(out: &mut Out, map: &MemoryMap, session: &Session) -> Result<()> {
    let heading = format!(
        "{:<31} {:>9} {:>9} {:>5} {:>9} {:>7} {:>9}  PICTURE",
        "PHYSICAL", "PAGES", "IN DUMP", "%", "KERNEL", "TABLES", "OTHERS"
    );
    writeln!(out, "{}", out.paint(Style::Label, &heading))?;
    for RangeMap {
        range,
        pages,
        cells,
    } in &map.ranges
    {
        let picture: String = cells.iter().map(shade).collect();
        writeln!(
            out,
            "{:<31} {}  |{picture}|",
            range.to_string(),
            columns(pages)
        )?;
    }
    writeln!(
        out,
        "{}",
        out.paint(
            Style::Strong,
            &format!("{:<31} {}", "all", columns(&map.total))
        )
    )?;
    let cell = text::size(map.cell_pages.saturating_mul(map.page_size_bytes));
    let mut notes = vec![format!(
        "pages of {}; a sign of the picture is {cell}, from ' ' (none of it) to # (all of it)",
        text::size(map.page_size_bytes)
    )];
    if map.total.unclassified > 0 {
        let why = if opening::is_full(session) {
            "the kernel file tells what for (-k)"
        } else {
            "nothing tells what for: outside the kernel map, the page tables and the direct map"
        };
        notes.push(format!(
            "{} of the others: {why}",
            text::counted(map.total.unclassified, "page", "pages")
        ));
    }
    if map.total.truncated > 0 {
        notes.push(format!(
            "{} cut off: the file ends before them",
            text::counted(map.total.truncated, "page is", "pages are")
        ));
    }
    if let Some(absent) = map.mapped_but_absent.filter(|absent| *absent > 0) {
        notes.push(format!(
            "{} by the kernel map, but not in the dump (device memory, or not to be dumped)",
            text::counted(absent, "page is named", "pages are named")
        ));
    }
    if map.padding_pages > 0 {
        notes.push(format!(
            "{} of the file are past the end of RAM",
            text::counted(map.padding_pages, "page", "pages")
        ));
    }
    if map.is_cut_short {
        notes.push(
            "the page tables hold more than a sound kernel would: kinds may be wrong".to_owned(),
        );
    }
    for note in notes {
        writeln!(out, "{}", out.paint(Style::Faint, &note))?;
    }
    Ok(())
}

fn columns(pages: &Kinds) -> String {
    let others = pages.direct_map_only + pages.unclassified;
    let tenths = u128::from(pages.in_dump()) * 1000 / u128::from(pages.ram.max(1));
    format!(
        "{:>9} {:>9} {:>5} {:>9} {:>7} {:>9}",
        count(pages.ram),
        count(pages.in_dump()),
        format!("{}.{}", tenths / 10, tenths % 10),
        count(pages.kernel_map),
        count(pages.page_tables),
        count(others)
    )
}

/// How full a cell is: something is never shown as nothing, nor is less than all shown as all.
fn shade(cell: &Kinds) -> char {
    let last = SHADES.len() - 1;
    let (have, all) = (u128::from(cell.in_dump()), u128::from(cell.ram.max(1)));
    let step = match have {
        0 => 0,
        have if have >= all => last,
        have => usize::try_from(have * last as u128 / all)
            .unwrap_or(0)
            .clamp(1, last - 1),
    };
    SHADES.get(step).copied().unwrap_or(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shades_are_exact_at_both_ends() {
        let cell = |in_dump| {
            shade(&Kinds {
                ram: 1000,
                kernel_map: in_dump,
                ..Kinds::default()
            })
        };
        assert_eq!([0, 1, 999, 1000].map(cell), [' ', '.', '*', '#']);
    }
}
