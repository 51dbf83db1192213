//! Damaged and hostile input: every answer comes, none of it panics or runs away.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on shall stop"
)]

mod common;

use common::Open as _;
use object::{Object as _, ObjectSection as _};
use proptest::prelude::*;
use std::sync::OnceLock;
use vmcore::process;
use vmcore_debug::arch::Machine;
use vmcore_debug::gdb::Stub;
use vmcore_debug::lines::Lines;
use vmcore_debug::object_file::ObjectFile;
use vmcore_debug::show::Options;
use vmcore_debug::types::{Tag, Types};
use vmcore_debug::unwind::{CallFrames, Start};
use vmcore_debug::{DebugFiles, Target, locks};
use vmcore_format::addr::VirtAddr;
use vmcore_format::arch::Arch;
use vmcore_testkit::TestKernel;

/// A kernel file, and where its debug sections lie in it: offset and length.
type FileWithSections = (Vec<u8>, Vec<(usize, usize)>);

fn kernel_file() -> &'static FileWithSections {
    static FILE: OnceLock<FileWithSections> = OnceLock::new();
    FILE.get_or_init(|| {
        let kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
        let bytes = std::fs::read(&kernel.file).unwrap();
        let elf = object::File::parse(&*bytes).unwrap();
        let ranges = elf
            .sections()
            .filter(|section| {
                let name = section.name().unwrap();
                name.starts_with(".debug") || name == ".eh_frame"
            })
            .map(|section| {
                let (offset, len) = section.file_range().unwrap();
                (
                    usize::try_from(offset).unwrap(),
                    usize::try_from(len).unwrap(),
                )
            })
            .collect();
        (bytes.clone(), ranges)
    })
}

fn ask_everything(bytes: Vec<u8>) {
    let file = ObjectFile::from_bytes(bytes, Arch::Amd64);
    let types = Types::of(&[&file]);
    for (tag, name) in [
        (Tag::Struct, "proc"),
        (Tag::Struct, "thread"),
        (Tag::Plain, "pid_t"),
        (Tag::Enum, "p_states"),
        (Tag::Struct, "nothing"),
    ] {
        if let Some(found) = types.find(tag, name) {
            let _ = types.size_of(&found);
            let _ = types.name_of(&found);
            let _ = types.member(&found, "u_long");
            let _ = types.resolve(&found);
        }
    }
    let _ = types.variable("allproc", None);
    let _ = types.enumerator("PRS_ZOMBIE");
    let _ = CallFrames::new(&file).len();
    let _ = Lines::of(&file).at(VirtAddr(0xffff_ffff_8020_1000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn debug_information_with_wrong_bytes_is_answered(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..40)
    ) {
        let (bytes, ranges) = kernel_file();
        let mut bytes = bytes.clone();
        for (section, position, value) in changes {
            let (start, len) = ranges[section.index(ranges.len())];
            if len > 0 {
                bytes[start + position.index(len)] = value;
            }
        }
        ask_everything(bytes);
    }

    #[test]
    fn a_file_of_any_length_is_answered(len in any::<prop::sample::Index>()) {
        let (bytes, _) = kernel_file();
        ask_everything(bytes[..len.index(bytes.len())].to_vec());
    }
}

/// A target whose kernel variables and stacks hold anything.
fn with_target<T>(kernel: &TestKernel, test: impl FnOnce(&Target<'_>) -> T) -> T {
    let session = kernel.session();
    let files = DebugFiles::of(&session).unwrap();
    test(&Target::new(&session, &files).unwrap())
}

#[test]
fn stacks_of_any_words_end() {
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    let stack = kernel.address("stacks");
    let code = kernel.address("callee");
    // Words that look like frames and code, from a fixed sequence.
    let mut state = 1_u64;
    let words: Vec<u64> = (0..2048)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            match state >> 61 {
                0..=3 => stack + (state >> 40) % 16384 / 8 * 8,
                4..=6 => code + (state >> 40) % 256,
                _ => state,
            }
        })
        .collect();
    kernel.write_words(stack, &words);
    with_target(&kernel, |target| {
        let machine = Machine::of(Arch::Amd64);
        for (position, word) in words.iter().enumerate() {
            let mut registers = vmcore_debug::unwind::Registers::default();
            let at = stack + 8 * u64::try_from(position).unwrap();
            registers.set(machine.pc, Some(code + word % 64));
            registers.set(machine.sp, Some(at));
            registers.set(machine.fp, Some(at));
            let never_ran = position % 7 == 0;
            let backtrace = target.unwinder().walk(&Start {
                registers,
                never_ran,
                interrupted: false,
            });
            assert!((1..=1000).contains(&backtrace.frames.len()));
        }
    });
}

#[test]
fn rings_and_holes_in_every_list_cost_only_themselves() {
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    let shell = kernel.address("shell");
    let worker = kernel.address("shell_thread");
    kernel.write_words(shell, &[shell]);
    kernel.write_words(worker + 16, &[worker]);
    for symbol in ["flow_ts", "lock_classes"] {
        let at = kernel.address(symbol);
        kernel.write_words(at, &[u64::MAX, 1, at]);
    }
    with_target(&kernel, |target| {
        let list = process::list(target.session()).unwrap();
        assert_eq!(list.processes.len(), 1);
        let _ = locks::find(target, &list);
        let value = target.evaluate("shell").unwrap();
        let small = Options {
            values: 20,
            ..Options::default()
        };
        let shown = target.print(&value, &small).to_string();
        assert!(shown.contains("p_list"));
    });
}

/// A kernel whose shell has these threads beside its own, in a list as the kernel keeps it; returns
/// where their links are.
fn with_threads(kernel: &mut TestKernel, tids: &[u32]) -> Vec<u64> {
    let head = kernel.address("shell") + 16;
    let mut links = vec![kernel.address("shell_thread") + 16];
    for (number, tid) in (0..).zip(tids) {
        let thread = 0xffff_ffff_9000_0000 + number * 0x1000;
        kernel.write(thread, &[0; 512]);
        kernel.write(thread + 32, &tid.to_le_bytes());
        links.push(thread + 16);
    }
    for (number, link) in links.iter().enumerate() {
        let next = links.get(number + 1).map_or(0, |next| next - 16);
        let previous = number.checked_sub(1).map_or(head, |before| links[before]);
        kernel.write_words(*link, &[next, previous]);
    }
    kernel.write_words(head + 8, &[*links.last().unwrap()]);
    links
}

#[test]
fn one_bad_link_does_not_lose_the_other_threads() {
    let found = |damage: &dyn Fn(&mut TestKernel, &[u64])| {
        let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
        let links = with_threads(&mut kernel, &[200_001, 200_002, 200_003, 200_004]);
        damage(&mut kernel, &links);
        let mut answer = (Vec::new(), 0);
        with_target(&kernel, |target| {
            let list = target.processes().unwrap();
            let threads = list.threads();
            answer = (
                threads.map(|thread| thread.tid).collect(),
                list.problems.len(),
            );
        });
        answer
    };
    let all = [
        100_077, 200_001, 200_002, 200_003, 200_004, 100_002, 100_000,
    ];
    assert_eq!(found(&|_, _| {}), (all.to_vec(), 0));
    // A link into nowhere, one that leads back, one to something that is no thread.
    for bad in [0xffff_ffff_c000_0000, 0xffff_ffff_9000_0000] {
        let damaged = found(&|kernel, links| kernel.write_words(links[2], &[bad]));
        assert_eq!(damaged, (all.to_vec(), 1), "{bad:#x}");
    }
    // And where the list of processes is torn as well, only the processes behind it are lost.
    let (tids, problems) = found(&|kernel, links| {
        kernel.write_words(links[1], &[links[1] - 16]);
        let shell = kernel.address("shell");
        kernel.write_words(shell, &[shell]);
    });
    assert_eq!((tids.as_slice(), problems), (&all[..5], 2));
    // Links that lead in circles backwards too.
    let (tids, problems) = found(&|kernel, links| {
        kernel.write_words(links[2], &[u64::MAX, links[4]]);
        kernel.write_words(links[3], &[links[4] - 16, links[4]]);
    });
    assert_eq!((tids.as_slice(), problems), (&all[..], 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_packets_are_answered(packets in prop::collection::vec("[A-Za-z?]{1,3}[a-z0-9:;,.\\-]{0,30}", 1..60)) {
        static KERNEL: OnceLock<TestKernel> = OnceLock::new();
        let kernel = KERNEL.get_or_init(|| TestKernel::compile("kernel.c", &[]));
        with_target(kernel, |target| {
            let list = process::list(target.session()).unwrap();
            let mut stub = Stub::new(target, &list);
            for packet in &packets {
                let (replies, _) = stub.answer(packet.as_bytes());
                assert!(replies.iter().all(|reply| reply.len() < 0x10000));
            }
            let _ = stub.converse(packets.join("$").as_bytes());
        });
    }

    #[test]
    fn any_text_is_an_expression_or_an_error(text in "[a-z0-9_ ()*&.\\[\\]<>=+\\-/%|^~!'\"]{0,60}") {
        static KERNEL: OnceLock<TestKernel> = OnceLock::new();
        let kernel = KERNEL.get_or_init(|| TestKernel::compile("kernel.c", &[]));
        with_target(kernel, |target| {
            if let Ok(value) = target.evaluate(&text) {
                let _ = target.print(&value, &Options::default()).to_string();
            }
        });
    }
}
