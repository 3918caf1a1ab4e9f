//! The product against a real runtime on a real kernel: the built binary, real cells, real control groups.
//!
//! `LIVE=want` runs what this host can, `LIVE=must` fails where it cannot, anything else prints what was skipped.
//! RUNCELL_TEST_RUNTIME names another runtime than runc; RUNCELL_TEST_ROUNDS how much of each repetition is done, in
//! percent (5 in the rig, whose CPU is emulated, else 100). RUNCELL_TEST_START=warm has a cell wait for each job. Every test has a state directory and a range of host ids of
//! its own, and ends by looking for leftovers.

mod dojo;
mod gate;
mod harness;
mod leftovers;
mod run;

mod batch;
mod bombs;
mod build;
mod bundle;
mod cancel;
mod crash;
mod cores;
mod cpu;
mod env;
mod files_in;
mod files_out;
mod foreign;
mod image;
mod isolation;
mod kata;
mod kata_isolation;
mod keeping;
mod limits;
mod memory;
mod mounts;
mod not_started;
mod output;
mod race;
mod reuse;
mod stdin;
mod stop;
mod store;
mod usage;
mod verdicts;
mod warm;
