//! Packets of the remote serial protocol: `$data#checksum`.
//!
//! ```
//! use vmcore_debug::gdb::packet::{Event, Parser, framed};
//! let mut parser = Parser::default();
//! let events: Vec<Event> = framed(b"qC").into_iter().filter_map(|byte| parser.push(byte)).collect();
//! assert_eq!(events, [Event::Packet(b"qC".to_vec())]);
//! ```

/// The longest packet that is accepted, in bytes.
pub const MAX_LEN: usize = 0x8000;
/// The byte that a client sends to interrupt.
const INTERRUPT: u8 = 0x03;

/// What came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A packet, escapes removed.
    Packet(Vec<u8>),
    /// The last packet arrived.
    Ack,
    /// The last packet arrived damaged.
    Nack,
    /// A wish to interrupt.
    Interrupt,
    /// A packet with a wrong checksum, or one that is too long.
    Damaged,
}

/// Takes packets out of a stream, byte by byte.
#[derive(Clone, Debug, Default)]
pub struct Parser {
    state: State,
    data: Vec<u8>,
    sum: u8,
    too_long: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Idle,
    Data,
    Escaped,
    /// Behind `#`.
    FirstDigit,
    /// The value of the first digit.
    SecondDigit(Option<u8>),
}

impl Parser {
    /// Takes a byte; gives what it completes.
    pub fn push(&mut self, byte: u8) -> Option<Event> {
        match self.state {
            State::Idle => match byte {
                b'+' => return Some(Event::Ack),
                b'-' => return Some(Event::Nack),
                INTERRUPT => return Some(Event::Interrupt),
                b'$' => {
                    *self = Self {
                        state: State::Data,
                        ..Self::default()
                    };
                }
                _ => {}
            },
            State::Data | State::Escaped if byte == b'#' => self.state = State::FirstDigit,
            State::Data | State::Escaped if byte == b'$' => {
                // The end of the last one was lost.
                *self = Self {
                    state: State::Data,
                    ..Self::default()
                };
            }
            State::Data if byte == b'}' => {
                self.sum = self.sum.wrapping_add(byte);
                self.state = State::Escaped;
            }
            State::Data => self.data(byte, byte),
            State::Escaped => {
                self.state = State::Data;
                self.data(byte, byte ^ 0x20);
            }
            State::FirstDigit => self.state = State::SecondDigit(digit(byte)),
            State::SecondDigit(first) => {
                self.state = State::Idle;
                let sum = first
                    .zip(digit(byte))
                    .map(|(first, second)| first << 4 | second);
                if sum == Some(self.sum) && !self.too_long {
                    return Some(Event::Packet(std::mem::take(&mut self.data)));
                }
                return Some(Event::Damaged);
            }
        }
        None
    }

    fn data(&mut self, raw: u8, byte: u8) {
        self.sum = self.sum.wrapping_add(raw);
        if self.data.len() < MAX_LEN {
            self.data.push(byte);
        } else {
            self.too_long = true;
        }
    }
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// A packet with its frame and checksum; what cannot stand in one is escaped.
#[must_use]
pub fn framed(data: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(data.len() + 4);
    packet.push(b'$');
    for byte in data {
        if matches!(byte, b'$' | b'#' | b'}' | b'*') {
            packet.extend([b'}', byte ^ 0x20]);
        } else {
            packet.push(*byte);
        }
    }
    let body = packet.get(1..).unwrap_or_default();
    let sum = body.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    packet.push(b'#');
    packet.extend(hex(&[sum]));
    packet
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or(b'0');
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)])
        .collect()
}

/// Hexadecimal digits as bytes; `None` if they are none.
#[must_use]
pub fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs
        .iter()
        .map(|[first, second]| Some(digit(*first)? << 4 | digit(*second)?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events(bytes: &[u8]) -> Vec<Event> {
        let mut parser = Parser::default();
        bytes.iter().filter_map(|byte| parser.push(*byte)).collect()
    }

    #[test]
    fn packets_come_out_of_a_stream() {
        assert_eq!(
            events(b"+$qC#b4$?#3f\x03-"),
            [
                Event::Ack,
                Event::Packet(b"qC".to_vec()),
                Event::Packet(b"?".to_vec()),
                Event::Interrupt,
                Event::Nack,
            ]
        );
        assert_eq!(events(b"$qC#b5"), [Event::Damaged]);
        assert_eq!(events(b"$qC#zz"), [Event::Damaged]);
        assert_eq!(events(b"$lost$?#3f"), [Event::Packet(b"?".to_vec())]);
        assert_eq!(framed(b"OK"), b"$OK#9a");
        let long = framed(&vec![b'a'; MAX_LEN + 1]);
        assert_eq!(events(&long), [Event::Damaged]);
    }

    #[test]
    fn hexadecimal_is_read_back() {
        assert_eq!(hex(&[0x0f, 0xa0]), b"0fa0");
        assert_eq!(unhex(b"0Fa0"), Some(vec![0x0f, 0xa0]));
        assert_eq!(unhex(b"0f0"), None);
        assert_eq!(unhex(b"0g"), None);
    }

    proptest! {
        #[test]
        fn what_is_framed_comes_back(data: Vec<u8>) {
            prop_assert_eq!(events(&framed(&data)), [Event::Packet(data)]);
        }
    }
}
