//! Selection: which pages are dumped.
//!
//! The live map is copied once; the descent through the kernel's page tables adds every page that is
//! mapped, and in versions that keep them as pages the page tables themselves; then every page goes
//! out that is not dumpable. Everything later uses this copy, so that nothing can grow or vanish
//! while the dump is written.

use crate::arch::{KernelPaging, MinidumpFormat};
use crate::bits;
use crate::damage::DamageList;
use crate::error::DumpError;
use crate::machine::{Kernel, Machine, Window};
use crate::map::DumpMap;
use core::ops::ControlFlow;
use vmcore_format::addr::{PhysAddr, VirtAddr};
use vmcore_format::dump_avail::Numbering;
use vmcore_format::endian::{Endian, Width};
use vmcore_format::extension::DamageKind;
use vmcore_format::paging::{
    Budget, Leaf, Paging, TableRef, Tables, Visitor, WalkError, visit_range,
};

/// How often the console and the watchdog get their turn: once for so many tables, or words of the
/// map.
const TABLES_PER_TURN: u64 = 256;
const WORDS_PER_TURN: usize = 1 << 14;
/// The most parts of an address space.
const MAX_WINDOWS: u32 = 64;

/// What was selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Pages in the private map.
    pub(crate) set_bits: u64,
    /// The page tables say nothing about this kernel: nothing is mapped, or they are cyclic.
    pub(crate) tables_useless: bool,
}

/// Why a table cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableFault {
    /// It is not RAM: it is not touched.
    NotRam,
    /// Its memory cannot be read.
    Unreadable,
}

impl TableFault {
    pub(crate) const fn damage_kind(self) -> DamageKind {
        match self {
            Self::NotRam => DamageKind::TableNotRam,
            Self::Unreadable => DamageKind::TableUnreadable,
        }
    }
}

/// The machine's memory as the place of page tables. Nothing outside RAM is read.
pub(crate) struct MachineTables<'m, M> {
    pub(crate) machine: &'m M,
    pub(crate) numbering: Numbering<'m>,
}

impl<M: Machine> MachineTables<'_, M> {
    /// Copies part of a table, if all of it is RAM.
    pub(crate) fn copy(
        &self,
        table: TableRef,
        offset: u64,
        to: &mut [u8],
    ) -> Result<(), TableFault> {
        let TableRef::At(pa) = table else {
            return Err(TableFault::NotRam);
        };
        let page_size = M::Paging::PAGE_SIZE;
        let first = pa.checked_add(offset).ok_or(TableFault::NotRam)?;
        let last = first.checked_add((to.len() as u64).saturating_sub(1));
        for pa in [Some(first), last] {
            let pfn = page_size.pfn(pa.ok_or(TableFault::NotRam)?);
            self.numbering.bit_of(pfn).ok_or(TableFault::NotRam)?;
        }
        self.machine
            .copy(first, to)
            .map_err(|_| TableFault::Unreadable)
    }
}

impl<M: Machine> Tables for MachineTables<'_, M> {
    type Error = TableFault;

    fn endian(&self) -> Endian {
        <M::Paging as KernelPaging>::ENDIAN
    }

    fn entry(&self, table: TableRef, index: u64, width: Width) -> Result<u64, TableFault> {
        let mut raw = [0; 8];
        let len = usize::try_from(width.bytes()).unwrap_or(8).min(8);
        let offset = index.checked_mul(width.bytes()).ok_or(TableFault::NotRam)?;
        self.copy(table, offset, raw.get_mut(..len).unwrap_or_default())?;
        width
            .item(self.endian(), &raw, 0)
            .ok_or(TableFault::Unreadable)
    }

    fn load<'b>(
        &'b self,
        table: TableRef,
        first: u64,
        count: u64,
        width: Width,
        buf: &'b mut [u8],
    ) -> Result<&'b [u8], TableFault> {
        let offset = first.checked_mul(width.bytes()).ok_or(TableFault::NotRam)?;
        let len = count
            .checked_mul(width.bytes())
            .and_then(|len| usize::try_from(len).ok());
        let to = len
            .and_then(|len| buf.get_mut(..len))
            .ok_or(TableFault::Unreadable)?;
        self.copy(table, offset, to)?;
        Ok(to)
    }
}

/// Puts into the map what the descent finds.
struct Marker<'s, M> {
    machine: &'s M,
    numbering: Numbering<'s>,
    bits: &'s mut [u64],
    damage: &'s mut DamageList,
    section_level: u32,
    leaves: u64,
    tables: u64,
    aborted: bool,
}

impl<M: Machine> Visitor<TableFault> for Marker<'_, M> {
    fn leaf(&mut self, _: VirtAddr, leaf: Leaf) -> ControlFlow<()> {
        let page_size = M::Paging::PAGE_SIZE;
        let pages = leaf.len_bytes() >> page_size.shift();
        bits::set_pages(self.bits, &self.numbering, page_size.pfn(leaf.pa), pages);
        self.leaves += 1;
        ControlFlow::Continue(())
    }

    fn table(&mut self, pa: PhysAddr, level: u32) -> ControlFlow<()> {
        if level < self.section_level {
            bits::set_pages(self.bits, &self.numbering, M::Paging::PAGE_SIZE.pfn(pa), 1);
        }
        self.tables += 1;
        if self.tables.is_multiple_of(TABLES_PER_TURN) {
            self.machine.pat_watchdog();
            self.aborted = self.machine.poll_abort();
        }
        if self.aborted {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn unreadable(&mut self, va: VirtAddr, error: WalkError<TableFault>) -> ControlFlow<()> {
        if let WalkError::Table {
            level,
            table: TableRef::At(pa),
            source,
        } = error
        {
            self.damage.add_table(source.damage_kind(), level, va, pa);
        }
        ControlFlow::Continue(())
    }
}

/// The most tables that an undamaged kernel can have below its root: each is a page of RAM, and each
/// covers a part of the kernel map.
fn table_budget<P: Paging>(kernel: &Kernel, ram_pages: u64) -> u64 {
    let span = kernel.kernend.0.saturating_sub(kernel.kernbase.0);
    let by_span = (1..=kernel.radix.level).fold(0u64, |sum, level| {
        sum.saturating_add((span >> P::shift(level)).saturating_add(2))
    });
    by_span.min(ram_pages)
}

/// Fills the private map.
#[inline(never)]
pub(crate) fn select<M: Machine>(
    machine: &M,
    map: &DumpMap<'_>,
    format: MinidumpFormat,
    private: &mut [u64],
    table_buf: &mut [u8],
    damage: &mut DamageList,
) -> Result<Selection, DumpError> {
    let kernel = machine.kernel();
    let numbering = map.numbering();
    map.snapshot(private);
    let tables = MachineTables { machine, numbering };
    let is_walked = machine.window(0).is_some();
    let mut budget = Budget {
        table_loads: match is_walked {
            true => numbering.total_pages(),
            false => table_budget::<M::Paging>(&kernel, numbering.total_pages()),
        },
    };
    let mut marker = Marker {
        machine,
        numbering,
        bits: private,
        damage,
        // Whoever walks from the root needs the root.
        section_level: match is_walked {
            true => kernel.radix.level.saturating_add(1),
            false => format.section_level,
        },
        leaves: 0,
        tables: 0,
        aborted: false,
    };
    let whole = Window {
        first: kernel.kernbase,
        last: VirtAddr(kernel.kernend.0.saturating_sub(1)),
    };
    if let (true, TableRef::At(root)) = (is_walked, kernel.radix.top) {
        let _ = marker.table(root, kernel.radix.level);
    }
    let mut flow = ControlFlow::Continue(());
    for index in 0..MAX_WINDOWS {
        let window = match machine.window(index) {
            Some(window) => window,
            None if index == 0 => whole,
            None => break,
        };
        flow = visit_range::<M::Paging, _>(
            &kernel.radix,
            &tables,
            (window.first, window.last),
            table_buf,
            &mut budget,
            &mut marker,
        );
        if flow.is_break() {
            break;
        }
    }
    if marker.aborted {
        return Err(DumpError::Aborted);
    }
    let exhausted = flow.is_break();
    let tables_useless = exhausted || marker.leaves == 0;
    if exhausted {
        let root = match kernel.radix.top {
            TableRef::At(pa) => pa,
            TableRef::Section => PhysAddr(0),
        };
        damage.add_table(
            DamageKind::TooManyTables,
            kernel.radix.level,
            kernel.kernbase,
            root,
        );
    }
    let set_bits = drop_undumpable(machine, &numbering, private)?;
    Ok(Selection {
        set_bits,
        tables_useless,
    })
}

/// Takes every page out that is not dumpable, and counts the others.
fn drop_undumpable<M: Machine>(
    machine: &M,
    numbering: &Numbering<'_>,
    private: &mut [u64],
) -> Result<u64, DumpError> {
    let mut set_bits = 0u64;
    for (index, word) in private.iter_mut().enumerate() {
        if index % WORDS_PER_TURN == 0 {
            machine.pat_watchdog();
            if machine.poll_abort() {
                return Err(DumpError::Aborted);
            }
        }
        let mut left = *word;
        while left != 0 {
            let low = left.trailing_zeros();
            left &= left - 1;
            let bit = index as u64 * 64 + u64::from(low);
            if !numbering
                .pfn_of(bit)
                .is_some_and(|pfn| machine.dumpable(pfn))
            {
                *word &= !(1 << low);
            }
        }
        set_bits += u64::from(word.count_ones());
    }
    Ok(set_bits)
}
