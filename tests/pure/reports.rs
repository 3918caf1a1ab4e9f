//! What comes out of a cell, or from a runtime, is not believed: it is bounded, and never makes us panic.

use crate::runner;
use proptest::collection::vec;
use proptest::prelude::*;
use runcell::model::blob;
use runcell::model::outcome::FileOut;
use runcell::model::wire::{Change, Collect, Dispatch, Exit, Found, Order, Report, Skip, StartFailure, Step};
use runcell::rules::diagnosis;
use runcell::runtime::{log, version};
use runcell::work::intake::Intake;
use std::cell::Cell;

fn path() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![9 => vec(any::<u8>(), 0..20), 1 => Just(vec![b'x'; 5000])]
}

fn report() -> impl Strategy<Value = Report> {
    let why = prop_oneof![Just(Skip::Symlink), Just(Skip::TooMany), Just(Skip::Unreadable)];
    let small = || prop_oneof![0u64..12, any::<u64>()];
    prop_oneof![
        1 => any::<bool>().prop_map(|up| if up { Report::Hello } else { Report::Done }),
        1 => any::<u64>().prop_map(|at_ns| Report::Started { at_ns }),
        1 => (any::<i32>(), any::<u64>()).prop_map(|(code, at_ns)| Report::Ended { exit: Exit::Code(code), at_ns }),
        8 => (path(), any::<bool>(), any::<u32>(), small(), small()).prop_map(|(path, new, mode, bytes, kept)| Report::Found(Found {
            path: path.into(),
            change: if new { Change::Created } else { Change::Changed },
            mode,
            mtime_ns: 0,
            bytes,
            kept,
        })),
        8 => vec(any::<u8>(), 0..12).prop_map(Report::Data),
        4 => path().prop_map(Report::Deleted),
        4 => (path(), why).prop_map(|(path, why)| Report::Skipped { path: path.into(), why }),
    ]
}

/// Reports as an honest init sends them, so that the bounds are met from inside too: a file's announcement, then its content.
fn honest() -> impl Strategy<Value = Vec<Report>> {
    (path(), 0u64..12, 0u64..12).prop_map(|(path, kept, more)| {
        let found = Found { path: path.into(), change: Change::Created, mode: 0o644, mtime_ns: 0, bytes: kept + more, kept };
        let data = (kept > 0).then(|| Report::Data(vec![b'z'; kept as usize]));
        std::iter::once(Report::Found(found)).chain(data).collect()
    })
}

#[test]
fn intake_never_exceeds_its_bounds() {
    let bounds = Collect { globs: vec![], file_bytes: 10, total_bytes: 40, files: 6, whole: false, prune: vec![] };
    let taken = Cell::new(0);
    let reports = vec(prop_oneof![3 => honest(), 1 => report().prop_map(|r| vec![r])], 0..20);
    let check = |reports: Vec<Vec<Report>>| {
        let mut intake = Intake::new(Some(bounds.clone()), None);
        for report in reports.into_iter().flatten() {
            // A supervisor stops at the first lie; here it goes on, which must do no harm either.
            let _ = intake.take(report);
        }
        let files = intake.finish();
        let all: Vec<&FileOut> = files.created.iter().chain(&files.changed).collect();
        let kept = |f: &FileOut| {
            let base64 = f.content.base64.as_deref().map_or(0, |t| blob::decode(t).map_or(usize::MAX, |b| b.len()));
            f.content.text.as_deref().map_or(base64, str::len) as u64
        };
        prop_assert!(all.len() as u64 <= bounds.files);
        prop_assert!(all.iter().all(|f| kept(f) <= bounds.file_bytes && kept(f) <= f.content.bytes));
        prop_assert!(all.iter().map(|f| kept(f)).sum::<u64>() <= bounds.total_bytes);
        prop_assert!(all.iter().all(|f| f.path.len() <= 3 * 4096));
        taken.set(taken.get() + all.len());
        Ok(())
    };
    runner(1000).run(&reports, check).unwrap_or_else(|e| panic!("{e}"));
    assert!(taken.get() > 500, "only {} files were ever taken in", taken.get());
}

#[test]
fn intake_counts_what_is_only_named() {
    let mut intake = Intake::new(None, None);
    let mut refused = 0;
    for n in 0..10_000u32 {
        let path = n.to_le_bytes().to_vec();
        refused += u32::from(intake.take(Report::Deleted(path.clone())).is_err());
        refused += u32::from(intake.take(Report::Skipped { path: path.into(), why: Skip::Fifo }).is_err());
    }
    let files = intake.finish();
    assert_eq!((files.deleted.len(), files.skipped.len(), refused), (4096, 4096, 2 * (10_000 - 4096)));
}

proptest! {
    #[test]
    fn no_packet_makes_either_side_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _ = postcard::from_bytes::<Report>(&bytes);
        let _ = postcard::from_bytes::<Order>(&bytes);
        let _ = postcard::from_bytes::<Dispatch>(&bytes);
        let _ = postcard::from_bytes::<StartFailure>(&bytes);
    }

    #[test]
    fn what_is_sent_is_what_is_received(report in report()) {
        let bytes = postcard::to_stdvec(&report).expect("a report can be written");
        prop_assert_eq!(postcard::from_bytes::<Report>(&bytes).expect("and read"), report);
    }

    #[test]
    fn every_failure_to_start_has_words(errno in any::<i32>(), step in 0..6u8, path in ".{0,20}", head in vec(any::<u8>(), 0..40), mode in any::<u32>()) {
        let step = [Step::Files, Step::Fork, Step::Cwd, Step::Rlimit, Step::Confine, Step::Exec][usize::from(step)];
        let failure = StartFailure { step, errno, path, head: head.into(), mode };
        prop_assert!(!diagnosis::reason(&failure).is_empty());
        prop_assert!(diagnosis::hint(&failure).is_none_or(|hint| !hint.is_empty()));
    }

    #[test]
    fn a_runtimes_words_are_bounded_and_have_a_code(words in "(\\{\"level\":\"error\",\"msg\":\".{0,30}\"\\}\n|.{0,60}\n){0,6}", console in ".{0,9000}") {
        let complaint = log::complaint(&words, &console);
        prop_assert!(complaint.chars().count() <= 4096);
        prop_assert!(log::code(&complaint).starts_with("runtime:"));
        let _ = version::Version::parse(&words).map(|v| v.numbers());
    }
}
