//! Figures that a program's cost is judged by: plausible, its own, and null where nobody knows.

use super::harness::{in_rig, live, slack};
use serde_json::json;
use std::time::Duration;

#[test]
fn memory_is_the_programs_own() {
    live(|host| {
        let hundred = host.python("b = bytearray(100 << 20); print(len(b))");
        let peak = hundred.is("ok").outcome.usage.memory_peak_bytes.expect("both layouts count it") >> 20;
        assert!((90..130).contains(&peak), "{peak} MiB: {}", hundred.json);
        let nothing = host.run(json!({"argv": ["true"]}));
        let peak = nothing.outcome.usage.memory_peak_bytes.expect("known");
        assert!(peak < 8 << 20, "the runtime's share is not the program's: {}", nothing.json);
        let floor = nothing.outcome.usage.memory_floor_bytes.expect("known");
        assert!(floor > 0 && floor < 24 << 20, "{}", nothing.json);
    });
}

#[test]
fn memory_of_children_and_files_counts() {
    live(|host| {
        let script = "head -c 40M /dev/zero > /tmp/f & python3 -c 'b = bytearray(30 << 20)'; wait";
        let ran = host.sh(script);
        let peak = ran.is("ok").outcome.usage.memory_peak_bytes.expect("known") >> 20;
        assert!((40..110).contains(&peak), "{peak} MiB: {}", ran.json);
    });
}

#[test]
fn cpu_time_is_the_cells_own() {
    live(|host| {
        let burn = |clock: &str| format!("import time\nend = time.{clock}() + 0.5\nwhile time.{clock}() < end: pass");
        let ran = host.run(json!({"argv": ["python3", "-c", burn("process_time")], "limits": {"wall": "60s"}}));
        let cpu = ran.is("ok").cpu();
        assert!(cpu >= Duration::from_millis(490) && cpu < slack(Duration::from_millis(600)), "{cpu:?}: {}", ran.json);
        let (user, system) = (ran.outcome.usage.cpu_user_ns.expect("known"), ran.outcome.usage.cpu_system_ns.expect("known"));
        assert_eq!(user + system, cpu.as_nanos() as u64, "{}", ran.json);
        let two =
            format!("import os\npid = os.fork()\n{}\nprint(time.process_time())\nif pid: print(os.wait())", burn("process_time"));
        let ran = host.run(json!({"argv": ["python3", "-c", two], "limits": {"wall": "60s"}}));
        assert!(ran.is("ok").cpu() >= Duration::from_millis(950), "a child's time is the cell's: {}", ran.json);
        // Where the cpu is emulated even a program's start costs some hundred ms.
        let little = if in_rig() { cpu } else { Duration::from_millis(60) };
        let nothing = host.run(json!({"argv": ["true"]})).cpu();
        assert!(nothing < little, "{nothing:?}");
        let asleep = host.run(json!({"argv": ["sleep", "0.5"]}));
        assert!(asleep.cpu() < little, "{}", asleep.json);
    });
}

#[test]
fn wall_time_is_from_execve_to_the_end() {
    live(|host| {
        let ran = host.run(json!({"argv": ["sleep", "0.5"], "files": {"big": "x".repeat(3_000_000)}}));
        let wall = ran.is("ok").wall();
        assert!(wall >= Duration::from_millis(499) && wall < slack(Duration::from_millis(600)), "{wall:?}");
        let p = &ran.outcome.phases;
        assert!(
            p.setup_ns > 0 && p.start_ns > 0 && p.run_ns >= 499_000_000 && p.run_ns == wall.as_nanos() as u64,
            "{}",
            ran.json
        );
    });
}

#[test]
fn processes_are_counted_where_the_kernel_counts_them() {
    live(|host| {
        let ran = host.sh("for n in $(seq 20); do sleep 0.5 & done; wait");
        assert!(ran.is("ok").outcome.usage.pids_peak.is_none_or(|n| (15..=22).contains(&n)), "{}", ran.json);
    });
}

#[test]
fn what_it_came_from_is_told() {
    live(|host| {
        let ran = host.run(json!({"argv": ["true"]}));
        let p = &ran.outcome.provenance;
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("there");
        assert_eq!((p.kernel.as_str(), p.image.as_str(), p.bundle.as_str()), (kernel.trim(), "host", "default"));
        assert!(
            p.runtime.contains(char::is_numeric) && p.job.len() == 7 + 64 && p.runcell == env!("CARGO_PKG_VERSION"),
            "{}",
            ran.json
        );
        assert_eq!(p.job, host.run(json!({"argv": ["true"]})).outcome.provenance.job, "the same job, the same digest");
        assert_ne!(ran.outcome.run, host.run(json!({"argv": ["true"]})).outcome.run);
    });
}
