//! Where the dump is found: before GEOM metadata, in a partition that is named, in a textdump, behind
//! frames that are to be skipped; and what is no file at all.

use super::disks::{gpt, gpt_of_two, logical, mbr};
use super::{path, small, tool};
use std::fs;
use vmcore_synth::header::{DumpHeader, MAGIC_TEXT};
use vmcore_testkit::command::{Folder, line};

/// A device with sectors of `sector` bytes that ends in `dump`.
fn device(dump: &[u8], sector: usize) -> Vec<u8> {
    let header = DumpHeader {
        blocksize: sector as u32,
        panicstring: "page fault".to_owned(),
        ..DumpHeader::new("amd64", dump.len() as u64)
    };
    let media = (dump.len() + (1 << 20)).next_multiple_of(sector) as u64;
    header.device(media, &[], dump).unwrap()
}

/// What `save` makes of an image, whose name is `disk`.
fn saved(dir: &Folder, words: &str) -> Vec<u8> {
    let crash = path(dir, "crash");
    let _ = fs::remove_dir_all(&crash);
    fs::create_dir(&crash).unwrap();
    line(dir.path(), &format!("save disk crash {words}")).expect(0);
    fs::read(crash.join("vmcore.0")).unwrap()
}

/// Makes a disk with sectors of 4096 bytes of one with 512: each sector becomes a larger one, but for
/// those of the partition, which starts at `first`.
fn with_large_sectors(disk: &[u8], first: usize, partition: &[u8]) -> Vec<u8> {
    let mut large = Vec::new();
    for sector in disk[..first * 512].chunks(512) {
        large.extend(sector);
        large.resize(large.len().next_multiple_of(4096), 0);
    }
    large.extend(partition);
    large.resize(large.len() + (1 << 20), 0);
    large
}

#[test]
fn geom_metadata_after_the_header_hides_no_dump() {
    let (dir, dump) = small();
    for sector in [512, 4096] {
        for classes in [
            vec!["GEOM::MIRROR"],
            vec!["GEOM::LABEL"],
            vec!["GEOM::CONCAT"],
            vec!["GEOM::STRIPE"],
            vec!["GEOM::JOURNAL"],
            vec!["GEOM::ELI"],
            vec!["GEOM::MIRROR", "GEOM::LABEL", "GEOM::JOURNAL"],
        ] {
            let mut provider = device(&dump, sector);
            // Early swapping has overwritten the leading header: the metadata vouches alone.
            if classes.len() == 1 {
                let leader = provider.len() - dump.len() - 2 * sector;
                provider[leader..leader + 512].fill(9);
            }
            for class in &classes {
                let mut metadata = class.as_bytes().to_vec();
                metadata.resize(sector, 0);
                provider.extend(metadata);
            }
            let force = if classes.len() == 1 { "--force" } else { "" };
            fs::write(path(&dir, "disk"), &provider).unwrap();
            let info = line(dir.path(), "info disk").expect(0).text();
            assert!(info.contains("page fault"), "{classes:?} {sector}: {info}");
            assert!(saved(&dir, force) == dump, "{classes:?} {sector}");
            if sector == 512 {
                fs::write(path(&dir, "disk"), gpt(&provider)).unwrap();
                assert!(saved(&dir, force) == dump, "{classes:?} in a partition");
            }
        }
    }
    // Something else's metadata, of no known class: the leading header is the witness.
    let mut provider = device(&dump, 512);
    provider.extend([0x42; 512 * 3]);
    fs::write(path(&dir, "disk"), &provider).unwrap();
    assert!(saved(&dir, "") == dump);
    // It is cleared where it is.
    line(dir.path(), "save disk crash --clear --force").expect(0);
    let run = line(dir.path(), "save disk crash").expect(0);
    assert!(run.stderr.contains("was saved before"), "{}", run.stderr);
}

#[test]
fn a_partition_is_saved_by_its_name_and_by_its_number() {
    let (dir, dump) = small();
    let device = device(&dump, 512);
    let sectors = device.len() as u64 / 4096;
    let mut large_gpt = with_large_sectors(&gpt(&device), 40, &device);
    // The entries count in sectors, too, and lie behind one another.
    large_gpt.copy_within(512..1024, 4096);
    let entries = gpt(&device)[1024..1024 + 4 * 128].to_vec();
    large_gpt[8192..8192 + entries.len()].copy_from_slice(&entries);
    let last = 8192 + 2 * 128 + 40;
    large_gpt[last..last + 8].copy_from_slice(&(40 + sectors - 1).to_le_bytes());
    large_gpt[512..1024].fill(0);
    large_gpt[4096..4608].copy_from_slice(&gpt(&device)[512..1024]);
    let mut large_mbr = with_large_sectors(&mbr(&device), 63 + 16, &device);
    for at in [446 + 12, 64 * 4096 + 148 + 2 * 16] {
        let len = 16 + sectors as u32;
        large_mbr[at..at + 4].copy_from_slice(&len.to_le_bytes());
    }
    let at = 64 * 4096 + 148 + 16;
    large_mbr[at..at + 4].copy_from_slice(&(sectors as u32).to_le_bytes());
    let disks = [
        ("GPT", gpt(&device), ["p3", "3", "ada0p3"]),
        ("MBR with label", mbr(&device), ["s1b", "1b", "da1s1b"]),
        (
            "logical partitions",
            logical(&device),
            ["s6", "6", "ada0s6"],
        ),
        ("GPT, 4096", large_gpt, ["p3", "3", "nda0p3"]),
        ("MBR with label, 4096", large_mbr, ["s1b", "1b", "da1s1b"]),
    ];
    for (what, disk, names) in disks {
        fs::write(path(&dir, "disk"), &disk).unwrap();
        assert!(saved(&dir, "") == dump, "{what}");
        for name in names {
            let copy = saved(&dir, &format!("--partition {name}"));
            assert!(copy == dump, "{what}: {name}");
        }
        let run = line(dir.path(), "save disk crash --partition p77").expect(1);
        for words in ["disk has no partition p77", names[0]] {
            assert!(run.stderr.contains(words), "{what}: {}", run.stderr);
        }
        // Only the dump's own header is marked, where it is on the disk.
        line(dir.path(), "save disk crash --force --clear").expect(0);
        let after = fs::read(path(&dir, "disk")).unwrap();
        let changed = (0..disk.len()).filter(|at| disk[*at] != after[*at]);
        assert!((1..=20).contains(&changed.count()), "{what}");
        let run = line(dir.path(), "save disk crash --check");
        assert!(
            run.stderr.contains("was saved before"),
            "{what}: {}",
            run.stderr
        );
    }
    let mut labelled = gpt(&device);
    for (at, letter) in "swap0".bytes().enumerate() {
        labelled[1024 + 2 * 128 + 56 + 2 * at] = letter;
    }
    fs::write(path(&dir, "disk"), labelled).unwrap();
    assert!(saved(&dir, "--partition swap0") == dump);
    let run = line(dir.path(), "save disk crash --partition p1").expect(0);
    assert!(
        run.stderr.contains("no dump on disk (p1)"),
        "{}",
        run.stderr
    );
}

#[test]
fn of_two_dumps_on_a_disk_the_one_that_is_named_or_waits_is_saved() {
    let (dir, dump) = small();
    let other = [7; 8192];
    let mut labelled = device(&other, 512);
    labelled.extend(b"GEOM::LABEL");
    labelled.resize(labelled.len().next_multiple_of(512), 0);
    let disk = gpt_of_two(&device(&dump, 512), &labelled);
    fs::write(path(&dir, "disk"), &disk).unwrap();
    fs::create_dir(path(&dir, "crash")).unwrap();
    let run = line(dir.path(), "save disk crash").expect(1);
    assert!(
        run.stderr.contains("several partitions: p3, p4"),
        "{}",
        run.stderr
    );
    assert!(saved(&dir, "--partition p4") == other);
    let run = line(dir.path(), "save disk crash --partition p1").expect(0);
    assert!(
        run.stderr.contains("no dump on disk (p1)"),
        "{}",
        run.stderr
    );
    assert!(fs::read(path(&dir, "disk")).unwrap() == disk);
    assert!(saved(&dir, "--partition p3 --clear") == dump);
    assert!(saved(&dir, "") == other);
}

/// A tar archive, as the kernel writes it.
fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, contents) in files {
        let mut header = vec![0; 512];
        let mut put = |at: usize, text: &str| {
            header[at..at + text.len()].copy_from_slice(text.as_bytes());
        };
        put(0, name);
        put(100, "0000644\0");
        put(124, &format!("{:011o}\0", contents.len()));
        put(148, "        ");
        put(156, "0");
        put(257, "ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend(header);
        archive.extend(contents.as_bytes());
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

#[test]
fn a_textdump_answers_from_its_files() {
    let (dir, _) = small();
    let archive = tar(&[
        (
            "ddb.txt",
            "db:0:lockinfo> show locks\ndb:0:bt> bt\nTracing pid 11\n",
        ),
        ("config.txt", "ident GENERIC\n"),
        (
            "msgbuf.txt",
            "Copyright\nFatal trap 12: page fault\npanic: page fault\n",
        ),
        ("panic.txt", "page fault"),
        ("version.txt", "FreeBSD 14.0-RELEASE GENERIC\n"),
    ]);
    let mut backwards = archive.clone();
    backwards.reverse();
    backwards.chunks_mut(512).for_each(<[u8]>::reverse);
    let header = DumpHeader {
        magic: MAGIC_TEXT.to_owned(),
        hostname: "web1".to_owned(),
        ..DumpHeader::new("amd64", archive.len() as u64)
    };
    let device = header.device(1 << 20, &[], &backwards).unwrap();
    let forwards = header.device(1 << 20, &[], &archive).unwrap();
    fs::create_dir(path(&dir, "crash")).unwrap();
    let mut forms = vec![
        "device",
        "forwards",
        "disk",
        "before",
        "backwards",
        "crash/textdump.tar.0",
    ];
    for (name, bytes) in [
        ("device", device.clone()),
        ("forwards", forwards),
        ("disk", gpt(&device)),
        ("before", header.before(&archive)),
        // Copied off a device by hand: nothing but the archive, as the kernel left it.
        ("backwards", backwards.clone()),
    ] {
        fs::write(path(&dir, name), bytes).unwrap();
    }
    for image in ["device", "forwards", "disk"] {
        let run = line(dir.path(), &format!("save {image} crash --force")).expect(0);
        assert!(
            run.text().contains("vmcore info crash/textdump.tar."),
            "{}",
            run.text()
        );
    }
    for number in 0..3 {
        let copy = fs::read(path(&dir, &format!("crash/textdump.tar.{number}"))).unwrap();
        assert!(copy == archive, "{number}");
    }
    if tool(dir.path(), "gzip -k crash/textdump.tar.1").is_some() {
        forms.push("crash/textdump.tar.1.gz");
    }
    for form in forms {
        let info = line(dir.path(), &format!("info {form}")).expect(0).text();
        for words in [
            "textdump, complete",
            "page fault",
            "14.0-RELEASE",
            "ddb.txt, 53 bytes",
        ] {
            assert!(info.contains(words), "{form}: {info}");
        }
        // `before` has its header in the file, the others beside them, and this none.
        assert_eq!(info.contains("web1"), form != "backwards", "{form}: {info}");
        let log = line(dir.path(), &format!("log {form}")).expect(0).text();
        assert_eq!(
            log,
            "Copyright\nFatal trap 12: page fault\npanic: page fault\n"
        );
        let report = line(dir.path(), &format!("report {form}")).expect(0).text();
        for words in ["PANIC   page fault", "  Tracing pid 11", "  Copyright"] {
            assert!(report.contains(words), "{form}: {report}");
        }
        let facts = report.split("\nDDB").next().unwrap_or_default();
        assert_eq!(facts.matches("page fault").count(), 1, "{report}");
        assert!(!facts.contains("\npanic "), "{report}");
        let json = line(dir.path(), &format!("report {form} --json"))
            .expect(0)
            .json();
        assert_eq!(json["info"]["panic"]["value"], "page fault", "{form}");
        assert_eq!(json["ddb"][2], "Tracing pid 11", "{form}");
        let run = line(dir.path(), &format!("ps {form}")).expect(1);
        assert!(
            run.stderr.contains("is a textdump"),
            "{form}: {}",
            run.stderr
        );
        assert!(
            run.stderr.contains(&format!("try: vmcore report {form}")),
            "{}",
            run.stderr
        );
        line(dir.path(), &format!("report {form} --share")).expect(1);
    }
    let list = line(dir.path(), "list crash").expect(0).text();
    let textdumps = list.lines().filter(|line| line.contains("  textdump "));
    assert!(
        textdumps.count() >= 3 && list.contains("page fault"),
        "{list}"
    );
    line(dir.path(), "log -d crash").expect(0);
    // Packed anew: in a directory, in another order, with other files among them.
    let packed = tar(&[
        ("crash/info.0", "Dump Status: good\n"),
        ("crash/panic.txt", "page fault"),
        ("crash/ddb.txt", "db:0> bt\n"),
    ]);
    fs::write(path(&dir, "packed.tar"), packed).unwrap();
    let report = line(dir.path(), "report packed.tar").expect(0).text();
    for words in ["PANIC   page fault", "info.0, 18 bytes", "  db:0> bt"] {
        assert!(report.contains(words), "{report}");
    }
    fs::write(path(&dir, "other.tar"), tar(&[("motd", "hello\n")])).unwrap();
    let run = line(dir.path(), "info other.tar").expect(1);
    assert!(
        run.stderr.contains("try: tar -xf other.tar"),
        "{}",
        run.stderr
    );
    // A cut archive gives what is there, and says so.
    fs::write(path(&dir, "textdump.tar.9"), &archive[..2048 + 512 + 20]).unwrap();
    let info = line(dir.path(), "info textdump.tar.9").expect(0).text();
    assert!(info.contains("textdump, cut"), "{info}");
}

#[test]
fn frames_to_be_skipped_may_come_first() {
    let (dir, dump) = small();
    line(dir.path(), "convert vmcore.0 table.zst --compress zstd").expect(0);
    let table = fs::read(path(&dir, "table.zst")).unwrap();
    let Some(stream) = tool(dir.path(), "zstd -q -c vmcore.0") else {
        return;
    };
    let skip = |kind: u8, len: usize| {
        let mut frame = vec![0x50 + kind, 0x2a, 0x4d, 0x18];
        frame.extend((len as u32).to_le_bytes());
        frame.resize(8 + len, 0xa5);
        frame
    };
    let check = |what: &str, bytes: Vec<u8>| {
        fs::write(path(&dir, "skip"), bytes).unwrap();
        let log = line(dir.path(), "log skip").expect(0).text();
        assert_eq!(log, line(dir.path(), "log vmcore.0").text(), "{what}");
        let verify = line(dir.path(), "verify skip").expect(0).text();
        assert!(!verify.contains("BAD"), "{what}: {verify}");
        line(dir.path(), "convert skip again.gz --compress gzip --force").expect(0);
        if let Some(again) = tool(dir.path(), "gzip -dc again.gz") {
            assert!(again == dump, "{what}");
        }
    };
    for kind in 0..16 {
        for (what, file) in [("seek table", &table), ("stream", &stream)] {
            check(
                &format!("{kind}, {what}"),
                [skip(kind, 4), file.clone()].concat(),
            );
        }
    }
    let several = [skip(0, 0), skip(15, 70_000), skip(3, 12)].concat();
    check(
        "several, stream",
        [several.clone(), stream.clone()].concat(),
    );
    check("several, seek table", [several.clone(), table].concat());
    check(
        "around",
        [several.clone(), stream.clone(), several].concat(),
    );
    // One that is cut is damage, at either end of the file, and nothing is read past the end.
    let cut = skip(2, 100)[..50].to_vec();
    fs::write(path(&dir, "skip"), [stream, cut.clone()].concat()).unwrap();
    let run = line(dir.path(), "verify skip").expect(1);
    assert!(
        run.text().contains("ends inside a frame to be skipped"),
        "{}",
        run.text()
    );
    line(dir.path(), "log skip").expect(0);
    fs::write(path(&dir, "skip"), cut).unwrap();
    let run = line(dir.path(), "info skip").expect(1);
    assert!(run.stderr.contains("breaks off at 0x0"), "{}", run.stderr);
}

#[test]
fn every_gzip_trailer_is_compared() {
    let (dir, dump) = small();
    if tool(dir.path(), "gzip -k vmcore.0").is_none() {
        return;
    }
    let (head, tail) = dump.split_at(dump.len() / 2);
    let mut members = Vec::new();
    for part in [head, tail] {
        fs::write(path(&dir, "part"), part).unwrap();
        members.push(tool(dir.path(), "gzip -c part").unwrap());
    }
    fs::write(path(&dir, "sound.gz"), members.concat()).unwrap();
    line(dir.path(), "verify sound.gz").expect(0);
    for member in 0..2 {
        // The checksum, and the length.
        for back in [8, 4, 1] {
            let mut members = members.clone();
            let at = members[member].len() - back;
            members[member][at] ^= 0x40;
            fs::write(path(&dir, "f.gz"), members.concat()).unwrap();
            let verify = line(dir.path(), "verify f.gz");
            let text = verify.text();
            assert_ne!(verify.status, 0, "member {member}, {back}");
            assert!(
                text.contains("at its end is"),
                "member {member}, {back}: {text}"
            );
        }
    }
}

#[test]
fn almost_empty_gzip_members_end_soon() {
    let (dir, _) = small();
    let empty = [
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    fs::write(path(&dir, "many.gz"), empty.repeat(1_200_000)).unwrap();
    let start = std::time::Instant::now();
    let run = line(dir.path(), "info many.gz");
    assert_ne!(run.status, 0);
    assert!(run.stderr.contains("almost empty"), "{}", run.stderr);
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}

#[test]
fn a_pipe_with_a_files_name_blocks_nothing() {
    let (dir, _) = small();
    fs::remove_file(path(&dir, "info.0")).unwrap();
    if tool(dir.path(), "mkfifo pipe info.0 info.7 kernel.debug").is_none() {
        return;
    }
    for words in [
        "info vmcore.0",
        "info vmcore.0 -k pipe",
        "bt vmcore.0 -k kernel.debug",
        "list .",
        "info pipe",
        "verify pipe",
        "save pipe .",
        "log vmcore.0 --key pipe",
        "info vmcore_encrypted.0 --key-block pipe",
        "info pipe vmcore.0",
        "check pipe",
    ] {
        // Killed by the time limit it would have another status.
        let script = format!("exec timeout 30 \"$0\" {words}");
        let run = std::process::Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_vmcore")])
            .current_dir(dir.path())
            .output()
            .unwrap();
        let status = run.status.code();
        assert!(matches!(status, Some(0..=3)), "{words}: {run:?}");
        let stderr = String::from_utf8_lossy(&run.stderr);
        if words.starts_with("info pipe") || words.contains("-k ") {
            assert!(
                stderr.contains("is a pipe, not a file"),
                "{words}: {stderr}"
            );
        }
    }
}

#[test]
fn a_partition_without_a_dump_is_not_called_a_dump() {
    let (dir, dump) = small();
    fs::write(path(&dir, "disk"), gpt(&device(&dump, 512))).unwrap();
    fs::create_dir(path(&dir, "crash")).unwrap();
    let run = line(dir.path(), "save disk crash --partition p1").expect(0);
    assert!(
        run.stderr.contains("no dump on disk (p1)"),
        "{}",
        run.stderr
    );
    assert!(!run.stderr.contains("a dump itself"), "{}", run.stderr);
}

#[test]
fn an_empty_host_name_is_not_a_missing_file() {
    let (dir, _) = small();
    let file = path(&dir, "info.0");
    let text = fs::read_to_string(&file).unwrap();
    let host = |text: &str| {
        fs::write(&file, text).unwrap();
        let info = line(dir.path(), "info vmcore.0").expect(0).text();
        let host = info.lines().find(|line| line.starts_with("  host"));
        host.unwrap_or_default().to_owned()
    };
    assert!(!host(&text).contains("unknown"), "{text}");
    let lines = text.lines().map(|line| match line.contains("Hostname:") {
        true => "  Hostname: ",
        false => line,
    });
    let nameless: Vec<&str> = lines.collect();
    let words = host(&format!("{}\n", nameless.join("\n")));
    assert!(words.contains("unknown: info.0 has none"), "{words}");
    fs::remove_file(&file).unwrap();
    let info = line(dir.path(), "info vmcore.0").expect(0).text();
    assert!(
        info.contains("unknown: no info.N beside the dump"),
        "{info}"
    );
}
