//! The Job: what the caller asks for. Unknown fields are errors; every value is checked as it is read.

use super::avatar::Avatar;
use super::blob;
use super::entry::EntryPath;
use super::limits::Asked;
use super::names::{BundleName, JobId};
use super::object::{self, Object};
use super::paths::{ABSOLUTE, GuestPath, HostPath, RelPath};
use super::quantity::Bytes;
use super::reference::{DigestPrefix, ImageName, NAME};
use super::unique::Unique;
use schemars::JsonSchema;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The largest single argument or environment entry, its NUL included (`MAX_ARG_STRLEN`, execve(2)).
const ARG_MAX_ONE: usize = 128 * 1024;

/// One program to run once.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "Job")]
pub struct Job {
    /// The caller's own name for this job; echoed in the outcome.
    pub id: Option<JobId>,
    /// The bundle template whose defaults apply (default: `default`).
    pub bundle: Option<BundleName>,
    /// `host`, an image of the store (`python:3`, or its digest), or the absolute path of a root filesystem directory.
    pub image: Option<ImageRef>,
    /// The program and its arguments. A name without a slash is looked up in the PATH of `env`.
    pub argv: Option<Vec<Text>>,
    /// What takes the place of an `argv[0]` that does not exist: a bundle's, with its argv. No job says so itself.
    #[serde(skip)]
    pub fallbacks: Vec<Text>,
    /// The whole environment besides the bundle's; nothing of the host's leaks in.
    pub env: Unique<EnvName, Text>,
    /// Where the program starts (default /sandbox).
    pub cwd: Option<GuestPath>,
    /// Numeric user and group inside the cell, `"uid"` or `"uid:gid"` (default 1000:1000).
    pub user: Option<User>,
    /// What the program reads from descriptor 0 (default: nothing).
    pub stdin: Option<Content>,
    /// Files to be put into /sandbox before the program starts.
    pub files: Unique<RelPath, FileIn>,
    /// `kata run` alone: files of the avatar's home that are to be gone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deleted: Vec<EntryPath>,
    /// `kata run` alone, in place of `files` and `deleted`: all that the home is to hold. Makes kata and avatar anew where they are
    /// gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all: Option<Unique<RelPath, FileIn>>,
    /// More of the host, or of memory, inside the cell.
    pub mounts: Vec<Mount>,
    /// Globs of what to bring back from /sandbox; `["**"]` is everything new or changed (default: nothing).
    pub collect: Option<Vec<Glob>>,
    /// `none` (default) has loopback alone; `host` needs the policy's leave.
    pub network: Option<Network>,
    /// Bounds; see the limits table.
    #[serde(deserialize_with = "object::only")]
    pub limits: Asked,
    /// Whether the root filesystem can be written: into a tmpfs that dies with the run, bounded like /sandbox
    /// (`limits.sandbox`, `limits.inodes`). What the image holds never changes.
    pub writable_root: bool,
    /// Whose job it is: one avatar's jobs may share what no other's may.
    pub avatar: Option<Avatar>,
    /// Anything the caller wants to find again in the outcome.
    pub labels: Unique<String, String>,
}

/// Text that can be an argument or an environment value: no NUL, below 128 KiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("maxLength" = ARG_MAX_ONE - 1, "pattern" = r"^[^\u0000]*$"))]
pub struct Text(String);

/// The name of an environment variable: not empty, no `=`, no NUL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = r"^[^=\u0000]+$"))]
pub struct EnvName(String);

/// A glob over paths relative to /sandbox (`*`, `**`, `?`, `[…]`, `{a,b}`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("maxLength" = 4096, "pattern" = r"^(?!\.\.(/|$))[^/](?!.*/\.\.(/|$))"))]
pub struct Glob(String);

/// Which root filesystem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = format!("^sha256:[0-9a-f]{{12,64}}$|{NAME}|{ABSOLUTE}")))]
pub enum ImageRef {
    /// The host's own /usr, read-only, over a synthetic root.
    Host,
    /// A directory that holds a root filesystem.
    Directory(HostPath),
    /// An image of the store, by a name that points to it.
    Named(ImageName),
    /// An image of the store, by its digest or the beginning of that.
    Digest(DigestPrefix),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Hash)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^[0-9]{1,5}(:[0-9]{1,5})?$"))]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Hash)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    #[default]
    None,
    Host,
}

/// Bytes that go in. In JSON: a plain string, or an object with exactly one of `text`, `base64`, `file`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Bytes(Vec<u8>),
    /// A regular file of the host, opened without following a final symlink, and copied.
    File(HostPath),
}

/// A file that goes in: its content, and a mode (default 0644).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileIn {
    pub content: Content,
    pub mode: u32,
}

/// Something mounted into the cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Object<RawMount>", into = "RawMount")]
#[schemars(with = "RawMount")]
pub struct Mount {
    pub target: GuestPath,
    pub source: MountSource,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountSource {
    Bind { source: HostPath, writable: bool },
    Tmpfs { size: Bytes },
}

/// A mount as written: `target` and exactly one of `bind`, `tmpfs`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = exactly_one(&["bind", "tmpfs"])))]
pub struct RawMount {
    target: GuestPath,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bind: Option<HostPath>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tmpfs: Option<Bytes>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    writable: bool,
}

/// A content as written in its long form.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("oneOf" = exactly_one(&["text", "base64", "file"])))]
struct RawContent {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<HostPath>,
    /// Octal, at most 0777: set-uid, set-gid and sticky bits have no place in a sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = "^0*[0-7]{1,3}$"))]
    mode: Option<String>,
}

impl TryFrom<String> for Text {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        match s {
            s if s.contains('\0') => Err("contains a NUL byte, which execve(2) cannot pass on".into()),
            s if s.len() >= ARG_MAX_ONE => Err(format!(
                "is {} bytes long; one argument or variable may have {}; use a file or stdin",
                s.len(),
                ARG_MAX_ONE - 1
            )),
            s => Ok(Self(s)),
        }
    }
}

impl TryFrom<String> for EnvName {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        let fine = !s.is_empty() && !s.contains(['=', '\0']) && s.len() < ARG_MAX_ONE;
        if fine { Ok(Self(s)) } else { Err(format!("{s:?} cannot name a variable: it must not be empty nor contain '=' or NUL")) }
    }
}

impl TryFrom<String> for Glob {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        if s.is_empty() || s.len() > 4096 || s.starts_with('/') || s.split('/').any(|p| p == "..") {
            return Err(format!(
                "{s:?} is not a usable glob: it is relative to /sandbox and holds no '..'; read writable mounts on the host"
            ));
        }
        fast_glob::validate(&s).map_err(|e| e.to_string())?;
        Ok(Self(s))
    }
}

impl TryFrom<String> for ImageRef {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        match s.as_str() {
            "host" => Ok(Self::Host),
            path if path.starts_with('/') => HostPath::try_from(s).map(Self::Directory),
            digest if digest.starts_with("sha256:") => DigestPrefix::try_from(s).map(Self::Digest),
            _ => ImageName::try_from(s)
                .map(Self::Named)
                .map_err(|why| format!("{why}; or use \"host\", a digest, or the absolute path of a root filesystem directory")),
        }
    }
}

impl From<ImageRef> for String {
    fn from(i: ImageRef) -> Self {
        match i {
            ImageRef::Host => "host".into(),
            ImageRef::Directory(path) => path.into(),
            ImageRef::Named(name) => name.into(),
            ImageRef::Digest(digest) => digest.into(),
        }
    }
}

impl TryFrom<String> for User {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        let (uid, gid) = s.split_once(':').unwrap_or((&s, &s));
        let number = |text: &str| text.parse().ok().filter(|_| text.len() <= 5 && !text.starts_with('+'));
        match (number(uid), number(gid)) {
            // 65534 is the overflow id: whoever has it owns all that is not mapped.
            (Some(uid), Some(gid)) if uid < 65534 && gid < 65534 => Ok(Self { uid, gid }),
            _ => Err(format!("{s:?} is not a user: write \"uid\" or \"uid:gid\", numbers from 0 to 65533")),
        }
    }
}

impl From<User> for String {
    fn from(u: User) -> Self {
        format!("{}:{}", u.uid, u.gid)
    }
}

impl TryFrom<Object<RawMount>> for Mount {
    type Error = String;

    fn try_from(Object(raw): Object<RawMount>) -> Result<Self, String> {
        let source = match (raw.bind, raw.tmpfs) {
            (Some(source), None) => MountSource::Bind { source, writable: raw.writable },
            (None, Some(Bytes(0))) => return Err("a tmpfs of 0 bytes would be unlimited; give it a size".into()),
            (None, Some(size)) => MountSource::Tmpfs { size },
            _ => return Err("a mount has exactly one of \"bind\" and \"tmpfs\"".into()),
        };
        Ok(Self { target: raw.target, source })
    }
}

impl From<Mount> for RawMount {
    fn from(m: Mount) -> Self {
        let (bind, tmpfs, writable) = match m.source {
            MountSource::Bind { source, writable } => (Some(source), None, writable),
            MountSource::Tmpfs { size } => (None, Some(size), false),
        };
        Self { target: m.target, bind, tmpfs, writable }
    }
}

impl RawContent {
    fn content(self) -> Result<Content, String> {
        match (self.text, self.base64, self.file) {
            (Some(text), None, None) => Ok(Content::Bytes(text.into_bytes())),
            (None, Some(b64), None) => blob::decode(&b64).map(Content::Bytes),
            (None, None, Some(path)) => Ok(Content::File(path)),
            _ => Err("needs exactly one of \"text\", \"base64\" and \"file\"".into()),
        }
    }

    fn file(mut self) -> Result<FileIn, String> {
        let mode = self.mode.take().map_or(Ok(0o644), |m| mode(&m))?;
        Ok(FileIn { content: self.content()?, mode })
    }
}

impl Job {
    /// This job, and where it is silent `base`: flags over a file. Written as one literal, so a new field cannot be forgotten.
    #[must_use]
    pub fn over(self, base: Self) -> Self {
        let mut merged = base;
        merged.env.extend(self.env.0);
        merged.files.extend(self.files.0);
        merged.labels.extend(self.labels.0);
        merged.mounts.extend(self.mounts);
        merged.deleted.extend(self.deleted);
        Self {
            id: self.id.or(merged.id),
            bundle: self.bundle.or(merged.bundle),
            image: self.image.or(merged.image),
            argv: self.argv.or(merged.argv),
            fallbacks: Vec::new(),
            env: merged.env,
            cwd: self.cwd.or(merged.cwd),
            user: self.user.or(merged.user),
            stdin: self.stdin.or(merged.stdin),
            files: merged.files,
            deleted: merged.deleted,
            all: self.all.or(merged.all),
            mounts: merged.mounts,
            collect: self.collect.or(merged.collect),
            network: self.network.or(merged.network),
            limits: self.limits.over(merged.limits),
            writable_root: self.writable_root || merged.writable_root,
            avatar: self.avatar.or(merged.avatar),
            labels: merged.labels,
        }
    }
}

/// For schemas: of these fields one is there, and not null.
fn exactly_one(names: &[&str]) -> Vec<serde_json::Value> {
    let one = |name: &&str| serde_json::json!({"required": [name], "properties": {*name: {"not": {"type": "null"}}}});
    names.iter().map(one).collect()
}

/// An octal mode of at most 0777.
pub fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 && !text.starts_with('+') => Ok(mode),
        _ => Err(format!("mode {text:?} is not octal within 0777, such as \"0755\"")),
    }
}

/// Reads the plain string form itself and leaves the long form to [`RawContent`].
struct TextOr<T>(fn(RawContent) -> Result<T, String>);

impl<'de, T> Visitor<'de> for TextOr<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, or an object with one of \"text\", \"base64\", \"file\"")
    }

    fn visit_str<E: de::Error>(self, v: &str) -> Result<T, E> {
        self.visit_string(v.to_owned())
    }

    fn visit_string<E: de::Error>(self, v: String) -> Result<T, E> {
        (self.0)(RawContent { text: Some(v), ..RawContent::default() }).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        let raw = RawContent::deserialize(de::value::MapAccessDeserializer::new(map))?;
        (self.0)(raw).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for FileIn {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(TextOr(RawContent::file))
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(TextOr(|raw| match raw.mode {
            Some(_) => Err("stdin has no mode".into()),
            None => raw.content(),
        }))
    }
}

fn raw(content: &Content, mode: Option<u32>) -> RawContent {
    let mode = mode.map(|m| format!("{m:04o}"));
    match content {
        Content::File(path) => RawContent { file: Some(path.clone()), mode, ..RawContent::default() },
        Content::Bytes(bytes) => match String::from_utf8(bytes.clone()) {
            Ok(text) => RawContent { text: Some(text), mode, ..RawContent::default() },
            Err(e) => RawContent { base64: Some(blob::encode(e.as_bytes())), mode, ..RawContent::default() },
        },
    }
}

impl Serialize for Content {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        raw(self, None).serialize(s)
    }
}

impl Serialize for FileIn {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        raw(&self.content, Some(self.mode)).serialize(s)
    }
}

macro_rules! text_or_object {
    ($($name:ident),*) => {$(
        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let long = generator.subschema_for::<RawContent>();
                schemars::json_schema!({"anyOf": [{"type": "string"}, long]})
            }
        }
    )*};
}

text_or_object!(Content, FileIn);

macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<$name> for String {
            fn from(t: $name) -> Self {
                t.0
            }
        }
    )*};
}

as_text!(Text, EnvName, Glob);

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Job, String> {
        let d = &mut serde_json::Deserializer::from_str(json);
        serde_path_to_error::deserialize(d).map_err(|e| format!("{}: {}", e.path(), e.inner()))
    }

    #[test]
    fn a_file_is_text_base64_or_a_host_file() {
        let job = read(r#"{"files":{"a":"x","b":{"base64":"AAE=","mode":"0755"},"c":{"file":"/h/i"}}}"#).expect("fine");
        let kinds: Vec<_> = job.files.values().map(|f| (f.content.clone(), f.mode)).collect();
        assert_eq!(kinds[0], (Content::Bytes(b"x".to_vec()), 0o644));
        assert_eq!(kinds[1], (Content::Bytes(vec![0, 1]), 0o755));
        assert!(matches!(&kinds[2].0, Content::File(p) if p.as_str() == "/h/i"));
    }

    #[test]
    fn errors_name_the_field() {
        for (json, path) in [
            (r#"{"limits":{"memory":-1}}"#, "limits.memory"),
            (r#"{"limits":{"memry":1}}"#, "limits.memry"),
            (r#"{"files":{"a":{"text":"x","base64":"eA=="}}}"#, "files.a"),
            (r#"{"files":{"../a":"x"}}"#, "files"),
            (r#"{"mounts":[{"target":"data","tmpfs":1}]}"#, "mounts[0]"),
            (r#"{"argv":["a\u0000b"]}"#, "argv[0]"),
            (r#"{"argv":"ls"}"#, "argv"),
            (r#"{"env":{"A=B":"c"}}"#, "env"),
            (r#"{"cwd":"/proc/../x"}"#, "cwd"),
            (r#"{"files":{"a":{"text":"x","mode":"4755"}}}"#, "files.a"),
        ] {
            let err = read(json).expect_err(json);
            assert!(err.starts_with(path), "{json}: {err}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let job = read(
            r#"{"argv":["a"],"user":"7:8","stdin":{"base64":"/w=="},"files":{"s":{"text":"t","mode":"0700"}},
                "mounts":[{"target":"/o","bind":"/h","writable":true},{"target":"/t","tmpfs":"1MiB"}],"image":"/img"}"#,
        )
        .expect("fine");
        let again = read(&serde_json::to_string(&job).expect("writes")).expect("reads");
        assert_eq!(format!("{job:?}"), format!("{again:?}"));
    }
}
