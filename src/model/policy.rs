//! The Policy: what the operator allows. Works with every field absent.

use super::limits::Asked;
use super::object;
use super::paths::HostPath;
use super::quantity::{Bytes, Span};
use schemars::JsonSchema;
use serde::Deserialize;

/// One TOML file, by default `/etc/runcell/policy.toml`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "Policy")]
pub struct Policy {
    /// The most that a job may have; the same names as a job's `limits`.
    #[serde(deserialize_with = "object::only")]
    pub ceilings: Asked,
    /// What happens to a job that asks for more than a ceiling.
    pub over: Over,
    /// Host ids that cells may be given, in steps of 65,536.
    pub ids: IdRange,
    /// Where the state of runs lives; default /run/runcell. `--root` and RUNCELL_ROOT win over it.
    pub root: Option<HostPath>,
    /// Where images live; default /var/lib/runcell, or `store` below the state directory where that is not the default one.
    pub store: Option<HostPath>,
    /// Bounds of an image that comes in.
    pub import: Import,
    /// What must stay free on the filesystem of the state directory: no run is started below it.
    pub keep_free: Bytes,
    /// Directories searched for `<name>/bundle.toml` before the shipped ones.
    pub bundles: Vec<HostPath>,
    pub runtime: RuntimeChoice,
    pub cgroup: CgroupChoice,
    pub warm: Warm,
    /// Host directories (and files) below which a job's bind mounts may lie. None by default.
    pub bind: Vec<HostPath>,
    /// As `bind`, for binds with `"writable": true`; each must also be allowed by `bind`.
    pub bind_writable: Vec<HostPath>,
    /// Host directories below which `{"file": …}` contents may lie. Everything by default: the caller could as well send the bytes.
    pub files: Vec<HostPath>,
    /// Directories below which `image` paths may lie. Everything by default.
    pub images: Vec<HostPath>,
    /// Whether a job may ask for `"network": "host"`.
    pub network_host: bool,
    /// Time for everything before the program starts.
    pub setup_timeout: Span,
    /// Bounds of katas.
    pub katas: Katas,
    /// Refuse jobs with a limit that cannot be enforced (default), rather than run them without it.
    pub best_effort: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// Run it with the ceiling.
    #[default]
    Clamp,
    /// Refuse it, exit code 3.
    Refuse,
}

/// Host ids `first ..= first + count - 1`, both for users and groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, try_from = "RawIdRange")]
#[schemars(with = "RawIdRange")]
pub struct IdRange {
    pub first: u32,
    pub count: u32,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawIdRange {
    /// A multiple of 65,536, at least 65,536: host root is never mapped.
    first: u32,
    /// How many ids; a multiple of 65,536.
    count: u32,
}

/// What an image may cost this host: archives come from strangers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Import {
    /// Sum of the sizes of its files, unpacked: the bound of decompression bombs.
    pub bytes: Bytes,
    /// Files, directories and links of all its layers.
    pub entries: u64,
    pub layers: u32,
    /// What must stay free on the store's filesystem: nothing is imported or built below it.
    pub keep_free: Bytes,
}

impl Default for Import {
    fn default() -> Self {
        Self { bytes: Bytes(16 << 30), entries: 2_000_000, layers: 127, keep_free: Bytes(256 << 20) }
    }
}

/// How much of this host katas may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Katas {
    /// Cells of one kata at one time.
    pub cells: u32,
    /// Cells of all katas at one time.
    pub cells_in_all: u32,
    /// Runs that may wait for one of these; the next is refused.
    pub queue: u32,
    /// Memory of one kata's cells together. Each has at most its part: so much by `cells`, less 64 MiB for its files to be
    /// brought back. Unbounded by default, apart from each cell's own limit.
    pub memory: Option<Bytes>,
    /// Bytes in a kata's shared directory, from which on it is read-only.
    pub shared: Bytes,
    /// Files and directories in there.
    pub shared_entries: u64,
    /// Have a cell wait for the next run of an avatar whenever one is over, as `kata run --refill` does.
    pub refill: bool,
}

impl Default for Katas {
    fn default() -> Self {
        Self {
            cells: 16,
            cells_in_all: 64,
            queue: 256,
            memory: None,
            shared: Bytes(64 << 20),
            shared_entries: 10_000,
            refill: false,
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RuntimeChoice {
    /// Absolute path or a name looked up in the usual directories (default `runc`).
    pub path: Option<String>,
    /// Refuse runtimes older than this, such as `"1.1.5"`.
    pub min_version: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CgroupChoice {
    /// The group below which all cells live, relative to the cgroup mount, such as `/runcell`.
    pub parent: Option<super::paths::GuestPath>,
}

/// Cells made ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Warm {
    /// How many of a job's shape `runcell run` has wait when it is over, unless `--refill` says it. None by default.
    pub refill: u16,
}

/// How many ids one cell has.
pub const IDS_PER_CELL: u32 = 65_536;

impl TryFrom<RawIdRange> for IdRange {
    type Error = String;

    fn try_from(raw: RawIdRange) -> Result<Self, String> {
        let RawIdRange { first, count } = raw;
        let fine = first >= IDS_PER_CELL
            && first.is_multiple_of(IDS_PER_CELL)
            && count >= IDS_PER_CELL
            && count.is_multiple_of(IDS_PER_CELL)
            && first.checked_add(count).is_some();
        match fine {
            true => Ok(Self { first, count }),
            false => {
                Err(format!("ids {first}+{count}: both must be multiples of 65536, first at least 65536, and the end below 2^32"))
            }
        }
    }
}

impl IdRange {
    /// How many cells can live at one time.
    pub fn slots(self) -> u32 {
        self.count / IDS_PER_CELL
    }

    /// The first host id of a slot below [`Self::slots`].
    pub fn slot(self, n: u32) -> u32 {
        self.first + n * IDS_PER_CELL
    }
}

impl Default for IdRange {
    /// 4,096 slots in the middle of what systemd reserves for containers (524288–1879048191, systemd's UIDS-GIDS document),
    /// far above the subordinate ids that useradd hands out from 100000 upwards.
    fn default() -> Self {
        Self { first: 1 << 30, count: 4096 * IDS_PER_CELL }
    }
}

fn everywhere() -> Vec<HostPath> {
    HostPath::try_from("/".to_owned()).into_iter().collect()
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            ceilings: Asked::default(),
            over: Over::default(),
            ids: IdRange::default(),
            root: None,
            store: None,
            import: Import::default(),
            keep_free: Bytes(8 << 20),
            bundles: Vec::new(),
            runtime: RuntimeChoice::default(),
            cgroup: CgroupChoice::default(),
            warm: Warm::default(),
            bind: Vec::new(),
            bind_writable: Vec::new(),
            files: everywhere(),
            images: everywhere(),
            network_host: false,
            setup_timeout: Span::from_millis(30_000),
            katas: Katas::default(),
            best_effort: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_root_can_never_be_in_a_range() {
        for (first, count) in [(0, 65_536), (1, 65_536), (65_536, 1), (65_536, 0), (u32::MAX - 65_535, 65_536)] {
            assert!(IdRange::try_from(RawIdRange { first, count }).is_err(), "{first}+{count}");
        }
        assert!(IdRange::try_from(RawIdRange { first: 65_536, count: 131_072 }).is_ok());
    }

    #[test]
    fn an_empty_file_is_the_default() {
        let read: Policy = toml::from_str("").expect("empty is fine");
        assert_eq!(format!("{read:?}"), format!("{:?}", Policy::default()));
    }
}
