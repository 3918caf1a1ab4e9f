//! The shipped colour rules on what real tools said: tests/fixtures/colours, recorded by the script there.

use runcell::model::names::BundleName;
use runcell::model::outcome::{Stream, Verdict};
use runcell::model::policy::Policy;
use runcell::rules::colour::{self, Result};
use runcell::work::settings;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

const TOOLS: [&str; 7] = ["python-unittest", "pytest", "c-assert", "junit", "go-test", "bats", "rust-test"];

fn recorded(tool: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/colours/{tool}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str::<Value>(&text).expect("JSON")["cases"].as_array().expect("cases").clone()
}

fn judged(tool: &str, case: &Value, edit: impl Fn(&str) -> Vec<u8>) -> (String, Option<String>) {
    let stream = |name: &str| {
        let bytes = edit(case[name].as_str().expect("a text"));
        Stream::new(bytes.clone(), bytes.len() as u64)
    };
    let code = case["exit_code"].as_i64().expect("a number") as i32;
    let (stdout, stderr) = (stream("stdout"), stream("stderr"));
    let verdict = if code == 0 { Verdict::Ok } else { Verdict::Nonzero };
    let rules = settings::rules(&BundleName::try_from(tool.to_owned()).expect("a name"), &Policy::default()).expect("shipped");
    let result = Result { verdict, exit_code: Some(code), stdout: &stdout, stderr: &stderr };
    let judged = colour::judge(&rules, &result).expect("there are rules");
    (judged.colour, judged.reason)
}

#[test]
fn real_tools_are_understood() {
    for tool in TOOLS {
        let cases = recorded(tool);
        let colours: BTreeSet<&str> = cases.iter().filter_map(|case| case["colour"].as_str()).collect();
        assert_eq!(colours, ["amber", "green", "red"].into(), "{tool}");
        for case in &cases {
            let expected = case["colour"].as_str().expect("a colour");
            let as_it_was = judged(tool, case, |text| text.as_bytes().to_vec());
            assert_eq!(as_it_was, (expected.to_owned(), None), "{tool}: {}", case["name"]);
            // Bytes that are no text, before and after, and lines that end as on another system.
            let odd = judged(tool, case, |text| [b"\xff\xfe\n", text.replace('\n', "\r\n").as_bytes(), b"\n\xc3"].concat());
            assert_eq!(odd.0, expected, "{tool}, with odd bytes: {}", case["name"]);
        }
    }
}

#[test]
fn a_tool_that_said_nothing_has_not_passed() {
    for tool in TOOLS {
        for code in [0, 1, 2, 139] {
            let silent = serde_json::json!({"exit_code": code, "stdout": "", "stderr": ""});
            let colour = judged(tool, &silent, |text| text.as_bytes().to_vec()).0;
            assert_eq!(colour, "amber", "{tool}, exit code {code}");
        }
    }
}
