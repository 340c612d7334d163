//! The loop: a model calls tools, gets their results, and goes on until it answers. Bounded in rounds, time and cost.
//!
//! It knows no format: whoever speaks for the model ([`Model`]) writes turns and results down as its format has them.

use super::kit::{Chosen, Kit};
use super::outcome::Outcome;
use crate::error::Result;
use futures_util::future::join_all;
use std::time::{Duration, Instant};

/// A call that the model wants.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// The model's id of it.
    pub id: String,
    /// What it is called here: the name of its turn, and its place in it.
    pub key: String,
    pub name: String,
    /// JSON, as the model wrote it.
    pub arguments: String,
}

/// A call that was carried out, or could not be.
#[derive(Debug, Clone)]
pub struct Done {
    pub wanted: Wanted,
    pub outcome: Outcome,
}

/// Who is asked for turns, in whatever format.
#[expect(async_fn_in_trait, reason = "a call stays with its worker's thread")]
pub trait Model {
    /// The next turn: the calls that the model wants, none where it has answered. Without `tools` the gateway's own are not
    /// offered.
    ///
    /// # Errors
    /// The turn has failed, and the whole call with it.
    async fn turn(&mut self, tools: bool) -> Result<Vec<Wanted>>;

    /// Writes the results of the last turn down for the next one.
    async fn take(&mut self, results: Vec<Done>, kit: &Kit);

    /// What all turns have cost so far, as far as it is known.
    fn cost_nanos(&self) -> u64;
}

/// Bounds of a loop.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    pub rounds: usize,
    pub time: Duration,
    pub cost_nanos: Option<u64>,
    /// Calls of all rounds together.
    pub calls: Option<usize>,
}

/// How a loop ends.
#[derive(Debug)]
pub enum End {
    /// The model has answered.
    Answered,
    /// The last turn is the caller's to go on with.
    Handed(Handed),
}

/// A turn that is handed to the caller.
#[derive(Debug, Default)]
pub struct Handed {
    /// Calls of the caller's own functions.
    pub own: Vec<Wanted>,
    /// Calls that somebody has to approve.
    pub waiting: Vec<Wanted>,
    /// Calls of the same turn that needed nobody.
    pub done: Vec<Done>,
}

/// Runs the loop. `call` carries one call out, within the time that is left.
///
/// # Errors
/// A turn has failed.
pub async fn run<M: Model>(
    model: &mut M,
    kit: &Kit,
    caps: Caps,
    call: impl AsyncFn(&Chosen, &Wanted, Duration) -> Outcome,
) -> Result<End> {
    let started = Instant::now();
    let (mut rounds, mut calls) = (0, 0);
    loop {
        let left = caps.time.saturating_sub(started.elapsed());
        let is_dear = caps.cost_nanos.is_some_and(|most| model.cost_nanos() >= most);
        let may_call =
            rounds < caps.rounds && !left.is_zero() && !is_dear && caps.calls.is_none_or(|most| calls < most);
        let wanted = model.turn(may_call).await?;
        let left = caps.time.saturating_sub(started.elapsed());
        let mut handed = Handed::default();
        let (mut free, mut failed) = (Vec::new(), Vec::new());
        for wanted in wanted {
            match kit.find(&wanted.name) {
                // Nothing was offered any more.
                Some(_) if !may_call => {}
                Some(tool) if tool.needs_approval => handed.waiting.push(wanted),
                Some(_) if caps.calls.is_some_and(|most| calls >= most) => {
                    let outcome = Outcome::failed("No more calls of tools are allowed. Nothing was done.");
                    failed.push(Done { wanted, outcome });
                }
                Some(tool) => {
                    calls += 1;
                    free.push((tool, wanted));
                }
                None if kit.is_own(&wanted.name) => handed.own.push(wanted),
                None if may_call => {
                    let outcome =
                        Outcome::failed(format!("There is no tool '{}'.", crate::envelope::shorten(&wanted.name)));
                    failed.push(Done { wanted, outcome });
                }
                None => {}
            }
        }
        let run = join_all(free.iter().map(|(tool, wanted)| call(tool, wanted, left))).await;
        let mut done: Vec<Done> =
            free.into_iter().zip(run).map(|((_, wanted), outcome)| Done { wanted, outcome }).collect();
        done.append(&mut failed);
        if !handed.own.is_empty() || !handed.waiting.is_empty() {
            handed.done = done;
            return Ok(End::Handed(handed));
        }
        if done.is_empty() {
            return Ok(End::Answered);
        }
        model.take(done, kit).await;
        rounds += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use std::cell::RefCell;

    /// A format of its own: a turn is a line, `name:argument` a call.
    struct Lines {
        script: Vec<&'static str>,
        log: Vec<String>,
        cost: u64,
    }

    impl Model for Lines {
        async fn turn(&mut self, tools: bool) -> Result<Vec<Wanted>> {
            self.cost += 10;
            let line = if self.script.is_empty() { "loop:x" } else { self.script.remove(0) };
            self.log.push(format!("{}{line}", if tools { "" } else { "no tools; " }));
            if line == "fail" {
                return Err(Error::invalid("no"));
            }
            let call = |(at, part): (usize, &str)| {
                let (name, arguments) = part.split_once(':')?;
                Some(Wanted {
                    id: at.to_string(),
                    key: at.to_string(),
                    name: name.to_owned(),
                    arguments: arguments.to_owned(),
                })
            };
            Ok(line.split(' ').enumerate().filter_map(call).collect())
        }

        async fn take(&mut self, results: Vec<Done>, _: &Kit) {
            self.log.push(results.iter().map(|done| format!("={}", done.outcome.text)).collect());
        }

        fn cost_nanos(&self) -> u64 {
            self.cost
        }
    }

    fn go(script: &[&'static str], caps: Caps) -> (Result<End>, Vec<String>, Vec<String>) {
        let mut model = Lines { script: script.to_vec(), log: Vec::new(), cost: 0 };
        let kit = Kit::of_names(&[("loop", false), ("add", false), ("door", true)], &["mine"]);
        let ran = RefCell::new(Vec::new());
        let call = async |_: &Chosen, wanted: &Wanted, _| {
            ran.borrow_mut().push(wanted.name.clone());
            Outcome::text(format!("{}!", wanted.arguments))
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let end = runtime.block_on(run(&mut model, &kit, caps, call));
        (end, model.log, ran.into_inner())
    }

    const CAPS: Caps = Caps { rounds: 3, time: Duration::from_secs(60), cost_nanos: None, calls: None };

    #[test]
    fn rounds_go_on_until_the_model_answers() {
        let (end, log, ran) = go(&["add:1 add:2", "add:3", "done"], CAPS);
        assert!(matches!(end, Ok(End::Answered)));
        assert_eq!(log, ["add:1 add:2", "=1!=2!", "add:3", "=3!", "done"]);
        assert_eq!(ran.len(), 3);
    }

    #[test]
    fn after_a_cap_the_model_has_to_answer() {
        let (end, log, ran) = go(&[], CAPS);
        assert!(matches!(end, Ok(End::Answered)));
        assert_eq!((ran.len(), log.last().unwrap().as_str()), (3, "no tools; loop:x"));
        // A turn costs 10: the third one is over the bound.
        let (_, _, ran) = go(&[], Caps { cost_nanos: Some(20), ..CAPS });
        assert_eq!(ran.len(), 2);
        let (_, log, ran) = go(&["add:1", "add:2 add:3", "done"], Caps { calls: Some(2), ..CAPS });
        assert_eq!((ran.len(), log[3].as_str()), (2, "=2!=No more calls of tools are allowed. Nothing was done."));
        let (_, log, ran) = go(&[], Caps { time: Duration::ZERO, ..CAPS });
        assert_eq!((ran.len(), log.len()), (0, 1));
    }

    #[test]
    fn a_turn_with_the_callers_own_is_handed_over() {
        let (end, _, ran) = go(&["add:1", "add:2 mine:3 door:4"], CAPS);
        let Ok(End::Handed(handed)) = end else { panic!("{end:?}") };
        assert_eq!((handed.own[0].arguments.as_str(), handed.waiting[0].name.as_str()), ("3", "door"));
        assert_eq!((handed.done[0].outcome.text.as_str(), ran), ("2!", vec!["add".to_owned(), "add".to_owned()]));
    }

    #[test]
    fn a_tool_that_is_none_is_told_to_the_model() {
        let (end, log, ran) = go(&["other:1", "done"], CAPS);
        assert!(matches!(end, Ok(End::Answered)) && ran.is_empty());
        assert_eq!(log[1], "=There is no tool 'other'.");
        assert!(go(&["fail"], CAPS).0.is_err());
    }
}
