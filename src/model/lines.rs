//! What goes through a batch: one JSON document a line, jobs and cancellations in, answers out. Every line that is not blank
//! is answered once: by an [`Outcome`](super::outcome::Outcome), or by one of the documents here.

use super::document;
use super::fault::Fault;
use super::job::Job;
use super::names::JobId;
use super::object::Object;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A line as it is meant.
#[derive(Debug)]
pub enum Line {
    Job(Box<Job>),
    Cancel(JobId),
}

/// A line that means nothing: whose job it was, where that can be read, and what is wrong.
#[derive(Debug)]
pub struct Malformed {
    pub id: Option<JobId>,
    pub fault: Fault,
}

/// The answer to a line that has no outcome.
#[derive(Debug, Serialize)]
pub struct Refused<'a> {
    /// Counted from 1, blank lines too.
    pub line: u64,
    pub id: Option<&'a JobId>,
    pub error: &'a Fault,
}

/// The answer to a cancellation; the job's own outcome comes besides.
#[derive(Debug, Serialize)]
pub struct Heard<'a> {
    pub line: u64,
    pub cancel: &'a JobId,
    pub was: Was,
}

/// What the job was when its cancellation was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Was {
    /// It will not be started.
    Queued,
    /// It is being stopped.
    Running,
    /// Never read, or answered already.
    Unknown,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cancel {
    cancel: JobId,
}

/// As much as can be read of anything.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Glance {
    id: Option<Value>,
    cancel: Option<Value>,
}

/// Reads a line; its end is not part of it.
///
/// # Errors
/// as of [`document::job`].
pub fn read(bytes: &[u8]) -> Result<Line, Malformed> {
    let fault = match document::job(bytes) {
        Ok(job) => return Ok(Line::Job(Box::new(job))),
        Err(fault) => fault,
    };
    // Only now: of a hundred thousand lines hardly any is not a job.
    let glance = serde_json::from_slice::<Object<Glance>>(bytes).map(|Object(g)| g).unwrap_or_default();
    let id = |value: Option<Value>| value.and_then(|v| JobId::try_from(v.as_str()?.to_owned()).ok());
    if glance.cancel.is_none() {
        return Err(Malformed { id: id(glance.id), fault });
    }
    serde_json::from_slice(bytes).map(|Object(Cancel { cancel })| Line::Cancel(cancel)).map_err(|e| {
        let fault = Fault::caller("job:malformed", e.to_string()).at("cancel").hint("write {\"cancel\": \"the job's id\"}");
        Malformed { id: id(glance.cancel), fault }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> (Option<String>, String) {
        let Malformed { id, fault } = read(line.as_bytes()).expect_err(line);
        (id.map(String::from), fault.path.expect("a place"))
    }

    #[test]
    fn jobs_and_cancellations_are_told_apart() {
        assert!(matches!(read(br#"{"id":"a","argv":["true"]}"#), Ok(Line::Job(job)) if job.argv.is_some()));
        assert!(matches!(read(br#"{"cancel":"a"}"#), Ok(Line::Cancel(id)) if id.as_str() == "a"));
    }

    #[test]
    fn what_is_wrong_keeps_its_name_where_it_has_one() {
        let named = |id: &str, path: &str| (Some(id.to_owned()), path.to_owned());
        assert_eq!(refused(r#"{"id":"a","limits":{"memry":1}}"#), named("a", "limits.memry"));
        assert_eq!(refused(r#"{"id":7,"argv":[]}"#), (None, "id".to_owned()));
        assert_eq!(refused(r#"{"id":"a","argv":["#).0, None, "it is no document at all");
        assert_eq!(refused(r#"{"cancel":"a","now":1}"#), named("a", "cancel"));
        assert_eq!(refused(r#"{"cancel":""}"#), (None, "cancel".to_owned()));
    }
}
