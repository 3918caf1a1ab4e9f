//! Structs that are read from objects alone. What serde derives would as well take an array of the fields in their order,
//! which no schema of ours allows and which would change its meaning with every new field.

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// A `T` that was written as an object.
#[derive(Debug)]
pub struct Object<T>(pub T);

struct FromMap<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FromMap<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        only(d).map(Self)
    }
}

/// For single fields: `#[serde(deserialize_with = "object::only")]`.
///
/// # Errors
/// of reading, and where it is no object.
pub fn only<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<T, D::Error> {
    d.deserialize_map(FromMap(PhantomData))
}

/// The same for optional lists.
///
/// # Errors
/// as of [`only`].
pub fn each<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<T>>, D::Error> {
    let list: Option<Vec<Object<T>>> = Deserialize::deserialize(d)?;
    Ok(list.map(|list| list.into_iter().map(|object| object.0).collect()))
}
