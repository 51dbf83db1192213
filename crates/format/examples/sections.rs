//! Prints the sections of a minidump: `sections vmcore.0`.

use std::error::Error;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use vmcore_format::header::Header;
use vmcore_format::layout::{Layout, Section};

/// One line for each section: its offset, its length in bytes, its name.
pub fn sections(path: &Path) -> Result<String, Box<dyn Error>> {
    let mut page = [0; 4096];
    File::open(path)?.read_exact(&mut page)?;
    let header = Header::parse(&page)?;
    let layout = Layout::of(&header);
    let mut text = format!("{} minidump version {}\n", header.arch, header.version);
    for section in [
        Section::Header,
        Section::MessageBuffer,
        Section::DumpAvail,
        Section::Bitmap,
        Section::PageTables,
    ] {
        let extent = layout.section(section);
        text += &format!("{} {:>9} {section}\n", extent.offset, extent.len_bytes);
    }
    Ok(text + &format!("{} pages\n", layout.section(Section::Pages).offset))
}

#[expect(clippy::print_stdout, reason = "a program prints")]
fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: sections DUMP")?;
    print!("{}", sections(Path::new(&path))?);
    Ok(())
}
