//! One fact about the host, held against what jobs need.

use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Ok,
    /// Jobs run, but some limit, defence or figure is weaker than it could be.
    Warn,
    /// No job can run.
    Fail,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A stable word for programs.
    pub name: &'static str,
    pub state: State,
    pub found: String,
    /// What it is needed for, or what goes wrong as it is.
    pub why: Option<String>,
    /// The command that repairs it; beside `ok` one that would make a good thing better.
    pub repair: Option<String>,
}

impl Finding {
    pub fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Ok, found: found.into(), why: None, repair: None }
    }

    pub fn warn(name: &'static str, found: impl Into<String>, why: impl Into<String>) -> Self {
        Self { name, state: State::Warn, found: found.into(), why: Some(why.into()), repair: None }
    }

    pub fn fail(name: &'static str, found: impl Into<String>, why: impl Into<String>) -> Self {
        Self { state: State::Fail, ..Self::warn(name, found, why) }
    }

    #[must_use]
    pub fn because(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    #[must_use]
    pub fn repair(mut self, command: impl Into<String>) -> Self {
        self.repair = Some(command.into());
        self
    }
}

/// All findings, in the order of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    pub findings: Vec<Finding>,
    pub fails: usize,
    pub warns: usize,
}

impl Diagnosis {
    pub fn of(findings: Vec<Finding>) -> Self {
        let count = |state| findings.iter().filter(|f| f.state == state).count();
        Self { fails: count(State::Fail), warns: count(State::Warn), findings }
    }
}
