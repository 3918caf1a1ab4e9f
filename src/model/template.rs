//! A bundle template: defaults of a job, as `bundle.toml` says them.

use super::job::{EnvName, Glob, ImageRef, Network, Text, User};
use super::limits::Asked;
use super::object;
use super::paths::GuestPath;
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
    pub env: Unique<EnvName, Text>,
    pub cwd: Option<GuestPath>,
    pub user: Option<User>,
    pub collect: Option<Vec<Glob>>,
    pub network: Option<Network>,
    #[serde(deserialize_with = "object::only")]
    pub limits: Asked,
}
