//! What leaves the house: nothing that names a machine, its users or its networks, wherever a dump
//! has it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

use serde_json::Value;
use std::collections::BTreeSet;
use vmcore_format::identity::{IDENTITY_OFFSET, Identity};
use vmcore_synth::Arch;
use vmcore_synth::machine::Options;
use vmcore_synth::msgbuf;
use vmcore_testkit::TestKernel;
use vmcore_testkit::command::{Folder, line};

/// Where the strings are that the test plants.
const STRINGS: u64 = 0xffff_ffff_8900_0000;
const BOOT_ID: [u8; 16] = [0xb7; 16];
const MACHINE_ID: [u8; 16] = [0xa9; 16];

/// What must not be in a share, in lower case.
const SECRETS: [&str; 24] = [
    "zeb",
    "corp.example",
    "alice",
    "192.0.2.17",
    "10.20.30.40",
    "10.20.",
    "2001:db8:5",
    "fe80::1c2d",
    "02:00:5e",
    "02-00-5e",
    "02005e005302",
    "wd-wcc4e",
    "50026b77",
    "23cd49",
    "fffffe0001e48",
    "c0a81234",
    "/home",
    "gptid",
    "5f3ab2c4",
    "homenet",
    "vault",
    "acme",
    "b7b7b7b7",
    "a9a9a9a9",
];

const LOG: &str = "\
nfs server 10.20.30.40:/home/alice: not responding
zeb login: alice on ttyv0 from [2001:db8:5::7]:22
ZEB kernel: arp: 192.0.2.17 moved from 02:00:5e:00:53:02 to 02-00-5e-00-53-02 on em0
ssid=HomeNet bssid 02005e005302 nfs://10.20.30.40/vault 10.20.30.0/24 10.20.30.1-10.20.30.9
ada0: Serial Number WD-WCC4E1234567 <ACME vault> s/n:50026B7782
Trying to mount root from ufs:/dev/gptid/5f3ab2c4-1111-11e9-b2a3-0050569a1b2c [rw]...
inet6 fe80::1c2d:3e4f%em0 prefixlen 64, mail alice@corp.example <alice@corp.example>
Fatal trap 12: page fault while in kernel mode
cpuid = 3; apic id = 03
fault virtual address\t= 0x18
fault code\t\t= supervisor read data, page not present
instruction pointer\t= 0x20:0xffffffff8023cd49
stack pointer\t        = 0x28:0xfffffe0001e48de0
frame pointer\t        = fffffe0001e48de0 c0a81234
current process\t\t= 77 (alice-sh)
panic: zeb: page fault at 0xffffffff8023cd49 for alice, 10.20.30.40
";

/// A kernel that panicked, with a secret in every name, and the files beside its dump.
fn planted() -> TestKernel {
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    vmcore_testkit::kernel::crash(&mut kernel);
    kernel.write_dump();
    let folder = kernel.dir.path().to_owned();
    let place = |lvalue: &str| vmcore_testkit::command::address_of(&folder, lvalue);
    let arrays = [
        ("shell_thread.td_name", "alice@10.20.30.40"),
        ("shell.p_comm", "vault-alice"),
        ("init_thread.td_name", "zeb 02:00:5e:0:1:2"),
        ("init.p_comm", "acme_2001:db8:5::7"),
        ("idle_thread.td_name", "fffffe0001e48de0"),
    ];
    let pointers = [
        ("shell_thread.td_lockname", "vault lock"),
        ("init_thread.td_wmesg", "alice"),
        ("flow_mtx.lock_object.lo_name", "acme 192.0.2.17 lock"),
        ("tree_sx.lock_object.lo_name", "/home/alice/db"),
        ("lock_class_sleep.lc_name", "sleep mutex"),
        ("mbuf_zone.uz_name", "vault_zone 50026B7782"),
        ("temp_type.ks_shortdesc", "HomeNet"),
        ("module_entry.filename", "acme_vault.ko"),
        ("module_entry.pathname", "/home/alice/acme_vault.ko"),
        (
            "panicstr",
            "zeb: page fault at 0xffffffff8023cd49 for alice",
        ),
    ];
    let arrays = arrays.map(|(lvalue, text)| (place(lvalue), text));
    let pointers = pointers.map(|(lvalue, text)| (place(lvalue), text));
    for (at, text) in arrays {
        kernel.write(at, text.as_bytes());
        kernel.write(at + text.len() as u64, b"\0");
    }
    for (string, (at, text)) in (STRINGS..).step_by(64).zip(pointers) {
        kernel.write(string, text.as_bytes());
        kernel.write(string + text.len() as u64, b"\0");
        kernel.write_words(at, &[string]);
    }
    let mut dump = vmcore_testkit::kernel::minidump(&kernel.pages, 0x1000_0000);
    let (ring, control) = msgbuf::written(1 << 14, LOG.as_bytes(), 0);
    dump.msgbuf = ring;
    dump.msgbuf_control = Some(control);
    let identity = Identity {
        dump_id: [0xd1; 16],
        boot_id: BOOT_ID,
        machine_id: MACHINE_ID,
        ..Identity::default()
    };
    dump.patches
        .push((IDENTITY_OFFSET, identity.encode().to_vec()));
    std::fs::write(folder.join("vmcore.0"), dump.build()).unwrap();
    let info = "Dump header from device: /dev/gptid/5f3ab2c4\n  Hostname: Zeb.corp.example\n  \
                Dumptime: 2026-03-02 04:11:09 +0000\n  \
                Version String: FreeBSD 15.1-RELEASE #0: Sun Jan 18 09:00:00 UTC 2026 ACME\n    \
                alice@zeb.corp.example:/home/alice/obj/sys/VAULT\n  \
                Panic String: zeb: page fault for alice at 192.0.2.17\n";
    std::fs::write(folder.join("info.0"), info).unwrap();
    kernel
}

#[track_caller]
fn without_secrets(what: &str, text: &str) {
    let lower = text.to_lowercase();
    for secret in SECRETS {
        assert!(!lower.contains(secret), "{what} has {secret}:\n{text}");
    }
}

#[test]
fn nothing_planted_leaves_the_house() {
    let kernel = planted();
    let folder = kernel.dir.path();
    // They are all there to be found.
    let whole = line(folder, "report vmcore.0 kernel --json");
    let whole = whole.text() + &line(folder, "info vmcore.0 kernel").text();
    let whole = whole.to_lowercase();
    for secret in [
        "zeb",
        "alice",
        "acme",
        "fe80::1c2d",
        "b7b7b7b7",
        "a9a9a9a9",
        "vault",
    ] {
        assert!(whole.contains(secret), "{secret} is not planted:\n{whole}");
    }
    let text = line(folder, "report vmcore.0 kernel --share").text();
    without_secrets("the text", &text);
    for kept in [
        "PANIC   …: page fault for … at …: kernel read of 0x18 (NULL + 0x18)\n",
        "Fatal trap 12: page fault while in kernel mode\n",
        "fault code\t\t= supervisor read data, page not present\n",
        "fault virtual address\t= 0x18\n",
        "FreeBSD 15.1-RELEASE #0: Sun Jan 18 09:00:00 UTC 2026 …",
        "leaf",
        "nfs server …: not responding\n",
    ] {
        assert!(text.contains(kept), "{kept:?} is not in:\n{text}");
    }
    let json = line(folder, "report vmcore.0 kernel --share --json").text();
    without_secrets("JSON", &json);
    line(folder, "report vmcore.0 kernel --share --html page.html");
    let page = std::fs::read_to_string(folder.join("page.html")).unwrap();
    without_secrets("HTML", &page);
    let manifest = line(folder, "redact vmcore.0 kernel small.0 --json").text();
    without_secrets("the manifest", &manifest.replace("small.0", ""));
    let info = line(folder, "info small.0 --json").text();
    assert!(
        !info.contains("b7b7b7b7") && !info.contains("a9a9a9a9"),
        "{info}"
    );
}

/// Paths of a report that no share has.
const PRIVATE: [&str; 24] = [
    "info.info_file",
    "info.host",
    "info.identity",
    "info.panic.sources",
    "info.kernel_version.sources",
    "info.crashed.sources",
    "info.uptime.sources",
    "info.layers",
    "info.ram",
    "info.kernbase",
    "info.direct_map",
    "info.extension",
    "info.warnings",
    "crash.fault.trap.address",
    "crash.fault.trap.pc",
    "crash.fault.trap.other",
    "thread.frames.pc",
    "thread.frames.sp",
    "thread.frames.fp",
    "thread.frames.trap",
    "thread.at",
    "thread.fp",
    "source_root",
    "locks.locks.thread",
];

fn paths(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                paths(value, &format!("{path}{dot}{name}"), found);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().for_each(|item| paths(item, path, found));
        }
        _ => {
            found.insert(path.to_owned());
        }
    }
}

#[test]
fn every_field_of_a_report_is_shared_or_private() {
    let kernel = planted();
    let synth = [Arch::Amd64, Arch::Arm64, Arch::I386]
        .map(|arch| Folder::new(&Options::new(arch, arch.newest_version())));
    let folders = synth.iter().map(Folder::path);
    for folder in folders.chain([kernel.dir.path()]) {
        let (mut whole, mut shared) = (BTreeSet::new(), BTreeSet::new());
        let report = line(folder, "report vmcore.0 kernel --json").json();
        paths(&report, "", &mut whole);
        let share = line(folder, "report vmcore.0 kernel --share --json").json();
        paths(&share, "", &mut shared);
        for path in whole.difference(&shared) {
            let is_private = PRIVATE.iter().any(|private| path.starts_with(private));
            assert!(is_private, "{path} is neither shared nor private");
        }
        for path in &shared {
            assert!(whole.contains(path), "{path} is in a share alone");
        }
    }
}
