//! What a check of `./x test` has found.

/// What a function that checks has found.
pub(crate) enum Verdict {
    Passed,
    /// It cannot check here, and why.
    Skipped(String),
}
