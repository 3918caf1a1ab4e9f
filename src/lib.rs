//! runcell runs untrusted programs on one Linux host: one JSON job in, one JSON outcome out.
//!
//! A job walks up the house once. Imports only point down; `tests/house.rs` holds us to it.
//!
//! Invariants, said as what is absent: no daemon; no process, mount, group or file that outlives its run unless a lease
//! owns it; no host root in any user namespace; no path opened on the host that a job controls; no verdict inferred from
//! an exit code; no wait without an end; no `unsafe` outside `os/sys.rs`; no output outside `cli/report.rs`.

pub mod model; // words: plain checked data, no I/O, no clock
pub mod rules; // decisions: pure functions from words to words
pub mod os; // machines: one kernel facility a file
pub mod guest; // PID 1 inside the cell
pub mod archive; // foreign bytes: archives, layers, layouts
pub mod store; // shelves: what survives us on disk
pub mod runtime; // drivers: whoever speaks the OCI command line
pub mod work; // use-cases: the only floor that knows all others
pub mod cli; // roof: argv and JSON in, JSON and exit codes out
