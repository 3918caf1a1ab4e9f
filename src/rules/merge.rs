//! Job over bundle template: what the job says wins, entry by entry for `env` and `limits`.

use crate::model::job::Job;
use crate::model::template::Template;

/// The job with the template's defaults filled in.
pub fn merge(job: Job, template: Template) -> Job {
    let mut env = template.env;
    env.extend(job.env.0);
    Job {
        image: job.image.or(template.image),
        argv: job.argv.or(template.argv),
        env,
        cwd: job.cwd.or(template.cwd),
        user: job.user.or(template.user),
        collect: job.collect.or(template.collect),
        network: job.network.or(template.network),
        limits: job.limits.over(template.limits),
        ..job
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_job_wins_and_the_template_fills() {
        let job: Job = serde_json::from_str(r#"{"argv":["a"],"env":{"X":"job"},"limits":{"wall":1}}"#).expect("job");
        let template: Template = toml::from_str(
            "argv = ['b']\ncwd = '/tmp'\n[env]\nX = 'tpl'\nY = 'tpl'\n[limits]\nwall = '9s'\npids = 7\nrlimits = { core = 1 }\n",
        )
        .expect("template");
        let merged = merge(job, template);
        assert_eq!(merged.argv.expect("argv")[0].as_str(), "a");
        assert_eq!(merged.cwd.expect("cwd").as_str(), "/tmp");
        let env: Vec<_> = merged.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(env, [("X", "job"), ("Y", "tpl")]);
        assert_eq!((merged.limits.wall.map(|w| w.nanos()), merged.limits.pids), (Some(1_000_000_000), Some(7)));
    }
}
