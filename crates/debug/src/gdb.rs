//! A remote stub: any gdb or lldb, on any host, looks at the dump as if it were a stopped machine.
//!
//! It speaks the remote serial protocol on one connection and never changes anything: there is no
//! resume, and writes are refused. Memory that is not in the dump is an error, not zeros; a
//! register that was not saved is unavailable.
//!
//! - [`packet`]: the framing: checksums, acknowledgements, escapes;
//! - [`registers`]: which registers each architecture's debuggers expect, and their description;
//! - [`stub`]: the answers; [`serve`] connects it to a stream;
//! - [`frames`]: call frame information that leads stock gdb through trap frames;
//! - [`commands`]: what stock gdb is told to load;
//! - [`lldb`]: what stock lldb must be told.
//!
//! ```no_run
//! use std::net::TcpListener;
//! use vmcore_debug::{Target, gdb};
//! # fn show(target: &Target<'_>) -> Result<(), Box<dyn std::error::Error>> {
//! let list = vmcore::process::list(target.session())?;
//! let mut stub = gdb::Stub::new(target, &list);
//! let (stream, _) = TcpListener::bind("127.0.0.1:1234")?.accept()?;
//! gdb::serve(&mut stub, &stream, &stream)?;
//! # Ok(())
//! # }
//! ```

pub mod commands;
pub mod frames;
mod frames_elf;
pub mod lldb;
mod monitor;
pub mod packet;
pub mod registers;
mod signatures;
pub mod stub;

pub use stub::{After, Stub};

use crate::target::Target;
use object::{Object as _, ObjectSegment as _};
use packet::{Event, Parser};
use std::io::{self, Read, Write};

/// How far a kernel runs from where its file has it.
fn displacement(target: &Target<'_>) -> u64 {
    let kernel = target.session().kernel();
    kernel.map_or(0, vmcore::kernel::KernelFile::displacement)
}

/// Where a kernel's first segment is, and its place in the file.
fn first_segment(target: &Target<'_>) -> Option<(u64, u64)> {
    let elf = target.files().kernel().elf()?;
    let first = elf.segments().next()?;
    let start = first.address().wrapping_add(displacement(target));
    Some((start, first.file_range().0))
}

/// Serves one connection to its end.
///
/// # Errors
/// Returns an error if the connection breaks. One that is closed is no error.
pub fn serve(
    stub: &mut Stub<'_, '_>,
    mut input: impl Read,
    mut output: impl Write,
) -> io::Result<()> {
    let mut parser = Parser::default();
    let mut acknowledge = true;
    let mut last = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let len = match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        for byte in buffer.get(..len).unwrap_or_default() {
            let Some(event) = parser.push(*byte) else {
                continue;
            };
            match event {
                Event::Ack => {}
                Event::Nack => output.write_all(&last)?,
                Event::Interrupt => {
                    last = packet::framed(&stub.stop_reply());
                    output.write_all(&last)?;
                }
                Event::Damaged => {
                    if acknowledge {
                        output.write_all(b"-")?;
                    }
                }
                Event::Packet(request) => {
                    if acknowledge {
                        output.write_all(b"+")?;
                    }
                    let (replies, after) = stub.answer(&request);
                    for reply in replies {
                        last = packet::framed(&reply);
                        output.write_all(&last)?;
                    }
                    match after {
                        After::Go => {}
                        After::NoAcknowledgements => acknowledge = false,
                        After::Close => return output.flush(),
                    }
                }
            }
        }
        output.flush()?;
    }
}
