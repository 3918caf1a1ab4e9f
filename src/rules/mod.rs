//! Decisions: pure functions from words to words. Two islands, plan before and verdict after; between them only acts.

pub mod accounts;
pub mod ahead;
pub mod advisories;
pub mod ceilings;
pub mod cgroup_needs;
pub mod computation;
pub mod configuration;
pub mod cores;
pub mod diagnosis;
pub mod findings;
pub mod garbage;
pub mod kernel_needs;
pub mod limits;
pub mod merge;
pub mod plan;
pub mod quoting;
pub mod rootfs;
pub mod runtime_needs;
pub mod bpf;
pub mod seccomp;
pub mod shell;
pub mod spec;
pub mod stages;
pub mod state_needs;
pub mod usage;
pub mod verdict;
