//! Keys, users, teams, budgets.

use super::*;
use serde_json::json;

fn key(hash: &str) -> Key {
    Key { id: hash.to_owned(), hash: hash.to_owned(), created_at: NOW, updated_at: NOW, ..Key::default() }
}

/// A value in every column, so that none is lost or exchanged on the way.
fn full_key() -> Key {
    let mut columns = serde_json::to_value(Key::default()).unwrap();
    for (number, (name, value)) in columns.as_object_mut().unwrap().iter_mut().enumerate() {
        *value = match value {
            serde_json::Value::Array(_) => json!([name, "b\"c"]),
            serde_json::Value::Bool(_) => json!(true),
            serde_json::Value::Number(_) => json!(number),
            serde_json::Value::String(_) => json!(name),
            _ if name.ends_with("_nanos") || name.ends_with("_at") => json!(number),
            _ if name.ends_with("_limit") && !name.starts_with("model") || name.ends_with("requests") => json!(number),
            _ if name.ends_with("_budget") || name.starts_with("model") => json!({"a": [name]}),
            _ => json!(name),
        };
    }
    serde_json::from_value(columns).unwrap()
}

async fn a_key_comes_back_as_it_was(store: Store) {
    for key in [full_key(), key("bare")] {
        store.create_key(&key).await.unwrap();
        assert_eq!(store.key_by_hash(&key.hash, NOW).await.unwrap(), Some(key.clone()));
        assert_eq!(store.get::<Key>(&key.id).await.unwrap(), Some(key));
    }
    assert_eq!(store.key_by_hash("other", NOW).await.unwrap(), None);
}

async fn hashes_and_aliases_of_keys_are_unique(store: Store) {
    store.create_key(&Key { alias: some("home"), ..key("a") }).await.unwrap();
    store.create_key(&key("b")).await.unwrap();
    let fault = store.create_key(&Key { alias: some("home"), ..key("c") }).await.unwrap_err();
    assert_eq!(fault, Fault::Taken("The alias 'home' belongs to another key; choose another one.".to_owned()));
    assert!(matches!(store.create_key(&key("a")).await, Err(Fault::Taken(_))));
    let renamed = store.update_key("b", NOW, |key| {
        key.alias = some("home");
        Ok(())
    });
    assert!(matches!(renamed.await, Err(Fault::Taken(_))));
    assert_eq!(store.key_by_hash("b", NOW).await.unwrap().unwrap().alias, None);
}

async fn an_update_changes_what_it_says_or_nothing(store: Store) {
    store.create_key(&full_key()).await.unwrap();
    let changed = store.update_key("hash", NOW + 5, |key| {
        key.blocked = false;
        key.id = "x".to_owned();
        key.max_budget_nanos = None;
        Ok(())
    });
    let changed = changed.await.unwrap();
    assert_eq!(changed, Key { blocked: false, max_budget_nanos: None, updated_at: NOW + 5, ..full_key() });
    assert_eq!(store.key_by_hash("hash", NOW).await.unwrap(), Some(changed.clone()));
    let refused = store.update_key("hash", NOW, |key| {
        key.alias = None;
        Err(Fault::Invalid("no".to_owned()))
    });
    assert_eq!(refused.await, Err(Fault::Invalid("no".to_owned())));
    assert_eq!(store.key_by_hash("hash", NOW).await.unwrap(), Some(changed));
    assert!(matches!(store.update_key("none", NOW, |_| Ok(())).await, Err(Fault::Missing(_))));
}

async fn a_regenerated_key_keeps_its_id_and_its_spend(store: Store) {
    store.create_key(&key("k")).await.unwrap();
    store.book(&[call(NOW, 1)]).await.unwrap();
    let regenerated = store.regenerate_key("k", "k2", NOW, Some(NOW + HOUR), |_| Ok(())).await.unwrap();
    assert_eq!((regenerated.id.as_str(), regenerated.hash.as_str(), regenerated.rotation_count), ("k", "k2", 1));
    let found = async |hash: &str, at| store.key_by_hash(hash, at).await.unwrap().map(|k| k.hash);
    assert_eq!(found("k2", NOW).await, some("k2"));
    assert_eq!(found("k", NOW).await, some("k2"));
    assert_eq!(found("k", NOW + HOUR).await, None);
    assert_eq!(spent(&store, Entity::of(Kind::Key, "k")).await, 100);

    // Once more, without grace: the one before the last is still good, the last is not.
    store.regenerate_key("k2", "k3", NOW, None, |_| Ok(())).await.unwrap();
    assert_eq!(found("k", NOW).await, some("k3"));
    assert_eq!(found("k2", NOW).await, None);
    // No other key may begin with a hash that a key's spend is booked under.
    store.create_key(&key("other")).await.unwrap();
    assert!(matches!(store.regenerate_key("other", "k", NOW, None, |_| Ok(())).await, Err(Fault::Taken(_))));
    assert!(matches!(store.regenerate_key("other", "k3", NOW, None, |_| Ok(())).await, Err(Fault::Taken(_))));
    assert!(matches!(store.create_key(&key("k")).await, Err(Fault::Taken(_))));

    assert_eq!(store.delete_keys(&texts(&["k3"]), &[], None, NOW).await.unwrap().len(), 1);
    assert_eq!(found("k", NOW).await, None);
}

async fn a_deleted_key_leaves_a_copy_and_no_spend(store: Store) {
    store.create_key(&Key { alias: some("one"), ..key("k") }).await.unwrap();
    store.create_key(&Key { alias: some("two"), ..key("b") }).await.unwrap();
    store.book(&[call(NOW, 1)]).await.unwrap();
    let gone = store.delete_keys(&texts(&["k", "nothing"]), &texts(&["two"]), Some("admin"), NOW).await.unwrap();
    assert_eq!(gone.iter().map(|k| k.id.as_str()).collect::<Vec<_>>(), ["k", "b"]);
    let copies = store.removed("key", 10).await.unwrap();
    assert_eq!((copies.len(), copies[0].by.as_deref()), (2, Some("admin")));
    assert_eq!(copies.iter().find(|c| c.id == "k").unwrap().record["alias"], "one");
    store.create_key(&key("k")).await.unwrap();
    let total = &store.totals(&[Entity::of(Kind::Key, "k")]).await.unwrap()[0];
    assert_eq!((total.spent(), total.spend_nanos), (0, 100));
}

async fn keys_are_listed_by_part_and_by_filter(store: Store) {
    for n in 0..25_i64 {
        let key = Key {
            created_at: NOW + n / 2,
            alias: Some(format!("Alias_{n:02}")),
            user_id: some(if n % 2 == 0 { "even" } else { "odd" }),
            team_id: some("t"),
            blocked: n == 3,
            expires_at: (n == 4).then_some(NOW),
            ..key(&format!("h{n:02}"))
        };
        store.create_key(&key).await.unwrap();
    }
    let mut seen = Vec::new();
    let mut page = Page { limit: 10, ..Page::default() };
    loop {
        let part = store.list_keys(&KeyFilter::default(), &page).await.unwrap();
        seen.extend(part.rows.into_iter().map(|k| k.hash));
        match part.next {
            Some(next) => page.after = Some(next),
            None => break,
        }
    }
    let newest_first: Vec<String> = (0..25).rev().map(|n| format!("h{n:02}")).collect();
    assert_eq!(seen, newest_first);
    let third = Page { limit: 10, skip: 20, after: None };
    assert_eq!(store.list_keys(&KeyFilter::default(), &third).await.unwrap().rows.len(), 5);

    let count = async |filter: KeyFilter| store.count_keys(&filter).await.unwrap();
    assert_eq!(count(KeyFilter { user_id: some("odd"), ..KeyFilter::default() }).await, 12);
    assert_eq!(count(KeyFilter { alias_part: some("LIAS_1"), ..KeyFilter::default() }).await, 10);
    assert_eq!(count(KeyFilter { alias_part: some("lias%1"), ..KeyFilter::default() }).await, 0);
    assert_eq!(count(KeyFilter { blocked: Some(true), team_id: some("t"), ..KeyFilter::default() }).await, 1);
    assert_eq!(count(KeyFilter { valid_at: Some(NOW), ..KeyFilter::default() }).await, 24);
    assert_eq!(count(KeyFilter { team_ids: Some(texts(&["x", "t"])), ..KeyFilter::default() }).await, 25);
    assert_eq!(count(KeyFilter { team_ids: Some(Vec::new()), ..KeyFilter::default() }).await, 0);
    assert_eq!(store.key_aliases(&KeyFilter::default(), Some("Alias_01"), 2).await.unwrap(), ["Alias_02", "Alias_03"]);
    assert_eq!(store.keys_by_hash(&texts(&["h03", "h01", "none"])).await.unwrap().len(), 2);
    let bad = store.list_keys(&KeyFilter::default(), &Page { after: some("'; DROP"), ..Page::default() }).await;
    assert!(matches!(bad, Err(Fault::Invalid(_))));
}

async fn text_is_bound_and_never_a_part_of_a_statement(store: Store) {
    let nasty = "'; DROP TABLE keys; -- $1 ? \u{0} \u{1f600} \\";
    store.create_key(&Key { alias: some(nasty), metadata: json!({"a": nasty}), ..key(nasty) }).await.unwrap();
    let shown = nasty.replace('\0', "\u{fffd}");
    let found = store.list_keys(&KeyFilter { alias: some(nasty), ..KeyFilter::default() }, &Page::default()).await;
    let found = found.unwrap().rows.pop().unwrap();
    assert_eq!(found.alias, Some(shown));
    assert_eq!(found.metadata, json!({"a": nasty}));
}

async fn users_and_their_keys_go_together(store: Store) {
    let user = |id: &str, email: &str| User {
        id: id.to_owned(),
        email: some(email),
        role: some("internal_user"),
        models: texts(&["a", "b"]),
        created_at: NOW,
        ..User::default()
    };
    store.create(&user("u", "Ann@Home.org")).await.unwrap();
    store.create(&user("v", "bob@home.org")).await.unwrap();
    let again = store.create(&user("u", "x")).await;
    assert_eq!(again, Err(Fault::Taken("There is a user 'u' already.".to_owned())));
    store.create(&Team { id: "t".to_owned(), created_at: NOW, ..Team::default() }).await.unwrap();
    let member = |user: &str| Member {
        team_id: "t".to_owned(),
        user_id: user.to_owned(),
        role: "user".to_owned(),
        created_at: NOW,
        ..Member::default()
    };
    store.add_members("t", &[member("u"), member("v")], NOW).await.unwrap();
    store.create_key(&Key { user_id: some("u"), ..key("k") }).await.unwrap();
    store.create_key(&key("b")).await.unwrap();

    let emails = async |filter: UserFilter| {
        let page = store.list_users(&filter, &Page::default()).await.unwrap();
        page.rows.into_iter().map(|u| u.id).collect::<Vec<_>>()
    };
    assert_eq!(emails(UserFilter { email: some("ann@home.ORG"), ..UserFilter::default() }).await, ["u"]);
    assert_eq!(emails(UserFilter { email_part: some("HOME"), ..UserFilter::default() }).await, ["v", "u"]);
    assert_eq!(
        emails(UserFilter { team_id: some("t"), ids: Some(texts(&["v"])), ..UserFilter::default() }).await,
        ["v"]
    );
    assert_eq!(store.count_users(&UserFilter { role: some("proxy_admin"), ..UserFilter::default() }).await.unwrap(), 0);

    let changed = store.update::<User>("u", NOW + 1, |user| {
        user.max_budget_nanos = Some(5);
        Ok(())
    });
    assert_eq!(changed.await.unwrap().updated_at, NOW + 1);
    assert_eq!(store.get::<User>("u").await.unwrap().unwrap().max_budget_nanos, Some(5));
    let renamed = store.update::<User>("u", NOW, |user| {
        user.id = "v".to_owned();
        Ok(())
    });
    assert!(matches!(renamed.await, Err(Fault::Invalid(_))));
    assert_eq!(store.get_many::<User>(&texts(&["v", "u", "w"])).await.unwrap().len(), 2);

    assert_eq!(store.delete::<User>(&texts(&["u", "nobody"]), None, NOW).await.unwrap().len(), 1);
    assert_eq!(store.key_by_hash("k", NOW).await.unwrap(), None);
    assert!(store.key_by_hash("b", NOW).await.unwrap().is_some());
    assert_eq!(store.members_of(&texts(&["t"])).await.unwrap().len(), 1);
}

async fn members_come_and_go_with_their_roles(store: Store) {
    store.create(&Team { id: "t".to_owned(), alias: some("Team"), created_at: NOW, ..Team::default() }).await.unwrap();
    let member = |user: &str, team: &str| Member {
        team_id: team.to_owned(),
        user_id: user.to_owned(),
        role: "user".to_owned(),
        models: texts(&["m"]),
        max_budget_nanos: Some(9),
        created_at: NOW,
        ..Member::default()
    };
    store.add_members("t", &[member("u", "t")], NOW).await.unwrap();
    let both = store.add_members("t", &[member("v", "t"), member("u", "t")], NOW).await;
    assert_eq!(both, Err(Fault::Taken("The user 'u' is a member of the team 't' already.".to_owned())));
    assert_eq!(store.member("t", "v").await.unwrap(), None);
    assert!(matches!(store.add_members("none", &[member("u", "none")], NOW).await, Err(Fault::Missing(_))));
    let promoted = store.update_member("t", "u", NOW, |m| {
        m.role = "admin".to_owned();
        Ok(())
    });
    assert_eq!(promoted.await.unwrap(), Member { role: "admin".to_owned(), ..member("u", "t") });
    assert_eq!(store.memberships_of(&texts(&["u"])).await.unwrap()[0].role, "admin");
    let of = TeamFilter { user_id: some("u"), alias_part: some("tea"), ..TeamFilter::default() };
    assert_eq!(store.list_teams(&of, &Page::default()).await.unwrap().rows.len(), 1);
    assert_eq!(store.count_teams(&TeamFilter { user_id: some("v"), ..TeamFilter::default() }).await.unwrap(), 0);

    store.book(&[call(NOW, 1)]).await.unwrap();
    let entity = Entity::of(Kind::Member, "t").with("u");
    assert_eq!(spent(&store, entity.clone()).await, 100);
    assert!(store.remove_member("t", "u", NOW).await.unwrap());
    assert!(!store.remove_member("t", "u", NOW).await.unwrap());
    assert_eq!(spent(&store, entity).await, 0);

    store.create_key(&Key { team_id: some("t"), ..key("k") }).await.unwrap();
    store.delete::<Team>(&texts(&["t"]), None, NOW).await.unwrap();
    assert_eq!(store.count_keys(&KeyFilter::default()).await.unwrap(), 0);
    assert_eq!(store.removed("team", 1).await.unwrap()[0].record["alias"], "Team");
}

async fn budgets_customers_tags_and_groups_are_kept(store: Store) {
    let budget = Budget {
        id: "b".to_owned(),
        max_budget_nanos: Some(7),
        budget_duration: some("30d"),
        created_at: NOW,
        ..Budget::default()
    };
    store.create(&budget).await.unwrap();
    let customer = Customer { id: "c".to_owned(), budget_id: some("b"), created_at: NOW, ..Customer::default() };
    store.create(&customer).await.unwrap();
    let tag =
        Tag { name: "x".to_owned(), models: texts(&["m"]), budget_id: some("b"), created_at: NOW, ..Tag::default() };
    store.create(&tag).await.unwrap();
    let group = AccessGroup {
        id: "g".to_owned(),
        alias: "beta".to_owned(),
        models: texts(&["m"]),
        created_at: NOW,
        ..AccessGroup::default()
    };
    store.create(&group).await.unwrap();
    let organization =
        Organization { id: "o".to_owned(), metadata: json!({"a": 1}), created_at: NOW, ..Organization::default() };
    store.create(&organization).await.unwrap();

    assert_eq!(store.get::<Budget>("b").await.unwrap(), Some(budget));
    assert_eq!(store.get::<Tag>("x").await.unwrap(), Some(tag.clone()));
    assert_eq!(store.get::<AccessGroup>("g").await.unwrap(), Some(group));
    assert_eq!(store.get::<Organization>("o").await.unwrap(), Some(organization));
    let blocked = store.update::<Customer>("c", NOW, |c| {
        c.blocked = true;
        Ok(())
    });
    assert!(blocked.await.unwrap().blocked);
    assert_eq!(store.list::<Customer>(&Page::default()).await.unwrap().rows.len(), 1);
    assert_eq!(store.count::<Tag>().await.unwrap(), 1);
    let after = Page { after: Some(format!("{}.x", NOW + 1)), ..Page::default() };
    assert_eq!(store.list::<Tag>(&after).await.unwrap().rows, [tag]);

    store.delete::<Budget>(&texts(&["b"]), None, NOW).await.unwrap();
    assert_eq!(store.get::<Tag>("x").await.unwrap().unwrap().budget_id, None);
    assert_eq!(store.get::<Customer>("c").await.unwrap().unwrap().budget_id, None);
}

async fn other_gateways_learn_what_was_changed(store: Store) {
    let before = store.last_change().await.unwrap();
    store.create_key(&key("a")).await.unwrap();
    store.create(&User { id: "u".to_owned(), created_at: NOW, ..User::default() }).await.unwrap();
    store.regenerate_key("a", "b", NOW, None, |_| Ok(())).await.unwrap();
    store.delete_keys(&texts(&["b"]), &[], None, NOW).await.unwrap();
    let told = store.changes_after(before, 100).await.unwrap();
    let told: Vec<(i64, &str, &str)> =
        told.iter().map(|c| (c.number - before, c.kind.as_str(), c.id.as_str())).collect();
    assert_eq!(told, [(1, "key", "a"), (2, "user", "u"), (3, "key", "a"), (4, "key", "b"), (5, "key", "b")]);
    assert_eq!(store.last_change().await.unwrap(), before + 5);
    assert_eq!(store.changes_after(before + 4, 100).await.unwrap().len(), 1);
}

async fn gateways_that_count_in_memory_learn_of_sums_that_are_set(store: Store) {
    let before = store.last_change().await.unwrap();
    // Nobody has spent anything, and no key comes with it: it is told all the same.
    store.forgive_all(&[Kind::Key, Kind::Team], NOW).await.unwrap();
    store.bring(&Brought { spent: vec![(Entity::of(Kind::User, "u"), 5)], ..Brought::default() }, NOW).await.unwrap();
    let told = store.changes_after(before, 100).await.unwrap();
    assert_eq!(told.iter().map(|c| c.kind.as_str()).collect::<Vec<_>>(), ["spend", "spend"]);
}

async fn a_holder_is_the_key_with_all_that_decides_about_it(store: Store) {
    for id in ["kb", "tb", "mb", "other"] {
        store.create(&Budget { id: id.to_owned(), created_at: NOW, ..Budget::default() }).await.unwrap();
    }
    let group = |id: &str| AccessGroup { id: id.to_owned(), alias: id.to_owned(), ..AccessGroup::default() };
    store.create(&group("g")).await.unwrap();
    store.create(&group("h")).await.unwrap();
    store.create(&Organization { id: "o".to_owned(), ..Organization::default() }).await.unwrap();
    store.create(&User { id: "u".to_owned(), ..User::default() }).await.unwrap();
    let team = Team {
        id: "t".to_owned(),
        organization_id: some("o"),
        budget_id: some("tb"),
        access_group_ids: texts(&["g"]),
        ..Team::default()
    };
    store.create(&team).await.unwrap();
    let member = Member {
        team_id: "t".to_owned(),
        user_id: "u".to_owned(),
        role: "admin".to_owned(),
        budget_id: some("mb"),
        ..Member::default()
    };
    store.add_members("t", std::slice::from_ref(&member), NOW).await.unwrap();
    let one = Key { user_id: some("u"), team_id: some("t"), budget_id: some("kb"), ..key("k") };
    store.create_key(&one).await.unwrap();
    let holder = store.holder("k", NOW).await.unwrap().unwrap();
    assert_eq!((&holder.key, holder.team, holder.member), (&one, Some(team), Some(member)));
    assert_eq!((holder.user.unwrap().id, holder.organization.unwrap().id), ("u".to_owned(), "o".to_owned()));
    assert_eq!(holder.budgets.iter().map(|b| b.id.as_str()).collect::<Vec<_>>(), ["kb", "mb", "tb"]);
    assert_eq!(holder.access_groups.iter().map(|g| g.id.as_str()).collect::<Vec<_>>(), ["g"]);
    store.create_key(&key("alone")).await.unwrap();
    let alone = store.holder("alone", NOW).await.unwrap().unwrap();
    assert_eq!((alone.user, alone.team, alone.budgets), (None, None, Vec::new()));
    assert_eq!(store.holder("none", NOW).await.unwrap(), None);
}

on_both!(
    a_holder_is_the_key_with_all_that_decides_about_it,
    a_key_comes_back_as_it_was,
    hashes_and_aliases_of_keys_are_unique,
    an_update_changes_what_it_says_or_nothing,
    a_regenerated_key_keeps_its_id_and_its_spend,
    a_deleted_key_leaves_a_copy_and_no_spend,
    keys_are_listed_by_part_and_by_filter,
    text_is_bound_and_never_a_part_of_a_statement,
    users_and_their_keys_go_together,
    members_come_and_go_with_their_roles,
    budgets_customers_tags_and_groups_are_kept,
    other_gateways_learn_what_was_changed,
    gateways_that_count_in_memory_learn_of_sums_that_are_set,
);
