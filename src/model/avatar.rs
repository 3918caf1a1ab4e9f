//! Katas and those who practise them: how they are called.

use super::object::Object;
use super::text::text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Bitcoin's alphabet: no 0, O, I, l, so that an id can be read aloud and typed.
const BASE58: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const ID_LENGTH: usize = 10;

/// The uid inside a cell of the first avatar; the others follow in alphabetical order.
const FIRST_UID: u32 = 40_000;

/// Who can take part, in alphabetical order. An avatar's place in here is its uid's, so that none is ever moved.
pub const ANIMALS: [&str; 64] = [
    "alligator",
    "antelope",
    "bat",
    "bear",
    "bee",
    "beetle",
    "buffalo",
    "butterfly",
    "cheetah",
    "crab",
    "deer",
    "dolphin",
    "eagle",
    "elephant",
    "flamingo",
    "fox",
    "frog",
    "gopher",
    "gorilla",
    "heron",
    "hippo",
    "hummingbird",
    "hyena",
    "jellyfish",
    "kangaroo",
    "kingfisher",
    "koala",
    "leopard",
    "lion",
    "lizard",
    "lobster",
    "moose",
    "mouse",
    "ostrich",
    "owl",
    "panda",
    "parrot",
    "peacock",
    "penguin",
    "porcupine",
    "puffin",
    "rabbit",
    "raccoon",
    "ray",
    "rhino",
    "salmon",
    "seal",
    "shark",
    "skunk",
    "snake",
    "spider",
    "squid",
    "squirrel",
    "starfish",
    "swan",
    "tiger",
    "toucan",
    "tuna",
    "turtle",
    "vulture",
    "walrus",
    "whale",
    "wolf",
    "zebra",
];

/// What a kata is called: 10 characters of base58.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^[1-9A-HJ-NP-Za-km-z]{10}$"))]
pub struct KataId(String);

/// What an avatar is called: one of [`ANIMALS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("enum" = &ANIMALS[..]))]
pub struct AvatarName(u8);

/// An avatar of a kata, as a job names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Object<RawAvatar>", into = "RawAvatar")]
#[schemars(with = "RawAvatar")]
pub struct Avatar {
    pub kata: KataId,
    pub name: AvatarName,
}

/// An avatar as written.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawAvatar {
    kata: KataId,
    name: AvatarName,
}

impl KataId {
    /// From 128 random bits, of which it keeps 58.
    pub fn new(random: u128) -> Self {
        let digit = |n: u32| BASE58[(random / 58u128.pow(n) % 58) as usize] as char;
        Self((0..ID_LENGTH as u32).map(digit).collect())
    }
}

text!(KataId);

impl AvatarName {
    /// All of them, in alphabetical order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..ANIMALS.len() as u8).map(Self)
    }

    pub fn as_str(&self) -> &'static str {
        ANIMALS[usize::from(self.0)]
    }

    /// From 0 to 63.
    pub fn index(&self) -> u32 {
        self.0.into()
    }

    /// User and group inside its cells.
    pub fn uid(&self) -> u32 {
        FIRST_UID + self.index()
    }
}

impl TryFrom<String> for KataId {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        match s.len() == ID_LENGTH && s.bytes().all(|b| BASE58.contains(&b)) {
            true => Ok(Self(s)),
            false => Err(format!("{s:?} is not a kata id: it has 10 characters of base58 (no 0, O, I and l)")),
        }
    }
}

impl TryFrom<String> for AvatarName {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        let known = ANIMALS.iter().position(|animal| *animal == s);
        known
            .map(|at| Self(at as u8))
            .ok_or_else(|| format!("{s:?} is not an avatar's name: it is one of {}", ANIMALS.join(", ")))
    }
}

impl TryFrom<Object<RawAvatar>> for Avatar {
    type Error = String;

    fn try_from(Object(raw): Object<RawAvatar>) -> Result<Self, String> {
        Ok(Self { kata: raw.kata, name: raw.name })
    }
}

impl From<Avatar> for RawAvatar {
    fn from(avatar: Avatar) -> Self {
        Self { kata: avatar.kata, name: avatar.name }
    }
}

impl From<AvatarName> for String {
    fn from(name: AvatarName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for AvatarName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn animals_are_in_order_and_keep_their_uids() {
        assert!(ANIMALS.is_sorted());
        let uids: Vec<u32> = AvatarName::all().map(|name| name.uid()).collect();
        assert_eq!(uids, (40_000..40_064).collect::<Vec<_>>());
        assert_eq!((ANIMALS[0], ANIMALS[63]), ("alligator", "zebra"));
        let lion = AvatarName::try_from("lion".to_owned()).expect("a name");
        assert_eq!((lion.as_str(), lion.index()), ("lion", 28));
        for bad in ["", "Lion", "unicorn", "../lion", "lion "] {
            assert!(AvatarName::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn kata_ids_are_ten_characters_of_base58() {
        for random in [0, 1, u128::MAX, 0x1234_5678_9abc_def0_1234_5678] {
            let id = KataId::new(random);
            assert_eq!(KataId::try_from(id.as_str().to_owned()), Ok(id));
        }
        assert_ne!(KataId::new(1), KataId::new(2));
        for bad in ["", "4kq9Zx2aB", "4kq9Zx2aBcc", "4kq9Zx2aB0", "4kq9Zx2aBl", "../../etc.", "4kq9Zx2aé"] {
            assert!(KataId::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_avatar_is_an_object_of_two() {
        let read = |json: &str| serde_json::from_str::<Avatar>(json);
        let avatar = read(r#"{"kata":"4kq9Zx2aBc","name":"lion"}"#).expect("fine");
        assert_eq!(serde_json::to_string(&avatar).expect("spelled"), r#"{"kata":"4kq9Zx2aBc","name":"lion"}"#);
        for bad in [r#"["4kq9Zx2aBc","lion"]"#, r#"{"kata":"4kq9Zx2aBc"}"#, r#"{"kata":"4kq9Zx2aBc","name":"lion","x":1}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
