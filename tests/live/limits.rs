//! Limits in force, read from the kernel while the job runs, and what is said of them.

use super::gate;
use super::harness::{Host, live, until};
use super::leftovers;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::path::PathBuf;

/// What the kernel has for a run: the files of all its groups, by name.
fn file(groups: &[PathBuf], name: &str) -> String {
    let read = groups.iter().find_map(|g| std::fs::read_to_string(g.join(name)).ok());
    read.unwrap_or_else(|| panic!("no {name} in {groups:?}")).trim().to_owned()
}

/// Runs a job that sleeps, looks at its groups, and cancels it.
#[track_caller]
fn in_force(host: &Host, limits: Value, look: impl Fn(&[PathBuf])) -> super::run::Ran {
    let mut limits = limits;
    limits["wall"] = json!("100s");
    let started = host.job(&json!({"argv": ["sh", "-c", "echo on; exec sleep 90"], "limits": limits}));
    let run = started.run_id();
    until("the job runs", || leftovers::asleep(&run));
    let groups: Vec<PathBuf> = leftovers::groups().into_iter().filter(|g| g.ends_with(&run)).collect();
    look(&groups);
    started.signal(Signal::SIGTERM);
    let ran = started.outcome();
    ran.is("cancelled").said("on\n");
    ran
}

#[test]
fn every_limit_is_in_the_cells_own_group() {
    live(|host| {
        let asked = json!({"memory": "99MiB", "pids": 33, "cpus": 0.5, "cpu_weight": 200, "cpuset": "0"});
        let ran = in_force(host, asked, |groups| {
            let is = |name: &str, value: &str| assert_eq!(file(groups, name), value, "{name}");
            is("pids.max", "34"); // init is one of them
            if gate::unified() {
                assert_eq!(groups.len(), 1, "{groups:?}");
                is("memory.max", "103809024");
                is("memory.swap.max", "0");
                is("cpu.max", "50000 100000");
                is("cpu.weight", "200");
                is("cpuset.cpus", "0");
                is("cpuset.cpus.effective", "0");
            } else {
                assert!(groups.len() > 5, "one in each tree: {groups:?}");
                is("memory.limit_in_bytes", "103809024");
                is("cpu.cfs_quota_us", "50000");
                is("cpu.cfs_period_us", "100000");
                is("cpu.shares", "2048");
                is("cpuset.cpus", "0");
            }
            let inside = |g: &PathBuf| std::fs::read_to_string(g.join("cgroup.procs")).unwrap_or_default().lines().count();
            assert!(groups.iter().all(|g| inside(g) == 2), "init and the program in each: {groups:?}");
        });
        let how = if gate::unified() { "cgroup2" } else { "cgroup1" };
        for limit in ["memory", "pids", "cpus", "cpu_weight", "cpuset"] {
            assert_eq!(ran.outcome.enforced.get(limit).map(String::as_str), Some(how), "{limit}: {}", ran.json);
        }
        for (limit, by) in [("wall", "supervisor"), ("output", "supervisor"), ("sandbox", "tmpfs"), ("open_files", "rlimit")] {
            assert_eq!(ran.outcome.enforced.get(limit).map(String::as_str), Some(by), "{limit}: {}", ran.json);
        }
        ran.holds(r#""memory":103809024,"swap":0,"pids":33,"cpus":0.5,"cpu_weight":200,"cpuset":"0""#);
    });
}

#[test]
fn throughput_of_a_disk_is_limited() {
    live(|host| {
        let disk = ["/dev/vda", "/dev/sda", "/dev/nvme0n1"].into_iter().find(|d| std::path::Path::new(d).exists());
        let Some(disk) = disk else { return gate::say("SKIPPED part of limits: no disk of a known name") };
        let number = std::fs::metadata(disk).map(|m| std::os::unix::fs::MetadataExt::rdev(&m)).expect("it is there");
        let number = format!("{}:{}", nix::sys::stat::major(number), nix::sys::stat::minor(number));
        let ran = in_force(host, json!({"io": [{"device": disk, "rbps": "1MiB", "wiops": 50}]}), |groups| {
            if gate::unified() {
                assert_eq!(file(groups, "io.max"), format!("{number} rbps=1048576 wbps=max riops=max wiops=50"));
            } else {
                assert_eq!(file(groups, "blkio.throttle.read_bps_device"), format!("{number} 1048576"));
                assert_eq!(file(groups, "blkio.throttle.write_iops_device"), format!("{number} 50"));
            }
        });
        assert!(ran.outcome.enforced["io"].starts_with("cgroup"));
        let error = host.refused(json!({"argv": ["true"], "limits": {"io": [{"device": "/dev/null", "rbps": 1}]}}), 2);
        assert_eq!(error["path"], "limits.io[0].device", "{error}");
    });
}

#[test]
fn a_core_that_is_not_there_is_refused() {
    live(|host| {
        let error = host.refused(json!({"argv": ["true"], "limits": {"cpuset": "0-4000"}}), 3);
        assert_eq!(error["path"], "limits.cpuset", "{error}");
        let one = json!({"argv": ["python3", "-c", "import os; print(os.sched_getaffinity(0))"], "limits": {"cpuset": "0"}});
        host.run(one).is("ok").said("{0}\n");
        host.run(json!({"argv": ["nproc"], "limits": {"cpuset": "0,1"}})).is("ok").said("2\n");
    });
}

#[test]
fn a_program_cannot_loosen_its_cage() {
    live(|host| {
        let program = "import os, resource
os.sched_setaffinity(0, range(64)); print(sorted(os.sched_getaffinity(0)))
for r in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE):
    try: resource.setrlimit(r, (1 << 40, 1 << 40)); print('raised')
    except (ValueError, OSError): print('no')
print(os.path.exists('/sys/fs/cgroup'))";
        let ran = host.run(json!({"argv": ["python3", "-c", program], "limits": {"cpuset": "0"}}));
        ran.is("ok").said("[0]\nno\nno\nFalse\n");
    });
}

#[test]
fn ceilings_of_the_policy_hold_and_are_told() {
    live(|host| {
        host.policy("[ceilings]\nwall = \"1s\"\nmemory = \"64MiB\"\npids = 20\n");
        let ran = host.run(json!({"argv": ["sleep", "60"], "limits": {"wall": "50s", "memory": "1GiB"}}));
        ran.is("wall_time").holds(r#""wall":"1s""#).holds(r#""memory":67108864"#).holds(r#""pids":20"#);
        host.policy("over = \"refuse\"\n[ceilings]\nwall = \"1s\"\n");
        let error = host.refused(json!({"argv": ["true"], "limits": {"wall": "50s"}}), 3);
        assert_eq!(error["path"], "limits.wall", "{error}");
    });
}

#[test]
fn the_sizes_inside_are_the_sizes_asked_for() {
    live(|host| {
        let script = "df -B1 --output=target,size,itotal /sandbox /tmp /dev/shm | tail -n 3 | tr -s ' '";
        let ran = host.run(json!({"argv": ["sh", "-c", script], "limits": {"sandbox": "10MiB", "inodes": 1234}}));
        ran.is("ok").said("/sandbox 10485760 1234\n/tmp 10485760 1234\n/dev/shm 10485760 1234\n");
    });
}

#[test]
fn swap_is_not_a_way_around_memory() {
    live(|host| {
        let eater = "b = []\nwhile True: b.append(bytearray(1 << 20))";
        let ran = host.run(json!({"argv": ["python3", "-c", eater], "limits": {"memory": "32MiB", "swap": 0}}));
        assert!(ran.is("memory").outcome.usage.memory_peak_bytes.is_some_and(|b| b <= 32 << 20), "{}", ran.json);
    });
}
