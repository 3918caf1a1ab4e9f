//! A map that refuses a key named twice, so that nothing a caller wrote is silently lost.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// An ordered map whose keys came in exactly once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unique<K: Ord, V>(pub BTreeMap<K, V>);

impl<K: Ord, V> Default for Unique<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord, V> Deref for Unique<K, V> {
    type Target = BTreeMap<K, V>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<K: Ord, V> DerefMut for Unique<K, V> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<K: Ord + Serialize, V: Serialize> Serialize for Unique<K, V> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(s)
    }
}

struct Once<K, V>(PhantomData<(K, V)>);

impl<'de, K: Ord + Deserialize<'de> + Serialize, V: Deserialize<'de>> Visitor<'de> for Once<K, V> {
    type Value = Unique<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some(key) = access.next_key::<K>()? {
            if map.contains_key(&key) {
                let written = serde_json::to_string(&key).map_err(A::Error::custom)?;
                return Err(A::Error::custom(format!("{written} is named twice")));
            }
            map.insert(key, access.next_value()?);
        }
        Ok(Unique(map))
    }
}

impl<'de, K: Ord + Deserialize<'de> + Serialize, V: Deserialize<'de>> Deserialize<'de> for Unique<K, V> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_map(Once(PhantomData))
    }
}

impl<K: Ord + JsonSchema, V: JsonSchema> JsonSchema for Unique<K, V> {
    fn schema_name() -> Cow<'static, str> {
        BTreeMap::<K, V>::schema_name()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        BTreeMap::<K, V>::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_named_twice_is_told() {
        let err = serde_json::from_str::<Unique<String, u8>>(r#"{"a":1,"a":2}"#).expect_err("twice");
        assert!(err.to_string().contains("\"a\" is named twice"), "{err}");
    }
}
