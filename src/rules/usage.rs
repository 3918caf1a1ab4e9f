//! The program's own consumption: what the counters gained since dispatch.

use crate::model::counters::Counters;
use crate::model::outcome::Usage;

/// `base` was read just before the program started, `end` after its end. `reset` says that the memory peak was set back then.
pub fn usage(base: &Counters, end: &Counters, reset: bool, wall_ns: Option<u64>) -> Usage {
    let gained = |of: fn(&Counters) -> Option<u64>| Some(of(end)?.saturating_sub(of(base)?));
    // A peak that has not moved since dispatch was the runtime's, not the program's: then nothing is known.
    let moved = |of: fn(&Counters) -> Option<u64>| of(end).filter(|e| of(base).is_some_and(|b| *e > b));
    let peak = if reset { end.memory_peak } else { moved(|c| c.memory_peak) };
    let (cpu_ns, split) = (gained(|c| c.cpu_ns), gained(|c| c.user_ns).zip(gained(|c| c.system_ns)));
    let user = cpu_ns.zip(split).and_then(|(cpu, (user, system))| share(cpu, user, system));
    Usage {
        wall_ns,
        cpu_ns,
        cpu_user_ns: user,
        cpu_system_ns: cpu_ns.zip(user).map(|(cpu, user)| cpu - user),
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

/// User time of a total that is exact. How it divides is counted in ticks where cgroup v1 counts it, and may come to more
/// or less than the total; the kernel itself scales like this elsewhere (`cputime_adjust`). Without a tick nothing is known.
fn share(cpu: u64, user: u64, system: u64) -> Option<u64> {
    let ticks = u128::from(user) + u128::from(system);
    let part = (u128::from(cpu) * u128::from(user)).checked_div(ticks)?;
    u64::try_from(part).ok()
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
    fn user_and_system_time_add_up() {
        let base = Counters { cpu_ns: Some(5), user_ns: Some(4), system_ns: Some(0), ..Counters::default() };
        let end =
            |cpu, user, system| Counters { cpu_ns: Some(cpu), user_ns: Some(user), system_ns: Some(system), ..base.clone() };
        let split = |end| {
            let u = usage(&base, &end, false, None);
            (u.cpu_ns, u.cpu_user_ns, u.cpu_system_ns)
        };
        assert_eq!(split(end(105, 34, 90)), (Some(100), Some(25), Some(75)), "more ticks than time");
        assert_eq!(split(end(8, 4, 0)), (Some(3), None, None), "not a tick");
        assert_eq!(split(end(u64::MAX, u64::MAX, 0)).1, Some(u64::MAX - 5), "nothing overflows");
    }

    #[test]
    fn unknown_stays_unknown() {
        let known = Counters { cpu_ns: Some(1), ..Counters::default() };
        assert_eq!(usage(&Counters::default(), &known, true, None).cpu_ns, None);
        assert_eq!(usage(&known, &known, true, None).io_read_bytes, None);
    }
}
