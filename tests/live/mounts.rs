//! More of the host, or of memory, inside the cell: only where the policy allows it, and with the host's owners kept.

use super::harness::{Host, live};
use runcell::os::process::{self, Spawn};
use runcell::os::{clock, mount};
use serde_json::{Value, json};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

/// A host directory with a file and a sub-directory, owned by 1234:1234, and a policy that allows it.
fn data(host: &Host) -> String {
    let dir = host.dir("work/data");
    std::fs::create_dir_all(dir.join("sub")).expect("made");
    std::fs::write(dir.join("in"), "from the host\n").expect("made");
    for path in [dir.clone(), dir.join("sub"), dir.join("in")] {
        chown(path, Some(1234), Some(1234)).expect("root may");
    }
    let path = dir.to_str().expect("a path of ours").to_owned();
    host.policy(&format!("bind = ['{path}']\nbind_writable = ['{path}']"));
    path
}

fn bound(script: &str, mounts: Value) -> Value {
    json!({"argv": ["sh", "-c", script], "mounts": mounts})
}

#[test]
fn a_bind_is_read_only_unless_asked_for() {
    live(|host| {
        let path = data(host);
        let script = "cat /data/in; stat -c %u:%g /data/in; echo x > /data/new; echo x > /data/in; rm /data/in; touch /data/sub/x; echo end";
        let ran = host.run(bound(script, json!([{"target": "/data", "bind": path}])));
        ran.is("ok").said("from the host\n1000:1000\nend\n");
        // EROFS of the mount; Landlock may say EACCES first.
        assert!(!ran.stderr().is_empty() && !host.dir("work/data/new").exists(), "{}", ran.json);
        assert_eq!(std::fs::read(host.dir("work/data/in")).expect("still there"), b"from the host\n");
    });
}

#[test]
fn a_writable_bind_keeps_the_hosts_owner() {
    live(|host| {
        let path = data(host);
        for (user, seen) in [("1000", "1000:1000"), ("0:0", "0:0"), ("77:88", "77:88")] {
            let script = "echo more >> /data/in; echo new > /data/sub/new; mkdir /data/d; stat -c %u:%g /data/in /data/sub/new /data/d; mv /data/d /data/sub/e";
            let mut job = bound(script, json!([{"target": "/data", "bind": path, "writable": true}]));
            job["user"] = json!(user);
            host.run(job).is("ok").said(&format!("{seen}\n{seen}\n{seen}\n"));
            for made in ["in", "sub/new", "sub/e"] {
                let meta = std::fs::metadata(host.dir("work/data").join(made)).expect("made");
                assert_eq!((meta.uid(), meta.gid()), (1234, 1234), "{made} as {user}");
            }
            std::fs::remove_dir(host.dir("work/data/sub/e")).expect("made");
        }
        assert_eq!(std::fs::read_to_string(host.dir("work/data/in")).expect("there").lines().count(), 4);
    });
}

#[test]
fn no_set_uid_file_can_be_left_on_the_host() {
    live(|host| {
        let path = data(host);
        let program = "import ctypes, os
def tried(what, act):
    try: act()
    except OSError as e: print(what, e.errno)
    else: print(what, 'done')
open('/data/x', 'w').close()
tried('chmod', lambda: os.chmod('/data/x', 0o4755)); tried('setgid', lambda: os.chmod('/data/x', 0o2755))
tried('open', lambda: os.open('/data/y', os.O_CREAT | os.O_WRONLY, 0o6755)); tried('mkdir', lambda: os.mkdir('/data/z', 0o2755))
tried('mknod', lambda: os.mknod('/data/n', 0o4644)); tried('device', lambda: os.mknod('/data/null', 0o20666, 259))
tried('chown', lambda: os.chown('/data/x', 0, 0)); tried('cap', lambda: os.setxattr('/data/x', 'security.capability', bytes(20)))";
        let mount = json!([{"target": "/data", "bind": path, "writable": true}]);
        let ran = host.run(json!({"argv": ["python3", "-c", program], "mounts": mount, "user": "0:0"}));
        assert!(ran.is("ok").stdout().lines().all(|line| line == "chown done" || !line.ends_with("done")), "{}", ran.json);
        for entry in std::fs::read_dir(host.dir("work/data")).expect("there").flatten() {
            let meta = entry.metadata().expect("there");
            assert_eq!((meta.mode() & 0o7000, meta.uid()), (0, 1234), "{:?}", entry.path());
        }
    });
}

#[test]
fn what_the_policy_does_not_allow_is_refused() {
    live(|host| {
        let path = data(host);
        let job =
            |source: &str, writable: bool| bound("true", json!([{"target": "/data", "bind": source, "writable": writable}]));
        host.policy(&format!("bind = ['{path}']"));
        host.run(job(&path, false)).is("ok");
        assert_eq!(host.refused(job(&path, true), 3)["path"], "mounts[0].writable");
        for source in ["/etc", "/", host.dir("work").to_str().expect("ours"), &format!("{path}base")] {
            assert_eq!(host.refused(job(source, false), if source.ends_with("base") { 2 } else { 3 })["path"], "mounts[0].bind");
        }
        host.policy("");
        assert_eq!(host.refused(job(&path, false), 3)["code"], "policy:refused");
        assert!(host.note_runs().is_empty());
    });
}

#[test]
fn a_source_behind_a_symlink_is_refused() {
    live(|host| {
        let path = data(host);
        symlink("/etc", format!("{path}/etc")).expect("made");
        symlink("sub", format!("{path}/link")).expect("made");
        for source in ["etc", "link", "etc/ssl"] {
            let error = host.refused(bound("true", json!([{"target": "/d", "bind": format!("{path}/{source}")}])), 2);
            assert!(error["path"].as_str().is_some_and(|p| p.starts_with("mounts")), "{error}");
        }
    });
}

#[test]
fn single_files_and_places_of_every_kind() {
    live(|host| {
        let path = data(host);
        let mounts = json!([
            {"target": "/sandbox/in", "bind": format!("{path}/in")}, {"target": "/mnt/deep/er", "bind": path},
            {"target": "/opt/conf", "bind": format!("{path}/in")}, {"target": "/tmp/t", "tmpfs": "1MiB"}, {"target": "/scratch", "tmpfs": "2MiB"}]);
        let script = "cat /sandbox/in /opt/conf; ls /mnt/deep/er; df -B1 --output=size /tmp/t /scratch | tail -n 2 | tr -d ' '; touch /tmp/t/x /scratch/x; \
                      head -c 3M /dev/zero > /scratch/big; stat -c %s /scratch/big; echo no > /opt/conf";
        let ran = host.run(bound(script, mounts));
        ran.is("nonzero").said("from the host\nfrom the host\nin\nsub\n1048576\n2097152\n2097152\n");
    });
}

#[test]
fn a_bind_in_place_of_the_sandbox() {
    live(|host| {
        let path = data(host);
        let mount = json!([{"target": "/sandbox", "bind": path, "writable": true}]);
        let mut job = bound("pwd; cat in; echo made > made", mount);
        job["collect"] = json!(["**"]);
        let ran = host.run(job);
        ran.is("ok").said("/sandbox\nfrom the host\n");
        assert_eq!(std::fs::read(host.dir("work/data/made")).expect("made"), b"made\n");
        // Read-only it cannot be written, and nothing pretends otherwise.
        let ran = host.run(bound("cat in; echo x > no", json!([{"target": "/sandbox", "bind": path}])));
        ran.is("nonzero").said("from the host\n");
    });
}

#[test]
fn targets_that_are_not_to_be_had() {
    live(|host| {
        let path = data(host);
        let bind = |target: &str| bound("true", json!([{"target": target, "bind": path}]));
        for target in ["/", "/proc", "/proc/x", "/dev", "/dev/shm", "/sys", "/usr/x", "/bin", "relative", "/a/../b"] {
            let error = host.refused(bind(target), 2);
            assert!(error["path"].as_str().is_some_and(|p| p.starts_with("mounts[0]")), "{target}: {error}");
        }
        let twice = json!([{"target": "/d", "bind": path}, {"target": "/d", "tmpfs": "1MiB"}]);
        assert_eq!(host.refused(bound("true", twice), 2)["path"], "mounts[1].target");
        assert_eq!(host.refused(bound("true", json!([{"target": "/d", "tmpfs": 0}])), 2)["path"], "mounts[0]");
    });
}

#[test]
fn what_is_mounted_below_a_bind_source_stays_outside() {
    live(|host| {
        // Another user's file inside the source belongs to nobody in the cell.
        let path = data(host);
        std::fs::write(host.dir("work/data/foreign"), "secret").expect("made");
        std::fs::set_permissions(host.dir("work/data/foreign"), PermissionsExt::from_mode(0o600)).expect("ours");
        let ran = host.run(bound("stat -c %U /data/foreign; cat /data/foreign", json!([{"target": "/data", "bind": path}])));
        ran.is("nonzero").said("nobody\n");
        assert!(ran.stderr().contains("Permission denied"));
    });
}

/// What crun is started from (runtime/quirks.rs): its name is its own, and nobody opens it to write, root neither.
#[test]
fn a_program_is_executed_from_a_view_that_nobody_can_write_to() {
    live(|host| {
        let work = host.dir("work/view");
        std::fs::create_dir_all(&work).expect("made");
        let program = work.join("tool");
        std::fs::copy("/bin/sh", &program).expect("copied");
        let view = mount::view_of_program(&program).expect("viewed").expect("a program");
        let denied = File::options().write(true).open(format!("/proc/self/fd/{}", view.as_raw_fd())).expect_err("read-only");
        assert_eq!(denied.raw_os_error(), Some(libc::EROFS), "{denied}");
        File::options().write(true).open(&program).expect("the file itself is as it was");

        let (log, said) = (File::create(work.join("log")).expect("made"), work.join("log"));
        let args = ["-c".to_owned(), "echo $0".to_owned()];
        let spawn =
            Spawn { program: &program, image: Some(view.as_fd()), args: &args, env: &[], log, fds: Vec::new(), dir: &work };
        let child = process::spawn(spawn).expect("spawned");
        let end = child.wait(clock::now_ns() + 30_000_000_000).expect("waited for");
        let said = std::fs::read_to_string(said).expect("it wrote");
        assert!(end.is_some() && said.lines().next() == program.to_str(), "{end:?} {said}");

        std::fs::write(&program, "#!/bin/sh\n").expect("written");
        assert!(mount::view_of_program(&program).expect("looked at").is_none(), "a script has none");
        assert!(mount::view_of_program(Path::new("/nowhere")).is_err());
    });
}
