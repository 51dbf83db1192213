//! What is wrong with a pointer, by its value alone.

use crate::target::Target;
use serde::Serialize;
use std::fmt;
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
}

/// Whether an address of 64 bits can be one: with 57 bits, the others repeat the highest.
pub(super) const fn is_canonical(value: u64) -> bool {
    matches!(value.cast_signed() >> 56, 0 | -1)
}

impl BadValue {
    /// What is wrong with a value; `None` if nothing can be seen.
    pub(super) fn of(target: &Target<'_>, value: u64) -> Option<Self> {
        let width = target.arch().word();
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
        if width == Width::W64 && value >> 63 == 0 {
            return Some(Self::User { value });
        }
        let mut byte = [0];
        let at = vmcore_format::addr::VirtAddr(value);
        let is_there = target.space().read(at, &mut byte).len == 1;
        (!is_there).then_some(Self::Unmapped { value })
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
        }
    }
}
