//! The roof: words of argv to Job and Policy, answers to stdout, faults to exit codes.

mod batch;
mod flags;
mod image;
mod jobs;
mod kata;
mod plain;
mod report;
mod run;
mod warm;
mod words;

use crate::model::code::ExitCode;
use crate::model::fault::Fault;
use crate::work::{doctor, kill, list, schema, settings};
use clap::Parser;
use std::ffi::OsString;
use words::{Command, Words};

/// Runs the command that the words name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let code = match plain::read(&args).map_or_else(|| Words::try_parse_from(&args), Ok) {
        Ok(words) => dispatch(words),
        Err(e) => report::usage(&e, words::json_form(&args)),
    };
    report::flush();
    code
}

fn dispatch(words: Words) -> ExitCode {
    let Words { common, command } = words;
    let common = common.with_environment();
    let answered = match command {
        Command::Run(args) => return run::run(&common, args),
        Command::Batch(args) => batch::batch(&common, args),
        Command::Bundle(args) => jobs::bundle(&common, args),
        Command::Warm(args) => warm::warm(&common, args),
        Command::List { json } => policy(&common).and_then(|p| {
            let listed = list::list(&p, common.root.as_deref())?;
            Ok(if json { report::json(&listed) } else { report::table(&listed) })
        }),
        Command::Kill { id } => policy(&common).and_then(|p| Ok(report::json(&kill::kill(&p, common.root.as_deref(), &id)?))),
        Command::Gc { dry_run, keep_bytes, unused_for } => policy(&common).and_then(|p| {
            let swept = image::gc(&p, common.root.as_deref(), keep_bytes, unused_for, dry_run)?;
            let code = report::json(&swept);
            Ok(if swept.failed.is_empty() { code } else { ExitCode::from(4) })
        }),
        Command::Kata(words) => kata::kata(&common, words),
        Command::Image(words) => image::image(&common, words),
        Command::Doctor { json } => {
            let told = doctor::doctor(common.policy.as_deref(), common.root.as_deref(), common.runtime.as_deref());
            Ok(report::diagnosis(&told, json))
        }
        Command::Schema { of } => Ok(report::json(&schema::schema(of.into()))),
    };
    answered.unwrap_or_else(|fault| report::fault(&fault, true))
}

fn policy(common: &words::Common) -> Result<crate::model::policy::Policy, Fault> {
    settings::policy(common.policy.as_deref())
}
