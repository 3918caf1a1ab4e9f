//! Drivers: whoever speaks the OCI command line. They differ by a row of quirks.

pub mod call;
pub mod driver;
pub mod log;
pub mod quirks;
pub mod replica;
pub mod version;
