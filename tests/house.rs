//! Holds the house to its plan: floors import downwards, files form no circles, one file is unsafe, one prints.
//!
//! Sources are read as text. That misses what macros make, and is enough: the house has no macro that imports. The checks
//! are functions from text to complaints, so that each is shown here to complain before it is trusted to be silent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

/// Each floor with the floors that it may import from. `main` and `lib` are the files of that name.
const FLOORS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("rules", &["model"]),
    ("os", &["model"]),
    ("guest", &["model", "os"]),
    ("archive", &["model", "os"]),
    ("store", &["model", "os"]),
    ("runtime", &["model", "os"]),
    ("work", &["model", "rules", "os", "guest", "archive", "store", "runtime"]),
    ("cli", &["model", "work"]),
    ("lib", &[]),
    ("main", &["lib", "model", "os", "cli", "guest"]),
];

/// Floors of words and decisions, and what would make them more than that.
const PURE: &[&str] = &["model", "rules"];
const IMPURE: &[&str] =
    &["fs", "net", "process", "thread", "env", "File", "Command", "SystemTime", "Instant", "stdin", "open", "read_to_string"];

const UNSAFE_FILE: &str = "os/sys.rs";
const PRINTING_FILE: &str = "cli/report.rs";
const LINES_MOST: usize = 400;
/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "manager", "types", "misc"];

/// One source file, by its path below src.
struct Source {
    path: String,
    text: String,
}

// ---- reading -----------------------------------------------------------------------------------------------------------

/// The text with comments, and the insides of strings and characters, made blank. Line breaks stay, so lines keep their numbers.
fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    let blank = |out: &mut String, part: &[char]| out.extend(part.iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
    while at < chars.len() {
        let rest = &chars[at..];
        let word_before = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
        let length = match rest {
            ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => block_comment(rest),
            ['"', ..] => quoted(rest, 0),
            ['b' | 'c', '"', ..] if !word_before => quoted(rest, 1),
            ['r', '"' | '#', ..] if !word_before => raw_string(rest, 1),
            ['b' | 'c', 'r', '"' | '#', ..] if !word_before => raw_string(rest, 2),
            ['\'', '\\', ..] => 3 + rest[3..].iter().position(|c| *c == '\'').unwrap_or(0),
            ['\'', _, '\'', ..] => 2,
            _ => 0,
        };
        if length == 0 {
            out.push(rest[0]);
            at += 1;
        } else {
            let end = (at + length).min(chars.len());
            blank(&mut out, &chars[at..end]);
            at = end;
        }
    }
    out
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at + 1 < rest.len() {
        match (rest[at], rest[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// Length of a string that opens after `prefix` characters, its closing quote left over: one blank less does no harm.
fn quoted(rest: &[char], prefix: usize) -> usize {
    let mut at = prefix + 1;
    while at < rest.len() && rest[at] != '"' {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// The same for `r#"…"#`; 0 where it is a raw identifier.
fn raw_string(rest: &[char], prefix: usize) -> usize {
    let hashes = rest[prefix..].iter().take_while(|c| **c == '#').count();
    if rest.get(prefix + hashes) != Some(&'"') {
        return 0;
    }
    let body = prefix + hashes + 1;
    let closes = |at: &usize| rest[*at] == '"' && rest[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes;
    (body..rest.len()).find(closes).map_or(rest.len(), |at| at + 1 + hashes)
}

/// Code with its `#[cfg(test)]` items made blank, each up to its closing brace or semicolon.
fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(start) = out.find("#[cfg(test)]") {
        let mut depth = 0i32;
        let ends = |(at, c): (usize, char)| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            (depth == 0 && matches!(c, '}' | ';')).then_some(start + at + 1)
        };
        let end = out[start..].char_indices().find_map(ends).unwrap_or(out.len());
        let blank: String = out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..end, &blank);
    }
    out
}

/// Words and single punctuation marks, with their line numbers from 1; `::` is one mark.
fn tokens(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            let length = match first {
                c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
                _ if rest.starts_with("::") => 2,
                c => c.len_utf8(),
            };
            if !first.is_whitespace() {
                found.push((number + 1, &rest[..length]));
            }
            rest = &rest[length..];
        }
    }
    found
}

// ---- who imports whom ----------------------------------------------------------------------------------------------------

/// `os/sys.rs` is the module os::sys, `os/mod.rs` is os, `lib.rs` the crate itself.
fn module(path: &str) -> Vec<String> {
    let stem = path.trim_end_matches(".rs");
    let stem = stem.strip_suffix("/mod").unwrap_or(stem);
    if stem == "lib" { Vec::new() } else { stem.split('/').map(str::to_owned).collect() }
}

/// The absolute paths, from the crate's root, that code of a module names.
fn named(module: &[String], children: &BTreeSet<String>, code: &str) -> Vec<Vec<String>> {
    let tokens: Vec<&str> = tokens(code).into_iter().map(|(_, token)| token).collect();
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        let begins = at == 0 || tokens[at - 1] != "::";
        if !begins || tokens.get(at + 1) != Some(&"::") {
            continue;
        }
        let base = match tokens[at] {
            "crate" => Vec::new(),
            // How the binary calls its library.
            "runcell" if module == ["main"] => Vec::new(),
            "self" => module.to_vec(),
            "super" => module[..module.len().saturating_sub(1)].to_vec(),
            child if children.contains(child) => [module, &[child.to_owned()]].concat(),
            _ => continue,
        };
        expand(&tokens, at + 2, base, &mut found);
    }
    found
}

/// Follows one path from behind its first `::`, into every branch of its braces. Answers the place behind it.
fn expand(tokens: &[&str], mut at: usize, mut path: Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    loop {
        match tokens.get(at) {
            Some(&"{") => {
                at += 1;
                while tokens.get(at).is_some_and(|t| *t != "}") {
                    let start = at;
                    at = expand(tokens, at, path.clone(), found);
                    while tokens.get(at).is_some_and(|t| *t != "," && *t != "}") {
                        at += 1; // `as name`
                    }
                    at += usize::from(tokens.get(at) == Some(&","));
                    assert!(at > start, "the reader of braces stands still");
                }
                return at + 1;
            }
            Some(&"super") => drop(path.pop()),
            Some(&"self") => {}
            Some(word) if word.starts_with(|c: char| c.is_alphabetic() || c == '_') => path.push((*word).to_owned()),
            _ => {
                found.push(path);
                return at;
            }
        }
        at += 1;
        if tokens.get(at) != Some(&"::") {
            found.push(path);
            return at;
        }
        at += 1;
    }
}

/// Every import as (importing file, imported file), tests left out. A path belongs to the longest module that has a file.
fn imports(sources: &[Source]) -> BTreeSet<(String, String)> {
    let files: BTreeMap<Vec<String>, &str> = sources.iter().map(|s| (module(&s.path), s.path.as_str())).collect();
    let mut edges = BTreeSet::new();
    for source in sources {
        let own = module(&source.path);
        let below = |m: &&Vec<String>| m.len() == own.len() + 1 && m.starts_with(&own);
        let children = files.keys().filter(below).filter_map(|m| m.last().cloned()).collect();
        for path in named(&own, &children, &without_tests(&code(&source.text))) {
            let target = (0..=path.len()).rev().find_map(|n| files.get(&path[..n]));
            edges.extend(target.filter(|t| **t != source.path).map(|t| (source.path.clone(), (*t).to_owned())));
        }
    }
    edges
}

fn floor(path: &str) -> &str {
    path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// Imports that do not point down, and files on no known floor.
fn upward(sources: &[Source]) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = FLOORS.iter().copied().collect();
    let strange = sources.iter().filter(|s| !allowed.contains_key(floor(&s.path))).map(|s| format!("{}: on no floor", s.path));
    let up = imports(sources).into_iter().filter(|(from, to)| {
        let (from, to) = (floor(from), floor(to));
        from != to && !allowed.get(from).is_some_and(|below| below.contains(&to))
    });
    strange.chain(up.map(|(from, to)| format!("{from} imports {to}"))).collect()
}

/// For every file that reaches itself, the shortest way round.
fn circles(edges: &BTreeSet<(String, String)>) -> Vec<String> {
    let next = |file: &str| edges.iter().filter(move |(from, _)| from == file).map(|(_, to)| to.clone()).collect::<Vec<_>>();
    let starts: BTreeSet<&String> = edges.iter().map(|(from, _)| from).collect();
    starts.into_iter().filter_map(|start| round(start, &next)).collect()
}

fn round(start: &str, next: &dyn Fn(&str) -> Vec<String>) -> Option<String> {
    let mut queue = VecDeque::from([vec![start.to_owned()]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = queue.pop_front() {
        for to in next(&way[way.len() - 1]) {
            if to == start {
                return Some(format!("{} -> {start}", way.join(" -> ")));
            }
            if seen.insert(to.clone()) {
                queue.push_back([way.clone(), vec![to]].concat());
            }
        }
    }
    None
}

// ---- the other rules -----------------------------------------------------------------------------------------------------

/// `unsafe` in the wrong file, or without an argument: a comment with SAFETY on its line or right above.
fn rash(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().collect();
    let argued = |number: usize| {
        let above = lines[..number - 1].iter().rev().take_while(|l| l.trim_start().starts_with("//"));
        [lines[number - 1]].iter().chain(above).any(|l| l.contains("// SAFETY: "))
    };
    let code = code(&source.text);
    let places = tokens(&code).into_iter().filter(|(_, token)| *token == "unsafe").map(|(number, _)| number);
    let wrong = places.filter_map(|number| match (source.path.as_str() == UNSAFE_FILE, argued(number)) {
        (false, _) => Some(format!("{}:{number}: unsafe outside {UNSAFE_FILE}", source.path)),
        (true, false) => Some(format!("{}:{number}: unsafe without a SAFETY argument", source.path)),
        (true, true) => None,
    });
    wrong.collect()
}

/// Whatever writes to stdout or stderr, or gets hold of them.
fn talkative(source: &Source) -> Vec<String> {
    if source.path == PRINTING_FILE {
        return Vec::new();
    }
    let code = without_tests(&code(&source.text));
    let tokens = tokens(&code);
    let follows = |at: usize, mark: &str| tokens.get(at + 1).is_some_and(|(_, t)| *t == mark);
    let talks = |at: usize, token: &str| match token {
        "print" | "println" | "eprint" | "eprintln" | "dbg" => follows(at, "!"),
        "stdout" | "stderr" => {
            follows(at, "(") && tokens.get(at + 2).is_some_and(|(_, t)| *t == ")") && at > 0 && tokens[at - 1].1 == "::"
        }
        _ => false,
    };
    let all = tokens.iter().enumerate().filter(|(at, (_, token))| talks(*at, token));
    all.map(|(_, (number, token))| format!("{}:{number}: {token} outside {PRINTING_FILE}", source.path)).collect()
}

/// Files, clocks, environment and the like on a pure floor.
fn impure(source: &Source) -> Vec<String> {
    if !PURE.contains(&floor(&source.path)) {
        return Vec::new();
    }
    let code = without_tests(&code(&source.text));
    let tokens = tokens(&code);
    let word = |at: usize| tokens.get(at).map_or("", |(_, token)| *token);
    // `std::env::consts` are fixed when this is compiled.
    let acts = |at: usize| {
        word(at) == "std" && word(at + 1) == "::" && IMPURE.contains(&word(at + 2)) && word(at + 4) != "consts"
            || ["SystemTime", "Instant"].contains(&word(at))
    };
    (0..tokens.len()).filter(|at| acts(*at)).map(|at| format!("{}:{}: acts on a pure floor", source.path, tokens[at].0)).collect()
}

/// Lines of code: no comments, no blanks, no tests.
fn lines_of_code(text: &str) -> usize {
    without_tests(&code(text)).lines().filter(|line| !line.trim().is_empty()).count()
}

/// What is only announced: stubs, tests that are skipped in silence, assertions that cannot fail.
fn unfinished(source: &Source) -> Vec<String> {
    let code = code(&source.text);
    let tokens = tokens(&code);
    let words = |at: usize, all: &[&str]| all.iter().enumerate().all(|(n, w)| tokens.get(at + n).is_some_and(|(_, t)| t == w));
    let stub = |at: usize| {
        [&["todo", "!"][..], &["unimplemented", "!"], &["#", "[", "ignore"], &["assert", "!", "(", "true"]]
            .iter()
            .any(|pattern| words(at, pattern))
    };
    (0..tokens.len()).filter(|at| stub(*at)).map(|at| format!("{}:{}: unfinished", source.path, tokens[at].0)).collect()
}

/// Inline modules besides tests: paths inside them would be read wrongly.
fn inline_modules(source: &Source) -> Vec<String> {
    let code = without_tests(&code(&source.text));
    let tokens = tokens(&code);
    let inline = |at: &usize| tokens[*at].1 == "mod" && tokens.get(at + 2).is_some_and(|(_, t)| *t == "{");
    (0..tokens.len()).filter(inline).map(|at| format!("{}:{}: inline module", source.path, tokens[at].0)).collect()
}

// ---- the house -----------------------------------------------------------------------------------------------------------

/// All Rust files below a directory of this package.
fn below(directory: &str) -> Vec<Source> {
    fn walk(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(dir).expect("a directory of this package").flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => walk(&path, found),
                false if path.extension().is_some_and(|e| e == "rs") => found.push(path),
                false => {}
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    let read = |path: std::path::PathBuf| Source {
        text: std::fs::read_to_string(&path).expect("source files are text"),
        path: path.strip_prefix(&root).expect("found below it").to_string_lossy().into_owned(),
    };
    paths.into_iter().map(read).collect()
}

fn nothing(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn imports_point_down() {
    let sources = below("src");
    // A reader that sees too little would find nothing wrong either.
    assert!(sources.len() >= 60, "{} files", sources.len());
    assert!(imports(&sources).len() >= 3 * sources.len(), "{} imports", imports(&sources).len());
    nothing(sources.iter().flat_map(inline_modules).collect());
    nothing(upward(&sources));
}

#[test]
fn files_form_no_circles() {
    nothing(circles(&imports(&below("src"))));
}

#[test]
fn every_floor_is_inhabited() {
    let sources = below("src");
    let inhabited: BTreeSet<&str> = sources.iter().map(|s| floor(&s.path)).collect();
    assert_eq!(inhabited, FLOORS.iter().map(|(name, _)| *name).collect());
}

#[test]
fn one_file_is_unsafe_and_argues() {
    let sources = below("src");
    let sys = sources.iter().find(|s| s.path == UNSAFE_FILE).expect("it exists");
    assert!(tokens(&code(&sys.text)).iter().filter(|(_, t)| *t == "unsafe").count() >= 5, "the reader is blind to it");
    nothing(sources.iter().flat_map(rash).collect());
}

#[test]
fn one_file_prints() {
    let sources = below("src");
    let report = sources.iter().find(|s| s.path == PRINTING_FILE).expect("it exists");
    let elsewhere = Source { path: "elsewhere.rs".into(), text: report.text.clone() };
    assert!(talkative(&elsewhere).len() >= 3, "the reader is blind to it");
    nothing(sources.iter().flat_map(talkative).collect());
}

#[test]
fn words_and_decisions_do_not_act() {
    nothing(below("src").iter().flat_map(impure).collect());
}

#[test]
fn files_are_short_and_their_names_say_something() {
    let sources = below("src");
    let long = sources.iter().map(|s| (s, lines_of_code(&s.text))).filter(|(_, lines)| *lines > LINES_MOST);
    nothing(long.map(|(s, lines)| format!("{}: {lines} lines of code", s.path)).collect());
    let total: usize = sources.iter().map(|s| lines_of_code(&s.text)).sum();
    assert!(total > 50 * sources.len(), "{total} lines in all: the counter is blind");
    let empty = sources.iter().filter(|s| module(&s.path).last().is_some_and(|name| EMPTY_NAMES.contains(&name.as_str())));
    nothing(empty.map(|s| format!("{}: a name that says nothing", s.path)).collect());
}

#[test]
fn nothing_is_only_announced() {
    let all: Vec<Source> = below("src").into_iter().chain(below("tests")).collect();
    nothing(all.iter().flat_map(unfinished).collect());
}

// ---- the checks themselves -----------------------------------------------------------------------------------------------

fn source(path: &str, text: &str) -> Source {
    Source { path: path.into(), text: text.into() }
}

#[test]
fn comments_and_strings_are_no_code() {
    let text = r##"
a /* b /* c */ d */ e // f "g
"h \" i" j r#"k " l"# m b"n" 'o' '\'' '\u{70}' q<'r> br"s\" t cr#u"##;
    let code = code(text);
    let words: Vec<&str> = tokens(&code).into_iter().map(|(_, t)| t).filter(|t| t.chars().all(char::is_alphabetic)).collect();
    assert_eq!(words, ["a", "e", "j", "m", "q", "r", "t", "cr", "u"]);
    assert_eq!(code.lines().count(), text.lines().count());
}

#[test]
fn test_modules_are_left_out() {
    let text = "use crate::os::a;\n#[cfg(test)]\npub(crate) mod tests {\n    fn f() { if x { } }\n}\nuse crate::os::b;\n";
    let code = without_tests(&code(text));
    assert!(code.contains("os::a") && code.contains("os::b") && !code.contains("fn f"));
    let code = without_tests("#[cfg(test)]\nuse a::b;\nfn f() { real() }");
    assert!(!code.contains("a::b") && code.contains("real"));
    assert_eq!((lines_of_code(text), lines_of_code("// x\n\n/* y\n */\n\"z\";\n")), (2, 1));
}

#[test]
fn every_way_to_name_a_file_is_seen() {
    let sources = [
        source("lib.rs", ""),
        source("main.rs", "fn main() { runcell::cli::start() }"),
        source("model/mod.rs", ""),
        source("model/job.rs", "use super::names::{A, B as C};\nfn f() -> super::Word { crate::model::unit::parse() }"),
        source("model/names.rs", "use crate::{model::unit, cli::{self, run::{Run, x::*}}};"),
        source("model/unit.rs", "// use crate::os::sys;\nconst S: &str = \"crate::os::sys\"; pub(crate) use self::unit::x;"),
        source("os/mod.rs", "pub mod sys;"),
        source("os/sys.rs", "#[cfg(test)]\nmod tests {\n use crate::cli::run;\n}"),
        source("cli/mod.rs", "mod run;\nuse run::Run;\nfn f() { let run = 1; run::go(run); std::run::x() }"),
        source("cli/run.rs", "fn f() { super::super::os::sys::call::<crate::model::job::Job>() }"),
    ];
    let seen = imports(&sources);
    let seen: Vec<(&str, &str)> = seen.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(
        seen,
        [
            ("cli/mod.rs", "cli/run.rs"),
            ("cli/run.rs", "model/job.rs"),
            ("cli/run.rs", "os/sys.rs"),
            ("main.rs", "cli/mod.rs"),
            ("model/job.rs", "model/mod.rs"),
            ("model/job.rs", "model/names.rs"),
            ("model/job.rs", "model/unit.rs"),
            ("model/names.rs", "cli/mod.rs"),
            ("model/names.rs", "cli/run.rs"),
            ("model/names.rs", "model/unit.rs"),
        ]
    );
    let up = upward(&sources);
    assert_eq!(up, ["cli/run.rs imports os/sys.rs", "model/names.rs imports cli/mod.rs", "model/names.rs imports cli/run.rs"]);
    assert_eq!(upward(&[source("shed/x.rs", ""), source("spare.rs", "")]).len(), 2);
}

#[test]
fn circles_are_found_with_their_way_round() {
    let edge = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    let line = BTreeSet::from([edge("a", "b"), edge("b", "c"), edge("a", "c")]);
    assert_eq!(circles(&line), Vec::<String>::new());
    let ring = BTreeSet::from([edge("a", "b"), edge("b", "c"), edge("c", "b"), edge("c", "d")]);
    assert_eq!(circles(&ring), ["b -> c -> b", "c -> b -> c"]);
}

#[test]
fn unsafe_is_seen_and_must_argue() {
    let bare = "fn f() {\n    let x = 1;\n    unsafe { g() }\n}\n";
    let argued = "fn f() {\n    // SAFETY: because\n    // of this.\n    h(unsafe { g() })\n}\n";
    let distant = "// SAFETY: because\nfn f() {\n    unsafe { g() }\n}\n";
    assert_eq!(rash(&source(UNSAFE_FILE, bare)).len(), 1);
    assert_eq!(rash(&source(UNSAFE_FILE, distant)).len(), 1);
    assert_eq!(rash(&source(UNSAFE_FILE, argued)).len(), 0);
    assert_eq!(rash(&source("os/mount.rs", argued)).len(), 1);
    assert_eq!(rash(&source("os/mount.rs", "#![allow(unsafe_code)] // unsafe\n\"unsafe\";")).len(), 0);
}

#[test]
fn every_way_to_print_is_seen() {
    for bad in ["println!(\"x\")", "eprint! (\"x\")", "dbg!(x)", "std::io::stdout().lock()", "io::stderr()"] {
        assert_eq!(talkative(&source("work/run.rs", bad)).len(), 1, "{bad}");
        assert_eq!(talkative(&source(PRINTING_FILE, bad)).len(), 0, "{bad}");
    }
    for fine in ["command.stdout(log)", "self.stdout", "let println = 1;", "// println!()", "\"println!()\"", "print(x)"] {
        assert_eq!(talkative(&source("work/run.rs", fine)).len(), 0, "{fine}");
    }
}

#[test]
fn acts_are_seen_on_pure_floors() {
    for bad in ["std::fs::read(p)", "use std::process::Command;", "std::env::var(x)", "Instant::now()", "time::SystemTime::now()"]
    {
        assert!(!impure(&source("rules/plan.rs", bad)).is_empty(), "{bad}");
        assert!(impure(&source("work/run.rs", bad)).is_empty(), "{bad}");
    }
    for fine in ["use std::path::Path;", "std::env::consts::ARCH", "job.process", "#[cfg(test)]\nmod tests { std::fs::read(p) }"]
    {
        assert!(impure(&source("model/job.rs", fine)).is_empty(), "{fine}");
    }
}

#[test]
fn what_is_unfinished_is_seen() {
    for bad in ["todo!()", "unimplemented!(\"x\")", "#[test]\n#[ignore]\nfn f() {}", "#[ignore = \"slow\"]", "assert!(true)"] {
        assert_eq!(unfinished(&source("a.rs", bad)).len(), 1, "{bad}");
    }
    assert!(unfinished(&source("a.rs", "let todo = 1; // todo!()\nassert!(truth)")).is_empty());
    assert_eq!(inline_modules(&source("a.rs", "mod b { }\nmod c;\n#[cfg(test)]\nmod tests { }")).len(), 1);
}
