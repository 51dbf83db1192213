//! Names of source files, short enough for a line.

use crate::stack::NamedFrame;

/// The directory that the source files of these frames have in common, with its slash; nothing if
/// there is none but the root.
pub(super) fn common<'a>(frames: impl Iterator<Item = &'a NamedFrame>) -> Option<String> {
    let places = frames.flat_map(|frame| &frame.places);
    let files = places.filter_map(|place| place.file.as_deref());
    let absolute = files.filter(|file| file.starts_with('/'));
    let directory = absolute.map(directory).reduce(|known, other| {
        let equal = known.split_inclusive('/').zip(other.split_inclusive('/'));
        let len = equal
            .take_while(|(known, other)| known == other)
            .map(|(known, _)| known.len())
            .sum();
        known.get(..len).unwrap_or_default()
    })?;
    (directory.len() > 1).then(|| directory.to_owned())
}

fn directory(file: &str) -> &str {
    let end = file.rfind('/').map_or(0, |slash| slash + 1);
    file.get(..end).unwrap_or_default()
}

/// A file's name without the directory that all have in common.
pub(super) fn below<'a>(file: &'a str, root: Option<&str>) -> &'a str {
    root.and_then(|root| file.strip_prefix(root))
        .unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::SourcePlace;
    use crate::unwind::{Frame, How};
    use vmcore_format::addr::VirtAddr;

    fn frame(file: &str) -> NamedFrame {
        NamedFrame {
            frame: Frame {
                pc: VirtAddr(1),
                sp: None,
                fp: None,
                how: How::Pcb,
                exact: false,
                name: None,
                doubt: None,
                trap: None,
                registers: Default::default(),
            },
            places: vec![SourcePlace {
                function: "f".to_owned(),
                file: Some(file.to_owned()),
                line: None,
                inlined: false,
            }],
        }
    }

    #[test]
    fn the_directory_in_common_is_of_whole_names() {
        let of = |files: &[&str]| {
            let frames: Vec<NamedFrame> = files.iter().copied().map(frame).collect();
            common(frames.iter())
        };
        let root = of(&["/usr/src/sys/net/if.c", "/usr/src/sys/netinet/in.c"]);
        assert_eq!(root.as_deref(), Some("/usr/src/sys/"));
        let name = below("/usr/src/sys/net/if.c", root.as_deref());
        assert_eq!(name, "net/if.c");
        assert_eq!(of(&["/a/x.c", "/b/x.c"]), None);
        assert_eq!(of(&["x.c"]), None);
        assert_eq!(below("x.c", root.as_deref()), "x.c");
    }
}
