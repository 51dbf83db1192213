//! The table of ratios, for people and as JSON.

use serde::Serialize;

/// One thing that was measured.
#[derive(Serialize)]
pub(crate) struct Row {
    /// Which machine's dump.
    pub(crate) machine: String,
    /// What was done.
    pub(crate) what: &'static str,
    /// Beside what.
    pub(crate) reference: &'static str,
    /// Seconds for one, ours.
    pub(crate) ours_seconds: f64,
    /// Seconds for one, the reference's.
    pub(crate) reference_seconds: f64,
    /// Ours divided by the reference's.
    pub(crate) ratio: f64,
    /// The ratio that is aimed at; absent where the time itself is.
    pub(crate) limit_ratio: Option<f64>,
    /// The time that is aimed at.
    pub(crate) limit_seconds: Option<f64>,
    /// The most memory that the process took, where it was looked at.
    pub(crate) peak_memory_bytes: Option<u64>,
    /// The compression ratio, divided by that of the reference, where there is one.
    pub(crate) size_ratio: Option<f64>,
}

impl Row {
    /// Whether it is within what is aimed at.
    fn is_within(&self) -> bool {
        self.limit_ratio.is_none_or(|limit| self.ratio <= limit)
            && self
                .limit_seconds
                .is_none_or(|limit| self.ours_seconds <= limit)
    }
}

/// All rows; for people each is printed as it comes.
pub(crate) struct Table {
    rows: Vec<Row>,
    json: bool,
}

impl Table {
    pub(crate) fn new(json: bool) -> Self {
        if !json {
            println!(
                "{:<9} {:<34} {:>11} {:>11} {:>7} {:>7}  reference",
                "machine", "what", "ours", "reference", "ratio", "limit"
            );
        }
        let rows = Vec::new();
        Self { rows, json }
    }

    pub(crate) fn add(&mut self, row: Row) {
        if !self.json {
            print(&row);
        }
        self.rows.push(row);
    }

    /// Prints what was not printed yet.
    pub(crate) fn finish(self) {
        if self.json {
            println!("{}", serde_json::json!({ "schema": 1, "rows": self.rows }));
        }
    }
}

fn print(row: &Row) {
    let limit = match (row.limit_ratio, row.limit_seconds) {
        (Some(ratio), _) => format!("{ratio:.2}"),
        (None, Some(seconds)) => time(seconds),
        (None, None) => "-".to_owned(),
    };
    let memory = row
        .peak_memory_bytes
        .map(|bytes| format!("; {} MiB of memory", bytes >> 20))
        .unwrap_or_default();
    let size = row
        .size_ratio
        .map(|ratio| format!("; {ratio:.2} of its compression"))
        .unwrap_or_default();
    println!(
        "{:<9} {:<34} {:>11} {:>11} {:>7.2} {:>7}  {}{}{}{}",
        row.machine,
        row.what,
        time(row.ours_seconds),
        time(row.reference_seconds),
        row.ratio,
        limit,
        row.reference,
        memory,
        size,
        if row.is_within() { "" } else { "   <- over" },
    );
}

/// A time with three digits.
fn time(seconds: f64) -> String {
    match seconds {
        s if s < 1e-6 => format!("{:.1} ns", s * 1e9),
        s if s < 1e-3 => format!("{:.1} us", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}
