//! The process's first moments, in the place of std's.
//!
//! Theory of operation. So as to tell an overflow of the main thread's stack in words, std asks for that stack's bounds, and glibc
//! reads them in /proc/self/maps: 85 µs of a warm run's 4 ms (glibc 2.36, Linux 6.18). The guard page is there without that, and an
//! overflow a plain SIGSEGV. All else that std does first is done here: it has no other effect on a program of one thread
//! (library/std/src/rt.rs and sys/pal/unix/mod.rs, Rust 1.91).

use super::sys;
use crate::model::code::ExitCode;
use std::panic;

/// As after a panic of std's main thread.
const PANICKED: u8 = 101;

/// Lives a life, and says what it ends with. To be called once, by the function that is [`crate::entry`].
pub fn begin(life: fn() -> ExitCode) -> i32 {
    sys::fill_standard_descriptors();
    sys::ignore_broken_pipes();
    panic::catch_unwind(life).unwrap_or(ExitCode::from(PANICKED)).into()
}
