//! Shelves: what survives us on disk, and who owns it.

pub mod home;
pub mod ids;
pub mod runs;
pub mod skeletons;
