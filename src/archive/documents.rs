//! The JSON documents of an image (OCI image-spec: descriptor.md, image-index.md, manifest.md, config.md; Docker's own are older
//! siblings). Each is bounded, and read by digest where there is one.

use super::files::Files;
use super::platform::Platform;
use super::refusal::{malformed, reading, too_large};
use super::verified::Verified;
use crate::model::fault::Fault;
use crate::model::reference::Digest;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::io::Read;

/// Of one document, in bytes: registries refuse larger manifests.
pub(super) const DOCUMENT_MOST: u64 = 4 * 1024 * 1024;

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) platform: Option<PlatformWords>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct PlatformWords {
    os: String,
    architecture: String,
    variant: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Index {
    pub(super) manifests: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Manifest {
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

/// An element of docker-archive's manifest.json.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Saved {
    pub(super) config: String,
    pub(super) repo_tags: Option<Vec<String>>,
    pub(super) layers: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct ConfigWords {
    #[serde(flatten)]
    platform: PlatformWords,
    config: Option<Process>,
    rootfs: RootFs,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<Digest>,
}

/// What an image says about programs; an empty field says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Process {
    env: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

/// An image's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub platform: Platform,
    /// `NAME=value` lines.
    pub env: Vec<String>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// May be empty or relative.
    pub working_dir: String,
    /// `user[:group]`, names or numbers; may be empty.
    pub user: String,
    pub labels: BTreeMap<String, String>,
    /// Of the layers, lowest first.
    pub diff_ids: Vec<Digest>,
}

impl From<PlatformWords> for Platform {
    fn from(words: PlatformWords) -> Self {
        Self { os: words.os, architecture: words.architecture, variant: words.variant.filter(|v| !v.is_empty()) }
    }
}

impl Config {
    /// # Errors
    /// `archive:malformed`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let words: ConfigWords = parse(bytes, "the image's configuration")?;
        let process = words.config.unwrap_or_default();
        Ok(Self {
            platform: words.platform.into(),
            env: process.env.unwrap_or_default(),
            entrypoint: process.entrypoint.unwrap_or_default(),
            cmd: process.cmd.unwrap_or_default(),
            working_dir: process.working_dir.unwrap_or_default(),
            user: process.user.unwrap_or_default(),
            labels: process.labels.unwrap_or_default(),
            diff_ids: words.rootfs.diff_ids,
        })
    }
}

/// # Errors
/// `archive:malformed`, naming the field.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, Fault> {
    let mut from = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut from)
        .and_then(|value| {
            let track = serde_path_to_error::Track::new();
            from.end().map_err(|e| serde_path_to_error::Error::new(track.path(), e)).map(|()| value)
        })
        .map_err(|e| malformed(format!("{what} is malformed at {}: {}", e.path(), e.inner())))
}

/// The name of a blob within a layout.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A whole document, verified.
///
/// # Errors
/// `archive:mismatch`, `archive:too_large`; as `Files::open`.
pub(super) fn fetch(files: &Files, descriptor: &Descriptor) -> Result<Vec<u8>, Fault> {
    if descriptor.size > DOCUMENT_MOST {
        return Err(too_large(format!(
            "document {} has {} bytes; at most {DOCUMENT_MOST} are read",
            descriptor.digest, descriptor.size
        )));
    }
    let piece = files.open(&blob_name(&descriptor.digest))?;
    let mut bytes = Vec::new();
    Verified::new(piece, descriptor.digest.clone(), descriptor.size).read_to_end(&mut bytes).map_err(reading)?;
    Ok(bytes)
}
