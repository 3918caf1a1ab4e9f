//! A process's first moments: what a caller may have closed, and readers that are gone.

use crate::ground::{Ground, RUNCELL};
use assert_cmd::Command;
use std::process::Stdio;

#[test]
fn what_the_caller_has_closed_is_no_file_of_ours() {
    let ground = Ground::new("readlink /proc/$PPID/fd/0 /proc/$PPID/fd/1 /proc/$PPID/fd/2 >${0%/*}/seen; exit 1");
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" <&- >&- 2>&-", RUNCELL, "run"]).args(ground.bound()).args(["--", "true"]);
    let output = command.output().expect("a shell");
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    let seen = std::fs::read_to_string(ground.runtime().with_file_name("seen")).expect("the runtime was started");
    assert_eq!(seen, "/dev/null\n".repeat(3));
    ground.is_clean();
}

#[test]
#[allow(clippy::disallowed_methods)] // assert_cmd always reads to the end
fn a_reader_that_is_gone_ends_nothing() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let status = std::process::Command::new(RUNCELL).args(["schema", "job"]).stdout(writer).stdin(Stdio::null()).status();
    assert_eq!(status.expect("started").code(), Some(0), "SIGPIPE would have ended it");
}

/// Half of what a start had to relocate. oci-spec brings regex along, for a list of cpus that nobody reads here (`rules/spec.rs`).
#[test]
fn no_start_carries_the_tables_of_regular_expressions() {
    let binary = std::fs::read(RUNCELL).expect("it lies there");
    let property = b"Grapheme_Cluster_Break"; // of Unicode's, by regex-syntax's unicode_tables/property_names.rs
    assert!(!binary.windows(property.len()).any(|bytes| bytes == property), "something reaches regex-syntax again");
}

/// What asks is asked nothing: libc's beginning has scripts/cpuid.rs's answer in its place. (Where that does not know the libc at hand
/// there is no such test, and the build says so.)
#[cfg(spared)]
#[test]
fn no_start_asks_the_processor_for_its_caches() {
    let binary = std::fs::read(RUNCELL).expect("it lies there");
    // mov eax, 32 KiB; cmp edi, _SC_LEVEL1_DCACHE_SIZE; je
    let answer = [0xb8, 0x00, 0x80, 0x00, 0x00, 0x81, 0xff, 0xbc, 0x00, 0x00, 0x00, 0x74];
    let given = binary.windows(answer.len()).filter(|bytes| *bytes == answer).count();
    assert_eq!(given, 3, "for each maker of processors that glibc knows to ask in its own way");
}
