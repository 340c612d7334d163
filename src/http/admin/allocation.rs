//! What limits promise: LiteLLM's `rpm_limit_type` and `tpm_limit_type`. `guaranteed_throughput` means that a limit can be
//! used at any time, so the keys of a team may not be promised more than the team has, nor those of an organization.
//! `dynamic` is looked at with each call ([`crate::limits::plan`]); `best_effort_throughput` is what every limit is.

use super::desk::Desk;
use crate::error::{Error, Result};
use crate::store::{Key, KeyFilter, Organization, Page, Team, TeamFilter};

const GUARANTEED: &str = "guaranteed_throughput";
const SORTS: [&str; 3] = [GUARANTEED, "best_effort_throughput", "dynamic"];
/// Records in one answer of the store.
const PAGE: i64 = 1000;

/// The rates of a record, or of several together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Rates {
    requests: Option<i64>,
    tokens: Option<i64>,
}

impl Rates {
    fn add(&mut self, requests: Option<i64>, tokens: Option<i64>) {
        let sum = |sum: Option<i64>, more: Option<i64>| Some(sum.unwrap_or(0).saturating_add(more.unwrap_or(0)));
        (self.requests, self.tokens) = (sum(self.requests, requests), sum(self.tokens, tokens));
    }
}

/// # Errors
/// 400 for a sort of limit that there is not, and for a key that is promised what its team or organization has not.
pub async fn of_key(desk: &Desk, key: &Key) -> Result<()> {
    let Some(asked) = promised((&key.rpm_limit_type, key.rpm_limit), (&key.tpm_limit_type, key.tpm_limit))? else {
        return Ok(());
    };
    if let Some(id) = &key.team_id
        && let Some(team) = desk.store().get::<Team>(id).await?
    {
        let others = keys(desk, &KeyFilter { team_id: Some(id.clone()), ..KeyFilter::default() }, key).await?;
        fits(asked, others, Rates { requests: team.rpm_limit, tokens: team.tpm_limit }, ("Key", "team"))?;
    }
    if let Some(id) = &key.organization_id
        && let Some(organization) = desk.store().get::<Organization>(id).await?
    {
        let of = KeyFilter { organization_id: Some(id.clone()), ..KeyFilter::default() };
        let all = Rates { requests: organization.rpm_limit, tokens: organization.tpm_limit };
        fits(asked, keys(desk, &of, key).await?, all, ("Key", "organization"))?;
    }
    Ok(())
}

/// # Errors
/// The same for a team and its organization.
pub async fn of_team(desk: &Desk, team: &Team) -> Result<()> {
    let Some(asked) = promised((&team.rpm_limit_type, team.rpm_limit), (&team.tpm_limit_type, team.tpm_limit))? else {
        return Ok(());
    };
    let Some(id) = &team.organization_id else { return Ok(()) };
    let Some(organization) = desk.store().get::<Organization>(id).await? else { return Ok(()) };
    let filter = TeamFilter { organization_id: Some(id.clone()), ..TeamFilter::default() };
    let (mut others, mut page) = (Rates::default(), Page { limit: PAGE, ..Page::default() });
    loop {
        let listed = desk.store().list_teams(&filter, &page).await?;
        listed.rows.iter().filter(|t| t.id != team.id).for_each(|team| others.add(team.rpm_limit, team.tpm_limit));
        page.after = listed.next;
        if page.after.is_none() {
            break;
        }
    }
    let all = Rates { requests: organization.rpm_limit, tokens: organization.tpm_limit };
    fits(asked, others, all, ("Team", "organization"))
}

/// What all other keys have.
async fn keys(desk: &Desk, filter: &KeyFilter, but: &Key) -> Result<Rates> {
    let (mut sum, mut page) = (Rates::default(), Page { limit: PAGE, ..Page::default() });
    loop {
        let listed = desk.store().list_keys(filter, &page).await?;
        listed.rows.iter().filter(|key| key.id != but.id).for_each(|key| sum.add(key.rpm_limit, key.tpm_limit));
        page.after = listed.next;
        if page.after.is_none() {
            return Ok(sum);
        }
    }
}

/// The limits that are promised; none where there is no such one.
fn promised(
    (of_requests, requests): (&Option<String>, Option<i64>),
    (of_tokens, tokens): (&Option<String>, Option<i64>),
) -> Result<Option<Rates>> {
    for (name, sort) in [("rpm_limit_type", of_requests), ("tpm_limit_type", of_tokens)] {
        if let Some(sort) = sort.as_deref().filter(|sort| !SORTS.contains(sort)) {
            let sort = crate::envelope::shorten(sort);
            let message = format!("'{name}' is one of {}; '{sort}' is none of them.", SORTS.join(", "));
            return Err(Error::invalid(message).at_param(name));
        }
    }
    let is = |sort: &Option<String>| sort.as_deref() == Some(GUARANTEED);
    let rates = Rates { requests: requests.filter(|_| is(of_requests)), tokens: tokens.filter(|_| is(of_tokens)) };
    Ok((rates != Rates::default()).then_some(rates))
}

fn fits(asked: Rates, others: Rates, all: Rates, (who, whose): (&str, &str)) -> Result<()> {
    let units = [
        ("RPM", "rpm_limit", asked.requests, others.requests, all.requests),
        ("TPM", "tpm_limit", asked.tokens, others.tokens, all.tokens),
    ];
    for (unit, name, asked, others, all) in units {
        let (Some(asked), Some(all)) = (asked, all) else { continue };
        let others = others.unwrap_or(0);
        if others.saturating_add(asked) > all {
            // LiteLLM's words.
            let message = format!(
                "Allocated {unit} limit={others} + {who} {unit} limit={asked} is greater than {whose} {unit} limit={all}. Lower it, or leave its type ({name}_type) at best_effort_throughput."
            );
            return Err(Error::invalid(message).at_param(name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_promised_has_to_fit() {
        let sort = |text: &str| Some(text.to_owned());
        let guaranteed = sort(GUARANTEED);
        assert_eq!(promised((&None, Some(5)), (&sort("dynamic"), Some(6))).unwrap(), None);
        let asked = promised((&guaranteed, Some(5)), (&sort("best_effort_throughput"), Some(6))).unwrap().unwrap();
        assert_eq!(asked, Rates { requests: Some(5), tokens: None });
        assert!(promised((&sort("garanteed"), Some(5)), (&None, None)).is_err());
        let mut others = Rates::default();
        others.add(Some(4), Some(1000));
        others.add(None, None);
        let all = |requests| Rates { requests, tokens: Some(1) };
        assert!(fits(asked, others, all(Some(9)), ("Key", "team")).is_ok());
        assert!(fits(asked, others, all(None), ("Key", "team")).is_ok());
        let error = fits(asked, others, all(Some(8)), ("Key", "team")).unwrap_err();
        assert!(error.to_string().contains("Allocated RPM limit=4 + Key RPM limit=5 is greater than team RPM limit=8"));
    }
}
