//! What was left out of a tree, for people: the first few in words, the rest counted.

/// The first of them are kept, as an archive decides how many there are.
const KEPT_MOST: usize = 20;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notices {
    /// Such as `device "dev/null" skipped`; at most 20.
    pub lines: Vec<String>,
    /// How many there were besides.
    pub more: u64,
}

impl Notices {
    pub(super) fn add(&mut self, line: impl FnOnce() -> String) {
        if self.lines.len() < KEPT_MOST { self.lines.push(line()) } else { self.more += 1 }
    }
}
