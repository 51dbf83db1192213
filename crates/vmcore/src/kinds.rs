//! Files that people take for dumps, by what they are and what to type instead.
//!
//! ```
//! let kind = vmcore::kinds::of(b"QFI\xfb\0\0\0\x03").ok_or("unknown")?;
//! assert_eq!(kind.name, "a qcow2 disk image");
//! # Ok::<(), &str>(())
//! ```

use crate::source::Source;
use vmcore_format::elf::{
    FileHeader, NT_VMCORE_ORIGIN, ORIGIN_DISPLACEMENT, ORIGIN_OWNER, PT_LOAD, PT_NOTE, Segment,
};
use vmcore_format::endian::{Endian, Width};

/// A kind of file that is not a FreeBSD kernel dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherKind {
    /// What it is, with its article.
    pub name: &'static str,
    /// What to type, with `FILE` for the file.
    pub command: &'static str,
}

const fn kind(
    at: usize,
    magic: &'static [u8],
    name: &'static str,
    command: &'static str,
) -> (usize, &'static [u8], OtherKind) {
    (at, magic, OtherKind { name, command })
}

const TO_RAW: &str = "qemu-img convert -O raw FILE FILE.raw; vmcore info FILE.raw";
const CRASH: &str = "crash vmlinux FILE";
const WINDBG: &str = "windbg -z FILE, on Windows";

/// Where the magic is, the magic, the kind.
const KINDS: [(usize, &[u8], OtherKind); 51] = [
    kind(0, b"\xfd7zXZ\0", "an xz file", "xz -dc FILE > FILE.plain"),
    kind(0, b"BZh", "a bzip2 file", "bzip2 -dk FILE"),
    kind(
        0,
        b"\x04\x22\x4d\x18",
        "an lz4 file",
        "lz4 -d FILE FILE.plain",
    ),
    kind(
        0,
        b"\x02\x21\x4c\x18",
        "an lz4 file",
        "lz4 -d FILE FILE.plain",
    ),
    kind(0, b"LZIP", "an lzip file", "lzip -dk FILE"),
    kind(
        0,
        b"\x89LZO\0\r\n\x1a\n",
        "an lzop file",
        "lzop -dc FILE > FILE.plain",
    ),
    kind(
        0,
        b"\x5d\0\0",
        "an lzma file",
        "xz -dc --format=lzma FILE > FILE.plain",
    ),
    kind(
        0,
        b"\x1f\x9d",
        "a file of compress(1)",
        "uncompress < FILE > FILE.plain",
    ),
    kind(0, b"PK\x03\x04", "a zip archive", "unzip FILE"),
    kind(0, b"PK\x05\x06", "an empty zip archive", "unzip -l FILE"),
    kind(0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "7z x FILE"),
    kind(0, b"Rar!\x1a\x07", "a RAR archive", "unrar x FILE"),
    kind(257, b"ustar", "a tar archive", "tar -xf FILE"),
    kind(0, b"070701", "a cpio archive", "cpio -idv < FILE"),
    kind(0, b"070702", "a cpio archive", "cpio -idv < FILE"),
    kind(0, b"070707", "a cpio archive", "cpio -idv < FILE"),
    kind(0, b"\xc7\x71", "a cpio archive", "cpio -idv < FILE"),
    kind(0, b"\x71\xc7", "a cpio archive", "cpio -idv < FILE"),
    kind(
        0,
        b"KDUMP   ",
        "a kdump-compressed dump of a Linux kernel",
        CRASH,
    ),
    kind(0, b"DISKDUMP", "a diskdump of a Linux kernel", CRASH),
    kind(
        0,
        b"makedumpfile\0",
        "a flattened kdump of a Linux kernel",
        "makedumpfile -R FILE.kdump < FILE; crash vmlinux FILE.kdump",
    ),
    kind(
        0,
        b"EMiL",
        "a LiME image of a Linux machine's memory",
        "vol -f FILE banners.Banners",
    ),
    kind(
        0,
        b"AVML",
        "an AVML image of a Linux machine's memory",
        "avml-convert FILE FILE.lime; vol -f FILE.lime banners.Banners",
    ),
    kind(0, b"\xd0\xbe\xd2\xbe", VMWARE, VMSS),
    kind(0, b"\xd2\xbe\xd2\xbe", VMWARE, VMSS),
    kind(0, b"\xd3\xbe\xd2\xbe", VMWARE, VMSS),
    kind(0, b"\xd0\xbe\xd0\xbe", VMWARE, VMSS),
    kind(0, b"\xd3\xbe\xd3\xbe", VMWARE, VMSS),
    kind(0, b"\xd1\xba\xd1\xba", VMWARE, VMSS),
    kind(0, b"\xd2\xba\xd2\xba", VMWARE, VMSS),
    kind(0, b"QFI\xfb", "a qcow2 disk image", TO_RAW),
    kind(0, b"QED\0", "a QED disk image", TO_RAW),
    kind(0, b"KDMV", "a VMDK disk image", TO_RAW),
    kind(0, b"COWD", "a VMDK disk image", TO_RAW),
    kind(
        0,
        b"# Disk DescriptorFile",
        "the description of a VMDK disk image",
        TO_RAW,
    ),
    kind(64, b"\x7f\x10\xda\xbe", "a VDI disk image", TO_RAW),
    kind(0, b"conectix", "a VHD disk image", TO_RAW),
    kind(0, b"vhdxfile", "a VHDX disk image", TO_RAW),
    kind(0, b"WithoutFreeSpace", "a Parallels disk image", TO_RAW),
    kind(0, b"WithouFreSpacExt", "a Parallels disk image", TO_RAW),
    kind(
        0,
        b"QEVM",
        "a state that QEMU saved",
        "(in the guest's monitor) dump-guest-memory FILE.elf; vmcore info FILE.elf",
    ),
    kind(
        0,
        b"LibvirtQemudSave",
        "a state that libvirt saved",
        "virsh restore FILE; virsh dump --memory-only DOMAIN FILE.elf; vmcore info FILE.elf",
    ),
    kind(
        0,
        b"\x7fVirtualBox SavedState",
        "a state that VirtualBox saved",
        "VBoxManage debugvm VM dumpvmcore --filename=FILE.elf; vmcore info FILE.elf",
    ),
    kind(0, b"PAGEDU64", "a dump of a Windows kernel", WINDBG),
    kind(0, b"PAGEDUMP", "a dump of a Windows kernel", WINDBG),
    kind(0, b"MDMP", "a minidump of a Windows program", WINDBG),
    kind(0, b"\xcf\xfa\xed\xfe", MACOS, "lldb -c FILE"),
    kind(0, b"\xfe\xed\xfa\xcf", MACOS, "lldb -c FILE"),
    kind(0, b"\xce\xfa\xed\xfe", MACOS, "lldb -c FILE"),
    kind(0, b"\xfe\xed\xfa\xce", MACOS, "lldb -c FILE"),
    kind(
        0,
        b"Dump header from device: ",
        "what savecore says of a dump",
        "vmcore list, for the dump beside it",
    ),
];
const VMWARE: &str = "a state that VMware saved";
const VMSS: &str = "vmss2core -N6 FILE NAME.vmem; vmcore info vmss.core";
const MACOS: &str = "a Mach-O core or program of macOS";

/// What a file is that starts with these bytes; `None` if it is unknown.
#[must_use]
pub fn of(first: &[u8]) -> Option<OtherKind> {
    let found = KINDS.iter().find(|(at, magic, _)| {
        first
            .get(*at..)
            .is_some_and(|bytes| bytes.starts_with(magic))
    });
    found.map(|(_, _, kind)| *kind)
}

const LINUX: OtherKind = OtherKind {
    name: "a dump of a Linux kernel",
    command: CRASH,
};
const PROGRAM: OtherKind = OtherKind {
    name: "a core of a program, not of a kernel",
    command: "gdb PROGRAM FILE",
};
/// Program headers, and bytes of notes, that are looked at.
const HEADERS_MAX: u16 = 64;
const NOTES_MAX: usize = 64 << 10;

/// What an ELF core is, if its notes say that it is not a FreeBSD kernel's.
pub(crate) fn of_core(source: &Source, elf: &FileHeader) -> Option<OtherKind> {
    let segments = first_segments(source, elf)?;
    // A program's memory has no physical addresses, and all of it is the user's.
    let user_end = match elf.class {
        Width::W32 => u64::from(u32::MAX),
        Width::W64 => i64::MAX.cast_unsigned(),
    };
    let mut loads = segments.iter().filter(|segment| segment.p_type == PT_LOAD);
    let is_user = loads.all(|load| load.p_paddr == 0 && (1..user_end).contains(&load.p_vaddr));
    for notes in note_segments(source, &segments) {
        for (name, number, contents) in each_note(&notes, elf.endian) {
            match (name, number) {
                (b"VMCOREINFO", _) if contents.starts_with(b"OSRELEASE=") => return Some(LINUX),
                // The auxiliary vector, the mapped files, what the signal was.
                (b"CORE", 6 | 0x4649_4c45 | 0x5349_4749) if is_user => return Some(PROGRAM),
                // What procstat(1) shows.
                (b"FreeBSD", 8..=17) if is_user => return Some(PROGRAM),
                _ => {}
            }
        }
    }
    None
}

/// How far the kernel of a core that vmcore wrote ran from the addresses in its file.
pub(crate) fn displacement(source: &Source, elf: &FileHeader) -> Option<u64> {
    let owner = ORIGIN_OWNER.strip_suffix(b"\0")?;
    let segments = first_segments(source, elf)?;
    note_segments(source, &segments).find_map(|notes| {
        let mut notes = each_note(&notes, elf.endian);
        let origin = notes.find(|(name, kind, _)| *name == owner && *kind == NT_VMCORE_ORIGIN);
        let mut lines = str::from_utf8(origin?.2).ok()?.lines();
        lines.find_map(|line| {
            let value = line.strip_prefix(ORIGIN_DISPLACEMENT)?;
            u64::from_str_radix(value.strip_prefix("=0x")?, 16).ok()
        })
    })
}

/// The first program headers.
fn first_segments(source: &Source, elf: &FileHeader) -> Option<Vec<Segment>> {
    let mut segments = Vec::new();
    for index in 0..elf.e_phnum.min(HEADERS_MAX) {
        let mut header = vec![0; elf.phdr_len()];
        let at = (elf.phdr_len() as u64).checked_mul(index.into())?;
        let read = source.read_positional(elf.e_phoff.checked_add(at)?, &mut header);
        segments.push(elf.segment(header.get(..read.ok()?)?)?);
    }
    Some(segments)
}

/// The contents of each segment of notes, as far as they are looked at.
fn note_segments(source: &Source, segments: &[Segment]) -> impl Iterator<Item = Vec<u8>> {
    let notes = segments.iter().filter(|segment| segment.p_type == PT_NOTE);
    notes.map_while(|segment| {
        let len = usize::try_from(segment.p_filesz).unwrap_or(NOTES_MAX);
        let mut notes = vec![0; len.min(NOTES_MAX)];
        let read = source.read_positional(segment.p_offset, &mut notes).ok()?;
        notes.truncate(read);
        Some(notes)
    })
}

/// The notes of a segment: name without NUL, type, contents.
fn each_note(notes: &[u8], endian: Endian) -> impl Iterator<Item = (&[u8], u32, &[u8])> {
    let mut rest = notes;
    std::iter::from_fn(move || {
        let word = |at: usize| {
            let bytes = *rest.get(at..)?.first_chunk::<4>()?;
            Some(match endian {
                Endian::Little => u32::from_le_bytes(bytes),
                Endian::Big => u32::from_be_bytes(bytes),
            })
        };
        let (name_len, contents_len) = (word(0)? as usize, word(4)? as usize);
        let number = word(8)?;
        let (name, after) = rest.get(12..)?.split_at_checked(name_len)?;
        let padding = name_len.checked_next_multiple_of(4)? - name_len;
        let (contents, after) = after.get(padding..)?.split_at_checked(contents_len)?;
        let padding = contents_len.checked_next_multiple_of(4)? - contents_len;
        rest = after.get(padding..).unwrap_or_default();
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        Some((name, number, contents))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_known_by_its_magic() {
        for (at, magic, kind) in KINDS {
            let mut first = vec![0; at];
            first.extend(magic);
            first.resize(4096, 0);
            assert_eq!(of(&first), Some(kind));
        }
        assert_eq!(of(b"minidump FreeBSD/amd64"), None);
        assert_eq!(of(&[0; 4096]), None);
        assert_eq!(of(b""), None);
    }

    #[test]
    fn notes_that_claim_too_much_end_the_walk() {
        let note = |name: &[u8], number: u32, contents: &[u8]| {
            let mut note = Vec::new();
            let len = |part: &[u8]| u32::try_from(part.len()).unwrap();
            for word in [len(name), len(contents), number] {
                note.extend(word.to_le_bytes());
            }
            for part in [name, contents] {
                note.extend(part);
                note.resize(note.len().next_multiple_of(4), 0);
            }
            note
        };
        let mut notes = note(b"CORE\0", 1, b"abc");
        notes.extend(note(b"FreeBSD\0", 8, b""));
        let found: Vec<_> = each_note(&notes, Endian::Little).collect();
        assert_eq!(
            found,
            [(&b"CORE"[..], 1, &b"abc"[..]), (b"FreeBSD", 8, b"")]
        );
        notes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(each_note(&notes, Endian::Little).count(), 0);
        notes[0..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(each_note(&notes, Endian::Little).count(), 0);
    }
}
