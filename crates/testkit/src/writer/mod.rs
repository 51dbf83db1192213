//! Machines on which the writer runs: their memory, their disk, and the run itself.

pub mod disk;
pub mod models;
pub mod run;
pub mod sim;
