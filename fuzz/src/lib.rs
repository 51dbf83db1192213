//! What the targets share: numbers out of the input, inputs as files, and a limit on memory.

pub mod file;
pub mod input;
pub mod limit;
