//! What every command prints for every dump, as text and as JSON.
//!
//! The expected outputs lie in `tests/golden`, one file for each dump and form. With
//! `VMCORE_UPDATE_GOLDEN=1` they are written anew; read the difference before you keep it. Outputs
//! that are longer than a person wants to read there are cut: the first lines stay, and a line says
//! how many follow and what their checksum is. The version of the tool is replaced.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use vmcore_synth::Arch;
use vmcore_synth::machine::{DumpFile, Machine, Options};
use vmcore_synth::machines;
use vmcore_testkit::command::{Folder, Run, line};
use vmcore_testkit::corpus;

/// Lines that stay of an output that is cut, in text and in JSON.
const TEXT_LINES: usize = 40;
const JSON_LINES: usize = 16;
/// The dump whose JSON stays longer, as an example to read.
const EXAMPLE: &str = "amd64-v3";
const EXAMPLE_LINES: usize = 60;

/// A dump in a folder, and what to ask about it.
struct Case {
    name: String,
    folder: PathBuf,
    /// The words that choose dump and kernel.
    dump: String,
    /// An address at which something is mapped that is not in the dump.
    absent: Option<u64>,
    /// Keeps the folder.
    _made: Option<Folder>,
}

impl Case {
    /// Every command.
    fn lines(&self) -> Vec<String> {
        let dump = &self.dump;
        let mut lines = vec![
            format!("info {dump}"),
            format!("log {dump}"),
            format!("report {dump}"),
            format!("report {dump} --share"),
            format!("ps {dump}"),
            format!("bt {dump}"),
            format!("bt {dump} --unique"),
            format!("mods {dump}"),
            format!("whatis {dump} allproc"),
            format!("read {dump} hz"),
            format!("read {dump} allproc 64"),
            format!("read {dump} 0 16"),
            format!("translate {dump} hz"),
            format!("sym {dump} hz"),
            format!("sym {dump} proc_off"),
            format!("search {dump} panic --limit 4"),
            format!("search {dump} --pointer allproc --limit 4"),
            format!("map {dump}"),
            format!("verify {dump}"),
            format!("convert {dump} core.elf --to elf"),
            format!("map {dump} --svg map.svg"),
            "list .".to_owned(),
        ];
        if let Some(va) = self.absent {
            lines.push(format!("read {dump} {va:#x} 16"));
            lines.push(format!("translate {dump} {va:#x}"));
        }
        lines
    }

    /// Every command with its answer.
    fn ask(&self, json: bool) -> Vec<(String, Run)> {
        for made in ["core.elf", "core.elf.frames.elf", "map.svg"] {
            let _ = fs::remove_file(self.folder.join(made));
        }
        let answer = |words: String| {
            let words = if json {
                format!("{words} --json")
            } else {
                words
            };
            let run = line(&self.folder, &words);
            (words, run)
        };
        self.lines().into_iter().map(answer).collect()
    }

    /// The text of a golden file.
    fn render(&self, answers: &[(String, Run)], json: bool) -> String {
        let keep = match (json, self.name == EXAMPLE) {
            (false, _) => TEXT_LINES,
            (true, false) => JSON_LINES,
            (true, true) => EXAMPLE_LINES,
        };
        let mut all = String::new();
        for (words, run) in answers {
            all += &format!("$ vmcore {words}\n{}", cut(&run.text(), keep));
            run.stderr
                .lines()
                .for_each(|line| all += &format!("! {line}\n"));
            if run.status != 0 {
                all += &format!("exit status {}\n", run.status);
            }
            all += "\n";
        }
        let version = format!("\"tool_version\": \"{}\"", env!("CARGO_PKG_VERSION"));
        // Which gdb is there is the machine's affair.
        let all = all.replace("gdb-multiarch -ex", "gdb -ex");
        // lldb is told whole names.
        let folder = fs::canonicalize(&self.folder).unwrap();
        let all = all.replace(folder.to_str().unwrap(), "DIR");
        all.replace(&version, "\"tool_version\": \"VERSION\"")
    }
}

/// The first lines, and what became of the others.
fn cut(text: &str, keep: usize) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    if lines.len() <= keep + 4 {
        return text.to_owned();
    }
    let (first, rest) = lines.split_at(keep);
    // The hash FNV-1a.
    let hash = rest
        .concat()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
    format!(
        "{}... {} more lines, checksum {hash:016x}\n",
        first.concat(),
        rest.len()
    )
}

/// Every kind of machine, and what can happen to its dump.
fn synthetic() -> Vec<Case> {
    let mut cases: Vec<Case> = machines::all()
        .into_iter()
        .map(|(name, options)| {
            let case = made(name, Folder::new(&options));
            match options.arch {
                // Its dumps have no build id by which a kernel is found.
                Arch::Powerpc => with_kernel(case),
                _ => case,
            }
        })
        .collect();
    let options = Options::new(Arch::Amd64, 3);

    let bare = Folder::new(&options);
    bare.remove("kernel");
    bare.remove("info.0");
    cases.push(made("amd64-v3-bare".to_owned(), bare));

    let cut_off = Folder::new(&options);
    let bytes = cut_off.machine.dump.build();
    cut_off.write("vmcore.0", &bytes[..bytes.len() - 0x6800]);
    cases.push(made("amd64-v3-truncated".to_owned(), cut_off));

    let sections = Folder::new(&options);
    if let DumpFile::Mini(dump) = &sections.machine.dump {
        let len = usize::try_from(dump.sections().bitmap).unwrap() + 16;
        sections.write("vmcore.0", &bytes[..len]);
    }
    cases.push(made("amd64-v3-cut-bitmap".to_owned(), sections));

    let device = Folder::new(&options);
    device.remove("info.0");
    device.write(
        "vmcore.0",
        &[device.machine.header.build().to_vec(), bytes].concat(),
    );
    cases.push(made("amd64-v3-device".to_owned(), device));

    // What powerpc64's kernels write today: the kernel itself is no RAM by the dump's ranges.
    let no_image = Folder::new(&Options::new(Arch::Powerpc64le, 2));
    if let DumpFile::Mini(dump) = &no_image.machine.dump {
        let mut dump = dump.clone();
        let start = dump.kernel_range.0 - dump.dmapbase;
        let is_image = |range: &(u64, u64)| (range.0..range.1).contains(&start);
        let image = dump.dump_avail.iter().copied().find(is_image).unwrap();
        dump.dump_avail.retain(|range| *range != image);
        dump.pages.retain(|pa, _| !(image.0..image.1).contains(pa));
        no_image.write("vmcore.0", &dump.build());
    }
    let case = made("powerpc64le-v2-no-image".to_owned(), no_image);
    cases.push(with_kernel(case));

    let mut other = Machine::new(&options).kernel;
    other.build_id = Some(vec![0x5a; 20]);
    let mismatch = Folder::new(&options);
    mismatch.write("kernel", &other.build());
    let case = made("amd64-v3-other-kernel".to_owned(), mismatch);
    cases.push(with_kernel(case));
    cases
}

/// The kernel file is named, not found.
fn with_kernel(case: Case) -> Case {
    Case {
        dump: "vmcore.0 -k kernel".to_owned(),
        ..case
    }
}

fn made(name: String, folder: Folder) -> Case {
    Case {
        name,
        folder: folder.path().to_owned(),
        dump: "vmcore.0".to_owned(),
        absent: folder.machine.truth.absent.first().map(|(va, _)| *va),
        _made: Some(folder),
    }
}

#[test]
fn synthetic_dumps_are_answered_as_before() {
    compare(&synthetic());
}

#[test]
fn real_dumps_are_answered_as_before() {
    let Some(reals) = corpus::unpacked() else {
        return;
    };
    let cases: Vec<Case> = reals
        .into_iter()
        .map(|real| {
            // A folder with this dump and its kernel alone: a place for `list` and `convert`.
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
                .join("golden")
                .join(&real.name);
            fs::create_dir_all(&folder).unwrap();
            for (from, to) in [(&real.dump, "vmcore.0"), (&real.kernel, "kernel")] {
                let to = folder.join(to);
                if !to.exists() {
                    fs::hard_link(real.folder.join(from), &to).unwrap();
                }
            }
            Case {
                name: format!("real-{}", real.name),
                folder,
                dump: "vmcore.0 -k kernel".to_owned(),
                absent: None,
                _made: None,
            }
        })
        .collect();
    compare(&cases);
}

/// Compares all, so that a change shows all its effects at once.
fn compare(cases: &[Case]) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let different: Vec<String> = std::thread::scope(|scope| {
        let parts = cases.chunks(cases.len().div_ceil(threads).max(1));
        let running: Vec<_> = parts
            .map(|part| scope.spawn(move || part.iter().flat_map(differences).collect()))
            .collect();
        let joined = running
            .into_iter()
            .map(|thread| thread.join().expect("no check panics"));
        joined.flat_map(|found: Vec<String>| found).collect()
    });
    assert!(
        different.is_empty(),
        "outputs have changed; VMCORE_UPDATE_GOLDEN=1 accepts them\n{}",
        different.join("\n")
    );
}

/// Where a dump's answers are not those of its golden files.
fn differences(case: &Case) -> Vec<String> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let update = std::env::var_os("VMCORE_UPDATE_GOLDEN").is_some_and(|value| value == "1");
    let mut different = Vec::new();
    for (json, form) in [(false, "txt"), (true, "json.txt")] {
        let path = golden.join(format!("{}.{form}", case.name));
        let answers = case.ask(json);
        if json {
            different.extend(undocumented(&answers));
        }
        let now = case.render(&answers, json);
        let before = fs::read_to_string(&path).unwrap_or_default();
        if now != before && update {
            fs::create_dir_all(&golden).unwrap();
            fs::write(&path, &now).unwrap();
        } else if now != before {
            different.push(format!(
                "{}: {}",
                path.display(),
                first_difference(&before, &now)
            ));
        }
    }
    different
}

fn first_difference(before: &str, now: &str) -> String {
    let mut before = before.lines();
    for (number, now) in now.lines().enumerate() {
        let before = before.next();
        if before != Some(now) {
            return format!(
                "line {}\n  before: {}\n  now:    {now}",
                number + 1,
                before.unwrap_or("(nothing)")
            );
        }
    }
    "it is shorter now".to_owned()
}

/// Fields of answers that `docs/json.md` does not name, in the command's section or the common one.
fn undocumented(answers: &[(String, Run)]) -> BTreeSet<String> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/json.md");
    let docs = fs::read_to_string(docs).unwrap();
    let section = |title: &str| {
        let start = format!("{title}\n");
        docs.split("\n## ")
            .find(|section| section.starts_with(&start))
            .unwrap_or_default()
    };
    let mut unknown = BTreeSet::new();
    for (words, run) in answers.iter().filter(|(_, run)| !run.stdout.is_empty()) {
        let command = words.split(' ').next().unwrap();
        let mut known = [section("Every answer"), section(&format!("`{command}`"))].concat();
        if command == "report" {
            // It holds other answers, and its section says which.
            for other in ["info", "ps", "bt", "locks"] {
                known += section(&format!("`{other}`"));
            }
        }
        let mut names = BTreeSet::new();
        field_names(&run.json(), &mut names);
        names.retain(|name| !known.contains(&format!("`{name}`")));
        unknown.extend(
            names
                .into_iter()
                .map(|name| format!("docs/json.md: `{command}` has `{name}` too")),
        );
    }
    unknown
}

fn field_names(value: &serde_json::Value, names: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                names.insert(name.clone());
                // The names of registers are data.
                if name != "registers" && name != "other" {
                    field_names(value, names);
                }
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| field_names(item, names)),
        serde_json::Value::Null => panic!("a field without a value is left out, not null"),
        _ => {}
    }
}
