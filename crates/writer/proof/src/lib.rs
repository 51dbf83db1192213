//! A kernel that allocates nothing, and the layers above its disk: the proof links them into a program,
//! and the writer's tests count their allocations.
#![no_std]

pub mod kernel;
pub mod layers;
