//! Device registrations as they stand in files: CSV with a heading, or one JSON object a line.
//! It must not know requests; what a server checks is not checked here.

use serde_json::{Map, Value};

use super::error::{Error, invalid};

/// The fields a registration may have; the first three must be there.
const FIELDS: [&str; 5] = ["user_id", "token", "platform", "environment", "app_version"];
/// How many of them must be there.
const REQUIRED: usize = 3;

/// A registration from a line of NDJSON.
///
/// # Errors
/// When it is not an object with at least the required fields.
pub(super) fn json_record(line: &str, place: &str) -> Result<Value, Error> {
    let value: Value =
        serde_json::from_str(line).map_err(|error| invalid(place, format!("not JSON: {error}")))?;
    let missing = FIELDS
        .iter()
        .take(REQUIRED)
        .find(|field| !value[**field].is_string());
    match missing {
        Some(field) => Err(invalid(
            place,
            format!("no text \"{field}\": give an object with {}", required()),
        )),
        None => Ok(value),
    }
}

fn required() -> String {
    FIELDS[..REQUIRED].join(", ")
}

/// The heading of a CSV file: which column is which field.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Csv(Vec<&'static str>);

impl Csv {
    /// Reads the first line.
    ///
    /// # Errors
    /// When a column is unknown, or a required one is missing.
    pub(super) fn heading(line: &str, place: &str) -> Result<Self, Error> {
        let mut columns = Vec::new();
        for name in split(line, place)? {
            let field = FIELDS
                .into_iter()
                .find(|field| *field == name.trim())
                .ok_or_else(|| {
                    invalid(
                        place,
                        format!(
                            "{:?} is no column: the first line names {}",
                            name.trim(),
                            FIELDS.join(", ")
                        ),
                    )
                })?;
            columns.push(field);
        }
        match FIELDS
            .iter()
            .take(REQUIRED)
            .find(|field| !columns.contains(field))
        {
            Some(field) => Err(invalid(
                place,
                format!("no column {field}: name at least {}", required()),
            )),
            None => Ok(Self(columns)),
        }
    }

    /// A registration from a later line; empty values are left out.
    ///
    /// # Errors
    /// When the line has another number of values than the heading.
    pub(super) fn record(&self, line: &str, place: &str) -> Result<Value, Error> {
        let values = split(line, place)?;
        if values.len() != self.0.len() {
            let problem = format!("{} values for {} columns", values.len(), self.0.len());
            return Err(invalid(place, problem));
        }
        let given = self
            .0
            .iter()
            .zip(values)
            .filter(|(_, value)| !value.is_empty());
        Ok(Value::Object(
            given
                .map(|(field, value)| ((*field).to_string(), Value::from(value)))
                .collect::<Map<_, _>>(),
        ))
    }
}

/// The values of a line, quoted ones included (RFC 4180, without line breaks inside quotes).
fn split(line: &str, place: &str) -> Result<Vec<String>, Error> {
    let mut values = Vec::new();
    let mut rest = line;
    loop {
        let (value, after) = match rest.trim_start().strip_prefix('"') {
            Some(quoted) => unquote(quoted)
                .ok_or_else(|| invalid(place, "a quote is not closed, or something follows it"))?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].trim().to_string(), &rest[end..])
            }
        };
        values.push(value);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok(values),
        }
    }
}

/// The value up to the closing quote, and what follows it: nothing or a comma.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        value.push_str(before);
        match after.strip_prefix('"') {
            Some(next) => {
                value.push('"');
                rest = next;
            }
            None => {
                let after = after.trim_start();
                return (after.is_empty() || after.starts_with(',')).then_some((value, after));
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn csv_columns_may_stand_in_any_order_and_be_quoted() {
        let csv = Csv::heading("token, platform,user_id,app_version", "f:1").unwrap();
        assert_eq!(
            csv.record("aa:bb,android,\"Lovelace, \"\"Ada\"\"\",", "f:2")
                .unwrap(),
            json!({"token": "aa:bb", "platform": "android", "user_id": "Lovelace, \"Ada\""})
        );
        assert_eq!(
            csv.record("t,ios,u,1.2", "f:3").unwrap()["app_version"],
            "1.2"
        );
    }

    #[test]
    fn wrong_lines_are_named_with_their_place() {
        let error = |result: Result<Value, Error>| result.unwrap_err().to_string();
        let heading = |line: &str| Csv::heading(line, "f:1").unwrap_err().to_string();
        assert_eq!(
            heading("user_id,token"),
            "f:1: no column platform: name at least user_id, token, platform"
        );
        assert_eq!(
            heading("user,token,platform"),
            "f:1: \"user\" is no column: the first line names user_id, token, platform, environment, \
             app_version"
        );
        let csv = Csv::heading("user_id,token,platform", "f:1").unwrap();
        assert_eq!(
            error(csv.record("a,b", "f:2")),
            "f:2: 2 values for 3 columns"
        );
        assert_eq!(
            error(csv.record("\"a,b,c", "f:2")),
            "f:2: a quote is not closed, or something follows it"
        );
        assert_eq!(
            error(csv.record("\"a\"x,b,c", "f:2")),
            "f:2: a quote is not closed, or something follows it"
        );
        assert!(error(json_record("{", "f:9")).starts_with("f:9: not JSON"));
        assert_eq!(
            error(json_record("{\"user_id\":\"u\",\"token\":7}", "f:9")),
            "f:9: no text \"token\": give an object with user_id, token, platform"
        );
        assert!(
            json_record(
                "{\"user_id\":\"u\",\"token\":\"t\",\"platform\":\"ios\"}",
                "f:9"
            )
            .is_ok()
        );
    }
}
