//! What a shell takes for one word, and what lies between words: blanks, comments, here-documents. Everything that quotes or
//! substitutes is skipped whole; the commands within `$(…)` are read as those outside are (see [`super::shell`]).

use std::ops::Range;

/// A script as read. All ranges are in bytes.
#[derive(Debug, Default)]
pub struct Script {
    /// In the order of the text.
    pub marks: Vec<Mark>,
    /// Comments, blanks and joined lines between words: what changes no meaning.
    pub void: Vec<Range<usize>>,
    /// Places of the newlines and semicolons that end commands.
    pub newlines: Vec<usize>,
}

/// A marked command.
#[derive(Debug, PartialEq, Eq)]
pub struct Mark {
    /// Which of the words asked for.
    pub kind: usize,
    /// The marking word.
    pub word: Range<usize>,
    /// From the marking word to the end of its list, and the here-documents that belong to it.
    pub own: Vec<Range<usize>>,
}

/// Why a script cannot be read, and in which line, from 1.
#[derive(Debug, PartialEq, Eq)]
pub struct Trouble {
    pub line: usize,
    pub why: String,
}

/// Whose grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Posix,
    Bash,
}

/// A marked command whose end is not reached yet.
pub(super) struct Open {
    pub(super) mark: usize,
    pub(super) level: usize,
    pub(super) depth: usize,
}

pub(super) struct Heredoc {
    pub(super) delimiter: Vec<u8>,
    /// Leading tabs are no part of its lines.
    pub(super) tabs: bool,
    pub(super) quoted: bool,
    pub(super) at: usize,
}

/// A word as skipped.
pub(super) struct Word {
    pub(super) range: Range<usize>,
    /// Neither quoted nor expanded: it can be a reserved word.
    pub(super) plain: bool,
}

pub(super) struct Reader<'t> {
    pub(super) text: &'t [u8],
    pub(super) at: usize,
    pub(super) words: &'t [&'t str],
    pub(super) dialect: Dialect,
    pub(super) script: Script,
    pub(super) open: Vec<Open>,
    pub(super) heredocs: Vec<Heredoc>,
    /// How deep in substitutions.
    pub(super) level: usize,
}

pub(super) type Read<T = ()> = Result<T, Trouble>;

impl Reader<'_> {
    pub(super) fn trouble<T>(&self, at: usize, why: impl Into<String>) -> Read<T> {
        let line = 1 + self.text[..at.min(self.text.len())].iter().filter(|b| **b == b'\n').count();
        Err(Trouble { line, why: why.into() })
    }

    pub(super) fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    pub(super) fn sees(&self, what: &str) -> bool {
        self.text[self.at..].starts_with(what.as_bytes())
    }

    pub(super) fn takes(&mut self, what: &str) -> bool {
        let sees = self.sees(what);
        self.at += if sees { what.len() } else { 0 };
        sees
    }

    pub(super) fn bash(&self) -> bool {
        self.dialect == Dialect::Bash
    }

    /// Blanks and joined lines.
    pub(super) fn blanks(&mut self) {
        let from = self.at;
        while matches!(self.peek(0), Some(b' ' | b'\t')) || self.sees("\\\n") {
            self.at += if self.sees("\\\n") { 2 } else { 1 };
        }
        if self.at > from {
            self.script.void.push(from..self.at);
        }
    }

    pub(super) fn comment(&mut self) {
        let from = self.at;
        while self.peek(0).is_some_and(|b| b != b'\n') {
            self.at += 1;
        }
        self.script.void.push(from..self.at);
    }

    /// Blanks, comments and newlines, where a command may go on in another line.
    pub(super) fn gap(&mut self) -> Read {
        loop {
            self.blanks();
            match self.peek(0) {
                Some(b'#') => self.comment(),
                Some(b'\n') => self.newline()?,
                _ => return Ok(()),
            }
        }
    }

    /// The end of a line, and the here-documents that begin after it.
    pub(super) fn newline(&mut self) -> Read {
        self.script.newlines.push(self.at);
        self.at += 1;
        for heredoc in std::mem::take(&mut self.heredocs) {
            let from = self.at;
            self.body(&heredoc)?;
            if let Some(open) = self.open.last() {
                self.script.marks[open.mark].own.push(from..self.at);
            }
        }
        Ok(())
    }

    pub(super) fn body(&mut self, heredoc: &Heredoc) -> Read {
        let mut joined = false;
        loop {
            if self.at >= self.text.len() {
                let delimiter = String::from_utf8_lossy(&heredoc.delimiter).into_owned();
                return self.trouble(heredoc.at, format!("the here-document is not closed by a line {delimiter:?}"));
            }
            let rest = &self.text[self.at..];
            let length = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
            let line = &rest[..length];
            let tabs = if heredoc.tabs { line.iter().take_while(|b| **b == b'\t').count() } else { 0 };
            self.at = (self.at + length + 1).min(self.text.len());
            if !joined && line[tabs..] == heredoc.delimiter {
                return Ok(());
            }
            // Where it is not quoted a backslash joins the next line to this one, delimiter or not.
            joined = !heredoc.quoted && line.iter().rev().take_while(|b| **b == b'\\').count() % 2 == 1;
        }
    }

    /// One word, with all that it quotes and substitutes; empty where none begins.
    pub(super) fn word(&mut self) -> Read<Word> {
        let (from, mut plain) = (self.at, true);
        while let Some(byte) = self.peek(0) {
            match byte {
                b' ' | b'\t' | b'\n' | b';' | b'&' | b'|' | b')' => break,
                b'(' if self.at > from && (assigns(&self.text[from..self.at]) || self.extended()) => {
                    plain = false;
                    self.list_of_words()?;
                }
                b'<' | b'>' if self.bash() && self.peek(1) == Some(b'(') => {
                    plain = false;
                    self.at += 1;
                    self.substitution()?;
                }
                b'(' | b'<' | b'>' => break,
                b'\\' if self.peek(1) == Some(b'\n') => (self.at, plain) = (self.at + 2, false),
                b'\\' => (self.at, plain) = ((self.at + 2).min(self.text.len()), false),
                b'\'' | b'"' | b'$' | b'`' => {
                    plain = false;
                    self.quoting(false)?;
                }
                _ => self.at += 1,
            }
        }
        Ok(Word { range: from..self.at, plain })
    }

    /// Whether a `(` here is part of one of bash's extended patterns.
    pub(super) fn extended(&self) -> bool {
        self.bash() && matches!(self.text[self.at - 1], b'?' | b'*' | b'+' | b'@' | b'!')
    }

    /// The words of an array, or the alternatives of an extended pattern.
    pub(super) fn list_of_words(&mut self) -> Read {
        let from = self.at;
        self.at += 1;
        loop {
            self.gap()?;
            match self.peek(0) {
                None => return self.trouble(from, "the parenthesis is not closed"),
                Some(b')') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'(') => self.list_of_words()?,
                Some(b'|' | b'&' | b';' | b'<' | b'>') => self.at += 1,
                Some(_) => {
                    self.word()?;
                }
            }
        }
    }

    /// One quoted part or expansion; `inside` of double quotes.
    pub(super) fn quoting(&mut self, inside: bool) -> Read {
        let from = self.at;
        match (self.peek(0), self.peek(1)) {
            (Some(b'\''), _) => self.until(b'\'', false, from),
            (Some(b'`'), _) => self.until(b'`', true, from),
            (Some(b'"'), _) => {
                self.at += 1;
                loop {
                    match self.peek(0) {
                        None => return self.trouble(from, "the double quote is not closed"),
                        Some(b'"') => break self.at += 1,
                        Some(b'\\') => self.at = (self.at + 2).min(self.text.len()),
                        Some(b'$' | b'`') => self.quoting(true)?,
                        Some(_) => self.at += 1,
                    }
                }
                Ok(())
            }
            (Some(b'$'), Some(b'\'')) if !inside => {
                self.at += 1;
                self.until(b'\'', true, from)?;
                match self.bash() || !self.text[from..self.at].windows(2).any(|pair| pair == b"\\'") {
                    true => Ok(()),
                    false => self.trouble(from, "\\' within $'…' is read differently by different shells"),
                }
            }
            (Some(b'$'), Some(b'(')) => {
                self.at += 1;
                match self.sees("((").then(|| self.arithmetic(2)).flatten() {
                    Some(end) => {
                        self.at = end;
                        Ok(())
                    }
                    None => self.substitution(),
                }
            }
            (Some(b'$'), Some(b'{')) => self.parameter(inside),
            // `$$'x'` is a process id and a quote.
            (Some(b'$'), Some(b'$' | b'#')) => {
                self.at += 2;
                Ok(())
            }
            _ => {
                self.at += 1;
                Ok(())
            }
        }
    }

    /// From an opening quote to its like; a backslash may hide that.
    pub(super) fn until(&mut self, quote: u8, escapes: bool, from: usize) -> Read {
        self.at += 1;
        loop {
            match self.peek(0) {
                None => return self.trouble(from, format!("the quote {} is not closed", char::from(quote))),
                Some(b) if b == quote => break self.at += 1,
                Some(b'\\') if escapes => self.at = (self.at + 2).min(self.text.len()),
                Some(_) => self.at += 1,
            }
        }
        Ok(())
    }

    /// `${…}`.
    pub(super) fn parameter(&mut self, inside: bool) -> Read {
        let from = self.at;
        self.at += 2;
        if matches!(self.peek(0), Some(b'#' | b'!')) && self.peek(1) != Some(b'}') {
            self.at += 1;
        }
        match self.peek(0) {
            Some(b'@' | b'*' | b'#' | b'?' | b'-' | b'$' | b'!') => self.at += 1,
            Some(b) if b.is_ascii_alphanumeric() || b == b'_' => {
                while self.peek(0).is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_') {
                    self.at += 1;
                }
            }
            _ => return self.trouble(from, "'${' is not followed by a parameter"),
        }
        // Inside of double quotes a single quote is a character of a value, but quotes in a pattern (XCU 2.6.2).
        let pattern = matches!(self.peek(0), Some(b'#' | b'%' | b'/' | b'^' | b','));
        loop {
            match self.peek(0) {
                None => return self.trouble(from, "'${' is not closed"),
                Some(b'}') => break self.at += 1,
                Some(b'\\') => self.at = (self.at + 2).min(self.text.len()),
                Some(b'\'') if inside && !pattern && self.bash() => {
                    return self.trouble(self.at, "a single quote within \"${…}\" is read differently by different shells");
                }
                Some(b'\'') if inside && !pattern => self.at += 1,
                Some(b'\'' | b'"' | b'$' | b'`') => self.quoting(inside)?,
                Some(_) => self.at += 1,
            }
        }
        Ok(())
    }

    /// The commands of `$(…)` or `<(…)`, from their parenthesis on.
    pub(super) fn substitution(&mut self) -> Read {
        let from = self.at;
        self.at += 1;
        self.level += 1;
        let outer = std::mem::take(&mut self.heredocs);
        self.commands(Some(from))?;
        if !outer.is_empty() && self.text[from..self.at].contains(&b'\n') {
            return self.trouble(from, "a here-document and a substitution over several lines in one command");
        }
        if let Some(heredoc) = self.heredocs.first() {
            return self.trouble(heredoc.at, "the here-document has no body within its parentheses");
        }
        self.heredocs = outer;
        self.level -= 1;
        Ok(())
    }

    /// Where an arithmetic expression ends that begins here with two parentheses. `None` where they close one by one: then
    /// it is a subshell within another.
    pub(super) fn arithmetic(&self, opened: usize) -> Option<usize> {
        let (mut depth, mut at) = (opened, self.at + opened);
        while let Some(byte) = self.text.get(at) {
            match byte {
                b'\\' => at += 1,
                b'\'' | b'"' => at += 1 + self.text[at + 1..].iter().position(|b| b == byte)?,
                b'(' => depth += 1,
                b')' => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 1 {
                return (self.text.get(at) == Some(&b')')).then_some(at + 1);
            }
        }
        None
    }
}

/// Whether a word is an assignment up to here: `name=`, `name+=`, `name[…]=`, whatever follows.
pub(super) fn assigns(word: &[u8]) -> bool {
    let name = word.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
    if name == 0 || word[0].is_ascii_digit() {
        return false;
    }
    let rest = &word[name..];
    let rest = match rest.first() {
        Some(b'[') => rest.iter().position(|b| *b == b']').map_or(&rest[..0], |end| &rest[end + 1..]),
        _ => rest,
    };
    rest.first() == Some(&b'=') || rest.starts_with(b"+=")
}
