//! The Recipe: how an environment is made, stage by stage, as `recipe.toml` says it. Unknown fields are errors.

use super::base::Base;
use super::fault::Fault;
use super::ingredient::Ingredient;
use super::job::{EnvName, Network, Text, User};
use super::limits::Asked;
use super::object;
use super::paths::{ABSOLUTE, GuestPath, HostPath, RelPath};
use super::reference::{DigestPrefix, ImageName};
use super::unique::Unique;
use schemars::JsonSchema;
use serde::Deserialize;
use std::fmt;

/// Where the computation directory is mounted; the variable of this name says so.
pub const COMPDIR: (&str, &str) = ("COMPDIR", "/computation");
/// Where the global file store is mounted; the variable of this name says so.
pub const GFSDIR: (&str, &str) = ("GFSDIR", "/gfs");
/// The largest recipe, in bytes. What is larger belongs into files beside it.
pub const MOST: u64 = 4 << 20;

/// What an image is made of, and what programs in it find where their job is silent.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(try_from = "Raw")]
#[schemars(with = "Raw")]
pub struct Recipe {
    pub origin: Origin,
    pub stages: Vec<Stage>,
    /// Shell commands of the stages with `everytime`, in their order.
    pub everytime: Vec<String>,
    pub argv: Vec<Text>,
    pub env: Unique<EnvName, Text>,
    pub cwd: Option<GuestPath>,
    pub user: Option<User>,
    pub labels: Unique<String, String>,
}

/// What the first stage stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Image(From),
    /// A root made by the host's own tools.
    Base(Base),
}

/// An image that is there already.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", extend("examples" = ["debian:12", "sha256:0123456789ab", "/srv/rootfs"], "pattern" = format!("^[a-z0-9]|{ABSOLUTE}")))]
pub enum From {
    Name(ImageName),
    Digest(DigestPrefix),
    /// A directory that holds a root filesystem; its content is imported, and counts.
    Directory(HostPath),
}

/// One step that is done once, and whose writes become a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    pub run: Run,
    pub files: Unique<RelPath, Ingredient>,
    pub network: Network,
    pub env: Unique<EnvName, Text>,
    pub limits: Asked,
}

/// What a stage runs: a script for `sh -ec`, or a program with its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "needs a script, or a list of a program and its arguments")]
pub enum Run {
    Script(Text),
    Argv(Vec<Text>),
}

/// A recipe as written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Recipe")]
struct Raw {
    /// One line for people.
    #[serde(default)]
    #[allow(dead_code, reason = "for those who read the recipe")]
    description: Option<String>,
    /// An image's name or digest, or the absolute path of a root filesystem directory. Either this or `base`.
    #[serde(default)]
    from: Option<From>,
    /// A root made by the host's own tools. Either this or `from`.
    #[serde(default)]
    base: Option<Base>,
    #[serde(default)]
    stage: Vec<RawStage>,
    /// What a job of this image runs if it does not say.
    #[serde(default)]
    argv: Vec<Text>,
    /// Environment of jobs of this image; stages have their own.
    #[serde(default)]
    env: Unique<EnvName, Text>,
    #[serde(default)]
    cwd: Option<GuestPath>,
    #[serde(default)]
    user: Option<User>,
    /// Shown by `runcell image inspect`; those that begin with `runcell.` are runcell's own.
    #[serde(default)]
    labels: Unique<String, String>,
}

/// A stage as written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, try_from = "Step")]
#[schemars(with = "Step")]
enum RawStage {
    Once(Box<Stage>),
    Everytime(String),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Step {
    /// A script for `sh -ec`, or a list of a program and its arguments. It runs as the image's root, in /sandbox.
    run: Run,
    /// Files in /sandbox, by name; they are there for this stage alone.
    #[serde(default)]
    files: Unique<RelPath, Ingredient>,
    /// `none` (default) has loopback alone; `host` needs the policy's leave.
    #[serde(default)]
    network: Network,
    #[serde(default)]
    env: Unique<EnvName, Text>,
    /// As a job's; `wall` is 10 minutes unless told otherwise.
    #[serde(default, deserialize_with = "object::only")]
    limits: Asked,
    /// Not a layer: run in every job's cell before its program, without network, under the job's own limits.
    #[serde(default)]
    everytime: bool,
}

impl TryFrom<Step> for RawStage {
    type Error = String;

    fn try_from(step: Step) -> Result<Self, String> {
        let Step { run, files, network, env, limits, everytime } = step;
        if matches!(&run, Run::Argv(argv) if argv.first().is_none_or(|program| program.as_str().is_empty())) {
            return Err("run names no program".into());
        }
        if !everytime {
            return Ok(Self::Once(Box::new(Stage { run, files, network, env, limits })));
        }
        let surplus = [
            (!files.is_empty(), "files", "put them into the image in a stage before"),
            (network != Network::None, "network", "it is always off there; fetch things in a stage before"),
            (limits != Asked::default(), "limits", "those of the job hold"),
        ];
        match surplus.iter().find(|(there, ..)| *there) {
            Some((_, field, why)) => Err(format!("a stage with everytime = true has no {field}: {why}")),
            None => Ok(Self::Everytime(run.spelled(&env))),
        }
    }
}

impl Run {
    /// As one shell command, its variables set for it alone.
    fn spelled(&self, env: &Unique<EnvName, Text>) -> String {
        let set: String = env.iter().map(|(name, value)| format!("{}={} ", name.as_str(), quoted(value.as_str()))).collect();
        match self {
            Self::Script(script) if env.is_empty() => script.as_str().to_owned(),
            Self::Script(script) => format!("{set}sh -ec {}", quoted(script.as_str())),
            Self::Argv(argv) => {
                let words: Vec<String> = argv.iter().map(|word| quoted(word.as_str())).collect();
                set + &words.join(" ")
            }
        }
    }
}

/// A word that a shell reads as just this text.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

impl TryFrom<Raw> for Recipe {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let origin = match (raw.from, raw.base) {
            (Some(from), None) => Origin::Image(from),
            (None, Some(base)) => Origin::Base(base),
            _ => return Err("a recipe has exactly one of \"from\" and \"base\"".into()),
        };
        if let Some(label) = raw.labels.keys().find(|label| label.starts_with("runcell.")) {
            return Err(format!("label {label:?}: names that begin with \"runcell.\" are runcell's own"));
        }
        let (mut stages, mut everytime) = (Vec::new(), Vec::new());
        for stage in raw.stage {
            match stage {
                RawStage::Once(stage) => stages.push(*stage),
                RawStage::Everytime(command) => everytime.push(command),
            }
        }
        let Raw { argv, env, cwd, user, labels, .. } =
            Raw { from: None, base: None, stage: Vec::new(), description: None, ..raw };
        Ok(Self { origin, stages, everytime, argv, env, cwd, user, labels })
    }
}

impl TryFrom<String> for From {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        match s.as_str() {
            path if path.starts_with('/') => HostPath::try_from(s).map(Self::Directory),
            digest if digest.starts_with("sha256:") => DigestPrefix::try_from(s).map(Self::Digest),
            _ => ImageName::try_from(s).map(Self::Name),
        }
    }
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
            Self::Directory(path) => path.fmt(f),
        }
    }
}

/// Reads a recipe.
///
/// # Errors
/// exit 2, with the path of the first thing that is wrong; `recipe` stands for the whole.
pub fn read(text: &str) -> Result<Recipe, Fault> {
    let malformed = |path: &str, why: String| {
        Fault::caller("recipe:malformed", why).at(path).hint("runcell schema recipe prints what a recipe may hold")
    };
    let toml = toml::Deserializer::parse(text).map_err(|e| malformed("recipe", e.to_string().trim_end().to_owned()))?;
    serde_path_to_error::deserialize(toml).map_err(|e| {
        let path = e.path().to_string();
        malformed(if path == "." { "recipe" } else { &path }, e.inner().message().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::super::ingredient::Source;
    use super::*;

    #[test]
    fn a_recipe_says_all_of_it() {
        let recipe = read(
            r#"
            from = "debian:12"
            argv = ["python3"]
            cwd = "/srv"
            user = "7:8"
            [env]
            LANG = "C.UTF-8"
            [[stage]]
            run = "cp greet /usr/bin"
            files = { greet = { file = "src/greet.sh", mode = "0755" }, note = "text", raw = { base64 = "AAE=" } }
            env = { A = "b" }
            limits = { wall = "5m" }
            network = "host"
            [[stage]]
            run = ["touch", "it's"]
            [[stage]]
            run = "echo start"
            everytime = true
            [[stage]]
            run = ["echo", "it's"]
            env = { X = "1 2" }
            everytime = true
            "#,
        )
        .expect("a recipe");
        assert_eq!(recipe.origin, Origin::Image(From::Name(ImageName::try_from("debian:12".to_owned()).expect("a name"))));
        assert_eq!(recipe.stages.len(), 2);
        let files: Vec<_> = recipe.stages[0].files.values().map(|f| (f.source.clone(), f.mode)).collect();
        assert_eq!(files[0], (Source::Beside(RelPath::try_from("src/greet.sh".to_owned()).expect("a name")), 0o755));
        assert_eq!(files[1], (Source::Bytes(b"text".to_vec()), 0o644));
        assert_eq!(files[2], (Source::Bytes(vec![0, 1]), 0o644));
        assert_eq!(recipe.stages[0].network, Network::Host);
        assert_eq!(recipe.everytime, ["echo start", r"X='1 2' 'echo' 'it'\''s'"]);
        assert_eq!(recipe.user, Some(User { uid: 7, gid: 8 }));
    }

    #[test]
    fn errors_name_their_place() {
        let stage = |text: &str| format!("from = 'a'\n[[stage]]\nrun = 'true'\n[[stage]]\n{text}\n");
        for (text, path, word) in [
            ("from = ".to_owned(), "recipe", "line 1"),
            (String::new(), "recipe", "exactly one"),
            ("from = 'a'\n[base.busybox]\n".to_owned(), "recipe", "exactly one"),
            ("from = '../a'\n".to_owned(), "from", "not an image name"),
            ("from = 'a'\nstages = []\n".to_owned(), "stages", "unknown field"),
            ("from = 'a'\n[labels]\n'runcell.x' = ''\n".to_owned(), "recipe", "runcell's own"),
            ("base = { debootstrap = {} }\n".to_owned(), "base", "unknown variant"),
            ("[base.mmdebstrap]\nsuite = '--x'\n".to_owned(), "base.mmdebstrap.suite", "not a"),
            (stage("run = 1"), "stage[1].run", "a script"),
            (stage("run = []"), "stage[1]", "no program"),
            (stage("run = ['']"), "stage[1]", "no program"),
            (stage("rum = 'a'"), "stage[1].rum", "unknown field"),
            (stage("network = 'none'"), "stage[1]", "run"),
            (stage("run = 'a'\nlimits = { memry = 1 }"), "stage[1].limits.memry", "unknown field"),
            (stage("run = 'a'\nfiles = { '../a' = '' }"), "stage[1].files.../a", "\"..\""),
            (stage("run = 'a'\nfiles = { a = { file = '/etc/shadow' } }"), "stage[1].files.a.file", "absolute"),
            (stage("run = 'a'\nfiles = { a = { text = '', file = 'b' } }"), "stage[1].files.a", "exactly one"),
            (stage("run = 'a'\nfiles = { a = { text = '', mode = '4755' } }"), "stage[1].files.a", "octal"),
            (stage("run = 'a'\neverytime = true\nnetwork = 'host'"), "stage[1]", "no network"),
            (stage("run = 'a'\neverytime = true\nfiles = { a = '' }"), "stage[1]", "no files"),
        ] {
            let fault = read(&text).expect_err(&text);
            assert_eq!(fault.path.as_deref(), Some(path), "{text}: {}", fault.message);
            assert!(fault.message.contains(word), "{text}: {}", fault.message);
        }
    }
}
