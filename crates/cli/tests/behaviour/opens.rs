//! A command opens each of its files once, however many parts of it look at them.

use crate::amd64;
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;
use std::mem::MaybeUninit;

/// Runs a command and counts how often each of these files of its folder is opened.
fn opens(words: &str, files: [&str; 2]) -> [usize; 2] {
    let folder = amd64();
    let inotify = inotify::init(CreateFlags::NONBLOCK).unwrap();
    // Events that are equal become one: what happens between two makes them differ.
    let events = WatchFlags::OPEN | WatchFlags::ACCESS | WatchFlags::CLOSE;
    let watches =
        files.map(|file| inotify::add_watch(&inotify, folder.path().join(file), events).unwrap());
    folder.vmcore(words).expect(0);
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = Reader::new(inotify, &mut buffer);
    let mut counts = [0; 2];
    loop {
        let event = match events.next() {
            Err(Errno::WOULDBLOCK) => return counts,
            event => event.unwrap(),
        };
        for (count, watch) in counts.iter_mut().zip(watches) {
            let is_open = event.events().contains(inotify::ReadFlags::OPEN);
            *count += usize::from(event.wd() == watch && is_open);
        }
    }
}

#[test]
fn each_file_is_opened_once() {
    for command in [
        "info vmcore.0 kernel",
        "info kernel vmcore.0",
        "read vmcore.0 panicstr",
        "read vmcore.0 --phys 0x200000 16 -k kernel",
        "ps vmcore.0 -k kernel",
        "bt vmcore.0 kernel",
        "report vmcore.0 kernel",
        "log vmcore.0 kernel",
        "verify vmcore.0 kernel",
    ] {
        assert_eq!(opens(command, ["vmcore.0", "kernel"]), [1, 1], "{command}");
    }
}
