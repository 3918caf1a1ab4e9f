//! Programs that take all they can get: the host stays responsive, and nothing of them stays.

use super::harness::{Host, in_rig, live, rounds, unhurried};
use super::run::Ran;
use serde_json::{Value, json};

/// Runs a job whose end may be this or that, but comes; and then another one.
#[track_caller]
fn survived(host: &Host, job: Value) -> Ran {
    let ran = host.run(job);
    assert!(["ok", "nonzero", "signaled", "wall_time", "memory", "output_limit"].contains(&&*ran.verdict()), "{}", ran.json);
    host.is_responsive();
    host.is_clean();
    ran
}

#[test]
fn a_fork_bomb_of_the_shell() {
    live(|host| {
        let bomb = "bomb() { bomb | bomb & }; bomb; sleep 60";
        let ran = survived(host, json!({"argv": ["sh", "-c", bomb], "limits": {"wall": "1s", "grace": "200ms", "pids": 40}}));
        assert!(ran.outcome.usage.pids_peak.is_none_or(|n| n <= 40), "{}", ran.json);
    });
}

#[test]
fn a_fork_bomb_that_goes_its_own_ways() {
    live(|host| {
        let bomb = "import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print('go', flush=True)
while True:
    try:
        if os.fork() == 0: os.setsid()
    except OSError: pass";
        let ran = survived(host, json!({"argv": ["python3", "-c", bomb], "limits": {"wall": unhurried(1000), "grace": "200ms"}}));
        ran.is("wall_time").said("go\n");
    });
}

#[test]
fn a_thread_bomb() {
    live(|host| {
        let bomb = "import threading, time
count = 0
try:
    while True:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start(); count += 1
except RuntimeError: print(count, flush=True)
import os; os._exit(0)";
        let ran = survived(host, json!({"argv": ["python3", "-c", bomb], "limits": {"pids": 50}}));
        ran.is("ok").said("49\n");
    });
}

#[test]
fn full_tmpfs_is_no_space_and_not_the_end_of_memory() {
    live(|host| {
        for place in ["/sandbox", "/tmp", "/dev/shm"] {
            let script = format!("head -c 30M /dev/zero > {place}/x || stat -c %s {place}/x");
            let ran = survived(host, json!({"argv": ["sh", "-c", script], "limits": {"sandbox": "16MiB", "memory": "64MiB"}}));
            ran.is("ok").said("16777216\n");
            assert!(ran.stderr().contains("No space left on device"), "{}", ran.json);
            assert_eq!(ran.outcome.usage.oom_kills, Some(0));
        }
    });
}

#[test]
fn an_inode_bomb_ends_at_its_limit() {
    live(|host| {
        let most = if in_rig() { 200 } else { 500 };
        for make in ["open(f'{place}/{n}', 'w').close()", "os.symlink('x' * 100, f'{place}/{n}')", "os.mkdir(f'{place}/{n}')"] {
            let program = format!(
                "import os, errno\nfor place in ['/sandbox', '/tmp', '/dev/shm']:\n  n = 0\n  try:\n    while True: {make}; n += 1\n  \
                 except OSError as e: print(errno.errorcode[e.errno], n, flush=True)"
            );
            let ran = survived(host, json!({"argv": ["python3", "-c", program], "limits": {"inodes": most}}));
            for line in ran.is("ok").stdout().lines() {
                let (errno, count) = line.split_once(' ').expect("two words");
                assert!(errno == "ENOSPC" && (most - 100..most).contains(&count.parse::<i32>().unwrap_or(0)), "{make}: {line}");
            }
            assert_eq!(ran.stdout().lines().count(), 3);
        }
    });
}

#[test]
fn attributes_of_files_are_not_free_memory() {
    live(|host| {
        let program = "import os
n = 0
try:
    for f in range(400):
        open(f'/tmp/{f}', 'w').close()
        for a in range(50): os.setxattr(f'/tmp/{f}', f'user.{a}', b'x' * 60000); n += 60000
except OSError as e: print(e.errno, n, flush=True)
else: print('all', n)";
        // Either the filesystem bounds them or the memory limit does.
        let ran = host.run(json!({"argv": ["python3", "-c", program], "limits": {"memory": "64MiB"}}));
        assert!(["ok", "memory"].contains(&&*ran.verdict()) && !ran.stdout().contains("all"), "{}", ran.json);
    });
}

#[test]
fn a_thousand_orphans_leave_no_zombies() {
    live(|host| {
        let program = "import os, sys, time
for n in range(int(sys.argv[1])):
    while True:
        try: pid = os.fork(); break
        except OSError: time.sleep(0.01)
    if pid == 0:
        try: os.fork()
        except OSError: pass
        os._exit(0)
    os.waitpid(pid, 0)
time.sleep(0.5)
print(len([p for p in os.listdir('/proc') if p.isdigit()]))";
        let argv = json!(["python3", "-c", program, rounds(1000).to_string()]);
        let ran = survived(host, json!({"argv": argv, "limits": {"pids": 30, "wall": "60s"}}));
        ran.is("ok").said("2\n");
    });
}

#[test]
fn a_thousand_zombies_meet_the_limit_and_are_buried() {
    live(|host| {
        let program = "import os, sys
n = 0
for _ in range(int(sys.argv[1])):
    try:
        if os.fork() == 0: os._exit(0)
        n += 1
    except OSError: pass
print(n)";
        let argv = json!(["python3", "-c", program, rounds(1000).to_string()]);
        let ran = survived(host, json!({"argv": argv, "limits": {"pids": 30, "wall": "60s"}}));
        ran.is("ok").said("29\n");
    });
}

#[test]
fn an_exit_takes_the_children_along() {
    live(|host| {
        let script = "for n in 1 2 3 4 5; do (trap '' TERM; while :; do :; done) & done; echo bye; exit 6";
        survived(host, json!({"argv": ["sh", "-c", script]})).is("nonzero").code(6).said("bye\n");
    });
}

#[test]
fn signals_to_everybody_reach_nobody_else() {
    live(|host| {
        let script = "trap '' TERM; kill -TERM -1; kill -KILL 1; kill -STOP 1; kill -TERM 1; sleep 0.2; echo alive";
        survived(host, json!({"argv": ["sh", "-c", script], "limits": {"wall": "20s"}})).is("ok").said("alive\n");
        survived(host, json!({"argv": ["sh", "-c", "sleep 60 & kill -KILL -1; echo alone"]})).is("ok").said("alone\n");
        let storm = "import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
end = time.monotonic() + 0.5
while time.monotonic() < end:
    for s in (signal.SIGTERM, signal.SIGCHLD, signal.SIGSTOP, signal.SIGRTMIN):
        try: os.kill(1, s)
        except OSError: pass
print('done')";
        survived(host, json!({"argv": ["python3", "-c", storm]})).is("ok").said("done\n");
    });
}

#[test]
fn deep_trees_and_wide_ones_end() {
    live(|host| {
        let program = "import os
try:
    while True: os.mkdir('d' * 50); os.chdir('d' * 50)
except OSError as e: print(e.errno)";
        let job = json!({"argv": ["python3", "-c", program], "collect": ["**"], "limits": {"inodes": if in_rig() { 1000 } else { 5000 }}});
        let ran = survived(host, job);
        assert!(ran.is("ok").skipped().iter().any(|(_, why)| *why == "too_deep"), "{}", ran.verdict());
    });
}

#[test]
fn open_files_and_file_size_have_their_limits() {
    live(|host| {
        let program = "import os, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
fds = []
try:
    while True: fds.append(os.open('/dev/null', 0))
except OSError as e: print(e.errno, len(fds))
[os.close(fd) for fd in fds]
try:
    with open('big', 'wb', buffering=0) as f:
        while True: f.write(b'x' * 4096)
except OSError as e: print(e.errno, os.path.getsize('big'))";
        let job = json!({"argv": ["python3", "-c", program], "limits": {"open_files": 20, "file_size": 40960}});
        survived(host, job).is("ok").said("24 17\n27 40960\n");
    });
}
