//! A directory as image: any root filesystem, never modified, and refused where a mount would be led astray.

use super::harness::{Host, command, live};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

/// A root filesystem of busybox alone: no /dev, /proc, /sandbox, /tmp or /etc in it.
fn image(host: &Host) -> String {
    let root = host.dir("image");
    std::fs::create_dir_all(root.join("bin")).expect("made");
    std::fs::create_dir(root.join("root")).expect("made");
    std::fs::set_permissions(root.join("root"), PermissionsExt::from_mode(0o700)).expect("ours");
    std::fs::copy("/usr/bin/busybox", root.join("bin/busybox")).expect("the gate has looked");
    for name in ["sh", "cat", "echo", "ls", "id", "sleep", "touch", "rm", "true", "stat", "ln", "mkdir", "mount", "head"] {
        symlink("busybox", root.join("bin").join(name)).expect("made");
    }
    root.to_str().expect("a path of ours").to_owned()
}

/// Everything about a tree that a run could change.
fn fingerprint(root: &Path) -> BTreeMap<String, (u32, u64, i64, u64)> {
    let (mut all, mut todo) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(path) = todo.pop() {
        let meta = path.symlink_metadata().expect("there");
        if meta.is_dir() {
            todo.extend(std::fs::read_dir(&path).expect("ours").flatten().map(|e| e.path()));
        }
        let content = if meta.is_file() { std::fs::read(&path).expect("ours") } else { Vec::new() };
        let sum = content.iter().fold(u64::from(meta.uid()), |n, b| n.wrapping_mul(31).wrapping_add(u64::from(*b)));
        all.insert(path.display().to_string(), (meta.mode(), meta.len(), meta.mtime_nsec() + meta.mtime(), sum));
    }
    all
}

fn sh(image: &str, script: &str) -> Value {
    json!({"image": image, "argv": ["/bin/sh", "-c", script], "limits": {"wall": "20s"}})
}

#[test]
fn a_program_sees_the_image_and_changes_nothing_in_it() {
    live(|host| {
        let image = image(host);
        let before = fingerprint(Path::new(&image));
        let mut job = sh(
            &image,
            "ls /; cat in; id -u; touch /x /bin/x /root/x /etc/x; rm /bin/cat; echo made > made; echo t > /tmp/t; echo end",
        );
        job["files"] = json!({"in": "given\n"});
        job["collect"] = json!(["**"]);
        let ran = host.run(job);
        ran.is("ok").said("bin\ndev\nproc\nroot\nsandbox\ntmp\ngiven\n1000\nend\n");
        assert_eq!(ran.created("made").content.text.as_deref(), Some("made\n"));
        assert_eq!(fingerprint(Path::new(&image)), before);
        let as_root = host.run(json!({"image": image, "argv": ["/bin/ls", "-a", "/root"], "user": "0:0"}));
        as_root.is("ok").said(".\n..\n");
        host.run(sh(&image, "/bin/ls /root")).is("nonzero");
        assert_eq!(fingerprint(Path::new(&image)), before);
    });
}

#[test]
fn several_cells_share_one_image() {
    live(|host| {
        let image = image(host);
        let job = sh(&image, "sleep 0.5; echo done");
        let started: Vec<_> = (0..4).map(|_| host.job(&job)).collect();
        for one in started {
            one.outcome().is("ok").said("done\n");
        }
    });
}

#[test]
fn not_even_init_needs_anything_of_it() {
    live(|host| {
        let image = host.dir("bare");
        std::fs::create_dir(&image).expect("made");
        std::fs::copy("/usr/bin/busybox", image.join("busybox")).expect("the gate has looked");
        host.run(json!({"image": image, "argv": ["/busybox", "echo", "alone"]})).is("ok").said("alone\n");
        host.run(json!({"image": image, "argv": ["sh"]})).is("not_started");
        let empty = host.dir("empty");
        std::fs::create_dir(&empty).expect("made");
        host.run(json!({"image": empty, "argv": ["/sandbox/p"], "files": {"p": {"file": "/usr/bin/busybox", "mode": "0755"}}}))
            .is("nonzero");
    });
}

#[test]
fn a_mount_point_that_is_a_symlink_is_refused() {
    live(|host| {
        for (name, to) in [("dev", "/etc"), ("tmp", "../../.."), ("proc", "bin"), ("sandbox", "/root"), ("data", "/")] {
            let path = image(host);
            symlink(to, Path::new(&path).join(name)).expect("made");
            host.policy(&format!("bind = ['{path}']"));
            let mut job = sh(&path, "true");
            job["mounts"] = json!([{"target": "/data", "tmpfs": "1MiB"}]);
            let error = host.refused(job, 2);
            assert_eq!(error["code"], "image:unusable", "{name}: {error}");
            std::fs::remove_dir_all(path).expect("ours");
        }
        let path = image(host);
        std::fs::write(Path::new(&path).join("tmp"), "").expect("made");
        assert_eq!(host.refused(sh(&path, "true"), 2)["code"], "image:unusable");
        assert!(host.note_runs().is_empty());
    });
}

#[test]
fn what_is_no_image_is_refused() {
    live(|host| {
        let path = image(host);
        symlink(&path, host.dir("link")).expect("made");
        let at = |name: &str| host.dir(name).to_str().expect("ours").to_owned();
        for (bad, code) in
            [(at("link"), "image:!exists"), (at("missing"), "image:!exists"), (at("image/bin/busybox"), "image:!exists")]
        {
            assert_eq!(host.refused(sh(&bad, "true"), 2)["code"], code, "{bad}");
        }
        for bad in ["relative", "../x", "no-such-name"] {
            assert_eq!(host.refused(sh(bad, "true"), 2)["path"], "image");
        }
        host.policy("images = ['/srv']");
        let error = host.refused(sh(&path, "true"), 3);
        assert_eq!((&error["code"], &error["path"]), (&json!("policy:refused"), &json!("image")), "{error}");
    });
}

#[test]
fn set_uid_programs_and_devices_of_an_image_gain_nothing() {
    live(|host| {
        let path = image(host);
        let su = Path::new(&path).join("bin/su-id");
        std::fs::copy("/usr/bin/busybox", &su).expect("the gate has looked");
        std::fs::remove_file(Path::new(&path).join("bin/id")).expect("ours");
        symlink("su-id", Path::new(&path).join("bin/id")).expect("made");
        std::fs::set_permissions(&su, PermissionsExt::from_mode(0o6755)).expect("ours");
        let node = Path::new(&path).join("mem");
        let made = command("/bin/mknod").arg(&node).args(["-m", "666", "c", "1", "1"]).status().is_ok_and(|s| s.success());
        let ran = host.run(sh(&path, "id; head -c 1 /mem >/dev/null && echo read"));
        ran.holds("uid=1000 gid=1000");
        assert!(!ran.stdout().contains("euid") && !ran.stdout().contains("read"), "{made}: {}", ran.json);
    });
}

#[test]
fn an_image_under_a_name_with_everything_in_it() {
    live(|host| {
        let path = image(host);
        for name in ["a b", "a,b", "a:b", "a\\b", "ü", "-x", "a=b", "a\nb"] {
            let odd = host.dir(name);
            std::fs::rename(&path, &odd).expect("ours");
            host.run(sh(odd.to_str().expect("ours"), "echo fine")).is("ok").said("fine\n");
            std::fs::rename(&odd, &path).expect("ours");
        }
    });
}
