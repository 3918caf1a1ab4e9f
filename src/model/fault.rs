//! Why there is no Outcome at all. (A program that crashed *has* an Outcome.)

use serde::Serialize;

/// Whose fault it is; the exit code follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// The job or the usage is malformed: exit 2, nothing was started.
    Caller,
    /// This host cannot, or its policy will not: exit 3, nothing was started.
    Host,
    /// A fault of runcell or of the runtime: exit 4.
    Ours,
}

/// One refusal or failure, with its remedy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    #[serde(skip)]
    pub whose: Whose,
    /// A stable word for programs, such as `job:malformed`.
    pub code: &'static str,
    pub message: String,
    /// Where in the job or policy, such as `limits.memory`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Fault {
    fn new(whose: Whose, code: &'static str, message: impl Into<String>) -> Self {
        Self { whose, code, message: message.into(), path: None, hint: None }
    }

    pub fn caller(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Whose::Caller, code, message)
    }

    pub fn host(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Whose::Host, code, message)
    }

    pub fn ours(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Whose::Ours, code, message)
    }

    #[must_use]
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
