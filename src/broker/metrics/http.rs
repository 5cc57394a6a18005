//! A responder to GET, small and bounded: one request a connection, a short head, a deadline for everything. Knows bytes and
//! paths, nothing of what is behind them.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    env::{BoxFuture, Clock, Env, Listener, Stream, timeout},
    store::stop::Stopping,
};

const CONNECTIONS_MAX: usize = 16;
const HEAD_MAX_BYTES: usize = 8 << 10;
/// For a request to come, and for its answer to be taken.
const READ_WITHIN: Duration = Duration::from_secs(5);
const WRITE_WITHIN: Duration = Duration::from_secs(30);
/// Pause after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a path says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub status: &'static str,
    pub content_type: &'static str,
    pub body: String,
}

impl Said {
    pub fn text(status: &'static str, body: impl Into<String>) -> Self {
        Said { status, content_type: "text/plain; charset=utf-8", body: body.into() }
    }
}

pub const OK: &str = "200 OK";
pub const NOT_FOUND: &str = "404 Not Found";
pub const UNAVAILABLE: &str = "503 Service Unavailable";

/// Answers a path.
pub type Answer = Arc<dyn Fn(&str) -> BoxFuture<'static, Said> + Send + Sync>;

/// Accepts until stopped.
pub async fn serve(env: Env, listener: Box<dyn Listener>, answer: Answer, mut stopping: Stopping) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopping.stopped() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok(stream) = accepted else {
            env.clock.sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Whoever comes when all places are taken is let go; scrapers come again.
        if open.load(Ordering::SeqCst) >= CONNECTIONS_MAX {
            continue;
        }
        open.fetch_add(1, Ordering::SeqCst);
        let (place, clock, answer) = (Place(open.clone()), env.clock.clone(), answer.clone());
        drop(env.spawner.task("http", async move {
            // A peer that went away concerns nobody.
            let _ = exchange(&*clock, stream, &answer).await;
            drop(place);
        }));
    }
}

struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn exchange(clock: &dyn Clock, mut stream: Box<dyn Stream>, answer: &Answer) -> io::Result<()> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let head = timeout(clock, READ_WITHIN, head(&mut *stream)).await.map_err(late)??;
    let (said, is_head) = match request(&head) {
        Ok((path, is_head)) => (answer(path).await, is_head),
        Err(status) => (Said::text(status, ""), false),
    };
    let mut bytes = format!(
        "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        said.status,
        said.content_type,
        said.body.len()
    );
    if !is_head {
        bytes.push_str(&said.body);
    }
    let written = async {
        stream.write_all(bytes.as_bytes()).await?;
        stream.shutdown().await
    };
    timeout(clock, WRITE_WITHIN, written).await.map_err(late)?
}

/// The request's lines, without what follows them.
async fn head(stream: &mut dyn Stream) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(512);
    let mut chunk = [0; 512];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && !head.windows(2).any(|end| end == b"\n\n") {
        let read = stream.read(&mut chunk).await?;
        if read == 0 || head.len() + read > HEAD_MAX_BYTES {
            break;
        }
        head.extend_from_slice(&chunk[..read]);
    }
    Ok(head)
}

/// The path asked for and whether only the head of the answer is wanted; else the status that refuses it.
fn request(head: &[u8]) -> Result<(&str, bool), &'static str> {
    const BAD: &str = "400 Bad Request";
    let line = head.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let mut words = str::from_utf8(line).map_err(|_| BAD)?.split(' ');
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else {
        return Err(BAD);
    };
    if !version.starts_with("HTTP/1.") || !target.starts_with('/') {
        return Err(BAD);
    }
    let path = target.split('?').next().unwrap_or_default();
    match method {
        "GET" => Ok((path, false)),
        "HEAD" => Ok((path, true)),
        _ => Err("405 Method Not Allowed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_its_first_line() {
        let check = |head: &str, expect: Result<(&str, bool), &str>| {
            assert_eq!(request(head.as_bytes()), expect, "{head:?}");
        };
        check("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", Ok(("/metrics", false)));
        check("HEAD /healthz?a=b HTTP/1.0\n\n", Ok(("/healthz", true)));
        check("POST / HTTP/1.1\r\n\r\n", Err("405 Method Not Allowed"));
        check("GET metrics HTTP/1.1\r\n\r\n", Err("400 Bad Request"));
        check("GET /\r\n\r\n", Err("400 Bad Request"));
        check("\u{16}\u{3}", Err("400 Bad Request"));
        check("", Err("400 Bad Request"));
    }
}
