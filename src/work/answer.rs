//! The outcome, put together of what was fixed before the job and of what was seen of it.

use super::host::Host;
use crate::model::colour::ColourRule;
use crate::model::evidence::Evidence;
use crate::model::limits::Limits;
use crate::model::names::JobId;
use crate::model::outcome::{Cleanup, Outcome, Phases, Provenance, Start, VERSION};
use crate::model::plan::Plan;
use crate::model::unique::Unique;
use crate::os::{probe, sys};
use crate::rules::{colour, verdict};
use std::collections::BTreeMap;

/// What does not depend on what is seen.
pub(super) struct Frame {
    id: Option<JobId>,
    labels: Unique<String, String>,
    start: Start,
    limits: Limits,
    enforced: BTreeMap<String, String>,
    provenance: Provenance,
    colours: Vec<ColourRule>,
}

impl Frame {
    /// `digest` is the job's, `image` what its plan has resolved.
    pub(super) fn new(
        id: Option<JobId>,
        labels: Unique<String, String>,
        digest: &str,
        plan: &Plan,
        host: &Host,
        image: String,
    ) -> Self {
        let runtime = &host.runtime.version;
        Self {
            id,
            labels,
            start: Start::Cold,
            limits: plan.limits.clone(),
            enforced: plan.enforced.iter().map(|(limit, how)| ((*limit).to_owned(), (*how).to_owned())).collect(),
            provenance: Provenance {
                runcell: env!("CARGO_PKG_VERSION").to_owned(),
                runtime: format!("{} {}", runtime.name, runtime.version),
                kernel: probe::kernel(),
                image,
                bundle: plan.shape.bundle.to_string(),
                job: format!("sha256:{digest}"),
                landlock: sys::landlock_abi(),
            },
            colours: Vec::new(),
        }
    }

    /// With rules that give the result a colour.
    #[must_use]
    pub(super) fn coloured(self, colours: Vec<ColourRule>) -> Self {
        Self { colours, ..self }
    }

    #[must_use]
    pub(super) fn started(self, start: Start) -> Self {
        Self { start, ..self }
    }

    /// `buried`: why the cell cannot be proven empty, where it cannot.
    pub(super) fn outcome(self, run: String, evidence: Evidence, phases: Phases, buried: Result<(), String>) -> Outcome {
        let judged = verdict::judge(&evidence, &self.limits);
        let cleanup = if buried.is_ok() { Cleanup::Complete } else { Cleanup::Incomplete };
        let coloured = colour::judge(
            &self.colours,
            &colour::Result {
                verdict: judged.verdict,
                exit_code: judged.exit_code,
                stdout: &evidence.stdout,
                stderr: &evidence.stderr,
            },
        );
        let mut proof = judged.proof;
        proof.detail = buried.err();
        Outcome {
            version: VERSION,
            line: None,
            id: self.id.map(String::from),
            run,
            verdict: judged.verdict,
            exit_code: judged.exit_code,
            signal: judged.signal,
            signal_name: judged.signal.map(verdict::signal_name),
            reason: judged.reason,
            hint: judged.hint,
            evidence: proof,
            stdout: evidence.stdout,
            stderr: evidence.stderr,
            files: evidence.files,
            usage: evidence.usage,
            phases,
            start: self.start,
            limits: self.limits,
            enforced: self.enforced,
            cores: None,
            quality: None,
            cleanup,
            colour: coloured.as_ref().map(|c| c.colour.clone()),
            colour_reason: coloured.and_then(|c| c.reason),
            avatar: None,
            labels: self.labels,
            provenance: self.provenance,
        }
    }
}
