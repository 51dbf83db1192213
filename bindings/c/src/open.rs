//! Opening: `kvm_open`, `kvm_openfiles`, `kvm_open2`.

use crate::handle::{ERROR_LEN, Kvm, Resolver, caught, print};
use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use vmcore::container::ContainerOptions;
use vmcore::session::{KernelChoice, KernelMatch};
use vmcore::source::Access;
use vmcore::{OpenOptions, Session};

/// `O_RDWR`: the flags that kvm(3) knows; nothing is written all the same.
const KNOWN_FLAGS: c_int = 2;

/// Opens a dump. Errors are printed on stderr after `errstr`, unless that is null. `execfile` is
/// the kernel file; null: the one with the dump's build id. `swapfile` is not used.
///
/// # Safety
/// Each pointer is null or a string with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_open(
    execfile: *const c_char,
    corefile: *const c_char,
    _swapfile: *const c_char,
    flags: c_int,
    errstr: *const c_char,
) -> *mut Kvm {
    // SAFETY: the caller's promise.
    let program =
        unsafe { string(errstr) }.map(|text| String::from_utf8_lossy(text.to_bytes()).into_owned());
    let opened = caught(|| {
        // SAFETY: the caller's promise.
        unsafe { open(execfile, corefile, flags, None, program.clone()) }
    });
    match (opened, program) {
        (Ok(kvm), _) => kvm,
        (Err(message), Some(program)) => {
            print(&program, &message);
            std::ptr::null_mut()
        }
        (Err(_), None) => std::ptr::null_mut(),
    }
}

/// Opens a dump as [`kvm_open`] does; an error is written to `errbuf`, unless that is null.
///
/// # Safety
/// The other pointers are null or strings with a NUL; `errbuf` is null or has room for
/// `_POSIX2_LINE_MAX` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_openfiles(
    execfile: *const c_char,
    corefile: *const c_char,
    _swapfile: *const c_char,
    flags: c_int,
    errbuf: *mut c_char,
) -> *mut Kvm {
    // SAFETY: the caller's promise.
    unsafe { open_into(execfile, corefile, flags, errbuf, None) }
}

/// Opens a dump of any architecture; `resolver` is asked for symbols that the kernel file lacks.
///
/// # Safety
/// As [`kvm_openfiles`]; `resolver` is null or such a function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_open2(
    execfile: *const c_char,
    corefile: *const c_char,
    flags: c_int,
    errbuf: *mut c_char,
    resolver: Option<Resolver>,
) -> *mut Kvm {
    // SAFETY: the caller's promise.
    unsafe { open_into(execfile, corefile, flags, errbuf, resolver) }
}

/// # Safety
/// As [`kvm_openfiles`].
unsafe fn open_into(
    execfile: *const c_char,
    corefile: *const c_char,
    flags: c_int,
    errbuf: *mut c_char,
    resolver: Option<Resolver>,
) -> *mut Kvm {
    // SAFETY: the caller's promise.
    let opened = caught(|| unsafe { open(execfile, corefile, flags, resolver, None) });
    opened.unwrap_or_else(|message| {
        if !errbuf.is_null() {
            let bytes = message.bytes().filter(|byte| *byte != 0);
            for (at, byte) in bytes.take(ERROR_LEN - 1).chain([0]).enumerate() {
                // SAFETY: `at` is below `ERROR_LEN`, for which the caller has room.
                unsafe { errbuf.cast::<u8>().add(at).write(byte) };
            }
        }
        std::ptr::null_mut()
    })
}

/// # Safety
/// Each pointer is null or a string with a NUL.
unsafe fn open(
    execfile: *const c_char,
    corefile: *const c_char,
    flags: c_int,
    resolver: Option<Resolver>,
    program: Option<String>,
) -> Result<*mut Kvm, String> {
    if flags & !KNOWN_FLAGS != 0 {
        return Err(format!(
            "{flags:#x} are no flags for opening a dump: use O_RDONLY"
        ));
    }
    // SAFETY: the caller's promise, for both.
    let (kernel, core) = unsafe { (string(execfile), string(corefile)) };
    let core = core.ok_or("no dump is named, and a live kernel cannot be read: name a vmcore")?;
    let choice = match kernel {
        Some(kernel) => KernelChoice::Given(path(kernel)),
        None => KernelChoice::Find(&[]),
    };
    let options = OpenOptions::from(ContainerOptions {
        access: Access::Positional,
        ..ContainerOptions::default()
    });
    let session = Session::open(path(core), choice, &options).map_err(|error| error.to_string())?;
    if let (Some(kernel), Some(KernelMatch::OtherArch { dump, file })) =
        (session.kernel(), session.kernel_match())
    {
        let path = kernel.path().display();
        return Err(format!(
            "{path} is a kernel for {file}, the dump is of {dump}"
        ));
    }
    session.space().map_err(|error| error.to_string())?;
    Ok(Box::into_raw(Box::new(Kvm::new(
        session, resolver, program,
    ))))
}

/// # Safety
/// `text` is null or a string with a NUL.
unsafe fn string<'a>(text: *const c_char) -> Option<&'a CStr> {
    // SAFETY: the caller's promise.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) })
}

fn path(text: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(text.to_bytes()))
}
