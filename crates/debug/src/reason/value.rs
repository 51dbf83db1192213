//! What is wrong with a pointer, by its value alone.

use super::Scene;
use crate::details::Details;
use crate::whatis::{self, Fact};
use serde::Serialize;
use std::fmt;
use vmcore_format::addr::VirtAddr;
use vmcore_format::endian::Width;

/// Members of a structure at NULL are at most so far from it.
const NULL_REACH: u64 = 0x1_0000;
/// Errors that are returned in place of pointers.
const ERRORS: u64 = 4096;
/// What free(9), UMA and others fill memory with, 32 bits of it; the name of who does.
const FILLS: [(u32, &str); 4] = [
    (0xdead_c0de, "what free(9) and UMA leave in freed memory"),
    (0xdead_beef, "what is left in freed memory"),
    (0xa5a5_a5a5, "what malloc(3) leaves in new memory"),
    (0x5a5a_5a5a, "what free(3) leaves in freed memory"),
];

/// What is wrong with a pointer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum BadValue {
    /// It is NULL.
    Null,
    /// It is a small number.
    Small {
        /// The number.
        value: u64,
    },
    /// It is an error number, negative.
    Error {
        /// The number.
        value: i64,
    },
    /// It is what memory is filled with.
    Fill {
        /// The value.
        value: u64,
        /// Who fills memory with it.
        by: &'static str,
    },
    /// Its bytes are text.
    Text {
        /// The text.
        text: String,
    },
    /// No address has these bits.
    NotCanonical {
        /// The value.
        value: u64,
    },
    /// It is an address of user space.
    User {
        /// The address.
        value: u64,
    },
    /// A kernel address at which nothing is.
    Unmapped {
        /// The address.
        value: u64,
    },
    /// It is below the kernel stack of another thread, where nothing is mapped so that an overflow is
    /// noticed.
    Guard {
        /// The address.
        value: u64,
        /// The thread.
        tid: i32,
    },
    /// It is the address of code, which nothing may write.
    Code {
        /// The address.
        value: u64,
        /// The function.
        name: String,
    },
    /// It is the address of data, and was called.
    Data {
        /// The address.
        value: u64,
        /// What is there.
        what: String,
    },
}

/// Bytes below a kernel stack in which nothing is mapped.
const GUARD: u64 = 4096;

/// Whether an address of 64 bits can be one: with 57 bits, the others repeat the highest.
pub(super) const fn is_canonical(value: u64) -> bool {
    matches!(value.cast_signed() >> 56, 0 | -1)
}

impl BadValue {
    /// What is wrong with a pointer through which memory was accessed; `None` if nothing can be seen.
    pub(super) fn of(scene: &Scene<'_, '_>, value: u64) -> Option<Self> {
        if let Some(known) = Self::by_bits(scene.target.arch().word(), value) {
            return Some(known);
        }
        let at = VirtAddr(value);
        let mut byte = [0];
        if scene.target.space().read(at, &mut byte).len == 1 {
            let name = scene.target.name_at(at)?;
            let is_code = scene.target.text.iter().any(|range| range.contains(&value));
            return is_code.then_some(Self::Code { value, name });
        }
        let details = Details::of(scene.target);
        let threads = scene.list.threads();
        let below = threads.filter(|thread| {
            let stack = details.thread(thread).stack;
            let below = stack.and_then(|(start, _)| start.0.checked_sub(value));
            below.is_some_and(|below| (1..=GUARD).contains(&below))
        });
        Some(match below.map(|thread| thread.tid).next() {
            Some(tid) => Self::Guard { value, tid },
            None => Self::Unmapped { value },
        })
    }

    /// What is wrong with a pointer that was called.
    pub(super) fn of_call(scene: &Scene<'_, '_>, value: u64) -> Self {
        let known = Self::by_bits(scene.target.arch().word(), value);
        known.unwrap_or_else(|| {
            let facts = whatis::at(scene.target, scene.list, VirtAddr(value));
            let fact = facts
                .iter()
                .find(|fact| !matches!(fact, Fact::Untold { .. }));
            match fact {
                None | Some(Fact::Missing { .. }) => Self::Unmapped { value },
                Some(Fact::Mapped { .. }) => Self::Data {
                    value,
                    what: "data".to_owned(),
                },
                Some(fact) => Self::Data {
                    value,
                    what: fact.to_string(),
                },
            }
        })
    }

    /// What the bits of a value alone tell.
    fn by_bits(width: Width, value: u64) -> Option<Self> {
        let bits = 8 * width.bytes();
        let signed = value.cast_signed() << (64 - bits) >> (64 - bits);
        let (low, high) = (value & 0xffff_ffff, value >> 32);
        let fill = FILLS.iter().find(|(fill, _)| {
            // A pointer to a member is a little above.
            let fill = u64::from(*fill);
            (high == fill && width == Width::W64) || high == 0 && low & !0xfff == fill & !0xfff
        });
        if value == 0 {
            return Some(Self::Null);
        }
        if let Some((_, by)) = fill {
            return Some(Self::Fill { value, by });
        }
        if value < NULL_REACH {
            return Some(Self::Small { value });
        }
        if signed < 0 && signed.unsigned_abs() < ERRORS {
            return Some(Self::Error { value: signed });
        }
        if width == Width::W64 && !is_canonical(value) {
            let bytes = value.to_le_bytes();
            let is_text = bytes
                .iter()
                .all(|byte| byte.is_ascii_graphic() || *byte == b' ');
            return Some(match is_text {
                true => Self::Text {
                    text: String::from_utf8_lossy(&bytes).into_owned(),
                },
                false => Self::NotCanonical { value },
            });
        }
        (width == Width::W64 && value >> 63 == 0).then_some(Self::User { value })
    }
}

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => write!(f, "is NULL"),
            Self::Small { value } => write!(f, "is {value:#x}, not a pointer"),
            Self::Error { value } => write!(f, "is {value}, not a pointer"),
            Self::Fill { value, by } => write!(f, "is {value:#x}, {by}"),
            Self::Text { text } => write!(f, "holds the text {text:?}"),
            Self::NotCanonical { value } => write!(f, "is {value:#x}, not an address"),
            Self::User { value } => write!(f, "is {value:#x}, not a kernel address"),
            Self::Unmapped { value } => write!(f, "is {value:#x}, where nothing is mapped"),
            Self::Guard { value, tid } => {
                write!(f, "is {value:#x}, below the kernel stack of thread {tid}")
            }
            Self::Code { value, name } => write!(f, "is {value:#x}, the code of {name}"),
            Self::Data { value, what } => write!(f, "is {value:#x}, {what}"),
        }
    }
}
