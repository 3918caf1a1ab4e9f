//! `runcell image …`: words to use-cases, answers as one document or as lines for people.

use super::report;
use super::words::{BuildArgs, Common, ImageWords as Words};
use crate::model::code::ExitCode;
use crate::model::fault::Fault;
use crate::model::job::ImageRef;
use crate::model::policy::Policy;
use crate::model::quantity::{Bytes, Span};
use crate::model::reference::ImageName;
use crate::work::prune::Wishes;
use crate::work::scene::Live;
use crate::work::stage::Workshop;
use crate::work::{build, export, gc, image, import, pull, settings, source, verify};
use serde_json::json;
use std::os::fd::AsFd;
use std::path::Path;

pub(super) fn image(common: &Common, words: Words) -> Result<ExitCode, Fault> {
    let policy = settings::policy(common.policy.as_deref())?;
    let depot = settings::depot(common.root.as_deref(), &policy);
    match words {
        Words::List { json } => {
            let listed = image::list(&depot)?;
            Ok(if json { report::json(&listed) } else { report::images(&listed) })
        }
        Words::Build(args) => {
            let shop = Workshop {
                depot: &depot,
                policy: &policy,
                root: common.root.as_deref(),
                runtime: common.runtime.as_deref(),
                best_effort: args.best_effort,
                live: None,
            };
            build(shop, &args)
        }
        Words::Inspect { image } => Ok(report::json(&image::inspect(&depot, &reference(&image)?)?)),
        Words::Tag { image, name } => {
            let name = self::name("name", &name)?;
            let digest = image::tag(&depot, &reference(&image)?, &name)?;
            Ok(report::json(&json!({"name": name, "digest": digest})))
        }
        Words::Import { source, name, which } => {
            let name = name.map(|name| self::name("name", &name)).transpose()?;
            let mut progress = report::Progress::new("read");
            let mut bench = None;
            let source = source::open(&depot, &source, &mut bench, policy.import)?;
            let imported = import::import(import::Request {
                depot: &depot,
                bounds: policy.import,
                source,
                name,
                platform: which.platform,
                pick: which.pick,
                labels: Default::default(),
                progress: &mut |bytes| progress.more(bytes),
            });
            progress.over();
            Ok(report::json(&imported?))
        }
        Words::Pull { reference, name, platform, authfile, insecure } => {
            let name = self::name("name", &name.unwrap_or_else(|| reference.clone()))?;
            let mut progress = report::Progress::new("read");
            let environment = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(std::path::PathBuf::from);
            let credentials = authfile.or_else(|| pull::auth_file(environment));
            let pulled = pull::pull(pull::Request {
                depot: &depot,
                bounds: policy.import,
                reference: &reference,
                name,
                platform,
                credentials: credentials.as_deref(),
                insecure,
                progress: &mut |bytes| progress.more(bytes),
            });
            progress.over();
            Ok(report::json(&pulled?))
        }
        Words::Export { image, out, tag } => Ok(report::json(&export::export(&depot, &reference(&image)?, &tag, &out)?)),
        Words::Verify { image } => {
            let verified = verify::verify(&depot, &reference(&image)?)?;
            let code = report::json(&verified);
            Ok(if verified.differences.is_empty() { code } else { ExitCode::from(4) })
        }
        Words::Remove { image } => Ok(report::json(&image::remove(&depot, &reference(&image)?)?)),
    }
}

fn build(shop: Workshop<'_>, args: &BuildArgs) -> Result<ExitCode, Fault> {
    let name = args.name.as_deref().map(|word| name("name", word)).transpose()?;
    let (_, stderr) = report::streams();
    // Stdout is for the answer; what stages say is for whoever watches.
    let live = (!args.json).then(|| Live { stdout: stderr.as_fd(), stderr: stderr.as_fd() });
    let (shop, json) = (Workshop { live, ..shop }, args.json);
    let built = build::build(&shop, &args.dir, name, &mut |news| {
        if !json {
            report::build_goes_on(news);
        }
    })?;
    Ok(if json { report::json(&built) } else { report::built(&built) })
}

/// `runcell gc`, whose wishes are about images.
pub(super) fn gc(
    policy: &Policy,
    root: Option<&Path>,
    keep_bytes: Option<String>,
    unused_for: Option<String>,
    dry_run: bool,
) -> Result<gc::Swept, Fault> {
    let usage = |flag: &'static str| move |why: String| Fault::caller("usage", why).at(flag);
    let keep_bytes = keep_bytes.map(|text| text.parse().or_else(|_| Bytes::from_text(&text).map(|b| b.0)));
    let unused_for = unused_for.map(|text| Span::from_text(&text).map(|span| span.nanos() / 1_000_000));
    let wishes = Wishes {
        keep_bytes: keep_bytes.transpose().map_err(usage("keep-bytes"))?,
        unused_for_ms: unused_for.transpose().map_err(usage("unused-for"))?,
    };
    gc::gc(policy, root, wishes, dry_run)
}

/// An image of the store.
fn reference(word: &str) -> Result<ImageRef, Fault> {
    match ImageRef::try_from(word.to_owned()) {
        Ok(reference @ (ImageRef::Named(_) | ImageRef::Digest(_))) => Ok(reference),
        Ok(_) => Err(Fault::caller("image:!exists", format!("{word} is not in the store"))
            .at("image")
            .hint("runcell image list shows what is")),
        Err(why) => Err(Fault::caller("usage", why).at("image")),
    }
}

fn name(field: &str, word: &str) -> Result<ImageName, Fault> {
    ImageName::try_from(word.to_owned()).map_err(|why| Fault::caller("usage", why).at(field))
}
