//! Result -> colour: a bundle's rules, in their order, on what a program answered and wrote.

use crate::model::blob;
use crate::model::colour::{ColourRule, FAULTY};
use crate::model::outcome::{Stream, Verdict};
use regex_lite::{Regex, RegexBuilder};
use std::borrow::Cow;

/// A rule's compiled form may take so many bytes: a repetition of repetitions would have gigabytes.
const SIZE_MOST: usize = 1 << 20;

/// What the rules look at.
#[derive(Clone, Copy, Debug)]
pub struct Result<'a> {
    pub verdict: Verdict,
    pub exit_code: Option<i32>,
    pub stdout: &'a Stream,
    pub stderr: &'a Stream,
}

/// A colour, and where it is `faulty` the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    pub colour: String,
    pub reason: Option<String>,
}

/// The colour of a result. `None` where there are no rules, and for results that say nothing about the program's work:
/// whatever was stopped, or could not be started.
pub fn judge(rules: &[ColourRule], result: &Result<'_>) -> Option<Judged> {
    if rules.is_empty() || !matches!(result.verdict, Verdict::Ok | Verdict::Nonzero | Verdict::Signaled) {
        return None;
    }
    let (stdout, stderr) = (clean(result.stdout), clean(result.stderr));
    for (n, rule) in rules.iter().enumerate() {
        match holds(rule, result, &stdout, &stderr) {
            Ok(true) => return Some(Judged { colour: rule.colour.as_str().to_owned(), reason: None }),
            Ok(false) => {}
            Err(why) => return Some(faulty(format!("colour rule {} of the bundle is faulty: {why}", n + 1))),
        }
    }
    Some(faulty(format!("none of the bundle's {} colour rules matches", rules.len())))
}

fn faulty(reason: String) -> Judged {
    Judged { colour: FAULTY.to_owned(), reason: Some(reason) }
}

/// A stream as text: what is no UTF-8 becomes U+FFFD, `\r\n` a line's end.
fn clean(stream: &Stream) -> String {
    let bytes: Cow<'_, [u8]> = match (&stream.text, &stream.base64) {
        (Some(text), _) => Cow::Borrowed(text.as_bytes()),
        (None, Some(base64)) => Cow::Owned(blob::decode(base64).unwrap_or_default()),
        (None, None) => Cow::Borrowed(&[]),
    };
    let text = String::from_utf8_lossy(&bytes);
    if text.contains('\r') { text.replace("\r\n", "\n") } else { text.into_owned() }
}

/// Patterns last: they are compiled only where all else holds.
fn holds(rule: &ColourRule, result: &Result<'_>, stdout: &str, stderr: &str) -> std::result::Result<bool, String> {
    let verdict = rule.verdict.is_none_or(|verdict| verdict == result.verdict);
    let code = rule.exit_code.as_ref().is_none_or(|codes| result.exit_code.is_some_and(|code| codes.holds(code)));
    if !verdict || !code {
        return Ok(false);
    }
    let found = |pattern: &Option<String>, texts: &[&str]| match pattern {
        None => Ok(true),
        Some(pattern) => compiled(pattern).map(|regex| texts.iter().any(|text| regex.is_match(text))),
    };
    Ok(found(&rule.stdout, &[stdout])? && found(&rule.stderr, &[stderr])? && found(&rule.output, &[stdout, stderr])?)
}

fn compiled(pattern: &str) -> std::result::Result<Regex, String> {
    let built = RegexBuilder::new(pattern).multi_line(true).size_limit(SIZE_MOST).build();
    built.map_err(|e| e.to_string().replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(toml: &str) -> Vec<ColourRule> {
        toml::from_str::<crate::model::colour::Colours>(toml).expect(toml).colour
    }

    fn judged(toml: &str, verdict: Verdict, code: Option<i32>, out: &[u8], err: &[u8]) -> Option<(String, Option<String>)> {
        let stream = |bytes: &[u8]| Stream::new(bytes.to_vec(), bytes.len() as u64);
        let (stdout, stderr) = (stream(out), stream(err));
        let result = Result { verdict, exit_code: code, stdout: &stdout, stderr: &stderr };
        judge(&rules(toml), &result).map(|j| (j.colour, j.reason))
    }

    const SOME: &str = "[[colour]]\nexit_code = 0\nstdout = '^OK$'\ncolour = 'green'\n\
        [[colour]]\nexit_code = [1, 2]\nstderr = 'FAILED'\ncolour = 'red'\n\
        [[colour]]\nverdict = 'signaled'\ncolour = 'amber'\n\
        [[colour]]\noutput = 'caf\u{e9}'\ncolour = 'own-name'\n";

    #[test]
    fn the_first_rule_whose_every_condition_holds_gives_the_colour() {
        let colour = |verdict, code, out: &[u8], err: &[u8]| judged(SOME, verdict, code, out, err).expect("judged").0;
        assert_eq!(colour(Verdict::Ok, Some(0), b"x\r\nOK\r\n", b""), "green");
        assert_eq!(colour(Verdict::Nonzero, Some(2), b"OK\n", b"FAILED"), "red");
        assert_eq!(colour(Verdict::Nonzero, Some(3), b"", b"FAILED"), "faulty", "no code of the rule's");
        assert_eq!(colour(Verdict::Signaled, None, b"OK", b"FAILED"), "amber");
        assert_eq!(colour(Verdict::Ok, Some(0), b"\xff caf\xc3\xa9", b""), "own-name", "cleaned to UTF-8");
    }

    #[test]
    fn no_match_and_a_faulty_rule_are_told() {
        let (colour, reason) = judged(SOME, Verdict::Ok, Some(0), b"", b"").expect("judged");
        assert_eq!((colour.as_str(), reason.expect("a reason").contains("4 colour rules")), (FAULTY, true));
        for pattern in ["(", "(?=x)", r"\\1(", "((((a{100}){100}){100}){100})"] {
            let toml = format!("[[colour]]\nstdout = '{pattern}'\ncolour = 'red'\n[[colour]]\ncolour = 'green'\n");
            let (colour, reason) = judged(&toml, Verdict::Ok, Some(0), b"x", b"").expect("judged");
            assert_eq!((colour.as_str(), reason.expect("a reason").contains("rule 1")), (FAULTY, true), "{pattern}");
        }
    }

    #[test]
    fn what_was_stopped_or_never_ran_has_no_colour() {
        use Verdict::{Cancelled, CpuTime, HostError, Memory, NotStarted, OutputLimit, WallTime};
        let any = "[[colour]]\ncolour = 'green'\n";
        for verdict in [Cancelled, CpuTime, HostError, Memory, NotStarted, OutputLimit, WallTime] {
            assert_eq!(judged(any, verdict, Some(0), b"OK", b""), None, "{verdict:?}");
        }
        assert_eq!(judged("colour = []\n", Verdict::Ok, Some(0), b"", b""), None, "no rules");
    }
}
