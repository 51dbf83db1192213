//! Text for people: strings from a dump made harmless, numbers made readable.
//!
//! Every string of a dump goes through [`escape`] where it becomes a part of a line: then it can
//! neither end the line and forge another one, nor talk to a terminal.
//!
//! ```
//! use vmcore::text;
//! assert_eq!(text::count(1_234_567), "1,234,567");
//! assert_eq!(text::counted(1, "page", "pages"), "1 page");
//! assert_eq!(text::escape(b"flow\nPANIC  none"), "flow\\x0aPANIC  none");
//! ```

/// Bytes as text on one line that no terminal obeys: control and invisible characters and invalid
/// UTF-8 become `\x1b` or `\u{202e}`; tabs stay.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\t' => text.push(c),
                '\0'..='\x1f' | '\x7f' => text += &format!("\\x{:02x}", u32::from(c)),
                c if is_unsafe(c) => text += &format!("\\u{{{:x}}}", u32::from(c)),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            text += &format!("\\x{byte:02x}");
        }
    }
    text
}

/// Whether a terminal may obey a character, or it changes how its neighbours look.
#[must_use]
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

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
