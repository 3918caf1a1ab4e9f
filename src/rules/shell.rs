//! Finds the marked commands of a shell script, without running it.
//!
//! Theory of operation: one pass from left to right over POSIX shell grammar (XCU 2) and what bash adds to it. Words are
//! skipped whole, with all that quoting can hold; reserved words open and close frames; a mark is a word in command
//! position, and its command ends where the list it stands in ends at the same depth of frames. Substitutions are read by
//! the same code one level deeper. What shells disagree about, or what this reader does not know, is refused with its line,
//! as a stage that was cut wrongly would be worse than none.

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

/// A marked command whose end is not reached yet.
struct Open {
    mark: usize,
    level: usize,
    depth: usize,
}

struct Heredoc {
    delimiter: Vec<u8>,
    /// Leading tabs are no part of its lines.
    tabs: bool,
    quoted: bool,
    at: usize,
}

/// A word as skipped.
struct Word {
    range: Range<usize>,
    /// Neither quoted nor expanded: it can be a reserved word.
    plain: bool,
}

struct Reader<'t> {
    text: &'t [u8],
    at: usize,
    words: &'t [&'t str],
    dialect: Dialect,
    script: Script,
    open: Vec<Open>,
    heredocs: Vec<Heredoc>,
    /// How deep in substitutions.
    level: usize,
}

type Read<T = ()> = Result<T, Trouble>;

impl Reader<'_> {
    fn trouble<T>(&self, at: usize, why: impl Into<String>) -> Read<T> {
        let line = 1 + self.text[..at.min(self.text.len())].iter().filter(|b| **b == b'\n').count();
        Err(Trouble { line, why: why.into() })
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn sees(&self, what: &str) -> bool {
        self.text[self.at..].starts_with(what.as_bytes())
    }

    fn takes(&mut self, what: &str) -> bool {
        let sees = self.sees(what);
        self.at += if sees { what.len() } else { 0 };
        sees
    }

    fn bash(&self) -> bool {
        self.dialect == Dialect::Bash
    }

    /// Blanks and joined lines.
    fn blanks(&mut self) {
        let from = self.at;
        while matches!(self.peek(0), Some(b' ' | b'\t')) || self.sees("\\\n") {
            self.at += if self.sees("\\\n") { 2 } else { 1 };
        }
        if self.at > from {
            self.script.void.push(from..self.at);
        }
    }

    fn comment(&mut self) {
        let from = self.at;
        while self.peek(0).is_some_and(|b| b != b'\n') {
            self.at += 1;
        }
        self.script.void.push(from..self.at);
    }

    /// Blanks, comments and newlines, where a command may go on in another line.
    fn gap(&mut self) -> Read {
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
    fn newline(&mut self) -> Read {
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

    fn body(&mut self, heredoc: &Heredoc) -> Read {
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

    /// Commands up to the end of the text, or to the `)` that closes a substitution that began at `closes`.
    fn commands(&mut self, closes: Option<usize>) -> Read {
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

    /// One word, with all that it quotes and substitutes; empty where none begins.
    fn word(&mut self) -> Read<Word> {
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
    fn extended(&self) -> bool {
        self.bash() && matches!(self.text[self.at - 1], b'?' | b'*' | b'+' | b'@' | b'!')
    }

    /// The words of an array, or the alternatives of an extended pattern.
    fn list_of_words(&mut self) -> Read {
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
                Some(_) => drop(self.word()?),
            }
        }
    }

    /// One quoted part or expansion; `inside` of double quotes.
    fn quoting(&mut self, inside: bool) -> Read {
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
    fn until(&mut self, quote: u8, escapes: bool, from: usize) -> Read {
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
    fn parameter(&mut self, inside: bool) -> Read {
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
    fn substitution(&mut self) -> Read {
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
    fn arithmetic(&self, opened: usize) -> Option<usize> {
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
fn assigns(word: &[u8]) -> bool {
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

fn opening(frame: Frame) -> &'static str {
    match frame {
        Frame::If => "'if'",
        Frame::Loop => "the loop",
        Frame::Case => "'case'",
        Frame::Brace => "'{'",
        Frame::Paren => "'('",
    }
}
