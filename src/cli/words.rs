//! The command line's words, as they are written; what they mean is decided elsewhere.

use crate::model::cores::Pin;
use crate::model::fault::Fault;
use crate::model::policy::Policy;
use crate::work::decide::Setting;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// Runs untrusted programs: one JSON job in, one JSON outcome out.
#[derive(Debug, Parser)]
#[command(name = "runcell", version, arg_required_else_help = true)]
pub(super) struct Words {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
pub(super) struct Common {
    /// The operator's policy [env: RUNCELL_POLICY] [default: /etc/runcell/policy.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Where state lives [env: RUNCELL_ROOT] [default: the policy's, else /run/runcell]
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// OCI runtime, by name or absolute path [default: the policy's, else runc]
    #[arg(long, global = true, value_name = "PATH")]
    pub runtime: Option<String>,
}

impl Common {
    pub(super) fn setting<'a>(&'a self, policy: &'a Policy, best_effort: bool) -> Setting<'a> {
        Setting {
            policy,
            root: self.root.as_deref(),
            runtime: self.runtime.as_deref(),
            best_effort,
            replica: None,
            crowded: false,
        }
    }

    /// The same words again, for another runcell.
    pub(super) fn words(&self) -> Vec<String> {
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or(path.clone()).to_string_lossy().into_owned();
        let named = [
            ("--policy", self.policy.as_ref().map(absolute)),
            ("--root", self.root.as_ref().map(absolute)),
            ("--runtime", self.runtime.clone()),
        ];
        named.into_iter().filter_map(|(flag, value)| Some([flag.to_owned(), value?])).flatten().collect()
    }

    /// Flags win over the environment.
    pub(super) fn with_environment(mut self) -> Self {
        let named = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        self.policy = self.policy.or_else(|| named("RUNCELL_POLICY"));
        self.root = self.root.or_else(|| named("RUNCELL_ROOT"));
        self
    }
}

// Each builds its own words when it is named: building them all cost 65 of the 290 page faults of a warm run (measured).
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(super) enum Command {
    /// Run one job: streams go through, or with --json/--job one Outcome on stdout
    Run(RunArgs),
    /// Start cells ahead of their jobs; a later run of the same shape takes one, and waits for no runtime
    Warm(WarmArgs),
    /// Run many jobs: JSON lines in, as many at a time as there are cores, an answer a line out as each is ready
    Batch(BatchArgs),
    /// Write the job's OCI bundle without running it
    Bundle(BundleArgs),
    /// Show live and stale runs
    List {
        #[arg(long)]
        json: bool,
    },
    /// Stop a run, by run id or job id, and wait until it is gone
    Kill { id: String },
    /// Remove whatever no living process owns
    Gc {
        /// Only name it
        #[arg(long)]
        dry_run: bool,
        /// Of images and stages that no name needs, remove the least recently used until layers occupy no more than this
        #[arg(long, value_name = "SIZE")]
        keep_bytes: Option<String>,
        /// Remove images and stages that no name needs and nobody has used for so long, such as 30d
        #[arg(long, value_name = "TIME")]
        unused_for: Option<String>,
    },
    /// Images: bring them in, look at them, take them away
    #[command(subcommand)]
    Image(ImageWords),
    /// Katas: exercises that a group practises, each avatar with ids and a home of its own; every answer is one JSON document
    #[command(subcommand)]
    Kata(KataWords),
    /// Tell what this host lacks, with the command that repairs it; exit code 3 if no job can run
    Doctor {
        /// For programs: one document with all findings
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of a document
    Schema { of: Document },
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(super) enum KataWords {
    /// Make a kata
    New(KataNew),
    /// Make an avatar of a kata
    Avatar {
        kata: String,
        /// One of 64 animals, from alligator to zebra [default: the first that is free]
        name: Option<String>,
        /// What its home holds: a directory, a JSON object of names and contents, or a file with one (- for stdin)
        #[arg(long, value_name = "DIR|JSON")]
        files: Option<String>,
    },
    /// Run a job as an avatar, in its home
    Run(Box<KataRun>),
    /// Show a kata and its avatars, or one avatar and the files of its home
    Show { kata: String, name: Option<String> },
    /// Show all katas, the one that was used last first
    List,
    /// End a kata, or one of its avatars; returns when nothing of it is left
    Retire { kata: String, name: Option<String> },
    /// End katas that nobody has used for long, the least recently used first, none with a run in progress
    Reap {
        /// Such as 7d
        #[arg(long, value_name = "TIME")]
        unused_for: String,
        /// Only name them
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct KataNew {
    /// 10 characters of base58 [default: made]
    pub id: Option<String>,
    /// Template of its jobs [default: dojo]
    #[arg(long)]
    pub bundle: Option<String>,
    /// In place of the bundle's image
    #[arg(long, value_name = "REF")]
    pub image: Option<String>,
    /// In place of the bundle's colour rules, such as pytest
    #[arg(long, value_name = "NAME")]
    pub colours: Option<String>,
    /// Have a directory /shared that all its avatars read and write
    #[arg(long)]
    pub shared: bool,
    /// Keep nothing that runs write: homes hold what jobs bring
    #[arg(long)]
    pub discard: bool,
    /// Created files that are neither kept nor told, in place of the bundle's
    #[arg(long, value_name = "GLOB")]
    pub prune: Option<Vec<String>>,
    /// How many cells it may have at one time [default: the policy's]
    #[arg(long, value_name = "N")]
    pub cells: Option<u32>,
    /// Memory of all its cells together [default: the policy's]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct KataRun {
    pub kata: String,
    pub name: String,
    /// Read the job from a JSON file, or from stdin (-). Flags win over it
    #[arg(long, value_name = "FILE")]
    pub job: Option<PathBuf>,
    /// How long it may run, a whole number of seconds
    #[arg(long, value_name = "N")]
    pub max_seconds: Option<String>,
    /// How long to wait for the avatar's run before, and for a free cell [default: the policy's setup_timeout]
    #[arg(long, value_name = "TIME")]
    pub wait: Option<String>,
    /// Be refused at once instead (busy)
    #[arg(long, conflicts_with = "wait")]
    pub no_wait: bool,
    /// When all is done, have a cell wait for the avatar's next run
    #[arg(long)]
    pub refill: bool,
    /// Take no waiting cell, though there may be one
    #[arg(long)]
    pub cold: bool,
    /// Run also where a limit cannot be enforced; the outcome says "none" then
    #[arg(long)]
    pub best_effort: bool,
    #[command(flatten)]
    pub flags: super::flags::JobFlags,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(super) enum ImageWords {
    /// Show what the store holds
    List {
        #[arg(long)]
        json: bool,
    },
    /// Build an image from a directory with recipe.toml, or with docker.conf and docker-setup.sh; each stage is run once
    Build(BuildArgs),
    /// Show all of one image: layers, defaults, configuration
    Inspect { image: String },
    /// Have a name point to an image
    Tag { image: String, name: String },
    /// Bring an image in: a root filesystem (directory, tar, tar.gz, tar.zst), an OCI image layout (directory or tar), or what
    /// docker save writes
    Import {
        /// A file or directory, or - for stdin
        source: PathBuf,
        /// What it is called here
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        which: Which,
    },
    /// Fetch an image from a registry, by skopeo
    Pull {
        /// Such as docker.io/library/python:3
        reference: String,
        /// What it is called here [default: the same]
        #[arg(long)]
        name: Option<String>,
        /// Such as linux/arm64 [default: this host's]
        #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
        platform: Option<String>,
        /// Where credentials are [default: where skopeo login puts them]
        #[arg(long, value_name = "FILE")]
        authfile: Option<PathBuf>,
        /// From a registry without TLS, or with a certificate that nobody vouches for
        #[arg(long)]
        insecure: bool,
    },
    /// Write an image as an OCI image layout, for skopeo, umoci, podman
    Export {
        image: String,
        /// A new directory
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// What it is called in there
        #[arg(long, default_value = "latest")]
        tag: String,
    },
    /// Hash all of an image again and tell what differs; exit code 4 if anything does
    Verify { image: String },
    /// Take a name away, and with its last one the image
    Remove { image: String },
}

/// Which image of several.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Such as linux/arm64 [default: this host's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// The name that the image has in the archive
    #[arg(long, value_name = "NAME")]
    pub pick: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct BuildArgs {
    /// The directory of the recipe
    pub dir: PathBuf,
    /// What the image is called [default: the directory's name]
    #[arg(long)]
    pub name: Option<String>,
    /// For programs: one document on stdout, nothing else; a stage that fails is an answer, not an error
    #[arg(long)]
    pub json: bool,
    /// Run stages also where a limit cannot be enforced
    #[arg(long)]
    pub best_effort: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Document {
    Job,
    Outcome,
    Policy,
    Recipe,
}

impl From<Document> for crate::work::schema::Document {
    fn from(d: Document) -> Self {
        match d {
            Document::Job => Self::Job,
            Document::Outcome => Self::Outcome,
            Document::Policy => Self::Policy,
            Document::Recipe => Self::Recipe,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// For programs: one Outcome document on stdout, nothing else
    #[arg(long)]
    pub json: bool,
    /// Read the job from a JSON file, or from stdin (-); implies --json. Flags win over it
    #[arg(long, value_name = "FILE")]
    pub job: Option<PathBuf>,
    /// No summary line on stderr
    #[arg(short, long)]
    pub quiet: bool,
    /// Run also where a limit cannot be enforced; the outcome says "none" then
    #[arg(long)]
    pub best_effort: bool,
    /// Take no waiting cell, though there may be one
    #[arg(long)]
    pub cold: bool,
    /// When all is done, have so many cells of this shape wait for the next jobs
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "1")]
    pub refill: Option<usize>,
    #[command(flatten)]
    pub pin: PinArgs,
    #[command(flatten)]
    pub flags: super::flags::JobFlags,
}

/// Cores of a program's own.
#[derive(Debug, Args)]
pub(super) struct PinArgs {
    /// Run on whole cores that no other runcell has at the time; exclusive: with all but one thread of each idle
    #[arg(long, value_name = "exclusive", num_args = 0..=1, require_equals = true, default_missing_value = "whole")]
    pub pin: Option<PinWord>,
    /// How many cores each job has
    #[arg(long, value_name = "N", default_value_t = 1, requires = "pin")]
    pub cores: usize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum PinWord {
    Whole,
    Exclusive,
}

impl PinArgs {
    pub(super) fn wanted(&self) -> Result<Option<(Pin, usize)>, Fault> {
        let Some(word) = self.pin else { return Ok(None) };
        if self.cores == 0 {
            return Err(Fault::caller("usage", "--cores 0 are none").at("cores"));
        }
        let pin = match word {
            PinWord::Whole => Pin::Whole,
            PinWord::Exclusive => Pin::Exclusive,
        };
        Ok(Some((pin, self.cores)))
    }
}

#[derive(Debug, Args)]
pub(super) struct WarmArgs {
    /// How many are to wait, those of this shape that do already included
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub count: usize,
    /// How long each waits
    #[arg(long, value_name = "TIME", default_value = "10m")]
    pub ttl: String,
    /// Show all that wait
    #[arg(long, conflicts_with_all = ["drain", "job"])]
    pub list: bool,
    /// End all that wait
    #[arg(long, conflicts_with = "job")]
    pub drain: bool,
    /// A job of the shape, a JSON file or stdin (-)
    #[arg(long, value_name = "FILE")]
    pub job: Option<PathBuf>,
    #[arg(long)]
    pub best_effort: bool,
    #[command(flatten)]
    pub flags: super::flags::JobFlags,
}

#[derive(Debug, Args)]
pub(super) struct BatchArgs {
    /// Jobs, one JSON document a line; {"cancel": "id"} stops one. - is stdin
    #[arg(value_name = "FILE", default_value = "-")]
    pub source: PathBuf,
    /// How many run at a time [default: as many as there are cores]
    #[arg(long, short, value_name = "N")]
    pub jobs: Option<usize>,
    /// How many more are read, and cells made, ahead of those that run [default: as --jobs]
    #[arg(long, value_name = "N")]
    pub ahead: Option<usize>,
    /// Remember in this file what was answered, and go on where a batch that was killed has left off; jobs need ids then
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
    #[command(flatten)]
    pub pin: PinArgs,
    /// Let one cell serve an avatar's jobs one after the other, emptied between them: faster, and for those who trust it with that
    #[arg(long, value_name = "WHOSE", conflicts_with = "pin")]
    pub reuse: Option<Reuse>,
    /// No progress on a terminal
    #[arg(short, long)]
    pub quiet: bool,
    /// Run jobs also where a limit cannot be enforced
    #[arg(long)]
    pub best_effort: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Reuse {
    /// Jobs that name the same avatar, and are alike in all that a cell is made of
    SameAvatar,
}

#[derive(Debug, Args)]
pub(super) struct BundleArgs {
    /// The job, a JSON file or stdin (-)
    #[arg(long, value_name = "FILE")]
    pub job: Option<PathBuf>,
    /// Where the bundle goes; a new or empty directory
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    #[arg(long)]
    pub best_effort: bool,
    #[command(flatten)]
    pub flags: super::flags::JobFlags,
}

/// Whether the caller wants JSON, judged before the words make sense: a program must get its error as one document.
pub(super) fn json_form(args: &[OsString]) -> bool {
    let ours = args.iter().take_while(|a| *a != "--");
    let command = ours.clone().find(|a| *a == "run" || *a == "batch" || *a == "kata");
    command.is_some_and(|c| c == "batch" || c == "kata")
        || ours.filter_map(|a| a.to_str()).any(|a| a == "--json" || a == "--job" || a.starts_with("--job="))
}
