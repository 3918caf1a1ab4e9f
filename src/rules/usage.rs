//! The program's own consumption: what the counters gained since dispatch.

use crate::model::counters::Counters;
use crate::model::outcome::Usage;

/// `base` was read just before the program started, `end` after its end. `reset` says that the memory peak was set back then.
pub fn usage(base: &Counters, end: &Counters, reset: bool, wall_ns: Option<u64>) -> Usage {
    let gained = |of: fn(&Counters) -> Option<u64>| Some(of(end)?.saturating_sub(of(base)?));
    // A peak that has not moved since dispatch was the runtime's, not the program's: then nothing is known.
    let moved = |of: fn(&Counters) -> Option<u64>| of(end).filter(|e| of(base).is_some_and(|b| *e > b));
    let peak = if reset { end.memory_peak } else { moved(|c| c.memory_peak) };
    Usage {
        wall_ns,
        cpu_ns: gained(|c| c.cpu_ns),
        cpu_user_ns: gained(|c| c.user_ns),
        cpu_system_ns: gained(|c| c.system_ns),
        memory_peak_bytes: peak.zip(base.memory_now).map(|(peak, floor)| peak.saturating_sub(floor)),
        memory_floor_bytes: base.memory_now,
        // Init is one of them.
        pids_peak: moved(|c| c.pids_peak).map(|n| n - 1),
        oom_kills: gained(|c| c.oom_kills),
        throttled_ns: gained(|c| c.throttled_ns),
        io_read_bytes: gained(|c| c.io_read),
        io_write_bytes: gained(|c| c.io_write),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtimes_share_is_not_the_programs() {
        let base = Counters {
            cpu_ns: Some(12),
            memory_now: Some(100),
            memory_peak: Some(900),
            pids_peak: Some(6),
            ..Counters::default()
        };
        let end = Counters {
            cpu_ns: Some(15),
            memory_now: Some(90),
            memory_peak: Some(900),
            pids_peak: Some(6),
            ..Counters::default()
        };
        let u = usage(&base, &end, false, None);
        assert_eq!((u.cpu_ns, u.memory_peak_bytes, u.memory_floor_bytes, u.pids_peak), (Some(3), None, Some(100), None));
        let high = Counters { memory_peak: Some(950), pids_peak: Some(9), ..end };
        let u = usage(&base, &high, false, None);
        assert_eq!((u.memory_peak_bytes, u.pids_peak), (Some(850), Some(8)));
        assert_eq!(usage(&base, &Counters { memory_peak: Some(150), ..high }, true, None).memory_peak_bytes, Some(50));
    }

    #[test]
    fn unknown_stays_unknown() {
        let known = Counters { cpu_ns: Some(1), ..Counters::default() };
        assert_eq!(usage(&Counters::default(), &known, true, None).cpu_ns, None);
        assert_eq!(usage(&known, &known, true, None).io_read_bytes, None);
    }
}
