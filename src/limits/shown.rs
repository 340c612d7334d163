//! What an admitted call is told of its limits: the headers of its answer.
//!
//! Their names are LiteLLM's. Each answer has a dozen and more of them, so names are made once, and the values of an
//! answer share one piece of memory.

use super::book::{Left, Unit};
use super::bucket::{SLOT_MS, Slot};
use super::plan::Pot;
use super::subject::Who;
use crate::price::put_usd;
use actix_web::http::header::{HeaderName, HeaderValue};
use bytes::Bytes;
use std::cell::RefCell;
use std::ops::Range;

/// The text of all values, and where each of them is.
#[derive(Default)]
struct Sheet {
    text: Vec<u8>,
    values: Vec<(&'static HeaderName, Range<usize>)>,
}

impl Sheet {
    fn write(&mut self, value: impl FnOnce(&mut Vec<u8>)) -> Range<usize> {
        let start = self.text.len();
        value(&mut self.text);
        start..self.text.len()
    }

    fn number(&mut self, number: u64) -> Range<usize> {
        self.write(|text| put_number(text, number))
    }
}

fn put_number(text: &mut Vec<u8>, number: u64) {
    text.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// What is left of rates, and what budgets have spent: those of the key also by the plain names, as in LiteLLM; and whose
/// soft budget is reached.
pub fn tell<'a>(
    left: impl Iterator<Item = Left>,
    pots: impl Iterator<Item = (&'a Pot, &'a i64)>,
    now: Slot,
    mut put: impl FnMut(HeaderName, HeaderValue),
) {
    thread_local! {
        static SHEET: RefCell<Sheet> = RefCell::default();
    }
    SHEET.with_borrow_mut(|sheet| {
        sheet.text.clear();
        sheet.values.clear();
        left.for_each(|left| rate(sheet, left, now));
        budgets(sheet, pots);
        if sheet.values.is_empty() {
            return;
        }
        let text = Bytes::copy_from_slice(&sheet.text);
        for (name, place) in sheet.values.drain(..) {
            if let Ok(value) = HeaderValue::from_maybe_shared(text.slice(place)) {
                put(name.clone(), value);
            }
        }
    });
}

fn rate(sheet: &mut Sheet, Left { who, unit, limit, left, free_at }: Left, now: Slot) {
    let [limit_name, left_name] = names(who, unit);
    let (limit, left) = (sheet.number(limit), sheet.number(left));
    sheet.values.push((limit_name, limit.clone()));
    sheet.values.push((left_name, left.clone()));
    let own = match (who, unit) {
        (Who::Key, Unit::Requests) => &OWN_REQUESTS,
        (Who::Key, Unit::Tokens) => &OWN_TOKENS,
        _ => return,
    };
    let ms = free_at.saturating_sub(now).saturating_mul(SLOT_MS);
    let reset = sheet.write(|text| {
        put_number(text, ms / 1000);
        let part = |of: u64| b'0' + u8::try_from(ms / of % 10).unwrap_or(0);
        text.extend_from_slice(&[b'.', part(100), part(10), part(1), b's']);
    });
    sheet.values.extend(own.iter().zip([limit.clone(), left, reset, limit]));
}

fn budgets<'a>(sheet: &mut Sheet, pots: impl Iterator<Item = (&'a Pot, &'a i64)>) {
    let usd = |sheet: &mut Sheet, nanos: i64| sheet.write(|text| put_usd(text, u64::try_from(nanos).unwrap_or(0)));
    let mut reached: Vec<&str> = Vec::new();
    let mut has_key = false;
    for (pot, spent) in pots {
        if pot.subject.who == Who::Key && !std::mem::replace(&mut has_key, true) {
            let value = usd(sheet, *spent);
            sheet.values.push((&KEY_SPEND, value));
            if let Some(max) = pot.max_nanos {
                let value = usd(sheet, max);
                sheet.values.push((&KEY_BUDGET, value));
            }
        }
        if pot.soft_nanos.is_some_and(|soft| *spent >= soft) {
            reached.push(pot.subject.who.word());
        }
    }
    if !reached.is_empty() {
        let value = sheet.write(|text| text.extend_from_slice(reached.join(", ").as_bytes()));
        sheet.values.push((&SOFT_REACHED, value));
    }
}

static KEY_SPEND: HeaderName = HeaderName::from_static("x-litellm-key-spend");
static KEY_BUDGET: HeaderName = HeaderName::from_static("x-litellm-key-max-budget");
static SOFT_REACHED: HeaderName = HeaderName::from_static("x-gateway-soft-budget-reached");

/// Limit, what is left, when all is free again, and the limit by LiteLLM's other name.
static OWN_REQUESTS: [HeaderName; 4] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
    HeaderName::from_static("x-litellm-key-rpm-limit"),
];
static OWN_TOKENS: [HeaderName; 4] = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
    HeaderName::from_static("x-litellm-key-tpm-limit"),
];

macro_rules! of_unit {
    ($word:literal, $unit:literal) => {
        [
            HeaderName::from_static(concat!("x-ratelimit-", $word, "-limit-", $unit)),
            HeaderName::from_static(concat!("x-ratelimit-", $word, "-remaining-", $unit)),
        ]
    };
}

macro_rules! names {
    ($($who:ident $word:literal)*) => {
        /// `x-ratelimit-OWNER-limit-UNIT`, and what remains of it.
        fn names(who: Who, unit: Unit) -> &'static [HeaderName; 2] {
            match who {
                $(Who::$who => {
                    static NAMES: [[HeaderName; 2]; 3] = [
                        of_unit!($word, "requests"),
                        of_unit!($word, "tokens"),
                        of_unit!($word, "max_parallel_requests"),
                    ];
                    match unit {
                        Unit::Requests => &NAMES[0],
                        Unit::Tokens => &NAMES[1],
                        Unit::Parallel => &NAMES[2],
                    }
                })*
            }
        }

        #[cfg(test)]
        const ALL: &[Who] = &[$(Who::$who),*];
    };
}

names! {
    Key "api_key"
    User "user"
    Team "team"
    Member "team_member"
    Organization "organization"
    Customer "end_user"
    Tag "tag"
    KeyModel "model_per_key"
    TeamModel "model_per_team"
    UserModel "model_per_user"
    CustomerModel "model_per_end_user"
    TagModel "model_per_tag"
    Deployment "deployment"
    Provider "provider"
    Gateway "gateway"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(left: &[Left], now: Slot) -> Vec<String> {
        let mut all = Vec::new();
        tell(left.iter().copied(), [].into_iter(), now, |name, value| {
            all.push(format!("{name}: {}", value.to_str().unwrap()))
        });
        all
    }

    #[test]
    fn names_are_made_of_the_words_of_refusals() {
        for who in ALL {
            for unit in [Unit::Requests, Unit::Tokens, Unit::Parallel] {
                let prefix = format!("x-ratelimit-{}", who.word());
                let [limit, left] = names(*who, unit);
                assert_eq!(limit.as_str(), format!("{prefix}-limit-{}", unit.word()));
                assert_eq!(left.as_str(), format!("{prefix}-remaining-{}", unit.word()));
            }
        }
    }

    #[test]
    fn a_key_has_the_plain_names_too_and_others_have_not() {
        let of = |who, unit, limit, left| Left { who, unit, limit, left, free_at: 1301 };
        let key = shown(&[of(Who::Key, Unit::Requests, 10, 0)], 100);
        assert_eq!(
            key,
            [
                "x-ratelimit-api_key-limit-requests: 10",
                "x-ratelimit-api_key-remaining-requests: 0",
                "x-ratelimit-limit-requests: 10",
                "x-ratelimit-remaining-requests: 0",
                "x-ratelimit-reset-requests: 60.050s",
                "x-litellm-key-rpm-limit: 10",
            ]
        );
        let team = shown(&[of(Who::Team, Unit::Parallel, u64::MAX, 7)], 100);
        assert_eq!(
            team,
            [
                "x-ratelimit-team-limit-max_parallel_requests: 18446744073709551615",
                "x-ratelimit-team-remaining-max_parallel_requests: 7",
            ]
        );
    }
}
