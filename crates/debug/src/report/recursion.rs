//! Recursion in a stack: functions that call each other again and again are shown once, and count once.

use super::culprit::base_name;
use crate::stack::NamedFrame;

/// Functions that a recursion goes through at most.
const LONGEST: usize = 16;
/// Rounds from which it is one.
const ROUNDS: usize = 3;

/// Consecutive frames: some that are no recursion, or all of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The first frame.
    pub start: usize,
    /// Frames of one round, which stand for all.
    pub shown: usize,
    /// All its frames; the last round may be a part of one.
    pub len: usize,
}

impl Part {
    /// The recursion in words, for the line that follows what is shown of it; `None` if there is none.
    /// `from` is the number of the first frame that was folded.
    #[must_use]
    pub fn in_words(&self, from: usize) -> Option<String> {
        let last = from + self.start + self.len - 1;
        let first = from + self.start + self.shown;
        let frames = match self.shown {
            1 => "this frame repeats".to_owned(),
            count => format!("these {count} frames repeat"),
        };
        let rounds = self.len / self.shown;
        let rest = match self.len % self.shown {
            0 => "",
            _ => " and a part of one",
        };
        (self.len > self.shown)
            .then(|| format!("{frames}, {rounds} rounds{rest} in all: #{first} to #{last}"))
    }
}

/// The parts of a stack, from the innermost frame out.
#[must_use]
pub fn fold(frames: &[NamedFrame]) -> Vec<Part> {
    let names = frames.iter().map(|frame| frame.frame.name.as_deref());
    let names: Vec<Option<&str>> = names.map(|name| name.map(base_name)).collect();
    among(&names)
}

fn among(names: &[Option<&str>]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut start = 0;
    while start < names.len() {
        let rest = names.get(start..).unwrap_or_default();
        let recursion = (1..=LONGEST).find_map(|shown| {
            let later = rest.get(shown..)?;
            let is_equal =
                |(first, later): &(&Option<&str>, &Option<&str>)| later.is_some() && first == later;
            let len = shown + rest.iter().zip(later).take_while(is_equal).count();
            (len >= shown * ROUNDS && len > ROUNDS).then_some(Part { start, shown, len })
        });
        let part = recursion.unwrap_or(Part {
            start,
            shown: 1,
            len: 1,
        });
        parts.push(part);
        start += part.len;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recursion_of_any_number_of_functions_is_one_part() {
        let parts = |stack: &str| -> Vec<(usize, usize, usize)> {
            let names = stack.split_whitespace();
            let names: Vec<_> = names
                .map(|name| Some(name).filter(|name| *name != "?"))
                .collect();
            let parts = among(&names).into_iter();
            parts
                .map(|part| (part.start, part.shown, part.len))
                .collect()
        };
        assert_eq!(parts("a b c"), [(0, 1, 1), (1, 1, 1), (2, 1, 1)]);
        assert_eq!(
            parts("leaf a a a a a main"),
            [(0, 1, 1), (1, 1, 5), (6, 1, 1)]
        );
        assert_eq!(parts("a b a b a b a main"), [(0, 2, 7), (7, 1, 1)]);
        assert_eq!(parts("a b c a b c a b c"), [(0, 3, 9)]);
        let words = |len| {
            Part {
                start: 1,
                shown: 2,
                len,
            }
            .in_words(10)
        };
        assert_eq!(
            words(6).unwrap(),
            "these 2 frames repeat, 3 rounds in all: #13 to #16"
        );
        assert_eq!(
            words(7).unwrap(),
            "these 2 frames repeat, 3 rounds and a part of one in all: #13 to #17"
        );
        // Twice is none, and code without a name is never equal.
        assert_eq!(parts("a b a b").len(), 4);
        assert_eq!(parts("a a a").len(), 3);
        assert_eq!(parts("? ? ? ? ?").len(), 5);
    }
}
