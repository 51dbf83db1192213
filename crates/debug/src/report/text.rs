//! The report as text: what is the fact stands left, what is behind it below.

use super::fault::Fault;
use super::recursion;
use super::{Report, ThreadReport, paths};
use crate::arch::machine::Machine;
use crate::locks::{Holder, Lock};
use crate::stack::NamedFrame;
use crate::unwind::{Doubt, End, How};
use crate::usage::Usage;
use crate::variables::ShownVariable;
use std::fmt::{self, Formatter, Write as _};
use vmcore::session::KernelMatch;
use vmcore::text::{counted, escape};

/// The widest column of names, and of sources, in a stack.
const NAME_WIDTH: usize = 34;
const SOURCE_WIDTH: usize = 44;
/// Columns of a line with many things.
const WIDTH: usize = 76;
/// Frames of a stack that is shown for a group.
const GROUP_FRAMES: usize = 6;
/// Zones, and types of memory, in the text; JSON has more.
const LARGEST: usize = 5;
/// Groups in the text; JSON has more.
const GROUPS: usize = 5;

/// Where lines are written. Each is made harmless as a whole: nothing that came from the dump can end
/// it and forge another one.
struct Lines<'a, 'b>(&'a mut Formatter<'b>);

impl Lines<'_, '_> {
    /// What `writeln!` calls, once for each line.
    fn write_fmt(&mut self, line: fmt::Arguments<'_>) -> fmt::Result {
        let line = line.to_string();
        let line = line.strip_suffix('\n').unwrap_or(&line);
        self.0.write_str(&escape(line.as_bytes()))?;
        self.0.write_char('\n')
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let f = &mut Lines(f);
        self.head(f)?;
        if let Some(fault) = &self.crash.fault {
            writeln!(f)?;
            write_fault(f, Machine::of(self.info.arch), fault)?;
        }
        if let Some(thread) = &self.thread {
            writeln!(f)?;
            write_stack(f, thread, self.source_root.as_deref())?;
        }
        if !self.cpus.is_empty() {
            writeln!(f)?;
            let cpus = self.cpus.iter().map(|cpu| {
                let function = cpu.function.as_deref().unwrap_or_default();
                let doing = match (cpu.state, &cpu.lock) {
                    ("idle", _) => "idle".to_owned(),
                    ("unknown", _) => "no registers".to_owned(),
                    ("user", _) => "in user mode".to_owned(),
                    (state, None) => format!("{state} in {function}"),
                    (state, Some(lock)) => format!("{state} on {}", words_of_lock(lock)),
                };
                format!("{}: thread {} ({}), {doing}", cpu.cpu, cpu.tid, cpu.name)
            });
            write_list(f, "CPUS", cpus)?;
        }
        if !self.log.is_empty() {
            writeln!(f)?;
            writeln!(f, "LOG     around the trap (vmcore log for all)")?;
            for line in &self.log {
                writeln!(f, "  {}", line.trim_end())?;
            }
        }
        self.tail(f)
    }
}

impl Report {
    fn head(&self, f: &mut Lines<'_, '_>) -> fmt::Result {
        let info = &self.info;
        writeln!(f, "PANIC   {}", self.crash.summary)?;
        if let Some(place) = &self.crash.place {
            writeln!(f, "        in {}", self.short_place(place))?;
        }
        if let Some(reason) = &self.reason {
            writeln!(f, "WHY     {}", self.short_reason(&reason.headline))?;
            for line in &reason.evidence {
                writeln!(f, "        {}", self.short_reason(line))?;
            }
        }
        if let Some(thread) = &self.thread {
            let cpu = thread
                .cpu
                .map_or_else(String::new, |cpu| format!(", CPU {cpu}"));
            let (tid, pid, name) = (thread.tid, thread.pid, &thread.name);
            let noticed = self
                .crash
                .noticed_by
                .map_or_else(String::new, |tid| format!("; thread {tid} panicked"));
            writeln!(f, "thread  {tid}, process {pid} ({name}){cpu}{noticed}")?;
        }
        let version = info.kernel_version.as_ref();
        let version = version.map_or("FreeBSD, version unknown", |version| &version.value);
        let cpus = self
            .cpu_count
            .and_then(|count| u64::try_from(count).ok())
            .map_or_else(String::new, |count| {
                format!(", {}", counted(count, "CPU", "CPUs"))
            });
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
        writeln!(f, "sig     {}  {}", self.signature.text, self.signature.v2)?;
        let version = info
            .version
            .map_or_else(String::new, |version| format!(" v{version}"));
        let bytes = counted(info.size_bytes, "byte", "bytes");
        writeln!(f, "dump    {}: {}{version}, {bytes}", info.file, info.kind)?;
        if let Some(kernel) = &info.kernel {
            let comparison = kernel.comparison.as_ref().map_or("", words_of_match);
            writeln!(f, "kernel  {}{comparison}", kernel.file)?;
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
            let mut left_out = self.left_out.clone();
            if let Some(first) = left_out.first_mut() {
                first.insert_str(0, "left out: ");
            }
            write_joined(f, "shared", left_out.into_iter())?;
        }
        Ok(())
    }

    fn tail(&self, f: &mut Lines<'_, '_>) -> fmt::Result {
        let threads = &self.threads;
        writeln!(f)?;
        writeln!(
            f,
            "THREADS {} in {}, {}",
            threads.threads,
            counted(threads.processes as u64, "process", "processes"),
            counted(threads.stacks as u64, "different stack", "different stacks")
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
            writeln!(f)?;
            writeln!(f, "LOCKS   threads that wait for a lock: {count}")?;
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
                let (class, name) = (&lock.class, &lock.name);
                let holder = words_of_holder(&lock.holder);
                let does = lock.owner_does.as_ref();
                let does = does.map_or_else(String::new, |does| format!(", which {does}"));
                writeln!(f, "  {} -> {class} \"{name}\" -> {holder}{does}", wait.tid)?;
            }
        }
        write_memory(f, &self.memory)?;
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

impl Report {
    /// The place of the crash, its file without the directory that all files have in common.
    #[must_use]
    pub fn short_place(&self, place: &str) -> String {
        match (place.split_once(", "), &self.source_root) {
            (Some((function, file)), Some(root)) => {
                format!("{function}, {}", paths::below(file, Some(root)))
            }
            _ => place.to_owned(),
        }
    }

    /// A sentence of the reason, without the directory of all source files.
    #[must_use]
    pub fn short_reason(&self, words: &str) -> String {
        match &self.source_root {
            Some(root) => words.replace(root.as_str(), ""),
            None => words.to_owned(),
        }
    }

    /// A source file, without that directory, and the line.
    #[must_use]
    pub fn short_source(&self, place: &crate::lines::SourcePlace) -> String {
        source(place, self.source_root.as_deref())
    }
}

/// Whether the kernel file is the one that crashed, in words after its name.
#[must_use]
pub const fn words_of_match(comparison: &KernelMatch) -> &'static str {
    match comparison {
        KernelMatch::BuildId => " (build id matches)",
        KernelMatch::Version => " (version string matches; the dump has no build id)",
        KernelMatch::Contents { .. } => " (its constants and functions are in the dump)",
        KernelMatch::Unproven => " (cannot verify that it matches this dump)",
        KernelMatch::OtherBuildId { .. }
        | KernelMatch::OtherVersion { .. }
        | KernelMatch::OtherContents { .. }
        | KernelMatch::OtherArch { .. } => " (ANOTHER KERNEL'S: answers may be nonsense)",
    }
}

/// Who holds a lock.
#[must_use]
pub fn words_of_holder(holder: &Holder) -> String {
    match holder {
        Holder::By { tid: Some(tid), .. } => tid.to_string(),
        Holder::By { thread, .. } => format!("thread at {thread}"),
        Holder::Shared { count } => counted(*count, "reader", "readers"),
        Holder::Free => "no thread".to_owned(),
        Holder::Disowned => "the kernel's input and output".to_owned(),
        Holder::Unknown => "an unknown thread".to_owned(),
    }
}

/// A lock and who holds it.
#[must_use]
pub fn words_of_lock(lock: &Lock) -> String {
    let holder = words_of_holder(&lock.holder);
    format!("{} \"{}\" held by {holder}", lock.class, lock.name)
}

fn arrows(tids: &[i32]) -> String {
    let mut words: Vec<String> = tids.iter().map(i32::to_string).collect();
    words.extend(words.first().cloned());
    words.join(" -> ")
}

/// One thing a line, the label in front of the first.
fn write_list(
    f: &mut Lines<'_, '_>,
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
    f: &mut Lines<'_, '_>,
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

fn write_fault(f: &mut Lines<'_, '_>, machine: &Machine, fault: &Fault) -> fmt::Result {
    let trap = &fault.trap;
    writeln!(f, "FAULT   {}", trap.in_words(machine))?;
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

/// The zones and types that have the most.
fn write_memory(f: &mut Lines<'_, '_>, memory: &Usage) -> fmt::Result {
    if memory.is_empty() {
        return Ok(());
    }
    writeln!(f)?;
    writeln!(
        f,
        "MEMORY  {:<24} {:>12} {:>12}",
        "largest", "bytes", "in use"
    )?;
    let zones = memory.zones.iter().filter(|zone| zone.bytes > 0);
    let zones = zones.take(LARGEST);
    for zone in zones {
        let (name, item) = (&zone.name, zone.item_bytes);
        let words = format!("{name} of {item}");
        writeln!(
            f,
            "  zone   {words:<23} {:>12} {:>12}",
            zone.bytes, zone.in_use
        )?;
    }
    let types = memory.malloc.iter().filter(|kind| kind.bytes > 0);
    let types = types.take(LARGEST);
    for kind in types {
        let name = &kind.name;
        writeln!(
            f,
            "  malloc {name:<23} {:>12} {:>12}",
            kind.bytes, kind.in_use
        )?;
    }
    Ok(())
}

fn write_stack(f: &mut Lines<'_, '_>, thread: &ThreadReport, root: Option<&str>) -> fmt::Result {
    let hidden = match thread.hidden_frames {
        0 => "all of it".to_owned(),
        count => format!(
            "{} above it hidden (vmcore bt)",
            counted(count as u64, "frame", "frames")
        ),
    };
    let below = root.map_or_else(String::new, |root| format!("; sources below {root}"));
    writeln!(f, "STACK   {hidden}{below}")?;
    if thread.stack.stale {
        writeln!(f, "  stale: its CPU did not stop")?;
    }
    let frames = thread.stack.frames.get(thread.hidden_frames..);
    let frames = frames.unwrap_or_default();
    let columns = Columns::of(frames, root, false);
    for part in recursion::fold(frames) {
        let numbered = frames.iter().enumerate();
        for (number, frame) in numbered.skip(part.start).take(part.shown) {
            let functions = thread.arguments.get(number).map_or(&[][..], Vec::as_slice);
            for (position, line) in columns.lines(number, frame).enumerate() {
                writeln!(f, "  {line}")?;
                let list = functions.get(position).map_or(&[][..], Vec::as_slice);
                let words: Vec<String> = list.iter().map(ShownVariable::in_line).collect();
                if !words.is_empty() {
                    writeln!(f, "        {}", words.join(", "))?;
                }
            }
        }
        if let Some(words) = part.in_words(0) {
            writeln!(f, "  ... {words}")?;
        }
    }
    if let Some(end) = end_of(&thread.stack.end) {
        writeln!(f, "  -- {end}")?;
    }
    Ok(())
}

fn source(place: &crate::lines::SourcePlace, root: Option<&str>) -> String {
    let file = place.file.as_deref().map(|file| paths::below(file, root));
    match (file, place.line) {
        (Some(file), Some(line)) => format!("{file}:{line}"),
        (Some(file), None) => file.to_owned(),
        _ => String::new(),
    }
}

/// The columns of a stack: addresses if wanted, names, sources, and how each frame was found.
///
/// A column is as wide as its longest word, up to a limit: one long name does not move all others.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    root: Option<&'a str>,
    address: usize,
    name: usize,
    source: usize,
}

impl<'a> Columns<'a> {
    /// For these frames; sources are shown below `root`.
    #[must_use]
    pub fn of(frames: &[NamedFrame], root: Option<&'a str>, addresses: bool) -> Self {
        let mut columns = Self {
            root,
            address: 0,
            name: 0,
            source: 0,
        };
        for frame in frames {
            if addresses {
                // A user's addresses are shorter than the kernel's.
                columns.address = columns.address.max(frame.frame.pc.to_string().len() + 1);
            }
            for (_, name, source, _) in columns.rows(frame) {
                columns.name = columns.name.max(name.chars().count().min(NAME_WIDTH));
                columns.source = columns.source.max(source.chars().count().min(SOURCE_WIDTH));
            }
        }
        columns
    }

    /// The lines of a frame, those of inlined functions first.
    pub fn lines(&self, number: usize, frame: &NamedFrame) -> impl Iterator<Item = String> {
        let Self {
            address: at,
            name: names,
            source: sources,
            ..
        } = *self;
        let gap = usize::from(sources > 0);
        self.rows(frame)
            .into_iter()
            .map(move |(address, name, source, how)| {
                format!(
                    "#{number:<2} {address:<at$}{name:<names$} {source:<sources$}{:gap$}{how}",
                    ""
                )
            })
    }

    fn rows(&self, frame: &NamedFrame) -> Vec<(String, String, String, String)> {
        let source = |place| source(place, self.root);
        let inlined = frame.places.iter().filter(|place| place.inlined);
        let mut rows: Vec<_> = inlined
            .map(|place| {
                let name = place.function.clone();
                (String::new(), name, source(place), "inlined".to_owned())
            })
            .collect();
        let address = frame.frame.pc.to_string();
        let outermost = frame.places.iter().find(|place| !place.inlined);
        let doubt = match frame.frame.doubt {
            Some(Doubt::NotCode) => ", not code",
            Some(Doubt::OtherStack) => ", on another stack",
            None => "",
        };
        let how = format!("{}{doubt}", how_of(frame.frame.how));
        let outermost = outermost.map(source).unwrap_or_default();
        rows.push(match (&frame.frame.name, self.address) {
            (Some(name), 0) => (String::new(), name.clone(), outermost, how),
            (None, 0) => (String::new(), address, outermost, how),
            (name, _) => {
                let name = name.as_deref().unwrap_or("?").to_owned();
                (address, name, outermost, how)
            }
        });
        rows
    }
}

/// How a frame was found, in a word.
#[must_use]
pub const fn how_of(how: How) -> &'static str {
    match how {
        How::Pcb => "pcb",
        How::Interrupted => "cpu",
        How::Cfi => "cfi",
        How::FramePointer => "fp",
        How::BackChain => "chain",
        How::TrapFrame => "trap",
        How::Prologue => "prologue",
        How::StackTop => "stack",
    }
}

/// What people are told of [`End::UnknownPcb`].
pub const UNKNOWN_PCB: &str =
    "no registers: it is not known where kernels of this architecture save them";

/// Why a stack ends, where that is worth a word.
#[must_use]
pub fn end_of(end: &Option<End>) -> Option<String> {
    Some(match end {
        None | Some(End::ThreadStart | End::FramePointerZero) => return None,
        Some(End::UserMode) => "user mode: the kernel's stack ends here".to_owned(),
        Some(End::NoRegisters) => "no registers".to_owned(),
        Some(End::UnknownPcb) => UNKNOWN_PCB.to_owned(),
        Some(End::Unreadable { reason, .. }) => reason.clone(),
        Some(End::Zeros { at }) => format!("zeros at {at}"),
        Some(End::BadFramePointer { fp }) => format!("{fp} is not a frame pointer here"),
        Some(End::Loop) => "the stack loops".to_owned(),
        Some(End::TooLong) => "too many frames".to_owned(),
    })
}
