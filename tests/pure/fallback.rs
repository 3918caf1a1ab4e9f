//! What a shell makes of argv with fallbacks spelled out, for runtimes that nobody supervises.

use runcell::rules::fallback::spelled_out;
use std::process::Command;

#[track_caller]
#[allow(clippy::disallowed_methods)] // tests start shells
fn told(argv: &[&str], fallbacks: &[&str]) -> (String, Option<i32>) {
    let [argv, fallbacks] = [argv, fallbacks].map(|words| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
    let words = spelled_out(&argv, &fallbacks);
    let ran = Command::new(&words[0]).args(&words[1..]).env("LC_ALL", "C").output().expect("it starts");
    (String::from_utf8(ran.stdout).expect("UTF-8"), ran.status.code())
}

#[test]
fn a_shell_takes_the_first_that_there_is() {
    let fine = |text: &str| (text.to_owned(), Some(0));
    assert_eq!(told(&["printf", "%s.", "a b", "$c"], &[]), fine("a b.$c."), "nothing stands before it");
    assert_eq!(told(&["printf", "%s.", "a b"], &["echo"]), fine("a b."));
    assert_eq!(told(&["it's not here", "%s.", "a b"], &["nor 'this'", "printf", "echo"]), fine("a b."));
    assert_eq!(told(&["none", "x"], &["nor this"]), (String::new(), Some(127)));
}

#[test]
fn a_program_alone_is_left_as_it_is() {
    let argv = ["a".to_owned(), "b".to_owned()];
    assert_eq!(spelled_out(&argv, &[]), argv);
}
