//! Job over bundle template: what the job says wins, entry by entry for `env` and `limits`.

use super::fallback;
use crate::model::fault::Fault;
use crate::model::image::Defaults;
use crate::model::job::{EnvName, Job, Text};
use crate::model::template::Template;
use crate::model::unique::Unique;

/// The job with an image's defaults filled in, after its template's. An image's argv are its entrypoint and command as one: a job
/// that has an argv of its own replaces both.
///
/// # Errors
/// exit 3 where the image holds what no program can be given.
pub fn with_image(job: Job, image: Defaults) -> Result<Job, Fault> {
    let useless = |what: &str, why: String| {
        Fault::host("image:unusable", format!("the image's {what} cannot be used: {why}"))
            .at("image")
            .hint("runcell image inspect shows its configuration; a job may say otherwise")
    };
    let mut env = Unique::default();
    for line in image.env {
        let (name, value) = line.split_once('=').unwrap_or((&line, ""));
        let name = EnvName::try_from(name.to_owned()).map_err(|why| useless("Env", why))?;
        env.0.insert(name, Text::try_from(value.to_owned()).map_err(|why| useless("Env", why))?);
    }
    env.extend(job.env.0);
    let argv: Vec<Text> =
        image.argv.into_iter().map(Text::try_from).collect::<Result<_, _>>().map_err(|why| useless("Cmd", why))?;
    let argv = job.argv.or((!argv.is_empty()).then_some(argv));
    let (argv, fallbacks) = match (argv, image.everytime.is_empty()) {
        (Some(argv), false) => {
            (Some(after(&image.everytime, argv, job.fallbacks).map_err(|why| useless("everytime", why))?), Vec::new())
        }
        (argv, _) => (argv, job.fallbacks),
    };
    Ok(Job { argv, fallbacks, env, cwd: job.cwd.or(image.cwd), user: job.user.or(image.user), ..job })
}

/// The program after what its image wants to be run before it, in one shell: what is exported there the program sees, and
/// where a command fails its code is the answer.
fn after(everytime: &[String], argv: Vec<Text>, fallbacks: Vec<Text>) -> Result<Vec<Text>, String> {
    let chosen = fallback::chosen(&fallbacks.into_iter().map(String::from).collect::<Vec<_>>());
    let script = format!("set -e\n{}\nset +e\n{chosen}exec \"$@\"", everytime.join("\n"));
    let shell = ["/bin/sh", "-c", &script, "everytime"].map(|word| Text::try_from(word.to_owned()));
    shell.into_iter().chain(argv.into_iter().map(Ok)).collect()
}

/// The job with the template's defaults filled in.
pub fn merge(job: Job, template: Template) -> Job {
    let mut env = template.env;
    env.extend(job.env.0);
    Job {
        image: job.image.or(template.image),
        fallbacks: if job.argv.is_none() && template.argv.is_some() { template.fallbacks } else { Vec::new() },
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
    use crate::model::paths::GuestPath;

    #[test]
    fn an_image_fills_what_nobody_said_and_runs_its_own_commands_first() {
        let image = Defaults {
            argv: vec!["/entry".into(), "cmd".into()],
            env: vec!["PATH=/image".into(), "X=image".into()],
            cwd: Some(GuestPath::try_from("/app".to_owned()).expect("a path")),
            ..Defaults::default()
        };
        let job: Job = serde_json::from_str(r#"{"env":{"X":"job"}}"#).expect("job");
        let merged = with_image(job, image.clone()).expect("fine");
        let words = |j: &Job| j.argv.iter().flatten().map(|t| t.as_str().to_owned()).collect::<Vec<_>>();
        assert_eq!(words(&merged), ["/entry", "cmd"]);
        assert_eq!(merged.cwd.expect("cwd").as_str(), "/app");
        let env: Vec<_> = merged.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(env, [("PATH", "/image"), ("X", "job")]);
        let job: Job = serde_json::from_str(r#"{"argv":["own"]}"#).expect("job");
        assert_eq!(words(&with_image(job.clone(), image).expect("fine")), ["own"]);
        let first = Defaults { everytime: vec!["export A=1".into()], ..Defaults::default() };
        let wrapped = words(&with_image(job.clone(), first.clone()).expect("fine"));
        assert_eq!((wrapped[2].contains("export A=1\n"), wrapped.last().map(String::as_str)), (true, Some("own")));
        let bundled = Job { fallbacks: vec![Text::try_from("other".to_owned()).expect("a text")], ..job };
        let wrapped = with_image(bundled, first).expect("fine");
        assert!(words(&wrapped)[2].contains("'other'") && wrapped.fallbacks.is_empty(), "the shell is what must exist");
        let bad = Defaults { env: vec!["=x".into()], ..Defaults::default() };
        assert!(with_image(Job::default(), bad).is_err());
    }

    #[test]
    fn the_job_wins_and_the_template_fills() {
        let job: Job = serde_json::from_str(r#"{"argv":["a"],"env":{"X":"job"},"limits":{"wall":1}}"#).expect("job");
        let template: Template = toml::from_str(
            "argv = ['b']\nfallbacks = ['c']\ncwd = '/tmp'\n[env]\nX = 'tpl'\nY = 'tpl'\n[limits]\nwall = '9s'\npids = 7\nrlimits = { core = 1 }\n",
        )
        .expect("template");
        let silent = merge(Job::default(), template.clone());
        assert_eq!((silent.argv.expect("argv")[0].as_str(), silent.fallbacks[0].as_str()), ("b", "c"));
        let without = merge(Job::default(), Template { argv: None, ..template.clone() });
        assert!(without.fallbacks.is_empty(), "an image's argv has none");
        let merged = merge(job, template);
        assert_eq!((merged.argv.expect("argv")[0].as_str(), merged.fallbacks.len()), ("a", 0), "they are the template's argv's");
        assert_eq!(merged.cwd.expect("cwd").as_str(), "/tmp");
        let env: Vec<_> = merged.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(env, [("X", "job"), ("Y", "tpl")]);
        assert_eq!((merged.limits.wall.map(|w| w.nanos()), merged.limits.pids), (Some(1_000_000_000), Some(7)));
    }
}
