//! What a `kvm_t *` points to: an open dump, its last error, and what was last returned.

use crate::kinfo::KinfoProc;
use std::ffi::{c_char, c_int};
use std::io::Write as _;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock};
use vmcore::Session;
use vmcore_debug::object_file::ObjectFile;
use vmcore_format::endian::{Endian, Width};
use vmcore_format::header::Header;

/// `_POSIX2_LINE_MAX`: bytes of every error text, the NUL included.
pub(crate) const ERROR_LEN: usize = 2048;
/// The error text after a panic of this library.
const INTERNAL: &str = "internal error: the dump met a fault in this library; please report it";

/// A function of the program that resolves symbols which the kernel file lacks: returns 0 and stores the
/// address of a name.
pub type Resolver = unsafe extern "C" fn(*const c_char, *mut u64) -> c_int;

/// A text that C may hold a pointer to while a later error is written over it.
#[derive(Debug)]
struct ErrorText([AtomicU8; ERROR_LEN]);

impl ErrorText {
    fn set(&self, text: &str) {
        let bytes = text.bytes().filter(|byte| *byte != 0).take(ERROR_LEN - 1);
        for (to, from) in self.0.iter().zip(bytes.chain([0])) {
            to.store(from, Ordering::Relaxed);
        }
    }
}

/// An open dump: `kvm_t` in C.
#[derive(Debug)]
pub struct Kvm {
    pub(crate) session: Session,
    pub(crate) resolver: Option<Resolver>,
    /// Prefix of errors on stderr, if they are printed.
    program: Option<String>,
    error: ErrorText,
    kernel_text: OnceLock<Vec<Range<u64>>>,
    /// What [`crate::kvm_getprocs`] returned last.
    pub(crate) processes: Mutex<Vec<KinfoProc>>,
}

impl Kvm {
    pub(crate) fn new(
        session: Session,
        resolver: Option<Resolver>,
        program: Option<String>,
    ) -> Self {
        Self {
            session,
            resolver,
            program,
            error: ErrorText([const { AtomicU8::new(0) }; ERROR_LEN]),
            kernel_text: OnceLock::new(),
            processes: Mutex::default(),
        }
    }

    /// Keeps what [`kvm_geterr`] says, of an answer that is none of an error.
    pub(crate) fn note(&self, message: &str) {
        self.error.set(message);
    }

    /// Keeps an error for [`kvm_geterr`], and prints it if the program asked for that.
    pub(crate) fn fail(&self, message: &str) {
        self.note(message);
        if let Some(program) = &self.program {
            print(program, message);
        }
    }

    /// How far the kernel ran from the addresses in its file.
    pub(crate) fn displacement(&self) -> u64 {
        let header = self.session.dump().minidump();
        header.map_or(0, Header::displacement)
    }

    /// The ranges of the kernel's code, by its file.
    pub(crate) fn kernel_text(&self) -> &[Range<u64>] {
        self.kernel_text.get_or_init(|| {
            let file = self
                .session
                .kernel()
                .and_then(|kernel| ObjectFile::open(kernel.path()).ok());
            file.map(|file| file.text()).unwrap_or_default()
        })
    }

    /// Whether programs on this host could be the dump's own: same byte order and word.
    pub(crate) fn is_native(&self) -> bool {
        let dump = self.session.dump();
        let host = if cfg!(target_endian = "big") {
            Endian::Big
        } else {
            Endian::Little
        };
        let word = if cfg!(target_pointer_width = "64") {
            Width::W64
        } else {
            Width::W32
        };
        let name = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "i386",
            "riscv64" => "riscv",
            other => other,
        };
        dump.memory().endian() == host && dump.arch().word() == word && dump.arch().name() == name
    }
}

/// Prints an error as kvm_open(3) says.
pub(crate) fn print(program: &str, message: &str) {
    // Nothing can be done if stderr is closed.
    let _ = writeln!(std::io::stderr(), "{program}: {message}");
}

/// Runs the body of a function that takes a handle: errors are kept, panics end here.
///
/// # Safety
/// `kd` is null, or a handle from `kvm_open` that was not closed.
pub(crate) unsafe fn with<T>(
    kd: *mut Kvm,
    failed: T,
    body: impl FnOnce(&Kvm) -> Result<T, String>,
) -> T {
    // SAFETY: the caller's promise; handles are shared references everywhere but in `kvm_close`.
    let Some(kvm) = (unsafe { kd.as_ref() }) else {
        return failed;
    };
    match catch_unwind(AssertUnwindSafe(|| body(kvm))) {
        Ok(Ok(value)) => value,
        Ok(Err(message)) => {
            kvm.fail(&message);
            failed
        }
        Err(_) => {
            kvm.fail(INTERNAL);
            failed
        }
    }
}

/// Runs a body that makes a handle; panics end here as an error.
pub(crate) fn caught<T>(body: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| Err(INTERNAL.to_owned()))
}

/// `EINVAL`, which is the same on every system.
const EINVAL: c_int = 22;

unsafe extern "C" {
    /// Where the C library keeps this thread's `errno`.
    #[cfg_attr(
        any(target_os = "freebsd", target_vendor = "apple"),
        link_name = "__error"
    )]
    #[cfg_attr(
        any(target_os = "android", target_os = "netbsd", target_os = "openbsd"),
        link_name = "__errno"
    )]
    fn __errno_location() -> *mut c_int;
}

fn set_errno(value: c_int) {
    // SAFETY: the C library's own function: its pointer is good for this thread.
    unsafe { __errno_location().write(value) };
}

/// Closes a dump. Returns 0, or -1 and `EINVAL` for a null pointer.
///
/// # Safety
/// `kd` is null, or a handle from `kvm_open` that was not closed, and that is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_close(kd: *mut Kvm) -> c_int {
    if kd.is_null() {
        set_errno(EINVAL);
        return -1;
    }
    // SAFETY: the caller's promise; `open` made it with `Box::into_raw`.
    let kvm = unsafe { Box::from_raw(kd) };
    match catch_unwind(AssertUnwindSafe(|| drop(kvm))) {
        Ok(()) => 0,
        Err(_) => -1,
    }
}

/// The last error of a handle; empty if there was none. It belongs to the handle, and a later error
/// is written over it.
///
/// # Safety
/// `kd` is null, or a handle from `kvm_open` that was not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_geterr(kd: *mut Kvm) -> *mut c_char {
    // SAFETY: the caller's promise.
    match unsafe { kd.as_ref() } {
        Some(kvm) => kvm.error.0.as_ptr().cast_mut().cast(),
        None => c"".as_ptr().cast_mut(),
    }
}

/// 1 if the dump is of a kernel of this host's architecture, 0 if not, -1 for a null pointer.
///
/// # Safety
/// `kd` is null, or a handle from `kvm_open` that was not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_native(kd: *mut Kvm) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { with(kd, -1, |kvm| Ok(c_int::from(kvm.is_native()))) }
}

/// How far the kernel was moved from the addresses that its file has, as debuggers need it for the
/// symbols that they read from the file themselves. [`crate::kvm_nlist`] has added it already.
///
/// # Safety
/// `kd` is null, or a handle from `kvm_open` that was not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_kerndisp(kd: *mut Kvm) -> i64 {
    // SAFETY: the caller's promise.
    unsafe { with(kd, 0, |kvm| Ok(kvm.displacement().cast_signed())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_at_the_boundary_as_an_error() {
        let outcome: Result<(), String> = caught(|| panic!("a bug"));
        assert_eq!(outcome, Err(INTERNAL.to_owned()));
    }

    #[test]
    fn error_texts_are_cut_and_end_with_nul() {
        let text = ErrorText([const { AtomicU8::new(1) }; ERROR_LEN]);
        text.set("short\0 text");
        let start: Vec<u8> = text
            .0
            .iter()
            .take(11)
            .map(|byte| byte.load(Ordering::Relaxed))
            .collect();
        assert_eq!(start, b"short text\0");
        text.set(&"x".repeat(2 * ERROR_LEN));
        let last = text.0.last().map(|byte| byte.load(Ordering::Relaxed));
        assert_eq!(last, Some(0));
    }

    #[test]
    fn null_handles_do_nothing() {
        let null = std::ptr::null_mut();
        // SAFETY: null is allowed.
        let (closed, native) = unsafe { (kvm_close(null), kvm_native(null)) };
        assert_eq!((closed, native), (-1, -1));
        let reason = std::io::Error::last_os_error();
        assert_eq!(reason.kind(), std::io::ErrorKind::InvalidInput);
    }
}
