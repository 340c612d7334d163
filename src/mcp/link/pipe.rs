//! Messages through a pipe, in both directions and in any order: a program's, or the old transport's stream.

use super::{Ask, Fault, answer_to};
use crate::mcp::rpc::Message;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use tokio::sync::{mpsc, oneshot};

/// Messages on their way to the server.
const QUEUE: usize = 64;

/// Is told a message.
pub type Hear = Rc<dyn Fn(Message)>;

/// Who waits for which answer.
#[derive(Default)]
pub struct Waiting {
    open: RefCell<HashMap<u64, Waiter>>,
    /// Why there will be no more answers.
    over: RefCell<Option<String>>,
    /// Hears what belongs to no request.
    pub aside: RefCell<Option<Hear>>,
}

struct Waiter {
    done: oneshot::Sender<Result<Value, Fault>>,
    hear: Hear,
}

impl Waiting {
    /// Takes a message of the server in; what it gives back is to be sent.
    pub fn take_in(&self, message: Message) -> Option<Message> {
        match message {
            Message::Response { id, result } => {
                let waiter = id.as_u64().and_then(|id| self.open.borrow_mut().remove(&id));
                if let Some(waiter) = waiter {
                    let _ = waiter.done.send(result.map_err(Fault::Rpc));
                }
                None
            }
            Message::Request { id, method, .. } => Some(answer_to(&method, id)),
            Message::Notification { .. } => {
                let hear = self.who_hears(&message);
                if let Some(hear) = hear {
                    hear(message);
                }
                None
            }
        }
    }

    /// Progress belongs to the request that it names. Of a log nobody says whose it is, so that it goes to a request
    /// only where there is one alone: callers must not read each other's.
    fn who_hears(&self, message: &Message) -> Option<Hear> {
        let Message::Notification { method, params } = message else { return None };
        let open = self.open.borrow();
        match method.as_str() {
            "notifications/progress" => Some(open.get(&params["progressToken"].as_u64()?)?.hear.clone()),
            "notifications/message" if open.len() == 1 => open.values().next().map(|waiter| waiter.hear.clone()),
            "notifications/message" => None,
            _ => self.aside.borrow().clone(),
        }
    }

    /// There will be no more answers.
    pub fn end(&self, why: &str) {
        self.over.borrow_mut().get_or_insert_with(|| why.to_owned());
        let open = std::mem::take(&mut *self.open.borrow_mut());
        for waiter in open.into_values() {
            let _ = waiter.done.send(Err(Fault::Broken(why.to_owned())));
        }
    }
}

/// Where messages go out.
pub struct Pipe {
    pub waiting: Rc<Waiting>,
    pub out: mpsc::Sender<(Message, oneshot::Sender<Result<(), Fault>>)>,
    /// Ends the other end when it is dropped.
    _holds: Box<dyn std::any::Any>,
}

/// The receiving end of [`Pipe::out`].
pub type Outgoing = mpsc::Receiver<(Message, oneshot::Sender<Result<(), Fault>>)>;

impl Pipe {
    pub fn new(waiting: Rc<Waiting>, holds: Box<dyn std::any::Any>) -> (Pipe, Outgoing) {
        let (out, outgoing) = mpsc::channel(QUEUE);
        (Pipe { waiting, out, _holds: holds }, outgoing)
    }

    pub fn is_over(&self) -> bool {
        self.waiting.over.borrow().is_some()
    }

    fn over(&self) -> Result<(), Fault> {
        match &*self.waiting.over.borrow() {
            // Nothing was sent.
            Some(why) => Err(Fault::Unreached(why.clone())),
            None => Ok(()),
        }
    }

    /// # Errors
    /// Why there is no result.
    pub async fn ask(&self, ask: Ask<'_>) -> Result<Value, Fault> {
        self.over()?;
        let (done, answer) = oneshot::channel();
        self.waiting.open.borrow_mut().insert(ask.id, Waiter { done, hear: ask.hear });
        let _forget = Forget { waiting: self.waiting.clone(), id: ask.id };
        self.send(Message::Request { id: ask.id.into(), method: ask.method.to_owned(), params: ask.params }).await?;
        answer.await.unwrap_or(Err(Fault::Dropped))
    }

    /// # Errors
    /// It could not be sent.
    pub async fn tell(&self, message: Message) -> Result<(), Fault> {
        self.over()?;
        self.send(message).await
    }

    async fn send(&self, message: Message) -> Result<(), Fault> {
        let (sent, done) = oneshot::channel();
        let gone = || Fault::Unreached("its connection has ended".to_owned());
        self.out.send((message, sent)).await.map_err(|_| gone())?;
        done.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// A request that is given up is not waited for.
struct Forget {
    waiting: Rc<Waiting>,
    id: u64,
}

impl Drop for Forget {
    fn drop(&mut self) {
        self.waiting.open.borrow_mut().remove(&self.id);
    }
}
