//! A job's document: from bytes to a checked [`Job`], or to the place of the first thing that is wrong.

use super::fault::Fault;
use super::job::Job;
use super::object::Object;

/// The largest job document. What is larger goes in by `{"file": …}` or a mount.
pub const MOST: u64 = 64 << 20;

/// Reads a job.
///
/// # Errors
/// exit 2, with the path of the first thing that is wrong; `job` stands for the document itself.
pub fn job(bytes: &[u8]) -> Result<Job, Fault> {
    if bytes.len() as u64 > MOST {
        return Err(Fault::caller("job:too_large", "the job is larger than 64 MiB")
            .at("job")
            .hint("name large files by {\"file\": …} or mount them"));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| malformed("job", format!("the job is not UTF-8: {e}")))?;
    let mut json = serde_json::Deserializer::from_str(text);
    let Object(job) = serde_path_to_error::deserialize(&mut json).map_err(|e| {
        let why = e.inner().to_string();
        malformed(&place(&e.path().to_string(), &why), why)
    })?;
    json.end().map_err(|_| malformed("job", "something follows the job; one document holds one job".into()))?;
    Ok(job)
}

fn malformed(path: &str, why: String) -> Fault {
    Fault::caller("job:malformed", why).at(path).hint("runcell schema job prints what a job may hold")
}

/// Where it was. Of a field that stands there twice serde knows the place of its object only, and says the name in words;
/// of a key that is none of a list's, not even that.
fn place(path: &str, why: &str) -> String {
    let path = path.strip_suffix(".?").unwrap_or(path);
    let twice = why.strip_prefix("duplicate field `").and_then(|rest| rest.split('`').next());
    match (path, twice) {
        (".", None) => "job".to_owned(),
        (".", Some(field)) => field.to_owned(),
        (path, Some(field)) => format!("{path}.{field}"),
        (path, None) => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(json: &str) -> (String, String) {
        let fault = job(json.as_bytes()).expect_err(json);
        (fault.path.expect("a path"), fault.message)
    }

    #[test]
    fn errors_name_their_place() {
        for (json, path) in [
            ("", "job"),
            ("nul", "job"),
            ("{} {}", "job"),
            (r#"{"limits":{"memry":1}}"#, "limits.memry"),
            (r#"{"argv":["a"],"argv":["b"]}"#, "argv"),
            (r#"{"limits":{"pids":1,"pids":2}}"#, "limits.pids"),
            (r#"{"files":{"a":{"text":"1","text":"2"}}}"#, "files.a.text"),
            (r#"{"mounts":[{"target":"/t"}]}"#, "mounts[0]"),
            (r#"{"limits":{"rlimits":{"nproc":1}}}"#, "limits.rlimits"),
        ] {
            assert_eq!(fault(json).0, path, "{json}");
        }
        assert_eq!(job(b"{\"id\":\"\xff\"}").expect_err("not text").path.as_deref(), Some("job"));
    }

    #[test]
    fn an_array_of_fields_in_order_is_no_object() {
        for (json, path) in [
            (r#"[null,null,null,["true"]]"#, "job"),
            (r#"{"limits":[]}"#, "limits"),
            (r#"{"mounts":[["/t",null,"1MiB"]]}"#, "mounts[0]"),
            (r#"{"limits":{"io":[["/dev/vda","1MiB"]]}}"#, "limits.io[0]"),
            (r#"{"files":{"a":["x"]}}"#, "files.a"),
        ] {
            let (at, why) = fault(json);
            assert_eq!(at, path, "{json}");
            assert!(why.contains("object"), "{why}");
        }
    }

    #[test]
    fn a_key_named_twice_is_told_as_it_was_written() {
        assert_eq!(fault(r#"{"env":{"A":"1","A":"2"}}"#).1.split(" at line").next(), Some("\"A\" is named twice"));
    }

    #[test]
    fn what_nests_deeper_than_a_job_can_is_refused() {
        let deep = format!(r#"{{"stdin":{}"#, "[".repeat(100_000));
        assert_eq!(fault(&deep).0, "stdin");
        assert_eq!(fault(&"[".repeat(100_000)).0, "job");
        assert_eq!(fault(&r#"{"limits":"#.repeat(100_000)).0, "limits.limits");
    }
}
