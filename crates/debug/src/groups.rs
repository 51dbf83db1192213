//! Threads with the same stack, counted: in a machine with thousands of threads, what matters is
//! the few that are alone.
//!
//! ```
//! use vmcore_debug::groups::{Member, group};
//! let member = |tid, pcs: &[u64], wait: &str| Member {
//!     tid,
//!     pcs: pcs.to_vec(),
//!     wait: Some(wait.to_owned()),
//! };
//! let groups = group([member(1, &[10, 20], "select"), member(2, &[10, 20], "pause")]);
//! assert_eq!(groups[0].tids, [1, 2]);
//! assert_eq!(groups[0].waits.len(), 2);
//! ```

use serde::Serialize;
use std::collections::BTreeMap;

/// A thread, as far as it counts here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The thread.
    pub tid: i32,
    /// The program counters of its stack, the innermost first.
    pub pcs: Vec<u64>,
    /// What it waits for.
    pub wait: Option<String>,
}

/// Threads whose stacks are equal in every program counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The threads, in the order they came.
    pub tids: Vec<i32>,
    /// What they wait for, the most frequent first.
    pub waits: Vec<Wait>,
}

/// A wait message or lock, and how many threads of a group wait for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wait {
    /// It.
    pub message: String,
    /// Threads.
    pub threads: usize,
}

/// Groups threads by their stacks, the largest group first; those of one size by their first
/// thread's place.
#[must_use]
pub fn group(members: impl IntoIterator<Item = Member>) -> Vec<Group> {
    struct Found {
        place: usize,
        tids: Vec<i32>,
        waits: BTreeMap<String, usize>,
    }
    let mut found: BTreeMap<Vec<u64>, Found> = BTreeMap::new();
    for (place, member) in members.into_iter().enumerate() {
        let group = found.entry(member.pcs).or_insert_with(|| Found {
            place,
            tids: Vec::new(),
            waits: BTreeMap::new(),
        });
        group.tids.push(member.tid);
        if let Some(wait) = member.wait {
            *group.waits.entry(wait).or_default() += 1;
        }
    }
    let mut found: Vec<Found> = found.into_values().collect();
    found.sort_by_key(|group| (std::cmp::Reverse(group.tids.len()), group.place));
    let finish = |group: Found| {
        let mut waits: Vec<Wait> = group
            .waits
            .into_iter()
            .map(|(message, threads)| Wait { message, threads })
            .collect();
        waits.sort_by_key(|wait| std::cmp::Reverse(wait.threads));
        Group {
            tids: group.tids,
            waits,
        }
    };
    found.into_iter().map(finish).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_large_first_and_then_in_order() {
        let member = |tid, pc| Member {
            tid,
            pcs: vec![pc],
            wait: (tid != 4).then(|| "select".to_owned()),
        };
        let groups = group([member(1, 9), member(2, 5), member(3, 7), member(4, 5)]);
        let tids: Vec<&[i32]> = groups.iter().map(|group| &group.tids[..]).collect();
        assert_eq!(tids, [&[2, 4][..], &[1], &[3]]);
        assert_eq!(groups[0].waits[0].threads, 1);
    }
}
