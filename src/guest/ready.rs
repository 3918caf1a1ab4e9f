//! What init does for a program before there is one: the rules for its files, which cost a look at each place, and the filter for
//! its system calls, which the kernel compiles at each installation (together 0.4 ms of 1.8 from dispatch to end, measured).
//!
//! Init lives under the program's filter itself then: it needs no call that a program may not make, and children inherit it.

use crate::model::wire::{Ahead, Dispatch};
use crate::os::confine::{self, Rules};
use std::fs::File;
use std::io::{self, Read};

/// Nothing, or what was said ahead of the job.
#[derive(Debug, Default)]
pub struct Ready {
    rules: Option<(Vec<String>, Rules)>,
    filtered: bool,
    /// Why there is no filter, where what was said ahead could not be done: the errno.
    failure: Option<i32>,
}

impl Ready {
    /// Prepares for what was said ahead.
    ///
    /// # Errors
    /// of reading it, of Landlock and seccomp.
    pub fn for_ahead(mut words: File) -> io::Result<Self> {
        let mut bytes = Vec::new();
        words.read_to_end(&mut bytes)?;
        let Ahead { writable, filter } = postcard::from_bytes(&bytes).map_err(io::Error::other)?;
        let mut ready = Self::default();
        ready.prepare(&writable, &filter)?;
        Ok(ready)
    }

    /// Not prepared, for this reason: a program that relies on it does not start, and tells it.
    pub fn failed(failure: &io::Error) -> Self {
        Self { failure: failure.raw_os_error(), ..Self::default() }
    }

    /// Prepares for more than one job like this.
    ///
    /// # Errors
    /// of Landlock and seccomp.
    pub fn for_more(&mut self, d: &Dispatch) -> io::Result<()> {
        // A filter allows no choice of a node for memory.
        match &d.filter {
            Some(filter) if d.node.is_none() => self.prepare(&d.writable, filter),
            _ => Ok(()),
        }
    }

    fn prepare(&mut self, writable: &[String], filter: &[u8]) -> io::Result<()> {
        if self.rules.as_ref().is_none_or(|(known, _)| known != writable) {
            self.rules = Some((writable.to_vec(), confine::program(writable)?));
        }
        if !self.filtered {
            confine::install(filter)?;
            self.filtered = true;
        }
        Ok(())
    }

    /// Has this process, which becomes the program, keep to the rules.
    ///
    /// # Errors
    /// of Landlock.
    pub fn rules(&self, d: &Dispatch) -> io::Result<bool> {
        match &self.rules {
            Some((known, rules)) if *known == d.writable => rules.enforce(),
            _ => confine::program(&d.writable)?.enforce(),
        }
    }

    /// The same with the filter.
    ///
    /// # Errors
    /// of seccomp; and where there is none, neither ahead of the job nor with it.
    pub fn filter(&self, with_it: Option<&[u8]>) -> io::Result<()> {
        match with_it {
            _ if self.filtered => Ok(()),
            Some(filter) => confine::install(filter),
            None => Err(self.failure.map_or_else(|| io::ErrorKind::NotFound.into(), io::Error::from_raw_os_error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Seek;

    #[test]
    fn a_missing_filter_is_told_with_what_kept_it_out() {
        let refused = |ready: Ready| ready.filter(None).expect_err("no filter anywhere").raw_os_error();
        assert_eq!(refused(Ready::failed(&io::Error::from_raw_os_error(libc::EPERM))), Some(libc::EPERM));
        assert_eq!(refused(Ready::default()), None);
    }

    #[test]
    fn words_that_cannot_be_understood_prepare_nothing() {
        let mut words = tempfile::tempfile().expect("a file");
        io::Write::write_all(&mut words, &[0xff; 9]).expect("written");
        words.rewind().expect("rewound");
        assert!(Ready::for_ahead(words).is_err());
    }
}
