//! A program that is asked on standard input and answers on standard output.

use crate::watch::Watch;
use serde_json::Value;
use sparse_core::{Error, ErrorKind, Result};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

/// How often a caller who wants to stop is noticed.
const TICK: Duration = Duration::from_millis(50);

/// Most bytes of a line of an answer; a million times what one needs.
const MAX_LINE: u64 = 256 << 20;

/// Lines that wait to be read.
const LINES: usize = 64;

/// Most bytes of lines that are no part of an answer.
const MOST_NOISE: usize = if cfg!(test) { 1 << 20 } else { 64 << 20 };

/// What of standard error is kept for a message.
const KEPT: usize = 2000;

/// What becomes of standard input after the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// It ends, for programs that read all of it.
    Ends,
    /// It stays open while somebody waits for the answer, so that its end says that nobody does.
    Stays,
}

/// Runs `command`, writes `request` and a line feed to its standard input, and returns the
/// `result` of its answer.
///
/// Each line of its standard output is a JSON object: with `progress`, which is passed on, or with
/// `result` or `error`, which is the answer. Lines that are no such object are passed over, for a
/// program may print what it likes. `name` stands in messages.
///
/// # Errors
/// The error of the answer; `NotFound` where there is no such program; `Cancelled`, after the
/// program was killed; `Internal` where it ends without an answer.
pub(crate) fn ask(
    command: &mut Command,
    name: &str,
    (request, input): (&Value, Input),
    watch: &Watch<'_>,
) -> Result<Value> {
    watch.cancel.check()?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    let child = command.spawn();
    let mut child = Running(child.map_err(|e| Error::io(format!("cannot start {name}"), e))?);
    // Three pipes, none of which may fill up: a thread each, that does nothing but wait. None of
    // them is waited for, since what the program started may hold a pipe open after its end.
    let (send, said) = channel();
    if let Some(stderr) = child.0.stderr.take() {
        thread::spawn(move || send.send(tail(stderr)));
    }
    let (send, answered) = channel::<()>();
    if let Some(mut stdin) = child.0.stdin.take() {
        let text = format!("{request}\n");
        thread::spawn(move || {
            // Whoever does not read the request has ended, and says why.
            let _ = stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush());
            if input == Input::Stays {
                // Until the other end of the channel is gone.
                let _ = answered.recv();
            }
        });
    }
    let (sender, lines) = sync_channel(LINES);
    if let Some(stdout) = child.0.stdout.take() {
        thread::spawn(move || read_lines(stdout, &sender));
    }
    let answer = listen(&lines, (request, name), watch);
    drop(send);
    if answer.is_err() {
        child.kill();
    }
    // An answer that is there is there, however the program ends.
    let status = child.0.wait();
    match answer? {
        Some(answer) => take(answer, name),
        None => {
            let how = status.map_or_else(|e| e.to_string(), |s| s.to_string());
            let said = said.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
            let said = if said.is_empty() { said } else { format!(": {said}") };
            // Whoever kills a program may do so for want of memory.
            let message = format!("{name} ended without an answer ({how}){said}");
            Err(Error::new(ErrorKind::Internal, message))
        }
    }
}

/// Sends the lines of `stdout`, until it ends or nobody listens.
fn read_lines(stdout: impl Read, sender: &SyncSender<Vec<u8>>) {
    let mut stdout = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        let read = stdout.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        if !matches!(read, Ok(1..)) || sender.send(line).is_err() {
            return;
        }
    }
}

/// A program that does not outlive its caller.
struct Running(Child);

impl Running {
    /// Kills it, and what it started.
    fn kill(&mut self) {
        #[cfg(unix)]
        if let Some(group) =
            i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw)
            && matches!(self.0.try_wait(), Ok(None))
        {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.0.kill();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        let _ = self.0.wait();
    }
}

/// Waits for the answer of `name` to `request`; `None` where there is none.
fn listen(
    lines: &Receiver<Vec<u8>>,
    (request, name): (&Value, &str),
    watch: &Watch<'_>,
) -> Result<Option<Value>> {
    let mut noise = 0;
    loop {
        watch.cancel.check()?;
        let line = match lines.recv_timeout(TICK) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
        };
        let Ok(Value::Object(object)) = serde_json::from_slice(&line) else {
            noise += line.len();
            if noise > MOST_NOISE {
                let e = format!("{name} prints without end, and no answer");
                return Err(Error::new(ErrorKind::InvalidInput, e));
            }
            continue;
        };
        if let Some(progress) = object.get("progress") {
            watch.pass_on(progress);
        } else if object.contains_key("result") || object.contains_key("error") {
            return Ok(Some(Value::Object(object)));
        } else if request.as_object() == Some(&object) {
            // It would wait for more, as we do.
            let e = format!("{name} repeats what it is asked instead of answering");
            return Err(Error::new(ErrorKind::InvalidInput, e));
        }
    }
}

/// Takes the result out of an answer, or its error.
fn take(mut answer: Value, name: &str) -> Result<Value> {
    if let Some(result) = answer.get_mut("result") {
        return Ok(result.take());
    }
    let error = &answer["error"];
    let text = |field: &str| error[field].as_str().map(str::to_owned);
    let kind = text("kind").and_then(|k| ErrorKind::from_name(&k));
    let message = text("message").unwrap_or_else(|| format!("{name} failed: {error}"));
    let mut made = Error::new(kind.unwrap_or(ErrorKind::InvalidInput), message);
    if let Some(tensor) = text("tensor") {
        made = made.in_tensor(tensor);
    }
    if let Some(file) = text("file") {
        made = made.in_file(file);
    }
    Err(made)
}

/// Reads all of `pipe` and returns its last words, on one line.
fn tail(mut pipe: impl Read) -> String {
    let (mut kept, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(n @ 1..) = pipe.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..n]);
        let over = kept.len().saturating_sub(KEPT);
        kept.drain(..over);
    }
    let text = String::from_utf8_lossy(&kept);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use sparse_core::{CancelToken, Unobserved};
    use std::time::Instant;

    fn run(script: &str, cancel: &CancelToken) -> Result<Value> {
        let watch = Watch::new(cancel, &Unobserved);
        let request = serde_json::json!({"job": "test"});
        let request = (&request, Input::Ends);
        ask(Command::new("sh").args(["-c", script]), "the program", request, &watch)
    }

    #[test]
    fn answers() {
        let token = CancelToken::new();
        let echo = r#"read line; echo noise; echo '{"progress":{"done":1,"total":2}}';
            printf '{"result":%s}\n' "$line"; exit 3"#;
        assert_eq!(run(echo, &token).unwrap()["job"], "test");
        let error = r#"echo '{"error":{"kind":"corrupt","message":"it is bad","file":"f"}}'"#;
        let e = run(error, &token).unwrap_err();
        assert_eq!((e.kind(), e.to_string()), (ErrorKind::Corrupt, "f: it is bad".to_owned()));
        let e = run("echo why >&2; exit 7", &token).unwrap_err().to_string();
        assert_eq!(e, "the program ended without an answer (exit status: 7): why");
        let e = run("cat; sleep 60", &token).unwrap_err().to_string();
        assert_eq!(e, "the program repeats what it is asked instead of answering");
        let e = run("yes", &token).unwrap_err().to_string();
        assert_eq!(e, "the program prints without end, and no answer");
        // More than a pipe holds, to both, and a request that nobody reads.
        let loud = r#"yes | head -c 300000 >&2; yes | head -c 300000; echo '{"result":1}'"#;
        assert_eq!(run(loud, &token).unwrap(), 1);
    }

    #[test]
    fn who_cancels_is_heard() {
        let token = CancelToken::new();
        let start = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(200));
                token.cancel();
            });
            assert_eq!(run("sleep 60; echo", &token).unwrap_err().kind(), ErrorKind::Cancelled);
        });
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn no_such_program() {
        let token = CancelToken::new();
        let watch = Watch::new(&token, &Unobserved);
        let mut command = Command::new("no-such-program-anywhere");
        let e = ask(&mut command, "it", (&Value::Null, Input::Stays), &watch).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NotFound);
    }
}
