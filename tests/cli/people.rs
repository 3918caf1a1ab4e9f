//! The human form: lines on stderr, and codes that cannot be taken for the program's.

use crate::ground::{Ground, answer, bare};

const FAILS: &str = "echo 'it is broken' >&2; exit 1";

#[test]
fn whatever_keeps_a_program_from_running_is_125() {
    let ground = Ground::new(FAILS);
    for (words, said) in [
        (&["run", "--nonsense", "--", "true"][..], "--nonsense"),
        (&["run"], "argv"),
        (&["run", "--wall=0", "--", "true"], "limits.wall"),
        (&["run", "--network=host", "--", "true"], "network"),
        (&["run", "--", "true"], "it is broken"),
        (&["run", "--runtime=/no/such/runc", "--", "true"], "/no/such/runc"),
    ] {
        // A flag that is given twice is wrong usage as well, which is not what is meant here.
        let mut command = bare(&words[..1]);
        let bound = ground.bound();
        let bound = if words.iter().any(|w| w.starts_with("--runtime")) { &bound[..4] } else { &bound[..] };
        command.args(bound).args(&words[1..]);
        let answer = answer(command);
        assert_eq!((answer.code, answer.stdout.as_str()), (Some(125), ""), "{words:?}: {answer:?}");
        assert!(answer.stderr.contains(said), "{words:?}: {answer:?}");
    }
    ground.is_clean();
}

#[test]
fn faults_are_lines_with_their_remedy() {
    let ground = Ground::new(FAILS);
    let answer = ground.run(&["run", "--network=host", "--", "true"]);
    let lines: Vec<&str> = answer.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{answer:?}");
    assert!(lines[0].starts_with("runcell: ") && lines[0].ends_with("(network)"), "{answer:?}");
    assert!(lines[1].starts_with("runcell: hint: "), "{answer:?}");
}

#[test]
fn a_runtimes_words_do_not_drive_the_terminal() {
    let ground = Ground::new("printf '\\033]52;c;aGk=\\007\\n' >&2; exit 1");
    let answer = ground.run(&["run", "--", "true"]);
    assert_eq!(answer.code, Some(125));
    assert!(answer.stderr.contains("\\u{1b}]52") && !answer.stderr.contains('\u{1b}'), "{answer:?}");
}

#[test]
fn help_and_version_are_answers() {
    for words in [&["--help"][..], &["help"], &["-h"]] {
        let answer = answer(bare(words));
        assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""), "{words:?}");
        for command in ["run", "bundle", "list", "kill", "gc", "doctor", "schema"] {
            assert!(answer.stdout.contains(&format!("  {command} ")), "{command}: {}", answer.stdout);
        }
    }
    let version = answer(bare(&["--version"]));
    assert_eq!((version.code, version.stdout), (Some(0), format!("runcell {}\n", env!("CARGO_PKG_VERSION"))));
    for command in ["run", "bundle", "list", "kill", "gc", "doctor", "schema"] {
        let answer = answer(bare(&[command, "--help"]));
        assert!(answer.code == Some(0) && answer.stdout.contains("Usage: runcell"), "{command}: {answer:?}");
    }
    let nothing = answer(bare(&[]));
    assert_eq!((nothing.code, nothing.stdout.as_str()), (Some(125), ""));
    assert!(nothing.stderr.contains("Usage: runcell"), "{nothing:?}");
}
