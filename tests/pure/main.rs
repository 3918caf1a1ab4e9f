//! What needs no kernel: plans and configurations against committed ones, documents against their schemas, and properties.

mod ceilings;
mod computation;
mod colours;
mod documents;
mod fallback;
mod golden;
mod host;
mod jobs;
mod oci;
mod reports;
mod schema;

use proptest::test_runner::{Config, TestRunner};

/// For properties that count how often they got through: one that only ever sees refusals would prove nothing.
fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}
