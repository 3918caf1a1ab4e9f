//! Files of the job: any content under any name, with its mode, and no way out of /sandbox.

use super::harness::live;
use serde_json::{Map, Value, json};

#[test]
fn every_spelling_of_content_and_its_mode() {
    live(|host| {
        let files = json!({
            "text": "plain\n", "long": {"text": "x".repeat(3_000_000)}, "bytes": {"base64": "AP8K"}, "empty": "",
            "run": {"text": "#!/bin/sh\necho ran $0\n", "mode": "0755"}, "secret": {"text": "s", "mode": "0400"},
            "shut": {"text": "s", "mode": "0000"}, "open": {"text": "o", "mode": "0777"}, "host": {"file": host.file("h", "from the host")}});
        let script = "cat text host; wc -c < long; od -An -tx1 bytes; ./run; for f in *; do stat -c '%n %a %u %s' $f; done";
        let ran = host.run(json!({"argv": ["sh", "-c", script], "files": files}));
        ran.is("ok").said(
            "plain\nfrom the host3000000\n 00 ff 0a\nran ./run\nbytes 644 1000 3\nempty 644 1000 0\nhost 644 1000 13\n\
             long 644 1000 3000000\nopen 777 1000 1\nrun 755 1000 22\nsecret 400 1000 1\nshut 0 1000 1\ntext 644 1000 6\n",
        );
    });
}

#[test]
fn any_name_is_a_name() {
    live(|host| {
        let long = "é".repeat(127);
        let names = [
            "a b",
            "'",
            "\"",
            "$(touch gone)",
            "`id`",
            "-rf",
            "--help",
            "*",
            "?",
            "[a]",
            "\n",
            "a\nb",
            "\t",
            "\\",
            "\u{1b}[2J",
            "日本",
            "😀",
            "..x",
            "...",
            ".hidden",
            "~",
            "a:b",
            "a=b",
            "\u{202e}",
            "c/d/e/f/g",
            "c/d/-x",
            " ",
            "CON",
            &long,
            "x\u{7f}",
        ];
        let files: Map<String, Value> = names.iter().map(|n| ((*n).to_owned(), json!(format!("<{n}>")))).collect();
        let program = "import json, os
print(json.dumps({os.path.relpath(os.path.join(d, f), '/sandbox'): open(os.path.join(d, f)).read() for d, _, fs in os.walk('/sandbox') for f in fs}))";
        let told = host.run(json!({"argv": ["python3", "-c", program], "files": files})).told();
        assert_eq!(told, Value::Object(files.clone()));
        // And they come back under their names.
        let change = "import os
for d, _, fs in os.walk('/sandbox'):
    for f in fs: open(os.path.join(d, f), 'a').write('!')";
        let ran = host.run(json!({"argv": ["python3", "-c", change], "files": files, "collect": ["**"]}));
        let mut back: Vec<&str> = ran.is("ok").outcome.files.changed.iter().map(|f| f.path.as_str()).collect();
        back.sort_unstable();
        let mut sent = names.to_vec();
        sent.sort_unstable();
        assert_eq!(back, sent);
    });
}

#[test]
fn a_name_that_leads_out_is_refused() {
    live(|host| {
        for name in ["../x", "/x", "a/../../x", "", ".", "a//b", "a/", "./a", "a\0b", &"x".repeat(256)] {
            let error = host.refused(json!({"argv": ["true"], "files": {name: "x"}}), 2);
            assert!(error["path"].as_str().is_some_and(|p| p.starts_with("files")), "{name:?}: {error}");
        }
        assert!(host.note_runs().is_empty());
    });
}

#[test]
fn host_files_are_read_without_tricks() {
    live(|host| {
        let work = host.dir("work");
        let at = |name: &str| work.join(name).to_str().expect("a path of ours").to_owned();
        host.file("real", "x");
        std::os::unix::fs::symlink("real", work.join("link")).expect("made");
        nix::unistd::mkfifo(&work.join("fifo"), nix::sys::stat::Mode::S_IRUSR).expect("made");
        for bad in ["link", "fifo", "missing", "."] {
            let path = if bad == "." { work.to_str().expect("ours").to_owned() } else { at(bad) };
            let error = host.refused(json!({"argv": ["true"], "files": {"x": {"file": path}}}), 2);
            assert_eq!(error["path"], "files.x", "{bad}: {error}");
            let error = host.refused(json!({"argv": ["true"], "stdin": {"file": path}}), 2);
            assert_eq!(error["path"], "stdin.file", "{bad}: {error}");
        }
        host.policy("files = ['/srv']");
        let error = host.refused(json!({"argv": ["true"], "files": {"x": {"file": at("real")}}}), 3);
        assert_eq!((&error["code"], &error["path"]), (&json!("policy:refused"), &json!("files.x")), "{error}");
    });
}

#[test]
fn many_files_and_deep_ones() {
    live(|host| {
        let mut files: Map<String, Value> = (0..2000).map(|n| (format!("d{}/f{n}", n % 10), json!(n.to_string()))).collect();
        files.insert(format!("{}leaf", "deep/".repeat(500)), json!("deep"));
        let ran = host.run(json!({"argv": ["sh", "-c", "find . -type f | wc -l; cat d7/f1997"], "files": files}));
        ran.is("ok").said("2001\n1997");
    });
}
