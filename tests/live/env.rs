//! What surrounds the program: its words, environment, place and user; and nothing that the caller happens to have.

use super::harness::{Host, command, live};
use super::run::Ran;
use serde_json::{Value, json};
use std::process::Stdio;

/// Runs a job with the binary started by a shell that has done something to itself before.
#[track_caller]
fn after(host: &Host, preparation: &str, job: &Value) -> Ran {
    let file = host.file("job.json", job.to_string());
    let mut shell = command("/bin/sh");
    let ours = host.runcell(&["run", "--job", &file]);
    shell.arg("-c").arg(format!("{preparation}; exec \"$0\" \"$@\"")).arg(ours.get_program()).args(ours.get_args());
    shell.current_dir(host.dir("work")).stdin(Stdio::null());
    host.start(shell).outcome()
}

#[test]
fn the_environment_is_exactly_what_was_asked_for() {
    live(|host| {
        let secret = "export SECRET=hush LD_PRELOAD=/no.so LD_LIBRARY_PATH=/no PYTHONPATH=/no IFS=x";
        let least = "HOME=/sandbox\0LANG=C.UTF-8\0PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\0";
        let job = json!({"argv": ["cat", "/proc/self/environ"]});
        after(host, secret, &job).is("ok").said(least);
        let odd =
            json!({"LANG": "de", "EMPTY": "", "LINES": "a\nb", "EQUAL": "a=b", "ÜBER": "é 日本", "$(x)": "`y`", "A B": "'\""});
        let job = json!({"argv": ["cat", "/proc/self/environ"], "env": odd});
        let ran = after(host, secret, &job);
        let mut lines: Vec<&str> = ran.is("ok").stdout().split_terminator('\0').collect();
        lines.retain(|line| !least.contains(*line));
        lines.sort_unstable();
        assert_eq!(lines, ["$(x)=`y`", "A B='\"", "EMPTY=", "EQUAL=a=b", "LANG=de", "LINES=a\nb", "ÜBER=é 日本"]);
    });
}

#[test]
fn arguments_arrive_as_they_are() {
    live(|host| {
        let words = [
            "",
            " ",
            "a b",
            "$(id)",
            "`id`",
            "'",
            "\"",
            "\\",
            "\n",
            "-x",
            "--",
            "é日本",
            "*",
            "\u{1b}[31m",
            &"x".repeat(131_000),
        ];
        let program = "import json, sys; print(json.dumps(sys.argv[1:]))";
        let argv: Vec<&str> = ["python3", "-c", program].into_iter().chain(words).collect();
        assert_eq!(host.run(json!({"argv": argv})).told(), json!(words));
        let many: Vec<String> = (0..20_000).map(|n| n.to_string()).collect();
        let argv: Vec<&str> = ["sh", "-c", "echo $#", "sh"].into_iter().chain(many.iter().map(String::as_str)).collect();
        host.run(json!({"argv": argv})).is("ok").said("20000\n");
    });
}

#[test]
fn place_and_user() {
    live(|host| {
        let script = "pwd; id -u; id -g; id -G; umask; stat -c %u:%g . /sandbox/f";
        let job = |more: Value| {
            let mut job = json!({"argv": ["sh", "-c", script], "files": {"f": ""}});
            job.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            job
        };
        host.run(job(json!({}))).is("ok").said("/sandbox\n1000\n1000\n1000\n0022\n1000:1000\n1000:1000\n");
        let root = host.run(job(json!({"user": "0:0", "cwd": "/tmp"})));
        root.is("ok").said("/tmp\n0\n0\n0\n0022\n0:0\n0:0\n");
        host.run(job(json!({"user": "7:9"}))).is("ok").said("/sandbox\n7\n9\n9\n0022\n7:9\n7:9\n");
        host.run(job(json!({"user": "65533"}))).is("ok").said("/sandbox\n65533\n65533\n65533\n0022\n65533:65533\n65533:65533\n");
        host.run(json!({"argv": ["pwd"], "cwd": "/"})).is("ok").said("/\n");
        host.run(json!({"argv": ["sh", "-c", "echo ~; cd; pwd; whoami; hostname"]})).said("/sandbox\n/sandbox\nsandbox\ncell\n");
    });
}

#[test]
fn everywhere_that_should_be_writable_is() {
    live(|host| {
        for user in ["0:0", "1000", "12:34"] {
            let script = "for d in /sandbox /tmp /dev/shm /var/tmp; do mktemp -d $d/XXXXXX >/dev/null || echo no $d; done; \
                          stat -c '%a %n' /sandbox /tmp /dev/shm; echo x | tee /dev/null";
            let ran = host.run(json!({"argv": ["sh", "-c", script], "user": user}));
            ran.is("ok").said("755 /sandbox\n1777 /tmp\n1777 /dev/shm\nx\n");
        }
    });
}

#[test]
fn the_callers_umask_changes_nothing() {
    live(|host| {
        for umask in ["077", "0777", "000"] {
            let job = json!({"argv": ["sh", "-c", "umask; echo x > f; mkdir d; stat -c %a f d in; ls / >/dev/null"],
                "files": {"in": ""}, "collect": ["**"]});
            let ran = after(host, &format!("umask {umask}"), &job);
            ran.is("ok").said("0022\n644\n755\n644\n");
            assert_eq!(ran.created("f").mode, "0644");
        }
    });
}

#[test]
fn the_callers_descriptors_stay_with_the_caller() {
    live(|host| {
        let job = json!({"argv": ["python3", "-c", "import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[:-1])"]});
        let open = "exec 3</etc/shadow 4>&1 5</ 7</etc/passwd 9<>/dev/null";
        after(host, open, &job).is("ok").said("[0, 1, 2]\n");
        let file = host.file("out", "");
        // Without a stdin or stderr of its own.
        let closed = after(host, "exec 0<&- 2>&-", &job);
        closed.is("ok").said("[0, 1, 2]\n");
        assert_eq!(std::fs::read(file).expect("a file of ours"), b"");
    });
}

#[test]
fn the_callers_signals_stay_with_the_caller() {
    live(|host| {
        let job = json!({"argv": ["cat", "/proc/self/status"]});
        let none = "0000000000000000";
        let ran = after(host, "trap '' HUP INT QUIT PIPE USR1 TERM CHLD", &job);
        ran.is("ok").holds(&format!("SigBlk:\\t{none}\\nSigIgn:\\t{none}\\nSigCgt:\\t{none}\\n"));
    });
}

#[test]
fn the_callers_resource_limits_stay_with_the_caller() {
    live(|host| {
        let job = json!({"argv": ["sh", "-c", "ulimit -n; ulimit -Hn; ulimit -s; ulimit -c; ulimit -f"]});
        let usual = "1024\n1024\n16384\n0\n131072\n";
        after(host, "true", &job).is("ok").said(usual);
        after(host, "ulimit -S -n 300; ulimit -S -s 1024; ulimit -S -c 0; ulimit -S -f 10000", &job).is("ok").said(usual);
    });
}

#[test]
fn names_resolve_and_programs_find_their_home() {
    live(|host| {
        let program = "import json, os, pwd, socket, tempfile, time
print(json.dumps([socket.gethostname(), socket.gethostbyname('localhost'), pwd.getpwuid(os.getuid()).pw_name,
    tempfile.gettempdir(), os.path.expanduser('~'), os.cpu_count() > 0, 'Linux' in open('/proc/version').read()]))";
        assert_eq!(host.python(program).told(), json!(["cell", "127.0.0.1", "sandbox", "/tmp", "/sandbox", true, true]));
    });
}
