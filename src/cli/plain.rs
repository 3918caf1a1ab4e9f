//! The few words that services use again and again, read without the grammar.
//!
//! Building all the words of `run` and looking these few up costs 0.4 ms, a tenth of a warm run (measured). Whatever is not
//! exactly one of these is left to the grammar, which alone says what is wrong; what is read here it reads in the same way
//! (see the tests).

use super::flags::JobFlags;
use super::words::{Command, Common, PinArgs, RunArgs, Words};
use std::ffi::{OsStr, OsString};

/// `runcell [--root DIR] [--policy FILE] [--runtime PATH] run [--json] [--cold] [--job FILE] [-- ARGV]`, words before `--` in any
/// order that has a value after each that takes one, each at most once; anything else is `None`.
pub(super) fn read(args: &[OsString]) -> Option<Words> {
    let mut common = Common { policy: None, root: None, runtime: None };
    let (mut run, mut json, mut cold, mut job) = (false, false, false, None);
    let mut words = args.iter().skip(1);
    let mut argv = Vec::new();
    while let Some(word) = words.next() {
        match word.to_str()? {
            "run" if !run => run = true,
            "--json" if run && !json => json = true,
            "--cold" if run && !cold => cold = true,
            "--job" if run && job.is_none() => job = Some(value(words.next()?)?.into()),
            "--root" if common.root.is_none() => common.root = Some(value(words.next()?)?.into()),
            "--policy" if common.policy.is_none() => common.policy = Some(value(words.next()?)?.into()),
            "--runtime" if common.runtime.is_none() => common.runtime = Some(value(words.next()?)?.to_str()?.to_owned()),
            "--" if run => argv = words.by_ref().map(|word| word.to_str().map(str::to_owned)).collect::<Option<_>>()?,
            _ => return None,
        }
    }
    let flags = JobFlags::of(argv);
    let pin = PinArgs { pin: None, cores: 1 };
    let args = RunArgs { json, job, quiet: false, best_effort: false, cold, refill: None, pin, flags };
    run.then_some(Words { common, command: Command::Run(args) })
}

/// A value that cannot be taken for a flag.
fn value(word: &OsStr) -> Option<&OsStr> {
    (word == "-" || !(word.is_empty() || word.as_encoded_bytes().starts_with(b"-"))).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    const WORDS: [&str; 15] = [
        "run",
        "--json",
        "--cold",
        "--job",
        "--root",
        "--policy",
        "--runtime",
        "--",
        "-",
        "-q",
        "",
        "true",
        "--job=f",
        "list",
        "--cores",
    ];

    fn line(words: &[&str]) -> Vec<OsString> {
        std::iter::once(&"runcell").chain(words).map(OsString::from).collect()
    }

    /// Whether a line is read here; that the grammar reads it in the same way is asserted.
    fn read_alike(words: &[&str]) -> bool {
        let args = line(words);
        let Some(read) = read(&args) else { return false };
        let told = Words::try_parse_from(&args).map(|told| format!("{told:?}"));
        assert_eq!(told.as_deref().ok(), Some(&*format!("{read:?}")), "{words:?}: {told:?}");
        true
    }

    #[test]
    fn what_is_read_here_the_grammar_reads_alike() {
        let mut lines: Vec<Vec<&str>> = vec![Vec::new()];
        let mut read = 0;
        for _ in 0..3 {
            lines = lines.iter().flat_map(|line| WORDS.map(|word| [line.as_slice(), &[word]].concat())).collect();
            read += lines.iter().filter(|line| read_alike(line)).count();
        }
        assert!(read > 50, "{read}");
    }

    #[test]
    fn the_words_of_services_are_read_here() {
        let all = [
            "--root",
            "/r",
            "--policy",
            "p",
            "run",
            "--json",
            "--cold",
            "--runtime",
            "crun",
            "--job",
            "-",
            "--",
            "sh",
            "-c",
            "--json",
        ];
        for words in [&["run", "--json", "--", "true"][..], &["--root", "/r", "run", "--job", "-"], &["run", "--"], &all] {
            assert!(read_alike(words), "{words:?}");
        }
    }

    #[test]
    fn the_rest_is_the_grammars() {
        use std::os::unix::ffi::OsStringExt;
        for words in
            [&["run", "true"][..], &["run", "--job=f"], &["--json", "run"], &["run", "--root", "--json"], &["run", "--job", ""]]
        {
            assert!(read(&line(words)).is_none(), "{words:?}");
        }
        let bytes = [line(&["run", "--"]), vec![OsString::from_vec(vec![0xff])]].concat();
        assert!(read(&bytes).is_none());
    }
}
