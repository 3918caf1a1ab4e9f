//! The memory limit: told by the kernel's own count, by nothing else.

use super::harness::{Host, live};
use super::run::Ran;
use serde_json::{Value, json};

const EATER: &str = "print('eating', flush=True)
b = []
while True: b.append(bytearray(1 << 20))";

#[track_caller]
fn eaten(host: &Host, job: Value) -> Ran {
    let mut job = job;
    job["limits"]["memory"] = json!("48MiB");
    let ran = host.run(job);
    ran.is("memory").holds(r#""stopped_for":"memory""#);
    assert!(ran.outcome.evidence.oom_kills.is_some_and(|n| n > 0), "{}", ran.json);
    assert!(ran.outcome.reason.contains("48MiB") || ran.outcome.reason.contains("48 MiB"), "{}", ran.outcome.reason);
    host.is_responsive();
    ran
}

#[test]
fn python_that_eats_it_all() {
    live(|host| {
        eaten(host, json!({"argv": ["python3", "-c", EATER]})).said("eating\n").signal(9);
    });
}

#[test]
fn c_that_eats_it_all() {
    live(|host| {
        let source = "#include <stdlib.h>\n#include <string.h>\n#include <stdio.h>\n\
                      int main(void) { puts(\"eating\"); fflush(stdout); for (;;) memset(malloc(1 << 20), 1, 1 << 20); }\n";
        let compile = host.run(json!({"bundle": "c-gcc", "argv": ["gcc", "-O0", "-static", "-o", "eat", "eat.c"],
            "files": {"eat.c": source}, "limits": {"wall": "120s"}, "collect": ["eat"]}));
        let program = host.file("eat", super::run::bytes(&compile.is("ok").created("eat").content));
        eaten(host, json!({"argv": ["./eat"], "files": {"eat": {"file": program, "mode": "0755"}}})).said("eating\n");
    });
}

#[test]
fn a_child_that_eats_while_its_parent_lives_on() {
    live(|host| {
        // Whichever of them the kernel picks: the whole cell stops, and the verdict is the same.
        let script = format!("python3 -c \"{EATER}\"; echo survived; sleep 60");
        let ran = eaten(host, json!({"argv": ["sh", "-c", script], "limits": {"wall": "60s"}}));
        assert!(ran.stdout().starts_with("eating\n"), "{}", ran.json);
    });
}

#[test]
fn a_parent_that_hides_its_childs_end() {
    live(|host| {
        let script = format!("python3 -c \"{EATER}\" >/dev/null; exit 0");
        eaten(host, json!({"argv": ["sh", "-c", script]}));
    });
}

#[test]
fn files_in_memory_count_and_still_come_back() {
    live(|host| {
        let script = "echo kept > kept; head -c 60M /dev/zero > big; sleep 60";
        let ran = eaten(host, json!({"argv": ["sh", "-c", script], "limits": {"sandbox": "256MiB"}, "collect": ["kept"]}));
        assert_eq!(ran.created("kept").content.text.as_deref(), Some("kept\n"));
    });
}

#[test]
fn shared_memory_and_pipes_count() {
    live(|host| {
        let shared =
            "import mmap, time\nm = mmap.mmap(-1, 200 << 20)\nfor i in range(0, 200 << 20, 4096): m[i] = 1\ntime.sleep(60)";
        eaten(host, json!({"argv": ["python3", "-c", shared]}));
    });
}

#[test]
fn below_the_limit_nothing_happens() {
    live(|host| {
        let ran = host
            .run(json!({"argv": ["python3", "-c", "b = bytearray(100 << 20); print(len(b))"], "limits": {"memory": "160MiB"}}));
        ran.is("ok").said("104857600\n");
        assert_eq!(ran.outcome.usage.oom_kills, Some(0));
    });
}

#[test]
fn the_least_memory_runs_and_less_is_refused() {
    live(|host| {
        host.run(json!({"argv": ["true"], "limits": {"memory": "6MiB"}})).is("ok");
        let error = host.refused(json!({"argv": ["true"], "limits": {"memory": "5MiB"}}), 2);
        assert_eq!(error["path"], "limits.memory", "{error}");
    });
}
