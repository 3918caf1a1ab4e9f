//! Random archives, held against a model of a tree in memory, and against damage.

use super::make::{Head, Tar};
use super::room::{Room, privileged};
use proptest::prelude::*;
use runcell::archive::layer::Bounds;
use runcell::archive::listing::{Content, Item};
use runcell::archive::writer::{Form, write};
use sha2::Digest as _;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;

/// One entry of a random archive.
#[derive(Clone, Debug)]
enum Op {
    Dir(String, u32),
    File(String, Vec<u8>, u32),
    Symlink(String, String),
    HardLink(String, String),
    Fifo(String),
    Whiteout(String),
    Opaque(String),
    Device(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Dir(u32),
    /// With a number that hard links share.
    File(u32, Vec<u8>, u32),
    Symlink(u32, String),
    Fifo(u32),
    Whiteout,
}

/// What a tree should be. Said anew and simply; the applier has no such map.
#[derive(Debug, Default)]
struct Model {
    nodes: BTreeMap<String, Node>,
    opaque: BTreeSet<String>,
    implied: BTreeSet<String>,
    count: u32,
}

struct Refused;

fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(parent, _)| parent)
}

impl Model {
    fn has_entries(&self, path: &str) -> bool {
        self.nodes.keys().any(|key| key.starts_with(&format!("{path}/")))
    }

    /// Makes all directories up to and with `path`.
    fn imply(&mut self, path: &str) -> Result<(), Refused> {
        if let Some(above) = parent(path) {
            self.imply(above)?;
        }
        match self.nodes.get(path) {
            Some(Node::Dir(_)) => return Ok(()),
            Some(Node::Whiteout) => drop(self.opaque.insert(path.into())),
            Some(_) => return Err(Refused),
            None => {}
        }
        self.nodes.insert(path.into(), Node::Dir(0o755));
        self.implied.insert(path.into());
        Ok(())
    }

    fn imply_parent(&mut self, path: &str) -> Result<(), Refused> {
        parent(path).map_or(Ok(()), |above| self.imply(above))
    }

    fn put(&mut self, path: &str, node: Node) -> Result<(), Refused> {
        self.imply_parent(path)?;
        if self.has_entries(path) {
            return Err(Refused);
        }
        self.nodes.insert(path.into(), node);
        Ok(())
    }

    fn number(&mut self) -> u32 {
        self.count += 1;
        self.count
    }

    fn apply(&mut self, op: &Op) -> Result<(), Refused> {
        match op {
            Op::Dir(path, mode) => {
                self.imply_parent(path)?;
                if let Some(Node::Whiteout) = self.nodes.insert(path.clone(), Node::Dir(*mode)) {
                    self.opaque.insert(path.clone());
                }
                self.implied.remove(path);
            }
            Op::File(path, content, mode) => {
                let number = self.number();
                self.put(path, Node::File(number, content.clone(), *mode))?;
            }
            Op::Symlink(path, target) => {
                let number = self.number();
                self.put(path, Node::Symlink(number, target.clone()))?;
            }
            Op::Fifo(path) => {
                let number = self.number();
                self.put(path, Node::Fifo(number))?;
            }
            Op::HardLink(path, target) => {
                let node = match self.nodes.get(target) {
                    None | Some(Node::Dir(_) | Node::Whiteout) => return Err(Refused),
                    Some(node) => node.clone(),
                };
                self.imply_parent(path)?;
                if self.nodes.get(path) != Some(&node) {
                    self.put(path, node)?;
                }
            }
            Op::Whiteout(path) => {
                self.imply_parent(path)?;
                match self.nodes.get(path) {
                    Some(Node::Dir(_)) => drop(self.opaque.insert(path.clone())),
                    Some(_) => {}
                    None => drop(self.nodes.insert(path.clone(), Node::Whiteout)),
                }
            }
            Op::Opaque(path) => {
                self.imply(path)?;
                self.opaque.insert(path.clone());
            }
            Op::Device(_) => {}
        }
        Ok(())
    }

    /// In the words of a listing.
    fn content(&self, path: &str, node: &Node) -> (Content, u32) {
        match node {
            Node::Dir(mode) => (Content::Directory { opaque: self.opaque.contains(path) }, *mode),
            Node::File(_, bytes, mode) => {
                (Content::File { size: bytes.len() as u64, sha256: sha2::Sha256::digest(bytes).into() }, *mode)
            }
            Node::Symlink(_, target) => (Content::Symlink(target.clone().into_bytes()), 0o777),
            Node::Fifo(_) => (Content::Fifo, 0o622),
            Node::Whiteout => (Content::Whiteout, 0),
        }
    }
}

fn tar(ops: &[Op]) -> Vec<u8> {
    let whiteout = |path: &str| match path.rsplit_once('/') {
        Some((parent, name)) => format!("{parent}/.wh.{name}"),
        None => format!(".wh.{path}"),
    };
    let tar = ops.iter().fold(Tar::new(), |tar, op| match op {
        Op::Dir(path, mode) => tar.head(Head::new(b'5', path.as_bytes()).mode((*mode).into())),
        Op::File(path, content, mode) => {
            tar.raw(Head::new(b'0', path.as_bytes()).mode((*mode).into()).size(content.len() as u64), content)
        }
        Op::Symlink(path, target) => tar.symlink(path, target),
        Op::HardLink(path, target) => tar.hard_link(path, target),
        Op::Fifo(path) => tar.head(Head::new(b'6', path.as_bytes()).mode(0o622)),
        Op::Whiteout(path) => tar.file(&whiteout(path), b""),
        Op::Opaque(path) => tar.file(&format!("{path}/.wh..wh..opq"), b""),
        Op::Device(path) => tar.head(Head::new(b'3', path.as_bytes())),
    });
    tar.end()
}

/// Few names, so that entries meet.
fn path() -> impl Strategy<Value = String> {
    prop::collection::vec("[abc]", 1..4).prop_map(|components| components.join("/"))
}

fn op() -> impl Strategy<Value = Op> {
    let mode = prop::sample::select(vec![0o755u32, 0o700, 0, 0o4755, 0o1777, 0o444]);
    let target = prop::sample::select(vec!["a", "b/c", "..", "../outside", "../../file", "/", "/tmp", "."]);
    prop_oneof![
        4 => (path(), mode.clone()).prop_map(|(p, m)| Op::Dir(p, m)),
        4 => (path(), prop::collection::vec(any::<u8>(), 0..600), mode).prop_map(|(p, c, m)| Op::File(p, c, m)),
        1 => (path(), target).prop_map(|(p, t)| Op::Symlink(p, t.into())),
        1 => (path(), path()).prop_map(|(p, t)| Op::HardLink(p, t)),
        1 => path().prop_map(Op::Fifo),
        2 => path().prop_map(Op::Whiteout),
        1 => path().prop_map(Op::Opaque),
        1 => path().prop_map(Op::Device),
    ]
}

/// The longest beginning that the model takes, what it makes of it, and whether there is more.
fn taken(ops: &[Op]) -> (Model, usize) {
    let mut model = Model::default();
    let count = ops.iter().take_while(|op| model.apply(op).is_ok()).count();
    (model, count)
}

fn modelled(ops: &[Op]) -> Model {
    let mut model = Model::default();
    ops.iter().for_each(|op| assert!(model.apply(op).is_ok(), "was taken before: {op:?}"));
    model
}

fn compare(model: &Model, items: &BTreeMap<String, Item>) {
    let found: BTreeMap<&str, (Content, u32)> = items
        .iter()
        .filter(|(path, _)| !path.is_empty())
        .map(|(p, i)| (&p[..], (i.content.clone(), i.attributes.mode)))
        .collect();
    let expected: BTreeMap<&str, (Content, u32)> = model.nodes.iter().map(|(p, n)| (&p[..], model.content(p, n))).collect();
    assert_eq!(found, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn applying_is_what_the_model_says(ops in prop::collection::vec(op(), 0..30)) {
        if privileged("applying_is_what_the_model_says") {
            let (_, count) = taken(&ops);
            if count < ops.len() {
                let fault = Room::new().apply(&tar(&ops), &Bounds::default()).expect_err("the model refuses it");
                prop_assert_eq!(fault.code, "archive:malformed");
            }
            let model = modelled(&ops[..count]);
            let result = Room::new().apply(&tar(&ops[..count]), &Bounds::default()).expect("the model takes it");
            compare(&model, &result.items);
            let words = |paths: &BTreeSet<Vec<u8>>| paths.iter().filter(|p| !p.is_empty()).map(|p| String::from_utf8_lossy(p).into_owned()).collect::<BTreeSet<_>>();
            let dirs = |paths: &BTreeSet<String>| paths.iter().filter(|p| matches!(model.nodes.get(*p), Some(Node::Dir(_)))).cloned().collect::<BTreeSet<_>>();
            prop_assert_eq!(words(&result.applied.opaque), dirs(&model.opaque));
            prop_assert_eq!(words(&result.applied.implied), dirs(&model.implied));
        }
    }

    #[test]
    fn what_is_written_comes_back(ops in prop::collection::vec(op(), 0..30)) {
        if privileged("what_is_written_comes_back") {
            let (_, count) = taken(&ops);
            let (first, second) = (Room::new(), Room::new());
            let one = first.apply(&tar(&ops[..count]), &Bounds::default()).expect("the model takes it");
            for path in &one.applied.opaque {
                let dir = std::fs::File::open(first.path().join(String::from_utf8_lossy(path).as_ref())).expect("a directory");
                runcell::os::sys::set_xattr(dir.as_fd(), c"trusted.overlay.opaque", b"y").expect("root may");
            }
            let mut bytes = Vec::new();
            write(first.tree().as_fd(), Form::Layer, &mut bytes).expect("written");
            let two = second.apply(&bytes, &Bounds::default()).expect("what we wrote");
            prop_assert_eq!(two.items, one.items);
            prop_assert_eq!(two.applied.opaque, one.applied.opaque);
        }
    }

    /// Whatever happens to an archive's bytes, something is said about it and nothing outside the tree changes.
    #[test]
    fn damage_stays_in_the_tree(
        ops in prop::collection::vec(op(), 1..8),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        sealed in any::<bool>(),
    ) {
        let mut bytes = tar(&ops);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if sealed {
                reseal(&mut bytes, at);
            }
        }
        let bounds = Bounds { bytes: 1 << 20, ..Bounds::default() };
        if let Err(fault) = Room::new().apply(&bytes, &bounds) {
            prop_assert!(fault.code.starts_with("archive:") && fault.code != "archive:unwritable", "{:?}", fault);
        }
    }
}

/// Makes the checksum right of the block that a byte is in, as if it were a header: else damage would stop there.
fn reseal(bytes: &mut [u8], at: usize) {
    let block = &mut bytes[at / 512 * 512..][..512];
    if block.iter().all(|b| *b == 0) {
        return;
    }
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}
