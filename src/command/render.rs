//! JSON answers as people read them: tables and lines of facts.
//! It must not know which command asked.

use serde_json::Value;

use crate::terminal::plain;

/// One value as a cell: texts bare, nothing as a dash.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_string(),
        Value::String(text) => plain(text),
        Value::Bool(true) => "yes".to_string(),
        Value::Bool(false) => "no".to_string(),
        other => plain(&other.to_string()),
    }
}

/// A table of objects: a heading and a JSON pointer per column. The last column is not padded.
pub(crate) fn table(columns: &[(&str, &str)], rows: &[Value]) -> Vec<String> {
    let heading = columns
        .iter()
        .map(|(heading, _)| (*heading).to_string())
        .collect();
    let cells = |row: &Value| -> Vec<String> {
        columns
            .iter()
            .map(|(_, pointer)| cell(row.pointer(pointer).unwrap_or(&Value::Null)))
            .collect()
    };
    let lines: Vec<Vec<String>> = std::iter::once(heading)
        .chain(rows.iter().map(cells))
        .collect();
    let width = |column: usize| {
        lines
            .iter()
            .filter_map(|line| line.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let render = |line: &Vec<String>| {
        let padded: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        padded.join("  ").trim_end().to_string()
    };
    lines.iter().map(render).collect()
}

/// The facts of one object, one a line, with aligned values: first those of `first`, in its order. Nested objects are
/// named by their path, empty values are left out.
pub(crate) fn facts(object: &Value, first: &[&str]) -> Vec<String> {
    let mut pairs = Vec::new();
    collect("", object, &mut pairs);
    let place = |name: &str| {
        first
            .iter()
            .position(|one| *one == name)
            .unwrap_or(first.len())
    };
    pairs.sort_by_key(|(name, _)| place(name));
    let width = pairs
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    pairs
        .into_iter()
        .map(|(name, value)| format!("{name:<width$}  {value}"))
        .collect()
}

fn collect(prefix: &str, value: &Value, into: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if prefix.is_empty() {
                    plain(name)
                } else {
                    format!("{prefix}.{}", plain(name))
                };
                collect(&path, value, into);
            }
        }
        Value::Null => {}
        other => into.push((prefix.to_string(), cell(other))),
    }
}

/// An answer for programs.
pub(crate) fn json(value: &Value) -> String {
    format!("{value:#}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_is_aligned_and_cannot_steer_the_terminal() {
        let rows = [
            json!({"id": "a", "n": 12}),
            json!({"id": "long\u{7}er", "n": null}),
            json!({"n": true}),
        ];
        assert_eq!(
            table(&[("ID", "/id"), ("COUNT", "/n")], &rows),
            [
                "ID       COUNT",
                "a        12",
                "long\u{fffd}er  -",
                "-        yes"
            ]
        );
        assert_eq!(table(&[("ID", "/id")], &[]), ["ID"]);
    }

    #[test]
    fn facts_are_named_by_their_path() {
        let object = json!({"id": "n1", "counts": {"accepted": 2, "waiting": 0}, "error": null});
        assert_eq!(
            facts(&object, &["id"]),
            [
                "id               n1",
                "counts.accepted  2",
                "counts.waiting   0"
            ]
        );
    }
}
