//! Items that are free, but not in their slab: CPUs and zones keep some at hand, in buckets.

use super::Budget;
use crate::fields::Field;
use crate::target::Target;
use crate::types::{Tag, TypeKind};
use crate::usage::cpus;
use vmcore_format::addr::VirtAddr;

/// The most domains of memory.
const MAX_DOMAINS: u64 = 64;

/// Where the buckets are.
pub(super) struct Caches<'a, 't> {
    target: &'a Target<'t>,
    cpus: Vec<u64>,
    cache_at: u64,
    cache_len: u64,
    /// A CPU's buckets, and how many items each has, if that does not stand in the bucket.
    of_cpu: Vec<(Field, Option<Field>)>,
    domains: Option<Domains>,
    items: u64,
    count: Field,
}

/// Where the full buckets of a zone are.
struct Domains {
    /// A pointer to them in the zone (FreeBSD 12), or nothing: they stand behind the CPUs' caches.
    pointer: Option<Field>,
    len: u64,
    number: u64,
    first: Field,
    next: Field,
}

impl<'a, 't> Caches<'a, 't> {
    /// `None` if the types do not know them.
    pub(super) fn of(target: &'a Target<'t>) -> Option<Self> {
        let types = &target.types;
        let size = |name: &str| types.size_of(&types.find(Tag::Struct, name)?).ok();
        let cache = |path: &str| target.field("uma_cache", path);
        let of_cpu: Vec<_> = ["uc_allocbucket", "uc_freebucket", "uc_crossbucket"]
            .iter()
            .filter_map(|name| match cache(&format!("{name}.ucb_bucket")) {
                Some(bucket) => Some((bucket, cache(&format!("{name}.ucb_cnt")))),
                None => Some((cache(name)?, None)),
            })
            .collect();
        (!of_cpu.is_empty()).then_some(())?;
        Some(Self {
            target,
            cpus: cpus(target),
            cache_at: types.offset_of("uma_zone", "uz_cpu")?,
            cache_len: size("uma_cache")?,
            of_cpu,
            domains: Domains::of(target),
            items: types.offset_of("uma_bucket", "ub_bucket")?,
            count: target.field("uma_bucket", "ub_cnt")?,
        })
    }

    /// Whether a zone keeps this item at hand.
    pub(super) fn have(&self, zone: VirtAddr, item: VirtAddr, budget: &Budget) -> bool {
        let caches = zone.0.wrapping_add(self.cache_at);
        for cpu in &self.cpus {
            let cache = VirtAddr(caches.wrapping_add(cpu * self.cache_len));
            for (bucket, count) in &self.of_cpu {
                let Some(bucket) = self.target.pointer(cache, Some(*bucket)) else {
                    continue;
                };
                let count = match count {
                    Some(count) => self.target.value(cache, Some(*count)),
                    None => self.target.value(bucket, Some(self.count)),
                };
                if self.bucket_has(bucket, count, item, budget) {
                    return true;
                }
            }
        }
        let domains = self.domains.as_ref();
        domains.is_some_and(|domains| self.domains_have(domains, zone, item, budget))
    }

    fn domains_have(
        &self,
        domains: &Domains,
        zone: VirtAddr,
        item: VirtAddr,
        budget: &Budget,
    ) -> bool {
        let last_cpu = self.cpus.last().copied().unwrap_or(0);
        let behind = zone.0.wrapping_add(self.cache_at);
        let behind = behind.wrapping_add((last_cpu + 1) * self.cache_len);
        let base = match domains.pointer {
            Some(_) => self.target.pointer(zone, domains.pointer),
            None => Some(VirtAddr(behind)),
        };
        let Some(base) = base else { return false };
        for number in 0..domains.number {
            let domain = VirtAddr(base.0.wrapping_add(number * domains.len));
            let mut bucket = self.target.pointer(domain, Some(domains.first));
            while let Some(at) = bucket
                && budget.spend().is_some()
            {
                let count = self.target.value(at, Some(self.count));
                if self.bucket_has(at, count, item, budget) {
                    return true;
                }
                bucket = self.target.pointer(at, Some(domains.next));
            }
        }
        false
    }

    fn bucket_has(
        &self,
        bucket: VirtAddr,
        count: Option<u64>,
        item: VirtAddr,
        budget: &Budget,
    ) -> bool {
        let word = self.target.space.word().bytes();
        let first = bucket.0.wrapping_add(self.items);
        let slots = 0..count.unwrap_or(0);
        let mut slots = slots.take_while(|_| budget.spend().is_some());
        slots.any(|slot| {
            let at = VirtAddr(first.wrapping_add(slot.wrapping_mul(word)));
            self.target.space.read_pointer(at) == Ok(item)
        })
    }
}

/// How many domains of memory the machine has.
pub(super) fn domains(target: &Target<'_>) -> u64 {
    let symbol = target.symbols.find("vm_ndomains");
    let number = symbol.and_then(|symbol| target.space.read_i32(symbol.address).ok());
    let number = number.and_then(|number| u64::try_from(number).ok());
    number.unwrap_or(1).clamp(1, MAX_DOMAINS)
}

impl Domains {
    fn of(target: &Target<'_>) -> Option<Self> {
        let types = &target.types;
        let zone = types.find(Tag::Struct, "uma_zone")?;
        let domain = types.find(Tag::Struct, "uma_zone_domain")?;
        let member = types.member(&zone, "uz_domain").ok()?;
        let is_pointer = member.is_some_and(|member| {
            let read = types.resolve(&member.type_);
            read.is_ok_and(|(_, read)| matches!(read.kind, TypeKind::Pointer(_)))
        });
        let first = |path: &str| target.field("uma_zone_domain", path);
        let next = |path: &str| target.field("uma_bucket", path);
        Some(Self {
            pointer: target.field("uma_zone", "uz_domain").filter(|_| is_pointer),
            len: types.size_of(&domain).ok()?,
            number: domains(target),
            first: first("uzd_buckets.stqh_first").or_else(|| first("uzd_buckets.lh_first"))?,
            next: next("ub_link.stqe_next").or_else(|| next("ub_link.le_next"))?,
        })
    }
}
