//! Flags that spell a job. Each becomes its JSON field, so that flags and files are judged by one grammar.

use crate::model::document;
use crate::model::fault::Fault;
use crate::model::job::Job;
use crate::model::recipe::{COMPDIR, GFSDIR};
use clap::Args;
use serde_json::{Map, Value, json};

#[derive(Debug, Default, Args)]
pub(super) struct JobFlags {
    /// The caller's name for the job
    #[arg(long)]
    id: Option<String>,
    /// Bundle template
    #[arg(long)]
    bundle: Option<String>,
    /// "host", an image of the store by name or digest, or a root filesystem directory (begin it with / or .)
    #[arg(long)]
    image: Option<String>,
    /// Let the program write anywhere in the root filesystem; what it writes there dies with the run
    #[arg(long)]
    writable_root: bool,
    /// Environment variable
    #[arg(long, short = 'e', value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Working directory inside
    #[arg(long)]
    cwd: Option<String>,
    /// User inside
    #[arg(long, value_name = "UID[:GID]")]
    user: Option<String>,
    /// A host file for stdin, - for our own, none for nothing
    #[arg(long, value_name = "FILE|-|none")]
    pub stdin: Option<String>,
    /// Put a host file into /sandbox
    #[arg(long, value_name = "NAME=HOSTFILE")]
    file: Vec<String>,
    /// Bind a host directory or file (the policy must allow it)
    #[arg(long, value_name = "HOST:TARGET[:rw]")]
    bind: Vec<String>,
    /// Mount a computation directory read-only at /computation; COMPDIR names it (the policy must allow it)
    #[arg(long, value_name = "DIR")]
    compdir: Option<String>,
    /// Mount a global file store at /gfs; GFSDIR names it (the policy must allow it)
    #[arg(long, value_name = "DIR")]
    gfsdir: Option<String>,
    /// Let the program write there
    #[arg(long, requires = "gfsdir")]
    gfs_writable: bool,
    /// Mount a tmpfs
    #[arg(long, value_name = "TARGET:SIZE")]
    tmpfs: Vec<String>,
    /// Bring back files that match, relative to /sandbox
    #[arg(long, value_name = "GLOB")]
    collect: Vec<String>,
    /// none or host
    #[arg(long)]
    network: Option<String>,
    /// Echoed in the outcome
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// Wall-clock limit
    #[arg(long, value_name = "TIME", help_heading = "Limits")]
    wall: Option<String>,
    /// CPU time limit
    #[arg(long, value_name = "TIME", help_heading = "Limits")]
    cpu: Option<String>,
    /// Time between TERM and KILL
    #[arg(long, value_name = "TIME", help_heading = "Limits")]
    grace: Option<String>,
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    memory: Option<String>,
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    swap: Option<String>,
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pids: Option<String>,
    /// Bandwidth in cores, such as 0.5
    #[arg(long, value_name = "CORES", help_heading = "Limits")]
    cpus: Option<String>,
    #[arg(long, value_name = "1-10000", help_heading = "Limits")]
    cpu_weight: Option<String>,
    /// Which cores, such as 0-3,6
    #[arg(long, value_name = "LIST", help_heading = "Limits")]
    cpuset: Option<String>,
    /// Bytes a stream
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    output: Option<String>,
    /// Size of /sandbox and of /tmp
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    sandbox: Option<String>,
    #[arg(long, value_name = "N", help_heading = "Limits")]
    inodes: Option<String>,
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    file_size: Option<String>,
    #[arg(long, value_name = "N", help_heading = "Limits")]
    open_files: Option<String>,
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    stack: Option<String>,
    /// Throughput, such as /dev/vda:rbps=10MiB,wiops=500
    #[arg(long, value_name = "DEVICE:KEY=N,…", help_heading = "Limits")]
    io: Vec<String>,
    /// Any other resource limit of setrlimit(2), such as core=0
    #[arg(long, value_name = "NAME=N", help_heading = "Limits")]
    rlimit: Vec<String>,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, value_name = "ARGV")]
    pub argv: Vec<String>,
}

fn malformed(flag: &str, value: &str, form: &str) -> Fault {
    Fault::caller("usage", format!("--{flag} {value:?} is not of the form {form}")).at(flag.to_owned())
}

/// `a=b` words as an object.
fn pairs(flag: &str, words: &[String]) -> Result<Value, Fault> {
    let mut map = Map::new();
    for word in words {
        let (name, value) = word.split_once('=').ok_or_else(|| malformed(flag, word, "NAME=VALUE"))?;
        map.insert(name.to_owned(), value.into());
    }
    Ok(map.into())
}

/// A number where it is one, else the text: sizes and durations may be either.
fn figure(text: &str) -> Value {
    text.parse::<u64>().map(Value::from).or_else(|_| text.parse::<f64>().map(Value::from)).unwrap_or_else(|_| text.into())
}

/// A path of the command line, relative to where we are; symlinks are resolved here, as the caller's own words.
fn host(flag: &str, path: &str) -> Result<String, Fault> {
    let real =
        std::fs::canonicalize(path).map_err(|e| Fault::caller("usage", format!("--{flag} {path}: {e}")).at(flag.to_owned()))?;
    real.into_os_string().into_string().map_err(|_| malformed(flag, path, "UTF-8"))
}

impl JobFlags {
    /// A program and its arguments, and no flag.
    pub(super) fn of(argv: Vec<String>) -> Self {
        Self { argv, ..Self::default() }
    }

    /// Whether a flag or the program was given at all.
    fn object(&self) -> Result<Map<String, Value>, Fault> {
        let mut job = Map::new();
        let plain =
            [("id", &self.id), ("bundle", &self.bundle), ("cwd", &self.cwd), ("user", &self.user), ("network", &self.network)];
        job.extend(plain.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?.into()))));
        if let Some(image) = &self.image {
            // A name of the store may have slashes too, so a path shows by how it begins.
            let image = if image.starts_with(['/', '.']) { host("image", image)? } else { image.clone() };
            job.insert("image".into(), image.into());
        }
        if self.writable_root {
            job.insert("writable_root".into(), true.into());
        }
        if !self.argv.is_empty() {
            job.insert("argv".into(), json!(self.argv));
        }
        if !self.collect.is_empty() {
            job.insert("collect".into(), json!(self.collect));
        }
        job.insert("env".into(), self.env()?);
        job.insert("labels".into(), pairs("label", &self.label)?);
        job.insert("files".into(), self.files()?);
        job.insert("mounts".into(), self.mounts()?);
        job.insert("limits".into(), self.limits()?);
        if let Some(path) = self.stdin.as_deref().filter(|s| *s != "-" && *s != "none") {
            job.insert("stdin".into(), json!({"file": host("stdin", path)?}));
        }
        Ok(job)
    }

    /// What was said, and where the two directories of a computation are.
    fn env(&self) -> Result<Value, Fault> {
        let given = [(&self.compdir, COMPDIR), (&self.gfsdir, GFSDIR)];
        let places = given.into_iter().filter(|(dir, _)| dir.is_some()).map(|(_, (name, target))| format!("{name}={target}"));
        pairs("env", &places.chain(self.env.iter().cloned()).collect::<Vec<_>>())
    }

    fn files(&self) -> Result<Value, Fault> {
        let mut files = Map::new();
        for word in &self.file {
            let (name, path) = word.split_once('=').ok_or_else(|| malformed("file", word, "NAME=HOSTFILE"))?;
            files.insert(name.to_owned(), json!({"file": host("file", path)?}));
        }
        Ok(files.into())
    }

    fn mounts(&self) -> Result<Value, Fault> {
        let mut mounts = Vec::new();
        for word in &self.bind {
            let (rest, writable) = word.strip_suffix(":rw").map_or((word.as_str(), false), |rest| (rest, true));
            let (source, target) = rest.rsplit_once(':').ok_or_else(|| malformed("bind", word, "HOST:TARGET[:rw]"))?;
            mounts.push(json!({"target": target, "bind": host("bind", source)?, "writable": writable}));
        }
        for (flag, dir, (_, target), writable) in
            [("compdir", &self.compdir, COMPDIR, false), ("gfsdir", &self.gfsdir, GFSDIR, self.gfs_writable)]
        {
            if let Some(dir) = dir {
                mounts.push(json!({"target": target, "bind": host(flag, dir)?, "writable": writable}));
            }
        }
        for word in &self.tmpfs {
            let (target, size) = word.rsplit_once(':').ok_or_else(|| malformed("tmpfs", word, "TARGET:SIZE"))?;
            mounts.push(json!({"target": target, "tmpfs": figure(size)}));
        }
        Ok(mounts.into())
    }

    fn limits(&self) -> Result<Value, Fault> {
        let mut limits = Map::new();
        let figures = [
            ("wall", &self.wall),
            ("cpu", &self.cpu),
            ("grace", &self.grace),
            ("memory", &self.memory),
            ("swap", &self.swap),
            ("pids", &self.pids),
            ("cpus", &self.cpus),
            ("cpu_weight", &self.cpu_weight),
            ("output", &self.output),
            ("sandbox", &self.sandbox),
            ("inodes", &self.inodes),
            ("file_size", &self.file_size),
            ("open_files", &self.open_files),
            ("stack", &self.stack),
        ];
        limits.extend(figures.into_iter().filter_map(|(name, value)| Some((name.to_owned(), figure(value.as_deref()?)))));
        if let Some(set) = &self.cpuset {
            limits.insert("cpuset".into(), set.clone().into());
        }
        let mut io = Vec::new();
        for word in &self.io {
            let (device, rest) = word.split_once(':').ok_or_else(|| malformed("io", word, "DEVICE:KEY=N,…"))?;
            let mut one = Map::from_iter([("device".to_owned(), device.into())]);
            for pair in rest.split(',') {
                let (key, value) = pair.split_once('=').ok_or_else(|| malformed("io", word, "DEVICE:KEY=N,…"))?;
                one.insert(key.to_owned(), figure(value));
            }
            io.push(Value::from(one));
        }
        if !io.is_empty() {
            limits.insert("io".into(), io.into());
        }
        if !self.rlimit.is_empty() {
            let Value::Object(texts) = pairs("rlimit", &self.rlimit)? else { unreachable!("pairs makes objects") };
            let numbers = texts.into_iter().map(|(name, value)| (name, figure(value.as_str().unwrap_or_default())));
            limits.insert("rlimits".into(), Value::Object(numbers.collect()));
        }
        Ok(limits.into())
    }

    /// The job that the flags spell.
    ///
    /// # Errors
    /// exit 2, naming flag or field.
    pub(super) fn job(&self) -> Result<Job, Fault> {
        document::job(Value::Object(self.object()?).to_string().as_bytes())
    }
}
