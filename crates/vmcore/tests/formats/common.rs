//! Opening files that a test has built.

use vmcore::container::ContainerOptions;
use vmcore::dump::OpenError;
use vmcore::format::addr::{FileOffset, PhysAddr, VirtAddr};
use vmcore::memory::PageReadError;
use vmcore::session::KernelChoice;
use vmcore::source::Access;
use vmcore::space::AddressSpace;
use vmcore::translation::{Translation, TranslationError};
use vmcore::{Dump, OpenOptions, Session};
use vmcore_testkit::written;

pub(crate) const ACCESSES: [Access; 3] = [Access::Auto, Access::Mapped, Access::Positional];

/// Opens a dump; the file is gone from its folder afterwards, not from the dump.
pub(crate) fn try_open(bytes: &[u8], options: &OpenOptions) -> Result<Dump, OpenError> {
    let (_folder, path) = written(bytes);
    Dump::open(&path, options)
}

/// Opens a dump that is in order.
pub(crate) fn open(bytes: &[u8]) -> Dump {
    try_open(bytes, &OpenOptions::default()).unwrap()
}

/// Runs a check with every kind of access.
pub(crate) fn each_access(bytes: &[u8], check: impl Fn(&Dump)) {
    for access in ACCESSES {
        let options = OpenOptions::from(ContainerOptions {
            access,
            ..ContainerOptions::default()
        });
        check(&try_open(bytes, &options).unwrap());
    }
}

/// A dump and its kernel file, if it has one.
pub(crate) fn session(bytes: &[u8], kernel: Option<&[u8]>) -> Session {
    let (folder, path) = written(bytes);
    let file = folder.path().join("kernel");
    let choice = match kernel {
        Some(kernel) => {
            std::fs::write(&file, kernel).unwrap();
            KernelChoice::Given(&file)
        }
        None => KernelChoice::None,
    };
    Session::open(&path, choice, &OpenOptions::default()).unwrap()
}

/// Questions about a minidump's virtual memory, which needs no kernel file.
pub(crate) struct Virtual<'a> {
    dump: &'a Dump,
    translation: Translation,
}

impl<'a> Virtual<'a> {
    pub(crate) fn of(dump: &'a Dump) -> Self {
        Self {
            dump,
            translation: dump.translation(None).unwrap(),
        }
    }

    pub(crate) fn space(&self) -> AddressSpace<'_> {
        AddressSpace::new(self.dump.memory(), self.dump.arch(), &self.translation)
    }

    /// Physical address behind a virtual one, whether its page is there or not.
    pub(crate) fn pa(&self, va: u64) -> Result<u64, TranslationError> {
        let found = self.translation.lookup(self.dump.memory(), VirtAddr(va));
        found.map(|found| found.leaf.pa.0)
    }

    /// Physical address and file offset behind a virtual address.
    pub(crate) fn place(&self, va: u64) -> Result<(u64, u64), TranslationError> {
        let found = self.space().locate(VirtAddr(va));
        found.map(|(found, offset)| (found.leaf.pa.0, offset.0))
    }

    /// The first bytes at a virtual address.
    pub(crate) fn text(&self, va: u64, len: usize) -> Result<Vec<u8>, TranslationError> {
        let mut bytes = vec![0; len];
        self.space()
            .read_exact(VirtAddr(va), &mut bytes)
            .map(|()| bytes)
    }
}

/// Why the page of a mapped address is absent.
pub(crate) fn page_absent(
    va: u64,
    pa: u64,
    reason: fn(PhysAddr) -> PageReadError,
) -> TranslationError {
    let page = PhysAddr(pa / 4096 * 4096);
    TranslationError::PageAbsent {
        va: VirtAddr(va),
        pa: PhysAddr(pa),
        reason: reason(page),
    }
}

pub(crate) fn not_ram(pa: PhysAddr) -> PageReadError {
    PageReadError::NotRam { pa }
}

pub(crate) fn not_dumped(pa: PhysAddr) -> PageReadError {
    PageReadError::NotDumped { pa }
}

/// Where the byte at a physical address lies.
pub(crate) fn locate(dump: &Dump, pa: u64) -> Result<u64, PageReadError> {
    dump.memory()
        .locate(PhysAddr(pa))
        .map(|FileOffset(offset)| offset)
}
