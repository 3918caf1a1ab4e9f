//! A runtime's own words: lines of JSON in its log (`--log-format json`), free text on its console.

use serde::Deserialize;

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
}

/// What went wrong, most telling last: error lines of the log, else the last of the console.
pub fn complaint(log: &str, console: &str) -> String {
    let parsed = |line: &str| serde_json::from_str::<Line>(line).ok();
    let errors: Vec<String> =
        log.lines().filter_map(parsed).filter(|l| matches!(l.level.as_str(), "error" | "fatal")).map(|l| l.msg).collect();
    let mut words = if errors.is_empty() { console.lines().rev().take(3).map(str::to_owned).collect() } else { errors };
    words.dedup();
    words.join("; ").chars().take(4096).collect()
}

/// A runtime's complaint as one of our codes: what it was about decides whom it concerns.
pub fn code(complaint: &str) -> &'static str {
    let about = |words: &[&str]| words.iter().any(|w| complaint.contains(w));
    match () {
        () if about(&["cgroup"]) => "runtime:cgroup",
        () if about(&["mount", "rootfs", "pivot_root"]) => "runtime:mount",
        () if about(&["namespace", "uid_map", "gid_map", "nsexec", "clone"]) => "runtime:namespace",
        () if about(&["seccomp"]) => "runtime:seccomp",
        () => "runtime:failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_line_wins_over_warnings_and_console() {
        let log =
            "{\"level\":\"warning\",\"msg\":\"w\"}\n{\"level\":\"error\",\"msg\":\"error mounting \\\"/x\\\"\"}\nnot json\n";
        assert_eq!(complaint(log, "console"), "error mounting \"/x\"");
        assert_eq!(complaint("", "one\ntwo"), "two; one");
        assert_eq!(code("error mounting \"/x\" to rootfs"), "runtime:mount");
        assert_eq!(code("unable to apply cgroup configuration"), "runtime:cgroup");
        assert_eq!(code("what"), "runtime:failed");
    }
}
