//! Katas: homes that survive runs, colours, who may run when, and how all of it ends.

use super::dojo::{Dojo, KATA, digest, fine, mine, nothing_left, refused, told};
use super::gate;
use super::harness::{in_rig, live, on_the_host, pause, rounds, until};
use super::leftovers;
use base64::Engine as _;
use nix::sys::signal::Signal;
use runcell::model::outcome::{HomeState, SharedState, Start};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::time::Instant;

/// The program of this run, once it sleeps: what has to happen meanwhile has all the time it needs.
#[track_caller]
fn sleeper(run: &str) -> i32 {
    let found = || {
        let all = leftovers::processes();
        all.into_iter().find(|(_, group, line)| group.contains(run) && line.starts_with("sleep")).map(|(pid, ..)| pid)
    };
    until("the program sleeps", || found().is_some());
    found().expect("it sleeps on")
}

fn wake(sleeper: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(sleeper), Signal::SIGTERM).expect("it sleeps until then");
}

#[test]
fn what_is_asked_wrongly_is_told_by_a_stable_word() {
    on_the_host(|host| {
        let dojo = Dojo::new(host, &[]);
        dojo.script("lion", "exit 0");
        let other = "5kq9Zx2aBc";
        let wrong: [(&[&str], &str); 9] = [
            (&["new", "4kq9Zx2aB0"], "kata_id:malformed"),
            (&["new", KATA], "kata_id:exists"),
            (&["show", other], "kata_id:!exists"),
            (&["avatar", KATA, "unicorn"], "avatar_name:malformed"),
            (&["avatar", KATA, "lion"], "avatar_name:exists"),
            (&["run", KATA, "zebra"], "avatar_name:!exists"),
            (&["new", other, "--image", "no-such-image"], "image:!exists"),
            (&["run", KATA, "lion", "--max-seconds", "1.5"], "max_seconds:malformed"),
            (&["run", KATA, "lion", "--user", "0"], "job:malformed"),
        ];
        for (words, code) in wrong {
            assert_eq!(refused(host, &[&["kata"], words].concat()), (2, code.to_owned()), "{words:?}");
        }
        let bad = host.file("bad.json", r#"{"limits":{"wall":"soon"}}"#);
        assert_eq!(refused(host, &["kata", "run", KATA, "lion", "--job", &bad]).1, "max_seconds:malformed");
        assert_eq!(refused(host, &["kata", "frobnicate"]).0, 2);
        let bear = fine(host, &["kata", "avatar", KATA]);
        assert_eq!((&bear["name"], &bear["uid"]), (&json!("alligator"), &json!(40_000)), "the first that is free");
        dojo.retire();
        assert_eq!(refused(host, &["kata", "retire", KATA]), (2, "kata_id:!exists".to_owned()));
    });
}

#[test]
fn a_home_is_what_the_last_run_left() {
    on_the_host(|host| {
        let dojo = Dojo::new(host, &["--prune", "*.o", "--prune", "__pycache__"]);
        let script = "cat n 2>/dev/null; echo x >> n; mkdir -p d/e __pycache__ empty; echo hi > d/e/f; echo > d/x.o; \
                      echo > __pycache__/y; chmod 755 tool; rm -f gone; ln -sf /etc/passwd link";
        dojo.avatar(
            "lion",
            &json!({"cyber-dojo.sh": script, "tool": "#!/bin/sh\n", "gone": "g", "kept": {"text": "k", "mode": "0600"}}),
        );
        let first = dojo.press("lion", &json!({}));
        let avatar = first.is("ok").outcome.avatar.clone().expect("told");
        assert_eq!((avatar.home, avatar.created, avatar.changed, avatar.why), (HomeState::Kept, 2, 1, None));
        assert_eq!(first.outcome.colour.as_deref(), Some("green"));
        let created: Vec<&str> = first.outcome.files.created.iter().map(|f| f.path.as_str()).collect();
        assert_eq!((created, first.deleted(), first.skipped()), (vec!["d/e/f", "n"], vec!["gone"], vec![("link", "symlink")]));
        assert_eq!(first.outcome.files.changed[0].mode, "0755");
        let home = dojo.home("lion");
        assert_eq!(home.keys().collect::<Vec<_>>(), ["cyber-dojo.sh", "d/e/f", "kept", "n", "tool"]);
        assert_eq!((home["n"].0.clone(), home["tool"].1.as_str(), home["kept"].1.as_str()), (digest(b"x\n"), "0755", "0600"));
        // The second run finds it so; a job brings, changes and takes away.
        let again =
            dojo.press("lion", &json!({"files": {"kept": "new", "a b/c": {"base64": "AP8="}}, "deleted": ["d/e/f", "never"]}));
        again.is("ok").said("x\n");
        let home = dojo.home("lion");
        assert_eq!((home["n"].0.clone(), home["kept"].0.clone()), (digest(b"x\nx\n"), digest(b"new")));
        assert_eq!(home["a b/c"].0, digest(&[0, 0xff]));
        // All there is to be; the run itself fails to start, and the home is what the job wanted.
        let all = dojo.press("lion", &json!({"all": {"only": "o"}, "argv": ["/sandbox/none"]}));
        let avatar = all.is("not_started").outcome.avatar.clone().expect("told");
        assert_eq!((avatar.home, avatar.files, all.outcome.colour.as_deref()), (HomeState::Given, 1, None));
        assert_eq!(dojo.names("lion"), ["only"]);
        // What does not find room leaves everything as it was.
        let big = json!({"files": {"big": "x".repeat(2_000_000)}, "limits": {"sandbox": "1MiB"}});
        let full = dojo.press("lion", &big);
        assert_eq!(full.is("not_started").outcome.avatar.as_ref().expect("told").home, HomeState::Unchanged);
        assert_eq!(dojo.names("lion"), ["only"]);
        dojo.retire();
    });
}

#[test]
fn a_kata_that_keeps_nothing_tells_all_the_same() {
    on_the_host(|host| {
        let dojo = Dojo::new(host, &["--discard"]);
        dojo.script(
            "owl",
            "for n in $(seq 20); do head -c 60000 /dev/zero | tr '\\0' z > f$n; done; head -c 70000 /dev/zero; rm cyber-dojo.sh",
        );
        let ran = dojo.press("owl", &json!({}));
        let avatar = ran.is("ok").outcome.avatar.clone().expect("told");
        assert_eq!((avatar.home, avatar.created, avatar.files), (HomeState::Given, 20, 1));
        let files = &ran.outcome.files;
        assert_eq!((files.created.len(), files.created[0].path.as_str(), files.created[1].path.as_str()), (16, "f1", "f10"));
        let content = &files.created[0].content;
        assert_eq!((content.bytes, content.truncated, content.text.as_ref().map(String::len)), (60_000, true, Some(51_200)));
        let out = &ran.outcome.stdout;
        assert_eq!((out.bytes, out.truncated, out.text.as_ref().map(String::len)), (70_000, true, Some(51_200)));
        assert_eq!(dojo.names("owl"), ["cyber-dojo.sh"]);
        dojo.retire();
    });
}

#[test]
fn any_name_and_any_content_comes_back_and_goes_in_again() {
    on_the_host(|host| {
        let dojo = Dojo::new(host, &[]);
        let deep = ["d"; 60].join("/");
        let long = "é".repeat(127);
        let names = [
            "it's",
            "\"q\"",
            "$(touch gone)",
            "`id`",
            "a\nb",
            "\n",
            "-rf",
            "--",
            "stdout",
            "status",
            "home.json",
            "avatar.json",
            "new",
            " ",
            "*",
            "日本",
            "\u{1b}[2J",
            "\u{202e}",
            &long,
            &deep,
            "tab\there",
            "back\\slash",
            ".hidden",
            "...",
        ];
        let mut files: Map<String, Value> = names.iter().map(|n| ((*n).to_owned(), json!(format!("<{n}>")))).collect();
        files.insert("empty".into(), json!(""));
        files.insert("one".into(), json!("1"));
        files.insert("control".into(), json!("a\u{1}b"));
        let program = r"
import os
for d, _, fs in list(os.walk(b'/sandbox')):
    for f in fs:
        p = os.path.join(d, f); c = open(p, 'rb').read()
        if f != b'main.py': open(p, 'wb').write(c + b'!')
for n in [b'\xff\xfe', b'bin/\x80 \n', b'made']:
    os.makedirs(os.path.dirname(b'/sandbox/' + n), exist_ok=True); open(b'/sandbox/' + n, 'wb').write(n)
os.mkfifo('/sandbox/fifo'); os.symlink('/sandbox', '/sandbox/loop')
";
        files.insert("main.py".into(), json!(program));
        dojo.avatar("fox", &Value::Object(files.clone()));
        let ran = dojo.press("fox", &json!({"argv": ["python3", "main.py"]}));
        assert_eq!(ran.is("ok").outcome.files.changed.len(), 16, "as many as are told");
        let avatar = ran.outcome.avatar.clone().expect("told");
        assert_eq!((avatar.changed, avatar.created, avatar.home), (files.len() as u64 - 1, 3, HomeState::Kept));
        assert_eq!(ran.skipped(), [("fifo", "fifo"), ("loop", "symlink")]);
        let home = dojo.home("fox");
        for name in names {
            assert_eq!(home[name].0, digest(format!("<{name}>!").as_bytes()), "{name:?}");
        }
        assert_eq!((&home["empty"].0, &home["control"].0), (&digest(b"!"), &digest(b"a\x01b!")));
        let b64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        assert_eq!(home[&b64(b"\xff\xfe")].0, digest(b"\xff\xfe"));
        // All of that is delivered once more, and then it goes: by name, and by rm.
        let gone =
            json!({"argv": ["sh", "-c", "cat made; find . -mindepth 1 -delete"], "deleted": [{"base64": b64(b"\xff\xfe")}]});
        let ran = dojo.press("fox", &gone);
        assert_eq!(ran.is("ok").said("made").outcome.files.deleted.len(), home.len() - 1);
        assert!(dojo.names("fox").is_empty());
        dojo.press("fox", &json!({"argv": ["sh", "-c", "ls -A | wc -l"]})).is("ok").said("0\n");
        dojo.retire();
    });
}

/// make(1) builds by times: what was built before a change must look older than that.
#[test]
fn times_survive_so_that_make_builds_what_has_changed() {
    on_the_host(|host| {
        let dojo = Dojo::new(host, &["--colours", "c-assert"]);
        let makefile = "test: hiker.c\n\techo building\n\tgcc -o test hiker.c\n";
        let source = |answer: &str| {
            format!(
                "#include <assert.h>\n#include <stdio.h>\nint main(void) {{ assert({answer} == 42); puts(\"All tests passed\"); }}\n"
            )
        };
        let script = "make -s && ./test";
        dojo.avatar("frog", &json!({"Makefile": makefile, "hiker.c": source("6 * 9"), "cyber-dojo.sh": script}));
        if host.sh("command -v make").outcome.exit_code != Some(0) {
            dojo.retire();
            return gate::say("SKIPPED kata::times_survive: no make");
        }
        let mut seen = Vec::new();
        for files in [
            json!({}),
            json!({}),
            json!({"hiker.c": source("6 * 7")}),
            json!({}),
            json!({"hiker.c": "int main("}),
            json!({"hiker.c": source("42")}),
        ] {
            let ran = dojo.press("frog", &json!({"files": files}));
            seen.push((ran.outcome.colour.clone().expect("a colour"), ran.stdout().contains("building")));
        }
        let seen: Vec<(&str, bool)> = seen.iter().map(|(colour, built)| (colour.as_str(), *built)).collect();
        assert_eq!(seen, [("red", true), ("red", false), ("green", true), ("green", false), ("amber", true), ("green", true)]);
        dojo.retire();
    });
}

#[test]
fn a_timeout_has_no_colour_and_keeps_what_was_written() {
    on_the_host(|host| {
        let dojo = Dojo::new(host, &[]);
        dojo.script("ray", "echo half > out; while :; do :; done");
        let (code, document) = told(host, &["kata", "run", KATA, "ray", "--max-seconds", "1"]);
        host.note_runs();
        assert_eq!((code, &document["verdict"], &document["colour"]), (0, &json!("wall_time"), &Value::Null), "{document}");
        assert_eq!(dojo.names("ray"), ["cyber-dojo.sh", "out"]);
        let faulty = "[[colour]]\nstdout = '('\ncolour = 'red'\n";
        std::fs::create_dir_all(host.dir("bundles/colours")).expect("mkdir");
        std::fs::write(host.dir("bundles/colours/odd.toml"), faulty).expect("a file of ours");
        host.policy(&format!("bundles = ['{}']", host.dir("bundles").display()));
        dojo.retire();
        let dojo = Dojo::new(host, &["--colours", "odd"]);
        dojo.script("ray", "exit 0");
        let ran = dojo.press("ray", &json!({}));
        assert_eq!((ran.outcome.colour.as_deref(), ran.outcome.colour_reason.is_some()), (Some("faulty"), true), "{}", ran.json);
        dojo.retire();
    });
}

#[test]
fn a_second_run_waits_or_is_refused_and_so_is_one_too_many() {
    on_the_host(|host| {
        host.policy("[katas]\ncells = 2\ncells_in_all = 2\nqueue = 2");
        let dojo = Dojo::new(host, &["--cells", "1"]);
        dojo.script("lion", "echo x >> n; [ -e woken ] || { touch woken; sleep 600; }; exit 0");
        dojo.script("bear", "exit 0");
        let first = dojo.begin("lion", &json!({"limits": {"wall": "600s"}}), &[]);
        let sleeper = sleeper(&first.run_id());
        assert_eq!(refused(host, &["kata", "run", KATA, "lion", "--no-wait"]), (3, "busy".to_owned()));
        assert_eq!(
            refused(host, &["kata", "run", KATA, "bear", "--wait", "10ms"]),
            (3, "busy".to_owned()),
            "the kata's one cell"
        );
        let second = dojo.begin("lion", &json!({}), &[]);
        let third = dojo.begin("bear", &json!({}), &[]);
        wake(sleeper);
        for started in [first, second, third] {
            started.outcome().is("ok");
        }
        assert_eq!(dojo.home("lion")["n"].0, digest(b"x\nx\n"), "one after the other");
        dojo.retire();
    });
}

#[test]
fn a_shared_directory_is_everybodys_until_it_is_full() {
    on_the_host(|host| {
        host.policy("[katas]\nshared = '1MiB'\nshared_entries = 100");
        let dojo = Dojo::new(host, &["--shared"]);
        let ids = [
            dojo.script(
                "lion",
                "umask 077; echo lion > /shared/l; mkdir /shared/d; ln -s /etc/shadow /shared/link; mkfifo /shared/p",
            ),
            dojo.script(
                "bear",
                "cat /shared/l && echo bear >> /shared/l && touch /shared/d/b && stat -c '%u %g' /shared/l && cat /shared/link",
            ),
        ];
        assert_ne!(ids[0], ids[1]);
        let shared = |ran: &super::run::Ran| ran.outcome.avatar.as_ref().expect("told").shared;
        let lion = dojo.press("lion", &json!({}));
        assert_eq!(shared(lion.is("ok")), Some(SharedState::Writable), "{}", lion.json);
        let bear = dojo.press("bear", &json!({}));
        assert_eq!(
            (bear.stdout(), bear.outcome.exit_code),
            ("lion\n40003 40003\n", Some(1)),
            "its own, and no shadow: {}",
            bear.json
        );
        dojo.press("lion", &json!({"argv": ["sh", "-c", "cat /shared/l; head -c 2000000 /dev/zero > /shared/z"]}))
            .said("lion\nbear\n");
        let full = dojo.press("bear", &json!({"argv": ["sh", "-c", "cat /shared/l && ! rm /shared/z"]}));
        assert_eq!(shared(full.is("ok")), Some(SharedState::Full));
        // Deeper than a path can name, and gone all the same.
        let deep = "import os\nos.chdir('/shared')\nfor n in range(500): os.mkdir('d' * 9); os.chdir('d' * 9)";
        dojo.retire();
        let dojo = Dojo::new(host, &["--shared"]);
        dojo.avatar("lion", &json!({}));
        dojo.press("lion", &json!({"argv": ["python3", "-c", deep], "limits": {"wall": "100s"}})).is("ok");
        assert_eq!(shared(&dojo.press("lion", &json!({"argv": ["true"]}))), Some(SharedState::Full));
        dojo.retire();
    });
}

#[test]
fn a_katas_memory_is_bounded_and_nobody_takes_anothers() {
    live(|host| {
        let dojo = Dojo::new(host, &["--memory", "512MiB", "--cells", "2"]);
        let hog = "x = bytearray(0)\nwhile True: x += bytes(1 << 20)";
        dojo.avatar("lion", &json!({"hog.py": hog}));
        dojo.script("bear", "sleep 600; head -c 50000000 /dev/zero | tail -c 1 | wc -c");
        let bear = dojo.begin("bear", &json!({"limits": {"wall": "600s"}}), &[]);
        let run = bear.run_id();
        let sleeper = sleeper(&run);
        assert!(leftovers::groups().iter().any(|g| g.ends_with(&run) && g.parent().is_some_and(|kata| mine(host, kata))));
        let lion = dojo.press("lion", &json!({"argv": ["python3", "hog.py"]}));
        assert_eq!(lion.is("memory").outcome.limits.memory.0, (256 - 64) << 20);
        wake(sleeper);
        bear.outcome().is("ok").said("1\n");
        assert!(leftovers::groups().iter().any(|g| mine(host, g)));
        dojo.retire();
    });
}

#[test]
fn a_waiting_cell_is_its_avatars_alone() {
    live(|host| {
        let dojo = Dojo::new(host, &[]);
        let own = [dojo.script("lion", "exit 0"), dojo.script("bear", "exit 1")];
        let warm = |name: &str| {
            let shape = host.file("shape.json", json!({"avatar": {"kata": KATA, "name": name}}).to_string());
            let warmed = fine(host, &["warm", "--job", &shape]);
            host.note_runs();
            warmed["shape"].as_str().expect("a shape").to_owned()
        };
        assert_ne!(warm("lion"), warm("bear"), "each has a shape of its own");
        let start = |name: &str, job: Value| dojo.press(name, &job).outcome.start;
        assert_eq!((start("lion", json!({})), start("lion", json!({}))), (Start::Warm, Start::Cold));
        // Another shape: the one that waits has the avatar's only ids, and gives way.
        assert_eq!(start("bear", json!({"limits": {"sandbox": "1MiB"}})), Start::Cold);
        assert_eq!(start("bear", json!({})), Start::Cold);
        // Nobody else is given these ids, nor takes such a cell.
        warm("lion");
        let ids = host.sh("cat /proc/self/uid_map");
        assert!(
            own.iter().all(|id| !ids.stdout().contains(&id.to_string())) && ids.outcome.start == Start::Cold,
            "{}",
            ids.stdout()
        );
        let (code, out, _) = dojo.begin("lion", &json!({}), &["--refill"]).ended();
        let first: Value = serde_json::from_str(&out).expect("a document");
        assert_eq!((code, &first["start"]), (0, &json!("warm")), "{out}");
        until("another waits", || !leftovers::cells(&host.root()).is_empty());
        host.note_runs();
        assert_eq!(start("lion", json!({})), Start::Warm);
        warm("lion");
        dojo.retire();
    });
}

#[test]
fn killed_at_any_moment_a_home_is_the_old_or_the_new_one() {
    on_the_host(|host| {
        let dojo = Dojo::new(host, &[]);
        let script = "n=$(cat n); for f in a b c d; do echo $n $f > $f; done; rm -f big*; head -c 300000 /dev/urandom > big$n; echo $((n + 1)) > n";
        dojo.avatar("lion", &json!({"cyber-dojo.sh": script, "n": "0\n"}));
        let all = rounds(50);
        let began = Instant::now();
        dojo.press("lion", &json!({})).is("ok");
        // A little longer than a run takes here and now.
        let span = u64::try_from(began.elapsed().as_millis()).expect("some ms") * 5 / 4;
        let span = span.clamp(1, 800);
        let (mut number, mut survived) = (1u64, 0);
        for n in 0..u64::from(all) {
            let started = dojo.begin("lion", &json!({"files": {"brought": format!("{n}")}}), &[]);
            pause(n * 7919 % span);
            started.signal(Signal::SIGKILL);
            started.ended();
            host.note_runs();
            let home = dojo.home("lion");
            let is = |number: u64| home["n"].0 == digest(format!("{number}\n").as_bytes());
            assert!(is(number) || is(number + 1), "neither the old home nor the new one: {home:?}");
            if is(number + 1) {
                // All of the new one: what the run wrote, and what the job brought.
                assert_eq!(home["brought"].0, digest(format!("{n}").as_bytes()));
                assert!(home.contains_key(&format!("big{number}")) && home["a"].0 == digest(format!("{number} a\n").as_bytes()));
                (number, survived) = (number + 1, survived + 1);
            }
            let bigs: Vec<&String> = home.keys().filter(|name| name.starts_with("big")).collect();
            assert_eq!(bigs.len(), usize::from(number > 0), "{bigs:?}");
        }
        let last = dojo.press("lion", &json!({}));
        assert_eq!(last.is("ok").outcome.avatar.as_ref().expect("told").home, HomeState::Kept);
        gate::say(&format!("live: killed kata run at {all} moments; {survived} times the home was the new one"));
        dojo.retire();
    });
}

#[test]
fn what_nobody_uses_is_reaped_oldest_first_and_nothing_in_progress() {
    on_the_host(|host| {
        let ids = ["6kq9Zx2aBc", "7kq9Zx2aBc", KATA];
        for id in ids {
            fine(host, &["kata", "new", id]);
            pause(20);
        }
        let dojo = Dojo { host };
        dojo.script("lion", "sleep 60");
        let reap = |words: &[&str]| {
            let document = fine(host, &[&["kata", "reap"], words].concat());
            let ids = document["reaped"].as_array().expect("katas").iter().map(|k| k["id"].as_str().expect("an id").to_owned());
            (ids.collect::<Vec<_>>(), document["busy"].clone())
        };
        assert_eq!(reap(&["--unused-for", "1h"]).0, Vec::<String>::new());
        let running = dojo.begin("lion", &json!({"limits": {"wall": "100s"}}), &[]);
        sleeper(&running.run_id());
        let (would, busy) = reap(&["--unused-for", "0s", "--dry-run"]);
        assert_eq!((would, busy), (vec![ids[0].to_owned(), ids[1].to_owned()], json!([KATA])));
        assert_eq!(reap(&["--unused-for", "0s"]).0, ids[..2]);
        assert_eq!(fine(host, &["kata", "list"]).as_array().map(Vec::len), Some(1));
        // Retiring stops who runs, and returns when he is gone.
        fine(host, &["kata", "retire", KATA, "lion"]);
        let (_, out, _) = running.ended();
        let outcome: Value = serde_json::from_str(&out).expect("a document");
        assert_eq!(outcome["verdict"], "cancelled", "{out}");
        assert_eq!(refused(host, &["kata", "show", KATA, "lion"]).1, "avatar_name:!exists");
        // A kata that was reaped comes back with whoever has all of its files.
        dojo.retire();
        dojo.press("lion", &json!({"all": {"cyber-dojo.sh": "cat f", "f": "back"}})).is("ok").said("back");
        dojo.retire();
    });
}

#[test]
fn what_a_killed_retirer_leaves_gc_finishes() {
    live(|host| {
        for n in 0..rounds(12).min(if in_rig() { 1 } else { 12 }) {
            let dojo = Dojo::new(host, &["--memory", "1GiB", "--cells", "2", "--shared"]);
            dojo.script("lion", "head -c 1000000 /dev/zero > z; touch /shared/x");
            dojo.press("lion", &json!({})).is("ok");
            let retiring = host.start(host.runcell(&["kata", "retire", KATA]));
            pause(u64::from(n) % if in_rig() { 900 } else { 12 });
            retiring.signal(Signal::SIGKILL);
            retiring.ended();
            let left = told(host, &["kata", "retire", KATA]);
            assert!(left.0 == 0 || left.1["error"]["code"] == "kata_id:!exists", "{left:?}");
            fine(host, &["gc"]);
            dojo.is_gone();
        }
        nothing_left(host);
    });
}

/// What the issue calls a real session.
#[test]
fn a_class_practises_through_red_amber_and_green() {
    on_the_host(|host| {
        let (people, presses) = (64, 10);
        host.many_slots("[katas]\ncells = 6\ncells_in_all = 6");
        let dojo = Dojo::new(host, &["--colours", "python-unittest"]);
        let c = "5kq9Zx2aBc";
        fine(host, &["kata", "new", c, "--colours", "c-assert"]);
        let python = |answer: &str| {
            json!({"hiker.py": format!("def answer(): return {answer}\n"),
                "test_hiker.py": "import unittest, hiker\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(hiker.answer(), 42)\n"})
        };
        let in_c = |answer: &str| json!({"hiker.c": format!("#include <assert.h>\n#include <stdio.h>\nint main(void) {{ assert({answer} == 42); puts(\"All tests passed\"); }}\n")});
        let names: Vec<&str> = runcell::model::avatar::ANIMALS.into_iter().take(people).collect();
        let mut ids = BTreeSet::new();
        for (n, name) in names.iter().enumerate() {
            let (id, script) =
                if n % 2 == 0 { (KATA, "python3 -m unittest") } else { (c, "gcc -O0 hiker.c -o /tmp/t && /tmp/t") };
            let files = json!({"cyber-dojo.sh": format!("echo $CYBER_DOJO_AVATAR_NAME >> log; {script}")}).to_string();
            let made = fine(host, &["kata", "avatar", id, name, "--files", &files]);
            assert!(ids.insert(made["first_id"].as_u64().expect("a number")), "ids of one's own");
        }
        let turn = [("6 * 9", "red"), ("6 *", "amber"), ("6 * 7", "green")];
        for n in 0..presses {
            let (answer, colour) = turn[n % 3];
            // All of them at once, so that they queue for the cells.
            let begun: Vec<_> = names
                .iter()
                .enumerate()
                .map(|(at, name)| {
                    let (id, files) = if at % 2 == 0 { (KATA, python(answer)) } else { (c, in_c(answer)) };
                    let job =
                        host.file(&format!("{name}-{n}.json"), json!({"files": files, "limits": {"wall": "150s"}}).to_string());
                    host.start(host.runcell(&["kata", "run", id, name, "--job", &job, "--wait", "200s"]))
                })
                .collect();
            for (name, started) in names.iter().zip(begun) {
                let (code, out, err) = started.ended();
                let outcome: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{name}: {e}: {out}{err}"));
                assert_eq!(
                    (code, &outcome["colour"], &outcome["avatar"]["home"]),
                    (0, &json!(colour), &json!("kept")),
                    "{name} {n}: {out}"
                );
                host.runs.borrow_mut().insert(outcome["run"].as_str().expect("a run").to_owned());
            }
        }
        for (n, name) in names.iter().enumerate() {
            let shown = fine(host, &["kata", "show", if n % 2 == 0 { KATA } else { c }, name]);
            let files = shown["avatars"][0]["home"].as_array().expect("files").clone();
            let log = files.iter().find(|f| f["path"] == "log").expect("everybody has one");
            assert_eq!(log["digest"], digest(format!("{name}\n").repeat(presses).as_bytes()), "{name}");
            assert_eq!(files.len(), if n % 2 == 0 { 4 } else { 3 }, "{name}: {files:?}");
        }
        gate::say(&format!("live: {people} avatars pressed {presses} times each"));
        fine(host, &["kata", "retire", c]);
        dojo.retire();
    });
}
