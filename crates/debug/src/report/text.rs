//! The report as text: what is the fact stands left, what is behind it below.

use super::crash::Fault;
use super::{Report, ThreadReport};
use crate::locks::Holder;
use crate::stack::NamedFrame;
use crate::unwind::{Doubt, End, How};
use std::fmt::{self, Formatter};

/// Columns of a line with many things.
const WIDTH: usize = 76;
/// Frames of a stack that is shown for a group.
const GROUP_FRAMES: usize = 6;
/// Groups in the text; JSON has more.
const GROUPS: usize = 5;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.head(f)?;
        if let Some(fault) = &self.crash.fault {
            writeln!(f)?;
            write_fault(f, fault)?;
        }
        if let Some(thread) = &self.thread {
            writeln!(f)?;
            write_stack(f, thread)?;
        }
        if !self.cpus.is_empty() {
            writeln!(f)?;
            let cpus = self.cpus.iter().map(|cpu| {
                let function = cpu.function.as_deref().unwrap_or_default();
                let doing = match cpu.state {
                    "idle" => "idle".to_owned(),
                    "unknown" => "no registers".to_owned(),
                    state => format!("{state} in {function}"),
                };
                format!("{}: thread {} ({}), {doing}", cpu.cpu, cpu.tid, cpu.name)
            });
            write_list(f, "CPUS", cpus)?;
        }
        if !self.log.is_empty() {
            writeln!(f, "\nLOG     around the trap (vmcore log for all)")?;
            for line in &self.log {
                writeln!(f, "  {line}")?;
            }
        }
        self.tail(f)
    }
}

impl Report {
    fn head(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let info = &self.info;
        writeln!(f, "PANIC   {}", self.crash.summary)?;
        if let Some(place) = &self.crash.place {
            writeln!(f, "        in {place}")?;
        }
        if let Some(thread) = &self.thread {
            let cpu = thread
                .cpu
                .map_or_else(String::new, |cpu| format!(", CPU {cpu}"));
            let (tid, pid, name) = (thread.tid, thread.pid, &thread.name);
            writeln!(f, "thread  {tid}, process {pid} ({name}){cpu}")?;
        }
        let version = info.kernel_version.as_ref();
        let version = version.map_or("FreeBSD, version unknown", |version| &version.value);
        let cpus = self
            .cpu_count
            .map_or_else(String::new, |count| format!(", {count} CPUs"));
        writeln!(f, "system  {version}, {}{cpus}", info.arch)?;
        if let Some(host) = &info.host {
            writeln!(f, "host    {}", host.value)?;
        }
        let when = info.crashed.as_ref().map_or("unknown", |when| &when.value);
        let up = info
            .uptime
            .as_ref()
            .map_or_else(String::new, |up| format!(", up {}", up.value));
        writeln!(f, "when    {when}{up}")?;
        writeln!(f, "sig     {}", self.signature.text)?;
        let version = info
            .version
            .map_or_else(String::new, |version| format!(" v{version}"));
        let bytes = info.size_bytes;
        writeln!(
            f,
            "dump    {}: {}{version}, {bytes} bytes",
            info.file, info.kind
        )?;
        if let Some(kernel) = &info.kernel {
            writeln!(f, "kernel  {}", kernel.file)?;
        }
        if !self.modules.is_empty() {
            let modules = self.modules.iter().map(|module| {
                let unproven = if module.file.starts_with("found") && !module.proven {
                    ", unproven"
                } else {
                    ""
                };
                format!("{} ({}{unproven})", module.name, module.file)
            });
            write_joined(f, "modules", modules)?;
        }
        if !self.left_out.is_empty() {
            writeln!(f, "shared  left out: {}", self.left_out.join("; "))?;
        }
        Ok(())
    }

    fn tail(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let threads = &self.threads;
        writeln!(
            f,
            "\nTHREADS {} in {} processes, {} different stacks",
            threads.threads, threads.processes, threads.stacks
        )?;
        for group in threads.groups.iter().take(GROUPS) {
            let waits = group.group.waits.iter().take(4);
            let waits: Vec<String> = waits
                .map(|wait| format!("{} ({})", wait.message, wait.threads))
                .collect();
            let waits = if waits.is_empty() {
                String::new()
            } else {
                format!(", waiting for {}", waits.join(", "))
            };
            let count = group.group.tids.len();
            let first = group.group.tids.first().copied().unwrap_or_default();
            writeln!(f, "  {count} like {first} ({}){waits}", group.name)?;
            let functions = group.functions.iter().take(GROUP_FRAMES);
            let functions: Vec<&str> = functions.map(String::as_str).collect();
            if !functions.is_empty() {
                writeln!(f, "    {}", functions.join(" < "))?;
            }
        }
        if !self.locks.waits.is_empty() {
            let count = self.locks.waits.len();
            writeln!(f, "\nLOCKS   threads that wait for a lock: {count}")?;
            for cycle in &self.locks.cycles {
                writeln!(f, "  DEADLOCK {}", arrows(cycle))?;
            }
            for wait in &self.locks.waits {
                let lock = self
                    .locks
                    .locks
                    .iter()
                    .find(|lock| lock.address == wait.lock);
                let Some(lock) = lock else { continue };
                let holder = match &lock.holder {
                    Holder::By { tid: Some(tid), .. } => tid.to_string(),
                    Holder::By { thread, .. } => format!("thread at {thread}"),
                    Holder::Shared { count } => format!("{count} readers"),
                    Holder::Free => "nobody".to_owned(),
                    Holder::Unknown => "somebody".to_owned(),
                };
                writeln!(
                    f,
                    "  {} -> {} \"{}\" -> {holder}",
                    wait.tid, lock.class, lock.name
                )?;
            }
        }
        writeln!(f)?;
        write_list(f, "MISSING", self.missing.iter().cloned())?;
        let next: Vec<String> = self
            .next
            .iter()
            .map(|next| format!("vmcore {next}"))
            .collect();
        writeln!(f, "NEXT    {}", next.join("    "))
    }
}

fn arrows(tids: &[i32]) -> String {
    let mut words: Vec<String> = tids.iter().map(i32::to_string).collect();
    words.extend(words.first().cloned());
    words.join(" -> ")
}

/// One thing a line, the label in front of the first.
fn write_list(
    f: &mut Formatter<'_>,
    label: &str,
    lines: impl Iterator<Item = String>,
) -> fmt::Result {
    for (number, line) in lines.enumerate() {
        let label = if number == 0 { label } else { "" };
        writeln!(f, "{label:<8}{line}")?;
    }
    Ok(())
}

/// Things beside each other, in as many lines as they need.
fn write_joined(
    f: &mut Formatter<'_>,
    label: &str,
    words: impl Iterator<Item = String>,
) -> fmt::Result {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() + 2 < WIDTH => {
                *line += ", ";
                *line += &word;
            }
            _ => lines.push(word),
        }
    }
    write_list(f, label, lines.into_iter())
}

fn write_fault(f: &mut Formatter<'_>, fault: &Fault) -> fmt::Result {
    let trap = &fault.trap;
    let number = trap
        .number
        .map_or_else(String::new, |number| format!("{number}"));
    let error = trap
        .error
        .map_or_else(String::new, |error| format!(", error {error:#x}"));
    writeln!(f, "FAULT   trap {number}{error}")?;
    writeln!(f, "  {}   {}", fault.at, fault.code)?;
    let fault_address = trap.fault_address.map(|address| address.0);
    for row in fault.registers.chunks(3) {
        let row: Vec<String> = row
            .iter()
            .map(|(name, value)| format!("{name:<6} {value}"))
            .collect();
        writeln!(f, "  {}", row.join("  "))?;
    }
    if let Some(address) = fault_address {
        writeln!(f, "  fault address {address:#x}")?;
    }
    Ok(())
}

fn write_stack(f: &mut Formatter<'_>, thread: &ThreadReport) -> fmt::Result {
    let hidden = match thread.hidden_frames {
        0 => "all of it".to_owned(),
        count => format!("{count} frames of the panic hidden (vmcore bt)"),
    };
    writeln!(f, "STACK   {hidden}")?;
    if thread.stack.stale {
        writeln!(f, "  stale: its CPU did not stop")?;
    }
    let frames = thread.stack.frames.get(thread.hidden_frames..);
    for (number, frame) in frames.unwrap_or_default().iter().enumerate() {
        for place in frame.places.iter().filter(|place| place.inlined) {
            let name = &place.function;
            writeln!(f, "  #{number:<2} {name:<34} {} inlined", source(place))?;
        }
        writeln!(f, "  #{number:<2} {}", line_of(frame))?;
    }
    if let Some(end) = end_of(&thread.stack.end) {
        writeln!(f, "  -- {end}")?;
    }
    Ok(())
}

fn source(place: &crate::lines::Place) -> String {
    match (&place.file, place.line) {
        (Some(file), Some(line)) => format!("{file}:{line}"),
        (Some(file), None) => file.clone(),
        _ => String::new(),
    }
}

/// A frame in one line.
fn line_of(frame: &NamedFrame) -> String {
    let name = frame.frame.name.clone();
    let name = name.unwrap_or_else(|| frame.frame.pc.to_string());
    let outermost = frame.places.iter().find(|place| !place.inlined);
    let source = outermost.map(source).unwrap_or_default();
    let how = match frame.frame.how {
        How::Pcb => "pcb",
        How::Cfi => "cfi",
        How::FramePointer => "fp",
        How::TrapFrame => "trap",
        How::Prologue => "prologue",
        How::StackTop => "stack",
    };
    let doubt = match frame.frame.doubt {
        Some(Doubt::NotCode) => ", not code",
        Some(Doubt::OtherStack) => ", on another stack",
        None => "",
    };
    format!("{name:<34} {source} {how}{doubt}")
}

/// Why a stack ends, where that is worth a word.
fn end_of(end: &Option<End>) -> Option<String> {
    Some(match end {
        None | Some(End::ThreadStart | End::FramePointerZero) => return None,
        Some(End::UserMode) => "user mode: a minidump has no user stacks".to_owned(),
        Some(End::NoRegisters) => "no registers".to_owned(),
        Some(End::Unreadable { reason, .. }) => reason.clone(),
        Some(End::Zeros { at }) => format!("zeros at {at}"),
        Some(End::BadFramePointer { fp }) => format!("{fp} is no frame pointer here"),
        Some(End::Loop) => "the stack runs in circles".to_owned(),
        Some(End::TooLong) => "too many frames".to_owned(),
    })
}
