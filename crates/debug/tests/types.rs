//! Types and expressions over kernels that the C compiler made, in both versions of DWARF.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on shall stop"
)]

mod common;

use common::Open as _;
use vmcore_debug::expr::{EvalError, Location};
use vmcore_debug::show::{Content, ListEnd, Options};
use vmcore_debug::types::{Tag, TypeKind};
use vmcore_debug::{DebugFiles, Target};
use vmcore_format::addr::VirtAddr;
use vmcore_testkit::TestKernel;

/// Runs a test on the kernel compiled with DWARF 4, DWARF 5, and compressed DWARF 5.
fn with_targets(test: impl Fn(&Target<'_>, &TestKernel)) {
    for flags in [
        &["-gdwarf-4"][..],
        &["-gdwarf-5"],
        &["-gdwarf-5", "-gz=zlib", "-O2"],
    ] {
        let kernel = TestKernel::compile("kernel.c", flags);
        let session = kernel.session();
        let files = DebugFiles::of(&session).unwrap();
        let target = Target::new(&session, &files).unwrap();
        test(&target, &kernel);
    }
}

fn text(target: &Target<'_>, expression: &str) -> String {
    match target.evaluate(expression) {
        Ok(value) => target.print(&value, &Options::default()).to_string(),
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn expressions_have_the_values_that_the_compiler_laid_out() {
    with_targets(|target, kernel| {
        let shell = kernel.address("shell");
        for (expression, expected) in [
            ("hz", "100".to_owned()),
            ("hz * 2 + 1", "201".to_owned()),
            ("booted", "true".to_owned()),
            ("load_average", "0.25".to_owned()),
            ("allproc.lh_first->p_pid", "77".to_owned()),
            ("allproc.lh_first.p_comm", "\"sh\"".to_owned()),
            ("allproc.lh_first", format!("{shell:#x} <shell>")),
            (
                "&shell.p_pptr->p_pid",
                format!(
                    "{:#x} <init+{:#x}>",
                    kernel.address("init") + target.types().offset_of("proc", "p_pid").unwrap(),
                    target.types().offset_of("proc", "p_pid").unwrap()
                ),
            ),
            ("shell.p_state", "PRS_NORMAL".to_owned()),
            ("shell_thread.td_state == TDS_INHIBITED", "1".to_owned()),
            ("shell.p_matrix", "{{1, 2, 3}, {4, 5, 6}}".to_owned()),
            ("shell.p_matrix[1][2]", "6".to_owned()),
            ("untouched", "{0 (200 times), and 800 more}".to_owned()),
            ("untouched[999]", "7".to_owned()),
            (
                "panic_message",
                format!("{:#x} \"page fault\"", pointer(kernel, "panic_message")),
            ),
            ("*panic_message", "112".to_owned()),
            ("panic_message[1] == 'a'", "1".to_owned()),
            ("idle_thread.td_low", "5".to_owned()),
            ("idle_thread.td_mid", "100".to_owned()),
            ("idle_thread.td_sign", "-3".to_owned()),
            ("idle_thread.u_long", "4702394921427289928".to_owned()),
            ("idle_thread.u_bytes[0]", "72".to_owned()),
            ("idle_thread.td_oncpu", "-1".to_owned()),
            ("(unsigned)idle_thread.td_oncpu", "4294967295".to_owned()),
            ("(u_char)0x1ff", "255".to_owned()),
            ("(signed char)255", "-1".to_owned()),
            ("sizeof(struct lock_object)", "24".to_owned()),
            ("sizeof shell.p_comm", "20".to_owned()),
            ("sizeof(struct proc *)", "8".to_owned()),
            ("sizeof(char [20])", "20".to_owned()),
            ("&pcbs[1] - pcbs", "1".to_owned()),
            ("hook", "0x0".to_owned()),
            ("~0 == -1 && !0", "1".to_owned()),
            ("1 << 40", "1099511627776".to_owned()),
            ("(pid_t)7 % 4", "3".to_owned()),
            ("1 / 0", "error: division by zero".to_owned()),
            ("nothing", "error: there is no variable nothing".to_owned()),
            (
                "(struct nothing *)0",
                "error: there is no struct nothing".to_owned(),
            ),
            (
                "shell.p_nothing",
                "error: struct proc has no member p_nothing".to_owned(),
            ),
            ("hz.p_pid", "error: int has no members".to_owned()),
            (
                "*hz",
                "error: int is neither a pointer nor an array".to_owned(),
            ),
            (
                "*init_thread.td_wchan",
                "error: const void * points to nothing known: cast it first".to_owned(),
            ),
        ] {
            assert_eq!(text(target, expression), expected, "{expression}");
        }
        let cast = format!("((struct proc *){shell:#x})->p_list.le_next->p_comm");
        assert_eq!(text(target, &cast), "\"init\"");
    });
}

fn pointer(kernel: &TestKernel, symbol: &str) -> u64 {
    let at = kernel.address(symbol);
    let page = &kernel.pages[&(at & !0xfff)];
    let start = usize::try_from(at & 0xfff).unwrap();
    u64::from_le_bytes(page[start..start + 8].try_into().unwrap())
}

#[test]
fn a_structure_prints_as_c_writes_it() {
    with_targets(|target, kernel| {
        let lasso = text(target, "lasso");
        let to = kernel.address("loop_a");
        assert_eq!(
            lasso,
            format!("{{\n  next = {to:#x} <loop_a>,\n  value = 0,\n}}")
        );
        let flat = Options {
            depth: 1,
            ..Options::default()
        };
        let value = target.evaluate("flow_mtx").unwrap();
        let shown = target.print(&value, &flat).to_string();
        assert!(shown.starts_with("{\n  lock_object = {…},\n"), "{shown}");
    });
}

#[test]
fn a_value_serialises_with_its_type_and_address() {
    with_targets(|target, kernel| {
        let value = target.evaluate("init_thread.td_name").unwrap();
        let json = serde_json::to_value(target.print(&value, &Options::default())).unwrap();
        let offset = target.types().offset_of("thread", "td_name").unwrap();
        assert_eq!(json["type"], "char [20]");
        assert_eq!(json["kind"], "string");
        assert_eq!(json["value"], "init");
        assert_eq!(
            json["address"],
            format!("{:#x}", kernel.address("init_thread") + offset)
        );
        let value = target.evaluate("shell.p_pptr").unwrap();
        let json = serde_json::to_value(target.print(&value, &Options::default())).unwrap();
        assert_eq!(json["type"], "struct proc *");
        assert_eq!(json["value"]["symbol"], "init");
        let value = target.evaluate("lasso").unwrap();
        let json = serde_json::to_value(target.print(&value, &Options::default())).unwrap();
        assert_eq!(json["value"][1][0], "value");
        assert_eq!(json["value"][1][1]["value"], "0");
    });
}

#[test]
fn memory_that_is_missing_costs_only_its_own_members() {
    with_targets(|target, _| {
        let value = target.evaluate("*broken.next").unwrap();
        let Content::Struct(members) = target.print(&value, &Options::default()).content else {
            panic!("no structure");
        };
        assert!(
            matches!(&members[0].1.content, Content::Unreadable(why) if why.contains("0xffffffffc0000000"))
        );
        assert!(matches!(
            target.evaluate("*(int *)0 + 1"),
            Err(EvalError::Unreadable(_))
        ));
    });
}

#[test]
fn lists_are_walked_to_their_end() {
    with_targets(|target, kernel| {
        let walk = |start: &str, link: &str| {
            let start = target.evaluate(start).unwrap();
            target.walk(&start, link, 100)
        };
        let addresses = |walked: &vmcore_debug::show::Walked| -> Vec<u64> {
            let address = |value: &vmcore_debug::expr::Value| match value.location {
                Location::Memory(address) => address.0,
                _ => panic!("not in memory"),
            };
            walked.elements.iter().map(address).collect()
        };
        let processes = ["shell", "init", "proc0"].map(|name| kernel.address(name));
        for start in ["allproc", "allproc.lh_first", "shell"] {
            let walked = walk(start, "p_list.le_next").unwrap();
            assert_eq!(addresses(&walked), processes);
            assert_eq!(walked.end, ListEnd::Complete);
        }
        assert_eq!(
            walk("init.p_threads", "td_plist.tqe_next")
                .unwrap()
                .elements
                .len(),
            1
        );
        let ring = walk("loop_a", "next").unwrap();
        assert_eq!((ring.elements.len(), ring.end), (2, ListEnd::Complete));
        let lasso = walk("lasso", "next").unwrap();
        assert_eq!(lasso.elements.len(), 3);
        assert!(matches!(lasso.end, ListEnd::Loop { .. }));
        let broken = walk("broken", "next").unwrap();
        assert_eq!(broken.elements.len(), 2);
        assert!(matches!(broken.end, ListEnd::Unreadable { .. }));
        assert!(matches!(
            walk("shell", "p_nothing"),
            Err(EvalError::NoMember { .. })
        ));
        let start = target.evaluate("loop_a").unwrap();
        assert_eq!(target.walk(&start, "next", 1).unwrap().end, ListEnd::Limit);
    });
}

#[test]
fn a_list_is_walked_by_the_name_of_its_link() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("items.c");
    std::fs::write(
        &source,
        "struct item { int number; struct { struct item *sle_next; } s_link;\n\
         struct { struct item *stqe_next; } st_link; };\n\
         struct item third = { 3 }, second = { 2, { &third } },\n\
         first = { 1, { &second }, { &third } };\n",
    )
    .unwrap();
    let kernel = TestKernel::compile_with("kernel.c", &[], &[source]);
    common::with_target(&kernel, |target| {
        for (start, link, expected) in [
            ("allproc", "p_list", &["shell", "init", "proc0"][..]),
            ("init.p_threads", "td_plist", &["init_thread"]),
            ("first", "s_link", &["first", "second", "third"]),
            ("first", "st_link", &["first", "third"]),
        ] {
            let start = target.evaluate(start).unwrap();
            let walked = target.walk(&start, link, 100).unwrap();
            let found: Vec<_> = walked.elements.iter().map(|item| &item.location).collect();
            let at = |name: &&str| Location::Memory(VirtAddr(kernel.address(name)));
            let expected: Vec<_> = expected.iter().map(at).collect();
            assert_eq!(found, expected.iter().collect::<Vec<_>>(), "{link}");
            assert_eq!(walked.end, ListEnd::Complete, "{link}");
        }
    });
}

#[test]
fn integers_that_are_addresses_are_hexadecimal() {
    let mut kernel = TestKernel::compile("kernel.c", &[]);
    let (at, worker) = (kernel.address("pcbs"), kernel.address("worker"));
    kernel.write_words(at, &[u64::MAX - 5]);
    kernel.write_words(at + 56, &[worker]);
    common::with_target(&kernel, |target| {
        for expression in ["pcbs[0].rip", "*(long *)&pcbs[0].rip"] {
            let value = target.evaluate(expression).unwrap();
            let shown = target.print(&value, &Options::default());
            assert_eq!(shown.to_string(), format!("{worker:#x}"), "{expression}");
            let json = serde_json::to_value(&shown).unwrap();
            assert_eq!(json["kind"], "address");
        }
        // A number below 0 stays one.
        assert_eq!(text(target, "*(long *)&pcbs[0].r15"), "-6");
    });
}

#[test]
fn types_are_found_by_name_and_kind() {
    with_targets(|target, _| {
        let types = target.types();
        assert_eq!(types.origin(), Some("DWARF"));
        let proc_ = types.find(Tag::Struct, "proc").unwrap();
        assert_eq!(types.name_of(&proc_), "struct proc");
        assert!(types.find(Tag::Union, "proc").is_none());
        assert!(types.find(Tag::Plain, "pid_t").is_some());
        assert_eq!(types.enumerator("PRS_ZOMBIE"), Some(2));
        assert_eq!(types.offset_of("proc", "p_list.le_prev"), Some(8));
        let td_blocked = types.member(&types.find(Tag::Struct, "thread").unwrap(), "u_long");
        assert!(td_blocked.unwrap().is_some());
        let (_, thread) = types
            .resolve(&types.find(Tag::Struct, "thread").unwrap())
            .unwrap();
        assert!(matches!(&thread.kind, TypeKind::Struct(members) if members.len() >= 18));
    });
}
