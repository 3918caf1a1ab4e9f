//! Words for a program that could not be started: what execve said, and what its first bytes say beyond that.

use crate::model::wire::{StartFailure, Step};

/// The five ways in which an execve usually fails, told apart by errno and by what the file is.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Missing,
    /// The `#!` interpreter or the ELF loader that the program names.
    MissingInterpreter(String),
    CarriageReturn,
    Directory,
    NotExecutable,
    /// The kernel knows no such format: no shebang line, or another machine's binary.
    Format,
    Other,
}

const S_IFMT: u32 = 0o170_000;
const S_IFDIR: u32 = 0o040_000;

fn kind(f: &StartFailure) -> Kind {
    match f.errno {
        _ if f.mode & S_IFMT == S_IFDIR => Kind::Directory,
        libc::ENOENT if f.mode == 0 => Kind::Missing,
        libc::ENOENT | libc::ENOTDIR => match shebang(&f.head) {
            Some(line) if line.ends_with('\r') => Kind::CarriageReturn,
            Some(line) => Kind::MissingInterpreter(line.split([' ', '\t']).next().unwrap_or_default().to_owned()),
            None if f.head.starts_with(b"\x7fELF") => Kind::MissingInterpreter("its ELF loader or library".into()),
            None => Kind::Missing,
        },
        libc::EACCES => Kind::NotExecutable,
        libc::ENOEXEC => Kind::Format,
        _ => Kind::Other,
    }
}

/// The line after `#!`, without leading blanks, up to where the kernel stops reading (BINPRM_BUF_SIZE, 256 bytes).
fn shebang(head: &[u8]) -> Option<String> {
    let rest = head.strip_prefix(b"#!")?;
    let line = rest.split(|b| *b == b'\n').next().unwrap_or_default();
    Some(String::from_utf8_lossy(line).trim_start_matches([' ', '\t']).to_owned())
}

/// One sentence.
pub fn reason(f: &StartFailure) -> String {
    let path = &f.path;
    let errno = errno_name(f.errno);
    match f.step {
        Step::Files => format!("the job's file {path:?} could not be written: {errno}"),
        Step::Fork => format!("no process could be made for the program: {errno}"),
        Step::Cwd => format!("the working directory {path:?} cannot be entered: {errno}"),
        Step::Rlimit => format!("the resource limit {path} cannot be set: {errno}"),
        Step::Confine => format!("the program cannot be confined ({path}): {errno}"),
        Step::Exec => match kind(f) {
            Kind::Missing => format!("there is no program {path:?}"),
            Kind::MissingInterpreter(what) => format!("{path:?} exists, but its interpreter does not: {what}"),
            Kind::CarriageReturn => format!("{path:?} names an interpreter that ends in a carriage return"),
            Kind::Directory => format!("{path:?} is a directory, not a program"),
            Kind::NotExecutable => format!("{path:?} may not be executed"),
            Kind::Format => format!("{path:?} is in no format that this system executes"),
            Kind::Other => format!("{path:?} cannot be executed: {errno}"),
        },
    }
}

/// What to do about it.
pub fn hint(f: &StartFailure) -> Option<String> {
    let hint = match (f.step, f.errno) {
        (Step::Files, libc::ENOSPC) => "the files do not fit: raise limits.sandbox or limits.inodes",
        (Step::Files, libc::EFBIG) => "raise limits.file_size",
        (Step::Fork, _) => "raise limits.pids or limits.memory",
        (Step::Cwd, _) => "cwd must be a directory inside the cell; /sandbox always is",
        (Step::Files | Step::Rlimit | Step::Confine, _) => return None,
        (Step::Exec, _) => match kind(f) {
            Kind::Missing if f.path.contains('/') => "check the path; a file of the job lies below /sandbox, as in ./main.sh",
            Kind::Missing => {
                "a name without a slash is looked up in PATH; the image may lack it; for a file of the job write ./name"
            }
            Kind::MissingInterpreter(_) => "install the interpreter in the image, or correct the first line of the script",
            Kind::CarriageReturn => "the file has Windows line ends (CRLF); convert it to LF, for example with dos2unix",
            Kind::Directory => "argv[0] must name a file",
            Kind::NotExecutable => {
                "give the file an execute bit: {\"text\": …, \"mode\": \"0755\"}, or name its interpreter in argv"
            }
            Kind::Format => {
                "begin a script with #!/bin/sh or the like, or name its interpreter in argv; a binary must be built for this machine"
            }
            Kind::Other if f.errno == libc::E2BIG => "argv and env are too large together; use files or stdin",
            Kind::Other => return None,
        },
    };
    Some(hint.to_owned())
}

/// The code of the human form: 127 where nothing was found, 126 where it could not be executed (POSIX sh, "Exit status").
pub fn shell_code(errno: &str) -> u8 {
    if errno == "ENOENT" { 127 } else { 126 }
}

/// `ENOENT` for 2.
pub fn errno_name(errno: i32) -> String {
    match nix::errno::Errno::from_raw(errno) {
        nix::errno::Errno::UnknownErrno => errno.to_string(),
        known => format!("{known:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(errno: i32, head: &[u8], mode: u32) -> StartFailure {
        StartFailure { step: Step::Exec, errno, path: "./x".into(), head: serde_bytes::ByteBuf::from(head), mode }
    }

    #[test]
    fn the_five_ways_are_told_apart() {
        assert_eq!(kind(&exec(libc::ENOENT, b"", 0)), Kind::Missing);
        assert_eq!(kind(&exec(libc::ENOENT, b"#! /opt/no/py -u\nx", 0o100_755)), Kind::MissingInterpreter("/opt/no/py".into()));
        assert_eq!(kind(&exec(libc::ENOENT, b"#!/bin/sh\r\necho", 0o100_755)), Kind::CarriageReturn);
        assert_eq!(kind(&exec(libc::EACCES, b"", 0o100_644)), Kind::NotExecutable);
        assert_eq!(kind(&exec(libc::EACCES, b"", 0o040_755)), Kind::Directory);
        assert_eq!(kind(&exec(libc::ENOEXEC, b"hello", 0o100_755)), Kind::Format);
    }

    #[test]
    fn each_has_its_words() {
        let crlf = exec(libc::ENOENT, b"#!/bin/sh\r\n", 0o100_755);
        assert!(reason(&crlf).contains("carriage return") && hint(&crlf).expect("a hint").contains("CRLF"));
        assert_eq!(errno_name(libc::ENOENT), "ENOENT");
        assert_eq!((shell_code("ENOENT"), shell_code("EACCES")), (127, 126));
    }
}
