//! Files that the library opens, read in order and here and there.

use crate::file::InputFile;
use vmcore::container::{self, ContainerOptions, Layer};
use vmcore::source::Source;

/// The library takes `packed` for one `layer` around `plain`, and reads it right.
pub fn check(packed: &[u8], layer: &Layer, plain: &[u8]) {
    let file = InputFile::new(packed);
    let opened = container::open(file.path(), &ContainerOptions::default()).expect("it opens");
    assert_eq!(opened.layers.first(), Some(layer));
    // Memory may start like a dump device's header.
    if opened.layers.len() == 1 {
        compare(&opened.source, plain);
    }
}

/// Compares a source with what it is to hold.
pub fn compare(source: &Source, plain: &[u8]) {
    let mut part = vec![0; 5000];
    for step in 1..6u64 {
        let at = step.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (plain.len() as u64 + 1);
        let read = source.read_at(at, &mut part).expect("it is sound");
        let at = usize::try_from(at).expect("it is in memory");
        assert!(part[..read] == plain[at..at + read], "at {at}");
        assert_eq!(read, part.len().min(plain.len() - at), "at {at}");
    }
    let mut all = vec![0; plain.len() + 1];
    let read = source.read_at(0, &mut all).expect("it is sound");
    assert!(all[..read] == *plain, "{read} of {} bytes", plain.len());
}
