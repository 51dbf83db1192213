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
    let json = line(folder, "why vmcore.0 kernel --json").expect(0).json();
    assert_eq!(json["reason"]["variable"], "ifp");
    assert_eq!(json["reason"]["bad"]["kind"], "null");
    let share = line(folder, "report vmcore.0 kernel --share --json").json();
    assert!(share.get("reason").is_none(), "{share}");
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
