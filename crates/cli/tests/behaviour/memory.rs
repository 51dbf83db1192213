//! Reading, translating, searching, symbols, the log, the map.

use crate::{amd64, assert_fails};
use std::fs;
use vmcore_synth::Arch;
use vmcore_synth::machine::Options;
use vmcore_testkit::command::{Folder, run};

#[test]
fn the_log_comes_escaped_or_exactly() {
    let folder = amd64();
    let truth = &folder.machine.truth;
    let raw = folder.vmcore("log vmcore.0 --raw").expect(0);
    assert_eq!(raw.stdout, truth.log);
    let text = folder.vmcore("log vmcore.0").expect(0).text();
    assert!(
        text.contains("ugen0.2: <Gerät für Ωhm \\x1b[31mred>"),
        "{text}"
    );
    assert!(text.contains("\nSetting hostname: "), "{text}");
    let json = folder.vmcore("log vmcore.0 --json").expect(0).json();
    let lines = json["lines"].as_array().unwrap();
    let hostname = lines
        .iter()
        .find(|line| line["text"].as_str().unwrap().starts_with("Setting"))
        .unwrap();
    assert_eq!(hostname["priority"], 118);
    assert_eq!(lines[0].get("priority"), None);
}

#[test]
fn reads_give_the_bytes_of_the_machine() {
    for options in [
        Options::new(Arch::Amd64, 3),
        Options::new(Arch::I386, 2),
        Options {
            page_size: 16384,
            ..Options::new(Arch::Arm64, 3)
        },
        Options::full(Arch::Amd64),
    ] {
        let folder = Folder::new(&options);
        for (va, bytes) in folder.machine.truth.values.iter().take(40) {
            let words = format!("read vmcore.0 {va:#x} {} --raw", bytes.len());
            assert_eq!(folder.vmcore(&words).expect(0).stdout, *bytes, "{va:#x}");
        }
        let hz = folder.vmcore("read vmcore.0 hz --raw").expect(0);
        let address = folder.machine.kernel.address_of("hz").unwrap();
        let values = &folder.machine.truth.values;
        let (_, expected) = values.iter().find(|(va, _)| *va == address).unwrap();
        assert_eq!(hz.stdout, *expected);
        let inside = folder.vmcore("read vmcore.0 hz+1 2 --raw").expect(0);
        assert_eq!(inside.stdout, expected[1..3]);
    }
}

#[test]
fn the_same_byte_is_read_by_symbol_address_and_physical_address() {
    let folder = amd64();
    let translated = folder
        .vmcore("translate vmcore.0 hz --json")
        .expect(0)
        .json();
    let pa = translated["physical_address"].as_str().unwrap();
    let va = translated["address"].as_str().unwrap();
    let text = folder.vmcore("read vmcore.0 hz 4").expect(0).text();
    assert_eq!(
        folder
            .vmcore(&format!("read vmcore.0 {va} 4"))
            .expect(0)
            .text(),
        text
    );
    let bare = va.trim_start_matches("0x");
    assert_eq!(
        folder
            .vmcore(&format!("read vmcore.0 {bare} 0x4"))
            .expect(0)
            .text(),
        text
    );
    assert!(text.ends_with("= 100 (0x64)\n"), "{text}");
    let raw = folder
        .vmcore(&format!("read vmcore.0 {pa} 4 --phys --raw"))
        .expect(0);
    assert_eq!(raw.stdout, [100, 0, 0, 0]);
    let offset = translated["file_offset"]
        .as_str()
        .unwrap()
        .trim_start_matches("0x");
    let offset = usize::from_str_radix(offset, 16).unwrap();
    assert_eq!(
        &folder.machine.dump.build()[offset..offset + 4],
        [100, 0, 0, 0]
    );
}

#[test]
fn holes_are_lines_that_say_why() {
    let folder = amd64();
    let (va, pa) = folder.machine.truth.absent[0];
    let run = folder
        .vmcore(&format!("translate vmcore.0 {va:#x}"))
        .expect(3);
    assert!(
        run.text().contains(&format!("physical  {pa:#x}\n")),
        "{run:?}"
    );
    let next = format!("try: vmcore translate vmcore.0 {va:#x}");
    let run = folder.vmcore(&format!("read vmcore.0 {va:#x} 4"));
    assert!(run.stderr.contains(&next), "{run:?}");
    assert_fails(run, &format!("{va:#x} is not in the dump"));

    // Physical memory around a page that is there: a hole, bytes, a hole.
    let page = folder.machine.truth.pages[0].pa;
    let start = page - 4096;
    let run = folder
        .vmcore(&format!("read vmcore.0 --phys {start:#x} 12k"))
        .expect(3);
    let text = run.text();
    assert!(
        text.starts_with(&format!("0x{start:016x}  -- 4,096 bytes: ")),
        "{text}"
    );
    assert!(text.contains(&format!("\n0x{page:016x}  ")), "{text}");
    let json = folder
        .vmcore(&format!("read vmcore.0 --phys {start:#x} 12k --json"))
        .expect(3)
        .json();
    let parts = json["parts"].as_array().unwrap();
    assert!(
        parts[0].get("data").is_none() && parts[0]["missing"].is_string(),
        "{json}"
    );
    assert_eq!(parts[1]["data"].as_str().unwrap().len(), 8192);

    // Raw bytes stop at a hole, unless told what to put there.
    let run = folder
        .vmcore(&format!("read vmcore.0 --phys {page:#x} 8k --raw"))
        .expect(1);
    assert_eq!(run.stdout.len(), 4096);
    let words = format!("read vmcore.0 --phys {start:#x} 12k --raw --fill 0xa5");
    let run = folder.vmcore(&words).expect(3);
    assert_eq!(run.stdout.len(), 3 * 4096);
    assert!(run.stdout[..4096].iter().all(|byte| *byte == 0xa5));
}

#[test]
fn addresses_that_no_kernel_has_are_refused() {
    let folder = amd64();
    assert_fails(
        folder.vmcore("read vmcore.0 0x1000 4"),
        "0x1000 is not a kernel address of this dump",
    );
    assert_fails(
        folder.vmcore("read vmcore.0 --phys 0xfffffffff000 4"),
        "physical 0xfffffffff000",
    );
    let unmapped = folder.machine.truth.unmapped[0];
    assert_fails(
        folder.vmcore(&format!("read vmcore.0 {unmapped:#x} 4")),
        "is not mapped",
    );
    let run = folder
        .vmcore(&format!("translate vmcore.0 {unmapped:#x}"))
        .expect(1);
    assert!(run.text().contains("not valid"), "{run:?}");
    // The end of the address space ends a read.
    folder
        .vmcore("read vmcore.0 0xffffffffffffffff 64k")
        .expect(1);
    folder
        .vmcore("read vmcore.0 --phys 0xffffffffffffffff 64k")
        .expect(1);
}

#[test]
fn symbols_and_addresses_lead_to_each_other() {
    let folder = amd64();
    let hz = folder.machine.kernel.address_of("hz").unwrap();
    assert_eq!(
        folder.vmcore("sym vmcore.0 hz").expect(0).text(),
        format!("hz = {hz:#x} (4 bytes)\n")
    );
    let text = folder
        .vmcore(&format!("sym vmcore.0 {:#x}", hz + 1))
        .expect(0)
        .text();
    assert_eq!(text, format!("{:#x} = hz+0x1 (4 bytes)\n", hz + 1));
    let run = folder.vmcore("sym vmcore.0 proc_off");
    assert!(run.stderr.contains("similar: proc_off_p_"), "{run:?}");
    assert_fails(run, "kernel has no symbol proc_off");
    let run = folder.vmcore("sym vmcore.0 nosuch --json").expect(1);
    assert_eq!(run.json()["symbols"], serde_json::json!([]));
    assert_fails(
        folder.vmcore("read vmcore.0 nosuch"),
        "has no symbol nosuch",
    );
    assert_fails(folder.vmcore("sym vmcore.0 1"), "no symbol");
}

#[test]
fn searches_find_strings_bytes_and_pointers() {
    let folder = amd64();
    let json = folder
        .vmcore("search vmcore.0 httpd --json")
        .expect(0)
        .json();
    let found = json["matches"].as_array().unwrap();
    assert!(!found.is_empty());
    for place in found {
        let address = place["addresses"][0].as_str().unwrap();
        let bytes = folder
            .vmcore(&format!("read vmcore.0 {address} 5 --raw"))
            .expect(0)
            .stdout;
        assert_eq!(bytes, b"httpd");
    }
    let same = folder
        .vmcore("search vmcore.0 --hex 6874747064 --json")
        .expect(0)
        .json();
    assert_eq!(same["matches"], json["matches"]);
    let process = folder.machine.truth.processes[1].address;
    let pointers = folder
        .vmcore(&format!("search vmcore.0 --pointer {process:#x}"))
        .expect(0)
        .text();
    assert!(pointers.lines().count() > 1, "{pointers}");
    folder.vmcore("search vmcore.0 --pointer allproc").expect(0);
    let limited = folder.vmcore("search vmcore.0 panic --limit 1").expect(0);
    assert_eq!(limited.text().lines().count(), 2);
    assert!(limited.stderr.contains("more than 1"), "{limited:?}");
    let nothing = folder.vmcore("search vmcore.0 xyzzy").expect(0);
    assert_eq!(nothing.text(), "");
    assert!(nothing.stderr.contains("not found"), "{nothing:?}");
    let nothing = folder
        .vmcore("search vmcore.0 xyzzy --json")
        .expect(0)
        .json();
    assert_eq!(nothing["matches"], serde_json::json!([]));
}

#[test]
fn the_picture_is_one_file_of_svg() {
    let folder = amd64();
    let dump = folder.machine.dump.build();
    folder.write("<b>&", &dump);
    let run = run(folder.path(), &["map", "<b>&", "--svg", "map.svg"]).expect(0);
    assert_eq!(run.text(), "");
    let svg = fs::read_to_string(folder.path().join("map.svg")).unwrap();
    assert!(
        svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""),
        "{svg}"
    );
    assert!(
        svg.contains("&lt;b&gt;&amp;: FreeBSD/amd64 minidump"),
        "{svg}"
    );
    assert_eq!(
        svg.matches("http").count(),
        1,
        "nothing is loaded from elsewhere"
    );
    assert!(svg.ends_with("</svg>\n"));
}
