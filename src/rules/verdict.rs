//! Evidence -> verdict. The hand that stopped the job wrote the cause; nothing is inferred from 137.

use super::diagnosis;
use crate::model::evidence::{Channel, Evidence, Fate, Stop};
use crate::model::limits::Limits;
use crate::model::outcome::{Proof, Verdict};
use crate::model::wire::Exit;

/// The verdict with its words.
#[derive(Debug, PartialEq, Eq)]
pub struct Judgement {
    pub verdict: Verdict,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub reason: String,
    pub hint: Option<String>,
    pub proof: Proof,
}

/// First match wins, in the order of the contract.
pub fn judge(e: &Evidence, limits: &Limits) -> Judgement {
    let exit = if let Fate::Ran(exit) = e.fate { exit } else { None };
    let over = |stream: &crate::model::outcome::Stream| stream.bytes > limits.output.0;
    let cpu_spent = limits.cpu.is_some_and(|top| e.usage.cpu_ns.is_some_and(|spent| spent > top.nanos()));
    let (verdict, reason) = match (&e.host_fault, e.stop, &e.fate) {
        (Some(why), ..) => (Verdict::HostError, why.clone()),
        (_, Some(Stop::Cancelled), _) => (Verdict::Cancelled, "the job was cancelled".into()),
        (.., Fate::NotStarted(failure)) => (Verdict::NotStarted, diagnosis::reason(failure)),
        (_, Some(Stop::OutputLimit(channel)), _) => (Verdict::OutputLimit, flood(channel, limits)),
        _ if over(&e.stdout) => (Verdict::OutputLimit, flood(Channel::Stdout, limits)),
        _ if over(&e.stderr) => (Verdict::OutputLimit, flood(Channel::Stderr, limits)),
        _ if e.usage.oom_kills.is_some_and(|n| n > 0) || e.stop == Some(Stop::Memory) => {
            (Verdict::Memory, format!("the program reached its memory limit of {}", limits.memory))
        }
        (_, stop, _) if stop == Some(Stop::CpuTime) || cpu_spent => {
            let limit = limits.cpu.map(|c| c.to_string()).unwrap_or_default();
            (Verdict::CpuTime, format!("the program used up its cpu time of {limit}"))
        }
        (_, Some(Stop::WallTime), _) => (Verdict::WallTime, format!("the program ran into its time limit of {}", limits.wall)),
        _ => match exit {
            Some(Exit::Signal(n)) => (Verdict::Signaled, format!("the program was ended by signal {}", signal_name(n))),
            Some(Exit::Code(0)) => (Verdict::Ok, "the program exited with code 0".into()),
            Some(Exit::Code(n)) => (Verdict::Nonzero, format!("the program exited with code {n}")),
            None => (Verdict::HostError, "the cell ended without a report".into()),
        },
    };
    let (exit_code, signal) = match exit {
        Some(Exit::Code(n)) => (Some(n), None),
        Some(Exit::Signal(n)) => (None, Some(n)),
        None => (None, None),
    };
    let mut proof = Proof { oom_kills: e.usage.oom_kills, stopped_for: e.stop.map(cause), ..Proof::default() };
    let hint = match &e.fate {
        Fate::NotStarted(failure) => {
            proof.errno = Some(diagnosis::errno_name(failure.errno));
            diagnosis::hint(failure)
        }
        _ => None,
    };
    Judgement { verdict, exit_code, signal, reason, hint, proof }
}

fn cause(stop: Stop) -> String {
    match stop {
        Stop::Cancelled => "cancelled",
        Stop::OutputLimit(Channel::Stdout) => "output_limit stdout",
        Stop::OutputLimit(Channel::Stderr) => "output_limit stderr",
        Stop::Memory => "memory",
        Stop::CpuTime => "cpu_time",
        Stop::WallTime => "wall_time",
    }
    .to_owned()
}

fn flood(channel: Channel, limits: &Limits) -> String {
    let name = if channel == Channel::Stdout { "stdout" } else { "stderr" };
    format!("the program wrote more than {} to {name}", limits.output)
}

/// `SIGSEGV` for 11; the bare number where it has no name.
pub fn signal_name(n: i32) -> String {
    nix::sys::signal::Signal::try_from(n).map_or_else(|_| n.to_string(), |s| s.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::outcome::{Collected, Stream, Usage};
    use crate::model::wire::{StartFailure, Step};

    fn evidence(fate: Fate, stop: Option<Stop>) -> Evidence {
        let stream = || Stream::new(Vec::new(), 0);
        Evidence {
            fate,
            stop,
            host_fault: None,
            usage: Usage::default(),
            stdout: stream(),
            stderr: stream(),
            files: Collected::default(),
        }
    }

    fn ran(exit: Exit) -> Fate {
        Fate::Ran(Some(exit))
    }

    fn verdict(e: &Evidence) -> Verdict {
        judge(e, &Limits { cpu: Some(crate::model::quantity::Span::from_millis(10)), ..Limits::default() }).verdict
    }

    #[test]
    fn a_137_of_its_own_is_no_timeout() {
        assert_eq!(verdict(&evidence(ran(Exit::Code(137)), None)), Verdict::Nonzero);
        assert_eq!(verdict(&evidence(ran(Exit::Signal(9)), None)), Verdict::Signaled);
        assert_eq!(verdict(&evidence(ran(Exit::Code(0)), Some(Stop::WallTime))), Verdict::WallTime);
    }

    #[test]
    fn precedence_is_the_contracts() {
        let failure = StartFailure { step: Step::Exec, errno: 2, path: "x".into(), head: serde_bytes::ByteBuf::new(), mode: 0 };
        let mut e = evidence(Fate::NotStarted(failure), Some(Stop::Cancelled));
        e.usage.oom_kills = Some(1);
        e.usage.cpu_ns = Some(u64::MAX);
        e.stdout.bytes = u64::MAX;
        e.host_fault = Some("broken".into());
        let mut seen = vec![verdict(&e)];
        e.host_fault = None;
        seen.push(verdict(&e));
        e.stop = Some(Stop::WallTime);
        seen.push(verdict(&e));
        e.fate = ran(Exit::Signal(9));
        seen.push(verdict(&e));
        e.stdout.bytes = 0;
        seen.push(verdict(&e));
        e.usage.oom_kills = Some(0);
        seen.push(verdict(&e));
        e.usage.cpu_ns = Some(5);
        seen.push(verdict(&e));
        e.stop = None;
        seen.push(verdict(&e));
        e.fate = ran(Exit::Code(3));
        seen.push(verdict(&e));
        e.fate = ran(Exit::Code(0));
        seen.push(verdict(&e));
        use Verdict::{Cancelled, CpuTime, HostError, Memory, Nonzero, NotStarted, Ok, OutputLimit, Signaled, WallTime};
        assert_eq!(seen, [HostError, Cancelled, NotStarted, OutputLimit, Memory, CpuTime, WallTime, Signaled, Nonzero, Ok]);
    }

    #[test]
    fn a_cell_that_vanished_is_our_fault() {
        assert_eq!(verdict(&evidence(Fate::Ran(None), None)), Verdict::HostError);
        assert_eq!(verdict(&evidence(Fate::Ran(None), Some(Stop::WallTime))), Verdict::WallTime);
    }
}
