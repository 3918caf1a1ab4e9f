//! Foreign bytes: archives of images, read with suspicion.
//!
//! What is here may run confined, in a process that has a source open for reading and an empty directory for writing: nothing
//! opens a path that an archive names except beneath that directory, without following a symlink, and memory stays below 64 MiB
//! whatever the archive says.

pub mod compression; // gzip, zstd, plain
mod refusal; // whose fault
