//! What is to be built: a directory with `recipe.toml`, or a computation directory, as stages ready to be run.

use super::commits::{self, Commit};
use crate::model::fault::Fault;
use crate::model::image::Defaults;
use crate::model::ingredient::{Ingredient, Source};
use crate::model::job::{Content, EnvName, FileIn, Job, Mount, MountSource, Text, User};
use crate::model::paths::{GuestPath, HostPath, RelPath};
use crate::model::recipe::{self, COMPDIR, Origin, Recipe, Run, Stage};
use crate::model::reference::Digest;
use crate::os::error::{At, OsError};
use crate::os::files;
use crate::rules::computation::{self, CONF, Conf, SCRIPT, SETUP};
use crate::rules::stages;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

pub const RECIPE: &str = "recipe.toml";
/// The largest file that a stage is given; what is larger is fetched or mounted.
const FILE_MOST: u64 = 256 << 20;

/// One stage, ready but for its image.
pub struct Step {
    pub key: Digest,
    /// Where it stands, such as `stage[1]` or `docker-setup.sh:7`.
    pub place: String,
    pub job: Job,
    /// What it binds besides what the policy allows jobs: the operator has named it.
    pub binds: Vec<HostPath>,
}

/// A directory as read.
pub struct Given {
    dir: PathBuf,
    form: Form,
}

enum Form {
    Recipe(Box<Recipe>),
    Computation { conf: Conf, script: String, commit: Commit },
}

/// Reads what a directory says.
///
/// # Errors
/// exit 2: neither form is there, or it makes no sense.
pub fn read(dir: &Path) -> Result<Given, Fault> {
    let unusable = |e: std::io::Error| {
        Fault::caller("build:unreadable", format!("cannot read {}: {e}", dir.display()))
            .at("dir")
            .hint("name the directory of a recipe")
    };
    let dir = std::fs::canonicalize(dir).map_err(unusable)?;
    if dir.join(RECIPE).exists() {
        let recipe = recipe::read(&text(&dir.join(RECIPE), recipe::MOST)?)?;
        return Ok(Given { dir, form: Form::Recipe(Box::new(recipe)) });
    }
    if !dir.join(CONF).exists() || !dir.join(SETUP).exists() {
        return Err(Fault::caller("build:!exists", format!("{} has no {RECIPE}", dir.display()))
            .at("dir")
            .hint(format!("write one (runcell schema recipe), or {CONF} and {SETUP}")));
    }
    let conf = computation::conf(&text(&dir.join(CONF), recipe::MOST)?)?;
    let script = text(&dir.join(SETUP), computation::MOST + 1)?;
    computation::setup(&script)?;
    let commit = commits::of(&dir)?;
    Ok(Given { dir, form: Form::Computation { conf, script, commit } })
}

fn text(path: &Path, most: u64) -> Result<String, Fault> {
    let unusable = |why: String| {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        Fault::caller("build:unreadable", format!("cannot read {}: {why}", path.display())).at(name)
    };
    let bytes = bytes(path, most).map_err(|e| unusable(e.to_string()))?;
    String::from_utf8(bytes).map_err(|e| unusable(format!("it is not UTF-8: {e}")))
}

fn bytes(path: &Path, most: u64) -> Result<Vec<u8>, OsError> {
    let mut bytes = Vec::new();
    files::open_regular(path)?.take(most + 1).read_to_end(&mut bytes).at("read", path)?;
    match bytes.len() as u64 > most {
        true => Err(std::io::Error::from(std::io::ErrorKind::FileTooLarge)).at("read", path),
        false => Ok(bytes),
    }
}

impl Given {
    pub fn origin(&self) -> Origin {
        match &self.form {
            Form::Recipe(recipe) => recipe.origin.clone(),
            Form::Computation { conf, .. } => Origin::Image(conf.image.clone()),
        }
    }

    /// The commit that the environment will belong to.
    pub fn commit(&self) -> Option<&Commit> {
        match &self.form {
            Form::Recipe(_) => None,
            Form::Computation { commit, .. } => Some(commit),
        }
    }

    /// What was read but means nothing.
    pub fn notices(&self) -> Vec<String> {
        match &self.form {
            Form::Recipe(_) => Vec::new(),
            Form::Computation { conf, .. } => {
                conf.unknown.iter().map(|key| format!("{CONF}: the key {key} means nothing here")).collect()
            }
        }
    }

    /// What the image is called if nobody says: the directory's name, as far as it is one.
    pub fn name(&self) -> Option<String> {
        Some(self.dir.file_name()?.to_str()?.to_ascii_lowercase())
    }

    /// Its stages on top of what has this key.
    ///
    /// # Errors
    /// exit 2 where a file of a stage cannot be read.
    pub fn steps(&self, origin: &Digest) -> Result<Vec<Step>, Fault> {
        match &self.form {
            Form::Recipe(recipe) => self.of_recipe(recipe, origin),
            Form::Computation { conf, script, commit } => self.of_computation(conf, script, commit, origin),
        }
    }

    fn of_recipe(&self, recipe: &Recipe, origin: &Digest) -> Result<Vec<Step>, Fault> {
        let mut key = origin.clone();
        let mut steps = Vec::new();
        for (n, stage) in recipe.stages.iter().enumerate() {
            let place = format!("stage[{n}]");
            let (mut files, mut digests) = (BTreeMap::new(), BTreeMap::new());
            for (name, Ingredient { source, mode }) in stage.files.iter() {
                let content = self.content(source).map_err(|e| {
                    Fault::caller("recipe:file", e.to_string())
                        .at(format!("{place}.files.{}", name.as_str()))
                        .hint("a regular file of the recipe's directory, reached without symlinks, of at most 256 MiB")
                })?;
                digests.insert(name.clone(), Digest::of_sha256(Sha256::digest(&content).into()));
                files.insert(name.clone(), FileIn { content: Content::Bytes(content), mode: *mode });
            }
            key = stages::stage(&key, stage, &digests)?;
            let Stage { run, env, network, limits, .. } = stage.clone();
            let argv = match run {
                Run::Argv(argv) => argv,
                Run::Script(script) => [words(&["/bin/sh", "-ec"])?, vec![script]].concat(),
            };
            let mut job = Job { argv: Some(argv), env, network: Some(network), limits: stages::limits(limits), ..bare() };
            job.files.0 = files;
            steps.push(Step { key: key.clone(), place, job, binds: Vec::new() });
        }
        Ok(steps)
    }

    fn content(&self, source: &Source) -> Result<Vec<u8>, OsError> {
        match source {
            Source::Bytes(bytes) => Ok(bytes.clone()),
            Source::Beside(path) => bytes(&self.dir.join(path.as_str()), FILE_MOST),
        }
    }

    fn of_computation(&self, conf: &Conf, script: &str, commit: &Commit, origin: &Digest) -> Result<Vec<Step>, Fault> {
        let internal = |why: String| Fault::ours("internal", why);
        let setup = computation::setup(script)?;
        let unusable = |why: String| Fault::caller("build:unreadable", why).at("dir");
        let dir = self.dir.to_str().ok_or_else(|| unusable(format!("{} is not UTF-8", self.dir.display())))?;
        let dir = HostPath::try_from(dir.to_owned()).map_err(unusable)?;
        let source = setup.source().into_bytes();
        let name = RelPath::try_from(SCRIPT.to_owned()).map_err(internal)?;
        let mut key = origin.clone();
        let mut steps = Vec::new();
        for stage in 0..setup.stages() {
            let sees = setup.sees_directory(stage);
            key = stages::computation(&key, &setup, stage, conf.network, sees.then_some(&*commit.content));
            let mut job = Job { network: Some(conf.network), limits: stages::limits(Default::default()), ..bare() };
            job.argv = Some(words(&setup.argv(stage))?);
            job.files.insert(name.clone(), FileIn { content: Content::Bytes(source.clone()), mode: 0o644 });
            let mut binds = Vec::new();
            if sees {
                binds.push(dir.clone());
                job.mounts.push(compdir(dir.clone()).map_err(internal)?);
                let compdir = EnvName::try_from(COMPDIR.0.to_owned()).map_err(internal)?;
                job.env.insert(compdir, Text::try_from(COMPDIR.1.to_owned()).map_err(internal)?);
            }
            steps.push(Step { key: key.clone(), place: format!("{SETUP}:{}", setup.line(stage)), job, binds });
        }
        Ok(steps)
    }

    /// What the image says of programs, over what it was built on.
    ///
    /// # Errors
    /// exit 2 of the script.
    pub fn defaults(&self, mut base: Defaults) -> Result<Defaults, Fault> {
        match &self.form {
            Form::Computation { script, .. } => base.everytime.extend(computation::setup(script)?.everytime()),
            Form::Recipe(recipe) => {
                base.everytime.extend(recipe.everytime.iter().cloned());
                for (name, value) in recipe.env.iter() {
                    let begin = format!("{}=", name.as_str());
                    base.env.retain(|line| !line.starts_with(&begin));
                    base.env.push(begin + value.as_str());
                }
                if !recipe.argv.is_empty() {
                    base.argv = recipe.argv.iter().map(|word| word.as_str().to_owned()).collect();
                }
                base.cwd = recipe.cwd.clone().or(base.cwd);
                base.user = recipe.user.or(base.user);
            }
        }
        Ok(base)
    }

    /// The image's labels, over those of what it was built on.
    pub fn labels(&self, mut base: BTreeMap<String, String>) -> BTreeMap<String, String> {
        match &self.form {
            Form::Recipe(recipe) => base.extend(recipe.labels.0.clone()),
            Form::Computation { commit, .. } => {
                base.insert("runcell.computation".into(), self.dir.to_string_lossy().into_owned());
                base.insert("runcell.commit".into(), commit.name());
            }
        }
        base
    }
}

fn words<T: AsRef<str>>(words: &[T]) -> Result<Vec<Text>, Fault> {
    let text = |word: &T| Text::try_from(word.as_ref().to_owned()).map_err(|why| Fault::ours("internal", why));
    words.iter().map(text).collect()
}

fn compdir(dir: HostPath) -> Result<Mount, String> {
    let target = GuestPath::try_from(COMPDIR.1.to_owned())?;
    Ok(Mount { target, source: MountSource::Bind { source: dir, writable: false } })
}

/// What all stages have in common.
fn bare() -> Job {
    Job { user: Some(User { uid: 0, gid: 0 }), writable_root: true, ..Job::default() }
}
