//! Shelves: what survives us on disk, and who owns it.

pub mod avatars;
pub mod bench;
pub mod cells;
pub mod cores;
pub mod depot;
pub mod flat;
pub mod home;
pub mod ids;
pub mod images;
pub mod journal;
pub mod katas;
pub mod layers;
pub mod merged;
pub mod names;
pub mod runs;
pub mod seats;
pub mod skeletons;
pub mod stages;
