//! Words: plain checked data. No files, no clock, no system calls.

pub mod base;
pub mod blob;
pub mod counters;
pub mod document;
pub mod evidence;
pub mod facts;
pub mod fault;
pub mod finding;
pub mod health;
pub mod image;
pub mod ingredient;
pub mod job;
pub mod limits;
pub mod names;
pub mod object;
pub mod outcome;
pub mod paths;
pub mod plan;
pub mod policy;
pub mod quantity;
pub mod recipe;
pub mod record;
pub mod reference;
pub mod template;
pub mod unique;
pub mod wire;
