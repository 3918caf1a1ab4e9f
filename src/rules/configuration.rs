//! An image's configuration document as we write it (OCI image-spec, config.md): nothing in it that does not follow from the
//! image itself, so that the same image has the same digest whenever and wherever it is built.

use crate::model::fault::Fault;
use crate::model::image::{Defaults, Layer};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The label that carries what runs before each program, as a JSON list: the specification has no word for it.
pub const EVERYTIME: &str = "runcell.everytime";

/// The document's bytes.
///
/// # Errors
/// exit 4 if JSON cannot hold it.
pub fn document(
    layers: &[Layer],
    defaults: &Defaults,
    platform: &str,
    labels: &BTreeMap<String, String>,
) -> Result<Vec<u8>, Fault> {
    let (os, architecture) = platform.split_once('/').unwrap_or(("linux", platform));
    let (architecture, variant) = architecture.split_once('/').map_or((architecture, None), |(a, v)| (a, Some(v)));
    let mut config = Map::new();
    let mut put = |name: &str, value: Value| drop(config.insert(name.to_owned(), value));
    if !defaults.env.is_empty() {
        put("Env", json!(defaults.env));
    }
    if !defaults.argv.is_empty() {
        put("Cmd", json!(defaults.argv));
    }
    if let Some(cwd) = &defaults.cwd {
        put("WorkingDir", json!(cwd.as_str()));
    }
    if let Some(user) = defaults.user {
        put("User", json!(String::from(user)));
    }
    if !labels.is_empty() {
        put("Labels", json!(labels));
    }
    let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    let mut document = json!({
        "architecture": architecture,
        "os": os,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    if let Some(variant) = variant {
        document["variant"] = variant.into();
    }
    serde_json::to_vec(&document).map_err(|e| Fault::ours("internal", e.to_string()))
}

/// What a label says runs before each program.
///
/// # Errors
/// where it is no list of texts.
pub fn everytime(labels: &BTreeMap<String, String>) -> Result<Vec<String>, String> {
    let read = |text: &String| serde_json::from_str(text).map_err(|e| format!("label {EVERYTIME}: {e}"));
    labels.get(EVERYTIME).map_or(Ok(Vec::new()), read)
}

/// This machine's platform in the words of images.
pub fn native() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("linux/{architecture}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::job::User;
    use crate::model::reference::Digest;

    #[test]
    fn a_document_says_what_the_image_is_and_nothing_else() {
        let layer = Layer { diff_id: Digest::of_sha256([1; 32]), blob: None, bytes: 5, entries: 1 };
        let defaults = Defaults {
            argv: vec!["a".into()],
            env: vec!["A=b".into()],
            user: Some(User { uid: 1, gid: 2 }),
            ..Defaults::default()
        };
        let labels = BTreeMap::from([(EVERYTIME.to_owned(), r#"["x"]"#.to_owned())]);
        let made = document(&[layer], &defaults, "linux/arm64/v8", &labels).expect("JSON");
        let read: Value = serde_json::from_slice(&made).expect("JSON");
        assert_eq!(read["config"], json!({"Env": ["A=b"], "Cmd": ["a"], "User": "1:2", "Labels": labels}));
        assert_eq!((&read["architecture"], &read["variant"]), (&json!("arm64"), &json!("v8")));
        assert_eq!(read["rootfs"]["diff_ids"][0], format!("sha256:{}", "01".repeat(32)));
        assert_eq!(everytime(&labels), Ok(vec!["x".to_owned()]));
        assert_eq!(everytime(&BTreeMap::new()), Ok(vec![]));
        assert!(everytime(&BTreeMap::from([(EVERYTIME.to_owned(), "x".to_owned())])).is_err());
        assert!(native().starts_with("linux/"));
    }
}
