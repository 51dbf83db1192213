//! The answers of the stub, packet by packet.

use super::packet::{MAX_LEN, hex, unhex};
use super::registers::{self, Register};
use super::{displacement, first_segment, lldb, monitor, packet, signatures};
use crate::arch::machine::Machine;
use crate::target::Target;
use crate::unwind::{Code as _, Registers};
use std::fmt::Write as _;
use vmcore::process::ProcessList;
use vmcore::text;
use vmcore_format::addr::VirtAddr;
use vmcore_format::endian::Endian;

/// The process that all threads belong to, in the words of the protocol.
const PID: u32 = 1;
/// The most bytes of memory in one answer.
const MAX_READ: usize = MAX_LEN / 2 - 16;
/// Pages that are looked at to find the end of a region.
const MAX_REGION_PAGES: u64 = 256;
/// What an error is called.
const ERROR: &[u8] = b"E01";
/// `SIGTRAP`: why a thread stopped.
const SIGNAL: &str = "05";

/// What the connection does after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It goes on.
    Go,
    /// It goes on without acknowledgements.
    NoAcknowledgements,
    /// It closes.
    Close,
}

/// A thread as the client sees it.
#[derive(Clone, Debug)]
struct ThreadView {
    tid: u32,
    cpu: Option<u32>,
    name: String,
    crashed: bool,
    registers: Registers,
}

/// A stopped machine, made of a dump.
#[derive(Debug)]
pub struct Stub<'a, 't> {
    target: &'a Target<'t>,
    list: &'a ProcessList,
    registers: Vec<Register>,
    /// The crashed one first.
    threads: Vec<ThreadView>,
    /// Chosen by the client.
    current: usize,
    description: String,
    libraries: String,
    multiprocess: bool,
    /// The client is an lldb: it takes no `x` for an unknown register, but an error.
    lldb: bool,
    reason: String,
}

impl<'a, 't> Stub<'a, 't> {
    /// A stub for a dump and its threads.
    #[must_use]
    pub fn new(target: &'a Target<'t>, list: &'a ProcessList) -> Self {
        let machine = target.machine();
        let mut threads = Vec::new();
        for process in &list.processes {
            for thread in &process.threads {
                let Ok(tid) = u32::try_from(thread.tid) else {
                    continue;
                };
                let start = target.start_of(thread);
                let known = start.map(|start| adjusted(target, machine, start.registers));
                let name = text::escape(&process.thread_name(thread));
                threads.push(ThreadView {
                    tid,
                    cpu: thread.cpu,
                    name: format!("{name} (pid {})", process.pid),
                    crashed: thread.crashed,
                    registers: known.unwrap_or_default(),
                });
            }
        }
        threads.sort_by_key(|thread| !thread.crashed);
        let registers = registers::of(target.machine());
        Self {
            description: registers::description(target.machine(), &registers),
            registers,
            libraries: libraries_xml(target),
            reason: target.panic_message().map_or_else(
                || "a crash dump".to_owned(),
                |message| text::escape(message.as_bytes()),
            ),
            target,
            list,
            threads,
            current: 0,
            multiprocess: false,
            lldb: false,
        }
    }

    /// lldb gives up on single registers if the first one is unknown, so the first is the program
    /// counter; it goes by names, not by numbers.
    fn meet_lldb(&mut self) {
        self.lldb = true;
        self.registers
            .sort_by_key(|register| register.generic != "pc");
        self.description = registers::description(self.target.machine(), &self.registers);
    }

    const fn endian(&self) -> Endian {
        self.target.space().endian()
    }

    fn id(&self, tid: u32) -> String {
        if self.multiprocess {
            format!("p{PID:x}.{tid:x}")
        } else {
            format!("{tid:x}")
        }
    }

    /// The position of the thread with an id; 0 and -1 mean any.
    fn thread(&self, id: &str) -> Option<usize> {
        let id = match id.strip_prefix('p') {
            Some(rest) => rest.split_once('.').map_or("-1", |(_, tid)| tid),
            None => id,
        };
        if matches!(id, "-1" | "0" | "") {
            return (!self.threads.is_empty()).then_some(0);
        }
        let tid = u32::from_str_radix(id, 16).ok()?;
        self.threads.iter().position(|thread| thread.tid == tid)
    }

    /// Why the machine stands still, for the thread that crashed.
    #[must_use]
    pub fn stop_reply(&self) -> Vec<u8> {
        match self.threads.first() {
            Some(thread) => self.stopped(thread, true).into_bytes(),
            None => format!("S{SIGNAL}").into_bytes(),
        }
    }

    fn stopped(&self, thread: &ThreadView, with_list: bool) -> String {
        let signal = if thread.crashed { SIGNAL } else { "00" };
        let signal = if with_list { SIGNAL } else { signal };
        let hexed = |text: &str| String::from_utf8_lossy(&hex(text.as_bytes())).into_owned();
        let mut reply = format!("T{signal}thread:{};", self.id(thread.tid));
        let _ = write!(reply, "hexname:{};", hexed(&thread.name));
        if thread.crashed {
            let description = hexed(&format!("kernel panic: {}", self.reason));
            let _ = write!(reply, "reason:exception;description:{description};");
        }
        if with_list {
            let ids: Vec<String> = self
                .threads
                .iter()
                .map(|thread| self.id(thread.tid))
                .collect();
            if ids.len() < 1000 {
                let _ = write!(reply, "threads:{};", ids.join(","));
            }
        }
        reply
    }

    /// Answers a packet: usually with one, always with the last one that the client waits for.
    pub fn answer(&mut self, packet: &[u8]) -> (Vec<Vec<u8>>, After) {
        let text = String::from_utf8_lossy(packet).into_owned();
        let after = match text.as_str() {
            "QStartNoAckMode" => After::NoAcknowledgements,
            "k" | "D" => After::Close,
            _ if text.starts_with("vKill") || text.starts_with("D;") => After::Close,
            _ => After::Go,
        };
        let replies = match text.as_bytes().first() {
            Some(b'c' | b's' | b'C' | b'S') => self.no_resume(),
            _ if text.starts_with("vCont;") => self.no_resume(),
            _ if text == "k" => Vec::new(),
            _ => match text.strip_prefix("qRcmd,") {
                Some(command) => self.monitor(command),
                None => vec![self.single(&text)],
            },
        };
        (replies, after)
    }

    fn no_resume(&self) -> Vec<Vec<u8>> {
        let said = [b"O", &hex(b"this is a crash dump: nothing runs\n")[..]].concat();
        vec![said, self.stop_reply()]
    }

    fn monitor(&self, command: &str) -> Vec<Vec<u8>> {
        let Some(command) = unhex(command.as_bytes()) else {
            return vec![ERROR.to_vec()];
        };
        let command = String::from_utf8_lossy(&command).into_owned();
        let text = monitor::answer(self.target, self.list, &command);
        let mut replies: Vec<Vec<u8>> = text
            .as_bytes()
            .chunks(MAX_READ)
            .map(|part| [b"O", &hex(part)[..]].concat())
            .collect();
        replies.push(b"OK".to_vec());
        replies
    }

    /// Packets with one answer. What is not known gets an empty one: clients then do without.
    fn single(&mut self, text: &str) -> Vec<u8> {
        match text {
            "?" => return self.stop_reply(),
            "QThreadSuffixSupported" => {
                self.meet_lldb();
                return b"OK".to_vec();
            }
            "qC" => {
                let first = self.threads.first().map_or(0, |thread| thread.tid);
                return format!("QC{}", self.id(first)).into_bytes();
            }
            "qfThreadInfo" => return self.thread_ids(),
            "qsThreadInfo" => return b"l".to_vec(),
            "qHostInfo" => return self.host().into_bytes(),
            "qProcessInfo" => return format!("pid:{PID:x};{}", self.machine()).into_bytes(),
            "g" => return self.all_registers(self.current),
            "QStartNoAckMode"
            | "QListThreadsInStopReply"
            | "QEnableErrorStrings"
            | "D"
            | "vMustReplyEmpty" => {
                let empty = text == "vMustReplyEmpty";
                return if empty { Vec::new() } else { b"OK".to_vec() };
            }
            _ => {}
        }
        if text == "qOffsets" {
            return self.offsets();
        }
        if text.starts_with("qAttached") {
            return b"1".to_vec();
        }
        if let Some(features) = text.strip_prefix("qSupported") {
            return self.supported(features);
        }
        if let Some(id) = text.strip_prefix("qThreadStopInfo") {
            let thread = self.thread(id).and_then(|at| self.threads.get(at));
            return thread.map_or(ERROR.to_vec(), |thread| {
                self.stopped(thread, false).into_bytes()
            });
        }
        if let Some(id) = text.strip_prefix("qThreadExtraInfo,") {
            let thread = self.thread(id).and_then(|at| self.threads.get(at));
            return thread.map_or(ERROR.to_vec(), |thread| hex(thread.name.as_bytes()));
        }
        if let Some(address) = text.strip_prefix("qMemoryRegionInfo:") {
            return self.region(address);
        }
        if let Some(transfer) = text.strip_prefix("qXfer:") {
            return self.transfer(transfer);
        }
        if text.starts_with("D;") || text.starts_with("vKill") {
            return b"OK".to_vec();
        }
        if text.starts_with("vRun") {
            return ERROR.to_vec();
        }
        let Some((kind, rest)) = text.split_at_checked(1) else {
            return Vec::new();
        };
        match kind {
            "H" => match rest.get(1..).and_then(|id| self.thread(id)) {
                Some(position) => {
                    if rest.starts_with('g') {
                        self.current = position;
                    }
                    b"OK".to_vec()
                }
                None => ERROR.to_vec(),
            },
            "T" => match self.thread(rest) {
                Some(_) => b"OK".to_vec(),
                None => ERROR.to_vec(),
            },
            "g" => {
                let thread = self.suffixed(rest).1;
                thread.map_or(ERROR.to_vec(), |thread| self.all_registers(thread))
            }
            "p" => self.one_register(rest),
            "m" => self.memory(rest),
            "P" | "G" | "M" | "X" => ERROR.to_vec(),
            _ => Vec::new(),
        }
    }

    /// `ARGUMENT;thread:ID;`: the argument, and the thread if there is such a one.
    fn suffixed<'p>(&self, text: &'p str) -> (&'p str, Option<usize>) {
        match text.split_once(";thread:") {
            Some((argument, id)) => (argument, self.thread(id.trim_end_matches(';'))),
            None => (text.trim_end_matches(';'), Some(self.current)),
        }
    }

    fn thread_ids(&self) -> Vec<u8> {
        let ids: Vec<String> = self
            .threads
            .iter()
            .map(|thread| self.id(thread.tid))
            .collect();
        // Clients with many threads ask for the document instead.
        let fitting = MAX_LEN / 16;
        let ids = ids.get(..fitting).unwrap_or(&ids);
        format!("m{}", ids.join(",")).into_bytes()
    }

    fn all_registers(&self, thread: usize) -> Vec<u8> {
        let unknown = Registers::default();
        let known = self.threads.get(thread).map(|thread| &thread.registers);
        let known = known.unwrap_or(&unknown);
        self.registers
            .iter()
            .flat_map(|register| register.value(known, self.endian()))
            .collect()
    }

    fn one_register(&self, rest: &str) -> Vec<u8> {
        let (number, thread) = self.suffixed(rest);
        let register = usize::from_str_radix(number, 16)
            .ok()
            .and_then(|number| self.registers.get(number));
        let thread = thread.and_then(|thread| self.threads.get(thread));
        match (register, thread) {
            (Some(register), Some(thread)) => {
                let value = register.value(&thread.registers, self.endian());
                if self.lldb && value.contains(&b'x') {
                    return ERROR.to_vec();
                }
                value
            }
            _ => ERROR.to_vec(),
        }
    }

    fn memory(&self, rest: &str) -> Vec<u8> {
        let Some((address, len)) = address_and_length(rest) else {
            return ERROR.to_vec();
        };
        let mut bytes = vec![0; len.min(MAX_READ)];
        let mut part = self.target.space().read(VirtAddr(address), &mut bytes).len;
        if self.lldb {
            part = lldb::with_headers(self.target, address, &mut bytes, part);
        }
        if part == 0 && !bytes.is_empty() {
            return ERROR.to_vec();
        }
        bytes.truncate(part);
        if !self.lldb && self.target.machine().gdb.address_bits.is_some() {
            signatures::take_off(self.target, address, &mut bytes);
        }
        hex(&bytes)
    }

    fn supported(&mut self, features: &str) -> Vec<u8> {
        let mut reply = format!(
            "PacketSize={MAX_LEN:x};QStartNoAckMode+;qXfer:features:read+;\
             qXfer:threads:read+;vContSupported+"
        );
        if !self.libraries.is_empty() {
            reply += ";qXfer:libraries:read+";
        }
        if features.contains("multiprocess+") {
            self.multiprocess = true;
            reply += ";multiprocess+";
        }
        reply.into_bytes()
    }

    /// Where the first segment of a kernel is that runs elsewhere than it is linked; nothing for all
    /// others.
    fn offsets(&self) -> Vec<u8> {
        let displacement = displacement(self.target);
        match first_segment(self.target).filter(|_| displacement != 0) {
            Some((first, _)) => format!("TextSeg={first:x}").into_bytes(),
            None => Vec::new(),
        }
    }

    fn machine(&self) -> String {
        let machine = self.target.machine();
        let endian = self.endian();
        let triple = hex(lldb::triple(self.target).as_bytes());
        let triple = String::from_utf8_lossy(&triple);
        let word = machine.word_bytes();
        let order = match endian {
            Endian::Little => "little",
            Endian::Big => "big",
        };
        format!("triple:{triple};ptrsize:{word};endian:{order};ostype:freebsd;")
    }

    fn host(&self) -> String {
        let page = self.target.space().memory().page_size().bytes();
        let addressing = addressing(self.target.machine());
        format!("{}vm-page-size:{page};{addressing}", self.machine())
    }

    /// The region around an address that is there, or that is not, in whole pages.
    fn region(&self, address: &str) -> Vec<u8> {
        let Ok(address) = u64::from_str_radix(address, 16) else {
            return ERROR.to_vec();
        };
        let space = self.target.space();
        let page = space.memory().page_size().bytes();
        let start = address & !(page - 1);
        let is_there = |at: u64| space.locate(VirtAddr(at)).is_ok();
        let here = is_there(start);
        let mut end = start.checked_add(page);
        let mut pages = 1;
        while let Some(at) = end
            && pages < MAX_REGION_PAGES
            && is_there(at) == here
        {
            pages += 1;
            end = at.checked_add(page);
        }
        let size = end.map_or(start.wrapping_neg(), |end| end - start);
        let permissions = if here { "permissions:rwx;" } else { "" };
        format!("start:{start:x};size:{size:x};{permissions}").into_bytes()
    }

    /// `OBJECT:read:ANNEX:OFFSET,LENGTH`.
    fn transfer(&self, request: &str) -> Vec<u8> {
        let mut parts = request.splitn(4, ':');
        let (object, verb) = (parts.next(), parts.next());
        let (annex, range) = (parts.next(), parts.next());
        let document = match (object, verb, annex) {
            (Some("features"), Some("read"), Some("target.xml")) => self.description.clone(),
            (Some("features"), Some("read"), Some(_)) => return b"E00".to_vec(),
            (Some("threads"), Some("read"), Some("")) => self.threads_xml(),
            (Some("libraries"), Some("read"), Some("")) if !self.libraries.is_empty() => {
                self.libraries.clone()
            }
            _ => return Vec::new(),
        };
        let Some((offset, len)) = range.and_then(address_and_length) else {
            return ERROR.to_vec();
        };
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(document.len());
        let rest = document.as_bytes().get(start..).unwrap_or_default();
        match rest.get(..len.min(MAX_READ)) {
            Some(part) if part.len() < rest.len() => [b"m", part].concat(),
            _ => [b"l", rest].concat(),
        }
    }

    fn threads_xml(&self) -> String {
        let mut xml = String::from("<?xml version=\"1.0\"?><threads>");
        for thread in &self.threads {
            let _ = write!(xml, "<thread id=\"{}\"", self.id(thread.tid));
            if let Some(cpu) = thread.cpu {
                let _ = write!(xml, " core=\"{cpu}\"");
            }
            let _ = write!(xml, " name=\"{}\"/>", escaped(&thread.name));
        }
        xml + "</threads>"
    }
}

/// Text in an attribute of XML; control characters are left out.
pub(crate) fn escaped(text: &str) -> String {
    let mut xml = String::new();
    for c in text.chars() {
        match c {
            '&' => xml += "&amp;",
            '<' => xml += "&lt;",
            '>' => xml += "&gt;",
            '"' => xml += "&quot;",
            c if c.is_control() => xml.push('?'),
            c => xml.push(c),
        }
    }
    xml
}

/// The modules whose files are known, with the addresses of their sections; empty without any.
fn libraries_xml(target: &Target<'_>) -> String {
    let mut xml = String::new();
    for module in target.files().modules() {
        let (Some(path), (by_section, addresses)) =
            (module.plain_file(), module.section_addresses())
        else {
            continue;
        };
        let _ = write!(
            xml,
            "<library name=\"{}\">",
            escaped(&path.to_string_lossy())
        );
        let element = if by_section { "section" } else { "segment" };
        for (_, address) in addresses {
            let _ = write!(xml, "<{element} address=\"{address:#x}\"/>");
        }
        xml += "</library>";
    }
    if xml.is_empty() {
        return xml;
    }
    format!("<library-list>{xml}</library-list>")
}

/// `ADDRESS,LENGTH`, both hexadecimal.
fn address_and_length(text: &str) -> Option<(u64, usize)> {
    let (address, len) = text.split_once(',')?;
    let address = u64::from_str_radix(address, 16).ok()?;
    Some((address, usize::from_str_radix(len, 16).ok()?))
}

/// What has lldb take signatures off return addresses: without it a stack ends at the first.
fn addressing(machine: &Machine) -> String {
    let bits = machine.gdb.address_bits;
    bits.map_or_else(String::new, |bits| format!("addressing_bits:{bits};"))
}

/// Registers as a debugger takes them: the saved stack pointer of machines that push return
/// addresses still points at one, which the debugger's own rules do not expect; and where a return
/// by the link register leads to the saved program counter, that is what it holds.
fn adjusted(target: &Target<'_>, machine: &Machine, mut registers: Registers) -> Registers {
    let pc = registers.get(machine.pc).unwrap_or(0);
    if let Some(lr) = machine.lr
        && !machine.saves_in_routine
        && registers.get(lr).is_none()
    {
        registers.set(lr, registers.get(machine.pc));
    }
    let lookup = VirtAddr(pc.wrapping_sub(1));
    let described = target
        .call_frames(lookup)
        .is_some_and(|frames| frames.describes(lookup));
    if described && machine.pushes_return_address() {
        let sp = registers.get(machine.sp);
        registers.set(
            machine.sp,
            sp.map(|sp| sp.wrapping_add(machine.word_bytes())),
        );
    }
    registers
}

impl Stub<'_, '_> {
    /// Answers bytes as they come from a connection, for tests and fuzzing: all that the stub
    /// sends back.
    pub fn converse(&mut self, input: &[u8]) -> Vec<u8> {
        let mut parser = packet::Parser::default();
        let mut output = Vec::new();
        for byte in input {
            if let Some(packet::Event::Packet(request)) = parser.push(*byte) {
                for reply in self.answer(&request).0 {
                    output.extend(packet::framed(&reply));
                }
            }
        }
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmcore_format::arch::Arch;

    #[test]
    fn lldb_is_told_that_arm64_signs_addresses() {
        let said = |arch| addressing(Machine::of(arch));
        assert_eq!(said(Arch::Arm64), "addressing_bits:48;");
        assert_eq!(said(Arch::Amd64), "");
    }
}
