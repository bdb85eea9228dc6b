//! RabbitMQ's management API, as far as users and their permissions go.
//! It must not know what a permission is for.

use reqwest::Method;
use serde_json::{Value, json};

use super::permits::Permits;
use crate::command::client::{Call, Client, Credential};
use crate::command::error::{Error, Refusal, invalid};
use crate::terminal::plain;

/// Names the address in messages.
const FLAG: &str = "--management-url";

/// The API with the credential of an administrator, for one virtual host.
#[derive(Debug)]
pub(super) struct Management {
    client: Client,
    vhost: String,
}

impl Management {
    pub(super) fn new(
        url: &str,
        (user, password): (&str, &str),
        vhost: &str,
    ) -> Result<Self, Error> {
        let credential = Credential::Password(user.to_owned(), password.to_owned());
        Ok(Self {
            client: Client::new(url, FLAG, Some(&credential))?,
            vhost: vhost.to_owned(),
        })
    }

    /// Makes a user. Until its last permission is set it may do nothing; when something fails it is removed again.
    ///
    /// # Errors
    /// When there is such a user already, or the API refuses.
    pub(super) async fn add(
        &self,
        name: &str,
        password: &str,
        permits: &Permits,
    ) -> Result<(), Error> {
        let looked = self.client.call(Call::get(&["api", "users", name])).await;
        match looked {
            Err(Error::Refused(Refusal { status: 404, .. })) => {}
            Err(error) => return Err(explained(error)),
            Ok(_) => {
                let problem =
                    "there is such a user already: choose another name, or delete it first";
                return Err(invalid(name, problem));
            }
        }
        let user = json!({"password": password, "tags": ""});
        self.put(&["api", "users", name], &user).await?;
        if let Err(error) = self.permit(name, permits).await {
            // What it may not do yet it must not be able to do later by surprise.
            let removed = self.call(Call::delete(&["api", "users", name])).await;
            return Err(match removed {
                Ok(_) => error,
                Err(_) => Error::Unsuccessful(format!(
                    "{error}\nthe user {name} was left behind without permissions: delete it"
                )),
            });
        }
        Ok(())
    }

    /// The entries first: without them a permission to write is one to write anything.
    async fn permit(&self, name: &str, permits: &Permits) -> Result<(), Error> {
        for (exchange, write, read) in &permits.entries {
            let entry = json!({"exchange": exchange, "write": write, "read": read});
            let path = ["api", "topic-permissions", &self.vhost, name];
            self.put(&path, &entry).await?;
        }
        let permissions = json!({
            "configure": permits.configure, "write": permits.write, "read": permits.read,
        });
        self.put(&["api", "permissions", &self.vhost, name], &permissions)
            .await
    }

    /// All permissions and all topic entries of the virtual host.
    ///
    /// # Errors
    /// When the API refuses.
    pub(super) async fn permissions(&self) -> Result<(Vec<Value>, Vec<Value>), Error> {
        Ok((
            self.list("permissions").await?,
            self.list("topic-permissions").await?,
        ))
    }

    async fn list(&self, what: &str) -> Result<Vec<Value>, Error> {
        let found = self
            .call(Call::get(&["api", "vhosts", &self.vhost, what]))
            .await?;
        match found {
            Value::Array(rows) => Ok(rows),
            _ => Err(invalid(
                FLAG,
                "the answer is no list: is it RabbitMQ's management API?",
            )),
        }
    }

    async fn put(&self, path: &[&str], body: &Value) -> Result<(), Error> {
        self.call(Call::new(Method::PUT, path).json(body))
            .await
            .map(drop)
    }

    async fn call(&self, call: Call<'_>) -> Result<Value, Error> {
        self.client.call(call).await.map_err(explained)
    }
}

/// An error with the advice that fits this API.
fn explained(error: Error) -> Error {
    match error {
        Error::Refused(Refusal { status: 401, .. }) => invalid(
            FLAG,
            "RabbitMQ refuses user or password: give an administrator's (--management-user, \
             CLARION_MANAGEMENT_PASSWORD)",
        ),
        Error::Refused(Refusal { status, detail, .. }) if (400..500).contains(&status) => {
            let detail = plain(&detail);
            Error::Unsuccessful(format!(
                "RabbitMQ answered {status}: {detail}: check --vhost"
            ))
        }
        Error::Unreachable { url, problem } => Error::Unreachable {
            problem: format!("{problem}; this is RabbitMQ's management API, {FLAG}"),
            url,
        },
        other => other,
    }
}
