//! Programs in place of one that an image may lack, such as `sh` in place of `bash`.
//!
//! Init looks for them itself (`guest/exec.rs`), so that no shell stands before the program: that costs a tenth of a press of the
//! button (measured). These words are for where something else starts the program.

use crate::model::recipe::quoted;

/// A shell's words that leave in `"$@"` the first of these programs that there is, or the last.
pub fn chosen(fallbacks: &[String]) -> String {
    let other = |name: &String| format!("command -v \"$1\" >/dev/null || {{ shift; set -- {} \"$@\"; }}\n", quoted(name));
    fallbacks.iter().map(other).collect()
}

/// argv for whoever knows of no fallbacks.
pub fn spelled_out(argv: &[String], fallbacks: &[String]) -> Vec<String> {
    if fallbacks.is_empty() {
        return argv.to_vec();
    }
    let shell = ["sh".to_owned(), "-c".to_owned(), format!("{}exec \"$@\"", chosen(fallbacks)), "sh".to_owned()];
    shell.into_iter().chain(argv.iter().cloned()).collect()
}
