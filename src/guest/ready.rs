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
    pub fn filter(&self, d: &Dispatch) -> io::Result<()> {
        match &d.filter {
            _ if self.filtered => Ok(()),
            Some(filter) => confine::install(filter),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}
