//! `clarion publisher …`: who may publish to the queue for which tenant, or hear what came of it, as users of RabbitMQ.
//! It must not know how the broker keeps its users.

mod management;
mod permits;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use clarion_auth::TenantId;
use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

use self::management::Management;
use self::permits::{Kind, Permits, users};
use super::error::{Error, at, invalid};
use super::render;
use crate::terminal::Terminal;

/// Longest name of a user.
const NAME_MAX: usize = 64;
/// Largest file with a password, bytes.
const PASSWORD_MAX: usize = 1_024;

/// `clarion publisher`
#[derive(Args, Debug)]
pub(crate) struct PublisherCommand {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    broker: Broker,
    /// Print the result as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Make a user who may publish for one tenant, or hear its outcome events, and nothing else
    Add(Add),
    /// List the users of the virtual host, and mark those whom no entry holds to a tenant
    List,
}

#[derive(Args, Debug)]
struct Add {
    /// Name of the user: letters, digits, dots, dashes and underscores
    #[arg(value_parser = user_name)]
    name: String,
    /// Whose pushes it may publish
    #[arg(long, env = "CLARION_TENANT", value_name = "TENANT_ID")]
    tenant: TenantId,
    /// Let it hear the tenant's outcome events instead: it may make queues TENANT.events.… and bind them
    #[arg(long)]
    listen: bool,
    /// Take the user's password from this file; without it one is made and printed, once
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// Where the broker's management API is, and what is managed there.
#[derive(Args, Debug)]
#[command(next_help_heading = "Broker")]
struct Broker {
    /// Address of RabbitMQ's management API (`rabbitmq-plugins enable rabbitmq_management`)
    #[arg(
        long,
        global = true,
        env = "CLARION_MANAGEMENT_URL",
        value_name = "URL"
    )]
    #[arg(default_value = "http://127.0.0.1:15672")]
    management_url: String,
    /// User of the management API, an administrator
    #[arg(
        long,
        global = true,
        env = "CLARION_MANAGEMENT_USER",
        value_name = "USER"
    )]
    #[arg(default_value = "guest")]
    management_user: String,
    /// File with that user's password; else it is taken from CLARION_MANAGEMENT_PASSWORD
    #[arg(
        long,
        global = true,
        env = "CLARION_MANAGEMENT_PASSWORD_FILE",
        value_name = "FILE"
    )]
    management_password_file: Option<PathBuf>,
    /// The virtual host of queue.url
    #[arg(long, global = true, value_name = "VHOST", default_value = "/")]
    vhost: String,
    /// queue.prefix of the deployment
    #[arg(long, global = true, value_name = "PREFIX", default_value = "clarion")]
    prefix: String,
}

/// Names the variable with the password. Never a flag: the process list shows those.
const PASSWORD_VARIABLE: &str = "CLARION_MANAGEMENT_PASSWORD";

fn user_name(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(fits) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "use 1 to {NAME_MAX} letters, digits, dots, dashes and underscores"
        ))
    }
}

impl PublisherCommand {
    /// Runs it.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) async fn run(self, terminal: &mut Terminal) -> Result<(), Error> {
        let Self {
            action,
            broker,
            json,
        } = self;
        let management = broker.management()?;
        match action {
            Action::Add(add) => add.run(&management, (&broker, json), terminal).await,
            Action::List => list(&management, (&broker, json), terminal).await,
        }
    }
}

impl Broker {
    fn management(&self) -> Result<Management, Error> {
        let password = match &self.management_password_file {
            Some(path) => read_password(path)?,
            None => std::env::var(PASSWORD_VARIABLE)
                .map(Zeroizing::new)
                .map_err(|_| Error::Missing {
                    what: "no password for the management API",
                    advice: "set CLARION_MANAGEMENT_PASSWORD or CLARION_MANAGEMENT_PASSWORD_FILE",
                })?,
        };
        Management::new(
            &self.management_url,
            (&self.management_user, &password),
            &self.vhost,
        )
    }
}

impl Add {
    async fn run(
        self,
        management: &Management,
        (broker, json): (&Broker, bool),
        terminal: &mut Terminal,
    ) -> Result<(), Error> {
        let password = match &self.password_file {
            Some(path) => read_password(path)?,
            None => made_up(),
        };
        let kind = if self.listen {
            Kind::Listens
        } else {
            Kind::Publishes
        };
        let permits = Permits::of(kind, &self.tenant, &broker.prefix);
        management.add(&self.name, &password, &permits).await?;
        let is_new = self.password_file.is_none();
        if json {
            let password = is_new.then(|| password.as_str());
            terminal.line(render::json(&json!({
                "user": self.name, "tenant": self.tenant.as_str(), "may": kind.as_str(),
                "vhost": broker.vhost, "password": password,
            })))?;
            return Ok(());
        }
        terminal.note(format!(
            "{} {}",
            self.name,
            kind.says(&self.tenant, &broker.prefix)
        ))?;
        if is_new {
            terminal.note("its password, which is shown only now:")?;
            terminal.line(password.as_str())?;
        }
        Ok(())
    }
}

async fn list(
    management: &Management,
    (broker, json): (&Broker, bool),
    terminal: &mut Terminal,
) -> Result<(), Error> {
    let (permissions, entries) = management.permissions().await?;
    let users = users(&permissions, &entries, &broker.prefix);
    if json {
        terminal.line(render::json(&json!({ "users": users })))?;
    } else {
        let columns = [
            ("USER", "/user"),
            ("TENANT", "/tenant"),
            ("MAY", "/may"),
            ("", "/warning"),
        ];
        for line in render::table(&columns, &users) {
            terminal.line(line)?;
        }
    }
    let unheld = users
        .iter()
        .filter(|user| !user["warning"].is_null())
        .count();
    if unheld > 0 {
        terminal.note(format!(
            "{unheld} without an entry: RabbitMQ holds them to no tenant. Clarion's own user is \
             one of them; a backend's must not be."
        ))?;
    }
    Ok(())
}

/// The first line of a file.
fn read_password(path: &Path) -> Result<Zeroizing<String>, Error> {
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(at(path))?);
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() || line.len() > PASSWORD_MAX {
        return Err(invalid(
            path.display().to_string(),
            "its first line must be the password, 1 to 1024 bytes",
        ));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

/// 244 random bits.
fn made_up() -> Zeroizing<String> {
    let half = || Uuid::new_v4().simple();
    Zeroizing::new(format!("{}{}", half(), half()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn names_that_a_pattern_or_a_path_could_mistake_are_refused() {
        for good in ["shop", "shop-1.prod_x"] {
            assert_eq!(user_name(good).unwrap(), good);
        }
        for bad in ["", "a b", "a/b", "ü", "a%2fb", &"x".repeat(65)] {
            assert!(user_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_is_the_first_line_of_its_file_and_two_are_never_the_same() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "secret\nanother line").unwrap();
        assert_eq!(read_password(file.path()).unwrap().as_str(), "secret");
        let empty = tempfile::NamedTempFile::new().unwrap();
        assert!(read_password(empty.path()).is_err());
        assert_ne!(made_up(), made_up());
    }
}
