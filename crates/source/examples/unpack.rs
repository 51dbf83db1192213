//! Writes what is inside a dump file, whatever is around it: `unpack vmcore.0.zst vmcore.0`.

use std::error::Error;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use vmcore_source::container::{self, ContainerOptions};

/// Copies the dump out of its containers, and names them.
pub fn unpack(from: &Path, to: &Path) -> Result<String, Box<dyn Error>> {
    let opened = container::open(from, &ContainerOptions::default())?;
    let mut file = File::create_new(to)?;
    let mut piece = vec![0; 1 << 20];
    let mut offset = 0;
    loop {
        let len = opened.source.read_at(offset, &mut piece)?;
        if len == 0 {
            break;
        }
        file.write_all(&piece[..len])?;
        offset += len as u64;
    }
    let mut text = format!("{offset} bytes\n");
    for layer in &opened.layers {
        text += &format!("inside: {layer}\n");
    }
    Ok(text)
}

#[expect(clippy::print_stdout, reason = "a program prints")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut paths = std::env::args_os().skip(1);
    let (Some(from), Some(to)) = (paths.next(), paths.next()) else {
        return Err("usage: unpack FROM TO".into());
    };
    print!("{}", unpack(Path::new(&from), Path::new(&to))?);
    Ok(())
}
