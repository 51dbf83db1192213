//! The reason for a crash, by the command and in the report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use vmcore_testkit::command::line;
use vmcore_testkit::{interrupted, kernel};

#[test]
fn the_first_lines_name_the_variable_and_the_member() {
    if !vmcore_testkit::has("gdb") {
        return;
    }
    let Some(kernel) = interrupted::faults("gcc", &["-O2", "-gdwarf-5"], 2) else {
        return;
    };
    kernel.write_dump();
    let folder = kernel.dir.path();
    let text = line(folder, "why vmcore.0 kernel").expect(0).text();
    let (headline, evidence) = text.split_once('\n').unwrap();
    assert!(
        headline.starts_with("`ifp` is NULL in f_output, "),
        "{text}"
    );
    assert!(headline.ends_with(": it reads ifp->flags"), "{text}");
    assert!(evidence.contains("was refused; rdi = 0x0"), "{text}");
    assert!(
        evidence.contains("argument 1 of f_output, called by f_send"),
        "{text}"
    );
    let other = line(folder, "why vmcore.0 kernel 200001").expect(0).text();
    assert!(
        other.contains("`ro->ifp->vnet` is NULL in f_counter"),
        "{other}"
    );
    let report = line(folder, "report vmcore.0 kernel").text();
    let why = report.lines().find(|line| line.starts_with("WHY")).unwrap();
    assert!(why.contains("`ifp` is NULL in f_output, "), "{report}");
    let frames = report.lines().skip_while(|line| !line.starts_with("STACK"));
    let frames: Vec<&str> = frames.map(str::trim).collect();
    assert!(frames.contains(&"ifp=0x0, flags=1"), "{report}");
    let json = line(folder, "why vmcore.0 kernel --json").expect(0).json();
    assert_eq!(json["reason"]["variable"], "ifp");
    assert_eq!(json["reason"]["bad"]["kind"], "null");
    let share = line(folder, "report vmcore.0 kernel --share --json").json();
    assert!(share.get("reason").is_none(), "{share}");
    assert!(share["thread"].get("arguments").is_none(), "{share}");
    let share = line(folder, "report vmcore.0 kernel --share").text();
    assert!(!share.contains("ifp="), "{share}");
}

#[test]
fn backtraces_have_arguments_and_local_variables() {
    if !vmcore_testkit::has("gdb") {
        return;
    }
    let Some(kernel) = interrupted::faults("gcc", &["-O2", "-gdwarf-5"], 2) else {
        return;
    };
    kernel.write_dump();
    let ask = |words: &str| line(kernel.dir.path(), words);
    let text = ask("bt vmcore.0 kernel").text();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let after = |name: &str| {
        let at = lines.iter().position(|line| line.contains(name)).unwrap();
        lines[at + 1]
    };
    assert_eq!(after(" f_output"), "ifp=0x0, flags=1", "{text}");
    let ro = kernel.address("f_empty");
    assert_eq!(
        after(" f_send"),
        format!("ro={ro:#x} <f_empty>, flags=1"),
        "{text}"
    );
    assert!(!text.contains("ifp = "), "{text}");
    let short = ask("bt vmcore.0 kernel --args none").text();
    assert!(!short.contains("ifp"), "{short}");
    let json = ask("bt vmcore.0 kernel --json").json();
    let thread = &json["threads"][0];
    let frames = thread["frames"].as_array().unwrap();
    let is_it = |frame: &serde_json::Value| frame["places"][0]["function"] == "f_output";
    let at = frames.iter().position(is_it).unwrap();
    let ifp = &thread["variables"][at][0][0];
    assert_eq!(ifp["name"], "ifp");
    assert_eq!(ifp["type"], "struct f_ifnet *");
    assert_eq!(ifp["storage"]["name"], "rdi");
    assert_eq!(ifp["value"]["to"], "0x0");

    let number = at.to_string();
    let print = |words: &str| ask(&format!("print vmcore.0 kernel {words}"));
    assert_eq!(
        print(&format!("flags --frame {number}")).expect(0).text(),
        "(int) 1\n"
    );
    let outer = print(&format!("ro->refs --frame {}", at + 1)).expect(0);
    assert_eq!(outer.text(), "(int) 1\n");
    assert!(
        print("flags")
            .expect(1)
            .stderr
            .contains("no variable flags")
    );
    print("flags --frame 400").expect(1);
    print("flags --thread 5").expect(1);
}

#[test]
fn what_is_not_known_is_not_said() {
    let mut test = vmcore_testkit::TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    kernel::crash(&mut test);
    test.write_dump();
    let folder = test.dir.path();
    let run = line(folder, "why vmcore.0 kernel").expect(3);
    assert!(run.text().starts_with("nothing is known"), "{run:?}");
    assert!(
        !line(folder, "report vmcore.0 kernel")
            .text()
            .contains("WHY")
    );
    let run = line(folder, "why vmcore.0 kernel 5").expect(1);
    assert!(run.stderr.contains("there is no thread 5"), "{run:?}");
}
