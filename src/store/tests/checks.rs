//! What checks of deployments found.

use super::*;

async fn checks_are_told_newest_first_until_they_are_too_old(store: Store) {
    let check = |id: &str, at: i64, model: &str, error: Option<&str>| Check {
        id: id.to_owned(),
        at,
        model_id: model.to_owned(),
        model_name: "small".to_owned(),
        took_ms: 7,
        error: error.map(str::to_owned),
    };
    let (first, second, other) =
        (check("1", NOW, "a", None), check("2", NOW + 1, "a", Some("no answer")), check("3", NOW + 2, "b", None));
    for one in [&first, &second, &other] {
        store.note_check(one).await.unwrap();
    }
    let models = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    assert_eq!(store.checks(&models(&["a", "b"]), 2, 0).await.unwrap(), (vec![other.clone(), second.clone()], 3));
    assert_eq!(store.checks(&models(&["a", "b"]), 2, 2).await.unwrap(), (vec![first.clone()], 3));
    assert_eq!(store.checks(&[], 2, 0).await.unwrap(), (Vec::new(), 0));
    let mut last = store.last_checks(&models(&["a", "b", "c"])).await.unwrap();
    last.sort_by(|one, two| one.id.cmp(&two.id));
    assert_eq!(last, [second.clone(), other.clone()]);
    assert_eq!(store.last_checks(&models(&["b"])).await.unwrap(), std::slice::from_ref(&other));

    let rest = Rest { checks_before: Some(NOW + 2), ..Rest::default() };
    assert_eq!(store.sweep_rest(&rest).await.unwrap(), 2);
    assert_eq!(store.checks(&models(&["a", "b"]), 9, 0).await.unwrap(), (vec![other], 1));
}

on_both!(checks_are_told_newest_first_until_they_are_too_old);
