//! The older shell form of an environment: a *computation directory* with `docker.conf` and `docker-setup.sh`.
//!
//! Commands of the script marked `next_stage && …` are done once and become layers, those marked `everytime && …` are done at
//! each run, and the rest is done whenever any of it is. A stage is therefore the whole script, in which only one mark holds:
//! variables and functions of unmarked lines are there for all. Marks are numbered in the text, so that conditions and loops
//! around them shift nothing; one that is only made while the script runs (by eval, say) has no number and ends it.
//!
//! The shell runs with `-e`, so that a stage ends at the first command that fails. As always with it, a subshell or function
//! whose last command is a mark that does not hold ends with 1, and so the script with it: such a one is to end in `:`.

use super::shell::{self, Dialect, Script};
use crate::model::fault::Fault;
use crate::model::job::Network;
use crate::model::recipe::{COMPDIR, From};

pub const CONF: &str = "docker.conf";
pub const SETUP: &str = "docker-setup.sh";
/// The largest script, in bytes: at run time it is one argument, which may have 128 KiB (execve(2)).
pub const MOST: u64 = 64 << 10;
/// A little less than one argument may have, as functions come before it.
const ARG_MOST: usize = 120 << 10;
/// Where a stage finds the script.
pub const SCRIPT: &str = "docker-setup.sh";

const MARKS: [&str; 2] = ["next_stage", "everytime"];
const NEXT_STAGE: usize = 0;
const EVERYTIME: usize = 1;

/// What `docker.conf` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conf {
    pub image: From,
    /// Of the stages: runs never have one by this.
    pub network: Network,
    /// Keys that mean nothing here.
    pub unknown: Vec<String>,
}

/// Reads `docker.conf`: a key and its value a line, separated by `=`, `:` or blanks; values may be quoted; case does not
/// matter in keys. Empty lines, `#` and `;` comments and `[sections]` are skipped, other keys than `image` and `network` are
/// told and otherwise ignored.
///
/// # Errors
/// exit 2: a line without value, a key named twice, no image.
pub fn conf(text: &str) -> Result<Conf, Fault> {
    let wrong = |why: String| {
        Fault::caller("computation:conf", why)
            .at(CONF)
            .hint("write the image that the script builds on, such as: image = debian:12")
    };
    let (mut image, mut network, mut unknown) = (None, None, Vec::new());
    for (number, line) in text.lines().enumerate().map(|(n, line)| (n + 1, line.trim())) {
        if line.is_empty() || line.starts_with(['#', ';', '[']) {
            continue;
        }
        let (key, rest) = line.split_once(|c: char| c == '=' || c == ':' || c.is_whitespace()).unwrap_or((line, ""));
        let rest = rest.trim_start();
        let rest = rest.strip_prefix(['=', ':']).filter(|_| line[key.len()..].starts_with(char::is_whitespace)).unwrap_or(rest);
        let value = value(rest.trim()).ok_or_else(|| wrong(format!("line {number}: {key} has no value")))?;
        let slot = match key.to_ascii_lowercase().as_str() {
            "image" => &mut image,
            "network" => &mut network,
            other => {
                unknown.push(other.to_owned());
                continue;
            }
        };
        if slot.replace(value.to_owned()).is_some() {
            return Err(wrong(format!("line {number}: {key} is named twice")));
        }
    }
    let image = image.ok_or_else(|| wrong("there is no key image".into()))?;
    let image = From::try_from(image).map_err(|why| wrong(format!("image: {why}")))?;
    let network = match network.as_deref() {
        None | Some("none") => Network::None,
        Some("host") => Network::Host,
        Some(other) => return Err(wrong(format!("network: {other:?} is neither none nor host"))),
    };
    Ok(Conf { image, network, unknown })
}

/// A value without its quotes, or without the comment behind it.
fn value(text: &str) -> Option<&str> {
    let quoted = |quote: char| text.strip_prefix(quote).and_then(|rest| rest.split_once(quote)).map(|(inner, _)| inner);
    let plain = || text.find(" #").map_or(text, |at| &text[..at]).trim_end().trim_start_matches(|_| text.starts_with('#'));
    let value = quoted('"').or_else(|| quoted('\'')).unwrap_or_else(plain);
    (!value.is_empty()).then_some(value)
}

/// A script, cut into its stages.
#[derive(Debug)]
pub struct Setup<'t> {
    text: &'t str,
    /// `sh`, `bash`, … as its first line says.
    pub shell: &'t str,
    script: Script,
}

/// What a stage's key is made of, besides its parent and the shell: pieces of the script in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pieces<'t> {
    pub before: Vec<&'t str>,
    pub own: Vec<&'t str>,
    pub after: Vec<&'t str>,
}

/// Reads `docker-setup.sh`.
///
/// # Errors
/// exit 2, with the line: what cannot be cut into stages safely.
pub fn setup(text: &str) -> Result<Setup<'_>, Fault> {
    let wrong = |why: String| Fault::caller("computation:script", why).at(SETUP);
    if text.len() as u64 > MOST {
        return Err(wrong(format!("the script has {} bytes; it may have {MOST}", text.len()))
            .hint("keep what is long in files of the computation directory"));
    }
    if let Some(line) = text.lines().position(|line| line.contains('\0')) {
        return Err(wrong(format!("line {}: a NUL byte", line + 1)));
    }
    if let Some(line) = text.split('\n').position(|line| line.ends_with('\r')) {
        return Err(wrong(format!("line {}: it ends in a carriage return", line + 1)).hint("save it with Unix line ends"));
    }
    let shell = interpreter(text).map_err(&wrong)?;
    let dialect = if shell == "bash" { Dialect::Bash } else { Dialect::Posix };
    let script = shell::read(text, &MARKS, dialect).map_err(|e| {
        wrong(format!("line {}: {}", e.line, e.why)).hint("see whether sh -n accepts it; marks stand in lines of their own")
    })?;
    let setup = Setup { text, shell, script };
    match setup.everytime().is_some_and(|command| command.len() > ARG_MOST) {
        true => Err(wrong("with its quotes escaped the script is longer than one argument may be".into())
            .hint("keep what is long in files of the computation directory")),
        false => Ok(setup),
    }
}

/// The shell that the first line names; `sh` where it names none.
fn interpreter(text: &str) -> Result<&str, String> {
    let Some(line) = text.lines().next().and_then(|line| line.strip_prefix("#!")) else { return Ok("sh") };
    let mut words = line.split_whitespace();
    let program = words.next().unwrap_or_default();
    let named = match program.rsplit('/').next() {
        Some("env") => words.next().unwrap_or_default(),
        other => other.unwrap_or_default(),
    };
    match ["sh", "bash", "dash", "ash"].contains(&named) {
        true => Ok(named),
        false => Err(format!("line 1: the script is to be run by {named:?}; it can be sh, bash, dash or ash")),
    }
}

impl<'t> Setup<'t> {
    /// How many stages it has.
    pub fn stages(&self) -> usize {
        self.of(NEXT_STAGE).count()
    }

    fn of(&self, kind: usize) -> impl Iterator<Item = usize> {
        let marks = self.script.marks.iter().enumerate();
        marks.filter(move |(_, mark)| mark.kind == kind).map(|(n, _)| n)
    }

    /// The line of a stage's mark, from 1; stages count from 0.
    pub fn line(&self, stage: usize) -> usize {
        let start = self.of(NEXT_STAGE).nth(stage).map_or(0, |n| self.script.marks[n].word.start);
        1 + self.text[..start].matches('\n').count()
    }

    /// What a stage's key is made of. Comments, blanks and empty lines are left out, other stages as well, so that adding a
    /// stage or a comment changes no stage before it.
    pub fn pieces(&self, stage: usize) -> Pieces<'t> {
        let Some(n) = self.of(NEXT_STAGE).nth(stage) else {
            return Pieces { before: Vec::new(), own: Vec::new(), after: Vec::new() };
        };
        let start = self.script.marks[n].word.start;
        let text = self.text;
        let own = self.script.marks[n].own.iter().map(|range| &text[range.clone()]).collect();
        Pieces { before: self.unmarked(0, start), own, after: self.unmarked(start, text.len()) }
    }

    /// The words outside of marked commands between two places, and the ends of lines where they part commands.
    fn unmarked(&self, from: usize, to: usize) -> Vec<&'t str> {
        let text = self.text;
        let marked = self.script.marks.iter().flat_map(|mark| mark.own.iter());
        let mut left_out: Vec<_> = marked.chain(&self.script.void).cloned().collect();
        left_out.extend(self.script.newlines.iter().map(|at| *at..at + 1));
        left_out.sort_by_key(|range| (range.start, range.end));
        let (mut pieces, mut at): (Vec<&'t str>, usize) = (Vec::new(), from);
        for range in left_out.into_iter().filter(|range| range.end > from && range.start < to) {
            if range.start > at {
                pieces.push(&text[at..range.start]);
            }
            let ends_line = range.len() == 1 && self.script.newlines.binary_search(&range.start).is_ok();
            if ends_line && range.start >= at && pieces.last().is_some_and(|last| *last != "\n") {
                pieces.push("\n");
            }
            at = at.max(range.end);
        }
        if at < to {
            pieces.push(&text[at..to]);
        }
        if pieces.last() == Some(&"\n") {
            pieces.pop();
        }
        pieces
    }

    /// Whether a stage can see the computation directory: where it does, the directory's content counts for it. What does not
    /// name it finds nothing there, so that this cannot be wrong.
    pub fn sees_directory(&self, stage: usize) -> bool {
        let names = |piece: &&str| [COMPDIR.0, COMPDIR.1, "$0", "${0", "BASH_SOURCE"].iter().any(|name| piece.contains(name));
        let Pieces { before, own, after } = self.pieces(stage);
        before.iter().chain(&own).chain(&after).any(names)
    }

    /// The file that a stage sources: the script with its stages numbered from 1, every line in its place. Its end is well
    /// whatever the last mark said.
    pub fn source(&self) -> String {
        let (mut source, mut at) = (String::with_capacity(self.text.len() + 64), 0);
        for (number, n) in self.of(NEXT_STAGE).enumerate() {
            let end = self.script.marks[n].word.end;
            source += &self.text[at..end];
            source += &format!(" {}", number + 1);
            at = end;
        }
        source + &self.text[at..] + "\n:\n"
    }

    /// What is to be run for a stage, with [`Self::source`] lying in the working directory as [`SCRIPT`].
    pub fn argv(&self, stage: usize) -> Vec<String> {
        let command = format!("{} . ./{SCRIPT}", marks(&format!("{}) ;;", stage + 1), 1));
        [self.shell, "-ec", &command, &format!("{}/{SETUP}", COMPDIR.1)].map(str::to_owned).to_vec()
    }

    /// The shell command of each run; `None` where nothing is marked for it.
    pub fn everytime(&self) -> Option<String> {
        self.of(EVERYTIME).next()?;
        let script = format!("{}\n{}", marks("*) return 1 ;;", 0), self.source());
        Some(format!("{} -ec '{}' {}/{SETUP}", self.shell, script.replace('\'', r"'\''"), COMPDIR.1))
    }
}

/// The two functions that the script's marks call.
fn marks(holds: &str, everytime: u8) -> String {
    let lost = format!("echo \"{SETUP}: next_stage has to stand in the script as a command of its own\" >&2; exit 2");
    format!(
        "next_stage() {{ case ${{1-}} in '') {lost} ;; {holds} *) return 1 ;; esac; }}; everytime() {{ return {everytime}; }};"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_spellings_of_a_configuration_mean_the_same() {
        let debian = From::try_from("debian:12".to_owned()).expect("a name");
        for text in [
            "image=debian:12",
            "image = debian:12\n",
            "image debian:12",
            "image:debian:12",
            "  Image :\t debian:12  # the base\r\n",
            "# x\n; y\n[docker]\n\nIMAGE='debian:12' # z",
            "image=\"debian:12\"",
        ] {
            assert_eq!(conf(text), Ok(Conf { image: debian.clone(), network: Network::None, unknown: vec![] }), "{text:?}");
        }
        let more = conf("user=me\nimage=/srv/root\nnetwork = host\n").expect("fine");
        assert_eq!((more.network, more.unknown), (Network::Host, vec!["user".to_owned()]));
    }

    #[test]
    fn a_configuration_that_names_no_one_image_is_refused() {
        for (text, word) in [
            ("", "no key image"),
            ("image", "line 1: image has no value"),
            ("\nimage =  # debian", "line 2"),
            ("image=a\nimage=b", "twice"),
            ("image=A B", "not an image name"),
            ("image=a\nnetwork=bridge", "bridge"),
        ] {
            let fault = conf(text).expect_err(text);
            assert!(fault.message.contains(word) && fault.path.as_deref() == Some(CONF), "{text:?}: {}", fault.message);
        }
    }

    #[test]
    fn adding_what_changes_nothing_before_it_changes_no_piece_before_it() {
        let first = "# set up\nV=1\nnext_stage && {\n  apt-get install x # why\n}\n\nhash -r\n";
        let one = setup(first).expect("reads");
        for more in ["next_stage && touch /b\n", "\n\n# end\n", "everytime && echo hi; next_stage && cat <<E\nhash\nE\n"] {
            let both = format!("#!/bin/sh\n{first}{more}");
            let two = setup(&both).expect("reads");
            assert_eq!(two.pieces(0), one.pieces(0), "{more:?}");
        }
        assert_eq!(one.pieces(0).before, ["V=1"]);
        assert_eq!(one.pieces(0).after, ["hash", "-r"]);
        for other in ["V=1 ", "V=2", "V='1\n\n2'", "V=1\nW=1"] {
            let changed = first.replace("V=1", other);
            let same = other == "V=1 ";
            assert_eq!(setup(&changed).expect("reads").pieces(0) == one.pieces(0), same, "{other:?}");
        }
    }

    #[test]
    fn the_directory_counts_where_it_is_named() {
        let text = "next_stage && touch /a\nnext_stage && cp $COMPDIR/x /b\n";
        let setup_of_two = setup(text).expect("reads");
        assert!(!setup_of_two.sees_directory(0) && setup_of_two.sees_directory(1));
        let all = format!("D=${{COMPDIR}}/data\n{text}");
        assert!(setup(&all).expect("reads").sees_directory(0));
    }

    #[test]
    fn a_script_that_cannot_be_cut_is_refused_with_its_line() {
        for (text, line, word) in [
            ("#!/usr/bin/python3\n", 1, "python3"),
            ("true\r\n", 1, "carriage"),
            ("\nnext_stage && {\n", 2, "not closed"),
            ("next_stage && { a; everytime && b; }", 1, "never be reached"),
            ("\n\nnext_stage() { true; }", 3, "defined by runcell"),
            ("cat <<E\nx\n", 1, "not closed"),
            ("echo 'x\n", 1, "not closed"),
        ] {
            let fault = setup(text).expect_err(text);
            assert!(
                fault.message.contains(&format!("line {line}: ")) && fault.message.contains(word),
                "{text:?}: {}",
                fault.message
            );
        }
    }
}
