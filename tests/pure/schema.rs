//! The published schemas: the OCI runtime specification's, and our own four.

use crate::golden::{directory, expect};
use crate::oci::oci;
use jsonschema::Validator;
use runcell::work::schema::{Document, schema};

/// One of our own.
pub(crate) fn ours(of: Document) -> Validator {
    jsonschema::draft202012::new(schema(of).as_value()).expect("what we publish is a schema")
}

#[test]
fn published_schemas_have_not_moved() {
    for (of, name) in
        [(Document::Job, "job"), (Document::Outcome, "outcome"), (Document::Policy, "policy"), (Document::Recipe, "recipe")]
    {
        expect(&directory().join(format!("schema/{name}.json")), schema(of).as_value());
    }
}

/// A validator that accepts everything would make every other test of this file worthless.
#[test]
fn the_oci_schema_refuses_what_is_no_configuration() {
    let schema = oci();
    let fine = serde_json::json!({"ociVersion": "1.0.2", "root": {"path": "rootfs"}, "linux": {"namespaces": [{"type": "pid"}]}});
    assert!(schema.is_valid(&fine));
    for (pointer, bad) in [
        ("/ociVersion", serde_json::json!(1)),
        ("/root", serde_json::json!({"readonly": true})),
        ("/linux/namespaces/0/type", serde_json::json!("tenth")),
        ("/linux", serde_json::json!({"resources": {"pids": {"limit": "many"}}})),
        ("/linux", serde_json::json!({"seccomp": {"defaultAction": "SCMP_ACT_SHRUG"}})),
    ] {
        let mut config = fine.clone();
        *config.pointer_mut(pointer).expect("there") = bad;
        assert!(!schema.is_valid(&config), "{config}");
    }
}
