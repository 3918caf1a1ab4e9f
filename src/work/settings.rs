//! The operator's settings: the policy file, the state directory, bundle templates.

use super::faults;
use crate::model::colour::{ColourRule, Colours};
use crate::model::fault::Fault;
use crate::model::names::BundleName;
use crate::model::policy::Policy;
use crate::model::template::Template;
use crate::os::files;
use crate::store::depot::Depot;
use crate::store::home::Home;
use crate::store::katas;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the policy is looked for when nobody names one.
pub const POLICY: &str = "/etc/runcell/policy.toml";
/// Where state lives when nobody says otherwise.
pub const ROOT: &str = "/run/runcell";

/// The templates that come with the binary.
const SHIPPED: &[(&str, &str)] = &[
    ("default", include_str!("../../bundles/default/bundle.toml")),
    ("python", include_str!("../../bundles/python/bundle.toml")),
    ("c-gcc", include_str!("../../bundles/c-gcc/bundle.toml")),
    ("shell", include_str!("../../bundles/shell/bundle.toml")),
    ("busybox", include_str!("../../bundles/busybox/bundle.toml")),
    ("debian-python", include_str!("../../bundles/debian-python/bundle.toml")),
    ("dojo", include_str!("../../bundles/dojo/bundle.toml")),
    ("debian-gcc", include_str!("../../bundles/debian-gcc/bundle.toml")),
];

/// The colour rules that come with the binary.
const COLOURS: &[(&str, &str)] = &[
    ("exit-code", include_str!("../../bundles/colours/exit-code.toml")),
    ("python-unittest", include_str!("../../bundles/colours/python-unittest.toml")),
    ("pytest", include_str!("../../bundles/colours/pytest.toml")),
    ("c-assert", include_str!("../../bundles/colours/c-assert.toml")),
    ("junit", include_str!("../../bundles/colours/junit.toml")),
    ("go-test", include_str!("../../bundles/colours/go-test.toml")),
    ("bats", include_str!("../../bundles/colours/bats.toml")),
    ("rust-test", include_str!("../../bundles/colours/rust-test.toml")),
];

/// Reads the policy: the named file, or the default one if there is one.
///
/// # Errors
/// exit 3: the file cannot be read, others may write it, or it makes no sense.
pub fn policy(named: Option<&Path>) -> Result<Policy, Fault> {
    let path = named.unwrap_or(Path::new(POLICY));
    let meta = match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && named.is_none() => return Ok(Policy::default()),
        Err(e) => return Err(broken(path, &e.to_string(), "name a readable file with --policy")),
        Ok(meta) => meta,
    };
    if meta.mode() & 0o002 != 0 {
        return Err(broken(path, "everybody may write it", &format!("chmod o-w {}", path.display())));
    }
    let text = std::fs::read_to_string(path).map_err(|e| broken(path, &e.to_string(), "make it readable"))?;
    toml::from_str(&text).map_err(|e| broken(path, e.to_string().trim_end(), "see: runcell schema policy"))
}

fn broken(path: &Path, why: &str, hint: &str) -> Fault {
    Fault::host("policy:unusable", format!("the policy {} cannot be used: {why}", path.display())).at("policy").hint(hint)
}

/// Where state lives: as the caller says, else the policy, else [`ROOT`]. Nothing is made.
pub fn root(named: Option<&Path>, policy: &Policy) -> PathBuf {
    let root = named.map(Path::to_owned).or_else(|| policy.root.as_ref().map(|p| p.as_path().to_owned()));
    let root = root.unwrap_or_else(|| PathBuf::from(ROOT));
    std::path::absolute(&root).unwrap_or(root)
}

/// Where images live when nobody says otherwise.
pub const STORE: &str = "/var/lib/runcell";

/// The image store: the policy's, else [`STORE`], else beside the state where that has been put elsewhere. Nothing is made.
pub fn depot(named: Option<&Path>, policy: &Policy) -> Depot {
    let root = root(named, policy);
    let store = policy.store.as_ref().map(|p| p.as_path().to_owned());
    Depot::at(store.unwrap_or_else(|| if root == Path::new(ROOT) { PathBuf::from(STORE) } else { root.join("store") }))
}

/// The directories above the state directory that the ids of cells cannot pass through.
pub fn closed(root: &Path) -> impl Iterator<Item = &Path> {
    root.ancestors().skip(1).filter(|dir| std::fs::metadata(dir).is_ok_and(|m| m.mode() & 0o001 == 0))
}

/// Opens the state directory, which the ids of cells must be able to pass through.
///
/// # Errors
/// exit 3 where a directory above it is closed to others, exit 4 where it cannot be made.
pub fn home(named: Option<&Path>, policy: &Policy) -> Result<Home, Fault> {
    let home = Home::open(root(named, policy)).map_err(|e| faults::ours(&e))?.with_katas(&katas::shelf(&depot(named, policy)));
    if let Some(dir) = closed(home.root()).next() {
        let why = format!("the runtime reaches a cell's files with the cell's ids, but {} is closed to them", dir.display());
        return Err(Fault::host("root:unreachable", why)
            .at("root")
            .hint(format!("chmod o+x {}, or name another place with --root", dir.display())));
    }
    Ok(home)
}

/// A template by name: from the policy's directories first, else a shipped one.
///
/// # Errors
/// exit 2 where there is none of that name, exit 3 where its file makes no sense.
pub fn template(name: &BundleName, policy: &Policy) -> Result<Template, Fault> {
    let file = |dir: &Path| dir.join(name.as_str()).join("bundle.toml");
    let found = policy.bundles.iter().map(|dir| file(dir.as_path())).find(|path| path.is_file());
    let text = match &found {
        Some(path) => String::from_utf8_lossy(&files::read_some(path, 1 << 20).map_err(|e| faults::ours(&e))?).into_owned(),
        None => match SHIPPED.iter().find(|(shipped, _)| *shipped == name.as_str()) {
            Some((_, text)) => (*text).to_owned(),
            None => {
                let known: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
                return Err(Fault::caller("bundle:!exists", format!("there is no bundle {name:?}", name = name.as_str()))
                    .at("bundle")
                    .hint(format!("shipped are {}; the policy's `bundles` may name directories with more", known.join(", "))));
            }
        },
    };
    toml::from_str(&text).map_err(|e| {
        let place = found.map_or_else(|| name.to_string(), |p| p.display().to_string());
        Fault::host("bundle:unusable", format!("the bundle {place} makes no sense: {}", e.to_string().trim_end())).at("bundle")
    })
}

/// The rules of a template: its own first, then those of the set that it names.
///
/// # Errors
/// as of [`rules`].
pub fn colours(template: &mut Template, policy: &Policy) -> Result<Vec<ColourRule>, Fault> {
    let mut all = std::mem::take(&mut template.colour);
    if let Some(name) = &template.colours {
        all.extend(rules(name, policy)?);
    }
    Ok(all)
}

/// A set of colour rules by name: `colours/<name>.toml` in one of the policy's bundle directories, else a shipped one.
///
/// # Errors
/// exit 2 where there is none of that name, exit 3 where its file makes no sense.
pub fn rules(name: &BundleName, policy: &Policy) -> Result<Vec<ColourRule>, Fault> {
    let file = |dir: &Path| dir.join("colours").join(format!("{name}.toml"));
    let found = policy.bundles.iter().map(|dir| file(dir.as_path())).find(|path| path.is_file());
    let text = match &found {
        Some(path) => String::from_utf8_lossy(&files::read_some(path, 1 << 20).map_err(|e| faults::ours(&e))?).into_owned(),
        None => match COLOURS.iter().find(|(shipped, _)| *shipped == name.as_str()) {
            Some((_, text)) => (*text).to_owned(),
            None => {
                let known: Vec<&str> = COLOURS.iter().map(|(name, _)| *name).collect();
                return Err(Fault::caller("colours:!exists", format!("there are no colour rules {:?}", name.as_str()))
                    .at("colours")
                    .hint(format!("shipped are {}; the policy's `bundles` may hold colours/NAME.toml", known.join(", "))));
            }
        },
    };
    toml::from_str::<Colours>(&text).map(|colours| colours.colour).map_err(|e| {
        let place = found.map_or_else(|| name.to_string(), |p| p.display().to_string());
        Fault::host("colours:unusable", format!("the colour rules {place} make no sense: {}", e.to_string().trim_end()))
            .at("colours")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_template_makes_sense() {
        for (name, _) in SHIPPED {
            let name = BundleName::try_from((*name).to_owned()).expect("a name");
            assert!(template(&name, &Policy::default()).expect("reads").description.is_some(), "{name}");
        }
    }

    #[test]
    fn every_shipped_set_of_rules_makes_sense() {
        let stream = crate::model::outcome::Stream::new(b"nothing that any tool says".to_vec(), 26);
        for (name, _) in COLOURS {
            let rules = rules(&BundleName::try_from((*name).to_owned()).expect("a name"), &Policy::default()).expect("reads");
            // Every pattern is tried where nothing matches before; the last rule is for all else.
            let result = crate::rules::colour::Result {
                verdict: crate::model::outcome::Verdict::Nonzero,
                exit_code: Some(99),
                stdout: &stream,
                stderr: &stream,
            };
            let judged = crate::rules::colour::judge(&rules, &result).expect("rules");
            assert_eq!((judged.colour.as_str(), judged.reason), ("amber", None), "{name}");
        }
        assert_eq!(
            rules(&BundleName::try_from("x".to_owned()).expect("a name"), &Policy::default()).expect_err("none").code,
            "colours:!exists"
        );
    }

    #[test]
    fn a_policy_that_everybody_may_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("p.toml");
        std::fs::write(&path, "network_host = true\n").expect("write");
        assert!(policy(Some(&path)).expect("fine").network_host);
        std::fs::write(&path, "netwrk_host = true\n").expect("write");
        assert!(policy(Some(&path)).expect_err("a typo").message.contains("netwrk_host"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o646)).expect("chmod");
        assert!(policy(Some(&path)).expect_err("writable").hint.expect("a hint").contains("chmod"));
        assert!(policy(Some(&dir.path().join("none"))).is_err());
    }
}
