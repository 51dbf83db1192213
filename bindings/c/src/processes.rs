//! Processes and threads: `kvm_getprocs`.
//!
//! Which processes there are comes from the kernel's debug constants; what they are doing from its
//! types, as far as the kernel file has them.

use crate::handle::{Kvm, with};
use crate::kinfo::{KinfoProc, put_text};
use std::ffi::{c_char, c_int, c_long};
use std::sync::PoisonError;
use vmcore::process::{self, Process, Thread};
use vmcore_debug::details::Details;
use vmcore_debug::types::{Tag, Types};
use vmcore_debug::{DebugFiles, Target};
use vmcore_format::addr::VirtAddr;
use vmcore_format::endian::Width;

/// What processes are asked for (`sys/sys/sysctl.h`).
const KERN_PROC_ALL: c_int = 0;
const KERN_PROC_PID: c_int = 1;
const KERN_PROC_PGRP: c_int = 2;
const KERN_PROC_SESSION: c_int = 3;
const KERN_PROC_UID: c_int = 5;
const KERN_PROC_RUID: c_int = 6;
const KERN_PROC_PROC: c_int = 8;
const KERN_PROC_RGID: c_int = 10;
const KERN_PROC_GID: c_int = 11;
/// Each thread by itself.
const KERN_PROC_INC_THREAD: c_int = 0x10;

/// `ki_stat` (`sys/sys/proc.h`).
const SRUN: c_char = 2;
const SSLEEP: c_char = 3;
const SSTOP: c_char = 4;
const SZOMB: c_char = 5;
const SWAIT: c_char = 6;
const SLOCK: c_char = 7;

/// On no CPU; and so in the member of earlier systems (`sys/sys/proc.h`).
const NOCPU: c_int = -1;
const NOCPU_OLD: u8 = 255;

/// The processes of the dump: an array that belongs to the handle up to the next call, and in `cnt`
/// how many. Null and -1 after an error. `op` chooses all, or those with the id, group or user `arg`.
///
/// # Safety
/// `kd` is null, or a handle from `kvm_open` that was not closed; `cnt` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_getprocs(
    kd: *mut Kvm,
    op: c_int,
    arg: c_int,
    cnt: *mut c_int,
) -> *mut KinfoProc {
    let set_count = |count: c_int| {
        if !cnt.is_null() {
            // SAFETY: the caller's promise.
            unsafe { cnt.write(count) };
        }
    };
    set_count(-1);
    let body = |kvm: &Kvm| {
        let found = list(kvm, op, arg)?;
        let count = c_int::try_from(found.len()).map_err(|_| "too many processes".to_owned())?;
        let mut kept = kvm.processes.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = found;
        set_count(count);
        Ok(kept.as_mut_ptr())
    };
    // SAFETY: the caller's promise.
    unsafe { with(kd, std::ptr::null_mut(), body) }
}

fn list(kvm: &Kvm, op: c_int, arg: c_int) -> Result<Vec<KinfoProc>, String> {
    let (choice, each_thread) = (op & !KERN_PROC_INC_THREAD, op & KERN_PROC_INC_THREAD != 0);
    let session = &kvm.session;
    let list = process::list(session).map_err(|error| error.to_string())?;
    let files = DebugFiles::of(session).map_err(|error| error.to_string())?;
    let target = Target::new(session, &files).map_err(|error| error.to_string())?;
    let facts = ProcessFacts::of(&target);
    if !matches!(choice, KERN_PROC_ALL | KERN_PROC_PROC | KERN_PROC_PID) && !facts.has_types {
        return Err(
            "this choice needs the kernel's types: open the dump with the kernel.debug of \
                    that kernel"
                .to_owned(),
        );
    }
    let mut found = Vec::new();
    for process in &list.processes {
        let common = facts.process(process);
        let is_wanted = match choice {
            KERN_PROC_ALL | KERN_PROC_PROC => true,
            KERN_PROC_PID => common.ki_pid == arg,
            KERN_PROC_PGRP => common.ki_pgid == arg,
            KERN_PROC_SESSION => common.ki_sid == arg,
            KERN_PROC_UID => common.ki_uid == arg.cast_unsigned(),
            KERN_PROC_RUID => common.ki_ruid == arg.cast_unsigned(),
            KERN_PROC_RGID => common.ki_rgid == arg.cast_unsigned(),
            KERN_PROC_GID => common.ki_groups.first() == Some(&arg.cast_unsigned()),
            other => return Err(format!("processes of a dump cannot be chosen by {other}")),
        };
        if !is_wanted {
            continue;
        }
        let shown = if each_thread { usize::MAX } else { 1 };
        for thread in process.threads.iter().take(shown) {
            let mut item = common.clone();
            facts.thread(thread, &mut item);
            found.push(item);
        }
        if process.threads.is_empty() {
            found.push(common);
        }
    }
    if found.is_empty()
        && let Some(problem) = list.problems.first()
    {
        return Err(problem.clone());
    }
    if let Some(problem) = list.problems.first() {
        kvm.fail(problem);
    }
    Ok(found)
}

/// A member: offset and width in bytes.
#[derive(Clone, Copy)]
struct Field {
    offset: u64,
    width: u64,
}

/// Where the facts about processes are.
struct ProcessFacts<'a, 't> {
    details: Details<'a, 't>,
    target: &'a Target<'t>,
    has_types: bool,
    p_ucred: Option<Field>,
    cr_ruid: Option<Field>,
    cr_svuid: Option<Field>,
    cr_rgid: Option<Field>,
    cr_svgid: Option<Field>,
    cr_gid: Option<Field>,
    cr_groups: Option<Field>,
    p_pgrp: Option<Field>,
    pg_id: Option<Field>,
    pg_session: Option<Field>,
    s_sid: Option<Field>,
    p_vmspace: Option<Field>,
    p_fd: Option<Field>,
    p_textvp: Option<Field>,
    td_flags: Option<Field>,
    td_pcb: Option<Field>,
    td_lastcpu: Option<Field>,
}

impl<'a, 't> ProcessFacts<'a, 't> {
    fn of(target: &'a Target<'t>) -> Self {
        let types = target.types();
        let field = |structure: &str, name: &str| field(types, structure, name);
        Self {
            details: Details::of(target),
            target,
            has_types: !types.is_empty(),
            p_ucred: field("proc", "p_ucred"),
            cr_ruid: field("ucred", "cr_ruid"),
            cr_svuid: field("ucred", "cr_svuid"),
            cr_rgid: field("ucred", "cr_rgid"),
            cr_svgid: field("ucred", "cr_svgid"),
            cr_gid: field("ucred", "cr_gid"),
            cr_groups: field("ucred", "cr_groups"),
            p_pgrp: field("proc", "p_pgrp"),
            pg_id: field("pgrp", "pg_id"),
            pg_session: field("pgrp", "pg_session"),
            s_sid: field("session", "s_sid"),
            p_vmspace: field("proc", "p_vmspace"),
            p_fd: field("proc", "p_fd"),
            p_textvp: field("proc", "p_textvp"),
            td_flags: field("thread", "td_flags"),
            td_pcb: field("thread", "td_pcb"),
            td_lastcpu: field("thread", "td_lastcpu"),
        }
    }

    /// An integer or pointer in a structure.
    fn value(&self, base: VirtAddr, field: Option<Field>) -> Option<u64> {
        let field = field?;
        let at = VirtAddr(base.0.wrapping_add(field.offset));
        let space = self.target.space();
        match field.width {
            4 => space.read_u32(at).ok().map(u64::from),
            8 => space.read_u64(at).ok(),
            _ => None,
        }
    }

    fn pointer(&self, base: VirtAddr, field: Option<Field>) -> Option<VirtAddr> {
        let value = self.value(base, field)?;
        (value != 0).then_some(VirtAddr(value))
    }

    fn word(&self, base: VirtAddr, field: Option<Field>) -> usize {
        let value = self.value(base, field).unwrap_or(0);
        usize::try_from(value).unwrap_or(0)
    }

    /// What all threads of a process have in common.
    fn process(&self, process: &Process) -> KinfoProc {
        let at = process.address;
        let known = self.details.process(process);
        let of_cred = |field| {
            let cred = self.pointer(at, self.p_ucred)?;
            u32::try_from(self.value(cred, field)?).ok()
        };
        let group = self.pointer(at, self.p_pgrp);
        let session = group.and_then(|group| self.pointer(group, self.pg_session));
        let id = |place: Option<VirtAddr>, field| self.value(place?, field).map(low32);
        let mut item = KinfoProc {
            ki_paddr: address(at),
            ki_pid: process.pid,
            ki_ppid: known.ppid.unwrap_or(0),
            ki_pgid: id(group, self.pg_id).unwrap_or(0),
            ki_sid: id(session, self.s_sid).unwrap_or(0),
            ki_uid: known.uid.unwrap_or(0),
            ki_ruid: of_cred(self.cr_ruid).unwrap_or(0),
            ki_svuid: of_cred(self.cr_svuid).unwrap_or(0),
            ki_rgid: of_cred(self.cr_rgid).unwrap_or(0),
            ki_svgid: of_cred(self.cr_svgid).unwrap_or(0),
            ki_flag: known.flags.map_or(0, |flags| flags.cast_signed().into()),
            ki_vmspace: self.word(at, self.p_vmspace),
            ki_fd: self.word(at, self.p_fd),
            ki_textvp: self.word(at, self.p_textvp),
            ki_numthreads: c_int::try_from(process.threads.len()).unwrap_or(c_int::MAX),
            ki_stat: if process.zombie { SZOMB } else { 0 },
            // Which terminal it has is not asked; 0 would be one.
            ki_tdev: u64::MAX,
            ki_tdev_freebsd11: u32::MAX,
            ki_oncpu: NOCPU,
            ki_lastcpu: NOCPU,
            ki_oncpu_old: NOCPU_OLD,
            ki_lastcpu_old: NOCPU_OLD,
            ..KinfoProc::default()
        };
        if let (Some(gid), Some(first)) = (self.gid(at), item.ki_groups.first_mut()) {
            (*first, item.ki_ngroups) = (gid, 1);
        }
        put_text(&mut item.ki_comm, &process.comm);
        item
    }

    /// The effective group: by itself since 15.0, before that the first of all.
    fn gid(&self, process: VirtAddr) -> Option<u32> {
        let cred = self.pointer(process, self.p_ucred)?;
        if let Some(gid) = self.value(cred, self.cr_gid) {
            return u32::try_from(gid).ok();
        }
        let groups = self.pointer(cred, self.cr_groups)?;
        self.target.space().read_u32(groups).ok()
    }

    fn thread(&self, thread: &Thread, item: &mut KinfoProc) {
        let known = self.details.thread(thread);
        item.ki_tid = thread.tid;
        item.ki_tdaddr = address(thread.address);
        item.ki_pcb = self.word(thread.address, self.td_pcb);
        item.ki_kstack = known.stack.map_or(0, |(start, _)| address(start));
        item.ki_wchan = known.wait_channel.map_or(0, address);
        item.ki_tdflags = self
            .value(thread.address, self.td_flags)
            .and_then(|flags| c_long::try_from(flags).ok())
            .unwrap_or(0);
        item.ki_oncpu = thread
            .cpu
            .and_then(|cpu| c_int::try_from(cpu).ok())
            .unwrap_or(NOCPU);
        item.ki_lastcpu = self
            .value(thread.address, self.td_lastcpu)
            .map_or(NOCPU, low32);
        item.ki_oncpu_old = old(item.ki_oncpu);
        item.ki_lastcpu_old = old(item.ki_lastcpu);
        if item.ki_stat != SZOMB {
            item.ki_stat = match known.state {
                Some('R') => SRUN,
                Some('S' | 'I' | 'D') => SSLEEP,
                Some('T') => SSTOP,
                Some('Z') => SZOMB,
                Some('W') => SWAIT,
                Some('L') => SLOCK,
                _ => 0,
            };
        }
        let rest = put_text(&mut item.ki_tdname, &thread.name);
        put_text(&mut item.ki_moretdname, rest);
        let text = |text: Option<String>| text.unwrap_or_default().into_bytes();
        put_text(&mut item.ki_wmesg, &text(known.wait_message));
        put_text(&mut item.ki_lockname, &text(known.lock_name));
    }
}

/// A member that is an integer or a pointer.
fn field(types: &Types<'_>, structure: &str, name: &str) -> Option<Field> {
    let type_ = types.find(Tag::Struct, structure)?;
    let place = types.member(&type_, name).ok()??;
    let width = types.size_of(&place.type_).ok()?;
    let is_number = width == Width::W32.bytes() || width == Width::W64.bytes();
    (is_number && place.bits.is_none()).then(|| Field {
        offset: place.offset_bytes(),
        width,
    })
}

/// An address as a pointer of this host: those that are too wide for it are 0.
fn address(va: VirtAddr) -> usize {
    usize::try_from(va.0).unwrap_or(0)
}

/// A CPU for the member of earlier systems, which has one byte.
fn old(cpu: c_int) -> u8 {
    u8::try_from(cpu).unwrap_or(NOCPU_OLD)
}

fn low32(value: u64) -> i32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}
