//! What the targets share: numbers out of the input, inputs as files, a limit on memory, crashes to be
//! damaged, a sink for the writer's layers, and a reader of what they write.

pub mod crash;
pub mod file;
pub mod input;
pub mod limit;
pub mod reader;
pub mod sink;
