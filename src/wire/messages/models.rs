//! The model list, as Anthropic's clients read it.

use serde_json::{Value, json};

/// Anthropic answers no more models at once.
const MOST: usize = 1000;
/// What Anthropic gives for models whose release date is unknown.
const UNKNOWN_DATE: &str = "1970-01-01T00:00:00Z";

/// A page of models in Anthropic's form: at most `limit` of them (all, up to 1000, when not given), those behind
/// `after_id`, or those right before `before_id`. A name that is not in the list has nothing behind or before it.
///
/// Source: Anthropic's API reference, "List Models".
pub fn models_page(ids: &[&str], limit: Option<usize>, after_id: Option<&str>, before_id: Option<&str>) -> Value {
    let limit = limit.unwrap_or(MOST).clamp(1, MOST);
    let place = |id: &str| ids.iter().position(|known| *known == id);
    let (page, has_more) = match (after_id, before_id) {
        (None, Some(id)) => {
            let before = place(id).map_or(&[][..], |at| &ids[..at]);
            let from = before.len().saturating_sub(limit);
            (&before[from..], from > 0)
        }
        (after, _) => {
            let behind = match after {
                Some(id) => place(id).map_or(&[][..], |at| &ids[at + 1..]),
                None => ids,
            };
            (&behind[..behind.len().min(limit)], behind.len() > limit)
        }
    };
    let model = |id: &&str| json!({"type": "model", "id": id, "display_name": id, "created_at": UNKNOWN_DATE});
    let data: Vec<Value> = page.iter().map(model).collect();
    json!({"data": data, "has_more": has_more, "first_id": page.first(), "last_id": page.last()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_both_ways() {
        let ids = ["a", "b", "c", "d"];
        let told = |limit, after, before| {
            let page = models_page(&ids, limit, after, before);
            let names: String = page["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
            assert_eq!(page["first_id"].as_str().map(str::to_owned), names.get(..1).map(str::to_owned));
            (names, page["has_more"].as_bool().unwrap())
        };
        assert_eq!(told(None, None, None), ("abcd".to_owned(), false));
        assert_eq!(told(Some(3), None, None), ("abc".to_owned(), true));
        assert_eq!(told(Some(3), Some("c"), None), ("d".to_owned(), false));
        assert_eq!(told(Some(2), None, Some("d")), ("bc".to_owned(), true));
        assert_eq!(told(Some(0), None, Some("b")), ("a".to_owned(), false));
        assert_eq!(told(None, Some("x"), None), (String::new(), false));
        let page = models_page(&["m"], None, None, None);
        let one = json!({"type": "model", "id": "m", "display_name": "m", "created_at": "1970-01-01T00:00:00Z"});
        assert_eq!(page, json!({"data": [one], "has_more": false, "first_id": "m", "last_id": "m"}));
    }
}
