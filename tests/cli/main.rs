//! The command as its callers see it: words in, documents and exit codes out. No container is ever started here: what
//! would start one is a script that says it is runc.
//!
//! The tests need root, as the command does, and leave nothing on the host.

mod answers;
mod begins;
mod ground;
mod malformed;
#[path = "../pure/oci.rs"]
mod oci;
mod people;
mod refused;
mod runtime;
mod stale;
