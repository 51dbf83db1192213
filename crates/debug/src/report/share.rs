//! A report to be given away: a value of its own, made of what is known to say nothing of the machine
//! or its users.
//!
//! Nothing is taken out of a report here; a share is built from one, field by field. A new field of a
//! report does not compile until it has its line below, and is in no JSON before its path is in
//! [`LISTED`]. Text goes through [`Words`], names of functions and files have rules of their own.
//! docs/json.md has the table of what a share holds.

use super::crash::{About, Crash};
use super::fault::Fault;
use super::signature::{CodePlace, Signature};
use super::words::{GONE, Words, is_harmless_value};
use super::{CpuReport, GroupReport, ModuleReport, Report, ThreadReport, Threads};
use crate::groups::{Group, Wait as GroupWait};
use crate::lines::SourcePlace;
use crate::locks::{Chain, Holder, Lock, Locks, Wait};
use crate::stack::{NamedFrame, Stack};
use crate::target::Target;
use crate::unwind::{Code as _, End, Frame, TrapFrame};
use crate::usage::{MallocType, Usage, Zone};
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::Value;
use std::fmt::{self, Formatter};
use vmcore::info::{Info, KernelInfo, Known};
use vmcore::session::KernelMatch;
use vmcore_format::addr::VirtAddr;

/// Bytes of a file from its first section to its last; a larger distance is an address.
const REACH: u64 = 1 << 28;

/// The fields that a share has in JSON: paths of names, with the elements of a list under the list's.
pub(super) const LISTED: &[&str] = &[
    "info.file",
    "info.kind",
    "info.arch",
    "info.version",
    "info.state.state",
    "info.state.trailing_bytes",
    "info.state.missing_bytes",
    "info.state.missing_pages",
    "info.state.section",
    "info.panic.value",
    "info.kernel_version.value",
    "info.crashed.value",
    "info.uptime.value",
    "info.build_ids.ids",
    "info.build_ids.evidence",
    "info.kernel.file",
    "info.kernel.comparison.match",
    "info.kernel.comparison.dump",
    "info.kernel.comparison.file",
    "info.kernel.comparison.equal",
    "info.kernel.comparison.compared",
    "info.kernel.comparison.fact",
    "info.size_bytes",
    "info.predicted_bytes",
    "info.pages.page_size_bytes",
    "info.pages.in_dump",
    "info.pages.ram",
    "info.pages.kernel_map",
    "info.pages.page_tables",
    "info.pages.direct_map_only",
    "info.pages.zeros",
    "info.pages.mapped_but_absent",
    "info.log.used_bytes",
    "info.log.capacity_bytes",
    "info.log.wrapped",
    "info.log.source",
    "info.paging",
    "cpu_count",
    "crash.kind",
    "crash.summary",
    "crash.message",
    "crash.template",
    "crash.place",
    "crash.noticed_by",
    "crash.fault.what",
    "crash.fault.at",
    "crash.fault.code",
    "crash.fault.registers",
    "crash.fault.trap.user",
    "crash.fault.trap.number",
    "crash.fault.trap.error",
    "crash.fault.trap.exception",
    "crash.fault.trap.fault_address",
    "signature.text",
    "signature.v2",
    "signature.kind",
    "signature.template",
    "signature.module",
    "signature.functions",
    "signature.build_id",
    "signature.addresses.module",
    "signature.addresses.offset",
    "thread.pid",
    "thread.tid",
    "thread.name",
    "thread.cpu",
    "thread.wait",
    "thread.hidden_frames",
    "thread.frames.how",
    "thread.frames.exact",
    "thread.frames.name",
    "thread.frames.doubt",
    "thread.frames.trap.user",
    "thread.frames.trap.number",
    "thread.frames.trap.error",
    "thread.frames.trap.exception",
    "thread.frames.trap.fault_address",
    "thread.frames.places.function",
    "thread.frames.places.file",
    "thread.frames.places.line",
    "thread.frames.places.inlined",
    "thread.end",
    "thread.reason",
    "thread.stale",
    "cpus.cpu",
    "cpus.tid",
    "cpus.name",
    "cpus.state",
    "cpus.function",
    "cpus.lock.address",
    "cpus.lock.name",
    "cpus.lock.class",
    "cpus.lock.held",
    "cpus.lock.tid",
    "cpus.lock.count",
    "cpus.lock.owner_does",
    "log",
    "threads.threads",
    "threads.processes",
    "threads.stacks",
    "threads.groups.tids",
    "threads.groups.waits.message",
    "threads.groups.waits.threads",
    "threads.groups.name",
    "threads.groups.functions",
    "locks.locks.address",
    "locks.locks.name",
    "locks.locks.class",
    "locks.locks.held",
    "locks.locks.tid",
    "locks.locks.count",
    "locks.locks.owner_does",
    "locks.waits.tid",
    "locks.waits.lock",
    "locks.waits.sleeping",
    "locks.waits.spinning",
    "locks.waits.wants",
    "locks.chains.tids",
    "locks.chains.is_cycle",
    "locks.cycles",
    "locks.problems",
    "memory.zones.name",
    "memory.zones.item_bytes",
    "memory.zones.in_use",
    "memory.zones.requests",
    "memory.zones.bytes",
    "memory.malloc.name",
    "memory.malloc.in_use",
    "memory.malloc.requests",
    "memory.malloc.bytes",
    "memory.problems",
    "modules.name",
    "modules.file",
    "modules.proven",
    "missing",
    "left_out",
    "next",
];

/// A report to be given away.
///
/// A report never holds arguments or the environment of processes; this has no name of the machine
/// either, no identifier of it or of its boot, no directory, and no address of memory or a network.
#[derive(Clone, Debug)]
pub struct Share(Report);

impl Share {
    /// What of `report` may be given away.
    #[must_use]
    pub fn new(target: &Target<'_>, report: &Report) -> Self {
        let is_function = |name: &str| {
            let kernel = target.session().symbol(name).ok();
            let kernel = kernel.map(|symbol| symbol.address);
            let address = kernel.or_else(|| {
                let mut modules = target.files().modules().iter();
                modules.find_map(|module| Some(module.symbol_named(name)?.0))
            });
            address.is_some_and(|at| target.text().iter().any(|text| text.contains(&at.0)))
        };
        let host = report.info.host.as_ref().map(|host| host.value.as_str());
        let builder = Builder {
            words: Words::new(host, &is_function),
            locks: &report.locks.locks,
        };
        Self(builder.report(report))
    }

    /// The same as a report, to be shown; what was left out is empty or `…`.
    #[must_use]
    pub const fn report(&self) -> &Report {
        &self.0
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value = serde_json::to_value(&self.0).map_err(S::Error::custom)?;
        listed(value, "").serialize(serializer)
    }
}

/// What of a value is in [`LISTED`].
fn listed(value: Value, path: &str) -> Value {
    let below = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    let is_listed = |path: &str| {
        let mut all = LISTED.iter();
        all.any(|listed| {
            listed
                .strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    };
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(name, _)| is_listed(&below(name)))
            .map(|(name, value): (String, Value)| {
                let path = below(&name);
                (name, listed(value, &path))
            })
            .collect(),
        Value::Array(items) => {
            let items = items.into_iter();
            items.map(|item| listed(item, path)).collect()
        }
        other => other,
    }
}

/// Builds a share. Its fields have to be written down: nothing is taken over as a whole that may grow.
struct Builder<'a> {
    words: Words<'a>,
    /// The locks, which have numbers in place of addresses.
    locks: &'a [Lock],
}

impl Builder<'_> {
    fn report(&self, report: &Report) -> Report {
        Report {
            info: self.info(&report.info),
            cpu_count: report.cpu_count,
            crash: self.crash(&report.crash),
            signature: self.signature(&report.signature),
            // Values and names of variables are private.
            reason: None,
            thread: report.thread.as_ref().map(|thread| self.thread(thread)),
            cpus: report.cpus.iter().map(|cpu| self.cpu(cpu)).collect(),
            log: self.lines(&report.log),
            threads: self.threads(&report.threads),
            locks: self.all_locks(&report.locks),
            memory: self.memory(&report.memory),
            modules: report.modules.iter().map(|one| self.module(one)).collect(),
            source_root: None,
            missing: self.lines(&report.missing),
            left_out: [
                "host name",
                "machine and boot ids",
                "directories",
                "addresses of memory and networks",
                "words that kernels do not print",
            ]
            .map(str::to_owned)
            .to_vec(),
            next: report.next.clone(),
        }
    }

    fn line(&self, text: &str) -> String {
        self.words.line(text)
    }

    fn lines(&self, lines: &[String]) -> Vec<String> {
        lines.iter().map(|line| self.line(line)).collect()
    }

    fn maybe(&self, text: &Option<String>) -> Option<String> {
        text.as_deref().map(|text| self.line(text))
    }

    fn known(&self, known: &Option<Known>) -> Option<Known> {
        known.as_ref().map(|known| Known {
            value: self.line(&known.value),
            sources: Vec::new(),
        })
    }

    fn info(&self, info: &Info) -> Info {
        let comparison = |comparison: &KernelMatch| match comparison {
            KernelMatch::OtherVersion { dump, file, .. } => KernelMatch::OtherVersion {
                dump: self.line(dump),
                file: self.line(file),
                source: GONE.to_owned(),
            },
            KernelMatch::OtherContents { fact } => KernelMatch::OtherContents {
                fact: self.line(fact),
            },
            KernelMatch::BuildId
            | KernelMatch::Version
            | KernelMatch::Contents { .. }
            | KernelMatch::Unproven
            | KernelMatch::OtherBuildId { .. }
            | KernelMatch::OtherArch { .. } => comparison.clone(),
        };
        let crashed = info.crashed.as_ref().map(|crashed| Known {
            value: match is_date(&crashed.value) {
                true => crashed.value.clone(),
                false => self.line(&crashed.value),
            },
            sources: Vec::new(),
        });
        Info {
            file: dump_name(&info.file),
            kind: info.kind,
            arch: info.arch,
            version: info.version,
            state: info.state,
            panic: self.known(&info.panic),
            kernel_version: self.known(&info.kernel_version),
            host: None,
            crashed,
            uptime: self.known(&info.uptime),
            identity: None,
            build_ids: info.build_ids.clone(),
            kernel: info.kernel.as_ref().map(|kernel| KernelInfo {
                file: self.line(file_name(&kernel.file)),
                comparison: kernel.comparison.as_ref().map(comparison),
            }),
            layers: Vec::new(),
            size_bytes: info.size_bytes,
            predicted_bytes: info.predicted_bytes,
            pages: info.pages,
            ram: Vec::new(),
            log: info.log,
            paging: self.line(&info.paging),
            kernbase: None,
            direct_map: None,
            system: None,
            extension: None,
            warnings: Vec::new(),
            info_file: None,
        }
    }

    fn crash(&self, crash: &Crash) -> Crash {
        let place = crash
            .place
            .as_ref()
            .map(|place| match place.split_once(", ") {
                Some((function, file)) => {
                    format!("{}, {}", self.function(function), self.source(file))
                }
                None => self.function(place),
            });
        Crash {
            kind: crash.kind,
            summary: self.line(&crash.summary),
            message: self.maybe(&crash.message),
            template: self.maybe(&crash.template),
            place,
            fault: crash.fault.as_ref().map(|fault| self.fault(fault)),
            noticed_by: crash.noticed_by,
            is_wild_jump: crash.is_wild_jump,
            about: About::default(),
        }
    }

    fn fault(&self, fault: &Fault) -> Fault {
        let at = self.function(&fault.at);
        let value = |value: &str| {
            let number = u64::from_str_radix(value.trim_start_matches("0x"), 16);
            match number {
                Ok(number) if is_harmless_value(number) => value.to_owned(),
                _ => format!("{GONE:<width$}", width = value.len()),
            }
        };
        Fault {
            what: self.line(&fault.what),
            // Where there is no function, there may be data.
            code: match at.contains(GONE) {
                true => String::new(),
                false => fault.code.clone(),
            },
            at,
            registers: fault
                .registers
                .iter()
                .map(|(name, register)| (name.clone(), value(register)))
                .collect(),
            trap: self.trap(&fault.trap),
        }
    }

    fn signature(&self, signature: &Signature) -> Signature {
        let functions = signature.functions.iter();
        let addresses = signature.addresses.iter();
        Signature {
            text: signature.text.clone(),
            v2: signature.v2.clone(),
            kind: signature.kind,
            template: self.maybe(&signature.template),
            module: self.maybe(&signature.module),
            functions: functions.map(|name| self.function(name)).collect(),
            build_id: signature.build_id.clone(),
            addresses: addresses
                .filter(|place| place.offset < REACH)
                .map(|place| CodePlace {
                    module: self.line(&place.module),
                    offset: place.offset,
                })
                .collect(),
        }
    }

    fn thread(&self, thread: &ThreadReport) -> ThreadReport {
        let end = thread.stack.end.as_ref().map(|end| match end {
            End::Unreadable { reason, .. } => self.unreadable(reason),
            End::Zeros { at } => self.unreadable(&format!("zeros at {at}")),
            End::BadFramePointer { fp } => self.unreadable(&format!("{fp} is not a frame pointer")),
            end => end.clone(),
        });
        ThreadReport {
            pid: thread.pid,
            tid: thread.tid,
            name: self.line(&thread.name),
            cpu: thread.cpu,
            wait: self.maybe(&thread.wait),
            hidden_frames: thread.hidden_frames,
            arguments: Vec::new(),
            stack: Stack {
                frames: thread
                    .stack
                    .frames
                    .iter()
                    .map(|frame| self.frame(frame))
                    .collect(),
                end,
                stale: thread.stack.stale,
            },
        }
    }

    fn unreadable(&self, reason: &str) -> End {
        End::Unreadable {
            at: VirtAddr(0),
            reason: self.line(reason),
        }
    }

    fn frame(&self, frame: &NamedFrame) -> NamedFrame {
        let NamedFrame { frame, places } = frame;
        let name = frame.name.as_deref().unwrap_or(GONE);
        let place = |place: &SourcePlace| SourcePlace {
            function: self.function(&place.function),
            file: place.file.as_deref().map(|file| self.source(file)),
            line: place.line,
            inlined: place.inlined,
        };
        NamedFrame {
            frame: Frame {
                pc: VirtAddr(0),
                sp: None,
                fp: None,
                how: frame.how,
                exact: frame.exact,
                name: Some(self.function(name)),
                doubt: frame.doubt,
                trap: frame.trap.as_ref().map(|trap| self.trap(trap)),
                registers: Default::default(),
            },
            places: places.iter().map(place).collect(),
        }
    }

    fn trap(&self, trap: &TrapFrame) -> TrapFrame {
        TrapFrame {
            address: VirtAddr(0),
            pc: VirtAddr(0),
            user: trap.user,
            number: trap.number,
            error: trap.error,
            exception: self.maybe(&trap.exception),
            cause: trap.cause,
            fault_address: trap.fault_address.filter(|at| is_harmless_value(at.0)),
            other: Vec::new(),
            registers: Default::default(),
        }
    }

    fn cpu(&self, cpu: &CpuReport) -> CpuReport {
        CpuReport {
            cpu: cpu.cpu,
            tid: cpu.tid,
            name: self.line(&cpu.name),
            state: cpu.state,
            function: cpu.function.as_deref().map(|name| self.function(name)),
            lock: cpu.lock.as_ref().map(|lock| self.lock(lock)),
        }
    }

    fn threads(&self, threads: &Threads) -> Threads {
        let group = |group: &GroupReport| GroupReport {
            group: Group {
                tids: group.group.tids.clone(),
                waits: group
                    .group
                    .waits
                    .iter()
                    .map(|wait| GroupWait {
                        message: self.line(&wait.message),
                        threads: wait.threads,
                    })
                    .collect(),
            },
            name: self.line(&group.name),
            functions: group
                .functions
                .iter()
                .map(|name| self.function(name))
                .collect(),
        };
        Threads {
            threads: threads.threads,
            processes: threads.processes,
            stacks: threads.stacks,
            groups: threads.groups.iter().map(group).collect(),
        }
    }

    fn all_locks(&self, locks: &Locks) -> Locks {
        let wait = |wait: &Wait| Wait {
            tid: wait.tid,
            lock: self.number(wait.lock),
            sleeping: wait.sleeping,
            spinning: wait.spinning,
            wants: wait.wants,
        };
        let chain = |chain: &Chain| Chain {
            tids: chain.tids.clone(),
            is_cycle: chain.is_cycle,
        };
        Locks {
            locks: locks.locks.iter().map(|lock| self.lock(lock)).collect(),
            waits: locks.waits.iter().map(wait).collect(),
            chains: locks.chains.iter().map(chain).collect(),
            cycles: locks.cycles.clone(),
            problems: self.lines(&locks.problems),
        }
    }

    fn lock(&self, lock: &Lock) -> Lock {
        Lock {
            address: self.number(lock.address),
            name: self.line(&lock.name),
            class: self.line(&lock.class),
            holder: match &lock.holder {
                Holder::By { tid, .. } => Holder::By {
                    thread: VirtAddr(0),
                    tid: *tid,
                },
                holder => holder.clone(),
            },
            owner_does: self.maybe(&lock.owner_does),
        }
    }

    /// The number of a lock in place of its address: from 1, 0 for one that is not in the list.
    fn number(&self, lock: VirtAddr) -> VirtAddr {
        let at = self.locks.iter().position(|known| known.address == lock);
        VirtAddr(at.map_or(0, |at| at as u64 + 1))
    }

    fn memory(&self, memory: &Usage) -> Usage {
        let zone = |zone: &Zone| Zone {
            name: self.line(&zone.name),
            item_bytes: zone.item_bytes,
            in_use: zone.in_use,
            requests: zone.requests,
            bytes: zone.bytes,
        };
        let malloc = |kind: &MallocType| MallocType {
            name: self.line(&kind.name),
            in_use: kind.in_use,
            requests: kind.requests,
            bytes: kind.bytes,
        };
        Usage {
            zones: memory.zones.iter().map(zone).collect(),
            malloc: memory.malloc.iter().map(malloc).collect(),
            problems: self.lines(&memory.problems),
        }
    }

    fn module(&self, module: &ModuleReport) -> ModuleReport {
        ModuleReport {
            name: self.line(&module.name),
            file: module.file,
            proven: module.proven,
        }
    }

    /// A function with its offset, as the symbols or the debug information name it.
    fn function(&self, name: &str) -> String {
        let (base, offset) = match name.rsplit_once("+0x") {
            Some((base, offset)) => (base, Some(offset)),
            None => (name, None),
        };
        let is_sign = |c: char| c.is_ascii_alphanumeric() || "_.$:<>,&*()+ {}#'-~=[]".contains(c);
        let is_name = base.len() <= 200
            && base.starts_with(|c: char| c.is_ascii_alphabetic() || "_.<".contains(c))
            && base.chars().all(is_sign)
            && !self.words.names_the_machine(base);
        match offset {
            _ if !is_name => GONE.to_owned(),
            Some(offset) if offset.len() > 7 => format!("{base}+{GONE}"),
            _ => name.to_owned(),
        }
    }

    /// A source file, maybe with a line: below the kernel's sources, or without directories.
    fn source(&self, file: &str) -> String {
        let known = file.rsplit_once("/sys/").map(|(_, below)| below);
        let name = known.unwrap_or_else(|| file_name(file));
        let is_sign = |c: char| c.is_ascii_alphanumeric() || "_.-+/:".contains(c);
        let is_name = name.chars().all(is_sign)
            && !name.contains("..")
            && !self.words.names_the_machine(name);
        match is_name {
            true => name.to_owned(),
            false => GONE.to_owned(),
        }
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or_default()
}

/// `vmcore.0.zst`; the names of dumps that a server received have the machine in them.
fn dump_name(path: &str) -> String {
    let name = file_name(path);
    let is_part = |part: &str| {
        matches!(part, "gz" | "zst" | "last")
            || part.len() < 6 && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    let is_plain = name.strip_prefix("vmcore").is_some_and(|rest| {
        let mut parts = rest.split('.');
        parts.next() == Some("") && parts.clone().count() <= 2 && parts.all(is_part)
    });
    match is_plain {
        true => name.to_owned(),
        false => GONE.to_owned(),
    }
}

/// `2026-03-02 04:11:09 UTC`
fn is_date(text: &str) -> bool {
    let text = text.strip_suffix(" UTC").unwrap_or(text);
    let shape = text.bytes().map(|byte| match byte {
        b'0'..=b'9' => b'0',
        byte => byte,
    });
    shape.eq(*b"0000-00-00 00:00:00")
}
