//! Zones and types of memory of a small kernel.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on shall stop"
)]

mod common;

use common::with_target;
use vmcore_debug::usage::{self, MallocType, Usage, Zone};
use vmcore_testkit::TestKernel;

fn usage_of(kernel: &TestKernel) -> Usage {
    with_target(kernel, usage::of)
}

fn expected() -> Usage {
    let zone = |name: &str, item_bytes, in_use, requests| Zone {
        name: name.to_owned(),
        item_bytes,
        in_use,
        requests,
        bytes: in_use * item_bytes,
    };
    let kind = |name: &str, in_use, requests, bytes| MallocType {
        name: name.to_owned(),
        in_use,
        requests,
        bytes,
    };
    Usage {
        // What both CPUs gave out less what both took back.
        zones: vec![zone("mbuf", 256, 157 - 37, 157), zone("VNODE", 448, 1, 1)],
        malloc: vec![kind("temp", 4 - 2, 4, 2048), kind("devbuf", 0, 0, 0)],
        problems: Vec::new(),
    }
}

#[test]
fn counters_of_all_cpus_are_added_up() {
    for flags in ["-gdwarf-4", "-gdwarf-5"] {
        let kernel = TestKernel::compile("kernel.c", &[flags]);
        assert_eq!(usage_of(&kernel), expected(), "{flags}");
    }
}

#[test]
fn on_amd64_counters_are_relative_to_the_structures_of_the_cpus() {
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    let base = kernel.address("out_counter") - 0x3000;
    let pcpu = kernel.address("__pcpu");
    kernel.write_words(pcpu, &[base]);
    let relative = |kernel: &TestKernel, name: &str| kernel.address(name).wrapping_sub(base);
    let zone = kernel.address("mbuf_zone");
    let counters = [
        relative(&kernel, "out_counter"),
        relative(&kernel, "back_counter"),
    ];
    kernel.write_words(zone + 24, &counters);
    let stats = relative(&kernel, "temp_stats");
    let kind = kernel.address("temp_type");
    kernel.write_words(kind + 40, &[stats]);
    assert_eq!(usage_of(&kernel), expected());
}

#[test]
fn lists_that_lead_back_or_nowhere_end_and_say_so() {
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    let (first, last) = (kernel.address("mbuf_keg"), kernel.address("vnode_keg"));
    kernel.write_words(last, &[first]);
    let last_type = kernel.address("devbuf_type");
    kernel.write_words(last_type, &[0xffff_ffff_c000_0000]);
    let usage = usage_of(&kernel);
    assert_eq!(usage.zones, expected().zones);
    let [circle, nowhere] = &usage.problems[..] else {
        panic!("{usage:?}");
    };
    assert!(circle.starts_with("uma_kegs: "), "{circle}");
    assert!(nowhere.starts_with("kmemstatistics: "), "{nowhere}");
    assert_eq!(usage.malloc[..1], expected().malloc[..1]);
}
