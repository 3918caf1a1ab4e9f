//! A kata of one test, and its avatars.

use super::harness::Host;
use super::leftovers;
use super::run::{Ran, Started};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(crate) const KATA: &str = "4kq9Zx2aBc";

pub(crate) struct Dojo<'h> {
    pub host: &'h Host,
}

/// A document that the binary answers, and its exit code.
#[track_caller]
pub(crate) fn told(host: &Host, words: &[&str]) -> (i32, Value) {
    let (code, out, err) = host.words(words);
    assert!(err.is_empty(), "{words:?}: {err}");
    let document = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{words:?}: no one document ({e}): {out}"));
    (code, document)
}

/// The same where it must go well.
#[track_caller]
pub(crate) fn fine(host: &Host, words: &[&str]) -> Value {
    let (code, document) = told(host, words);
    assert_eq!(code, 0, "{words:?}: {document}");
    document
}

/// The same where it must not: its exit code and its stable word.
#[track_caller]
pub(crate) fn refused(host: &Host, words: &[&str]) -> (i32, String) {
    let (code, document) = told(host, words);
    (code, document["error"]["code"].as_str().unwrap_or_else(|| panic!("{words:?}: {document}")).to_owned())
}

impl<'h> Dojo<'h> {
    /// A kata with these words to its making.
    #[track_caller]
    pub(crate) fn new(host: &'h Host, more: &[&str]) -> Self {
        fine(host, &[&["kata", "new", KATA], more].concat());
        Self { host }
    }

    /// An avatar with these files; answers the first of its host ids.
    #[track_caller]
    pub(crate) fn avatar(&self, name: &str, files: &Value) -> u64 {
        let made = fine(self.host, &["kata", "avatar", KATA, name, "--files", &files.to_string()]);
        made["first_id"].as_u64().expect("a number")
    }

    /// An avatar that runs this script.
    #[track_caller]
    pub(crate) fn script(&self, name: &str, script: &str) -> u64 {
        self.avatar(name, &json!({"cyber-dojo.sh": script}))
    }

    pub(crate) fn begin(&self, name: &str, job: &Value, more: &[&str]) -> Started<'h> {
        let file = self.host.file(&format!("{name}.json"), super::harness::patient(job).to_string());
        self.host.start(self.host.runcell(&[&["kata", "run", KATA, name, "--job", &file], more].concat()))
    }

    #[track_caller]
    pub(crate) fn press(&self, name: &str, job: &Value) -> Ran {
        self.begin(name, job, &[]).outcome()
    }

    /// The home: digest and mode by path.
    #[track_caller]
    pub(crate) fn home(&self, name: &str) -> BTreeMap<String, (String, String)> {
        let shown = fine(self.host, &["kata", "show", KATA, name]);
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let files = shown["avatars"][0]["home"].as_array().expect("files").clone();
        let path = |file: &Value| text(if file["path_base64"].is_null() { &file["path"] } else { &file["path_base64"] });
        files.iter().map(|file| (path(file), (text(&file["digest"]), text(&file["mode"])))).collect()
    }

    /// The names in the home.
    #[track_caller]
    pub(crate) fn names(&self, name: &str) -> Vec<String> {
        self.home(name).into_keys().collect()
    }

    /// Ends it, and looks for what is left.
    #[track_caller]
    pub(crate) fn retire(&self) {
        fine(self.host, &["kata", "retire", KATA]);
        self.is_gone();
    }

    #[track_caller]
    pub(crate) fn is_gone(&self) {
        nothing_left(self.host);
        let groups: Vec<_> = leftovers::groups().into_iter().filter(|g| mine(self.host, g)).collect();
        assert!(groups.is_empty(), "{groups:?}");
        self.host.is_clean();
    }
}

/// No kata has left anything in the store.
#[track_caller]
pub(crate) fn nothing_left(host: &Host) {
    let shelf = host.root().join("store/katas");
    let names = |dir: &std::path::Path| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let left: Vec<String> =
        names(&shelf).into_iter().filter(|n| !["ids", "lock", "seats", "queue"].contains(&n.as_str())).collect();
    assert!(left.is_empty() && names(&shelf.join("ids")).is_empty(), "{left:?} {:?}", names(&shelf.join("ids")));
}

/// SHA-256 as homes are told by it.
pub(crate) fn digest(content: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    let hex: String = Sha256::digest(content).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

/// Whether this is the group of this host's kata.
pub(crate) fn mine(host: &Host, group: &std::path::Path) -> bool {
    let depot = runcell::store::depot::Depot::at(host.root().join("store"));
    let id = runcell::model::avatar::KataId::try_from(KATA.to_owned()).expect("an id");
    group.ends_with(runcell::store::katas::group(&depot, &id))
}
