//! `docker-setup.sh` as runcell cuts it, against what shells make of the same script: each stage has to print what the plain
//! script prints when its marks are counted as they are called.

use super::runner;
use proptest::prelude::*;
use runcell::rules::computation::{SCRIPT, setup};
use std::cell::Cell;
use std::path::Path;
use std::process::{Command, Stdio};

/// What stands between marked commands. Most of it has the marks' words where they are no commands.
const UNMARKED: &[&str] = &[
    "# next_stage && it's a comment",
    "V=1",
    "echo \"v $V\" # next_stage && no",
    "echo 'next_stage && no' \"next_stage && no\" next_stage everytime",
    "echo \"a $(echo \"b ' $(echo c)\") ${V:-it's} d\"",
    "echo ${V:-'}'} ${U:-a b} ${V#\"}\"} $# $$ >/dev/null",
    "echo \"${V:-it's}\"; echo \"${U:-\"x y\"}\"",
    "echo \"${V#'}'}\" ${V%\\}}",
    "cat <<E\nnext_stage && $V it's \"\nE\n  # after",
    "cat <<'E' <<-F\nnext_stage && `\nE\n\teverytime && $V (\n\tF",
    "cat <<\\E; echo behind\n$( `\nE",
    "cat <<E\njoined \\\nE\nE",
    "echo `echo next_stage; echo \\`echo x\\``",
    "echo $((1 + (2 * 3))) $(( 5 >> 1 )) $( (echo sub) )",
    "case $V in (next_stage) echo no ;; 1|x) echo one ;; *) echo 'else)' ;; esac",
    "case $V in a) ;; esac; case x in x) echo x; esac",
    "for i in 1 2 do done; do echo $i; done",
    "for i\ndo echo never\ndone",
    "i=0; while [ $i -lt 2 ]; do i=$((i+1)); echo w$i; done",
    "if [ \"$V\" ]; then echo set; elif true; then :; else echo unset; fi >&1 2>&1",
    "f() { echo f \"$@\"; }; f a 'b c'",
    "g ()\n(\n  echo g # )\n)\ng",
    "echo a\\\nb \\\n  c\\ d \\# e#f",
    "{ { echo braces; }; (echo parens); } | cat",
    "! false && echo not",
    "true && X=next_stage && echo {a,b} a=b # x",
    "V=$(cat <<E\nit's (\nE\n)\necho \"$V\"",
    "[ -d /nowhere ] || echo nowhere",
    "echo x >/dev/null 2>&1 </dev/null",
    "export A=$V; unset A",
];

/// Marked commands; `N` is replaced by a number.
const MARKED: &[&str] = &[
    "next_stage && echo onceN",
    "next_stage && echo onceN; echo alwaysN",
    "next_stage && echo onceN & wait",
    "next_stage&&echo onceN&&echo moreN||echo orN",
    "next_stage &&\n  # why\n  echo onceN |\n  cat",
    "next_stage && {\n  echo onceN # }\n  cat <<E\n} bodyN\nE\n  { echo in; }\n}",
    "next_stage && cat <<E && echo behind\nonceN $V\nE",
    "next_stage && (echo onceN; V=2; echo $V)",
    "next_stage && if [ $V ]; then echo onceN; else echo elseN; fi; echo stillN",
    "next_stage && for i in a b; do echo onceN$i; done",
    "next_stage && case N in N) echo onceN ;; esac",
    "next_stage && while :; do echo onceN; break; done",
    "next_stage && echo \"onceN $(echo '}' \")\" )\" ${V:-'}'}",
    "{ next_stage && echo onceN; }",
    "(next_stage && echo onceN; :)",
    "if true; then next_stage && echo onceN; fi",
    "f() { next_stage && echo onceN; :; }; f",
    "[ 1 ] && next_stage && echo onceN",
    "V=N next_stage && echo onceN",
    "echo \"$(next_stage && echo onceN)\"",
    "everytime && echo eachN",
    "everytime && {\n  echo eachN\n}; echo alwaysN",
];

/// What only bash reads.
const BASH: &[&str] = &[
    "a=(next_stage 'b)' \"c\" # )\n  $(echo d))\necho \"${a[@]}\" ${#a[@]} ${a[1]/b/x}",
    "[[ $V < 2 && ! ( a == b ) ]] && echo less",
    "((V << 1)) && echo shifted; for ((i=0; i<2; i++)); do echo $i; done",
    "echo $'it\\'s' $\"x\"; cat <<< \"here $V\"",
    "function h { echo h; }; h; function k() { echo k; }; k &> /dev/null",
    "case ab in @(ab|c)) echo extended ;; esac; echo !(x) > /dev/null",
    "cat <(echo next_stage) | cat; time true 2>/dev/null",
    "next_stage && [[ N == [0-9]* ]] && echo onceN",
];

fn script(shell: &str, parts: &[(bool, usize)]) -> String {
    let (mut text, mut number) = (format!("#!/bin/{shell}\nshopt -s extglob 2>/dev/null || :\n"), 0);
    for (marked, n) in parts {
        let pool: Vec<&str> = match (*marked, shell) {
            (true, _) => MARKED.to_vec(),
            (false, "bash") => UNMARKED.iter().filter(|part| !part.contains("it's}")).chain(BASH).copied().collect(),
            (false, _) => UNMARKED.to_vec(),
        };
        let part = pool[n % pool.len()];
        number += 1;
        text += &part.replace('N', &number.to_string());
        text.push('\n');
    }
    text
}

/// What a shell prints, and whether it ended well.
#[allow(clippy::disallowed_methods)] // tests start shells
fn said(argv: &[&str], dir: &Path) -> (String, bool) {
    let mut command = Command::new(argv[0]);
    command.args(&argv[1..]).current_dir(dir).stdin(Stdio::null()).env_clear().env("PATH", "/usr/bin:/bin");
    let output = command.output().expect("a shell");
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success())
}

/// One stage as runcell runs it, and as a counter of calls has it. In substitutions and subshells a counter counts its own
/// copy, so there the marks' own numbers have to do.
fn compare(shell: &str, text: &str) {
    let dir = tempfile::tempdir().expect("tempdir");
    let read = setup(text).unwrap_or_else(|fault| panic!("{}\n{text}", fault.message));
    std::fs::write(dir.path().join(SCRIPT), read.source()).expect("a file of ours");
    let check: &[&str] = if shell == "bash" { &["bash", "-O", "extglob", "-n", SCRIPT] } else { &[shell, "-n", SCRIPT] };
    let (_, fine) = said(check, dir.path());
    assert!(fine, "{shell} does not accept what was made of\n{text}");
    for stage in 0..read.stages() {
        let argv = read.argv(stage);
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let (ours, fine) = said(&[&[shell], &argv[1..]].concat(), dir.path());
        assert!(fine, "stage {stage} ends badly:\n{text}");
        let counter = dir.path().join("counter");
        std::fs::write(&counter, "").expect("a file of ours");
        let plain = format!(
            "next_stage() {{ echo >> counter; [ $(wc -l < counter) -eq {} ]; }}\neverytime() {{ false; }}\n{text}\n:\n",
            stage + 1
        );
        std::fs::write(dir.path().join("plain"), plain).expect("a file of ours");
        let (theirs, _) = said(&[shell, "-e", "./plain"], dir.path());
        assert_eq!(ours, theirs, "stage {stage} in {shell} of\n{text}");
    }
    if let Some(each) = read.everytime() {
        let (ours, fine) = said(&["sh", "-c", &each.replacen(read.shell, shell, 1)], dir.path());
        assert!(fine, "{each}");
        let plain = format!("next_stage() {{ false; }}\neverytime() {{ :; }}\n{text}\n:\n");
        std::fs::write(dir.path().join("plain"), plain).expect("a file of ours");
        assert_eq!(ours, said(&[shell, "-e", "./plain"], dir.path()).0, "everytime in {shell} of\n{text}");
    }
}

#[test]
fn each_piece_alone_is_cut_as_shells_read_it() {
    for shell in ["dash", "bash"] {
        let all = MARKED.len().max(UNMARKED.len() + BASH.len());
        for n in 0..all {
            compare(shell, &script(shell, &[(false, 1), (false, n), (true, n), (false, n), (true, 0)]));
        }
    }
    compare("bash", &format!("#!/bin/bash\nV=1\n{}\n", BASH[BASH.len() - 1].replace('N', "7")));
}

/// bash takes such a quote for the opening of a quoted part if another follows somewhere, dash for a character.
#[test]
fn a_quote_that_shells_read_differently_is_refused_where_that_can_be() {
    let text = "echo \"${V:-it's}\"\n";
    assert!(setup(text).is_ok());
    let fault = setup(&format!("#!/bin/bash\n{text}")).expect_err("in bash");
    assert!(fault.message.starts_with("line 2: "), "{}", fault.message);
}

#[test]
fn any_script_of_such_pieces_is_cut_as_shells_read_it() {
    let parts = prop::collection::vec((any::<bool>(), 0usize..1000), 0..7);
    let shells = prop::sample::select(vec!["dash", "bash"]);
    runner(60)
        .run(&(shells, parts), |(shell, parts)| {
            compare(shell, &script(shell, &parts));
            Ok(())
        })
        .expect("holds");
}

/// Anything that is text: a reader that hangs or panics would be worse than one that refuses.
#[test]
fn no_text_breaks_the_reader() {
    let words = prop::collection::vec(
        prop::sample::select(vec![
            "next_stage",
            "everytime",
            " ",
            "\n",
            "&&",
            "||",
            ";",
            ";;",
            "&",
            "|",
            "(",
            ")",
            "((",
            "))",
            "{",
            "}",
            "'",
            "\"",
            "`",
            "$",
            "${",
            "$(",
            "$((",
            "<<E",
            "<<-'E'",
            "<",
            ">",
            "E",
            "\\",
            "#",
            "case",
            "in",
            "esac",
            "for",
            "do",
            "done",
            "if",
            "then",
            "fi",
            "a=",
            "[[",
            "]]",
            "!",
            "x",
            "é",
            "\t",
            "<(",
            "function",
        ]),
        0..24,
    );
    let (read, refused) = (Cell::new(0), Cell::new(0));
    runner(4000)
        .run(&(words, any::<bool>()), |(words, bash)| {
            let text = if bash { "#!/bin/bash\n" } else { "" }.to_owned() + &words.concat();
            match setup(&text) {
                Ok(setup) => {
                    read.set(read.get() + 1);
                    for stage in 0..setup.stages() {
                        let pieces = setup.pieces(stage);
                        prop_assert!(pieces.own.first().is_some_and(|own| own.starts_with("next_stage")), "{:?}", text);
                        prop_assert!(setup.line(stage) <= text.lines().count());
                    }
                    prop_assert_eq!(setup.source().matches('\n').count(), text.matches('\n').count() + 2);
                }
                Err(fault) => {
                    refused.set(refused.get() + 1);
                    prop_assert!(fault.message.starts_with("line ") && !fault.message.starts_with("line 0"), "{}", fault.message);
                }
            }
            Ok(())
        })
        .expect("holds");
    let (read, refused) = (read.get(), refused.get());
    assert!(read > 40 && refused > 40, "{read} read, {refused} refused");
}
