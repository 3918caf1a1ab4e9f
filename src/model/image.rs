//! Images: what the store knows of one.

use super::job::User;
use super::paths::GuestPath;
use super::reference::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the store knows of an image: its ordered layers, and what its configuration says about programs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// Of the configuration document, which names every layer: the image's identity, as `docker images` shows it.
    pub digest: Digest,
    /// Lowest first.
    pub layers: Vec<Layer>,
    /// All of them as one tree, where they are many: what cells have for their root then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flat: Option<Layer>,
    pub defaults: Defaults,
    /// Such as `linux/amd64`.
    pub platform: String,
    /// When it came into the store, in milliseconds since 1970.
    pub since_ms: u64,
    /// Labels of its configuration; ours begin with `runcell.`.
    pub labels: BTreeMap<String, String>,
}

impl Image {
    /// What a root is stacked from, lowest first.
    pub fn stack(&self) -> &[Layer] {
        self.flat.as_ref().map_or(&self.layers, std::slice::from_ref)
    }

    /// All that must stay in the store for it.
    pub fn kept(&self) -> impl Iterator<Item = &Layer> {
        self.layers.iter().chain(&self.flat)
    }
}

/// One layer, unpacked once for all images that have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Of the uncompressed tar archive: names the tree.
    pub diff_id: Digest,
    /// The archive as it came, if it is kept.
    pub blob: Option<BlobRef>,
    /// Sum of the sizes of its regular files, in bytes.
    pub bytes: u64,
    pub entries: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRef {
    pub digest: Digest,
    /// In bytes, compressed.
    pub size: u64,
    pub media_type: String,
}

/// What a job of this image takes where it and its bundle are silent (OCI image-spec, config.md).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Defaults {
    /// `Entrypoint` and `Cmd`, one after the other.
    pub argv: Vec<String>,
    /// `NAME=value` lines.
    pub env: Vec<String>,
    pub cwd: Option<GuestPath>,
    /// Already looked up in the image's own passwd and group files.
    pub user: Option<User>,
    /// Shell commands that run in the cell before each program, in its own shell.
    pub everytime: Vec<String>,
}
