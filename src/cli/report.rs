//! The only writer of stdout and stderr: one document, or lines for people with everything harmful escaped.
#![allow(clippy::print_stderr)]

use crate::model::code::ExitCode;
use crate::model::fault::{Fault, Whose};
use crate::model::finding::{Diagnosis, State};
use crate::model::outcome::{Outcome, Verdict};
use crate::work::build::{Built, Failed, News};
use crate::work::list::Listed;
use crate::work::tally::Tally;
use serde::Serialize;
use std::io::{BufWriter, Stderr, Stdout, Write};

/// One JSON document on stdout, spelled as it goes: escaped, 8 MiB of output can be 48 MiB. A reader that is gone changes
/// nothing about what has been done.
pub(super) fn json(document: &impl Serialize) -> ExitCode {
    let mut out = BufWriter::with_capacity(64 * 1024, std::io::stdout().lock());
    let _ = serde_json::to_writer(&mut out, document)
        .map_err(std::io::Error::from)
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush());
    ExitCode::SUCCESS
}

/// What is left of a line that has no end yet.
pub(super) fn flush() {
    let _ = std::io::stdout().flush();
}

/// Our own two streams, for a program's output to go through as it comes.
pub(super) fn streams() -> (Stdout, Stderr) {
    (std::io::stdout(), std::io::stderr())
}

/// An outcome for programs.
pub(super) fn outcome(outcome: &Outcome) -> ExitCode {
    json(outcome);
    if outcome.verdict == Verdict::HostError { ExitCode::from(4) } else { ExitCode::SUCCESS }
}

/// A fault: as a document for programs, as a line for people.
pub(super) fn fault(fault: &Fault, as_json: bool) -> ExitCode {
    if as_json {
        json(&serde_json::json!({"error": fault}));
    }
    if !as_json {
        let place = fault.path.as_ref().map(|p| format!(" ({p})")).unwrap_or_default();
        eprintln!("runcell: {}{place}", escaped(&fault.message));
        if let Some(hint) = &fault.hint {
            eprintln!("runcell: hint: {}", escaped(hint));
        }
    }
    ExitCode::from(match fault.whose {
        Whose::Caller => 2,
        Whose::Host => 3,
        Whose::Ours => 4,
    })
}

/// What clap says of the words: help and version are answers, the rest is a fault of usage.
pub(super) fn usage(e: &clap::Error, as_json: bool) -> ExitCode {
    if !e.use_stderr() {
        let _ = e.print();
        return ExitCode::SUCCESS;
    }
    if as_json {
        let text = e.render().to_string();
        let first = text.lines().next().unwrap_or("the words make no sense").trim_start_matches("error: ");
        return fault(&Fault::caller("usage", first).hint("runcell help"), true);
    }
    let _ = e.print();
    // The code of `runcell run` for people: 2 could be the program's own.
    ExitCode::from(125)
}

/// A line that does not change the answer.
pub(super) fn warning(text: &str) {
    eprintln!("runcell: warning: {}", escaped(text));
}

/// The end of a run for people: one line, and the program's code or what stands for it.
pub(super) fn summary(o: &Outcome, quiet: bool) -> ExitCode {
    if !quiet {
        let ms = |ns: Option<u64>| ns.map_or("?".to_owned(), |ns| format!("{:.1} ms", ns as f64 / 1e6));
        let memory = o.usage.memory_peak_bytes.map_or("?".to_owned(), |b| format!("{:.1} MiB", b as f64 / f64::from(1 << 20)));
        let verdict = serde_json::to_value(o.verdict).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
        let hint = o.hint.as_ref().map(|h| format!(" ({h})")).unwrap_or_default();
        let line = format!("{verdict}: {}{hint}", o.reason);
        eprintln!("runcell: {}; wall {}, cpu {}, memory {memory}", escaped(&line), ms(o.usage.wall_ns), ms(o.usage.cpu_ns));
    }
    ExitCode::from(human_code(o))
}

/// The exit code of the human form.
fn human_code(o: &Outcome) -> u8 {
    let signal = |n: i32| 128u8.saturating_add(u8::try_from(n).unwrap_or(0));
    match o.verdict {
        Verdict::HostError => 125,
        Verdict::Cancelled => 130,
        Verdict::NotStarted => {
            if o.evidence.errno.as_deref() == Some("ENOENT") {
                127
            } else {
                126
            }
        }
        Verdict::Memory => 137,
        Verdict::CpuTime | Verdict::WallTime => 124,
        // As a shell tells of SIGXFSZ, the signal for too much output to a file.
        Verdict::OutputLimit => signal(libc::SIGXFSZ),
        Verdict::Signaled => signal(o.signal.unwrap_or(0)),
        Verdict::Nonzero | Verdict::Ok => u8::try_from(o.exit_code.unwrap_or(0)).unwrap_or(1),
    }
}

/// Runs as lines for people.
pub(super) fn table(runs: &[Listed]) -> ExitCode {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{:<26}  {:<5}  {:<10}  {:>8}  {:<20}  PROGRAM", "RUN", "OWNER", "STATE", "AGE", "ID");
    for r in runs {
        let state =
            r.state.and_then(|s| serde_json::to_value(s).ok()).and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
        let owner = if r.live { "live" } else { "stale" };
        let age = format!("{:.1}s", r.age_ms as f64 / 1e3);
        let (id, program) = (escaped(r.id.as_deref().unwrap_or("-")), escaped(r.argv0.as_deref().unwrap_or("-")));
        let _ = writeln!(out, "{:<26}  {owner:<5}  {state:<10}  {age:>8}  {id:<20}  {program}", r.run);
    }
    ExitCode::SUCCESS
}

/// How far something has come: a line that changes on a terminal, a line now and then elsewhere, on stderr.
pub(super) struct Progress {
    what: &'static str,
    terminal: bool,
    bytes: u64,
    said: u64,
}

impl Progress {
    pub(super) fn new(what: &'static str) -> Self {
        use std::io::IsTerminal;
        Self { what, terminal: std::io::stderr().is_terminal(), bytes: 0, said: 0 }
    }

    pub(super) fn more(&mut self, bytes: u64) {
        const MIB: u64 = 1 << 20;
        self.bytes += bytes;
        let step = if self.terminal { MIB } else { 256 * MIB };
        if self.bytes - self.said >= step {
            self.said = self.bytes;
            let amount = format!("{} MiB {}", self.bytes / MIB, self.what);
            if self.terminal { eprint!("\r{amount}") } else { eprintln!("runcell: {amount}") }
        }
    }

    pub(super) fn over(&mut self) {
        if self.terminal && self.said > 0 {
            eprint!("\r\x1b[K");
        }
    }
}

/// A batch's progress: one line that changes, on a terminal alone.
pub(super) struct Pace {
    /// When it was last told, in ns, with how many answers and how many bytes of input behind it.
    told: (u64, u64, u64),
    /// Answers and bytes of input a second, those of late counting most.
    rates: Option<(f64, f64)>,
}

impl Pace {
    /// `None` where nobody watches.
    pub(super) fn new() -> Option<Self> {
        use std::io::IsTerminal;
        std::io::stderr().is_terminal().then_some(Self { told: (0, 0, 0), rates: None })
    }

    pub(super) fn tell(&mut self, tally: &Tally) {
        eprint!("\r\x1b[K{}", self.line(tally));
    }

    pub(super) fn over(&self) {
        eprintln!();
    }

    fn line(&mut self, t: &Tally) -> String {
        let answered = t.ok + t.otherwise + t.refused;
        let (at, answers, bytes) = std::mem::replace(&mut self.told, (t.elapsed_ns, answered, t.done_bytes));
        let seconds = t.elapsed_ns.saturating_sub(at) as f64 / 1e9;
        if seconds > 0.0 {
            let now = ((answered - answers) as f64 / seconds, (t.done_bytes - bytes) as f64 / seconds);
            let mix = |old: f64, new: f64| old + (new - old) * (seconds / 5.0).min(1.0);
            self.rates = Some(self.rates.map_or(now, |old| (mix(old.0, now.0), mix(old.1, now.1))));
        }
        let (per_second, bytes_per_second) = self.rates.unwrap_or_default();
        let mut line =
            format!("{answered} answered, {per_second:.1}/s, {} not ok, {} running", t.otherwise + t.refused, t.running);
        if t.before > 0 {
            line += &format!(", {} before", t.before);
        }
        if let Some(all) = t.input_bytes.filter(|all| *all > 0) {
            line += &format!(", {:.0} %", t.done_bytes as f64 * 100.0 / all as f64);
            let left = all.saturating_sub(t.done_bytes) as f64 / bytes_per_second;
            if left.is_finite() {
                let left = left as u64;
                line += &format!(", {}:{:02}:{:02} left", left / 3600, left / 60 % 60, left % 60);
            }
        }
        line
    }
}

/// Images as lines for people, one a name.
pub(super) fn images(images: &[crate::work::image::Listed]) -> ExitCode {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{:<40}  {:<12}  {:>6}  {:>10}  SERVES", "NAME", "DIGEST", "LAYERS", "SIZE");
    for image in images {
        let names: Vec<&str> = image.names.iter().map(|name| name.as_str()).collect();
        let serves = image.labels.get("runcell.commit").map_or("", String::as_str);
        let size = format!("{:.1} MiB", image.bytes as f64 / f64::from(1 << 20));
        for name in if names.is_empty() { vec!["-"] } else { names } {
            let digest = &image.digest.hex()[..12];
            let _ = writeln!(out, "{name:<40}  {digest}  {:>6}  {size:>10}  {}", image.layers, escaped(serves));
        }
    }
    ExitCode::SUCCESS
}

/// A build's progress, line by line.
pub(super) fn build_goes_on(news: &News<'_>) {
    match news {
        News::Begins { place: "base", .. } => eprintln!("runcell: base"),
        News::Begins { place, number, of } => eprintln!("runcell: stage {number} of {of}: {}", escaped(place)),
        News::Ends(told) => {
            let (seconds, size) = (told.wall_ns as f64 / 1e9, told.bytes as f64 / f64::from(1 << 20));
            eprintln!("runcell: {}: {} in {seconds:.3} s, {size:.1} MiB", escaped(&told.place), told.state);
        }
    }
}

/// The end of a build for people: the image's digest on stdout, or which stage failed.
pub(super) fn built(built: &Built) -> ExitCode {
    built.notices.iter().for_each(|notice| warning(notice));
    if let Some(Failed { place, outcome }) = &built.failed {
        let hint = outcome.hint.as_ref().map(|h| format!(" ({h})")).unwrap_or_default();
        eprintln!(
            "runcell: {} failed: {}{}; the stages before it are kept",
            escaped(place),
            escaped(&outcome.reason),
            escaped(&hint)
        );
        return ExitCode::FAILURE;
    }
    let names: Vec<&str> = built.names.iter().map(|name| name.as_str()).collect();
    eprintln!("runcell: built {}; {} of {} stages were run", names.join(", "), built.ran, built.stages.len());
    let digest = built.image.as_ref().map_or("", |digest| digest.as_str());
    let _ = writeln!(std::io::stdout().lock(), "{digest}");
    ExitCode::SUCCESS
}

/// What the doctor found. Its own code says whether anything keeps every job from running.
pub(super) fn diagnosis(told: &Diagnosis, as_json: bool) -> ExitCode {
    let code = if told.fails == 0 { ExitCode::SUCCESS } else { ExitCode::from(3) };
    if as_json {
        json(told);
        return code;
    }
    let mut out = std::io::stdout().lock();
    let mut said = None;
    for f in &told.findings {
        let (word, advice) = match f.state {
            State::Ok => ("ok", "better"),
            State::Warn => ("warn", "repair"),
            State::Fail => ("FAIL", "repair"),
        };
        let _ = writeln!(out, "{word:<4}  {:<17}  {}", f.name, escaped(&f.found));
        for why in f.why.iter().flat_map(|why| why.lines()) {
            let _ = writeln!(out, "{:>25}{}", "", escaped(why));
        }
        // Findings in a row with one and the same repair say it once.
        if let Some(repair) = f.repair.as_ref().filter(|r| said != Some(*r)) {
            let _ = writeln!(out, "{:>25}{advice}: {}", "", escaped(repair));
        }
        said = f.repair.as_ref();
    }
    let verdict = if told.fails == 0 { "jobs can run" } else { "no job can run" };
    let _ = writeln!(out, "{} findings: {} fail, {} warn; {verdict}", told.findings.len(), told.fails, told.warns);
    code
}

/// Control characters and what turns text around, made visible: a program's words must not drive a terminal.
fn escaped(text: &str) -> String {
    let harmful =
        |c: char| c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().flat_map(|c| if harmful(c) { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_tells_its_pace_and_what_is_left() {
        let mut pace = Pace { told: (0, 0, 0), rates: None };
        let tally = |seconds: u64, ok, bytes| Tally {
            ok,
            otherwise: 2,
            running: 3,
            elapsed_ns: seconds * 1_000_000_000,
            done_bytes: bytes,
            input_bytes: Some(10_000),
            ..Tally::default()
        };
        assert_eq!(pace.line(&tally(1, 8, 1_000)), "10 answered, 10.0/s, 2 not ok, 3 running, 10 %, 0:00:09 left");
        assert_eq!(pace.line(&tally(6, 58, 6_000)), "60 answered, 10.0/s, 2 not ok, 3 running, 60 %, 0:00:04 left");
        let endless = Tally { before: 4, input_bytes: None, ..tally(7, 58, 6_000) };
        assert_eq!(pace.line(&endless), "60 answered, 8.0/s, 2 not ok, 3 running, 4 before");
    }

    #[test]
    fn terminals_are_not_driven() {
        assert_eq!(escaped("a\u{1b}]52;c;\u{7}b\n\u{202e}"), "a\\u{1b}]52;c;\\u{7}b\\n\\u{202e}");
        assert_eq!(escaped("plain é"), "plain é");
    }
}
