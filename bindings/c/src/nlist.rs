//! Symbols: `kvm_nlist`, `kvm_nlist2`.

use crate::handle::{Kvm, with};
use crate::sets;
use std::ffi::{CStr, CString, c_char, c_int, c_short, c_ulong};
use vmcore::kernel::KernelFile;
use vmcore::session::SessionError;
use vmcore_format::addr::VirtAddr;

/// `N_TEXT`: in the kernel's code.
const N_TEXT: u8 = 4;
/// `N_DATA`: elsewhere.
const N_DATA: u8 = 6;

/// `struct nlist`.
#[repr(C)]
#[derive(Debug)]
pub struct Nlist {
    n_name: *const c_char,
    n_type: u8,
    n_other: c_char,
    n_desc: c_short,
    n_value: c_ulong,
}

/// `struct kvm_nlist`.
#[repr(C)]
#[derive(Debug)]
pub struct KvmNlist {
    n_name: *const c_char,
    n_type: u8,
    n_value: u64,
}

/// Looks up symbols, up to an entry whose name is null or empty. Returns how many were not found, or
/// -1 if none could be looked for.
///
/// # Safety
/// `kd` is null, or a handle from `kvm_open` that was not closed; `list` is an array with such an
/// end, and its names are strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_nlist(kd: *mut Kvm, list: *mut Nlist) -> c_int {
    let body = |kvm: &Kvm| {
        // SAFETY: the caller's promise.
        unsafe {
            each(
                kvm,
                list,
                |entry| entry.n_name,
                |entry, found| {
                    // An address too wide for this host's programs is as good as none.
                    let value = found.and_then(|(_, address)| c_ulong::try_from(address).ok());
                    entry.n_type = value.and(found).map_or(0, |(kind, _)| kind);
                    entry.n_other = 0;
                    entry.n_desc = 0;
                    entry.n_value = value.unwrap_or(0);
                    value.is_some()
                },
            )
        }
    };
    // SAFETY: the caller's promise.
    unsafe { with(kd, -1, body) }
}

/// As [`kvm_nlist`], with addresses of any kernel.
///
/// # Safety
/// As [`kvm_nlist`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_nlist2(kd: *mut Kvm, list: *mut KvmNlist) -> c_int {
    let body = |kvm: &Kvm| {
        // SAFETY: the caller's promise.
        unsafe {
            each(
                kvm,
                list,
                |entry| entry.n_name,
                |entry, found| {
                    (entry.n_type, entry.n_value) = found.unwrap_or((0, 0));
                    found.is_some()
                },
            )
        }
    };
    // SAFETY: the caller's promise.
    unsafe { with(kd, -1, body) }
}

/// Goes through a list; `set` says whether the entry has its symbol now.
///
/// # Safety
/// `list` is null or an array that ends with a null or empty name.
unsafe fn each<T>(
    kvm: &Kvm,
    list: *mut T,
    name: impl Fn(&T) -> *const c_char,
    set: impl Fn(&mut T, Option<(u8, u64)>) -> bool,
) -> Result<c_int, String> {
    if list.is_null() {
        return Err("there is no list of symbols".to_owned());
    }
    let kernel = match (kvm.session.matching_kernel(), kvm.resolver) {
        (Ok(kernel), _) => Some(kernel),
        (Err(SessionError::NoKernel { .. }), Some(_)) => None,
        (Err(error), _) => return Err(error.to_string()),
    };
    let mut missing = Vec::new();
    let mut at = list;
    loop {
        // SAFETY: the loop ends at the list's end.
        let entry = unsafe { &mut *at };
        let text = name(entry);
        if text.is_null() {
            break;
        }
        // SAFETY: the caller's promise.
        let text = unsafe { CStr::from_ptr(text) };
        if text.is_empty() {
            break;
        }
        if !set(entry, find(kvm, kernel, text)) {
            missing.push(text.to_string_lossy().into_owned());
        }
        // SAFETY: an entry with a name is not the last one.
        at = unsafe { at.add(1) };
    }
    if !missing.is_empty() {
        // Programs ask for symbols that only some kernels have: no reason to print anything.
        kvm.note(&format!("not found: {}", missing.join(", ")));
    }
    Ok(c_int::try_from(missing.len()).unwrap_or(c_int::MAX))
}

/// A symbol's type and address: in the kernel file, as it stands or without an underscore in front, or
/// as a variable of each network stack or CPU; or from the program's resolver.
fn find(kvm: &Kvm, kernel: Option<&KernelFile>, name: &CStr) -> Option<(u8, u64)> {
    let bare = name.to_bytes().strip_prefix(b"_");
    if let Some(kernel) = kernel {
        let lookup = |name: &[u8]| kernel.symbols().find(std::str::from_utf8(name).ok()?);
        let found = lookup(name.to_bytes()).or_else(|| lookup(bare?));
        if let Some(symbol) = found {
            return Some((kind(kvm, symbol.address), symbol.address.0));
        }
        let in_set = std::str::from_utf8(bare.unwrap_or(name.to_bytes())).ok();
        if let Some(address) = in_set.and_then(|name| sets::find(kvm, kernel, name)) {
            return Some((N_DATA, address));
        }
    }
    let resolver = kvm.resolver?;
    let ask = |name: &CStr| {
        let mut address = 0;
        // SAFETY: the program gave a function of this type; both pointers are good for the call.
        let failed = unsafe { resolver(name.as_ptr(), &raw mut address) };
        (failed == 0).then_some((N_DATA, address))
    };
    ask(name).or_else(|| ask(&CString::new(bare?).ok()?))
}

/// Whether an address is in the kernel's code.
fn kind(kvm: &Kvm, address: VirtAddr) -> u8 {
    let in_file = address.0.wrapping_sub(kvm.displacement());
    let mut text = kvm.kernel_text().iter();
    let is_code = text.any(|range| range.contains(&in_file));
    if is_code { N_TEXT } else { N_DATA }
}
