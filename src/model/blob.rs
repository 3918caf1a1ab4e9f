//! Content as it travels in JSON: text where it is UTF-8, base64 where it is not.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bytes on their way out: exactly one of `text` and `base64` is present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Blob {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// How many bytes there were in all, kept or not.
    pub bytes: u64,
    /// Whether less than `bytes` is kept here.
    pub truncated: bool,
}

impl Blob {
    /// `kept` is the beginning of a content that was `bytes` long.
    pub fn new(kept: Vec<u8>, bytes: u64) -> Self {
        let truncated = (kept.len() as u64) < bytes;
        match String::from_utf8(kept) {
            Ok(text) => Self { text: Some(text), base64: None, bytes, truncated },
            Err(e) => Self::not_whole_utf8(e, bytes, truncated),
        }
    }

    fn not_whole_utf8(e: std::string::FromUtf8Error, bytes: u64, truncated: bool) -> Self {
        let at = e.utf8_error().valid_up_to();
        let cut_by_us = truncated && e.utf8_error().error_len().is_none();
        let mut kept = e.into_bytes();
        if cut_by_us {
            // The cap fell inside a character: text it was, and text it stays without that character.
            kept.truncate(at);
            return Self { text: String::from_utf8(kept).ok(), base64: None, bytes, truncated };
        }
        Self { text: None, base64: Some(STANDARD.encode(kept)), bytes, truncated }
    }
}

/// The bytes a base64 text stands for (standard alphabet, padded).
pub fn decode(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|e| format!("not valid base64: {e}"))
}

/// Bytes as standard base64.
pub fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_cut_inside_a_character_stays_text() {
        let blob = Blob::new("aé".as_bytes()[..2].to_vec(), 10);
        assert_eq!((blob.text.as_deref(), blob.truncated, blob.bytes), (Some("a"), true, 10));
        let blob = Blob::new(vec![b'a', 0xc3], 2);
        assert_eq!((blob.text, blob.base64.as_deref()), (None, Some("YcM=")));
    }

    proptest! {
        #[test]
        fn nothing_is_lost(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let blob = Blob::new(bytes.clone(), bytes.len() as u64);
            let back = match (blob.text, blob.base64) {
                (Some(text), None) => text.into_bytes(),
                (None, Some(b64)) => decode(&b64).expect("ours"),
                both => panic!("exactly one: {both:?}"),
            };
            prop_assert_eq!(back, bytes);
        }
    }
}
