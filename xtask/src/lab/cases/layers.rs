//! Compression, encryption, and the network: every combination of them carries the same dump.

use crate::Result;
use crate::lab::checks::{
    LIMIT, SECRET, Scene, command, crash, expect, holds_the_load, is_flawless, is_sound, poweroff,
    write_dump,
};
use crate::lab::dump::{self, Dump};
use crate::lab::dump_key;
use crate::lab::machine::{Boot, Machine};
use crate::lab::pages::Pages;
use crate::lab::server::Server;
use crate::shell;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The flag of `dumpon`, what `info.N` says, and how the file's name ends.
const COMPRESSIONS: [(&str, &str, &str); 3] = [
    ("", "none", ""),
    ("-z", "gzip", ".gz"),
    ("-Z", "zstd", ".zst"),
];
const CIPHERS: [&str; 3] = ["", "chacha20", "aes-256-cbc"];
/// Pages that a minidump may change by being written: variables and a stack.
const MINIDUMP_CHANGES_MAX: usize = 40;
/// Where the identity block has the id of the dump, and what all dumps of a crash have in common:
/// boot, machine, kernel, trap.
const DUMP_ID: std::ops::Range<usize> = 16..32;
const CRASH: std::ops::Range<usize> = 32..104;

/// A machine that can encrypt, and who can decrypt.
struct Setting {
    private: PathBuf,
    /// What the kernel got: the clear key comes first.
    handed: PathBuf,
}

impl Setting {
    fn new(scene: &Scene) -> Result<Self> {
        let (private, public) = dump_key::pair(&scene.folder)?;
        let handed = scene.folder.join("dumpkey");
        dump_key::hand_over(&public, &handed)?;
        Ok(Self { private, handed })
    }

    fn boot(&self, scene: &Scene, tunables: &[&str]) -> Result<Machine> {
        let boot = Boot {
            memory: "40M".to_owned(),
            tunables: tunables.iter().map(|&tunable| tunable.into()).collect(),
            network: true,
            dump_key: Some(self.handed.clone()),
            ..Boot::default()
        };
        scene.boot_with(128, boot)
    }
}

/// A dump that was saved or received, and the files beside it.
struct Taken {
    dump: Dump,
    info: String,
}

/// What goes through a way, and how.
struct Way<'a> {
    compression: (&'static str, &'static str, &'static str),
    cipher: &'static str,
    server: Option<&'a Server>,
}

impl Way<'_> {
    fn name(&self) -> String {
        let (_, compression, _) = self.compression;
        let cipher = if self.cipher.is_empty() {
            "none"
        } else {
            self.cipher
        };
        let to = if self.server.is_some() {
            "network"
        } else {
            "disk"
        };
        format!("{compression}, {cipher}, {to}")
    }

    fn dumpon(&self, port: &str) -> String {
        let (flag, ..) = self.compression;
        let cipher = match self.cipher {
            "" => String::new(),
            cipher => format!("-C {cipher}"),
        };
        let device = match self.server {
            Some(_) => format!("-p {port} vtnet0"),
            None => "vtblk0".to_owned(),
        };
        format!("dumpon {flag} {cipher} {device}")
    }

    /// Saves or receives the dump that was just written, as `number` of the files there.
    fn take(&self, scene: &Scene, setting: &Setting, number: usize) -> Result<Taken> {
        let (_, compression, suffix) = self.compression;
        let is_encrypted = !self.cipher.is_empty();
        let stem = match is_encrypted {
            true => "vmcore_encrypted".to_owned(),
            false => "vmcore".to_owned(),
        };
        let suffix = if is_encrypted { "" } else { suffix };
        let (folder, host, words) = match self.server {
            None => {
                let folder = scene.folder.join("saved");
                save(scene, &folder)?;
                (folder, "", format!("Compression: {compression}"))
            }
            Some(server) => {
                let record = server.record(LIMIT)?;
                is_complete(&record, compression, is_encrypted)?;
                let words = "Dump complete".to_owned();
                (server.directory.clone(), "127.0.0.1.", words)
            }
        };
        let file = folder.join(format!("{stem}.{host}{number}{suffix}"));
        let info = read_text(&folder.join(format!("info.{host}{number}")))?;
        expect(&info, &words)?;
        expect(&info, &format!("Compression: {compression}"))?;
        if self.server.is_some() {
            let record = read_text(&folder.join(format!("record.{host}{number}.json")))?;
            is_complete(&record, compression, is_encrypted)?;
        }
        let key = is_encrypted.then(|| setting.private.clone());
        let dump = dump::open(&file, key, &scene.kernel, &scene.reader)?;
        Ok(Taken { dump, info })
    }
}

fn read_text(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}

fn save(scene: &Scene, to: &Path) -> Result {
    std::fs::create_dir_all(to).map_err(|error| format!("{}: {error}", to.display()))?;
    let mut save = Command::new(&scene.reader);
    shell::said(save.arg("save").args([&scene.disk(), to])).map(|_| ())
}

/// What the server must have written down of a dump: who, when, what.
fn is_complete(record: &str, compression: &str, is_encrypted: bool) -> Result {
    let squeezed: String = record.split_whitespace().collect();
    for wanted in [
        "\"outcome\":\"complete\"",
        "\"client\":\"127.0.0.1\"",
        "\"began\":",
        "\"ended\":",
        "\"hostname\":\"lab\"",
        "\"panic_string\":\"pagefault\"",
        "\"parity_ok\":true",
        "\"gaps\":[]",
        &format!("\"compression\":\"{compression}\""),
    ] {
        expect(&squeezed, wanted)?;
    }
    match squeezed.contains("\"key_file\":\"key.") == is_encrypted {
        true => Ok(()),
        false => Err(format!("a key, or none, in:\n{record}")),
    }
}

/// Every compressor with every cipher to disk and network, of minidumps or of full dumps: what comes
/// out is what the plain dump holds.
pub(super) fn every_way(scene: &Scene, full: bool) -> Result {
    let setting = Setting::new(scene)?;
    let tunables = [
        if full {
            "debug.minidump=0"
        } else {
            "debug.minidump=1"
        },
        "lab.load_mib=4",
        "kern.kerneldump_gzlevel=1",
    ];
    let mut machine = setting.boot(scene, &tunables)?;
    let server = Server::start(&scene.reader, &scene.folder.join("received"))?;
    let port = server.port(LIMIT)?;
    let load = command(&mut machine, "load")?;
    crash(&mut machine, "sysctl debug.kdb.trap=1")?;
    let changing = command(&mut machine, "show dump memory")?;

    write_dump(&mut machine)?;
    let reference = scene.dump()?;
    is_flawless(&reference, "page fault")?;
    holds_the_load(&reference, &load, full)?;
    let plain = Pages::read(&reference.file)?;
    let handed = std::fs::read(&setting.handed).map_err(|error| error.to_string())?;
    if !full && plain.holds(&handed[..32]) {
        return Err("the minidump holds the key of encrypted dumps".to_owned());
    }
    let mut ids = vec![plain.identity()[DUMP_ID].to_vec()];
    for server in [None, Some(&server)] {
        let ways = COMPRESSIONS.iter().flat_map(|&compression| {
            CIPHERS.map(|cipher| Way {
                compression,
                cipher,
                server,
            })
        });
        for (number, way) in ways.enumerate() {
            let said = command(&mut machine, &way.dumpon(&port))?;
            expect(&said, "dumps go to")?;
            write_dump(&mut machine)?;
            let taken = way.take(scene, &setting, number);
            let id = taken.and_then(|taken| holds_the_same(scene, &taken, &plain, &changing, &way));
            let id = id.map_err(|error| format!("{}: {error}", way.name()))?;
            if ids.contains(&id) {
                return Err(format!("{}: two dumps have one id", way.name()));
            }
            ids.push(id);
        }
    }
    poweroff(&mut machine)
}

/// Demands that a dump is sound as it is, and holds what the plain one holds. Returns its id.
fn holds_the_same(
    scene: &Scene,
    taken: &Taken,
    plain: &Pages,
    changing: &str,
    way: &Way<'_>,
) -> Result<Vec<u8>> {
    expect(&taken.info, "page fault")?;
    taken.dump.says(&["verify"])?;
    let bytes = std::fs::read(&taken.dump.file)
        .map_err(|error| format!("{}: {error}", taken.dump.file.display()))?;
    let starts: [(&str, &[u8]); 4] = [
        ("-z", b"\x1f\x8b"),
        ("-Z", b"\x28\xb5\x2f\xfd"),
        ("", b"minidump"),
        ("", b"\x7fELF"),
    ];
    let start = starts.iter().find(|(_, start)| bytes.starts_with(start));
    let wanted = way.cipher.is_empty().then_some(way.compression.0);
    if start.map(|(flag, _)| *flag) != wanted {
        return Err("it is not compressed or encrypted, or should not be".to_owned());
    }
    let file = scene.folder.join("plain");
    let name = file.to_string_lossy();
    taken
        .dump
        .ask(&["convert", &name, "--to", "plain", "--force"])?;
    let pages = Pages::read(&file)?;
    let changed = pages.same_as(plain, changing)?;
    let said = taken.dump.says(&["info"])?;
    let is_minidump = said.contains("minidump v3");
    let panic = said.lines().find(|line| line.starts_with("  panic "));
    expect(panic.unwrap_or_default(), " info.")?;
    if is_minidump && changed > MINIDUMP_CHANGES_MAX {
        return Err(format!("{changed} pages differ from the plain dump's"));
    }
    let (own, theirs) = (pages.identity(), plain.identity());
    match own[..8] == *b"vmcoreID" && own[CRASH] == theirs[CRASH] {
        true => Ok(own[DUMP_ID].to_vec()),
        false => Err("the identity block is not that of the crash".to_owned()),
    }
}

/// A panic in gzip begins the dump once more without it, and what was to be encrypted is; in other layers
/// it ends the dump.
pub(super) fn layer_panics(scene: &Scene) -> Result {
    let setting = Setting::new(scene)?;
    for (flags, stays_dead) in [
        ("-z", false),
        ("-z -C aes-256-cbc", false),
        ("-Z -C chacha20", true),
    ] {
        layer_panic(scene, &setting, flags, stays_dead)
            .map_err(|error| format!("{flags}: {error}"))?;
    }
    layer_panics_in_request(scene, &setting)
}

/// Nothing had failed before a dump was requested, so the panic is the first one: the debugger comes
/// once more, and after it the dump.
fn layer_panics_in_request(scene: &Scene, setting: &Setting) -> Result {
    let _ = std::fs::remove_file(scene.disk());
    let mut machine = setting.boot(scene, &["lab.load_mib=4"])?;
    machine.send("ddb\r")?;
    machine.expect(&["db> "], LIMIT)?;
    command(&mut machine, "dumpon -z vtblk0")?;
    command(&mut machine, "sysctl lab.layer_panic=256")?;
    crash(&mut machine, "dump")?;
    machine.send("continue\r")?;
    let said = machine.expect(&["Rebooting..."], LIMIT)?;
    machine.end(LIMIT)?;
    expect(&said, "Dumping once more, without compression")?;
    expect(&said, "Dump complete")?;
    is_sound(&scene.dump()?, "a layer of the dump is broken")
}

fn layer_panic(scene: &Scene, setting: &Setting, flags: &str, stays_dead: bool) -> Result {
    let _ = std::fs::remove_file(scene.disk());
    let mut machine = setting.boot(scene, &["lab.load_mib=4"])?;
    crash(&mut machine, "sysctl debug.kdb.panic=1")?;
    command(&mut machine, &format!("dumpon {flags} vtblk0"))?;
    command(&mut machine, "sysctl lab.layer_panic=256")?;
    machine.send("dump\r")?;
    let said = machine.expect(&["Rebooting..."], LIMIT)?;
    machine.end(LIMIT)?;
    expect(&said, "panic: a layer of the dump is broken")?;
    if stays_dead {
        expect(&said, "a dump was going on already (writing pages)")?;
        return scene.no_dump();
    }
    expect(&said, "Dumping once more, without compression")?;
    expect(&said, "Dump complete")?;
    let folder = scene.folder.join("saved");
    let _ = std::fs::remove_dir_all(&folder);
    save(scene, &folder)?;
    let (name, key) = match flags.contains("-C") {
        true => ("vmcore_encrypted.0", Some(setting.private.clone())),
        false => ("vmcore.0", None),
    };
    let mut dump = dump::open(&folder.join(name), key, &scene.kernel, &scene.reader)?;
    dump.panic = "kdb_sysctl_panic".to_owned();
    is_sound(&dump, "kdb_sysctl_panic")?;
    let json = dump.says(&["info", "--json"])?;
    match (json.contains("\"aes256_cbc\""), json.contains("\"gzip\"")) {
        (is_encrypted, false) if is_encrypted == flags.contains("-C") => Ok(()),
        _ => Err(format!("these are not the layers that are safe:\n{json}")),
    }
}

/// The debugger's `netdump`, from a system in which nothing was configured; and a server that is not
/// there, whose dump goes to the disk.
pub(super) fn netdump(scene: &Scene) -> Result {
    let boot = Boot {
        network: true,
        ..Boot::default()
    };
    let mut machine = scene.boot_with(128, boot)?;
    let server = Server::start(&scene.reader, &scene.folder.join("received"))?;
    let port = server.port(LIMIT)?;
    let load = command(&mut machine, "load")?;
    crash(&mut machine, "sysctl debug.kdb.trap=1")?;
    let said = command(
        &mut machine,
        &format!("netdump -s 10.0.2.2 -c 10.0.2.15 -i vtnet0 -p {port}"),
    )?;
    expect(&said, "Dump complete")?;
    is_complete(&server.record(LIMIT)?, "none", false)?;
    scene.no_dump()?;
    let file = server.directory.join("vmcore.127.0.0.1.0");
    let mut dump = dump::open(&file, None, &scene.kernel, &scene.reader)?;
    dump.panic = "page fault".to_owned();
    is_flawless(&dump, "page fault")?;
    holds_the_load(&dump, &load, false)?;

    let said = command(&mut machine, "netdump -s 10.0.2.77")?;
    expect(&said, "neither server nor gateway answers to ARP")?;
    expect(&said, "Trying the disk")?;
    expect(&said, "Dump complete")?;
    poweroff(&mut machine)?;
    let dump = scene.dump()?;
    match dump.holds(SECRET)? {
        true => Err("secrets are in the dump".to_owned()),
        false => is_flawless(&dump, "page fault"),
    }
}
