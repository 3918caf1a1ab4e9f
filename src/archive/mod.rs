//! Foreign bytes: archives of images, read with suspicion.
//!
//! What is here may run confined, in a process that has a source open for reading and an empty directory for writing: nothing
//! opens a path that an archive names except beneath that directory, without following a symlink, and memory stays below 64 MiB
//! whatever the archive says.

pub mod compression; // gzip, zstd, plain
pub mod layer; // one tar archive into one tree
pub mod listing; // what a tree holds
pub mod attributes; // mode, owner, time, extended attributes
pub mod notices; // what was left out
mod refusal; // whose fault
mod header; // a tar block
mod pax; // records that extend it
mod sparse; // files with holes
mod entries; // a tar archive, entry by entry
mod place; // where a name leads
mod tree; // the directory that gets a layer
mod spool; // what is needed when it is done
mod walk; // through a tree, sorted
pub mod writer; // a tree into a tar archive
pub mod unpack; // a layer as it comes
pub mod layout; // images as tools hand them over
pub mod platform; // what machine an image is for
pub mod documents; // their JSON
mod files; // of a layout
mod verified; // digests and sizes
