//! CLOCK_MONOTONIC in nanoseconds: it does not jump with the wall clock, and cells share it (no time namespace).

use std::time::{SystemTime, UNIX_EPOCH};

/// Now. The clock cannot fail on any Linux (clock_gettime(2)).
pub fn now_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    now.map_or(0, |t| t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64)
}

/// Milliseconds since 1970, for names only; never for deadlines.
pub fn wall_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}
