//! The page of the report in a real browser: it folds, it obeys nothing that a dump says, and it asks
//! nobody for anything.
//!
//! Needs Chromium; without it the tests say so and are skipped (`./x test` installs it where
//! it can).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

use serde_json::Value;
use std::path::Path;
use std::process::Command;
use vmcore_testkit::TestKernel;
use vmcore_testkit::command::line;

/// Text that a browser must show and never obey.
const HOSTILE: &str =
    "<script>top.obeyed=1</script><img src=http://192.0.2.1/x onerror=top.obeyed=1>";
/// Letters of a word that is longer than any line.
const ENDLESS: usize = 600;
/// The same in the 19 bytes of a thread's name.
const HOSTILE_NAME: &str = "<svg onload=bad()>";

/// Looks into the report as a person would: opens and closes all that folds, and reads it. Styles of
/// the page apply inside of it, so it is loaded in a frame of its own.
const LOOKER: &str = include_str!("looker.html");

fn chromium() -> Option<&'static str> {
    ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| vmcore_testkit::has(name))
}

/// What the browser makes of a page in `folder`, and what it says on its console.
fn browse(program: &str, folder: &Path, page: &str, more: &[&str]) -> (String, String) {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(program)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
        ])
        .args(["--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND"])
        .args(["--enable-logging=stderr", "--virtual-time-budget=5000"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(more)
        .arg("--dump-dom")
        .arg(format!("file://{}", folder.join(page).display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// The report of a dump that wants to be obeyed, and what a person sees of it.
fn look(program: &str, more: &[&str]) -> Value {
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    vmcore_testkit::kernel::crash(&mut kernel);
    let message = kernel.address("untouched");
    let endless = "W".repeat(ENDLESS);
    let text = format!("{HOSTILE}\u{1b}[31m\u{202e} {endless}\0");
    kernel.write(message, text.as_bytes());
    let pointer = kernel.address("panicstr");
    kernel.write_words(pointer, &[message]);
    // The names of a module, a lock and a zone have no place either where a line could break.
    let name = message + text.len() as u64;
    kernel.write(name, format!("{endless}\0").as_bytes());
    let (module, lock) = (kernel.address("module_entry"), kernel.address("flow_mtx"));
    let zone = kernel.address("mbuf_zone");
    for at in [module + 40, lock, zone + 16] {
        kernel.write_words(at, &[name]);
    }
    kernel.write_dump();
    let words = "print vmcore.0 kernel &shell_thread.td_name --json";
    let at = line(kernel.dir.path(), words).expect(0).json();
    let at = at["values"][0]["value"]["to"].as_str().unwrap();
    let name = u64::from_str_radix(at.trim_start_matches("0x"), 16).unwrap();
    kernel.write(name, format!("{HOSTILE_NAME}\0").as_bytes());
    kernel.write_dump();
    let folder = kernel.dir.path();
    line(folder, "report vmcore.0 kernel --html page.html").expect(0);
    // As it is, without anybody who looks into it.
    let (dom, said) = browse(program, folder, "page.html", more);
    assert!(
        dom.contains("</html>") && dom.contains("<details>"),
        "{dom}"
    );
    assert!(!said.contains("CONSOLE"), "{said}");

    std::fs::write(folder.join("looker.html"), LOOKER).unwrap();
    let may_look = ["--allow-file-access-from-files", "--disable-web-security"];
    let (dom, said) = browse(program, folder, "looker.html", &[more, &may_look].concat());
    assert!(!said.contains("CONSOLE"), "{said}");
    let seen = dom
        .split_once("<pre id=\"seen\">")
        .and_then(|(_, rest)| rest.split_once("</pre>"))
        .unwrap_or_else(|| panic!("{dom}\n{said}"));
    serde_json::from_slice(&base64(seen.0)).unwrap()
}

/// The bytes of base64.
fn base64(text: &str) -> Vec<u8> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for c in text.bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).unwrap());
        }
    }
    bytes
}

#[test]
fn the_page_folds_and_obeys_nothing() {
    let Some(program) = chromium() else { return };
    let seen = look(program, &[]);
    let folds = |name: &str| seen[name].as_array().unwrap().clone();
    let (closed, opened, again) = (folds("closed"), folds("opened"), folds("again"));
    assert!(closed.len() >= 3, "{closed:?}");
    for ((closed, opened), again) in closed.iter().zip(&opened).zip(&again) {
        assert_eq!(
            (&closed[0], &opened[0], &again[0]),
            (&false.into(), &true.into(), &false.into())
        );
        assert!(opened[1].as_u64() > closed[1].as_u64(), "{opened:?}");
        assert_eq!(closed, again);
    }
    // What the dump says is there to be read, its control characters by their numbers.
    let text = seen["text"].as_str().unwrap();
    for shown in [HOSTILE, HOSTILE_NAME, r"\x1b[31m\u{202e}", "DEADLOCK"] {
        let shown = shown.to_lowercase();
        assert!(
            text.to_lowercase().contains(&shown),
            "{shown:?} is not in:\n{text}"
        );
    }
    for nothing in ["active", "handlers"] {
        assert_eq!(seen[nothing], 0, "{nothing}");
    }
    for nothing in ["dead_links", "requests"] {
        assert_eq!(seen[nothing], serde_json::json!([]), "{nothing}");
    }
    assert_eq!(seen["obeyed"], false);
    assert!(
        seen["wide"].as_i64() <= Some(0),
        "the page is wider than its window"
    );
    assert!(seen["map"].as_u64() > Some(3), "{}", seen["map"]);
}

#[test]
fn the_page_is_light_or_dark_as_its_reader() {
    let Some(program) = chromium() else { return };
    let paper = |scheme: &str| {
        let setting = format!("--blink-settings=preferredColorScheme={scheme}");
        let seen = look(program, &[&setting]);
        let paper = seen["paper"].as_str().unwrap().to_owned();
        let digits = paper.trim_matches(|c: char| !c.is_ascii_digit()).to_owned();
        let parts = digits.split(", ").map(|part| part.parse::<u32>().unwrap());
        parts.sum::<u32>()
    };
    let (dark, light) = (paper("0"), paper("1"));
    assert!(light > 600 && dark < 150, "light {light}, dark {dark}");
}
