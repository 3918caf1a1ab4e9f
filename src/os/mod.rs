//! Machines: one kernel facility a file. Roots come as arguments, so that a temporary directory is a kernel for tests.

pub mod sys; // the only `unsafe`
pub mod begin;
pub mod clock;
pub mod error;
pub mod files;
pub mod beneath;
pub mod lease;
pub mod socket;
pub mod pipe;
pub mod lines;
pub mod sheet;
pub mod replica;
pub mod limit;
pub mod raze;
pub mod signal;
pub mod watch;
pub mod process;
pub mod apart;
pub mod cgroup;
pub mod counters;
pub mod prime;
pub mod mount;
pub mod mounted;
pub mod namespaces;
pub mod confine;
pub mod probe;
pub mod topology;
pub mod delegation;
pub mod accounts;
pub mod space;
pub mod weakness;
