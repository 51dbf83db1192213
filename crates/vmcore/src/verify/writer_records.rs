//! What the writer told of the crash: who it is, registers, and damage in the kernel.

use super::{Check, Verdict};
use crate::dump::Dump;
use crate::text::counted;
use serde::Serialize;
use vmcore_format::addr::{PhysAddr, VirtAddr};
use vmcore_format::extension::{CpuState, DamageKind};
use vmcore_format::identity::Origin;
use vmcore_format::registers;

/// The most entries of a damage list that are shown: writers have room for fewer.
const DAMAGE_SHOWN: usize = 64;
/// The most CPUs that are named.
const CPUS_NAMED: usize = 8;

/// Something that the writer could not read in the kernel, or found damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DamageEntry {
    /// What: `table_not_ram`, `table_unreadable`, `too_many_tables`, `page_unreadable`,
    /// `message_buffer`, `other`.
    pub kind: &'static str,
    /// Level of the page table's entries, counted from the bottom; 0 for pages.
    pub level: u32,
    /// From where on mappings are missing; absent for pages.
    pub va: Option<VirtAddr>,
    /// The page-table page, or the first page.
    pub pa: PhysAddr,
    /// Pages in a row.
    pub pages: u64,
}

/// The damage list of the extension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DamageList {
    /// How often there was damage; the entries may tell of less.
    pub found: u64,
    /// What it was, in the order in which it was met.
    pub entries: Vec<DamageEntry>,
}

/// The damage list of a dump that has one.
pub(super) fn damage_list(dump: &Dump) -> Option<DamageList> {
    let (found, entries) = dump.extension()?.damage()?;
    let entries = entries.take(DAMAGE_SHOWN).map(|damage| {
        let (kind, is_table) = match damage.kind {
            DamageKind::TableNotRam => ("table_not_ram", true),
            DamageKind::TableUnreadable => ("table_unreadable", true),
            DamageKind::TooManyTables => ("too_many_tables", true),
            DamageKind::PageUnreadable => ("page_unreadable", false),
            DamageKind::MessageBuffer => ("message_buffer", false),
            DamageKind::Other(_) => ("other", damage.va.0 != 0),
        };
        DamageEntry {
            kind,
            level: damage.level,
            va: is_table.then_some(damage.va),
            pa: damage.pa,
            pages: damage.count,
        }
    });
    Some(DamageList {
        found,
        entries: entries.collect(),
    })
}

/// The damage list: damage in the kernel is a warning, but the dump is what the writer made of it.
pub(super) fn damage(list: Option<&DamageList>) -> Vec<Check> {
    const NAME: &str = "damage list";
    let Some(list) = list else {
        return Vec::new();
    };
    if list.found == 0 && list.entries.is_empty() {
        let detail = "the writer met no damage in the kernel";
        return vec![Check::new(NAME, Verdict::Sound, detail)];
    }
    let found = list.found;
    let mut checks = vec![Check::new(
        NAME,
        Verdict::Warning,
        format!(
            "the writer met damage in the kernel {}; {} it",
            counted(found, "time", "times"),
            counted(
                list.entries.len() as u64,
                "entry describes",
                "entries describe"
            )
        ),
    )];
    let entries = list.entries.iter();
    checks.extend(entries.map(|entry| Check::new(NAME, Verdict::Warning, words(entry))));
    checks
}

fn words(entry: &DamageEntry) -> String {
    let DamageEntry {
        kind,
        level,
        va,
        pa,
        pages,
    } = *entry;
    let pages = counted(pages, "page", "pages");
    let what = match kind {
        "table_not_ram" => format!("the page-table page {pa} is not RAM"),
        "table_unreadable" => format!("the page-table page {pa} could not be read"),
        "too_many_tables" => {
            format!("page-table pages are more than the machine can have, at {pa}")
        }
        "page_unreadable" => format!("{pages} from {pa} on could not be read: zeros"),
        "message_buffer" => {
            format!("{pages} of the message buffer from {pa} on could not be read: zeros")
        }
        _ => format!("{pages} from {pa} on, in a way of a later version"),
    };
    match va {
        Some(va) => format!("{what}; mappings from {va} on are missing (level {level})"),
        None => what,
    }
}

/// The identity block, and its copy in the extension.
pub(super) fn identity(dump: &Dump) -> Option<Check> {
    const NAME: &str = "identity";
    let identity = dump.identity()?;
    let id = u128::from_be_bytes(identity.dump_id);
    let copy = dump.extension().and_then(|extension| extension.identity());
    Some(match copy {
        Some(copy) if copy != identity => Check::new(
            NAME,
            Verdict::Bad,
            format!("dump {id:032x}, but the copy in the extension says something else"),
        ),
        _ => Check::new(NAME, Verdict::Sound, format!("dump {id:032x}")),
    })
}

/// The registers of the CPUs.
pub(super) fn registers(dump: &Dump) -> Option<Check> {
    const NAME: &str = "registers";
    let (layout, cpus) = dump.extension()?.cpus()?;
    let check = |verdict, detail: String| Some(Check::new(NAME, verdict, detail));
    let arch = registers::layout_arch(layout);
    if arch != Some(dump.arch()) {
        let whose = arch.map_or_else(|| format!("layout {layout}"), |arch| arch.to_string());
        let detail = format!("they are those of {whose}, the dump is of {}", dump.arch());
        return check(Verdict::Bad, detail);
    }
    let wanted = registers::names(dump.arch()).len();
    let (mut count, mut dumping, mut short) = (0u64, None, 0u64);
    let (mut running, mut ran) = (0u64, Vec::new());
    for cpu in cpus {
        count += 1;
        match cpu.state {
            CpuState::Running => {
                running += 1;
                if ran.len() < CPUS_NAMED {
                    ran.push(cpu.cpu.to_string());
                }
                continue;
            }
            CpuState::Dumping => dumping = Some(cpu.cpu),
            CpuState::Stopped | CpuState::Other(_) => {}
        }
        short += u64::from(cpu.registers().count() < wanted);
    }
    if short > 0 {
        let detail = format!(
            "{short} of {} with fewer than {wanted} registers",
            counted(count, "CPU", "CPUs")
        );
        return check(Verdict::Bad, detail);
    }
    // What was made of a hypervisor's memory file, no CPU wrote.
    let by_kernel = dump
        .identity()
        .is_none_or(|identity| identity.origin == Origin::Kernel);
    let count = counted(count, "CPU", "CPUs");
    let detail = match dumping {
        Some(dumping) => format!("{count}, CPU {dumping} wrote the dump"),
        None if by_kernel => {
            let detail = format!("{count}, none of which is said to have written the dump");
            return check(Verdict::Bad, detail);
        }
        None => format!("{count} CPUs; the dump was made of another file"),
    };
    if running == 0 {
        return check(Verdict::Sound, detail);
    }
    let more = if running > ran.len() as u64 {
        ", …"
    } else {
        ""
    };
    check(
        Verdict::Warning,
        format!(
            "{detail}; {running} did not stop, and may have changed memory meanwhile: CPU {}{more}",
            ran.join(", ")
        ),
    )
}
