//! Whose limit it is.

use crate::auth::Caller;
use crate::envelope::shorten;
use crate::store::{Entity, Kind};

/// The sort of an owner of limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Who {
    Key,
    User,
    Team,
    Member,
    Organization,
    Customer,
    Tag,
    KeyModel,
    TeamModel,
    UserModel,
    CustomerModel,
    TagModel,
    Deployment,
    Provider,
    Gateway,
}

impl Who {
    /// LiteLLM's word, in headers and messages.
    pub fn word(self) -> &'static str {
        match self {
            Who::Key => "api_key",
            Who::User => "user",
            Who::Team => "team",
            Who::Member => "team_member",
            Who::Organization => "organization",
            Who::Customer => "end_user",
            Who::Tag => "tag",
            Who::KeyModel => "model_per_key",
            Who::TeamModel => "model_per_team",
            Who::UserModel => "model_per_user",
            Who::CustomerModel => "model_per_end_user",
            Who::TagModel => "model_per_tag",
            Who::Deployment => "deployment",
            Who::Provider => "provider",
            Who::Gateway => "gateway",
        }
    }

    /// Where its spend is counted.
    fn kind(self) -> Kind {
        match self {
            Who::Key => Kind::Key,
            Who::User => Kind::User,
            Who::Team => Kind::Team,
            Who::Member => Kind::Member,
            Who::Organization => Kind::Organization,
            Who::Customer => Kind::Customer,
            Who::Tag => Kind::Tag,
            Who::KeyModel => Kind::KeyModel,
            Who::TeamModel => Kind::TeamModel,
            Who::UserModel => Kind::UserModel,
            Who::CustomerModel => Kind::CustomerModel,
            Who::TagModel => Kind::TagModel,
            Who::Deployment => Kind::Deployment,
            Who::Provider => Kind::Provider,
            Who::Gateway => Kind::Gateway,
        }
    }
}

/// An owner of limits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    pub who: Who,
    pub id: String,
    /// The second half of a name that has two.
    pub sub: String,
}

impl Subject {
    pub fn new(who: Who, id: &str) -> Self {
        Subject { who, id: id.to_owned(), sub: String::new() }
    }

    pub fn with(mut self, sub: &str) -> Self {
        sub.clone_into(&mut self.sub);
        self
    }

    /// What its calls are booked under.
    pub fn entity(&self) -> Entity {
        Entity::of(self.who.kind(), &self.id).with(&self.sub)
    }

    /// Its name as a caller may see it: never more of a key than its alias or its last letters.
    pub fn shown(&self, caller: &Caller) -> String {
        let key = || caller.name().to_owned();
        let sub = || shorten(&self.sub);
        match self.who {
            Who::Key => key(),
            Who::KeyModel => format!("{}:{}", key(), sub()),
            Who::Member | Who::TeamModel | Who::UserModel | Who::CustomerModel | Who::TagModel => {
                format!("{}:{}", shorten(&self.id), sub())
            }
            Who::Gateway => "all calls".to_owned(),
            _ => shorten(&self.id),
        }
    }
}
