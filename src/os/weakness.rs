//! What the kernel says of the processor: Documentation/ABI/testing/sysfs-devices-system-cpu.

use super::files;
use std::path::Path;

/// Weaknesses without a mitigation, by name, with the kernel's words. `sys` is /sys outside of tests.
pub fn unmitigated(sys: &Path) -> Vec<(String, String)> {
    let dir = sys.join("devices/system/cpu/vulnerabilities");
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let one = |entry: std::fs::DirEntry| {
        let words = files::text(&entry.path()).ok()?;
        // "Mitigation: …; SMT vulnerable" is mitigated between contexts on one thread, not between two threads of a core.
        let weak = words.starts_with("Vulnerable") || words.contains("SMT vulnerable");
        weak.then(|| (entry.file_name().to_string_lossy().into_owned(), words))
    };
    let mut weak: Vec<_> = entries.flatten().filter_map(one).collect();
    weak.sort();
    weak
}

/// Whether two threads share a core now.
pub fn smt(sys: &Path) -> bool {
    files::text(&sys.join("devices/system/cpu/smt/active")).is_ok_and(|text| text == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_open_is_named() {
        let dir = tempfile::tempdir().expect("tempdir");
        assert_eq!((unmitigated(dir.path()), smt(dir.path())), (vec![], false));
        let at = dir.path().join("devices/system/cpu/vulnerabilities");
        std::fs::create_dir_all(&at).expect("mkdir");
        for (name, words) in [
            ("spectre_v2", "Vulnerable; STIBP: disabled\n"),
            ("l1tf", "Not affected\n"),
            ("mds", "Mitigation: Clear CPU buffers; SMT vulnerable\n"),
            ("tsa", "Mitigation: Clear CPU buffers\n"),
        ] {
            std::fs::write(at.join(name), words).expect("write");
        }
        let names: Vec<_> = unmitigated(dir.path()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["mds", "spectre_v2"]);
    }
}
