//! Use-cases: the only floor that knows all others.

pub mod faults;
pub mod settings;
pub mod taken;
pub mod host;
pub mod streams;
pub mod feed;
pub mod intake;
pub mod order;
pub mod staged;
pub mod prepare;
pub mod layers;
pub mod demolish;
pub mod cell;
pub mod shape;
pub mod claim;
pub mod supervise;
pub mod run;
pub mod warm;
pub mod bundle;
pub mod list;
pub mod kill;
pub mod prune;
pub mod image;
pub mod gc;
pub mod doctor;
pub mod schema;
