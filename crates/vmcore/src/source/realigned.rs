//! Bytes with pages put back that their writer lost: everything behind is where it belongs again.

use super::Source;
use std::io;

/// A source with gaps, which read as zeros.
#[derive(Debug)]
pub(super) struct Realigned {
    source: Box<Source>,
    /// Where the gaps start, counted with the gaps before; ascending.
    gaps: Vec<u64>,
    /// Bytes of each.
    page: u64,
}

impl Realigned {
    pub(super) fn new(source: Source, gaps: Vec<u64>, page: u64) -> Self {
        Self {
            source: Box::new(source),
            gaps,
            page,
        }
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    pub(super) fn len(&self) -> u64 {
        self.source.len() + self.gaps.len() as u64 * self.page
    }

    /// Gaps that start at or before `offset`.
    fn gaps_before(&self, offset: u64) -> usize {
        self.gaps.partition_point(|gap| *gap <= offset)
    }

    pub(super) fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(done as u64);
            let before = self.gaps_before(at);
            let gap_end = before
                .checked_sub(1)
                .and_then(|last| self.gaps.get(last))
                .map_or(0, |gap| gap + self.page);
            let until = match at < gap_end {
                true => gap_end,
                false => self.gaps.get(before).copied().unwrap_or(u64::MAX),
            };
            let len = usize::try_from(until - at).unwrap_or(usize::MAX);
            let len = len.min(rest.len());
            let part = rest.get_mut(..len).unwrap_or_default();
            if at < gap_end {
                part.fill(0);
                done += len;
                continue;
            }
            let read = self
                .source
                .read_positional(at - before as u64 * self.page, part)?;
            done += read;
            if read < len {
                break;
            }
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Access;

    #[test]
    fn what_is_behind_a_gap_is_moved_by_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"aabbccdd").unwrap();
        let source = Source::open(&path, Access::Positional).unwrap();
        let realigned = Realigned::new(source, vec![2, 4, 10], 2);
        let expected = b"aa\0\0\0\0bbcc\0\0dd";
        assert_eq!(realigned.len(), expected.len() as u64);
        for start in 0..expected.len() {
            for end in start..expected.len() {
                let mut buf = vec![9; end - start];
                let read = realigned.read_at(start as u64, &mut buf).unwrap();
                assert_eq!((read, &buf[..]), (end - start, &expected[start..end]));
            }
        }
        let mut buf = [9; 8];
        assert_eq!(realigned.read_at(12, &mut buf).unwrap(), 2);
    }
}
