//! list, kill and gc, beside runs that live.

use super::harness::{Host, in_rig, live, until};
use super::leftovers::{self, asleep};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

fn listed(host: &Host) -> Vec<Value> {
    let (code, out, err) = host.words(&["list", "--json"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    serde_json::from_str(&out).expect("a document")
}

fn sleeper(id: &str) -> Value {
    json!({"id": id, "argv": ["sh", "-c", "echo on; exec sleep 60"], "limits": {"wall": "100s", "grace": "500ms"}})
}

#[track_caller]
fn running(host: &Host, all: usize) {
    let on = |run: &&Value| run["state"] == "running" && run["run"].as_str().is_some_and(asleep);
    until("all run", || listed(host).iter().filter(on).count() == all);
}

#[test]
fn runs_are_listed_live_and_stale() {
    live(|host| {
        assert_eq!(listed(host), Vec::<Value>::new());
        let (one, two) = (host.job(&sleeper("one")), host.job(&sleeper("two")));
        running(host, 2);
        two.signal(Signal::SIGKILL);
        let two_was = two.ended();
        until("the second is stale and the first not new", || {
            let all = listed(host);
            all.iter().any(|r| r["live"] == false) && all.iter().all(|r| r["age_ms"].as_u64().is_some_and(|ms| ms > 50))
        });
        let all = listed(host);
        let find = |id: &str| all.iter().find(|r| r["id"] == id).expect("listed").clone();
        assert_eq!((all.len(), &find("one")["live"], &find("two")["live"]), (2, &json!(true), &json!(false)));
        assert!(find("one")["age_ms"].as_u64().is_some_and(|ms| ms > 50) && find("one")["argv0"] == "sh");
        let (_, table, _) = host.words(&["list"]);
        assert!(table.lines().count() == 3 && table.contains("stale") && table.contains("live"), "{table}");
        assert_eq!(two_was.0, 137);

        let (_, dry, _) = host.words(&["gc", "--dry-run"]);
        let dry: Value = serde_json::from_str(&dry).expect("a document");
        assert_eq!((&dry["removed"], &dry["live"]), (&json!([find("two")["run"]]), &json!([find("one")["run"]])));
        assert_eq!(listed(host).len(), 2, "a look changes nothing");
        assert!(leftovers::groups().iter().any(|g| g.ends_with(find("one")["run"].as_str().expect("text"))));

        let (code, swept, _) = host.words(&["gc"]);
        let swept: Value = serde_json::from_str(&swept).expect("a document");
        assert_eq!((code, &swept["removed"], &swept["live"]), (0, &dry["removed"], &dry["live"]));
        assert_eq!(listed(host).len(), 1);
        one.signal(Signal::SIGTERM);
        one.outcome().is("cancelled").said("on\n");
    });
}

#[test]
fn kill_cancels_a_run_by_either_name() {
    live(|host| {
        let (one, two) = (host.job(&sleeper("one")), host.job(&sleeper("two")));
        running(host, 2);
        let run = listed(host).iter().find(|r| r["id"] == "two").expect("listed")["run"].as_str().expect("text").to_owned();
        let (code, out, err) = host.words(&["kill", "one"]);
        assert_eq!((code, err.as_str(), out.contains("killed")), (0, "", true), "{out}");
        assert_eq!(host.words(&["kill", &run]).0, 0);
        assert!(listed(host).is_empty(), "kill returns when they are gone");
        one.outcome().is("cancelled").said("on\n").signal(15);
        two.outcome().is("cancelled").said("on\n");
        let (code, out, _) = host.words(&["kill", "one"]);
        assert_eq!((code, out.contains("run:!exists")), (2, true), "{out}");
    });
}

#[test]
fn kill_reaches_all_of_a_name_and_the_dead_as_well() {
    live(|host| {
        let three = [host.job(&sleeper("same")), host.job(&sleeper("same")), host.job(&sleeper("same"))];
        running(host, 3);
        three[0].signal(Signal::SIGKILL);
        until("one is stale", || listed(host).iter().any(|r| r["live"] == false));
        let (code, out, _) = host.words(&["kill", "same"]);
        let killed: Value = serde_json::from_str(&out).expect("a document");
        assert_eq!((code, killed["killed"].as_array().map(Vec::len)), (0, Some(3)), "{out}");
        assert!(listed(host).is_empty());
        for (n, one) in three.into_iter().enumerate() {
            match n {
                0 => assert_eq!(one.ended().0, 137),
                _ => drop(one.outcome().is("cancelled")),
            }
        }
    });
}

#[test]
fn when_all_ids_are_in_use_a_run_is_refused_and_later_not() {
    live(|host| {
        let ids = format!("[ids]\nfirst = {}\ncount = 65536\n", host.first_id());
        std::fs::write(host.dir("policy.toml"), ids).expect("a file of ours");
        let one = host.job(&sleeper("one"));
        running(host, 1);
        let error = host.refused(sleeper("two"), 3);
        assert_eq!(error["code"], "ids:exhausted", "{error}");
        one.signal(Signal::SIGTERM);
        one.outcome().is("cancelled");
        host.is_responsive();
    });
}

#[test]
fn many_at_once_are_all_answered() {
    live(|host| {
        let all = if in_rig() { 6 } else { 14 };
        let job = |n: usize| json!({"id": format!("n{n}"), "argv": ["sh", "-c", format!("echo {n}; cat > f; exit {n}")], "stdin": format!("in {n}"), "collect": ["f"]});
        let started: Vec<_> = (0..all).map(|n| host.job(&job(n))).collect();
        for (n, one) in started.into_iter().enumerate() {
            let ran = one.outcome();
            ran.said(&format!("{n}\n")).code(n as i32).holds(&format!(r#""id":"n{n}""#));
            assert_eq!(ran.created("f").content.text, Some(format!("in {n}")));
        }
    });
}

#[test]
fn everything_runs_twice_and_one_after_the_other_leaves_as_much_as_none() {
    live(|host| {
        let before = leftovers::groups().len();
        for _ in 0..if in_rig() { 5 } else { 40 } {
            host.is_responsive();
        }
        host.is_clean();
        let names = |dir: &str| std::fs::read_dir(host.root().join(dir)).map_or(0, |d| d.count());
        assert_eq!((names("runs"), names("runtime"), names("ids")), (0, 0, 1), "one range was enough for all");
        // Other tests run beside us; what they have is theirs.
        assert!(leftovers::groups().len() <= before + 200);
    });
}

#[test]
fn nothing_is_started_on_a_full_disk() {
    live(|host| {
        host.policy("keep_free = '1000TiB'\n");
        for words in [&["run", "--json", "--", "true"][..], &["warm", "--", "true"]] {
            let (code, out, err) = host.words(words);
            assert!(code == 3 && (out.contains("state:full") || err.contains("must stay so")), "{out}{err}");
        }
        assert_eq!(std::fs::read_dir(host.root().join("runs")).expect("a shelf").count(), 0);
        host.policy("");
        host.run(json!({"argv": ["true"]})).is("ok");
    });
}
