//! `struct kinfo_proc`, as `sys/sys/user.h` of FreeBSD has it since 12.0 on 64-bit systems.

use std::ffi::{c_char, c_int, c_long, c_schar, c_short, c_uchar, c_uint, c_ushort};

/// Words of a `struct rusage`.
const RUSAGE_WORDS: usize = 18;

/// A process or a thread. What is not known of it is 0.
#[repr(C)]
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the kernel's own names")]
pub struct KinfoProc {
    pub ki_structsize: c_int,
    pub ki_layout: c_int,
    pub ki_args: usize,
    pub ki_paddr: usize,
    pub ki_addr: usize,
    pub ki_tracep: usize,
    pub ki_textvp: usize,
    pub ki_fd: usize,
    pub ki_vmspace: usize,
    pub ki_wchan: usize,
    pub ki_pid: i32,
    pub ki_ppid: i32,
    pub ki_pgid: i32,
    pub ki_tpgid: i32,
    pub ki_sid: i32,
    pub ki_tsid: i32,
    pub ki_jobc: c_short,
    pub ki_spare_short1: c_short,
    pub ki_tdev_freebsd11: u32,
    pub ki_siglist: [u32; 4],
    pub ki_sigmask: [u32; 4],
    pub ki_sigignore: [u32; 4],
    pub ki_sigcatch: [u32; 4],
    pub ki_uid: u32,
    pub ki_ruid: u32,
    pub ki_svuid: u32,
    pub ki_rgid: u32,
    pub ki_svgid: u32,
    pub ki_ngroups: c_short,
    pub ki_spare_short2: c_short,
    pub ki_groups: [u32; 16],
    pub ki_size: usize,
    pub ki_rssize: isize,
    pub ki_swrss: isize,
    pub ki_tsize: isize,
    pub ki_dsize: isize,
    pub ki_ssize: isize,
    pub ki_xstat: c_ushort,
    pub ki_acflag: c_ushort,
    pub ki_pctcpu: u32,
    pub ki_estcpu: c_uint,
    pub ki_slptime: c_uint,
    pub ki_swtime: c_uint,
    pub ki_cow: c_uint,
    pub ki_runtime: u64,
    pub ki_start: [c_long; 2],
    pub ki_childtime: [c_long; 2],
    pub ki_flag: c_long,
    pub ki_kiflag: c_long,
    pub ki_traceflag: c_int,
    pub ki_stat: c_char,
    pub ki_nice: c_schar,
    pub ki_lock: c_char,
    pub ki_rqindex: c_char,
    pub ki_oncpu_old: c_uchar,
    pub ki_lastcpu_old: c_uchar,
    pub ki_tdname: [u8; 17],
    pub ki_wmesg: [u8; 9],
    pub ki_login: [u8; 18],
    pub ki_lockname: [u8; 9],
    pub ki_comm: [u8; 20],
    pub ki_emul: [u8; 17],
    pub ki_loginclass: [u8; 18],
    pub ki_moretdname: [u8; 4],
    pub ki_sparestrings: [u8; 46],
    pub ki_spareints: [c_int; 2],
    pub ki_tdev: u64,
    pub ki_oncpu: c_int,
    pub ki_lastcpu: c_int,
    pub ki_tracer: c_int,
    pub ki_flag2: c_int,
    pub ki_fibnum: c_int,
    pub ki_cr_flags: c_uint,
    pub ki_jid: c_int,
    pub ki_numthreads: c_int,
    pub ki_tid: i32,
    pub ki_pri: [c_uchar; 4],
    pub ki_rusage: [c_long; RUSAGE_WORDS],
    pub ki_rusage_ch: [c_long; RUSAGE_WORDS],
    pub ki_pcb: usize,
    pub ki_kstack: usize,
    pub ki_udata: usize,
    pub ki_tdaddr: usize,
    pub ki_pd: usize,
    pub ki_spareptrs: [usize; 5],
    pub ki_sparelongs: [c_long; 12],
    pub ki_sflag: c_long,
    pub ki_tdflags: c_long,
}

/// `KINFO_PROC_SIZE`.
#[cfg(target_pointer_width = "64")]
const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<KinfoProc>() == 1088);
    assert!(offset_of!(KinfoProc, ki_pid) == 72);
    assert!(offset_of!(KinfoProc, ki_uid) == 168);
    assert!(offset_of!(KinfoProc, ki_stat) == 388);
    assert!(offset_of!(KinfoProc, ki_comm) == 447);
    assert!(offset_of!(KinfoProc, ki_tdev) == 560);
    assert!(offset_of!(KinfoProc, ki_numthreads) == 596);
    assert!(offset_of!(KinfoProc, ki_tdaddr) == 920);
};

impl Default for KinfoProc {
    fn default() -> Self {
        // SAFETY: every field is an integer or an array of integers, and may be 0.
        let mut zero: Self = unsafe { std::mem::zeroed() };
        zero.ki_structsize = c_int::try_from(size_of::<Self>()).unwrap_or(0);
        zero
    }
}

/// Copies a text into a field, cut so that a NUL remains, and gives what did not fit.
pub(crate) fn put_text<'a>(field: &mut [u8], text: &'a [u8]) -> &'a [u8] {
    let room = field.len().saturating_sub(1);
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let (kept, rest) = text.split_at(text.len().min(room));
    for (to, from) in field.iter_mut().zip(kept) {
        *to = *from;
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_keep_their_nul_and_say_what_is_left() {
        let mut field = [0; 4];
        assert_eq!(put_text(&mut field, b"sleeping\0more"), b"eping");
        assert_eq!(&field, b"sle\0");
        assert_eq!(KinfoProc::default().ki_pid, 0);
    }
}
