//! Keys of stages: what a layer was made from, as one digest. The same key is the same work, which need not be done again.
//!
//! A key is the SHA-256 of parts that each carry their name and their length, so that no two different stages are spelled
//! alike. The parent's key is the first part: what changes an early stage changes all after it.

use super::computation::Setup;
use crate::model::base::{Base, Mmdebstrap};
use crate::model::fault::Fault;
use crate::model::ingredient::Ingredient;
use crate::model::job::Network;
use crate::model::limits::Asked;
use crate::model::paths::RelPath;
use crate::model::quantity::{Bytes, Span};
use crate::model::recipe::{Run, Stage};
use crate::model::reference::Digest;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// Raise it where a stage of the same words comes to do other work.
const VERSION: &str = "1";

/// Parts on their way to a key.
struct Parts(Sha256);

impl Parts {
    fn new(kind: &str) -> Self {
        Self(Sha256::new()).and("runcell", VERSION).and("kind", kind)
    }

    fn and(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        for part in [name.as_bytes(), value] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
        self
    }

    /// A list, its length before its parts.
    fn all<T: AsRef<[u8]>>(self, name: &str, values: impl ExactSizeIterator<Item = T>) -> Self {
        let counted = self.and(name, (values.len() as u64).to_le_bytes());
        values.fold(counted, |parts, value| parts.and("", value))
    }

    fn key(self) -> Digest {
        Digest::of_sha256(self.0.finalize().into())
    }
}

fn network(network: Network) -> &'static str {
    match network {
        Network::None => "none",
        Network::Host => "host",
    }
}

/// The key of an image that is there already.
pub fn image(digest: &Digest) -> Digest {
    Parts::new("image").and("digest", digest.as_str()).key()
}

/// The key of a base; `tool` is the digest of the host's file that goes into it, if one does.
pub fn base(base: &Base, tool: Option<&Digest>) -> Digest {
    match base {
        Base::Busybox(_) => Parts::new("busybox").and("binary", tool.map_or("", Digest::as_str)).key(),
        Base::Mmdebstrap(Mmdebstrap { suite, variant, include, components, mirror, exclude }) => Parts::new("mmdebstrap")
            .and("suite", suite.as_str())
            .and("variant", variant.as_str())
            .all("include", include.iter().map(|word| word.as_str()))
            .all("components", components.iter().map(|word| word.as_str()))
            .and("mirror", mirror.as_ref().map_or("", |mirror| mirror.as_str()))
            .all("exclude", exclude.iter().map(|pattern| pattern.as_str()))
            .key(),
    }
}

/// The key of a recipe's stage, of its parent's, its own words, and the digests of its files' contents by name.
///
/// # Errors
/// exit 4 where a file has no digest, or limits cannot be spelled.
pub fn stage(parent: &Digest, stage: &Stage, contents: &BTreeMap<RelPath, Digest>) -> Result<Digest, Fault> {
    let Stage { run, files, network: net, env, limits } = stage;
    let limits = serde_json::to_vec(limits).map_err(|e| Fault::ours("internal", e.to_string()))?;
    let parts = Parts::new("stage").and("parent", parent.as_str()).and("network", network(*net)).and("limits", limits);
    let parts = match run {
        Run::Script(script) => parts.and("script", script.as_str()),
        Run::Argv(argv) => parts.all("argv", argv.iter().map(|word| word.as_str())),
    };
    let parts = parts.all("env", env.iter().map(|(name, value)| format!("{}={}", name.as_str(), value.as_str())));
    let mut parts = parts.and("files", (files.len() as u64).to_le_bytes());
    for (name, Ingredient { mode, .. }) in files.iter() {
        let digest = contents.get(name).ok_or_else(|| Fault::ours("internal", format!("{} was not read", name.as_str())))?;
        parts = parts.and("name", name.as_str()).and("mode", mode.to_le_bytes()).and("content", digest.as_str());
    }
    Ok(parts.key())
}

/// The limits of a stage where it says nothing: those of a build, which are wider than a job's. The policy's ceilings hold.
pub fn limits(asked: Asked) -> Asked {
    asked.over(Asked {
        wall: Some(Span::from_millis(600_000)),
        memory: Some(Bytes(1 << 30)),
        pids: Some(1024),
        output: Some(Bytes(16 << 20)),
        sandbox: Some(Bytes(256 << 20)),
        inodes: Some(200_000),
        file_size: Some(Bytes(4 << 30)),
        ..Asked::default()
    })
}

/// The key of a computation's stage; `directory` is the digest of the computation directory, where the stage sees that.
pub fn computation(parent: &Digest, setup: &Setup<'_>, stage: usize, net: Network, directory: Option<&str>) -> Digest {
    let pieces = setup.pieces(stage);
    Parts::new("computation")
        .and("parent", parent.as_str())
        .and("shell", setup.shell)
        .and("network", network(net))
        .all("before", pieces.before.iter())
        .all("own", pieces.own.iter())
        .all("after", pieces.after.iter())
        .and("directory", directory.unwrap_or_default())
        .key()
}

#[cfg(test)]
mod tests {
    use super::super::computation;
    use super::*;
    use crate::model::recipe;

    /// The keys of a recipe's stages, its files' contents being their names' own digests.
    fn keys(stages: &str) -> Vec<Digest> {
        let recipe = recipe::read(&format!("from = 'a'\n{stages}")).expect(stages);
        let mut key = image(&Digest::of_sha256([1; 32]));
        let mut keys = Vec::new();
        for one in &recipe.stages {
            let content = |name: &RelPath| Digest::of_sha256(Sha256::digest(name.as_str()).into());
            let contents = one.files.keys().map(|name| (name.clone(), content(name))).collect();
            key = stage(&key, one, &contents).expect("a key");
            keys.push(key.clone());
        }
        keys
    }

    #[test]
    fn appending_keeps_what_was_before_and_editing_the_first_changes_all() {
        let (a, b, c) = ("[[stage]]\nrun = 'a'\n", "[[stage]]\nrun = 'b'\n", "[[stage]]\nrun = 'c'\n");
        let two = keys(&format!("{a}{b}"));
        assert_eq!(keys(&format!("{a}{b}{c}"))[..2], two);
        let edited = keys(&format!("{c}{b}"));
        assert!(edited[0] != two[0] && edited[1] != two[1]);
        let every = "[[stage]]\nrun = 'x'\neverytime = true\n";
        assert_eq!(keys(&format!("{a}{every}{b}")), two, "what runs each time makes no layer");
    }

    #[test]
    fn no_two_different_stages_have_one_key() {
        let different = [
            "run = 'a b'",
            "run = ['a b']",
            "run = ['a', 'b']",
            "run = ['ab', '']",
            "run = 'a b'\nnetwork = 'host'",
            "run = 'a b'\nenv = { A = 'b' }",
            "run = 'a b'\nenv = { A = '' }",
            "run = 'a b'\nenv = { A = '', B = '' }",
            "run = 'a b'\nlimits = { wall = 5 }",
            "run = 'a b'\nlimits = { pids = 5 }",
            "run = 'a b'\nfiles = { x = '' }",
            "run = 'a b'\nfiles = { x = { text = '', mode = '0755' } }",
            "run = 'a b'\nfiles = { x = '', y = '' }",
        ];
        let keys: std::collections::BTreeSet<_> = different.iter().map(|text| keys(&format!("[[stage]]\n{text}\n"))).collect();
        assert_eq!(keys.len(), different.len());
    }

    #[test]
    fn a_base_is_what_it_is_made_of() {
        let read = |text: &str| match recipe::read(text).expect(text).origin {
            recipe::Origin::Base(base) => base,
            recipe::Origin::Image(_) => panic!("{text} has a base"),
        };
        let (one, other) = (Digest::of_sha256([1; 32]), Digest::of_sha256([2; 32]));
        let box_of = |path: &str| read(&format!("[base.busybox]\n{path}"));
        assert_eq!(base(&box_of(""), Some(&one)), base(&box_of("path = '/x'"), Some(&one)), "the binary counts, not its place");
        let debian = |more: &str| base(&read(&format!("[base.mmdebstrap]\nsuite = 'bookworm'\n{more}")), None);
        let all = [
            base(&box_of(""), Some(&one)),
            base(&box_of(""), Some(&other)),
            debian(""),
            debian("include = ['a', 'b']"),
            debian("include = ['a']\ncomponents = ['b']"),
            debian("variant = 'apt'"),
            debian("mirror = 'http://x/y'"),
            debian("exclude = ['/a']"),
        ];
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn a_computations_stage_depends_on_all_that_it_runs_with() {
        let parent = image(&Digest::of_sha256([1; 32]));
        let key = |text: &str, net, directory| computation(&parent, &computation::setup(text).expect(text), 0, net, directory);
        let plain = key("A=1\nnext_stage && x\n", Network::None, None);
        assert_eq!(key("A=1 # one\n\n\nnext_stage && x\nnext_stage && y\n", Network::None, None), plain);
        for (text, net, directory) in [
            ("A=1\nnext_stage && x\n", Network::Host, None),
            ("A=1\nnext_stage && x\n", Network::None, Some("tree")),
            ("#!/bin/bash\nA=1\nnext_stage && x\n", Network::None, None),
            ("next_stage && x\nA=1\n", Network::None, None),
            ("A=1\nnext_stage && x y\n", Network::None, None),
            ("A=1 && next_stage && x\n", Network::None, None),
        ] {
            assert_ne!(key(text, net, directory), plain, "{text}");
        }
    }
}
