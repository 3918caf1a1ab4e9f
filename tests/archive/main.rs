//! Foreign archives, odd and hostile, made here byte by byte: what each becomes, or why it is refused.

#![allow(clippy::unwrap_used, reason = "what fails here fails a test")]

mod corpus;
mod layouts;
mod make;
mod model;
mod room;
mod round;
