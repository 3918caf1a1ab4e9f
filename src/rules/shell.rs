//! Finds the marked commands of a shell script, without running it.
//!
//! Theory of operation: one pass from left to right over POSIX shell grammar (XCU 2) and what bash adds to it. Words are
//! skipped whole, with all that quoting can hold; reserved words open and close frames; a mark is a word in command
//! position, and its command ends where the list it stands in ends at the same depth of frames. Substitutions are read by
//! the same code one level deeper. What shells disagree about, or what this reader does not know, is refused with its line,
//! as a stage that was cut wrongly would be worse than none.

pub use super::quoting::{Dialect, Mark, Script, Trouble};
use super::quoting::{Heredoc, Open, Read, Reader, Word, assigns};
use std::ops::Range;

/// Reads a script in which these words are marks.
///
/// # Errors
/// what is not closed, not known, or read differently by different shells; a mark within a marked command.
pub fn read(text: &str, words: &[&str], dialect: Dialect) -> Result<Script, Trouble> {
    let script = Script::default();
    let mut reader =
        Reader { text: text.as_bytes(), at: 0, words, dialect, script, open: Vec::new(), heredocs: Vec::new(), level: 0 };
    reader.commands(None)?;
    Ok(reader.script)
}

/// What is open inside one list of commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    If,
    Loop,
    Case,
    Brace,
    Paren,
}

impl Reader<'_> {
    /// Commands up to the end of the text, or to the `)` that closes a substitution that began at `closes`.
    pub(super) fn commands(&mut self, closes: Option<usize>) -> Read {
        let mut frames: Vec<(Frame, usize)> = Vec::new();
        // Whether the next word is a command's first; whether the list goes on in the next line; the word before.
        let (mut first, mut goes_on, mut name) = (true, false, None::<Word>);
        loop {
            self.blanks();
            let at = self.at;
            let Some(byte) = self.peek(0) else {
                return match (frames.last(), closes) {
                    (Some((frame, from)), _) => self.trouble(*from, format!("{} is not closed", opening(*frame))),
                    (None, Some(from)) => self.trouble(from, "the parenthesis is not closed"),
                    (None, None) => match self.heredocs.first().map(|h| h.at) {
                        Some(from) => self.trouble(from, "the here-document has no body"),
                        None => {
                            self.list_ends(0, at);
                            Ok(())
                        }
                    },
                };
            };
            match byte {
                b'#' => self.comment(),
                b'\n' => {
                    // What a here-document belongs to is still open while that is read.
                    self.newline()?;
                    if !goes_on {
                        self.list_ends(frames.len(), at);
                    }
                    (first, name) = (true, None);
                }
                b';' => {
                    self.list_ends(frames.len(), at);
                    let clause = self.takes(";;&") || self.takes(";;") || self.takes(";&");
                    match (clause, frames.last()) {
                        (false, _) => {
                            self.script.newlines.push(at);
                            self.at += 1;
                        }
                        (true, Some((Frame::Case, _))) => self.clause(&mut frames)?,
                        (true, _) => return self.trouble(at, "';;' stands outside of case"),
                    }
                    (first, goes_on, name) = (true, false, None);
                }
                b'&' if self.sees("&&") => {
                    self.at += 2;
                    (first, goes_on, name) = (true, true, None);
                }
                b'&' if self.bash() && self.sees("&>") => self.redirection()?,
                b'&' => {
                    self.list_ends(frames.len(), at);
                    self.at += 1;
                    (first, goes_on, name) = (true, false, None);
                }
                b'|' => {
                    let _ = self.takes("||") || self.takes("|&") || self.takes("|");
                    (first, goes_on, name) = (true, true, None);
                }
                b'(' if name.is_some() => {
                    self.at += 1;
                    self.blanks();
                    if !self.takes(")") {
                        return self.trouble(at, "'(' stands where no command can begin");
                    }
                    let named = name.take().map(|w| w.range).unwrap_or_default();
                    if self.mark(&named).is_some() {
                        return self.trouble(at, "the marks are defined by runcell; a script cannot define them");
                    }
                    (first, goes_on) = (true, true);
                }
                b'(' if first => {
                    match self.sees("((").then(|| self.arithmetic(2)).flatten() {
                        Some(end) if self.bash() => (self.at, first) = (end, false),
                        // Elsewhere it would be subshells, in which << and # mean something else.
                        Some(_) => return self.trouble(at, "'((' is read differently by different shells"),
                        None => {
                            self.at += 1;
                            frames.push((Frame::Paren, at));
                        }
                    }
                    goes_on = false;
                }
                b'(' => return self.trouble(at, "'(' stands where no command can begin"),
                b')' => {
                    self.list_ends(frames.len(), at);
                    self.at += 1;
                    (first, goes_on, name) = (true, false, None);
                    match (frames.pop(), closes) {
                        (Some((Frame::Paren, _)), _) => {}
                        (None, Some(_)) => return Ok(()),
                        _ => return self.trouble(at, "')' closes nothing"),
                    }
                }
                b'<' | b'>' if self.bash() && self.peek(1) == Some(b'(') => {
                    let _ = self.word()?;
                    (first, goes_on, name) = (false, false, None);
                }
                b'<' | b'>' => self.redirection()?,
                _ => {
                    let word = self.word()?;
                    let digits = self.text[word.range.clone()].iter().all(u8::is_ascii_digit);
                    if word.plain && digits && matches!(self.peek(0), Some(b'<' | b'>')) {
                        continue; // the number of a redirection
                    }
                    goes_on = false;
                    if !first {
                        name = None;
                        continue;
                    }
                    (first, name) = (self.first_word(&word, &mut frames)?, None);
                    if !first && word.plain {
                        name = Some(word);
                    }
                }
            }
        }
    }

    /// A word in command position. Answers whether what follows is in command position as well.
    fn first_word(&mut self, word: &Word, frames: &mut Vec<(Frame, usize)>) -> Read<bool> {
        let at = word.range.start;
        let text = &self.text[word.range.clone()];
        if !word.plain {
            return Ok(assigns(text));
        }
        let text = text.to_owned();
        match &text[..] {
            b"if" => frames.push((Frame::If, at)),
            b"while" | b"until" => frames.push((Frame::Loop, at)),
            b"{" => frames.push((Frame::Brace, at)),
            b"then" | b"else" | b"elif" | b"do" => self.list_ends(frames.len(), at),
            b"!" => {}
            b"time" if self.bash() => {}
            b"fi" => self.close(frames, Frame::If, at)?,
            b"done" => self.close(frames, Frame::Loop, at)?,
            b"}" => self.close(frames, Frame::Brace, at)?,
            b"esac" => self.close(frames, Frame::Case, at)?,
            b"for" => return self.loop_over(frames, at),
            b"select" if self.bash() => return self.loop_over(frames, at),
            b"case" => {
                self.blanks();
                self.word()?;
                self.gap()?;
                let within = self.word()?;
                if &self.text[within.range.clone()] != b"in" {
                    return self.trouble(at, "case has no 'in'");
                }
                frames.push((Frame::Case, at));
                self.clause(frames)?;
            }
            b"function" if self.bash() => {
                self.blanks();
                let name = self.word()?;
                if self.mark(&name.range).is_some() {
                    return self.trouble(at, "the marks are defined by runcell; a script cannot define them");
                }
                self.blanks();
                if self.takes("(") {
                    self.blanks();
                    if !self.takes(")") {
                        return self.trouble(at, "'(' stands where no command can begin");
                    }
                }
                self.gap()?;
            }
            b"[[" if self.bash() => return self.condition(at).map(|()| false),
            _ => match self.mark(&word.range) {
                Some(kind) if self.open.is_empty() => {
                    self.open.push(Open { mark: self.script.marks.len(), level: self.level, depth: frames.len() });
                    self.script.marks.push(Mark { kind, word: word.range.clone(), own: Vec::new() });
                    return Ok(false);
                }
                Some(_) => {
                    return self.trouble(at, "a mark within a marked command would never be reached; give it a line of its own");
                }
                None => return Ok(assigns(&text)),
            },
        }
        Ok(true)
    }

    fn mark(&self, word: &Range<usize>) -> Option<usize> {
        self.words.iter().position(|mark| mark.as_bytes() == &self.text[word.clone()])
    }

    /// Marked commands of this depth end here, before `at`.
    fn list_ends(&mut self, depth: usize, at: usize) {
        while let Some(open) = self.open.pop_if(|open| open.level == self.level && open.depth >= depth) {
            let mark = &mut self.script.marks[open.mark];
            // A here-document within the command is part of it already.
            mark.own.retain(|document| document.start > at);
            mark.own.insert(0, mark.word.start..at);
        }
    }

    fn close(&mut self, frames: &mut Vec<(Frame, usize)>, what: Frame, at: usize) -> Read {
        self.list_ends(frames.len(), at);
        match frames.pop() {
            Some((frame, _)) if frame == what => Ok(()),
            Some((frame, _)) => self.trouble(at, format!("{} is still open here", opening(frame))),
            None => self.trouble(at, "this closes nothing"),
        }
    }

    /// `for NAME [in WORDS]`, up to `do`.
    fn loop_over(&mut self, frames: &mut Vec<(Frame, usize)>, at: usize) -> Read<bool> {
        frames.push((Frame::Loop, at));
        self.blanks();
        if self.sees("((") {
            return match self.arithmetic(2) {
                Some(end) => {
                    self.at = end;
                    Ok(true)
                }
                None => self.trouble(at, "'((' is not closed"),
            };
        }
        self.word()?;
        self.gap()?;
        let before = self.at;
        let is_in = self.peek(0) == Some(b'i') && {
            let word = self.word()?;
            &self.text[word.range] == b"in"
        };
        if !is_in {
            self.at = before;
        }
        Ok(!is_in)
    }

    /// The patterns of the next clause of case, or its `esac`.
    fn clause(&mut self, frames: &mut Vec<(Frame, usize)>) -> Read {
        self.gap()?;
        let at = self.at;
        let bracket = self.takes("(");
        loop {
            self.gap()?;
            match self.peek(0) {
                Some(b'|') => self.at += 1,
                Some(b')') => {
                    self.at += 1;
                    return Ok(());
                }
                None | Some(b';' | b'&' | b'<' | b'>' | b'(') => return self.trouble(at, "a clause of case has no ')'"),
                Some(_) => {
                    let word = self.word()?;
                    if !bracket && word.plain && word.range.start == at && &self.text[word.range] == b"esac" {
                        return self.close(frames, Frame::Case, at);
                    }
                }
            }
        }
    }

    /// bash's `[[ … ]]`, in which `<`, `>`, `(`, `&&` and the like are no operators of commands.
    fn condition(&mut self, from: usize) -> Read {
        loop {
            self.gap()?;
            match self.peek(0) {
                None => return self.trouble(from, "[[ is not closed"),
                Some(b'<' | b'>' | b'(' | b')' | b'|' | b'&' | b';') => self.at += 1,
                Some(_) => {
                    let word = self.word()?;
                    if &self.text[word.range] == b"]]" {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// An operator of redirection, and its word.
    fn redirection(&mut self) -> Read {
        let at = self.at;
        let operators = ["&>>", "&>", "<<<", "<<-", "<<", "<>", "<&", "<", ">>", ">|", ">&", ">"];
        let operator = operators.iter().find(|operator| self.takes(operator)).copied().unwrap_or_default();
        self.blanks();
        let word = self.word()?;
        if word.range.is_empty() {
            return self.trouble(at, format!("{operator:?} has no word"));
        }
        if operator == "<<" || operator == "<<-" {
            let written = &self.text[word.range.clone()];
            if written.iter().any(|b| matches!(b, b'$' | b'`')) {
                return self.trouble(at, "the delimiter of a here-document is a plain or quoted word");
            }
            let delimiter = written.iter().copied().filter(|b| !matches!(b, b'\'' | b'"' | b'\\')).collect();
            self.heredocs.push(Heredoc { delimiter, tabs: operator == "<<-", quoted: !word.plain, at });
        }
        Ok(())
    }
}

fn opening(frame: Frame) -> &'static str {
    match frame {
        Frame::If => "'if'",
        Frame::Loop => "the loop",
        Frame::Case => "'case'",
        Frame::Brace => "'{'",
        Frame::Paren => "'('",
    }
}
