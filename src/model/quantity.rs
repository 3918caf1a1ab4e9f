//! Amounts with their units: bytes and spans of time, as a job may write them.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// A number of bytes: an integer, or a string such as `"64MiB"` (binary) or `"10MB"` (decimal).
/// Exact over the whole range of u64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// A span of time with nanosecond grain: a string such as `"250ms"`, or a number of seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(u64);

const BYTE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

const SPAN_UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// `12.5MiB` with the given units, exactly: the fraction must come out as a whole number.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let scale = units.iter().find(|(name, _)| *name == unit).map(|(_, scale)| u128::from(*scale))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 18 || (number.contains('.') && fraction.is_empty()) {
        return None;
    }
    let whole: u128 = whole.parse::<u64>().ok()?.into();
    let tens = 10u128.pow(fraction.len() as u32);
    let part: u128 = if fraction.is_empty() { 0 } else { fraction.parse::<u64>().ok()?.into() };
    if !(part * scale).is_multiple_of(tens) {
        return None;
    }
    u64::try_from(whole * scale + part * scale / tens).ok()
}

impl Bytes {
    /// Reads `"64MiB"`; a bare number needs a unit (`"64B"`), as a string without one is ambiguous.
    pub fn from_text(text: &str) -> Result<Self, String> {
        parse(text, BYTE_UNITS).map(Self).ok_or_else(|| {
            format!("{text:?} is not a size; write an integer of bytes or a string such as \"64MiB\" (KiB, MiB, GiB, TiB, kB, MB, GB, TB, B)")
        })
    }
}

impl Span {
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms * 1_000_000)
    }

    pub const fn from_nanos(ns: u64) -> Self {
        Self(ns)
    }

    pub const fn nanos(self) -> u64 {
        self.0
    }

    pub const fn duration(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// Reads `"250ms"`, `"10s"`, `"1.5m"`.
    pub fn from_text(text: &str) -> Result<Self, String> {
        parse(text, SPAN_UNITS).map(Self).ok_or_else(|| {
            format!("{text:?} is not a duration; write a number of seconds or a string such as \"250ms\", \"10s\", \"2m\"")
        })
    }

    fn from_seconds(seconds: f64) -> Option<Self> {
        let nanos = seconds * 1e9;
        (nanos.is_finite() && nanos >= 0.0 && nanos < u64::MAX as f64).then_some(Self(nanos.round() as u64))
    }
}

impl fmt::Display for Span {
    /// The largest unit that loses nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, scale) = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)]
            .into_iter()
            .find(|(_, scale)| self.0.is_multiple_of(*scale))
            .unwrap_or(("ns", 1));
        write!(f, "{}{unit}", self.0 / scale)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, scale) = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)]
            .into_iter()
            .find(|(_, scale)| self.0.is_multiple_of(*scale) && self.0 >= *scale)
            .unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / scale)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(self.0)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size: an integer of bytes or a string such as \"64MiB\"")
    }

    fn visit_u64<E: de::Error>(self, v: u64) -> Result<Bytes, E> {
        Ok(Bytes(v))
    }

    fn visit_i64<E: de::Error>(self, v: i64) -> Result<Bytes, E> {
        u64::try_from(v).map(Bytes).map_err(|_| E::custom(format!("{v} is negative; a size must not be")))
    }

    fn visit_str<E: de::Error>(self, v: &str) -> Result<Bytes, E> {
        Bytes::from_text(v).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(BytesVisitor)
    }
}

struct SpanVisitor;

impl Visitor<'_> for SpanVisitor {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration: a number of seconds or a string such as \"250ms\"")
    }

    fn visit_u64<E: de::Error>(self, v: u64) -> Result<Span, E> {
        v.checked_mul(1_000_000_000).map(Span).ok_or_else(|| E::custom("the duration is beyond 584 years"))
    }

    fn visit_i64<E: de::Error>(self, v: i64) -> Result<Span, E> {
        u64::try_from(v)
            .map_err(|_| E::custom(format!("{v} is negative; a duration must not be")))
            .and_then(|v| self.visit_u64(v))
    }

    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Span, E> {
        Span::from_seconds(v).ok_or_else(|| E::custom(format!("{v} is not a usable number of seconds")))
    }

    fn visit_str<E: de::Error>(self, v: &str) -> Result<Span, E> {
        Span::from_text(v).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(SpanVisitor)
    }
}

impl JsonSchema for Bytes {
    fn schema_name() -> Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "bytes: an integer, or a string with a unit",
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": u64::MAX},
                {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? ?(B|KiB|MiB|GiB|TiB|kB|KB|MB|GB|TB)$"}
            ]
        })
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "a duration: a number of seconds, or a string with a unit",
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? ?(ns|us|ms|s|m|h|d)$"}
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        assert_eq!(Bytes::from_text("64MiB"), Ok(Bytes(64 << 20)));
        assert_eq!(Bytes::from_text("1.5GiB"), Ok(Bytes(3 << 29)));
        assert_eq!(Bytes::from_text("10MB"), Ok(Bytes(10_000_000)));
        assert_eq!(Bytes::from_text("18446744073709551615B"), Ok(Bytes(u64::MAX)));
        for bad in ["", "64", "MiB", "-1B", "1..5MiB", "1.MiB", "0.3B", "64 mib", "18446744073709551616B", "99999999TiB"] {
            assert!(Bytes::from_text(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_read_as_people_write_them() {
        assert_eq!(Span::from_text("250ms"), Ok(Span::from_millis(250)));
        assert_eq!(Span::from_text("1.5s"), Ok(Span::from_millis(1500)));
        assert_eq!(serde_json::from_str::<Span>("0.25").expect("seconds"), Span::from_millis(250));
        assert_eq!(serde_json::from_str::<Span>("10").expect("seconds"), Span::from_millis(10_000));
        for bad in ["-1", "1e300", "\"10\"", "\"1 day\"", "true", "null"] {
            assert!(serde_json::from_str::<Span>(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(n in any::<u64>()) {
            prop_assert_eq!(Span::from_text(&Span::from_nanos(n).to_string()), Ok(Span::from_nanos(n)));
            prop_assert_eq!(Bytes::from_text(&Bytes(n).to_string()), Ok(Bytes(n)));
            let json = serde_json::to_string(&Bytes(n)).expect("serializes");
            prop_assert_eq!(serde_json::from_str::<Bytes>(&json).expect("reads"), Bytes(n));
        }

        #[test]
        fn no_text_makes_it_panic(s in ".{0,40}") {
            let _ = Bytes::from_text(&s);
            let _ = Span::from_text(&s);
        }
    }
}
