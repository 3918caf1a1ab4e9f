//! The OCI runtime specification's own schema of config.json, from tests/fixtures.

use jsonschema::{Draft, Retrieve, Uri, Validator};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Finds references among the files of one directory, and nowhere else.
struct Beside(PathBuf);

impl Retrieve for Beside {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        let name = uri.path().as_str().rsplit('/').next().unwrap_or_default();
        Ok(serde_json::from_slice(&std::fs::read(self.0.join(name))?)?)
    }
}

/// The schema of an OCI runtime's config.json.
pub(crate) fn oci() -> Validator {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/oci-runtime-schema");
    let entrance = std::fs::read(dir.join("config-schema.json")).expect("a fixture");
    let entrance: Value = serde_json::from_slice(&entrance).expect("JSON");
    jsonschema::options()
        .with_draft(Draft::Draft4)
        .with_base_uri("json-schema:///config-schema.json")
        .with_retriever(Beside(dir))
        .build(&entrance)
        .expect("the fixture is a schema")
}
