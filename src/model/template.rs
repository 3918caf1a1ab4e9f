//! A bundle template: defaults of a job, as `bundle.toml` says them.

use super::colour::ColourRule;
use super::job::{EnvName, Glob, ImageRef, Network, Text, User};
use super::kata::HomeRules;
use super::limits::Asked;
use super::names::BundleName;
use super::object;
use super::paths::GuestPath;
use super::quantity::Bytes;
use super::unique::Unique;
use schemars::JsonSchema;
use serde::Deserialize;

/// What a job takes from its bundle where it is silent itself. `env` and `limits` merge entry by entry, the rest is replaced.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Template {
    /// One line for people.
    pub description: Option<String>,
    pub image: Option<ImageRef>,
    pub argv: Option<Vec<Text>>,
    /// Programs that take the place of the template's `argv[0]` where that does not exist: the first that does.
    pub fallbacks: Vec<Text>,
    pub env: Unique<EnvName, Text>,
    pub cwd: Option<GuestPath>,
    pub user: Option<User>,
    pub collect: Option<Vec<Glob>>,
    pub network: Option<Network>,
    #[serde(deserialize_with = "object::only")]
    pub limits: Asked,
    /// Rules that give results a colour.
    pub colour: Vec<ColourRule>,
    /// The same by the name of a shipped set, or of a file in a directory `colours` beside the policy's bundles.
    pub colours: Option<BundleName>,
    /// What becomes of the files in an avatar's home.
    pub home: HomeRules,
    /// How much an avatar's outcome tells.
    pub report: Report,
}

/// Bounds of what is told, not of what is kept: the home has all of it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Report {
    /// The beginning of each stream that is told; colour rules see all of `limits.output`. Default: the same.
    pub stream: Option<Bytes>,
    /// The same of each file; default 1MiB.
    pub file: Option<Bytes>,
    /// Created files that are told, in alphabetical order, and changed ones; default 1000.
    pub files: Option<usize>,
}
