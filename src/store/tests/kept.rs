//! What is kept for a while.

use super::*;

fn kept(id: &str, owner: &str, body: &str) -> Kept {
    Kept {
        kind: "response".to_owned(),
        id: id.to_owned(),
        owner: owner.to_owned(),
        made_at: NOW,
        expires_at: NOW + HOUR,
        body: body.to_owned(),
    }
}

async fn what_is_kept_is_its_owners_until_its_time_is_over(store: Store) {
    store.keep(&kept("r", "k", "1")).await.unwrap();
    store.keep(&kept("r", "k", "2")).await.unwrap();
    assert_eq!(store.kept("response", "r", "k", NOW).await.unwrap().unwrap().body, "2");
    for (kind, id, owner, now) in [
        ("turn", "r", "k", NOW),
        ("response", "s", "k", NOW),
        ("response", "r", "other", NOW),
        ("response", "r", "k", NOW + HOUR),
    ] {
        assert_eq!(store.kept(kind, id, owner, now).await.unwrap(), None, "{kind} {id} {owner}");
    }
    assert!(!store.forget_kept("response", "r", "other").await.unwrap());
    assert!(store.forget_kept("response", "r", "k").await.unwrap());
    assert!(!store.forget_kept("response", "r", "k").await.unwrap());

    store.keep(&kept("old", "k", "1")).await.unwrap();
    let rest = Rest { kept_before: Some(NOW + HOUR), ..Rest::default() };
    assert_eq!(store.sweep_rest(&rest).await.unwrap(), 0);
    let rest = Rest { kept_before: Some(NOW + HOUR + 1), ..Rest::default() };
    assert_eq!(store.sweep_rest(&rest).await.unwrap(), 1);
}

on_both!(what_is_kept_is_its_owners_until_its_time_is_over);

async fn what_is_kept_under_ones_own_name_is_listed(store: Store) {
    let own = |id: &str, owner: &str, at: i64| Kept { made_at: NOW + at, ..kept(id, owner, id) };
    for (id, at) in [("a", 0), ("b", 1), ("c", 1)] {
        assert!(store.keep_own(&own(id, "k", at)).await.unwrap());
    }
    assert!(store.keep_own(&own("other", "o", 2)).await.unwrap());
    // Nobody takes another one's name away.
    assert!(!store.keep_own(&own("other", "k", 3)).await.unwrap());
    assert_eq!(store.kept("response", "other", "o", NOW).await.unwrap().unwrap().made_at, NOW + 2);
    let ids = |found: Vec<Kept>| found.into_iter().map(|kept| kept.id).collect::<Vec<_>>();
    let all = store.kept_of("response", "k", NOW, None, 10).await.unwrap();
    let behind = store.kept_of("response", "k", NOW, Some(&all[1]), 10).await.unwrap();
    assert_eq!(ids(store.kept_of("response", "k", NOW, None, 2).await.unwrap()), ["c", "b"]);
    assert_eq!((ids(all.clone()), ids(behind)), (vec!["c".into(), "b".into(), "a".into()], vec!["a".into()]));
    assert!(store.kept_of("file", "k", NOW, None, 10).await.unwrap().is_empty());
    assert!(store.kept_of("response", "k", NOW + HOUR + 1, None, 10).await.unwrap().is_empty());
    // Of two who change it one is first.
    assert!(store.change_kept(&all[0], "new").await.unwrap());
    assert!(!store.change_kept(&all[0], "newer").await.unwrap());
}

on_both!(what_is_kept_under_ones_own_name_is_listed);
