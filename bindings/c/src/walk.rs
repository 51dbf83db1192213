//! Every page of the dump: `kvm_walk_pages`.

use crate::handle::{Kvm, with};
use std::ffi::{c_int, c_uint, c_void};
use std::ops::ControlFlow;
use vmcore::memory::PageReadError;
use vmcore::pages::{self, Mapping, PageMap, PresentRun};
use vmcore::space::AddressSpace;
use vmcore::translation::WindowKind;
use vmcore_format::addr::PhysAddr;
use vmcore_format::header::DirectMap;
use vmcore_format::paging::Prot;

/// `LIBKVM_WALK_PAGES_VERSION`.
const VERSION: c_uint = 2;
/// `VM_PROT_READ`, `VM_PROT_WRITE`, `VM_PROT_EXECUTE`.
const READ: u8 = 1;
const WRITE: u8 = 2;
const EXECUTE: u8 = 4;
/// `kp_offset` of what is not in the file.
const NOT_THERE: i64 = -1;

/// `struct kvm_page`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KvmPage {
    kp_version: c_uint,
    kp_paddr: u64,
    kp_kmap_vaddr: u64,
    kp_dmap_vaddr: u64,
    kp_prot: u8,
    kp_offset: i64,
    kp_len: usize,
}

/// What the program wants to be told: returns 0 to stop.
pub type PageCallback = unsafe extern "C" fn(*mut KvmPage, *mut c_void) -> c_int;

/// Shows every page to `callback`: those of the kernel map first, by ascending address, each as
/// often as it is mapped; then those that only the direct map reaches. A mapped stretch that is not
/// in the dump is shown once, with `kp_offset` -1. Returns 1 when all were shown, 0 when the
/// callback stopped it or the pages cannot be walked.
///
/// # Safety
/// `kd` is null, or a handle from `kvm_open` that was not closed; `callback` is such a function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_walk_pages(
    kd: *mut Kvm,
    callback: Option<PageCallback>,
    arg: *mut c_void,
) -> c_int {
    let body = |kvm: &Kvm| {
        let callback = callback.ok_or("there is no function to show the pages to")?;
        let space = kvm.session.space().map_err(|error| error.to_string())?;
        let mut walk = Walk {
            space,
            direct_map: direct_map(space),
            // SAFETY: the program gave a function of this type, and says that `arg` is for it.
            show: |mut page: KvmPage| match unsafe { callback(&raw mut page, arg) } {
                0 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            },
        };
        let flow = walk.run()?;
        Ok(c_int::from(flow.is_continue()))
    };
    // SAFETY: the caller's promise.
    unsafe { with(kd, 0, body) }
}

fn direct_map(space: AddressSpace<'_>) -> Option<DirectMap> {
    let mut windows = space.translation().windows().iter();
    windows.find_map(|window| match window.kind {
        WindowKind::Linear(map) => Some(map),
        _ => None,
    })
}

struct Walk<'a, F> {
    space: AddressSpace<'a>,
    direct_map: Option<DirectMap>,
    show: F,
}

impl<F: FnMut(KvmPage) -> ControlFlow<()>> Walk<'_, F> {
    fn run(&mut self) -> Result<ControlFlow<()>, String> {
        let text = |reason: PageReadError| reason.to_string();
        let space = self.space;
        let (mut failed, mut stopped) = (Ok(()), false);
        let summary =
            pages::visit_mappings(space, &mut |mapping: Mapping| match self.mapping(mapping) {
                Ok(flow) => {
                    stopped = flow.is_break();
                    flow
                }
                Err(reason) => {
                    failed = Err(reason);
                    ControlFlow::Break(())
                }
            })
            .map_err(text)?;
        failed.map_err(text)?;
        if stopped {
            return Ok(ControlFlow::Break(()));
        }
        if summary.budget_exhausted {
            return Err("the page tables have no end: they are damaged".to_owned());
        }
        let map = PageMap::build(space).map_err(text)?;
        let unmapped = map.pages().filter(|page| !page.is_mapped);
        let prot = Prot {
            write: true,
            execute: false,
        };
        for page in unmapped {
            let Some(pa) = page.pa() else { continue };
            let len = space.memory().page_size().bytes();
            if self
                .page(0, pa, prot, offset(page.offset.0), len)
                .is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The pages of a mapping, and what of it is not in the dump.
    fn mapping(&mut self, mapping: Mapping) -> Result<ControlFlow<()>, PageReadError> {
        let memory = self.space.memory();
        let page = memory.page_size().bytes();
        let mut flow = ControlFlow::Continue(());
        // Bytes of the mapping that were shown.
        let mut done = 0;
        pages::present_runs(memory, mapping, |run: PresentRun| {
            let start = run.va.0.wrapping_sub(mapping.va.0);
            if flow.is_continue() {
                flow = self.absent(mapping, done, start);
            }
            let mut at = 0;
            while at < run.len_bytes && flow.is_continue() {
                // A run starts inside a page only in a full dump.
                let left = page - (run.pa.0 + at) % page;
                let len = left.min(run.len_bytes - at);
                let (va, pa) = (run.va.0.wrapping_add(at), PhysAddr(run.pa.0 + at));
                flow = self.page(va, pa, mapping.prot, offset(run.offset.0 + at), len);
                at += len;
            }
            done = start.saturating_add(run.len_bytes);
        })?;
        if flow.is_continue() {
            flow = self.absent(mapping, done, mapping.len_bytes);
        }
        Ok(flow)
    }

    /// A stretch of a mapping without pages.
    fn absent(&mut self, mapping: Mapping, from: u64, to: u64) -> ControlFlow<()> {
        if from >= to {
            return ControlFlow::Continue(());
        }
        let va = mapping.va.0.wrapping_add(from);
        let pa = PhysAddr(mapping.pa.0.wrapping_add(from));
        self.page(va, pa, mapping.prot, NOT_THERE, to - from)
    }

    fn page(
        &mut self,
        va: u64,
        pa: PhysAddr,
        prot: Prot,
        kp_offset: i64,
        len: u64,
    ) -> ControlFlow<()> {
        let direct = self.direct_map.and_then(|map| map.virt_of(pa));
        let write = if prot.write { WRITE } else { 0 };
        let execute = if prot.execute { EXECUTE } else { 0 };
        (self.show)(KvmPage {
            kp_version: VERSION,
            kp_paddr: pa.0,
            kp_kmap_vaddr: va,
            kp_dmap_vaddr: direct.map_or(0, |va| va.0),
            kp_prot: READ | write | execute,
            kp_offset,
            kp_len: usize::try_from(len).unwrap_or(usize::MAX),
        })
    }
}

fn offset(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(NOT_THERE)
}
