//! Which item of the zone allocator an address is in: its zone, its slab, whether it is in use.
//!
//! A slab is found as the kernel finds it: some kegs have its address noted in the `struct vm_page`
//! of each of its pages, some keep its header at a fixed place of the page itself, some have a
//! table. Nothing is believed before it is checked: a zone must be in the kernel's list of them, a
//! header must stand in its keg's lists. Needs types. Source: `sys/vm/uma_int.h`, `sys/vm/vm_page.h`.
//!
//! ```no_run
//! use vmcore::format::addr::VirtAddr;
//! use vmcore_debug::{Target, zones};
//! # fn show(target: &Target<'_>) {
//! if let Ok(Some(found)) = zones::find(target, VirtAddr(0xffff_f800_02f1_3528)) {
//!     println!("{found:?}");
//! }
//! # }
//! ```

mod caches;
mod pages;

use crate::fields::Field;
use crate::lists::{Keg, Lists};
use crate::target::Target;
use crate::types::Tag;
use caches::Caches;
use pages::Pages;
use serde::Serialize;
use std::cell::Cell;
use std::fmt;
use vmcore_format::addr::VirtAddr;

/// Longest name of a zone or of a type of `malloc`.
const NAME_MAX: usize = 64;
/// The most slabs that are looked at in lists and tables, and the most items in caches.
const MAX_STEPS: usize = 1 << 19;
/// The most items of a slab: each has a bit.
const MAX_ITEMS: u64 = 1 << 16;
/// Zones of `malloc` are called so, with their size.
const MALLOC_ZONE: &str = "malloc-";

/// What is known of an address in the allocator's memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Allocation {
    /// In a slab.
    Slab {
        /// The zones that share the slab; mostly one.
        zones: Vec<String>,
        /// Address of its `struct uma_slab`.
        slab: VirtAddr,
        /// The item; nothing between and behind the items.
        #[serde(skip_serializing_if = "Option::is_none")]
        item: Option<Item>,
    },
    /// In memory of `malloc` that is too large for its zones.
    Large {
        /// Bytes that were asked for, rounded up to pages.
        bytes: u64,
    },
}

/// An item of a slab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Its address.
    pub address: VirtAddr,
    /// Bytes from its start.
    pub offset: u64,
    /// Bytes that it has.
    pub bytes: u64,
    /// Whether it is in use.
    pub state: State,
    /// A freed item of `malloc`: the type that it was freed as, which kernels with `INVARIANTS` note
    /// in its last word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freed_as: Option<String>,
}

/// Whether an item is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Free in its slab.
    Free,
    /// Free, and kept at hand by a CPU or a zone.
    Cached,
    /// In use.
    InUse,
    /// Not free in its slab; the caches, where it may still be free, cannot be read.
    Taken,
}

/// Why nothing could be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// The kernel file has no types.
    NoTypes,
    /// It has, but no zones of this kind.
    NoZones,
}

/// Looks for the item that an address is in; `None` if no slab has it.
///
/// # Errors
/// Returns an error if the kernel's zones cannot be told at all.
pub fn find(target: &Target<'_>, address: VirtAddr) -> Result<Option<Allocation>, Unknown> {
    let zones = Zones::of(target).ok_or(if target.types.is_empty() {
        Unknown::NoTypes
    } else {
        Unknown::NoZones
    })?;
    Ok(zones.find(address))
}

/// Where the allocator keeps what it knows.
struct Zones<'a, 't> {
    target: &'a Target<'t>,
    kegs: Vec<Keg>,
    pages: Option<Pages<'a, 't>>,
    page_bytes: u64,
    /// Bytes of a keg, with the heads of its lists.
    keg_len: u64,
    fields: Fields,
    budget: Budget,
}

/// How much more may be read: a dump decides how long lists are.
struct Budget(Cell<usize>);

impl Budget {
    fn spend(&self) -> Option<()> {
        self.0.set(self.0.get().checked_sub(1)?);
        Some(())
    }
}

/// Members of the allocator's structures.
struct Fields {
    item_bytes: Field,
    step: Field,
    items: Field,
    slab_pages: Option<Field>,
    header_at: Field,
    table: Option<Field>,
    table_mask: Option<Field>,
    name: Option<Field>,
    link_back: Field,
    /// The link of a slab, which is what others point back at.
    link_at: u64,
    free_bits: u64,
    /// The first item, where the header is elsewhere: in the header, before FreeBSD 13.
    data: Option<Field>,
    /// Since then, in a structure around the header.
    outer: Option<Outer>,
}

/// A slab in a keg's table.
struct Outer {
    next: Field,
    data: Field,
    header: u64,
}

/// A slab.
struct Slab<'k> {
    header: VirtAddr,
    data: VirtAddr,
    keg: &'k Keg,
    zone: Option<VirtAddr>,
}

impl<'a, 't> Zones<'a, 't> {
    fn of(target: &'a Target<'t>) -> Option<Self> {
        let fields = Fields::of(target)?;
        let kegs = Lists::of(target).kegs(&mut Vec::new());
        (!kegs.is_empty()).then(|| Self {
            target,
            kegs,
            pages: Pages::of(target),
            page_bytes: target.session.dump().memory().page_size().bytes(),
            keg_len: keg_len(target),
            fields,
            budget: Budget(Cell::new(MAX_STEPS)),
        })
    }

    fn find(&self, address: VirtAddr) -> Option<Allocation> {
        if let Some(noted) = self.pages.as_ref().and_then(|pages| pages.noted(address)) {
            if let Some(bytes) = noted.large_bytes(self.page_bytes) {
                return Some(Allocation::Large { bytes });
            }
            if let Some(slab) = self.noted_slab(noted.slab, noted.zone, address) {
                return Some(self.describe(&slab, address));
            }
        }
        let page = VirtAddr(address.0 & !(self.page_bytes - 1));
        let in_page = self
            .kegs
            .iter()
            .find_map(|keg| self.slab_in_page(keg, page));
        let slab = in_page.or_else(|| {
            let mut kegs = self.kegs.iter();
            kegs.find_map(|keg| self.slab_in_table(keg, page))
        })?;
        Some(self.describe(&slab, address))
    }

    fn value(&self, at: VirtAddr, field: Field) -> Option<u64> {
        self.target.value(at, Some(field))
    }

    /// Bytes of a keg's slabs.
    fn slab_bytes(&self, keg: &Keg) -> u64 {
        let pages = self.target.value(keg.address, self.fields.slab_pages);
        pages.unwrap_or(1).clamp(1, MAX_ITEMS) * self.page_bytes
    }

    /// The slab that a page's description names, if it is one of a known zone's.
    fn noted_slab(
        &self,
        header: VirtAddr,
        zone: Option<VirtAddr>,
        at: VirtAddr,
    ) -> Option<Slab<'_>> {
        let keg = match zone {
            Some(zone) => self.kegs.iter().find(|keg| keg.zones.contains(&zone))?,
            None => self.keg_of(header)?,
        };
        let bytes = self.slab_bytes(keg);
        let data = self.data_of(keg, header)?;
        (at >= data && at.0 - data.0 < bytes).then_some(Slab {
            header,
            data,
            keg,
            zone,
        })
    }

    /// Where the items of a slab begin.
    fn data_of(&self, keg: &Keg, header: VirtAddr) -> Option<VirtAddr> {
        if let Some(data) = self.fields.data {
            return self.value(header, data).map(VirtAddr);
        }
        // The header stands in the slab itself, or in a structure that says where the slab is.
        match self.value(keg.address, self.fields.header_at)? {
            0 => {
                let outer = self.fields.outer.as_ref()?;
                let at = VirtAddr(header.0.wrapping_sub(outer.header));
                self.value(at, outer.data).map(VirtAddr)
            }
            inside => Some(VirtAddr(header.0.wrapping_sub(inside))),
        }
    }

    /// The slab whose header stands in this page, if the keg keeps it there.
    fn slab_in_page<'k>(&self, keg: &'k Keg, page: VirtAddr) -> Option<Slab<'k>> {
        let header_at = self.value(keg.address, self.fields.header_at)?;
        if header_at == 0 || header_at >= self.page_bytes {
            return None;
        }
        let header = VirtAddr(page.0.checked_add(header_at)?);
        (self.keg_of(header)?.address == keg.address).then_some(Slab {
            header,
            data: page,
            keg,
            zone: None,
        })
    }

    /// The slab that a keg's table has for a page.
    fn slab_in_table<'k>(&self, keg: &'k Keg, page: VirtAddr) -> Option<Slab<'k>> {
        let outer = self.fields.outer.as_ref()?;
        let table = self.target.pointer(keg.address, self.fields.table)?;
        let mask = self.target.value(keg.address, self.fields.table_mask)?;
        let bytes = self.slab_bytes(keg);
        // A slab of several pages is in the table by its first one.
        for first in
            (0..bytes / self.page_bytes).map(|back| page.0.wrapping_sub(back * self.page_bytes))
        {
            let slot =
                ((first / self.page_bytes) & mask).wrapping_mul(self.target.space.word().bytes());
            self.budget.spend()?;
            let mut at = self
                .target
                .space
                .read_pointer(VirtAddr(table.0.wrapping_add(slot)))
                .ok()?;
            while at.0 != 0 {
                self.budget.spend()?;
                if self.value(at, outer.data) == Some(first) {
                    let header = VirtAddr(at.0.wrapping_add(outer.header));
                    return Some(Slab {
                        header,
                        data: VirtAddr(first),
                        keg,
                        zone: None,
                    });
                }
                at = VirtAddr(self.value(at, outer.next)?);
            }
        }
        None
    }

    /// The keg in whose lists a header stands: each slab points back at the link that leads to it,
    /// the first one at the head of the list, which is a part of the keg.
    fn keg_of(&self, header: VirtAddr) -> Option<&Keg> {
        let mut at = header;
        loop {
            self.budget.spend()?;
            let link = VirtAddr(self.value(at, self.fields.link_back)?);
            if self.target.space.read_pointer(link).ok()? != at {
                return None;
            }
            if let Some(keg) = self.keg_around(link) {
                return Some(keg);
            }
            at = VirtAddr(link.0.wrapping_sub(self.fields.link_at));
        }
    }

    /// The keg that an address is a part of; the heads of its lists may stand behind its last
    /// member, one set for each domain of memory.
    fn keg_around(&self, at: VirtAddr) -> Option<&Keg> {
        let near = self.kegs.iter().filter(|keg| keg.address <= at);
        let keg = near.max_by_key(|keg| keg.address)?;
        (at.0 - keg.address.0 < self.keg_len).then_some(keg)
    }

    fn describe(&self, slab: &Slab<'_>, address: VirtAddr) -> Allocation {
        let zones = match slab.zone {
            Some(zone) => vec![self.name(zone)],
            None => slab.keg.zones.iter().map(|zone| self.name(*zone)).collect(),
        };
        Allocation::Slab {
            item: self.item(slab, &zones, address),
            zones,
            slab: slab.header,
        }
    }

    fn name(&self, zone: VirtAddr) -> String {
        let name = self.target.string(zone, self.fields.name, NAME_MAX);
        name.unwrap_or_default()
    }

    fn item(&self, slab: &Slab<'_>, zones: &[String], address: VirtAddr) -> Option<Item> {
        let keg = slab.keg.address;
        let step = self.value(keg, self.fields.step).filter(|step| *step > 0)?;
        let items = self.value(keg, self.fields.items)?.min(MAX_ITEMS);
        let inside = address.checked_sub(slab.data)?;
        let index = inside / step;
        if index >= items {
            return None;
        }
        let item = VirtAddr(slab.data.0.wrapping_add(index * step));
        let bytes = self.value(keg, self.fields.item_bytes)?;
        let state = self.state(slab, index, item)?;
        let is_malloc = zones.iter().any(|zone| zone.starts_with(MALLOC_ZONE));
        let is_free = matches!(state, State::Free | State::Cached);
        Some(Item {
            address: item,
            offset: address.0 - item.0,
            bytes,
            state,
            freed_as: (is_malloc && is_free)
                .then(|| self.freed_as(item, bytes))
                .flatten(),
        })
    }

    fn state(&self, slab: &Slab<'_>, index: u64, item: VirtAddr) -> Option<State> {
        let word = self.target.space.word().bytes();
        let bits = slab.header.0.wrapping_add(self.fields.free_bits);
        let at = VirtAddr(bits.wrapping_add(index / (8 * word) * word));
        let free = self.target.space.read_word(at).ok()?;
        if free >> (index % (8 * word)) & 1 == 1 {
            return Some(State::Free);
        }
        let caches = Caches::of(self.target);
        let have = |caches: &Caches<'_, '_>| {
            let mut zones = slab.keg.zones.iter();
            zones.any(|zone| caches.have(*zone, item, &self.budget))
        };
        let found = caches.as_ref().map(have);
        Some(match found {
            Some(true) => State::Cached,
            Some(false) => State::InUse,
            None => State::Taken,
        })
    }

    /// The name of the type of `malloc` that the last word of a freed item leads to, if it is one.
    fn freed_as(&self, item: VirtAddr, bytes: u64) -> Option<String> {
        let word = self.target.space.word().bytes();
        let last = item.0.checked_add(bytes.checked_sub(word)?)?;
        let noted = self.target.space.read_pointer(VirtAddr(last)).ok()?;
        let head = self.target.symbols.find("kmemstatistics")?.address;
        let link = self.target.field("malloc_type", "ks_next");
        let mut is_known = false;
        Lists::of(self.target).follow("", head, link, &mut Vec::new(), |kind, _| {
            is_known |= kind == noted;
        });
        let name = self.target.field("malloc_type", "ks_shortdesc");
        is_known.then(|| self.target.string(noted, name, NAME_MAX))?
    }
}

impl Fields {
    fn of(target: &Target<'_>) -> Option<Self> {
        let keg = |member: &str| target.field("uma_keg", member);
        let slab = |member: &str| target.field("uma_slab", member);
        let outer = || {
            Some(Outer {
                next: target.field("uma_hash_slab", "uhs_hlink.le_next")?,
                data: target.field("uma_hash_slab", "uhs_data")?,
                header: target.types.offset_of("uma_hash_slab", "uhs_slab")?,
            })
        };
        let link = |next: &str| {
            slab(&format!("us_link.{next}")).or_else(|| slab(&format!("us_type._us_link.{next}")))
        };
        Some(Self {
            item_bytes: keg("uk_size")?,
            step: keg("uk_rsize")?,
            items: keg("uk_ipers")?,
            slab_pages: keg("uk_ppera"),
            header_at: keg("uk_pgoff")?,
            table: keg("uk_hash.uh_slab_hash"),
            table_mask: keg("uk_hash.uh_hashmask"),
            name: target.field("uma_zone", "uz_name"),
            link_back: link("le_prev")?,
            link_at: link("le_next")?.offset,
            free_bits: target.types.offset_of("uma_slab", "us_free")?,
            data: slab("us_data"),
            outer: outer(),
        })
    }
}

fn keg_len(target: &Target<'_>) -> u64 {
    let types = &target.types;
    let size = |name: &str| types.size_of(&types.find(Tag::Struct, name)?).ok();
    let with_domains = || {
        let first = types.offset_of("uma_keg", "uk_domain")?;
        let domains = caches::domains(target).checked_mul(size("uma_domain")?)?;
        first.checked_add(domains)
    };
    with_domains().or_else(|| size("uma_keg")).unwrap_or(0)
}

impl fmt::Display for Allocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (zones, slab, item) = match self {
            Self::Large { bytes } => {
                return write!(f, "malloc'd, {bytes} bytes in its own pages");
            }
            Self::Slab { zones, slab, item } => (zones, slab, item),
        };
        let word = if zones.len() == 1 { "zone" } else { "zones" };
        write!(f, "{word} {}", zones.join(" and "))?;
        match item {
            None => write!(f, ", in no item")?,
            Some(item) => {
                let (address, offset, bytes) = (item.address, item.offset, item.bytes);
                write!(
                    f,
                    ", item {address}+{offset:#x} of {bytes} bytes, {}",
                    item.state
                )?;
                if let Some(kind) = &item.freed_as {
                    write!(f, ", freed as malloc type {kind}")?;
                }
            }
        }
        write!(f, ", slab {slab}")
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Free => "free",
            Self::Cached => "free (cached)",
            Self::InUse => "in use",
            Self::Taken => "in use, or cached: the caches cannot be read",
        })
    }
}
