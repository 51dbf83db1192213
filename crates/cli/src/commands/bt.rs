//! `vmcore bt`: the stacks of threads.

use crate::advice::{Result, Run};
use crate::context::{Context, KernelUse};
use crate::debug_files::ModulePlaces;
use crate::help;
use crate::outcome::{Failure, Status};
use crate::output::{Out, Style};
use crate::text::{self, counted};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::ffi::OsString;
use std::io::{self, Write as _};
use vmcore::OpenOptions;
use vmcore::process::{PcbSource, Process, ProcessList, Thread};
use vmcore_debug::Target;
use vmcore_debug::arch::Machine;
use vmcore_debug::details::{Details, ThreadDetails};
use vmcore_debug::groups::{self, Group, Member};
use vmcore_debug::report::text::{Columns, UNKNOWN_PCB};
use vmcore_debug::show::Options;
use vmcore_debug::stack::{NamedFrame, Stack};
use vmcore_debug::unwind::{End, TrapFrame};
use vmcore_debug::variables::ShownVariable;

/// Backtraces: functions, source files and lines
#[derive(Debug, Args)]
#[command(
    override_usage = "vmcore bt [FILE] [TID] [OPTIONS]",
    after_help = help::with_files("\
Needs the kernel file. Without TID: the thread that crashed. The last column is how a frame was
found: pcb (saved registers), cpu (registers that the dump's writer kept), cfi (call frame
information), fp (frame pointer), chain (the stack pointer's chain of powerpc), trap (trap frame).")
)]
pub(crate) struct Bt {
    /// The dump, and its kernel file; then a thread id
    #[arg(hide = true)]
    words: Vec<OsString>,
    /// Every thread
    #[arg(long, conflicts_with_all = ["cpus", "unique"])]
    all: bool,
    /// Threads that were running on a CPU
    #[arg(long, conflicts_with = "unique")]
    cpus: bool,
    /// Each distinct stack once, with its threads
    #[arg(long)]
    unique: bool,
    /// Also the local variables of each frame
    #[arg(long, conflicts_with = "unique")]
    locals: bool,
    /// The arguments of functions: values, or none
    #[arg(
        long,
        value_name = "WHICH",
        default_value = "values",
        hide_default_value = true
    )]
    args: Arguments,
    /// Also the registers of each thread
    #[arg(long)]
    regs: bool,
    /// All that is known of each frame: stack and frame pointers, registers, trap frames
    #[arg(long, conflicts_with = "unique")]
    full: bool,
    #[command(flatten)]
    places: ModulePlaces,
}

/// What is shown of the arguments of functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Arguments {
    /// Their values.
    Values,
    /// Nothing.
    None,
}

/// The answer in JSON.
#[derive(Serialize)]
struct Answer<'a> {
    threads: Vec<Walked<'a>>,
    /// With `--unique`.
    groups: Option<Vec<Group>>,
    problems: &'a [String],
}

/// A thread and its stack.
#[derive(Serialize)]
struct Walked<'a> {
    pid: i32,
    tid: i32,
    name: String,
    cpu: Option<u32>,
    crashed: bool,
    pcb: Option<PcbSource>,
    wait: Option<String>,
    registers: Option<&'a vmcore::registers::Registers>,
    #[serde(flatten)]
    stack: Stack,
    /// By frame, and in it by function.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    variables: Vec<Vec<Vec<ShownVariable>>>,
}

impl Run for Bt {
    fn run(&self, context: &Context) -> Result<Status> {
        let words = context.choose(&self.words, 0..=1, "TID")?;
        let tid = words.first().map(parse_tid).transpose()?;
        let session = context.open(KernelUse::Symbols, &OpenOptions::default())?;
        let files = self.places.open(&session)?;
        let target = Target::new(&session, &files)?;
        let list = target.processes()?;
        let details = Details::of(&target);
        let chosen = choose(context, self, &list, tid)?;
        let threads: Vec<Walked<'_>> = chosen
            .into_iter()
            .map(|(process, thread)| {
                let walked = walked(&target, process, thread, self.regs || self.full);
                Walked {
                    wait: waits_for(details.thread(thread)),
                    variables: self.variables(&target, &walked.stack),
                    ..walked
                }
            })
            .collect();
        let incomplete = !list.problems.is_empty()
            || threads.iter().any(|thread| {
                matches!(thread.stack.end, Some(End::Unreadable { .. }))
                    || thread.stack.frames.is_empty()
            });
        let status = Status::complete_if(!incomplete);
        let groups = self
            .unique
            .then(|| groups::group(threads.iter().map(member)));
        if context.common().json {
            let answer = Answer {
                threads,
                groups,
                problems: &list.problems,
            };
            context.json(Some(session.dump()), answer)?;
            context.note_debug(&files);
            return Ok(status);
        }
        let mut out = context.out();
        if let Some(groups) = &groups {
            print_unique(&mut out, &threads, groups, target.machine())?;
        } else {
            for (position, thread) in threads.iter().enumerate() {
                if position > 0 {
                    writeln!(out)?;
                }
                print_thread(&mut out, &target, thread, self)?;
            }
        }
        out.finish()?;
        context.note_debug(&files);
        Ok(status)
    }
}

impl Bt {
    /// The variables of all frames that are to be shown.
    fn variables(&self, target: &Target<'_>, stack: &Stack) -> Vec<Vec<Vec<ShownVariable>>> {
        if self.unique || self.args == Arguments::None && !self.locals {
            return Vec::new();
        }
        let wanted = |variable: &ShownVariable| match variable.is_parameter {
            true => self.args == Arguments::Values,
            false => self.locals,
        };
        let frames = 0..stack.frames.len();
        let frames = frames.map(|number| {
            let mut lists = target.shown_variables(&stack.frames, number, &Options::BRIEF);
            for list in &mut lists {
                list.retain(wanted);
            }
            lists
        });
        let all: Vec<Vec<Vec<ShownVariable>>> = frames.collect();
        let is_empty = all.iter().flatten().all(Vec::is_empty);
        if is_empty { Vec::new() } else { all }
    }
}

/// The thread with this id; without one, the thread that crashed.
pub(super) fn thread_of<'a>(
    context: &Context,
    list: &'a ProcessList,
    tid: Option<i32>,
) -> Result<&'a Thread> {
    let mut threads = list.threads();
    let found = threads.find(|thread| match tid {
        Some(tid) => thread.tid == tid,
        None => thread.crashed,
    });
    Ok(found.ok_or_else(|| {
        let sentence = match tid {
            Some(tid) => format!("there is no thread {tid}"),
            None => "no thread crashed".to_owned(),
        };
        Failure::new(sentence).next(context.suggest("ps"))
    })?)
}

pub(super) fn parse_tid(word: &OsString) -> Result<i32> {
    let parsed = word.to_str().and_then(|word| word.parse().ok());
    Ok(parsed.ok_or_else(|| {
        let word = text::escape(word.as_encoded_bytes());
        Failure::usage(format!("{word} is not a thread id"))
    })?)
}

/// The threads that were asked for.
fn choose<'a>(
    context: &Context,
    args: &Bt,
    list: &'a ProcessList,
    tid: Option<i32>,
) -> Result<Vec<(&'a Process, &'a Thread)>> {
    let all = list
        .processes
        .iter()
        .flat_map(|process| process.threads.iter().map(move |thread| (process, thread)));
    let wanted = |thread: &Thread| match tid {
        Some(tid) => thread.tid == tid,
        None if args.all || args.unique => true,
        None if args.cpus => thread.cpu.is_some(),
        None => thread.crashed,
    };
    let mut chosen: Vec<_> = all.filter(|(_, thread)| wanted(thread)).collect();
    chosen.sort_by_key(|(process, thread)| {
        (
            !thread.crashed,
            thread.cpu.is_none(),
            thread.cpu,
            process.pid,
            thread.tid,
        )
    });
    if chosen.is_empty() {
        let failure = match tid {
            Some(tid) => {
                Failure::new(format!("there is no thread {tid}")).next(context.suggest("ps"))
            }
            None if list.processes.is_empty() => {
                Failure::new(format!("no thread is known: {}", list.why_none_crashed()))
                    .next(context.suggest("verify"))
            }
            None if args.cpus => {
                Failure::new("no thread was on a CPU").next(context.suggest_again("--all"))
            }
            None => Failure::new("no thread ran the dump code: name one, or use --all")
                .next(context.suggest_again("--all")),
        };
        return Err(failure.into());
    }
    Ok(chosen)
}

fn walked<'a>(
    target: &Target<'_>,
    process: &Process,
    thread: &'a Thread,
    regs: bool,
) -> Walked<'a> {
    Walked {
        pid: process.pid,
        tid: thread.tid,
        name: String::from_utf8_lossy(&process.thread_name(thread)).into_owned(),
        cpu: thread.cpu,
        crashed: thread.crashed,
        pcb: thread.pcb,
        wait: None,
        registers: thread.registers.as_ref().filter(|_| regs),
        stack: target.stack(thread),
        variables: Vec::new(),
    }
}

fn print_thread(
    out: &mut Out,
    target: &Target<'_>,
    thread: &Walked<'_>,
    args: &Bt,
) -> io::Result<()> {
    let regs = args.regs || args.full;
    let cpu = thread
        .cpu
        .map_or_else(String::new, |cpu| format!(", CPU {cpu}"));
    let crashed = if thread.crashed { ", crashed" } else { "" };
    let wait = thread.wait.as_ref().map_or_else(String::new, |wait| {
        format!(", waits: {}", text::escape(wait.as_bytes()))
    });
    let heading = format!(
        "thread {}, process {} ({}){cpu}{wait}{crashed}",
        thread.tid,
        thread.pid,
        text::escape(thread.name.as_bytes())
    );
    let style = if thread.crashed {
        Style::Bad
    } else {
        Style::Strong
    };
    writeln!(out, "{}", out.paint(style, &heading))?;
    if thread.stack.stale {
        let words = "stale: its CPU did not stop; this is from when it was last switched out";
        writeln!(out, "  {}", out.paint(Style::Warning, words))?;
    }
    if let (Some(registers), true) = (thread.registers, regs) {
        for (name, value) in registers.iter() {
            writeln!(out, "  {name:<5} {value:#018x}")?;
        }
    }
    let machine = target.machine();
    print_frames(out, &thread.stack, &thread.variables, machine, args.full)?;
    let trap = thread
        .stack
        .frames
        .iter()
        .find_map(|frame| frame.frame.trap.as_ref());
    if let (Some(trap), true, false) = (trap, regs, args.full) {
        print_trap(out, trap, machine, "  ")?;
    }
    Ok(())
}

fn print_trap(out: &mut Out, trap: &TrapFrame, machine: &Machine, margin: &str) -> io::Result<()> {
    writeln!(out, "{margin}trap frame at {}", trap.address)?;
    for (name, value) in trap.named(machine) {
        writeln!(out, "{margin}{name:<5} {value:#018x}")?;
    }
    Ok(())
}

/// All that is known of a frame, for `--full`.
fn print_full(out: &mut Out, frame: &NamedFrame, machine: &Machine) -> io::Result<()> {
    let margin = "        ";
    let pointers = [("sp", frame.frame.sp), ("fp", frame.frame.fp)];
    let pointers = pointers
        .iter()
        .filter_map(|(name, value)| Some(format!("{name} {}", (*value)?)));
    let words: Vec<String> = pointers.collect();
    if !words.is_empty() {
        writeln!(out, "{margin}{}", words.join("  "))?;
    }
    let special = [machine.pc, machine.sp, machine.fp].map(|number| machine.names.get(number));
    let registers: Vec<String> = frame
        .frame
        .registers
        .named(machine)
        .filter(|(name, _)| !special.contains(&Some(name)))
        .map(|(name, value)| format!("{name} {value:#x}"))
        .collect();
    for line in registers.chunks(4) {
        writeln!(out, "{margin}{}", line.join("  "))?;
    }
    match &frame.frame.trap {
        Some(trap) => print_trap(out, trap, machine, margin),
        None => Ok(()),
    }
}

/// Columns of a line of arguments.
const ARGUMENTS_WIDTH: usize = 92;

/// The arguments of a function, in as many lines as they need, and its local variables, a line each.
fn print_variables(out: &mut Out, variables: &[ShownVariable]) -> io::Result<()> {
    let mut line = String::new();
    for variable in variables.iter().filter(|one| one.is_parameter) {
        let words = text::escape(variable.in_line().as_bytes());
        if !line.is_empty() {
            line += ", ";
            if line.chars().count() + words.chars().count() > ARGUMENTS_WIDTH {
                writeln!(out, "        {}", line.trim_end())?;
                line.clear();
            }
        }
        line += &words;
    }
    if !line.is_empty() {
        writeln!(out, "        {line}")?;
    }
    for variable in variables.iter().filter(|one| !one.is_parameter) {
        let value = text::escape(variable.value.in_line().as_bytes());
        let name = text::escape(variable.name.as_bytes());
        writeln!(out, "          {name} = {value}")?;
    }
    Ok(())
}

fn print_frames(
    out: &mut Out,
    stack: &Stack,
    variables: &[Vec<Vec<ShownVariable>>],
    machine: &Machine,
    full: bool,
) -> io::Result<()> {
    let columns = Columns::of(&stack.frames, None, true);
    for (number, frame) in stack.frames.iter().enumerate() {
        let functions = variables.get(number).map_or(&[][..], Vec::as_slice);
        for (position, line) in columns.lines(number, frame).enumerate() {
            writeln!(out, "  {}", text::escape(line.as_bytes()))?;
            print_variables(out, functions.get(position).map_or(&[], Vec::as_slice))?;
        }
        let trap = frame.frame.trap.as_ref();
        if let Some(fault) = trap.and_then(|trap| trap.fault_in_words(machine)) {
            writeln!(out, "      {}", out.paint(Style::Warning, &fault))?;
        }
        if full {
            print_full(out, frame, machine)?;
        }
    }
    let end = match &stack.end {
        None | Some(End::ThreadStart | End::FramePointerZero) => return Ok(()),
        Some(End::UserMode) => "user mode".to_owned(),
        Some(End::UnknownPcb) => UNKNOWN_PCB.to_owned(),
        Some(End::NoRegisters) if stack.frames.is_empty() => {
            "its registers are not in the dump".to_owned()
        }
        Some(End::NoRegisters) => "nothing is known of the caller".to_owned(),
        Some(End::Unreadable { reason, .. }) => reason.clone(),
        Some(End::Zeros { at }) => format!("zeros at {at}: an empty page, or the end"),
        Some(End::BadFramePointer { fp }) => format!("{fp} is not a frame pointer here"),
        Some(End::Loop) => "the stack loops".to_owned(),
        Some(End::TooLong) => "too many frames".to_owned(),
    };
    let end = format!("-- {}", text::escape(end.as_bytes()));
    writeln!(out, "  {}", out.paint(Style::Faint, &end))
}

/// What a thread waits for: a lock has a star, as ps writes it.
fn waits_for(details: ThreadDetails) -> Option<String> {
    let lock = details.lock_name.map(|lock| format!("*{lock}"));
    lock.or(details.wait_message)
}

fn member(thread: &Walked<'_>) -> Member {
    let frames = thread.stack.frames.iter();
    Member {
        tid: thread.tid,
        pcs: frames.map(|frame| frame.frame.pc.0).collect(),
        wait: thread.wait.clone(),
    }
}

/// Every stack once, the most frequent first.
fn print_unique(
    out: &mut Out,
    threads: &[Walked<'_>],
    groups: &[Group],
    machine: &Machine,
) -> io::Result<()> {
    for group in groups {
        let tids: Vec<String> = group.tids.iter().take(8).map(i32::to_string).collect();
        let more = if group.tids.len() > 8 { " …" } else { "" };
        let heading = format!(
            "{}: {}{more}",
            counted(group.tids.len() as u64, "thread", "threads"),
            tids.join(" ")
        );
        writeln!(out, "{}", out.paint(Style::Strong, &heading))?;
        if !group.waits.is_empty() {
            let wait = |wait: &groups::Wait| match wait.threads {
                1 => text::escape(wait.message.as_bytes()),
                count => format!("{} ({count})", text::escape(wait.message.as_bytes())),
            };
            let waits: Vec<String> = group.waits.iter().take(8).map(wait).collect();
            let more = if group.waits.len() > 8 { " …" } else { "" };
            writeln!(out, "  waits: {}{more}", waits.join(", "))?;
        }
        let first = threads
            .iter()
            .find(|thread| group.tids.first() == Some(&thread.tid));
        if let Some(first) = first {
            print_frames(out, &first.stack, &[], machine, false)?;
        }
        writeln!(out)?;
    }
    let total = format!(
        "{} in {}",
        counted(groups.len() as u64, "different stack", "different stacks"),
        counted(threads.len() as u64, "thread", "threads")
    );
    writeln!(out, "{}", out.paint(Style::Faint, &total))
}
