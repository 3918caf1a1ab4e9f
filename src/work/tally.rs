//! How far a batch has come, and how it ended.

use super::worker::Told;

/// How far it has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub ok: u64,
    /// Outcomes of any other verdict.
    pub otherwise: u64,
    /// Lines without an outcome.
    pub refused: u64,
    /// Jobs that an earlier batch has answered, by the journal.
    pub before: u64,
    pub running: usize,
    /// Of the input, in bytes.
    pub done_bytes: u64,
    pub input_bytes: Option<u64>,
    pub elapsed_ns: u64,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every line was answered.
    Whole,
    /// A signal came before the end of the input, or nobody listens any more.
    Early,
}

impl Tally {
    /// An answer is out.
    pub(super) fn count(&mut self, told: Option<Told>, bytes: u64) {
        self.done_bytes += bytes;
        match told {
            Some(Told::Ok) => self.ok += 1,
            Some(Told::Refused) => self.refused += 1,
            Some(_) => self.otherwise += 1,
            None => {}
        }
    }
}
