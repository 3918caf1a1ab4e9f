//! Decisions: pure functions from words to words. Two islands, plan before and verdict after; between them only acts.

pub mod ceilings;
pub mod diagnosis;
pub mod limits;
pub mod merge;
pub mod plan;
pub mod rootfs;
pub mod seccomp;
pub mod spec;
pub mod usage;
pub mod verdict;
