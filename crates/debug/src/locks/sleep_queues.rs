//! The sleep queues: one for each wait channel that somebody sleeps on, with the type of what it is.

use crate::target::Target;
use crate::types::Tag;
use std::collections::HashMap;
use vmcore::process::ProcessList;
use vmcore_format::addr::VirtAddr;

/// `SLEEPQ_SX` and `SLEEPQ_LK` (`sys/sys/sleepqueue.h`).
pub(super) const SX: i32 = 3;
pub(super) const LOCKMGR: i32 = 4;
/// `SLEEPQ_TYPE`: above it are flags of earlier kernels.
const TYPE: i32 = 0xff;
/// Chains of the hash table: 256, and 128 in earlier kernels.
const MAX_CHAINS: u64 = 4096;

/// The type of each sleep queue that is in use, by wait channel.
#[derive(Debug)]
pub(super) struct SleepQueues(HashMap<VirtAddr, i32>);

impl SleepQueues {
    /// `None` if the kernel file does not describe them, or one of the chains cannot be read.
    pub(super) fn of(target: &Target<'_>, list: &ProcessList) -> Option<Self> {
        let types = &target.types;
        let offset = |structure: &str, path: &str| types.offset_of(structure, path);
        let heads = offset("sleepqueue_chain", "sc_queues")?;
        let next = offset("sleepqueue", "sq_hash")?;
        let (channel, kind) = (
            offset("sleepqueue", "sq_wchan")?,
            offset("sleepqueue", "sq_type")?,
        );
        let chain = types.find(Tag::Struct, "sleepqueue_chain")?;
        let chain_len = types.size_of(&chain).ok().filter(|len| *len > 0)?;
        let table = target.symbols.find("sleepq_chains")?;
        let chains = (table.size / chain_len).min(MAX_CHAINS);
        // Each queue has a sleeper: more than threads are a circle.
        let threads = list.processes.iter().map(|process| process.threads.len());
        let mut budget = threads.sum::<usize>();
        let mut queues = HashMap::new();
        let at = |base: u64, offset: u64| VirtAddr(base.wrapping_add(offset));
        for chain in 0..chains {
            let head = at(table.address.0, chain * chain_len + heads);
            let mut queue = target.space.read_word(head).ok()?;
            while queue != 0 {
                budget = budget.checked_sub(1)?;
                let channel = target.space.read_word(at(queue, channel)).ok()?;
                let kind = target.space.read_i32(at(queue, kind)).ok()?;
                queues.insert(VirtAddr(channel), kind & TYPE);
                queue = target.space.read_word(at(queue, next)).ok()?;
            }
        }
        (chains > 0).then_some(Self(queues))
    }

    pub(super) fn type_of(&self, channel: VirtAddr) -> Option<i32> {
        self.0.get(&channel).copied()
    }
}
