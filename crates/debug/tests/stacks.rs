//! Stacks that the tests lay out word by word, over code that the assembler made.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on shall stop"
)]

mod common;

use common::with_target;
use vmcore::process::{self, Thread};
use vmcore_debug::Target;
use vmcore_debug::unwind::{End, How};
use vmcore_format::addr::VirtAddr;
use vmcore_testkit::TestKernel;
use vmcore_testkit::kernel::{Pcb, crash, write_pcb};

fn thread(target: &Target<'_>, tid: i32) -> Thread {
    let list = process::list(target.session()).unwrap();
    let mut threads = list
        .processes
        .into_iter()
        .flat_map(|process| process.threads);
    threads.find(|thread| thread.tid == tid).unwrap()
}

#[test]
fn a_crashed_thread_is_walked_to_its_start() {
    let mut kernel = TestKernel::compile("kernel.c", &["-gdwarf-5"]);
    crash(&mut kernel);
    with_target(&kernel, |target| {
        let thread = thread(target, 100_077);
        assert!(thread.crashed);
        let stack = target.stack(&thread);
        let found: Vec<(&str, How)> = stack
            .frames
            .iter()
            .map(|frame| (frame.function().unwrap(), frame.frame.how))
            .collect();
        assert_eq!(
            found,
            [
                ("doadump", How::Pcb),
                ("panic", How::Cfi),
                ("trap", How::Cfi),
                ("calltrap", How::Cfi),
                ("leaf", How::TrapFrame),
                ("worker", How::Prologue),
                ("fork_exit", How::FramePointer),
                ("fork_trampoline", How::FramePointer),
            ]
        );
        assert_eq!(stack.end, Some(End::ThreadStart));
        assert!(stack.frames.iter().all(|frame| frame.frame.doubt.is_none()));
        // The call in panic is its last instruction; the name is still that of panic.
        let panic = &stack.frames[1].frame;
        let len = kernel.address("savectx") - kernel.address("panic");
        assert_eq!(panic.name.as_deref(), Some(&*format!("panic+{len:#x}")));
        // What panic had pushed is trap's again.
        assert_eq!(stack.frames[1].frame.registers.get(3), Some(0x2222));
        assert_eq!(stack.frames[2].frame.registers.get(3), Some(0x1111));
        let trap = stack.frames[3].frame.trap.as_ref().unwrap();
        assert_eq!((trap.number, trap.user), (Some(12), false));
        assert_eq!(trap.fault_address, Some(VirtAddr(0x18)));
        assert_eq!(stack.frames[4].frame.registers.get(12), Some(0x1212));
        let json = serde_json::to_value(&stack).unwrap();
        assert_eq!(json["end"], "thread_start");
        assert_eq!(json["frames"][4]["how"], "trap_frame");
        assert_eq!(json["frames"][3]["trap"]["number"], "0xc");
    });
}

#[test]
fn a_thread_that_never_ran_ends_where_it_would_start() {
    let mut kernel = TestKernel::compile("kernel.c", &[]);
    let top = kernel.address("stacks") + 16384;
    let pcb = Pcb {
        rbp: 0x1234,
        rsp: top - 192 - 8,
        rbx: 0,
        rip: kernel.address("fork_trampoline"),
    };
    let at = kernel.address("pcbs");
    write_pcb(&mut kernel, at, &pcb);
    with_target(&kernel, |target| {
        let backtrace = target.backtrace(&thread(target, 100_000));
        assert_eq!(backtrace.frames.len(), 1);
        let frame = &backtrace.frames[0];
        assert_eq!(frame.name.as_deref(), Some("fork_trampoline"));
        assert_eq!(frame.trap.as_ref().unwrap().address, VirtAddr(top - 192));
        assert_eq!(backtrace.end, End::ThreadStart);
    });
}

#[test]
fn kernel_threads_have_a_start_of_their_own() {
    let mut kernel = TestKernel::compile("kernel.c", &[]);
    let pcb = Pcb {
        rbp: 0,
        rsp: kernel.address("stacks") + 16384 - 192 - 8,
        rbx: 0,
        rip: kernel.address("fork_trampoline_kthread"),
    };
    let at = kernel.address("pcbs");
    write_pcb(&mut kernel, at, &pcb);
    with_target(&kernel, |target| {
        let backtrace = target.backtrace(&thread(target, 100_000));
        assert_eq!(backtrace.frames.len(), 1);
        // Nothing called it: the address is its own, not one behind a call.
        let frame = &backtrace.frames[0];
        assert!(frame.exact);
        assert_eq!(frame.name.as_deref(), Some("fork_trampoline_kthread"));
        assert_eq!(backtrace.end, End::ThreadStart);
    });
}

/// Runs a walk from a frame pointer, in code without call frame information.
fn from_frame_pointer(kernel: &mut TestKernel, fp: u64) -> vmcore_debug::unwind::Backtrace {
    let at = kernel.address("pcbs");
    let rip = kernel.address("ret_worker");
    let pcb = Pcb {
        rbp: fp,
        rsp: fp - 16,
        rbx: 0,
        rip,
    };
    write_pcb(kernel, at, &pcb);
    with_target(kernel, |target| target.backtrace(&thread(target, 100_000)))
}

#[test]
fn damaged_stacks_end_and_say_why() {
    let mut kernel = TestKernel::compile("kernel.c", &[]);
    let stack = kernel.address("stacks");
    let ret = kernel.address("ret_fork_exit");
    // A frame pointer that points at itself, and two that point at each other.
    kernel.write_words(stack + 0x100, &[stack + 0x100, ret]);
    let backtrace = from_frame_pointer(&mut kernel, stack + 0x100);
    assert_eq!(
        backtrace.end,
        End::BadFramePointer {
            fp: VirtAddr(stack + 0x100)
        }
    );
    kernel.write_words(stack + 0x200, &[stack + 0x100, ret]);
    kernel.write_words(stack + 0x100, &[stack + 0x200, ret]);
    let backtrace = from_frame_pointer(&mut kernel, stack + 0x100);
    assert_eq!(backtrace.frames.len(), 2);
    assert_eq!(
        backtrace.end,
        End::BadFramePointer {
            fp: VirtAddr(stack + 0x100)
        }
    );
    // Into nothing, not aligned, into user memory, zero.
    let hole = 0xffff_ffff_c000_0000;
    assert!(matches!(
        from_frame_pointer(&mut kernel, hole).end,
        End::Unreadable { at, .. } if at == VirtAddr(hole)
    ));
    assert_eq!(
        from_frame_pointer(&mut kernel, stack + 0x101).end,
        End::BadFramePointer {
            fp: VirtAddr(stack + 0x101)
        }
    );
    assert_eq!(
        from_frame_pointer(&mut kernel, 0x7fff_ffff_0000).end,
        End::UserMode
    );
    assert_eq!(
        from_frame_pointer(&mut kernel, stack + 0x800).end,
        End::Zeros {
            at: VirtAddr(stack + 0x800)
        }
    );
}

#[test]
fn a_stack_of_frames_without_end_is_cut() {
    let mut kernel = TestKernel::compile("kernel.c", &[]);
    let stack = kernel.address("stacks");
    let ret = kernel.address("ret_fork_exit");
    for frame in 0..1500 {
        let fp = stack + 16 * frame;
        kernel.write_words(fp, &[fp + 16, ret]);
    }
    let backtrace = from_frame_pointer(&mut kernel, stack);
    assert_eq!(
        (backtrace.frames.len(), backtrace.end),
        (1000, End::TooLong)
    );
}

#[test]
fn inlined_functions_have_their_own_lines() {
    for flags in [&["-gdwarf-4", "-O2"][..], &["-gdwarf-5", "-O1"]] {
        let kernel = TestKernel::compile("kernel.c", flags);
        with_target(&kernel, |target| {
            let start = kernel.address("callee");
            let found = (start..start + 40)
                .map(|address| target.places(VirtAddr(address)))
                .find(|places| places.len() == 2)
                .expect("an inlined function");
            assert_eq!(found[0].function, "deepest");
            assert!(found[0].inlined);
            assert_eq!(found[1].function, "callee");
            assert!(!found[1].inlined);
            assert!(found[0].line.unwrap() < found[1].line.unwrap());
            assert!(found[0].file.as_ref().unwrap().ends_with("kernel.c"));
        });
    }
}
