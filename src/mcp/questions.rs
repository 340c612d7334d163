//! What servers ask those who call their tools: to have a model write something (sampling), to have a person answer
//! (elicitation), and where files are (roots).
//!
//! A server asks only whom it knows to answer. Sessions are shared by callers, so that those who answer have sessions apart
//! ([`Asks`]), and a question goes to the caller whose call it belongs to. What a client can do it says once, in its
//! greeting; nothing is kept of that: it is written into the id of its session.

use super::rpc::{self, Message, RpcError};
use super::streams::new_id;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};

/// Questions of a process that wait for their answers.
const MOST: usize = 1000;

/// What a client can be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Asks {
    sampling: bool,
    elicitation: bool,
    roots: bool,
}

impl Asks {
    /// By the capabilities that a client declares.
    pub fn of(capabilities: &Value) -> Asks {
        let has = |name: &str| capabilities[name].is_object();
        Asks { sampling: has("sampling"), elicitation: has("elicitation"), roots: has("roots") }
    }

    /// As it was written into the id of a session.
    pub fn of_session(id: &str) -> Asks {
        let flags = id.rsplit_once('.').map_or("", |(_, flags)| flags);
        Asks { sampling: flags.contains('s'), elicitation: flags.contains('e'), roots: flags.contains('r') }
    }

    pub fn is_none(self) -> bool {
        self == Asks::default()
    }

    fn flags(self) -> String {
        let all = [('s', self.sampling), ('e', self.elicitation), ('r', self.roots)];
        all.into_iter().filter(|(_, has)| *has).map(|(flag, _)| flag).collect()
    }

    /// A fresh id for the session of such a client.
    pub fn new_session(self) -> String {
        if self.is_none() { new_id() } else { format!("{}.{}", new_id(), self.flags()) }
    }

    /// The same to a server.
    pub fn capabilities(self) -> Value {
        let all = [("sampling", self.sampling), ("elicitation", self.elicitation), ("roots", self.roots)];
        let has = all.into_iter().filter(|(_, has)| *has);
        Value::Object(has.map(|(name, _)| (name.to_owned(), Value::Object(Map::new()))).collect())
    }

    fn takes(self, method: &str) -> bool {
        match method {
            "sampling/createMessage" => self.sampling,
            "elicitation/create" => self.elicitation,
            "roots/list" => self.roots,
            _ => false,
        }
    }
}

type Answer = Result<Value, RpcError>;

/// Questions that wait, by the ids that were made for them, with the session that is asked.
#[derive(Default)]
pub struct Questions(Mutex<HashMap<String, (String, oneshot::Sender<Answer>)>>);

impl Questions {
    /// A client has answered. What nobody has asked this session is passed over.
    pub fn answer(&self, session: &str, id: &Value, answer: Answer) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(id) = id.as_str().filter(|id| open.get(*id).is_some_and(|(of, _)| of == session)) else { return };
        if let Some((_, waits)) = open.remove(id) {
            // Whoever asked may have left.
            let _ = waits.send(answer);
        }
    }

    fn open(self: &Arc<Self>, session: &str) -> Option<(Waits, oneshot::Receiver<Answer>)> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= MOST {
            return None;
        }
        let (id, (tell, answer)) = (new_id(), oneshot::channel());
        open.insert(id.clone(), (session.to_owned(), tell));
        Some((Waits { questions: self.clone(), id }, answer))
    }
}

/// A question is known for as long as this is kept.
struct Waits {
    questions: Arc<Questions>,
    id: String,
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.questions.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// The way to a caller who waits: what a server says meanwhile, and what it asks.
#[derive(Clone)]
pub struct Notes {
    tell: mpsc::Sender<Message>,
    /// Set for a session that can be asked something.
    asked: Option<(Arc<Questions>, Arc<str>)>,
}

impl Notes {
    pub fn new(tell: mpsc::Sender<Message>) -> Self {
        Notes { tell, asked: None }
    }

    /// The same to a client of this session, which may be asked.
    pub fn asking(tell: mpsc::Sender<Message>, questions: &Arc<Questions>, session: &str) -> Self {
        let can = !Asks::of_session(session).is_none();
        Notes { tell, asked: can.then(|| (questions.clone(), session.into())) }
    }

    /// Tells a note. Whoever does not keep up misses some.
    pub fn note(&self, message: Message) {
        let _ = self.tell.try_send(message);
    }

    /// Whether the caller can be asked this.
    pub fn takes(&self, method: &str) -> bool {
        self.asked.as_ref().is_some_and(|(_, session)| Asks::of_session(session).takes(method))
    }

    /// Asks, and waits as long as the call does.
    ///
    /// # Errors
    /// The caller's own, or that it cannot be asked this.
    pub async fn ask(&self, method: String, params: Value) -> Answer {
        let cannot = || RpcError::new(rpc::NO_METHOD, format!("This client does not serve '{method}'."));
        let (questions, session) = self.asked.as_ref().filter(|_| self.takes(&method)).ok_or_else(cannot)?;
        let busy = || RpcError::new(rpc::INTERNAL, "The client cannot be asked now.");
        let (waits, answer) = questions.open(session).ok_or_else(busy)?;
        let id = waits.id.clone().into();
        self.tell.send(Message::Request { id, method, params }).await.map_err(|_| busy())?;
        let answer = answer.await.map_err(|_| busy());
        drop(waits);
        answer?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_client_can_do_is_read_from_its_session() {
        let asks = Asks::of(&json!({"sampling": {}, "roots": {"listChanged": true}, "elicitation": null}));
        assert_eq!(Asks::of_session(&asks.new_session()), asks);
        assert_eq!(asks.capabilities(), json!({"sampling": {}, "roots": {}}));
        assert!(asks.takes("roots/list") && !asks.takes("elicitation/create") && !asks.takes("tools/list"));
        assert!(Asks::of_session("0123").is_none() && Asks::of_session(&Asks::default().new_session()).is_none());
    }

    #[tokio::test]
    async fn a_question_is_answered_by_the_session_that_was_asked() {
        let questions: Arc<Questions> = Arc::default();
        let (tell, mut hears) = mpsc::channel(4);
        let notes = Notes::asking(tell, &questions, "a.s");
        let client = async {
            let Some(Message::Request { id, .. }) = hears.recv().await else { panic!() };
            questions.answer("b.s", &id, Ok(json!("of another")));
            questions.answer("a.s", &json!("x"), Ok(json!("to another")));
            questions.answer("a.s", &id, Ok(json!("yes")));
        };
        let (answer, ()) = tokio::join!(notes.ask("sampling/createMessage".to_owned(), json!({})), client);
        assert_eq!(answer, Ok(json!("yes")));
        assert!(notes.ask("elicitation/create".to_owned(), json!({})).await.is_err());
        assert!(questions.0.lock().unwrap().is_empty());
    }
}
