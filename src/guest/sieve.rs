//! Created files that nobody wants: caches, object files.

use fast_glob::glob_match;

/// Globs whose `*` stops at slashes.
#[derive(Debug)]
pub struct Globs(Vec<String>);

impl Globs {
    pub fn new(globs: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        Self(globs.into_iter().map(|glob| literal(glob.as_ref())).collect())
    }

    /// Whether a path matches any.
    pub fn hold(&self, path: &[u8]) -> bool {
        self.0.iter().any(|glob| glob_match(glob, path))
    }
}

/// A `!` in front would turn the meaning round; here it is a name's.
fn literal(glob: &str) -> String {
    if glob.starts_with('!') { format!("\\{glob}") } else { glob.to_owned() }
}

/// Globs, those without a slash apart: they are held against each part of a path.
#[derive(Debug)]
pub struct Sieve {
    parts: Globs,
    paths: Globs,
}

impl Sieve {
    pub fn new(globs: &[String]) -> Self {
        let (paths, parts): (Vec<&String>, Vec<&String>) = globs.iter().partition(|glob| glob.contains('/'));
        Self { parts: Globs::new(parts), paths: Globs::new(paths) }
    }

    /// Whether a file relative to /sandbox falls through.
    pub fn drops(&self, path: &[u8]) -> bool {
        self.paths.hold(path) || path.split(|b| *b == b'/').any(|part| self.parts.hold(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_are_about_names_as_they_are() {
        let hold = |glob: &str, path: &[u8]| Globs::new([glob]).hold(path);
        for (glob, path) in [("*.txt", &b"a.txt"[..]), ("*.{c,h}", b"x.h"), ("**/x", b"a/b/x"), ("**", b"a/.b"), ("[!a]?", b"bc")]
        {
            assert!(hold(glob, path), "{glob}");
        }
        for (glob, path) in [("*.txt", &b"d/a.txt"[..]), ("a*", b"ba"), ("out/**", b"out"), ("[a-c]", b"d"), ("?", b"/")] {
            assert!(!hold(glob, path), "{glob}");
        }
        assert!(hold("!a", b"!a") && !hold("!a", b"b"), "nothing is turned round");
        assert!(hold("*", b"\xff\xfe") && hold("\\*", b"*") && !hold("\\*", b"x"));
        assert!(!Globs::new(Vec::<String>::new()).hold(b"x"));
    }

    #[test]
    fn a_glob_without_slash_is_about_any_part() {
        let sieve = Sieve::new(&["__pycache__", "*.o", "out/*.log"].map(str::to_owned));
        for gone in [&b"__pycache__/x.pyc"[..], b"a/__pycache__/b/c", b"x.o", b"a/x.o", b"out/a.log"] {
            assert!(sieve.drops(gone), "{gone:?}");
        }
        for stays in [&b"x.c"[..], b"__pycache__x", b"a/out/a.log", b"out/a/b.log", b"o", b"\xff"] {
            assert!(!sieve.drops(stays), "{stays:?}");
        }
    }
}
