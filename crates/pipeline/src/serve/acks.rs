//! When to answer which datagram, so that FreeBSD's clients leave no holes.
//!
//! Their bookkeeping of acks has a bug (`sys/net/debugnet.c`, a 32-bit shift): the ack of datagram 31
//! of a message counts as that of all after it, and that of datagram 32 + i as that of i. A datagram
//! that was lost is then never sent again. So the answers wait until the message is complete, or until
//! the client has been quiet for a moment: then only those are given that cannot be misread, and the
//! client sends the rest again. To a client without the bug this is a slow server at worst. Where the
//! server misjudges which message a datagram belongs to, on links that lose very much, a hole is still
//! possible; then the dump is not called complete.

/// The datagram whose ack FreeBSD's client takes for that of all after it.
const ALIASING: u32 = 31;
/// The most datagrams of a message.
const WINDOW: u32 = 64;
/// Bytes of a full message.
const MESSAGE: u64 = 64 << 10;
/// With datagrams of so many bytes no message reaches the one that is misread.
const HARMLESS: usize = (64 << 10) / ALIASING as usize + 1;
/// So often the misread datagram must come again before there is nothing after it: a client sends
/// eleven times again.
const SETTLED: u32 = 6;
/// Who is quiet for so many ticks, and then sends, sends again: clients wait for about a second.
const AGAIN: u32 = 10;

/// The acks of a conversation.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    /// Number of the first datagram of the message that is under way.
    base: u32,
    /// Which of its datagrams are there, and which were acked, a bit each.
    there: u64,
    acked: u64,
    bytes: u64,
    /// The longest datagram so far: a shorter one ends its message.
    longest: usize,
    end: Option<u32>,
    /// How often the misread datagram came again with nothing new around it.
    repeats: u32,
    /// Ticks since anything came.
    quiet: u32,
    /// Whether what comes now is sent again.
    resending: bool,
}

impl Acks {
    /// The acks of a client whose herald had this number.
    pub(crate) fn new(herald: u32) -> Self {
        Self {
            base: herald.wrapping_add(1),
            ..Self::default()
        }
    }

    /// Whether a datagram may be one of the message that is under way, of the next, or of one before.
    pub(crate) fn expects(&self, seqno: u32) -> bool {
        let ahead = seqno.wrapping_sub(self.base);
        !(2 * WINDOW..=u32::MAX / 2).contains(&ahead)
    }

    /// Whether a message is under way: [`Acks::tick`] should be called when nothing comes.
    pub(crate) fn is_waiting(&self) -> bool {
        self.there != 0
    }

    /// The only datagram of its message has arrived. Returns the number to ack.
    pub(crate) fn arrived_alone(&mut self, seqno: u32) -> u32 {
        if seqno.wrapping_sub(self.base) < 2 * WINDOW {
            self.next_message(seqno.wrapping_add(1));
        }
        seqno
    }

    /// A datagram of `len` bytes has arrived. Returns the numbers to ack.
    pub(crate) fn arrived(&mut self, seqno: u32, len: usize) -> Vec<u32> {
        let quiet = std::mem::take(&mut self.quiet);
        self.longest = self.longest.max(len);
        if self.longest >= HARMLESS {
            self.base = self.base.max(seqno.wrapping_add(1));
            return vec![seqno];
        }
        let known = self.contiguous();
        let ahead = seqno.wrapping_sub(self.base);
        self.resending |= quiet >= AGAIN || ahead < known;
        let has_moved_on = known > 0 && self.acked == self.there && self.end.is_none();
        if has_moved_on && (known..2 * WINDOW).contains(&ahead) && !self.resending {
            self.next_message(self.base.wrapping_add(known));
        }
        let index = seqno.wrapping_sub(self.base);
        if index >= WINDOW {
            // Of a message before: its ack was lost.
            return vec![seqno];
        }
        if self.there & 1 << index == 0 {
            self.there |= 1 << index;
            self.bytes += len as u64;
            self.repeats = 0;
        } else {
            self.repeats += u32::from(index == ALIASING);
        }
        if len < self.longest {
            self.end = Some(index);
        }
        let count = self.contiguous();
        if count > 0 && (self.end == Some(count - 1) || self.bytes >= MESSAGE) {
            return self.complete(count);
        }
        // Its ack was lost.
        let is_acked = self.acked & 1 << index != 0;
        is_acked.then_some(seqno).into_iter().collect()
    }

    /// Nothing has come for a moment. Returns the numbers that can be acked all the same.
    pub(crate) fn tick(&mut self) -> Vec<u32> {
        self.quiet = self.quiet.saturating_add(1);
        self.resending = false;
        let count = self.contiguous();
        if count > ALIASING && self.repeats >= SETTLED {
            // It came again and again, and nothing after it: there is nothing.
            return self.complete(count);
        }
        let harmless = |index: u32| match index {
            ..ALIASING => true,
            ALIASING => false,
            _ => self.there & 1 << (index - 32) != 0,
        };
        let new = self.there & !self.acked;
        let safe: Vec<u32> = (0..WINDOW)
            .filter(|index| new & 1 << index != 0 && harmless(*index))
            .collect();
        for index in &safe {
            self.acked |= 1 << index;
        }
        let base = self.base;
        safe.into_iter()
            .map(|index| base.wrapping_add(index))
            .collect()
    }

    /// How many datagrams are there, if they are the first ones and none is missing between; else 0.
    fn contiguous(&self) -> u32 {
        let count = self.there.trailing_ones();
        let all = count > 0 && self.there == u64::MAX >> (64 - count);
        if all { count } else { 0 }
    }

    /// All of the message is there: `count` datagrams.
    fn complete(&mut self, count: u32) -> Vec<u32> {
        let base = self.base;
        self.next_message(base.wrapping_add(count));
        (0..count).map(|index| base.wrapping_add(index)).collect()
    }

    fn next_message(&mut self, base: u32) {
        *self = Self {
            base,
            longest: self.longest,
            ..Self::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FreeBSD's client: which datagrams of a message it believes to be acked.
    struct Client {
        acked: u64,
    }

    impl Client {
        fn ack(&mut self, index: u32) {
            // `1 << (index % 32)` as a signed 32-bit number, widened with its sign.
            self.acked |= i64::from(1i32.wrapping_shl(index)).cast_unsigned();
        }

        fn is_content(&self, count: u32) -> bool {
            let all = u64::MAX >> (64 - count);
            self.acked & all == all
        }
    }

    /// Sends messages of `sizes` bytes over a link that loses what `lost` says, either way. Fails if
    /// the client goes on while something is missing.
    fn converse(sizes: &[usize], payload: usize, mut lost: impl FnMut() -> bool) {
        let mut acks = Acks::new(1);
        let mut base = 2u32;
        for size in sizes {
            let count = u32::try_from(size.div_ceil(payload)).unwrap();
            let mut client = Client { acked: 0 };
            let mut there = vec![false; size.div_ceil(payload)];
            let mut rounds = 0;
            while !client.is_content(count) {
                rounds += 1;
                assert!(rounds < 200, "no progress with {size} bytes of {payload}");
                let mut answers = Vec::new();
                let before = client.acked;
                for index in (0..count).filter(|index| before & 1 << index == 0) {
                    let at = index as usize * payload;
                    if !lost() {
                        there[index as usize] = true;
                        let len = payload.min(size - at);
                        answers.extend(acks.arrived(base.wrapping_add(index), len));
                    }
                }
                // About a second until it sends again; it goes on as soon as it is content.
                for _ in 0..50 {
                    for answer in answers.drain(..) {
                        let index = answer.wrapping_sub(base);
                        if index < 64 && !lost() {
                            client.ack(index);
                        }
                    }
                    if client.is_content(count) {
                        break;
                    }
                    answers = if acks.is_waiting() {
                        acks.tick()
                    } else {
                        Vec::new()
                    };
                }
            }
            assert!(
                there.iter().all(|there| *there),
                "the client went on with a hole: {there:?}"
            );
            base = base.wrapping_add(count);
        }
    }

    #[test]
    fn freebsds_client_leaves_no_hole_on_links_that_lose_a_tenth() {
        for seed in 1..400u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            converse(&[65536, 65536, 4096, 40_000, 65536, 53_248], 1448, || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 20) % 100 < 10
            });
        }
    }

    #[test]
    fn any_lost_datagram_of_a_full_message_is_sent_again() {
        for lost in 0..46 {
            let mut number = 0;
            converse(&[65536, 65536], 1448, || {
                number += 1;
                number == lost + 1
            });
        }
    }

    #[test]
    fn whoever_does_not_lose_anything_does_not_wait() {
        let mut acks = Acks::new(1);
        for index in 0..45 {
            assert_eq!(acks.arrived(2 + index, 1448), Vec::<u32>::new());
        }
        assert_eq!(acks.arrived(47, 376), (2..48).collect::<Vec<u32>>());
        assert!(!acks.is_waiting());
        // An ack that got lost.
        assert_eq!(acks.arrived(20, 1448), [20]);
        assert_eq!(acks.arrived_alone(48), 48);
    }
}
