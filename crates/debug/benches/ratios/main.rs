//! Where the time of a report goes: stage by stage, on a machine of 8 GiB with a kernel that has
//! hardly any debug information, and with one that has 40 MiB of it.
//!
//! `./x bench [--json] [--only report]`. Each stage is measured on a target of its own, so that what is
//! read when it is first asked for counts; the page cache is hot. Needs gcc, which makes the kernels.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a program that measures, for its authors"
)]

mod kernel;

use std::hint::black_box;
use std::time::Instant;
use vmcore::session::KernelChoice;
use vmcore::{OpenOptions, Session, info};
use vmcore_debug::details::Details;
use vmcore_debug::show::Options;
use vmcore_debug::{DebugFiles, Target, locks, reason, report, usage};
use vmcore_testkit::TestKernel;

/// Debug information of the kernels: nothing but their own, and that of a real kernel.
const KERNELS: [(&str, usize); 2] = [("small", 0), ("40 MiB", 40 << 20)];
/// Threads beside those of the small kernel.
const THREADS: u64 = 1000;
/// Runs of a stage; the median counts.
const RUNS: usize = 5;
/// What a stage may take, in seconds.
const LIMITS: [(&str, f64); 2] = [(ALL, 0.15), (ALL_STACKS, 1.0)];

/// Seconds of a stage.
struct Row {
    kernel: &'static str,
    stage: &'static str,
    seconds: f64,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let json = args.iter().any(|arg| arg == "--json");
    let only = args.iter().skip_while(|arg| *arg != "--only").nth(1);
    if only.is_some_and(|only| only != "report") {
        return;
    }
    let mut rows = Vec::new();
    for (name, bytes) in KERNELS {
        let kernel = kernel::crashed(bytes, THREADS);
        let debug = kernel::debug_bytes(&kernel);
        if !json {
            println!(
                "report of 8 GiB, {} threads, kernel with {} KiB of debug information",
                THREADS + 3,
                debug >> 10
            );
        }
        measure(name, &kernel, &mut |row| {
            if !json {
                print(&row);
            }
            rows.push(row);
        });
    }
    if json {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                serde_json::json!({
                    "kernel": row.kernel, "stage": row.stage, "seconds": row.seconds,
                })
            })
            .collect();
        println!("{}", serde_json::json!({ "report": rows }));
    }
}

fn print(row: &Row) {
    let limit = LIMITS.iter().find(|(stage, _)| *stage == row.stage);
    let judgement = limit.map_or_else(String::new, |(_, limit)| match row.seconds > *limit {
        true => format!("  TOO SLOW: more than {limit} s"),
        false => format!("  (limit {limit} s)"),
    });
    let milliseconds = row.seconds * 1000.0;
    println!("  {:<34} {milliseconds:>9.2} ms{judgement}", row.stage);
}

/// The stage that has all others in it, and that of `bt --all`.
const ALL: &str = "all of it, from open to text";
const ALL_STACKS: &str = "all stacks with lines and arguments";

fn measure(name: &'static str, kernel: &TestKernel, add: &mut dyn FnMut(Row)) {
    let core = kernel.dir.path().join("vmcore.0");
    let open = || {
        let choice = KernelChoice::Given(&kernel.file);
        Session::open(&core, choice, &OpenOptions::default()).expect("a dump")
    };
    let session = &open();
    let mut row = |stage, run: &mut dyn FnMut() -> f64| {
        let mut times: Vec<f64> = (0..RUNS).map(|_| run()).collect();
        times.sort_by(f64::total_cmp);
        add(Row {
            kernel: name,
            stage,
            seconds: times[RUNS / 2],
        });
    };
    row("open dump and kernel", &mut || timed(open));
    row("match the kernel file", &mut || {
        let session = open();
        timed(|| session.matching_kernel().is_ok())
    });
    row("what info knows", &mut || {
        timed(|| info::info(session).is_ok())
    });
    row("open debug information", &mut || {
        timed(|| DebugFiles::of(session).expect("files"))
    });
    let files = DebugFiles::of(session).expect("files");
    let target = || Target::new(session, &files).expect("a target");
    row("look at it", &mut || timed(target));
    let list = target().processes().expect("processes");
    let threads = || list.threads();
    row("processes and threads", &mut || {
        let target = target();
        timed(|| target.processes().is_ok())
    });
    row("types of threads, states", &mut || {
        let target = target();
        timed(|| {
            let details = Details::of(&target);
            threads().for_each(|thread| drop(black_box(details.thread(thread))));
        })
    });
    row("stacks of all threads", &mut || {
        let target = target();
        timed(|| threads().for_each(|thread| drop(black_box(target.backtrace(thread)))))
    });
    row("one stack with lines", &mut || {
        let target = target();
        let crashed = threads().find(|thread| thread.crashed).expect("a crash");
        timed(|| target.stack(crashed))
    });
    row(ALL_STACKS, &mut || {
        let target = target();
        timed(|| {
            for thread in threads() {
                let frames = target.stack(thread).frames;
                for number in 0..frames.len() {
                    black_box(target.shown_variables(&frames, number, &Options::BRIEF));
                }
            }
        })
    });
    row("the reason", &mut || {
        let target = target();
        let crashed = threads().find(|thread| thread.crashed).expect("a crash");
        timed(|| reason::of(&target, &list, crashed))
    });
    row("locks", &mut || {
        let target = target();
        timed(|| locks::find(&target, &list))
    });
    row("memory by zone and type", &mut || {
        let target = target();
        timed(|| usage::of(&target))
    });
    row("the report itself", &mut || {
        let target = target();
        timed(|| report::of(&target, &list).is_ok())
    });
    row(ALL, &mut || {
        timed(|| {
            let session = open();
            let files = DebugFiles::of(&session).expect("files");
            let target = Target::new(&session, &files).expect("a target");
            let list = target.processes().expect("processes");
            report::of(&target, &list).expect("a report").to_string()
        })
    });
}

/// Seconds that something takes; what it makes is dropped outside of them.
fn timed<R>(run: impl FnOnce() -> R) -> f64 {
    let start = Instant::now();
    let made = black_box(run());
    let seconds = start.elapsed().as_secs_f64();
    drop(made);
    seconds
}
