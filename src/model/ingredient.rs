//! Ingredients: files that a recipe's stage finds in /sandbox.

use super::blob;
use super::job;
use super::paths::RelPath;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// One file, and its mode (default 0644). Written as a plain string, or as an object with exactly one of `text`, `base64`,
/// `file`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingredient {
    pub source: Source,
    pub mode: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Bytes(Vec<u8>),
    /// A regular file of the recipe's directory, reached without symlinks.
    Beside(RelPath),
}

/// The long form as written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Raw {
    text: Option<String>,
    base64: Option<String>,
    /// Relative to the recipe's directory.
    file: Option<RelPath>,
    /// Octal, at most 0777.
    #[schemars(extend("pattern" = "^0*[0-7]{1,3}$"))]
    mode: Option<String>,
}

impl Raw {
    fn ingredient(self) -> Result<Ingredient, String> {
        let mode = self.mode.map_or(Ok(0o644), |m| job::mode(&m))?;
        let source = match (self.text, self.base64, self.file) {
            (Some(text), None, None) => Source::Bytes(text.into_bytes()),
            (None, Some(b64), None) => Source::Bytes(blob::decode(&b64)?),
            (None, None, Some(path)) => Source::Beside(path),
            _ => return Err("needs exactly one of \"text\", \"base64\" and \"file\"".into()),
        };
        Ok(Ingredient { source, mode })
    }
}

struct TextOrObject;

impl<'de> Visitor<'de> for TextOrObject {
    type Value = Ingredient;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, or an object with one of \"text\", \"base64\", \"file\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Ingredient, E> {
        Ok(Ingredient { source: Source::Bytes(text.as_bytes().to_vec()), mode: 0o644 })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Ingredient, A::Error> {
        Raw::deserialize(MapAccessDeserializer::new(map))?.ingredient().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Ingredient {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(TextOrObject)
    }
}

impl JsonSchema for Ingredient {
    fn schema_name() -> Cow<'static, str> {
        "Ingredient".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let long = generator.subschema_for::<Raw>();
        schemars::json_schema!({"anyOf": [{"type": "string"}, long]})
    }
}
