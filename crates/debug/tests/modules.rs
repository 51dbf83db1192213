//! Modules: their list, their files, what may not be opened.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on shall stop"
)]

mod common;

use common::Open as _;
use std::fs;
use std::process::Command;
use vmcore_debug::modules::{self, Identity, Search, Status};
use vmcore_debug::reason;
use vmcore_debug::report::signature;
use vmcore_debug::show::Options;
use vmcore_debug::types::Tag;
use vmcore_debug::{DebugFiles, Target};
use vmcore_format::addr::VirtAddr;
use vmcore_testkit::TestKernel;
use vmcore_testkit::interrupted;
use vmcore_testkit::modules::load;

#[test]
fn a_module_is_found_and_its_types_and_symbols_join_the_kernel_s() {
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("boot/modules");
    fs::create_dir_all(&folder).unwrap();
    let text = load(&mut kernel, &folder.join("flow.ko"));
    let session = kernel.session();
    let list = modules::list(&session).unwrap();
    assert_eq!(list.problems, Vec::<String>::new());
    assert_eq!(list.modules.len(), 1);
    assert_eq!(list.modules[0].path, "/boot/modules/flow.ko");
    let search = Search {
        sysroot: Some(root.path().to_owned()),
        directories: Vec::new(),
    };
    let files = DebugFiles::of(&session).unwrap();
    let files = files.with_modules(&session, &search).unwrap();
    let module = &files.modules()[0];
    let found = Status::Found {
        debug: true,
        identity: Identity::TextEqual,
    };
    assert_eq!(module.status, found, "{:?}", module.tried);
    let target = Target::new(&session, &files).unwrap();
    assert_eq!(
        target.name_at(VirtAddr(text)).as_deref(),
        Some("flow_lookup")
    );
    assert_eq!(
        target.name_at(VirtAddr(text + 5)).as_deref(),
        Some("flow_lookup+0x5")
    );
    let places = target.places(VirtAddr(text));
    assert_eq!(places[0].function, "flow_lookup");
    assert!(places[0].file.as_ref().unwrap().ends_with("flow.c"));
    assert!(target.types().find(Tag::Struct, "flow").is_some());
    let value = target.evaluate("flows[1].id").unwrap();
    assert_eq!(target.print(&value, &Options::default()).to_string(), "2");
    // The kernel's own answers stay.
    let value = target.evaluate("shell.p_pid").unwrap();
    assert_eq!(target.print(&value, &Options::default()).to_string(), "77");
}

#[test]
fn a_crash_in_a_module_names_it() {
    if !vmcore_testkit::has("gdb") {
        return;
    }
    let Some(mut kernel) = interrupted::faults("gcc", &["-O2", "-gdwarf-5"], 1) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let text = load(&mut kernel, &folder.path().join("flow.ko"));
    let search = Search {
        sysroot: None,
        directories: vec![folder.path().to_owned()],
    };
    let unlink = with_module(&kernel, &search, |target| {
        let mut addresses = text..text + 0x1000;
        addresses.find(|at| target.name_at(VirtAddr(*at)).as_deref() == Some("flow_unlink"))
    });
    interrupted::faulted_at(&mut kernel, 0, unlink.unwrap(), 0, 8);
    let reason = with_module(&kernel, &search, |target| {
        let list = target.processes().unwrap();
        let tid = interrupted::FIRST_TID.cast_signed();
        let thread = list.threads().find(|thread| thread.tid == tid).unwrap();
        reason::of(target, &list, thread).unwrap()
    });
    assert_eq!(reason.variable.as_deref(), Some("flow"), "{reason:?}");
    assert_eq!(reason.member.as_deref(), Some("next"), "{reason:?}");
    assert_eq!(reason.module.as_deref(), Some("flow.ko"), "{reason:?}");
    let evidence = reason.evidence.join("\n");
    assert!(evidence.contains("flow_unlink is in flow.ko"), "{evidence}");
    let mut of_kernel = reason.clone();
    of_kernel.module = None;
    assert_ne!(signature::v2_of(&reason), signature::v2_of(&of_kernel));
}

fn with_module<T>(kernel: &TestKernel, search: &Search, ask: impl FnOnce(&Target<'_>) -> T) -> T {
    let session = kernel.session();
    let files = DebugFiles::of(&session).unwrap();
    let files = files.with_modules(&session, search).unwrap();
    ask(&Target::new(&session, &files).unwrap())
}

#[test]
fn a_debug_file_beside_the_module_is_preferred() {
    let mut kernel = TestKernel::compile("kernel.c", &[]);
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("flow.ko");
    let text = load(&mut kernel, &module);
    let debug = folder.path().join("flow.ko.debug");
    for args in [["--only-keep-debug"], ["--strip-debug"]] {
        let output = if args[0] == "--strip-debug" {
            &module
        } else {
            &debug
        };
        let status = Command::new("objcopy")
            .args(args)
            .args([&module, output])
            .status();
        assert!(status.unwrap().success());
    }
    let session = kernel.session();
    let search = Search {
        sysroot: None,
        directories: vec![folder.path().to_owned()],
    };
    let files = DebugFiles::of(&session).unwrap();
    let files = files.with_modules(&session, &search).unwrap();
    let found = &files.modules()[0];
    assert_eq!(found.file.as_deref(), Some(&*debug));
    let expected = Status::Found {
        debug: true,
        identity: Identity::TextEqual,
    };
    assert_eq!(found.status, expected);
    let target = Target::new(&session, &files).unwrap();
    assert_eq!(target.places(VirtAddr(text))[0].function, "flow_lookup");
    assert_eq!(found.section_addresses().1[0], (".text".to_owned(), text));
}

#[test]
fn another_module_of_the_same_name_is_told_apart() {
    let mut kernel = TestKernel::compile("kernel.c", &[]);
    let folder = tempfile::tempdir().unwrap();
    let text = load(&mut kernel, &folder.path().join("flow.ko"));
    let search = Search {
        sysroot: None,
        directories: vec![folder.path().to_owned()],
    };
    let status = |kernel: &TestKernel| {
        let session = kernel.session();
        let list = modules::list(&session).unwrap();
        modules::find(&session, &list.modules[0], &search)
            .unwrap()
            .status
    };
    kernel.write(text, &[0x90; 32]);
    assert!(matches!(status(&kernel), Status::Mismatched { reason } if reason.contains("differ")));
    let size_at = kernel.address("module_entry") + 72;
    kernel.write_words(size_at, &[0x1234]);
    assert!(matches!(status(&kernel), Status::Mismatched { reason } if reason.contains("4660")));
}

#[test]
fn nothing_outside_of_the_given_directories_is_opened() {
    let mut kernel = TestKernel::compile("kernel.c", &[]);
    let outside = tempfile::tempdir().unwrap();
    load(&mut kernel, &outside.path().join("flow.ko"));
    let inside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(
        outside.path().join("flow.ko"),
        inside.path().join("flow.ko"),
    )
    .unwrap();
    let search = Search {
        sysroot: Some(inside.path().to_owned()),
        directories: vec![inside.path().to_owned()],
    };
    let session = kernel.session();
    let mut module = modules::list(&session).unwrap().modules.remove(0);
    let found = modules::find(&session, &module, &search).unwrap();
    assert_eq!(found.status, Status::Missing);
    assert!(found.tried.contains(&inside.path().join("flow.ko")));
    for name in ["../flow.ko", "a/flow.ko", "..", "", "/"] {
        module.name = name.to_owned();
        let found = modules::find(&session, &module, &search).unwrap();
        assert_eq!(found.status, Status::Missing);
        assert!(found.tried.is_empty(), "{name}: {:?}", found.tried);
    }
    module.name = "flow.ko".to_owned();
    module.path = "/../flow.ko".to_owned();
    let found = modules::find(&session, &module, &search).unwrap();
    assert!(
        found
            .tried
            .iter()
            .all(|path| path.starts_with(inside.path()))
    );
}

#[test]
fn a_list_that_runs_in_circles_ends() {
    let mut kernel = TestKernel::compile("kernel.c", &[]);
    let next_at = kernel.address("module_entry") + 24;
    let first = kernel.address("kernel_entry");
    kernel.write_words(next_at, &[first]);
    let list = modules::list(&kernel.session()).unwrap();
    assert_eq!(list.modules.len(), 1);
    assert_eq!(list.problems.len(), 1);
    kernel.write_words(next_at, &[0xffff_ffff_c000_0000]);
    let list = modules::list(&kernel.session()).unwrap();
    assert_eq!(list.modules.len(), 1);
    assert!(
        list.problems[0].contains("0xffffffffc0000"),
        "{:?}",
        list.problems
    );
}
