//! Standard output: text with a modest use of colour, and JSON in its envelope.

use crate::text;
use serde::Serialize;
use serde_json::Value;
use std::fmt;
use std::io::{self, BufWriter, StdoutLock, Write};
use vmcore::Dump;

/// What a piece of text is, so that it may be coloured.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Style {
    /// What names something: labels, headings.
    Label,
    /// What matters most.
    Strong,
    /// What can be skipped: sources, reasons.
    Faint,
    /// All is well.
    Good,
    /// Look here.
    Warning,
    /// Damaged, missing, crashed.
    Bad,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Label => "36",
            Self::Strong => "1",
            Self::Faint => "2",
            Self::Good => "32",
            Self::Warning => "33",
            Self::Bad => "31;1",
        }
    }

    /// `text` in this style, if colours are on.
    pub(crate) fn paint(self, text: &str, color: bool) -> String {
        if color && !text.is_empty() {
            format!("\x1b[{}m{text}\x1b[0m", self.code())
        } else {
            text.to_owned()
        }
    }
}

/// Why an answer did not reach standard output: other errors of the system have other words.
#[derive(Debug)]
pub(crate) struct NotWritten(pub(crate) io::Error);

impl fmt::Display for NotWritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for NotWritten {}

/// An error of standard output.
pub(crate) fn not_written(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), NotWritten(error))
}

/// Standard output, buffered. An answer ends with [`Out::finish`].
#[derive(Debug)]
pub(crate) struct Out {
    writer: BufWriter<StdoutLock<'static>>,
    color: bool,
}

impl Out {
    pub(crate) fn new(color: bool) -> Self {
        Self {
            writer: BufWriter::with_capacity(1 << 16, io::stdout().lock()),
            color,
        }
    }

    /// `text` in a style, if colours are on.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        style.paint(text, self.color)
    }

    /// Writes what is left.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.flush()
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes).map_err(not_written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush().map_err(not_written)
    }
}

/// What precedes every answer in JSON.
#[derive(Serialize)]
struct Envelope<'a> {
    schema: &'a str,
    tool_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dump_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completeness: Option<Value>,
    #[serde(flatten)]
    answer: Value,
}

/// Prints an answer in JSON. `dump` is absent for answers about several dumps.
pub(crate) fn json(command: &str, dump: Option<&Dump>, answer: impl Serialize) -> io::Result<()> {
    let completeness = dump
        .and_then(|dump| dump.completeness().ok())
        .map(serde_json::to_value);
    let envelope = Envelope {
        schema: &format!("vmcore.{}/1", command),
        tool_version: env!("CARGO_PKG_VERSION"),
        dump_id: dump.and_then(|dump| dump.id().ok()),
        completeness: completeness.transpose()?,
        answer: without_nulls(serde_json::to_value(answer)?),
    };
    let mut out = Out::new(false);
    writeln!(out, "{}", pretty(&envelope)?)?;
    out.finish()
}

/// Pretty JSON that a terminal can show: what [`text::escape`] escapes is written as `\u009b`.
fn pretty(value: &impl Serialize) -> serde_json::Result<String> {
    let json = serde_json::to_string_pretty(value)?;
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        // Newlines are between values only.
        if c == '\n' || !text::is_unsafe(c) {
            escaped.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            escaped += &format!("\\u{unit:04x}");
        }
    }
    Ok(escaped)
}

/// Fields without a value are left out.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(
                kept.map(|(name, value)| (name, without_nulls(value)))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_no_control_characters_and_the_same_text() {
        for text in ["a\u{9b}31m\x1b\n\"", "\u{202e}", "\u{e0041}x", "plain"] {
            let printed = pretty(&Value::from(text)).unwrap();
            assert!(printed.is_ascii(), "{printed}");
            assert_eq!(
                serde_json::from_str::<Value>(&printed).unwrap(),
                Value::from(text)
            );
        }
    }

    #[test]
    fn absent_fields_are_absent() {
        let value = serde_json::json!({"a": null, "b": [{"c": null, "d": 1}], "e": []});
        assert_eq!(
            without_nulls(value),
            serde_json::json!({"b": [{"d": 1}], "e": []})
        );
    }
}
