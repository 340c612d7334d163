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
