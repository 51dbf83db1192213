//! Lists of the kernel, followed with bounds.

use crate::fields::Field;
use crate::target::Target;
use std::cell::RefCell;
use std::collections::HashSet;
use vmcore_format::addr::VirtAddr;

/// The most members of all lists together: no kernel has as many zones and types of memory.
const MAX_ITEMS: usize = 8192;

/// Follows lists; nothing is in two of them.
pub(crate) struct Lists<'a, 't> {
    target: &'a Target<'t>,
    seen: RefCell<HashSet<VirtAddr>>,
}

/// A keg of the zone allocator: slabs of one kind, which its zones share.
pub(crate) struct Keg {
    pub(crate) address: VirtAddr,
    pub(crate) zones: Vec<VirtAddr>,
}

impl<'a, 't> Lists<'a, 't> {
    pub(crate) fn of(target: &'a Target<'t>) -> Self {
        Self {
            target,
            seen: RefCell::default(),
        }
    }

    /// Follows a list from the pointer at `head` by its link; a link that leads back or nowhere ends
    /// it, which costs a problem.
    pub(crate) fn follow(
        &self,
        name: &str,
        head: VirtAddr,
        link: Option<Field>,
        problems: &mut Vec<String>,
        mut each: impl FnMut(VirtAddr, &mut Vec<String>),
    ) {
        let mut next = match self.target.space.read_pointer(head) {
            Ok(first) => first,
            Err(fault) => return problems.push(format!("{name}: {fault}")),
        };
        while next.0 != 0 && self.seen.borrow().len() < MAX_ITEMS {
            if !self.seen.borrow_mut().insert(next) {
                return problems.push(format!("{name}: the list runs in a circle at {next}"));
            }
            each(next, problems);
            match self.target.value(next, link) {
                Some(following) => next = VirtAddr(following),
                None => return problems.push(format!("{name}: no link can be read at {next}")),
            }
        }
    }

    /// The kegs of the zone allocator; none without its types.
    pub(crate) fn kegs(&self, problems: &mut Vec<String>) -> Vec<Keg> {
        let field = |structure: &str, path: &str| self.target.field(structure, path);
        let keg_link = field("uma_keg", "uk_link.le_next");
        let zone_link = field("uma_zone", "uz_link.le_next");
        let head = self.target.symbols.find("uma_kegs");
        let (Some(zones_at), Some(head)) = (field("uma_keg", "uk_zones.lh_first"), head) else {
            return Vec::new();
        };
        let mut kegs = Vec::new();
        self.follow(
            "uma_kegs",
            head.address,
            keg_link,
            problems,
            |address, problems| {
                let mut zones = Vec::new();
                let name = format!("zones of the keg at {address}");
                let head = VirtAddr(address.0.wrapping_add(zones_at.offset));
                self.follow(&name, head, zone_link, problems, |zone, _| zones.push(zone));
                kegs.push(Keg { address, zones });
            },
        );
        kegs
    }
}
