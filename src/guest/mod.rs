//! PID 1 inside the cell: waits for its one job, delivers files, starts the program, reaps, harvests, ends.

pub mod deliver;
pub mod exec;
pub mod harvest;
pub mod init;
pub mod ready;
pub mod reap;
pub mod renew;
pub mod sieve;
