//! Raw provider fields over encoded ones.
//! It must not know which fields are whose.

use serde_json::{Map, Value};

/// Lays `over` on `base`: objects are merged member by member, everything else is replaced.
pub(super) fn merge(base: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(Value::Object(inner)), Value::Object(value)) => merge(inner, value),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_merge_and_the_rest_is_replaced() {
        let mut base = json!({"a": {"x": 1, "y": [1]}, "b": {"z": 1}, "c": 1});
        let over = json!({"a": {"y": [2], "n": null}, "b": 5, "d": {"e": 1}});
        merge(base.as_object_mut().unwrap(), over.as_object().unwrap());
        let expected = json!({"a": {"x": 1, "y": [2], "n": null}, "b": 5, "c": 1, "d": {"e": 1}});
        assert_eq!(base, expected);
    }
}
