//! `gateway user` and `gateway team`: people from the shell, with the fields and the checks of the management API.

use super::place::{BY, Place, said, with_store};
use crate::database;
use crate::http::admin::fields::nanos;
use crate::http::admin::{apply_team, apply_user, team_row, user_row};
use crate::store::{Budget, Entity, Fault, Kind, Member, Page, Store, Team, TeamFilter, Total, User, UserFilter};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

#[derive(Args)]
pub struct Users {
    #[command(subcommand)]
    act: UserAct,
    #[command(flatten)]
    place: Place,
}

#[derive(Subcommand)]
enum UserAct {
    /// Make a user; its keys are made by `gateway key create --user ID`
    Create {
        /// What the user is known by
        id: String,
        #[command(flatten)]
        about: AboutUser,
        /// A team that the user is in; more than once for several
        #[arg(long = "team", value_name = "ID")]
        teams: Vec<String>,
    },
    /// List the users: id, role, address, alias, and whether they are blocked or locked
    List,
    /// Show a user
    Info { id: String },
    /// Change what is named, and leave the rest
    Update {
        id: String,
        #[command(flatten)]
        about: AboutUser,
    },
    /// Refuse the user's keys until further notice
    Block { id: String },
    /// Let the user's keys go on
    Unblock { id: String },
    /// Delete a user with all of the keys
    Delete { id: String },
}

#[derive(Args)]
struct AboutUser {
    /// A name to show
    #[arg(long, value_name = "NAME")]
    alias: Option<String>,
    /// The user's address
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// proxy_admin, proxy_admin_viewer, internal_user, internal_user_viewer, ...
    #[arg(long)]
    role: Option<String>,
    #[command(flatten)]
    limits: Limits,
}

/// What users and teams have alike.
#[derive(Args)]
struct Limits {
    /// A model that may be used; more than once for several [default: all]
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<String>,
    /// How much may be spent, in dollars
    #[arg(long, value_name = "USD")]
    max_budget: Option<f64>,
    /// After which time it starts again from nothing, such as 30d
    #[arg(long, value_name = "DURATION")]
    budget_duration: Option<String>,
    /// A budget that is shared by its name
    #[arg(long = "budget", value_name = "ID")]
    budget_id: Option<String>,
    /// Tokens in a minute
    #[arg(long, value_name = "N")]
    tpm_limit: Option<u32>,
    /// Requests in a minute
    #[arg(long, value_name = "N")]
    rpm_limit: Option<u32>,
}

#[derive(Args)]
pub struct Teams {
    #[command(subcommand)]
    act: TeamAct,
    #[command(flatten)]
    place: Place,
}

#[derive(Subcommand)]
enum TeamAct {
    /// Make a team
    Create {
        /// What the team is known by
        id: String,
        #[command(flatten)]
        about: AboutTeam,
    },
    /// List the teams: id, alias, members, and whether they are blocked or locked
    List,
    /// Show a team
    Info { id: String },
    /// Change what is named, and leave the rest
    Update {
        id: String,
        #[command(flatten)]
        about: AboutTeam,
    },
    /// Refuse the team's keys until further notice
    Block { id: String },
    /// Let the team's keys go on
    Unblock { id: String },
    /// Delete a team with all of its keys
    Delete { id: String },
    /// Take a user into a team, or give a member another role or budget
    Add {
        team: String,
        user: String,
        /// The member looks after the team and its keys
        #[arg(long)]
        admin: bool,
        /// How much the member may spend in the team, in dollars
        #[arg(long, value_name = "USD")]
        max_budget: Option<f64>,
    },
    /// Take a user out of a team
    Remove { team: String, user: String },
}

#[derive(Args)]
struct AboutTeam {
    /// A name to show
    #[arg(long, value_name = "NAME")]
    alias: Option<String>,
    #[command(flatten)]
    limits: Limits,
}

/// The members of a request to the management API that say the same.
struct Asked(Map<String, Value>);

impl Asked {
    fn put(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value.into());
        }
    }

    fn limits(mut self, limits: Limits) -> Asked {
        self.put("models", (!limits.models.is_empty()).then_some(limits.models));
        self.put("max_budget", limits.max_budget);
        self.put("budget_duration", limits.budget_duration);
        self.put("budget_id", limits.budget_id);
        self.put("tpm_limit", limits.tpm_limit);
        self.put("rpm_limit", limits.rpm_limit);
        self
    }

    fn of_user(about: AboutUser) -> Asked {
        let mut asked = Asked(Map::new());
        asked.put("user_alias", about.alias);
        asked.put("user_email", about.email);
        asked.put("user_role", about.role);
        asked.limits(about.limits)
    }

    fn of_team(about: AboutTeam) -> Asked {
        let mut asked = Asked(Map::new());
        asked.put("team_alias", about.alias);
        asked.limits(about.limits)
    }

    fn blocked(blocked: bool) -> Asked {
        let mut asked = Asked(Map::new());
        asked.put("blocked", Some(blocked));
        asked
    }
}

/// Carries out `gateway user`.
///
/// # Errors
/// A text for the operator: no store, no such user, a value that cannot be.
pub fn users(args: Users) -> Result<String, String> {
    with_store(args.place, async |store| match args.act {
        UserAct::Create { id, about, teams } => create_user(&store, id, Asked::of_user(about), teams).await,
        UserAct::List => list_users(&store).await,
        UserAct::Info { id } => show_user(&store, &user(&store, &id).await?).await,
        UserAct::Update { id, about } => change_user(&store, &id, Asked::of_user(about)).await,
        UserAct::Block { id } => change_user(&store, &id, Asked::blocked(true)).await,
        UserAct::Unblock { id } => change_user(&store, &id, Asked::blocked(false)).await,
        UserAct::Delete { id } => {
            user(&store, &id).await?;
            store.delete::<User>(std::slice::from_ref(&id), Some(BY), database::now()).await.map_err(said)?;
            Ok(format!("{id} is deleted\n"))
        }
    })
}

/// Carries out `gateway team`.
///
/// # Errors
/// A text for the operator: no store, no such team, a value that cannot be.
pub fn teams(args: Teams) -> Result<String, String> {
    with_store(args.place, async |store| match args.act {
        TeamAct::Create { id, about } => create_team(&store, id, Asked::of_team(about)).await,
        TeamAct::List => list_teams(&store).await,
        TeamAct::Info { id } => show_team(&store, &team(&store, &id).await?).await,
        TeamAct::Update { id, about } => change_team(&store, &id, Asked::of_team(about)).await,
        TeamAct::Block { id } => change_team(&store, &id, Asked::blocked(true)).await,
        TeamAct::Unblock { id } => change_team(&store, &id, Asked::blocked(false)).await,
        TeamAct::Delete { id } => {
            team(&store, &id).await?;
            store.delete::<Team>(std::slice::from_ref(&id), Some(BY), database::now()).await.map_err(said)?;
            Ok(format!("{id} is deleted\n"))
        }
        TeamAct::Add { team, user, admin, max_budget } => add(&store, &team, &user, admin, max_budget).await,
        TeamAct::Remove { team, user } => match store.remove_member(&team, &user, database::now()).await {
            Ok(true) => Ok(format!("{user} is no longer in {team}\n")),
            Ok(false) => Err(format!("the user '{user}' is no member of the team '{team}'")),
            Err(fault) => Err(said(fault)),
        },
    })
}

async fn user(store: &Store, id: &str) -> Result<User, String> {
    let found = store.get(id).await.map_err(said)?;
    found.ok_or_else(|| format!("there is no user '{id}'; `gateway user list` shows them"))
}

async fn team(store: &Store, id: &str) -> Result<Team, String> {
    let found = store.get(id).await.map_err(said)?;
    found.ok_or_else(|| format!("there is no team '{id}'; `gateway team list` shows them"))
}

async fn check_budget(store: &Store, id: Option<&String>) -> Result<(), String> {
    match id {
        Some(id) if store.get::<Budget>(id).await.map_err(said)?.is_none() => {
            Err(format!("--budget: there is no budget '{id}'; POST /budget/new makes it"))
        }
        _ => Ok(()),
    }
}

/// An address belongs to one user.
async fn check_email(store: &Store, user: &User) -> Result<(), String> {
    let Some(email) = &user.email else { return Ok(()) };
    let filter = UserFilter { email: Some(email.clone()), ..UserFilter::default() };
    let others = store.list_users(&filter, &Page { limit: 2, ..Page::default() }).await.map_err(said)?.rows;
    match others.iter().find(|other| other.id != user.id) {
        Some(other) => Err(format!("--email: {email} is the address of the user '{}'", other.id)),
        None => Ok(()),
    }
}

async fn create_user(store: &Store, id: String, asked: Asked, teams: Vec<String>) -> Result<String, String> {
    let (at, by) = (database::now(), Some(BY.to_owned()));
    let mut user =
        User { id, created_at: at, updated_at: at, created_by: by.clone(), updated_by: by, ..User::default() };
    apply_user(&mut user, &asked.0).map_err(said)?;
    check_budget(store, user.budget_id.as_ref()).await?;
    check_email(store, &user).await?;
    for id in &teams {
        team(store, id).await?;
        store.unlocked::<Team>(id).map_err(said)?;
    }
    store.create(&user).await.map_err(said)?;
    for id in &teams {
        store.add_members(id, &[member(id, &user.id, "user")], at).await.map_err(said)?;
    }
    show_user(store, &user).await
}

async fn change_user(store: &Store, id: &str, asked: Asked) -> Result<String, String> {
    let mut trial = user(store, id).await?;
    apply_user(&mut trial, &asked.0).map_err(said)?;
    check_budget(store, trial.budget_id.as_ref()).await?;
    check_email(store, &trial).await?;
    let change = |user: &mut User| {
        user.updated_by = Some(BY.to_owned());
        apply_user(user, &asked.0).map_err(|e| Fault::Invalid(e.to_string()))
    };
    let user = store.update(id, database::now(), change).await.map_err(said)?;
    show_user(store, &user).await
}

async fn create_team(store: &Store, id: String, asked: Asked) -> Result<String, String> {
    let (at, by) = (database::now(), Some(BY.to_owned()));
    let mut team =
        Team { id, created_at: at, updated_at: at, created_by: by.clone(), updated_by: by, ..Team::default() };
    apply_team(&mut team, &asked.0).map_err(said)?;
    check_budget(store, team.budget_id.as_ref()).await?;
    store.create(&team).await.map_err(said)?;
    show_team(store, &team).await
}

async fn change_team(store: &Store, id: &str, asked: Asked) -> Result<String, String> {
    let mut trial = team(store, id).await?;
    apply_team(&mut trial, &asked.0).map_err(said)?;
    check_budget(store, trial.budget_id.as_ref()).await?;
    let change = |team: &mut Team| {
        team.updated_by = Some(BY.to_owned());
        apply_team(team, &asked.0).map_err(|e| Fault::Invalid(e.to_string()))
    };
    let team = store.update(id, database::now(), change).await.map_err(said)?;
    show_team(store, &team).await
}

fn member(team_id: &str, user_id: &str, role: &str) -> Member {
    Member {
        team_id: team_id.to_owned(),
        user_id: user_id.to_owned(),
        role: role.to_owned(),
        created_at: database::now(),
        ..Member::default()
    }
}

async fn add(store: &Store, to: &str, id: &str, admin: bool, max_budget: Option<f64>) -> Result<String, String> {
    team(store, to).await?;
    user(store, id).await?;
    let role = if admin { "admin" } else { "user" };
    let budget = max_budget.map(|usd| nanos("--max-budget", &json!(usd))).transpose().map_err(said)?;
    let at = database::now();
    if store.member(to, id).await.map_err(said)?.is_some() {
        let change = |member: &mut Member| {
            role.clone_into(&mut member.role);
            member.max_budget_nanos = budget.or(member.max_budget_nanos);
            Ok(())
        };
        store.update_member(to, id, at, change).await.map_err(said)?;
    } else {
        let member = Member { max_budget_nanos: budget, ..member(to, id, role) };
        store.add_members(to, &[member], at).await.map_err(said)?;
    }
    Ok(format!("{id} is in {to} as {role}\n"))
}

async fn spent(store: &Store, kind: Kind, id: &str) -> Result<i64, String> {
    let totals = store.totals(&[Entity::of(kind, id)]).await.map_err(said)?;
    Ok(totals.first().map_or(0, Total::spent))
}

async fn show_user(store: &Store, user: &User) -> Result<String, String> {
    let places = store.memberships_of(std::slice::from_ref(&user.id)).await.map_err(said)?;
    let teams: Vec<&str> = places.iter().map(|place| place.team_id.as_str()).collect();
    let spent = spent(store, Kind::User, &user.id).await?;
    pretty(&user_row(user, spent, &teams, store.is_locked::<User>(&user.id)))
}

async fn show_team(store: &Store, team: &Team) -> Result<String, String> {
    let members = store.members_of(std::slice::from_ref(&team.id)).await.map_err(said)?;
    let spent = spent(store, Kind::Team, &team.id).await?;
    pretty(&team_row(team, spent, &members.iter().collect::<Vec<_>>(), store.is_locked::<Team>(&team.id)))
}

fn pretty(row: &Map<String, Value>) -> Result<String, String> {
    serde_json::to_string_pretty(row).map(|text| text + "\n").map_err(said)
}

/// A line of a list; what is not there is a dash.
fn line(cells: &[Option<&str>]) -> String {
    cells.iter().map(|cell| cell.unwrap_or("-")).collect::<Vec<_>>().join("\t") + "\n"
}

async fn list_users(store: &Store) -> Result<String, String> {
    let (mut text, mut page) = (String::new(), Page { limit: 1000, ..Page::default() });
    loop {
        let found = store.list_users(&UserFilter::default(), &page).await.map_err(said)?;
        for user in &found.rows {
            let state = state(user.blocked, store.is_locked::<User>(&user.id));
            let cells = [Some(&*user.id), user.role.as_deref(), user.email.as_deref(), user.alias.as_deref(), state];
            text.push_str(&line(&cells));
        }
        match found.next {
            Some(next) => page.after = Some(next),
            None => return Ok(text),
        }
    }
}

async fn list_teams(store: &Store) -> Result<String, String> {
    let (mut text, mut page) = (String::new(), Page { limit: 1000, ..Page::default() });
    loop {
        let found = store.list_teams(&TeamFilter::default(), &page).await.map_err(said)?;
        let ids: Vec<String> = found.rows.iter().map(|team| team.id.clone()).collect();
        let members = if ids.is_empty() { Vec::new() } else { store.members_of(&ids).await.map_err(said)? };
        for team in &found.rows {
            let many = members.iter().filter(|member| member.team_id == team.id).count().to_string();
            let state = state(team.blocked, store.is_locked::<Team>(&team.id));
            text.push_str(&line(&[Some(&team.id), team.alias.as_deref(), Some(&many), state]));
        }
        match found.next {
            Some(next) => page.after = Some(next),
            None => return Ok(text),
        }
    }
}

fn state(blocked: bool, locked: bool) -> Option<&'static str> {
    match (blocked, locked) {
        (true, _) => Some("blocked"),
        (false, true) => Some("locked"),
        (false, false) => None,
    }
}
