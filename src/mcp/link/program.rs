//! A server that speaks over standard input and output, a line a message: a child of ours, or whoever is behind a unix
//! socket (under systemd each connection is a process of its own).

use super::Fault;
use super::pipe::{Outgoing, Pipe, Waiting};
use crate::config::mcp::Program;
use crate::mcp::rpc::Message;
use rustix::process::{Pid, Signal, kill_process_group, set_parent_process_death_signal};
use std::path::Path;
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

/// What is logged of one line of standard error.
const MOST_LINE: usize = 1000;
/// Between asking a program to end and making it.
const GRACE: Duration = Duration::from_secs(2);

/// A child and whatever it has started: they go together.
struct Running {
    child: Option<Child>,
    group: Option<Pid>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let (Some(mut child), Some(group)) = (self.child.take(), self.group) else { return };
        if let Ok(Some(_)) = child.try_wait() {
            // What it has left behind goes, too.
            let _ = kill_process_group(group, Signal::KILL);
            return;
        }
        let _ = kill_process_group(group, Signal::TERM);
        actix_web::rt::spawn(async move {
            let _ = tokio::time::timeout(GRACE, child.wait()).await;
            let _ = kill_process_group(group, Signal::KILL);
            let _ = child.wait().await;
        });
    }
}

/// Starts the program.
///
/// # Errors
/// It cannot be started.
pub fn start(program: &Program, name: &str, limit: usize) -> Result<Pipe, Fault> {
    let fail = |e: &dyn std::fmt::Display| {
        Fault::Unreached(format!("its program `{}` cannot be started: {e}", program.words.first().map_or("", |w| w)))
    };
    let (first, rest) = program.words.split_first().ok_or_else(|| fail(&"there is none"))?;
    let mut command = Command::new(first);
    command.args(rest).env_clear().envs(program.env.iter().map(|(name, value)| (name, &value.0)));
    command.current_dir(&program.cwd).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // SAFETY: between fork and exec one system call is made, nothing is allocated and no lock is taken.
    #[expect(unsafe_code, reason = "the kernel ends the child with us, even where we are killed")]
    unsafe {
        command.pre_exec(|| set_parent_process_death_signal(Some(Signal::KILL)).map_err(Into::into));
    }
    let mut child = command.spawn().map_err(|e| fail(&e))?;
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let (Some(input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(fail(&"its pipes are missing"));
    };
    actix_web::rt::spawn(log(errors, name.to_owned()));
    let holds = Running { child: Some(child), group };
    Ok(connect(input, output, Box::new(holds), limit))
}

/// Connects to the socket.
///
/// # Errors
/// Nobody listens there.
pub async fn dial(path: &Path, limit: usize) -> Result<Pipe, Fault> {
    let stream =
        UnixStream::connect(path).await.map_err(|e| Fault::Unreached(format!("its socket {}: {e}", path.display())))?;
    let (output, input) = stream.into_split();
    Ok(connect(input, output, Box::new(()), limit))
}

fn connect(
    input: impl AsyncWrite + Unpin + 'static,
    output: impl AsyncRead + Unpin + 'static,
    holds: Box<dyn std::any::Any>,
    limit: usize,
) -> Pipe {
    let waiting = Rc::new(Waiting::default());
    let (pipe, outgoing) = Pipe::new(waiting.clone(), holds);
    actix_web::rt::spawn(write(input, outgoing));
    let answers = pipe.out.downgrade();
    actix_web::rt::spawn(async move {
        let mut output = BufReader::new(output);
        let why = loop {
            let line = match line(&mut output, limit).await {
                Ok(Some(line)) => line,
                Ok(None) => break "its program has ended".to_owned(),
                Err(fault) => break fault.to_string(),
            };
            if line.trim_ascii().is_empty() {
                continue;
            }
            let Ok(message) = Message::read(&line) else {
                // Programs print greetings where only messages belong.
                tracing::debug!(target: "gateway::mcp", "a line of a program's output is no message");
                continue;
            };
            if let Some(answer) = waiting.take_in(message)
                && let Some(out) = answers.upgrade()
            {
                let (sent, _) = tokio::sync::oneshot::channel();
                let _ = out.send((answer, sent)).await;
            }
        };
        waiting.end(&why);
    });
    pipe
}

async fn write(mut input: impl AsyncWrite + Unpin, mut outgoing: Outgoing) {
    while let Some((message, sent)) = outgoing.recv().await {
        let mut line = message.value().to_string();
        line.push('\n');
        let written = async {
            input.write_all(line.as_bytes()).await?;
            input.flush().await
        };
        let result = written.await;
        let failed = result.is_err();
        let _ = sent.send(result.map_err(|e| Fault::Broken(format!("its program reads no more: {e}"))));
        if failed {
            return;
        }
    }
    // The end of its input is how a program is asked to end.
    let _ = input.shutdown().await;
}

/// The next line, of a bounded length.
async fn line(from: &mut (impl AsyncBufRead + Unpin), limit: usize) -> Result<Option<Vec<u8>>, Fault> {
    let mut line = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let read = from.take(most).read_until(b'\n', &mut line).await;
    match read {
        Err(e) => Err(Fault::Broken(format!("its output broke off: {e}"))),
        Ok(0) => Ok(None),
        Ok(_) if line.last() != Some(&b'\n') && line.len() > limit => Err(Fault::TooLarge(limit)),
        Ok(_) => Ok(Some(line)),
    }
}

async fn log(errors: impl AsyncRead + Unpin, server: String) {
    let mut errors = BufReader::new(errors);
    while let Ok(Some(line)) = line(&mut errors, 64 << 10).await {
        let text: String = String::from_utf8_lossy(&line).chars().filter(|c| !c.is_control()).take(MOST_LINE).collect();
        if !text.trim().is_empty() {
            tracing::info!(target: "gateway::mcp", server, "{text}");
        }
    }
}
