//! Images of the store: in from archives, out by gc, and what programs see of them.

use super::harness::{Host, command, live, on_the_host, rounds, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// A root filesystem of busybox with a user of its own, as a tar archive made by tar(1).
fn archive(host: &Host, name: &str, extra: &[(&str, &str)]) -> String {
    let root = host.dir(&format!("{name}.root"));
    std::fs::create_dir_all(root.join("bin")).expect("made");
    std::fs::create_dir_all(root.join("etc")).expect("made");
    std::fs::copy("/usr/bin/busybox", root.join("bin/busybox")).expect("the gate has looked");
    std::fs::set_permissions(root.join("bin/busybox"), PermissionsExt::from_mode(0o4755)).expect("ours");
    for applet in ["sh", "cat", "echo", "id", "sleep", "stat", "touch", "rm", "ls", "true", "dd"] {
        symlink("busybox", root.join("bin").join(applet)).expect("made");
    }
    let all = [("etc/passwd", "root:x:0:0::/:/bin/sh\napp:x:7:8::/:/bin/sh\n"), ("etc/release", name)];
    for (path, text) in all.iter().chain(extra) {
        std::fs::write(root.join(path), text).expect("written");
    }
    let path = host.dir(&format!("{name}.tar"));
    tar(&["-C", text(&root), "-cf", text(&path), "."]);
    text(&path).to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ours")
}

fn tar(words: &[&str]) {
    let done = command("/usr/bin/tar").args(words).output().expect("tar runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// The answer of a word that succeeds.
#[track_caller]
fn answer(host: &Host, words: &[&str]) -> Value {
    let (code, out, err) = host.words(words);
    assert_eq!(code, 0, "{words:?}: {out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
}

/// The code of a word that is refused, and its exit code.
#[track_caller]
fn fault(host: &Host, words: &[&str]) -> (i32, Value) {
    let (code, out, _) = host.words(words);
    let document: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"));
    (code, document["error"]["code"].clone())
}

fn sh(image: &str, script: &str) -> Value {
    json!({"image": image, "argv": ["/bin/sh", "-c", script], "limits": {"wall": "20s"}})
}

/// How many things lie on a shelf of the store.
fn on(host: &Host, shelf: &str) -> usize {
    std::fs::read_dir(host.root().join("store").join(shelf)).map_or(0, Iterator::count)
}

#[test]
fn an_archive_becomes_an_image_that_runs() {
    on_the_host(|host| {
        let tar = archive(host, "one", &[]);
        let imported = answer(host, &["image", "import", &tar, "--name", "one:1"]);
        assert_eq!((&imported["layers"], &imported["layers_known"]), (&json!(1), &json!(0)), "{imported}");
        let ran = host.run(sh("one:1", "cat /etc/release; id -u; stat -c %u:%a /bin/busybox /; touch /x /etc/x || echo no"));
        ran.is("ok").said("one1000\n0:4755\n0:755\nno\n");
        let digest = imported["digest"].as_str().expect("a digest");
        assert!(ran.json.contains(&format!(r#""image":"one:1@{digest}""#)), "{}", ran.json);
        host.run(sh(digest, "echo by digest")).said("by digest\n");
        host.run(sh(&digest[..20], "echo by its beginning")).said("by its beginning\n");
        // The same archive, compressed: the same image.
        for (how, flag) in [("gz", "-czf"), ("zst", "--zstd")] {
            let path = format!("{tar}.{how}");
            let file: &[&str] = if how == "gz" { &[flag, &path] } else { &[flag, "-cf", &path] };
            tar_of(&host.dir("one.root"), file);
            let again = answer(host, &["image", "import", &path]);
            assert_eq!(again["digest"].as_str(), Some(digest), "{how}");
        }
        assert_eq!((on(host, "images"), on(host, "layers"), on(host, "bench")), (1, 1, 0));
        assert_eq!(answer(host, &["image", "verify", "one:1"])["differences"], json!([]));
        let error = host.refused(json!({"image": "none:1", "argv": ["true"]}), 2);
        assert_eq!((&error["code"], &error["path"]), (&json!("image:!exists"), &json!("image")));
    });
}

fn tar_of(root: &Path, words: &[&str]) {
    tar(&[&["-C", text(root)], words, &["."]].concat());
}

#[test]
fn a_writable_root_takes_everything_and_forgets_it() {
    live(|host| {
        answer(host, &["image", "import", &archive(host, "w", &[("etc/old", "x")]), "--name", "w"]);
        let script = "echo new > /made && rm /etc/old && echo more >> /etc/release && ls /etc && cat /made";
        let mut job = sh("w", script);
        (job["writable_root"], job["user"]) = (json!(true), json!("0:0"));
        host.run(job.clone()).is("ok").said("passwd\nrelease\nnew\n");
        host.run(job.clone()).is("ok").said("passwd\nrelease\nnew\n");
        host.run(sh("w", "cat /etc/old /etc/release; ls /made")).is("nonzero").said("xw");
        // It is bounded like /sandbox, and its end is no end of memory.
        job["argv"] = json!(["/bin/sh", "-c", "dd if=/dev/zero of=/big bs=1M count=40; stat -c %s /big"]);
        job["limits"] = json!({"sandbox": "8MiB", "memory": "64MiB", "wall": "20s"});
        let ran = host.run(job);
        let size: u64 = ran.is("ok").stdout().trim().parse().expect("a size");
        assert!((7 << 20..=8 << 20).contains(&size) && ran.stderr().contains("No space left"), "{}", ran.json);
        assert_eq!(answer(host, &["image", "verify", "w"])["differences"], json!([]));
        let host_image = json!({"argv": ["sh", "-c", "echo x > /etc/made && cat /etc/made; touch /usr/x"], "user": "0:0", "writable_root": true});
        host.run(host_image).is("nonzero").said("x\n");
    });
}

#[test]
fn twenty_runs_share_one_tree() {
    live(|host| {
        answer(host, &["image", "import", &archive(host, "shared", &[]), "--name", "shared"]);
        for _ in 0..rounds(4).max(1) {
            let started: Vec<_> = (0..5).map(|n| host.job(&sh("shared", &format!("cat /etc/release; echo {n}")))).collect();
            for (n, one) in started.into_iter().enumerate() {
                one.outcome().is("ok").said(&format!("shared{n}\n"));
            }
        }
        assert_eq!(on(host, "layers"), 1);
    });
}

#[test]
fn names_come_and_go_and_what_is_in_use_stays() {
    on_the_host(|host| {
        answer(host, &["image", "import", &archive(host, "a", &[]), "--name", "a:1"]);
        answer(host, &["image", "import", &archive(host, "b", &[]), "--name", "b:1"]);
        answer(host, &["image", "tag", "a:1", "a:2"]);
        let listed = answer(host, &["image", "list", "--json"]);
        let names = |n: usize| listed[n]["names"].clone();
        assert!(
            [names(0), names(1)].contains(&json!(["a:1", "a:2"])) && [names(0), names(1)].contains(&json!(["b:1"])),
            "{listed}"
        );

        let sleeper = host.job(&sh("a:1", "echo on; sleep 15"));
        until("it runs", || answer(host, &["list", "--json"])[0]["state"] == "running");
        assert_eq!(answer(host, &["image", "remove", "a:1"])["image"], json!(null), "another name is left");
        assert_eq!(fault(host, &["image", "remove", "a:2"]), (3, json!("image:in_use")));
        let gone = answer(host, &["gc", "--unused-for", "0s"]);
        assert_eq!(gone["store"]["images"], json!([]), "named, or in use: {gone}");
        sleeper.signal(Signal::SIGTERM);
        sleeper.outcome().is("cancelled").said("on\n");

        let removed = answer(host, &["image", "remove", "a:2"]);
        assert_eq!(removed["layers"].as_array().map(Vec::len), Some(1), "{removed}");
        assert_eq!(fault(host, &["image", "inspect", "a:2"]), (2, json!("image:!exists")));
        assert_eq!((on(host, "images"), on(host, "layers"), on(host, "listings")), (1, 1, 2));
        assert_eq!(fault(host, &["image", "tag", "b:1", "Bad Name"]).0, 2);
    });
}

#[test]
fn gc_takes_the_least_recently_used_and_says_so_before() {
    on_the_host(|host| {
        for name in ["x", "y", "z"] {
            answer(host, &["image", "import", &archive(host, name, &[]), "--name", name]);
        }
        // x was used last, z keeps its name.
        host.run(sh("x", "true")).is("ok");
        let digest = |name: &str| answer(host, &["image", "inspect", name])["digest"].clone();
        let (x, y) = (digest("x"), digest("y"));
        for name in ["x", "y"] {
            let file = std::fs::read_dir(host.root().join("store/names")).expect("ours").flatten();
            let of = |path: &PathBuf| std::fs::read_to_string(path).is_ok_and(|t| t.contains(&format!("\"{name}:latest\"")));
            let path = file.map(|e| e.path()).find(of).expect("the name's file");
            std::fs::remove_file(path).expect("ours");
        }
        let dry = answer(host, &["gc", "--keep-bytes", "0", "--dry-run"])["store"].clone();
        assert_eq!(dry["images"], json!([y, x]), "in the order in which they go");
        assert_eq!(on(host, "images"), 3, "a look changes nothing");
        let swept = answer(host, &["gc", "--keep-bytes", "0"])["store"].clone();
        assert_eq!((&swept["images"], &swept["freed_bytes"]), (&dry["images"], &dry["freed_bytes"]));
        assert_eq!((on(host, "images"), on(host, "layers")), (1, 1));
        host.run(sh("z", "cat /etc/release")).said("z");
    });
}

#[test]
fn two_imports_at_once_give_one_image() {
    live(|host| {
        let tar = archive(host, "twice", &[]);
        let one = |name: &str| host.start(host.runcell(&["image", "import", &tar, "--name", name]));
        let all = [one("n1"), one("n2"), one("n3")];
        let digests: Vec<Value> = all
            .into_iter()
            .map(|started| {
                let (code, out, err) = started.ended();
                assert_eq!(code, 0, "{out}{err}");
                serde_json::from_str::<Value>(&out).expect("a document")["digest"].clone()
            })
            .collect();
        assert!(digests.iter().all(|d| *d == digests[0]), "{digests:?}");
        assert_eq!((on(host, "images"), on(host, "layers"), on(host, "names"), on(host, "bench")), (1, 1, 3, 0));
    });
}

#[test]
fn an_import_killed_at_any_moment_leaves_nothing_that_gc_does_not_find() {
    live(|host| {
        let random: String =
            (0..3_000_000u32).map(|n| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 27) as u8 % 26)).collect();
        let tar = archive(host, "killed", &[("big", &random), ("big2", &random)]);
        for n in 0..rounds(30) {
            let started = host.start(host.runcell(&["image", "import", &tar, "--name", "killed"]));
            super::harness::pause(u64::from(n) * 3 % 70);
            started.signal(Signal::SIGKILL);
            let (code, ..) = started.ended();
            // Its child has a copy of its lease and ends by itself; what is visible meanwhile is whole.
            until("its bench is nobody's", || {
                answer(host, &["gc"]);
                on(host, "bench") == 0
            });
            let images = on(host, "images");
            assert!(images <= 1 && on(host, "layers") == images, "{images} images, killed after {n}, exit code {code}");
            if images == 1 {
                assert_eq!(answer(host, &["image", "list", "--json"])[0]["layers"], json!(1));
                let name = answer(host, &["image", "list", "--json"])[0]["digest"].as_str().expect("a digest").to_owned();
                assert_eq!(answer(host, &["image", "verify", &name])["differences"], json!([]));
                answer(host, &["image", "remove", &name]);
            }
            assert_eq!(["images", "layers", "listings", "blobs", "names", "bench"].map(|s| on(host, s)), [0; 6]);
        }
    });
}

#[test]
fn an_archive_that_is_no_good_leaves_nothing() {
    live(|host| {
        let tar = archive(host, "good", &[]);
        let whole = std::fs::read(&tar).expect("ours");
        let cut = host.file("cut.tar", &whole[..whole.len() / 2]);
        let noise = host.file("noise.tar", [0x5a; 4096]);
        let empty = host.file("empty.tar", b"");
        for (path, code) in [(&cut, "archive:malformed"), (&noise, "archive:malformed"), (&empty, "archive:malformed")] {
            assert_eq!(fault(host, &["image", "import", path, "--name", "bad"]), (2, json!(code)), "{path}");
        }
        assert_eq!(fault(host, &["image", "import", "/nowhere.tar"]), (2, json!("archive:unreadable")));
        host.policy("[import]\nbytes = '1MiB'\n");
        assert_eq!(fault(host, &["image", "import", &tar]), (2, json!("archive:too_large")));
        host.policy("[import]\nkeep_free = '1000TiB'\n");
        assert_eq!(fault(host, &["image", "import", &tar]), (3, json!("store:full")));
        assert_eq!(["images", "layers", "listings", "blobs", "names", "bench"].map(|s| on(host, s)), [0; 6]);
    });
}

#[test]
fn what_changed_in_a_tree_is_named() {
    live(|host| {
        answer(host, &["image", "import", &archive(host, "v", &[]), "--name", "v"]);
        let tree = std::fs::read_dir(host.root().join("store/layers")).expect("ours").flatten().next().expect("one").path();
        std::fs::write(tree.join("etc/release"), "changed").expect("as root");
        let (code, out, _) = host.words(&["image", "verify", "v"]);
        let told: Value = serde_json::from_str(&out).expect("a document");
        assert_eq!((code, &told["differences"][0]["path"]), (4, &json!("etc/release")), "{out}");
    });
}
