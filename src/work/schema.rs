//! JSON Schemas of the documents, derived from the types that read and write them.

use crate::model::job::Job;
use crate::model::outcome::Outcome;
use crate::model::policy::Policy;
use crate::model::recipe::Recipe;
use schemars::Schema;
use schemars::generate::SchemaSettings;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    Job,
    Outcome,
    Policy,
    Recipe,
}

/// The schema of what one reads (job, policy, recipe) or writes (outcome).
pub fn schema(of: Document) -> Schema {
    let settings = SchemaSettings::draft2020_12();
    match of {
        Document::Job => settings.for_deserialize().into_generator().into_root_schema_for::<Job>(),
        Document::Outcome => settings.for_serialize().into_generator().into_root_schema_for::<Outcome>(),
        Document::Policy => settings.for_deserialize().into_generator().into_root_schema_for::<Policy>(),
        Document::Recipe => settings.for_deserialize().into_generator().into_root_schema_for::<Recipe>(),
    }
}
