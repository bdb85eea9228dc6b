//! `clarion job …`: what backends publish straight to the queue, described and checked before it is published.
//! It must not know how a broker is reached.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use clarion_engine::contract;
use clarion_engine::intake::request::Problem;
use clarion_engine::intake::{Reason, validate_request};
use clarion_engine::limits::PUBLISH_BYTES_MAX;
use clarion_engine::model;
use serde_json::{Value, json};

use super::error::{Error, at};
use super::publish::Publish;
use super::push::Platform;
use super::render;
use crate::terminal::{Terminal, plain};

/// `clarion job`
#[derive(Args, Debug)]
pub(crate) struct JobCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Print the JSON Schema of a request
    Schema {
        /// Print the AsyncAPI document instead: exchanges, routing keys, headers, outcome events
        #[arg(long)]
        asyncapi: bool,
    },
    /// Check a request as an engine would, as far as it can be known without the tenant
    Validate(Validate),
    /// Check a request and publish it: mandatory, confirmed, and again while the broker refuses or does not answer
    Publish(PublishRequest),
}

#[derive(Args, Debug)]
struct PublishRequest {
    #[command(flatten)]
    check: Check,
    #[command(flatten)]
    to: Publish,
}

#[derive(Args, Debug)]
struct Validate {
    #[command(flatten)]
    check: Check,
    /// The routing key that it will be published with, as in "t1.transactional"
    #[arg(long, value_name = "TENANT.LANE")]
    routing_key: Option<String>,
}

/// What is checked.
#[derive(Args, Debug)]
struct Check {
    /// A file with one request; "-" is standard input
    file: PathBuf,
    /// Check the content only for this platform; may be repeated
    #[arg(long)]
    platform: Vec<Platform>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl JobCommand {
    /// Runs it. `now` is Unix milliseconds.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) async fn run(self, terminal: &mut Terminal, now: i64) -> Result<(), Error> {
        match self.action {
            Action::Schema { asyncapi } => {
                let document = if asyncapi {
                    contract::asyncapi()
                } else {
                    contract::publish_schema()
                };
                Ok(terminal.raw(document.as_bytes())?)
            }
            Action::Validate(validate) => validate.run(terminal, now),
            Action::Publish(publish) => publish.run(terminal, now).await,
        }
    }
}

impl PublishRequest {
    async fn run(self, terminal: &mut Terminal, now: i64) -> Result<(), Error> {
        let body = read(&self.check.file)?;
        let problems = self
            .check
            .problems(&body, Some(&self.to.routing_key()), now);
        if !problems.is_empty() {
            return self.check.tell(&problems, terminal);
        }
        self.to.run(&body, self.check.json, terminal).await
    }
}

impl Validate {
    fn run(self, terminal: &mut Terminal, now: i64) -> Result<(), Error> {
        let body = read(&self.check.file)?;
        let problems = self.check.problems(&body, self.routing_key.as_deref(), now);
        self.check.tell(&problems, terminal)
    }
}

impl Check {
    fn problems(&self, body: &[u8], routing_key: Option<&str>, now: i64) -> Vec<Problem> {
        let mut platforms: Vec<model::Platform> =
            self.platform.iter().map(|one| one.model()).collect();
        if platforms.is_empty() {
            platforms = vec![model::Platform::Ios, model::Platform::Android];
        }
        validate_request(body, routing_key, &platforms, now)
    }

    /// Prints the result of a check.
    fn tell(&self, problems: &[Problem], terminal: &mut Terminal) -> Result<(), Error> {
        if self.json {
            terminal.line(render::json(&report(problems)))?;
        } else {
            for problem in problems {
                terminal.line(plain(&problem.to_string()))?;
            }
        }
        match problems.len() {
            0 if self.json => Ok(()),
            0 => Ok(terminal.note("the request is valid")?),
            1 => Err(Error::Unsuccessful("the request has a problem".to_owned())),
            count => Err(Error::Unsuccessful(format!(
                "the request has {count} problems"
            ))),
        }
    }
}

fn report(problems: &[Problem]) -> Value {
    let listed = problems.iter().map(|problem| {
        json!({
            "path": problem.pointer(),
            "kind": problem.kind.as_str(),
            "message": problem.message,
        })
    });
    let reason = (!problems.is_empty()).then(|| Reason::of(problems).as_str());
    json!({
        "valid": problems.is_empty(),
        "reason": reason,
        "problems": listed.collect::<Vec<_>>(),
    })
}

/// One byte more than may be is enough to see that it is too large.
fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let reader: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(at(path))?)
    };
    let mut body = Vec::new();
    let limit = PUBLISH_BYTES_MAX as u64 + 1;
    reader
        .take(limit)
        .read_to_end(&mut body)
        .map_err(at(path))?;
    Ok(body)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::command::Cli;
    use crate::terminal::Buffer;

    /// 2030-01-15T10:30:00Z
    const NOW: i64 = 1_894_703_400_000;

    /// What a line prints, and how it ends.
    fn run(line: &str) -> (Result<(), Error>, String) {
        let (out, talk) = (Buffer::default(), Buffer::default());
        let words = std::iter::once("clarion").chain(line.split(' '));
        let cli = Cli::try_parse_from(words).unwrap();
        let mut terminal = Terminal::into_buffers(out.clone(), talk);
        let result = cli.run(&mut terminal, NOW);
        (result, out.text())
    }

    fn file(body: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), body).unwrap();
        file
    }

    #[test]
    fn the_documents_in_the_repository_are_what_this_build_prints() {
        for (line, name, committed) in [
            (
                "job schema",
                "publish-request.schema.json",
                include_str!("../../docs/publish-request.schema.json"),
            ),
            (
                "job schema --asyncapi",
                "asyncapi.json",
                include_str!("../../docs/asyncapi.json"),
            ),
        ] {
            let (result, printed) = run(line);
            result.unwrap();
            assert!(
                printed == committed,
                "docs/{name} is out of date: write it again with `clarion {line} > docs/{name}`"
            );
        }
    }

    #[test]
    fn every_problem_is_printed_with_its_place() {
        let file = file(
            r#"{"v": 1, "user_ids": ["", "a"], "badge": -1, "alert": {"title": 5}, "options": {"ttl": 0}}"#,
        );
        let (result, printed) = run(&format!("job validate {}", file.path().display()));
        assert_eq!(result.unwrap_err().exit_code(), 1);
        let mut places: Vec<&str> = printed
            .lines()
            .map(|line| line.split(':').next().unwrap())
            .collect();
        places.sort_unstable();
        let expected = [
            "/alert/title",
            "/badge",
            "/message_id",
            "/options/ttl",
            "/user_ids/0",
        ];
        assert_eq!(places, expected, "{printed}");
    }

    #[test]
    fn what_is_printed_as_json_has_the_reason_of_the_dead_letter() {
        let file = file(r#"{"v": 2, "message_id": "m", "user_id": "u"}"#);
        let (result, printed) = run(&format!("job validate --json {}", file.path().display()));
        assert!(result.is_err());
        let printed: Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(
            (
                &printed["valid"],
                &printed["reason"],
                &printed["problems"][0]["path"]
            ),
            (&json!(false), &json!("unsupported_version"), &json!("/v"))
        );
    }

    #[test]
    fn a_valid_request_ends_well_for_its_routing_key_and_platforms() {
        let file = file(
            r#"{"v": 1, "message_id": "m", "tenant": "t1", "user_id": "u", "data": {"from": "x"}}"#,
        );
        let path = file.path().display();
        let ends_well = |line: &str| run(&format!("job validate {line} {path}")).0.is_ok();
        assert!(ends_well("--platform ios --routing-key t1.bulk"));
        // Google reserves the name; another tenant's key is not this one's.
        assert!(!ends_well("--routing-key t1.bulk"));
        assert!(!ends_well("--platform ios --routing-key t2.bulk"));
        assert!(!ends_well("--platform ios --routing-key t1.loud"));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let (result, _) = run("job validate /nonexistent/request.json");
        let error = result.unwrap_err();
        assert!(error.report().contains("/nonexistent/request.json"));
        assert_eq!(error.exit_code(), 1);
    }
}
