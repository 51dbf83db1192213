//! Numbers as people read them.
//!
//! ```
//! use vmcore::text;
//! assert_eq!(text::count(1_234_567), "1,234,567");
//! assert_eq!(text::counted(1, "page", "pages"), "1 page");
//! ```

/// A count with its thousands apart: `1,234,567`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with the name of what is counted: `1 page`, `2 pages`.
#[must_use]
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}
