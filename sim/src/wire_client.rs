//! A client's end of the remoting protocol, as plain as can be: requests out, answers by opaque, everything that comes
//! without having been asked for noticed. Knows frames and commands, not what they mean.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    time::Duration,
};

use keelmq::{
    env::{Env, Stream, timeout},
    protocol::{
        command::{self, Call, Response, Serialization},
        frame,
    },
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const FRAME_MAX: usize = 16 << 20;

/// An answer, owned.
#[derive(Clone, Debug)]
pub struct Answer {
    pub code: i32,
    pub remark: String,
    pub fields: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn number(&self, name: &str) -> Option<i64> {
        self.fields.get(name).and_then(|value| value.parse().ok())
    }
}

/// A request that came from the peer.
#[derive(Clone, Debug)]
pub struct Pushed {
    pub code: i32,
    opaque: i32,
    serialization: Serialization,
    is_oneway: bool,
    pub fields: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Pushed {
    pub fn number(&self, name: &str) -> Option<i64> {
        self.fields.get(name).and_then(|value| value.parse().ok())
    }
}

pub struct WireClient {
    stream: Box<dyn Stream>,
    input: Vec<u8>,
    next_opaque: i32,
    /// Asked and not answered yet, in time or not.
    open: BTreeSet<i32>,
    serialization: Serialization,
    /// Half a frame may be on its way: what is sent behind it would be taken for its rest.
    is_broken: bool,
    /// What the peer did wrong, for the model.
    pub wrong: Vec<String>,
    /// Requests that came from the peer and were not looked at yet.
    pub pushed: VecDeque<Pushed>,
}

impl WireClient {
    pub async fn connect(env: &Env, address: &str, serialization: Serialization) -> io::Result<WireClient> {
        let stream = timeout(&*env.clock, Duration::from_secs(3), env.network.connect(address)).await;
        let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(WireClient {
            stream,
            input: Vec::new(),
            next_opaque: 1,
            open: BTreeSet::new(),
            serialization,
            is_broken: false,
            wrong: Vec::new(),
            pushed: VecDeque::new(),
        })
    }

    /// Sends a request whose answer nobody will read.
    pub async fn ask_only(&mut self, env: &Env, call: &Call) -> io::Result<()> {
        let mut out = Vec::new();
        command::encode_call(call, self.next_opaque, false, self.serialization, &mut out);
        self.next_opaque += 1;
        self.write(env, &out).await
    }

    /// Sends a request that gets no answer.
    pub async fn oneway(&mut self, env: &Env, call: &Call) -> io::Result<()> {
        let mut out = Vec::new();
        command::encode_call(call, self.next_opaque, true, self.serialization, &mut out);
        self.next_opaque += 1;
        self.write(env, &out).await
    }

    /// All of it within three seconds, or the connection is good for nothing any more.
    async fn write(&mut self, env: &Env, out: &[u8]) -> io::Result<()> {
        if std::mem::replace(&mut self.is_broken, true) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        match timeout(&*env.clock, Duration::from_secs(3), self.stream.write_all(out)).await {
            Ok(written) => {
                self.is_broken = written.is_err();
                written
            }
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    pub async fn call(&mut self, env: &Env, call: Call, limit: Duration) -> io::Result<Option<Answer>> {
        Ok(self.call_all(env, &[call], limit).await?.pop().flatten())
    }

    /// Sends all requests at once and collects their answers, in whatever order; `None` for one that did not come in
    /// time. The connection can go on afterwards.
    pub async fn call_all(&mut self, env: &Env, calls: &[Call], limit: Duration) -> io::Result<Vec<Option<Answer>>> {
        if self.is_broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut out = Vec::new();
        let first = self.next_opaque;
        for call in calls {
            command::encode_call(call, self.next_opaque, false, self.serialization, &mut out);
            self.open.insert(self.next_opaque);
            self.next_opaque += 1;
        }
        let mut answers = vec![None; calls.len()];
        let mut is_written = false;
        let exchange = async {
            self.stream.write_all(&out).await?;
            is_written = true;
            while answers.iter().any(Option::is_none) {
                let (opaque, answer) = self.next_answer().await?;
                if let Some(slot) = usize::try_from(opaque - first).ok().and_then(|at| answers.get_mut(at)) {
                    *slot = Some(answer);
                }
            }
            Ok(())
        };
        let outcome = timeout(&*env.clock, limit, exchange).await;
        self.is_broken = !is_written;
        match outcome {
            Ok(Err(error)) => Err(error),
            Err(_) if !is_written => Err(io::ErrorKind::TimedOut.into()),
            Ok(Ok(())) | Err(_) => Ok(answers),
        }
    }

    async fn next_answer(&mut self) -> io::Result<(i32, Answer)> {
        loop {
            if let Some(found) = self.take_frame()? {
                return Ok(found);
            }
            self.read_more().await?;
        }
    }

    async fn read_more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        let count = self.stream.read(&mut buffer).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.input.extend_from_slice(&buffer[..count]);
        Ok(())
    }

    /// The next answer among the bytes read.
    fn take_frame(&mut self) -> io::Result<Option<(i32, Answer)>> {
        loop {
            let garbage = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
            let (content, size) = match frame::split(&self.input, FRAME_MAX) {
                Ok(Some(found)) => found,
                Ok(None) => return Ok(None),
                Err(error) => {
                    self.wrong.push(format!("what came is no frame: {error}"));
                    return Err(garbage(error.to_string()));
                }
            };
            let decoded = match command::decode(content) {
                Ok(decoded) => decoded,
                Err(error) => {
                    self.wrong.push(format!("what came is no command: {error}"));
                    return Err(garbage(error.to_string()));
                }
            };
            let found = decoded.is_response().then(|| {
                let answer = Answer {
                    code: decoded.code,
                    remark: decoded.remark.as_deref().unwrap_or("").to_owned(),
                    fields: decoded.fields.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
                    body: decoded.body.to_vec(),
                };
                (decoded.opaque, answer)
            });
            let pushed = found.is_none().then(|| Pushed {
                code: decoded.code,
                opaque: decoded.opaque,
                serialization: decoded.serialization,
                is_oneway: decoded.is_oneway(),
                fields: decoded.fields.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
                body: decoded.body.to_vec(),
            });
            drop(decoded);
            self.input.drain(..size);
            match found {
                Some((opaque, answer)) if self.open.remove(&opaque) => return Ok(Some((opaque, answer))),
                Some((opaque, _)) => {
                    self.wrong.push(format!("an answer to {opaque}, which was not asked or was answered before"))
                }
                None => self.pushed.extend(pushed),
            }
        }
    }

    /// Whatever comes within `limit`: the next request of the peer.
    pub async fn next_push(&mut self, env: &Env, limit: Duration) -> io::Result<Option<Pushed>> {
        if let Some(pushed) = self.pushed.pop_front() {
            return Ok(Some(pushed));
        }
        let coming = async {
            loop {
                self.take_frame()?;
                if let Some(pushed) = self.pushed.pop_front() {
                    return Ok(pushed);
                }
                self.read_more().await?;
            }
        };
        match timeout(&*env.clock, limit, coming).await {
            Ok(outcome) => outcome.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Answers a request of the peer with success.
    pub async fn answer(&mut self, env: &Env, pushed: &Pushed) -> io::Result<()> {
        if pushed.is_oneway {
            return Ok(());
        }
        let mut out = Vec::new();
        command::encode_response(&Response::success(), pushed.opaque, pushed.serialization, &mut out);
        self.write(env, &out).await
    }
}
