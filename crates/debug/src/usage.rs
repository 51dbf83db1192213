//! Who has the kernel's memory: the zones of its allocator, and the types of `malloc`.
//!
//! What `vmstat -z` and `vmstat -m` show of a running kernel. Counters are spread over the CPUs, and
//! where they stand has changed with the releases; the types tell. Needs types.
//!
//! ```no_run
//! use vmcore_debug::{Target, usage};
//! # fn show(target: &Target<'_>) {
//! for zone in usage::of(target).zones.iter().take(5) {
//!     println!("{}: {} items of {} bytes", zone.name, zone.in_use, zone.item_bytes);
//! }
//! # }
//! ```

use crate::fields::Field;
use crate::lists::Lists;
use crate::target::Target;
use crate::types::{Tag, TypeKind};
use serde::Serialize;
use vmcore_format::addr::VirtAddr;

/// Longest name of a zone or type.
const NAME_MAX: usize = 64;
/// As many CPUs as kernels are built for.
const MAX_CPUS: u64 = 1024;
/// From one CPU's copy of a counter to the next one's.
const COUNTER_STRIDE: u64 = 4096;

/// Who has the kernel's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// The zones, the largest first.
    pub zones: Vec<Zone>,
    /// The types of `malloc`, the largest first.
    pub malloc: Vec<MallocType>,
    /// What could not be read, text: each costs the rest of one list.
    pub problems: Vec<String>,
}

/// A zone of the allocator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Zone {
    /// Its name.
    pub name: String,
    /// Bytes of an item.
    pub item_bytes: u64,
    /// Items that were given out and not given back.
    pub in_use: u64,
    /// Items that were ever given out.
    pub requests: u64,
    /// Bytes of the items in use.
    pub bytes: u64,
}

/// A type of `malloc`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MallocType {
    /// Its name.
    pub name: String,
    /// Pieces that were given out and not given back.
    pub in_use: u64,
    /// Pieces that were ever given out.
    pub requests: u64,
    /// Bytes of the pieces in use.
    pub bytes: u64,
}

impl Usage {
    /// Whether nothing is known.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.zones.is_empty() && self.malloc.is_empty()
    }
}

/// Reads zones and types of memory; what types or dump lack is left out.
#[must_use]
pub fn of(target: &Target<'_>) -> Usage {
    let reader = Reader {
        target,
        counters: counter_base(target),
        cpus: cpus(target),
        lists: Lists::of(target),
    };
    let mut usage = Usage::default();
    usage.zones = reader.zones(&mut usage.problems);
    if let Some(head) = target.symbols.find("kmemstatistics") {
        usage.malloc = reader.malloc_types(head.address, &mut usage.problems);
    }
    usage
        .zones
        .sort_by_key(|zone| (std::cmp::Reverse(zone.bytes), zone.name.clone()));
    usage
        .malloc
        .sort_by_key(|kind| (std::cmp::Reverse(kind.bytes), kind.name.clone()));
    usage
}

/// What pointers to counters count from. The variable that says it was an array before.
fn counter_base(target: &Target<'_>) -> u64 {
    let variable = target.machine().counter_base;
    variable
        .and_then(|name| target.symbols.find(name))
        .filter(|variable| variable.size == target.space.word().bytes())
        .and_then(|variable| target.space.read_word(variable.address).ok())
        .unwrap_or(0)
}

/// The numbers of the CPUs that there are.
pub(crate) fn cpus(target: &Target<'_>) -> Vec<u64> {
    let max = target
        .symbols
        .find("mp_maxid")
        .and_then(|symbol| target.space.read_i32(symbol.address).ok())
        .and_then(|max| u64::try_from(max).ok())
        .unwrap_or(0)
        .min(MAX_CPUS);
    let word = target.space.word().bytes();
    let table = target.symbols.find("cpuid_to_pcpu");
    let is_there = |cpu: &u64| {
        let slot = table.map(|table| VirtAddr(table.address.0.wrapping_add(cpu * word)));
        // Without the table, all are.
        slot.is_none_or(|slot| target.space.read_word(slot).is_ok_and(|pcpu| pcpu != 0))
    };
    (0..=max).filter(is_there).collect()
}

/// Sums of what was given out and what was given back.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    out: u64,
    back: u64,
}

impl Sums {
    fn add(&mut self, out: u64, back: u64) {
        self.out = self.out.wrapping_add(out);
        self.back = self.back.wrapping_add(back);
    }

    /// A CPU may have given back more than it gave out, all of them together not; counters that were
    /// caught half changed say nothing.
    const fn in_use(self) -> u64 {
        self.out.saturating_sub(self.back)
    }
}

struct Reader<'a, 't> {
    target: &'a Target<'t>,
    counters: u64,
    cpus: Vec<u64>,
    lists: Lists<'a, 't>,
}

impl Reader<'_, '_> {
    /// Where a CPU's copy of something is that every CPU has, by the kernel's pointer to it.
    fn of_cpu(&self, pointer: VirtAddr, cpu: u64) -> VirtAddr {
        let base = pointer.0.wrapping_add(self.counters);
        VirtAddr(base.wrapping_add(cpu * COUNTER_STRIDE))
    }

    fn zones(&self, problems: &mut Vec<String>) -> Vec<Zone> {
        let size = self.target.field("uma_keg", "uk_size");
        let counts = ZoneCounts::of(self.target);
        let mut zones = Vec::new();
        for keg in self.lists.kegs(problems) {
            let item_bytes = self.target.value(keg.address, size).unwrap_or(0);
            for zone in keg.zones {
                let sums = counts.sums(self, zone);
                zones.push(Zone {
                    name: counts.name(self, zone),
                    item_bytes,
                    in_use: sums.in_use(),
                    requests: sums.out,
                    bytes: sums.in_use().saturating_mul(item_bytes),
                });
            }
        }
        zones
    }

    fn malloc_types(&self, head: VirtAddr, problems: &mut Vec<String>) -> Vec<MallocType> {
        let field = |structure: &str, path: &str| self.target.field(structure, path);
        let link = field("malloc_type", "ks_next");
        let name = field("malloc_type", "ks_shortdesc");
        let Some(places) = StatsPlace::of(self.target) else {
            return Vec::new();
        };
        let [out_bytes, back_bytes, out, back] = [
            "mts_memalloced",
            "mts_memfreed",
            "mts_numallocs",
            "mts_numfrees",
        ]
        .map(|member| field("malloc_type_stats", member));
        let mut found = Vec::new();
        let lists = &self.lists;
        lists.follow("kmemstatistics", head, link, problems, |kind, _| {
            let (mut bytes, mut pieces) = (Sums::default(), Sums::default());
            for cpu in &self.cpus {
                let Some(stats) = places.at(self, kind, *cpu) else {
                    continue;
                };
                let value = |field| self.target.value(stats, field).unwrap_or(0);
                bytes.add(value(out_bytes), value(back_bytes));
                pieces.add(value(out), value(back));
            }
            found.push(MallocType {
                name: self.target.string(kind, name, NAME_MAX).unwrap_or_default(),
                in_use: pieces.in_use(),
                requests: pieces.out,
                bytes: bytes.in_use(),
            });
        });
        found
    }
}

/// Where a zone has its name and its counters.
struct ZoneCounts {
    name: Option<Field>,
    /// Of the whole zone: numbers, or pointers to counters of every CPU.
    allocs: Option<Field>,
    frees: Option<Field>,
    are_pointers: bool,
    /// The array with a cache of items for each CPU.
    cache: Option<u64>,
    cache_bytes: u64,
    cache_allocs: Option<Field>,
    cache_frees: Option<Field>,
}

impl ZoneCounts {
    fn of(target: &Target<'_>) -> Self {
        let types = target.types();
        let is_pointer = || {
            let zone = types.find(Tag::Struct, "uma_zone")?;
            let member = types.member(&zone, "uz_allocs").ok()??;
            let (_, read) = types.resolve(&member.type_).ok()?;
            Some(matches!(read.kind, TypeKind::Pointer(_)))
        };
        let cache = types.find(Tag::Struct, "uma_cache");
        Self {
            name: target.field("uma_zone", "uz_name"),
            allocs: target.field("uma_zone", "uz_allocs"),
            frees: target.field("uma_zone", "uz_frees"),
            are_pointers: is_pointer().unwrap_or(false),
            cache: types.offset_of("uma_zone", "uz_cpu"),
            cache_bytes: cache
                .and_then(|cache| types.size_of(&cache).ok())
                .unwrap_or(0),
            cache_allocs: target.field("uma_cache", "uc_allocs"),
            cache_frees: target.field("uma_cache", "uc_frees"),
        }
    }

    fn name(&self, reader: &Reader<'_, '_>, zone: VirtAddr) -> String {
        let name = reader.target.string(zone, self.name, NAME_MAX);
        name.unwrap_or_default()
    }

    fn sums(&self, reader: &Reader<'_, '_>, zone: VirtAddr) -> Sums {
        let target = reader.target;
        let word = Some(Field {
            offset: 0,
            width: 8,
        });
        let mut sums = Sums::default();
        if !self.are_pointers {
            let value = |field| target.value(zone, field).unwrap_or(0);
            sums.add(value(self.allocs), value(self.frees));
        }
        for cpu in &reader.cpus {
            if self.are_pointers {
                let of = |field| {
                    let counter = target.pointer(zone, field)?;
                    target.value(reader.of_cpu(counter, *cpu), word)
                };
                sums.add(of(self.allocs).unwrap_or(0), of(self.frees).unwrap_or(0));
            }
            if let Some(cache) = self.cache {
                let offset = cache.wrapping_add(cpu * self.cache_bytes);
                let at = VirtAddr(zone.0.wrapping_add(offset));
                let value = |field| target.value(at, field).unwrap_or(0);
                sums.add(value(self.cache_allocs), value(self.cache_frees));
            }
        }
        sums
    }
}

/// Where the numbers of a `malloc` type are.
enum StatsPlace {
    /// In the type, a pointer to what every CPU has (FreeBSD 13 and later).
    Inside(Field),
    /// In a structure of its own, such a pointer (12), or an array over the CPUs (11 and before).
    Behind {
        handle: Field,
        pointer: Option<Field>,
        array: u64,
        stats_bytes: u64,
    },
}

impl StatsPlace {
    fn of(target: &Target<'_>) -> Option<Self> {
        if let Some(field) = target.field("malloc_type", "ks_mti.mti_stats") {
            return Some(Self::Inside(field));
        }
        let types = target.types();
        let handle = target.field("malloc_type", "ks_handle")?;
        let array = types.offset_of("malloc_type_internal", "mti_stats")?;
        let internal = types.find(Tag::Struct, "malloc_type_internal")?;
        let member = types.member(&internal, "mti_stats").ok()??;
        let (_, read) = types.resolve(&member.type_).ok()?;
        let stats = types.find(Tag::Struct, "malloc_type_stats")?;
        Some(Self::Behind {
            handle,
            pointer: matches!(read.kind, TypeKind::Pointer(_)).then_some(Field {
                offset: array,
                width: 8,
            }),
            array,
            stats_bytes: types.size_of(&stats).ok()?,
        })
    }

    /// The numbers of one CPU.
    fn at(&self, reader: &Reader<'_, '_>, kind: VirtAddr, cpu: u64) -> Option<VirtAddr> {
        let target = reader.target;
        match *self {
            Self::Inside(field) => {
                let stats = target.pointer(kind, Some(field))?;
                Some(reader.of_cpu(stats, cpu))
            }
            Self::Behind {
                handle,
                pointer,
                array,
                stats_bytes,
            } => {
                let internal = target.pointer(kind, Some(handle))?;
                match pointer {
                    Some(_) => {
                        let stats = target.pointer(internal, pointer)?;
                        Some(reader.of_cpu(stats, cpu))
                    }
                    None => {
                        let offset = array.wrapping_add(cpu.wrapping_mul(stats_bytes));
                        Some(VirtAddr(internal.0.wrapping_add(offset)))
                    }
                }
            }
        }
    }
}
