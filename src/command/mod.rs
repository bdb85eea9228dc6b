//! The command line: the tree of commands and their dispatch.
//! It must not know how a server works; every command but the servers is a client of the HTTP API.

mod chunks;
pub(crate) mod client;
mod clients;
mod completions;
mod config;
mod content;
mod credentials;
mod dead;
mod device;
mod error;
mod healthcheck;
#[cfg(test)]
mod http_tests;
mod iam;
mod job;
mod migrate;
mod openapi;
mod options;
mod organisation;
mod pages;
mod profile;
mod publish;
mod publisher;
mod push;
mod records;
mod render;
mod simulate;
mod status;
mod tag;
mod tenant;
#[cfg(test)]
mod tests;
mod token;

use clap::{Parser, Subcommand};

use crate::serve::{Role, ServeCommand};
use crate::terminal::Terminal;

pub(crate) use error::Error;

/// A self-hosted, multi-tenant push delivery engine for APNs and FCM
#[derive(Parser, Debug)]
#[command(name = "clarion", version, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 ok, 1 failed, 2 usage, 75 try again later, 78 wrong configuration."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Watch tens of thousands of notifications go through the real path, on simulated providers
    Demo(crate::demo::DemoCommand),
    /// Run the HTTP API and the engine in one process
    Serve(ServeCommand),
    /// Run the HTTP API alone; any number on one PostgreSQL and RabbitMQ
    Ingest(ServeCommand),
    /// Run an engine alone; any number on one PostgreSQL and RabbitMQ
    Engine(ServeCommand),
    /// Simulate APNs and FCM on this machine, to test against without devices
    Simulate(simulate::SimulateCommand),
    /// Tenants, their API keys, credentials and limits
    Tenant(tenant::TenantCommand),
    /// Credentials of applications on devices: client ids, and the secrets of the IBM Push face
    Client(clients::ClientCommand),
    /// Devices of a tenant
    Device(device::DeviceCommand),
    /// Tags that devices subscribe to
    Tag(tag::TagCommand),
    /// Send notifications and see what became of them
    Push(Box<push::PushCommand>),
    /// Dead letters: what could not be sent for good
    Dead(dead::DeadCommand),
    /// Requests that backends publish straight to the queue: their schema, a check, and publishing one
    Job(job::JobCommand),
    /// Who may publish straight to the queue, or hear what came of it: users of RabbitMQ
    Publisher(publisher::PublisherCommand),
    /// Organisations and their members
    Org(organisation::OrgCommand),
    /// What people and tools did in an organisation
    Audit(organisation::AuditCommand),
    /// Service IDs: services that hold IAM keys, and what they may do
    ServiceId(iam::ServiceIdCommand),
    /// IAM keys, of people and of service IDs
    Key(iam::KeyCommand),
    /// Access tokens for people
    Token(token::TokenCommand),
    /// Check the configuration, or show it with the origin of each value
    Config(config::ConfigCommand),
    /// Bring the databases up to date without serving
    Migrate(migrate::Migrate),
    /// Ask a server whether it is ready (for containers and scripts)
    Healthcheck(healthcheck::Healthcheck),
    /// Print the API's description (OpenAPI)
    Openapi(openapi::OpenApi),
    /// Print a completion script for a shell
    Completions(completions::Completions),
}

impl Cli {
    /// Runs the command. `now` is Unix milliseconds.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) fn run(self, terminal: &mut Terminal, now: i64) -> Result<(), Error> {
        match self.command {
            Command::Demo(command) => Ok(server_runtime()?.block_on(command.run(terminal))?),
            Command::Serve(command) => serve(command, Role::All, terminal),
            Command::Ingest(command) => serve(command, Role::Ingest, terminal),
            Command::Engine(command) => serve(command, Role::Engine, terminal),
            Command::Simulate(command) => server_runtime()?.block_on(command.run(terminal)),
            Command::Tenant(command) => client_runtime()?.block_on(command.run(terminal)),
            Command::Client(command) => client_runtime()?.block_on(command.run(terminal)),
            Command::Device(command) => client_runtime()?.block_on(command.run(terminal)),
            Command::Tag(command) => client_runtime()?.block_on(command.run(terminal)),
            Command::Dead(command) => client_runtime()?.block_on(command.run(terminal)),
            Command::Org(command) => client_runtime()?.block_on(command.run(terminal)),
            Command::Audit(command) => client_runtime()?.block_on(command.run(terminal)),
            Command::ServiceId(command) => client_runtime()?.block_on(command.run(terminal)),
            Command::Key(command) => client_runtime()?.block_on(command.run(terminal)),
            Command::Publisher(command) => client_runtime()?.block_on(command.run(terminal)),
            Command::Push(command) => client_runtime()?.block_on(command.run(terminal, now)),
            Command::Healthcheck(command) => client_runtime()?.block_on(command.run(terminal)),
            Command::Migrate(command) => client_runtime()?.block_on(command.run(terminal)),
            Command::Job(command) => server_runtime()?.block_on(command.run(terminal, now)),
            Command::Token(command) => command.run(terminal, now),
            Command::Config(command) => command.run(terminal),
            Command::Openapi(command) => command.run(terminal),
            Command::Completions(command) => command.run(terminal),
        }
    }
}

fn serve(command: ServeCommand, role: Role, terminal: &mut Terminal) -> Result<(), Error> {
    server_runtime()?.block_on(command.run(role, terminal))
}

fn server_runtime() -> Result<tokio::runtime::Runtime, Error> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?)
}

/// One thread is plenty for one request at a time.
fn client_runtime() -> Result<tokio::runtime::Runtime, Error> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}
