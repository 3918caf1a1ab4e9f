//! The doorway: words in, an exit code out.
#![cfg_attr(not(test), no_main)] // os/begin.rs says why; a test harness has a beginning of its own
#![cfg_attr(test, allow(dead_code))]

use runcell::model::code::ExitCode;
use runcell::os::begin;

#[cfg(not(test))]
runcell::entry!(first);

fn first() -> i32 {
    begin::begin(live)
}

fn live() -> ExitCode {
    // Before anything else: PID 1 of a cell is this very binary, and needs none of the rest.
    if std::env::args_os().nth(1).is_some_and(|word| word == "init") {
        return runcell::guest::init::main();
    }
    runcell::cli::run(std::env::args_os())
}
