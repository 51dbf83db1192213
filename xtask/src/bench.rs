//! `./x bench`: every operation beside a plain reference loop, memcpy and `cp`.

use crate::tools::{self, CC, PIGZ, ZSTD};
use crate::{Result, shell};

/// Runs the benchmark; it takes the arguments.
pub(crate) fn run(args: &[String]) -> Result {
    tools::need(&[CC, PIGZ, ZSTD])?;
    let mut bench = shell::command_line("cargo bench --workspace --bench ratios --locked --");
    shell::run(bench.args(args))
}
