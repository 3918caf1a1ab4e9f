//! Files that come back: what was made, changed and deleted, by content, within bounds, and nothing that is no file.

use super::harness::{in_rig, live, on_the_host, unhurried};
use super::run::bytes;
use serde_json::{Value, json};

fn all(script: &str, files: Value) -> Value {
    json!({"argv": ["sh", "-c", script], "files": files, "collect": ["**"]})
}

#[test]
fn created_changed_deleted_and_what_stayed() {
    live(|host| {
        let files =
            json!({"same": "1", "changed": "1", "gone": "1", "d/gone": "1", "rewritten": "1", "moved": "1", "now_dir": "1"});
        let script = "echo 2 > changed; rm -r gone d; printf 1 > rewritten; mv moved moved2; rm now_dir; mkdir now_dir; echo n > new; touch empty; \
                      printf x > one; mkdir -p a/b; printf '\\377\\000' > a/b/bin; chmod 4755 one; chmod 751 new";
        let ran = host.run(all(script, files));
        let paths = |files: &[runcell::model::outcome::FileOut]| files.iter().map(|f| f.path.clone()).collect::<Vec<_>>();
        assert_eq!(paths(&ran.is("ok").outcome.files.created), ["a/b/bin", "empty", "moved2", "new", "one"]);
        assert_eq!(paths(&ran.outcome.files.changed), ["changed"]);
        assert_eq!(ran.deleted(), ["d/gone", "gone", "moved", "now_dir"]);
        assert!(ran.skipped().is_empty());
        let file =
            |path: &str| (bytes(&ran.created(path).content), ran.created(path).content.bytes, ran.created(path).mode.clone());
        assert_eq!(file("a/b/bin"), (vec![0xff, 0], 2, "0644".into()));
        assert_eq!(file("empty"), (vec![], 0, "0644".into()));
        assert_eq!(file("new"), (b"n\n".to_vec(), 2, "0751".into()));
        assert_eq!((file("one").0, file("one").1), (b"x".to_vec(), 1));
    });
}

#[test]
fn only_what_the_globs_name() {
    on_the_host(|host| {
        let script = "mkdir -p out/deep; echo 1 > out/a.txt; echo 1 > out/deep/b.txt; echo 1 > c.txt; echo 1 > out/a.bin; ln -s /etc out/link";
        let collected = |globs: &[&str]| {
            let ran = host.run(json!({"argv": ["sh", "-c", script], "collect": globs}));
            ran.is("ok").outcome.files.created.iter().map(|f| f.path.clone()).collect::<Vec<_>>()
        };
        assert_eq!(collected(&["out/*.txt"]), ["out/a.txt"]);
        assert_eq!(collected(&["**/*.txt"]), ["c.txt", "out/a.txt", "out/deep/b.txt"]);
        assert_eq!(collected(&["*"]), ["c.txt"]);
        assert_eq!(collected(&["out/**"]), ["out/a.bin", "out/a.txt", "out/deep/b.txt"]);
        assert_eq!(collected(&["c.txt", "out/{a,x}.bin"]), ["c.txt", "out/a.bin"]);
        assert!(collected(&[]).is_empty());
    });
}

#[test]
fn what_is_no_file_is_named_and_left() {
    live(|host| {
        let program = "import os, socket
os.symlink('/etc/passwd', 'link'); os.symlink('nowhere', 'dangling'); os.symlink('/', 'dir_link'); os.symlink('loop', 'loop')
os.mkfifo('fifo'); socket.socket(socket.AF_UNIX).bind('socket'); os.symlink('/dev/zero', 'zero')
os.mkdir('d'); os.symlink('..', 'd/up')
open('real', 'w').write('x'); os.link('real', 'again')";
        let ran = host.run(json!({"argv": ["python3", "-c", program], "collect": ["**"], "files": {"was": "1"}}));
        let link = |path| (path, "symlink");
        let expected = [
            link("d/up"),
            link("dangling"),
            link("dir_link"),
            ("fifo", "fifo"),
            link("link"),
            link("loop"),
            ("socket", "socket"),
            link("zero"),
        ];
        assert_eq!(ran.is("ok").skipped(), expected);
        let created: Vec<&str> = ran.outcome.files.created.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(created, ["again", "real"]);
        // A file of the job replaced by something else is gone, whatever it points to.
        let ran = host.run(all("rm was; ln -s /etc/shadow was; rm d/was; mkfifo d/was", json!({"was": "1", "d/was": "1"})));
        assert_eq!((ran.is("ok").deleted(), ran.skipped()), (vec!["d/was", "was"], vec![("d/was", "fifo"), ("was", "symlink")]));
        assert!(ran.outcome.files.changed.is_empty());
    });
}

#[test]
fn a_directory_swapped_for_a_link_leads_nowhere() {
    live(|host| {
        let ran = host.run(all("mv d e; ln -s /etc d", json!({"d/passwd": "1"})));
        ran.is("ok");
        assert_eq!((ran.deleted(), ran.skipped()), (vec!["d/passwd"], vec![("d", "symlink")]));
        assert_eq!(ran.created("e/passwd").content.text.as_deref(), Some("1"));
    });
}

#[test]
fn any_name_comes_back() {
    on_the_host(|host| {
        let program = r"import os
for name in [b'a\xffb', b'\n', b'-', b'\x1b[2J', 'é'.encode(), b'x' * 255, b'd/\xfe', b'\\', b'$(id)']:
    os.makedirs(os.path.dirname(b'/sandbox/' + name), exist_ok=True)
    open(b'/sandbox/' + name, 'wb').write(name)
os.remove(b'/sandbox/old')";
        let ran = host.run(json!({"argv": ["python3", "-c", program], "collect": ["**"], "files": {"old": ""}}));
        assert_eq!((ran.is("ok").outcome.files.created.len(), ran.deleted()), (9, vec!["old"]));
        for file in &ran.outcome.files.created {
            let exact = match &file.path_base64 {
                None => file.path.clone().into_bytes(),
                Some(base64) => {
                    bytes(&runcell::model::blob::Blob { text: None, base64: Some(base64.clone()), bytes: 0, truncated: false })
                }
            };
            assert_eq!(bytes(&file.content), exact, "{file:?}");
            assert_eq!(file.path_base64.is_some(), exact.contains(&0xff) || exact.contains(&0xfe));
        }
    });
}

#[test]
fn each_file_and_all_together_have_their_bounds() {
    live(|host| {
        let ran = host
            .run(all("head -c 1048576 /dev/zero > exact; head -c 1048577 /dev/zero > more; truncate -s 50M sparse", json!({})));
        let told = |path: &str| {
            let c = &ran.created(path).content;
            (bytes(c).len() as u64, c.bytes, c.truncated)
        };
        ran.is("ok");
        assert_eq!(told("exact"), (1 << 20, 1 << 20, false));
        assert_eq!(told("more"), (1 << 20, (1 << 20) + 1, true));
        assert_eq!(told("sparse"), (1 << 20, 50 << 20, true));
        let ran = host.run(all("for n in $(seq 20); do head -c 1000000 /dev/zero | tr '\\0' x > $n; done", json!({})));
        let total: u64 = ran.is("ok").outcome.files.created.iter().map(|f| bytes(&f.content).len() as u64).sum();
        assert_eq!(total, 16 << 20, "all together");
        assert_eq!(ran.outcome.files.created.len() + ran.skipped().len(), 20);
        assert!(ran.skipped().iter().all(|(_, why)| *why == "too_large"), "{:?}", ran.skipped());
    });
}

#[test]
fn a_thousand_files_come_back_and_no_more() {
    on_the_host(|host| {
        let ran = host.run(all("for n in $(seq 1200); do echo $n > $n; done", json!({})));
        assert_eq!((ran.is("ok").outcome.files.created.len(), ran.skipped().len()), (1000, 200));
        assert!(ran.skipped().iter().all(|(_, why)| *why == "too_many"));
        let many = if in_rig() { 1500 } else { 6000 };
        let program = format!("import os\nfor n in range({many}): os.symlink('x', str(n))");
        let ran = host.run(json!({"argv": ["python3", "-c", program], "collect": ["**"]}));
        assert_eq!(ran.is("ok").skipped().len(), 1000, "and no more are named");
    });
}

#[test]
fn what_was_closed_is_opened_for_the_way_back() {
    live(|host| {
        let script = "mkdir -p d/e; echo in > d/e/f; echo shut > shut; chmod 000 shut d/e/f d/e d; mkdir w; echo w > w/f; chmod 100 w; chmod 000 in";
        let ran = host.run(all(script, json!({"in": "changed not"})));
        ran.is("ok");
        assert_eq!(ran.created("shut").content.text.as_deref(), Some("shut\n"));
        assert_eq!((ran.created("d/e/f").content.text.as_deref(), ran.created("d/e/f").mode.as_str()), (Some("in\n"), "0000"));
        assert_eq!((ran.created("w/f").content.text.as_deref(), ran.skipped().len()), (Some("w\n"), 0));
    });
}

#[test]
fn a_sandbox_that_was_itself_closed_or_left() {
    live(|host| {
        let ran = host.run(all("echo x > f; chmod 000 /sandbox", json!({})));
        assert_eq!(ran.is("ok").created("f").content.text.as_deref(), Some("x\n"));
        let ran = host.run(all("rm -rf /sandbox/* /sandbox 2>/dev/null; echo end", json!({"a": "", "b/c": ""})));
        assert_eq!((ran.is("ok").said("end\n").deleted(), ran.skipped().len()), (vec!["a", "b/c"], 0));
    });
}

#[test]
fn files_survive_every_kind_of_end() {
    live(|host| {
        for (end, verdict) in
            [("exit 3", "nonzero"), ("kill -9 $$", "signaled"), ("sleep 60", "wall_time"), ("yes", "output_limit")]
        {
            let mut job = all(&format!("echo kept > f; {end}"), json!({}));
            job["limits"] = json!({"wall": unhurried(500)});
            let ran = host.run(job);
            assert_eq!(ran.is(verdict).created("f").content.text.as_deref(), Some("kept\n"));
        }
    });
}

#[test]
fn a_file_that_still_grows_is_read_when_nothing_moves() {
    live(|host| {
        let script = "(trap '' TERM; while :; do echo x >> f; done) & (while :; do mv f g; mv g f; done) 2>/dev/null & sleep 0.3";
        let ran = host.run(all(script, json!({})));
        let file = ran.is("ok").outcome.files.created.first().expect("f or g");
        assert!(file.content.truncated || bytes(&file.content).len() as u64 == file.content.bytes);
    });
}
