//! A server with processors made for these tests, and a raw socket that speaks to it.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use keelmq::{
    env::Env,
    model::Watermark,
    os,
    protocol::{
        code::request as request_code,
        command::{Response, Serialization, decode},
    },
    remoting::{Answer, Channel, Lane, Processor, Promise, Request, Router, Server, ServerConfig},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Handle,
};

/// Answers at once: the request's body, and its fields as remark.
pub const ECHO: i32 = 900;
/// Answers when the promise reaches field `at`; with the code of field `code`.
pub const KEPT: i32 = 901;
/// Answers when the gate reaches field `at`.
pub const LATER: i32 = 902;
pub const PANIC: i32 = 903;
/// Answers through the channel, later, by whoever takes it from `World::held`.
pub const HELD: i32 = 904;
/// Answers with as many bytes as field `len` says, in slices of 100,000.
pub const LONG: i32 = 905;
/// Panics in its task.
pub const LATER_PANIC: i32 = 906;

pub type Held = (Arc<Channel>, i32, Serialization);

pub struct World {
    pub env: Env,
    pub server: Server,
    pub address: SocketAddr,
    /// What `KEPT` waits for.
    pub kept: Arc<Watermark>,
    /// What `LATER` waits for.
    pub gate: Arc<Watermark>,
    pub lane: Arc<Lane>,
    pub held: Arc<Mutex<Vec<Held>>>,
    /// Requests that reached a processor.
    pub processed: Arc<AtomicUsize>,
    pub turns: Arc<AtomicUsize>,
    pub closed: Arc<Mutex<Vec<u64>>>,
}

struct Scripted {
    gate: Arc<Watermark>,
    held: Arc<Mutex<Vec<Held>>>,
    processed: Arc<AtomicUsize>,
}

impl Processor for Scripted {
    fn process(&self, request: &Request<'_>) -> Answer {
        self.processed.fetch_add(1, Ordering::SeqCst);
        let command = &request.command;
        let number = |key| command.fields.get(key).map_or(0, |text| text.parse::<u64>().unwrap());
        match command.code {
            KEPT => Answer::Kept(number("at"), Response::new(number("code") as i32).with("at", number("at") as i64)),
            LATER => {
                let (gate, at) = (self.gate.clone(), number("at"));
                Answer::Later(Box::pin(async move {
                    gate.reached(at).await.unwrap();
                    Some(Response::success())
                }))
            }
            LATER_PANIC => Answer::Later(Box::pin(async { panic!("later on purpose") })),
            PANIC => panic!("on purpose"),
            HELD => {
                self.held.lock().unwrap().push((request.channel.clone(), command.opaque, command.serialization));
                Answer::None
            }
            LONG => {
                let mut left = number("len") as usize;
                let mut response = Response::success();
                while left > 0 {
                    let step = left.min(100_000);
                    response.body.push(vec![7; step].into());
                    left -= step;
                }
                Answer::Now(response)
            }
            _ => {
                let fields: Vec<_> = command.fields.iter().map(|(key, value)| format!("{key}={value}")).collect();
                let mut response = Response::success().with_body(Bytes::copy_from_slice(command.body));
                response.remark = Some(fields.join(",").into());
                Answer::Now(response)
            }
        }
    }
}

impl World {
    pub async fn start(config: ServerConfig) -> World {
        Self::with_lane(config, Lane::new("test", 1_000, 5_000), 5_000).await
    }

    pub async fn with_lane(config: ServerConfig, lane: Arc<Lane>, promise_wait_ms_max: u32) -> World {
        let env = os::env(Handle::current());
        let (kept, gate) = (Watermark::new(0), Watermark::new(0));
        let (held, processed) = (Arc::<Mutex<Vec<Held>>>::default(), Arc::<AtomicUsize>::default());
        let (turns, closed) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<u64>>>::default());
        let scripted = Scripted { gate: gate.clone(), held: held.clone(), processed: processed.clone() };
        let mut router = Router::new();
        router.serve(&[ECHO, KEPT, LATER, PANIC, HELD, LONG, LATER_PANIC], Arc::new(scripted), &lane);
        let counted = turns.clone();
        router.promise = Some(Promise {
            kept: kept.clone(),
            turn_end: Arc::new(move || {
                counted.fetch_add(1, Ordering::SeqCst);
            }),
            turn_over: Arc::new(|| ()),
            wait_ms_max: promise_wait_ms_max,
        });
        let seen = closed.clone();
        router.on_close = Arc::new(move |channel| seen.lock().unwrap().push(channel.id()));
        let bound = env.network.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = bound.local_address();
        let listener = bound.listen(config.backlog).unwrap();
        let server = Server::start(env.clock.clone(), env.spawner.clone(), listener, Arc::new(router), config);
        World { env, server, address, kept, gate, lane, held, processed, turns, closed }
    }

    pub async fn connect(&self) -> Peer {
        Peer::connect(self.address).await
    }

    /// Waits until `condition` holds; events inside the server have no handle to await.
    pub async fn until(&self, what: &str, condition: impl Fn(&World) -> bool) {
        for _ in 0..2_000 {
            if condition(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{what} did not happen within 10 s");
    }
}

/// A request's frame, as a client writes it.
pub fn request(code: i32, opaque: i32, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    flagged(code, opaque, 0, fields, body)
}

pub fn flagged(code: i32, opaque: i32, flag: i32, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let fields: Vec<_> = fields.iter().map(|(key, value)| format!("\"{key}\":\"{value}\"")).collect();
    let header = format!(
        "{{\"code\":{code},\"extFields\":{{{}}},\"flag\":{flag},\"language\":\"JAVA\",\"opaque\":{opaque},\
         \"serializeTypeCurrentRPC\":\"JSON\",\"version\":407}}",
        fields.join(",")
    );
    framed(0, header.as_bytes(), body)
}

/// The same request in the binary form.
pub fn binary(code: i16, opaque: i32, body: &[u8]) -> Vec<u8> {
    let mut header = code.to_be_bytes().to_vec();
    header.push(0);
    header.extend_from_slice(&407i16.to_be_bytes());
    header.extend_from_slice(&opaque.to_be_bytes());
    header.extend_from_slice(&[0; 12]);
    framed(1, &header, body)
}

fn framed(serialization: u8, header: &[u8], body: &[u8]) -> Vec<u8> {
    let mut frame = ((4 + header.len() + body.len()) as u32).to_be_bytes().to_vec();
    frame.push(serialization);
    frame.extend_from_slice(&(header.len() as u32).to_be_bytes()[1..]);
    frame.extend_from_slice(header);
    frame.extend_from_slice(body);
    frame
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub code: i32,
    pub opaque: i32,
    pub flag: i32,
    pub remark: String,
    pub fields: BTreeMap<String, String>,
    pub body: Vec<u8>,
    pub serialization: Serialization,
}

pub struct Peer {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Peer {
    pub async fn connect(address: SocketAddr) -> Peer {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Peer { stream, buffer: Vec::new() }
    }

    /// Answers a request of the server's with `code`.
    pub async fn respond(&mut self, opaque: i32, code: i32) {
        self.send(&flagged(code, opaque, 1, &[], b"")).await;
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next command; `None` when the connection was closed instead.
    pub async fn hear(&mut self) -> Option<Heard> {
        loop {
            if let Some(length) = self.buffer.first_chunk::<4>() {
                let size = 4 + u32::from_be_bytes(*length) as usize;
                if self.buffer.len() >= size {
                    let frame: Vec<u8> = self.buffer.drain(..size).collect();
                    let command = decode(&frame[4..]).unwrap();
                    let heard = Heard {
                        code: command.code,
                        opaque: command.opaque,
                        flag: command.flag,
                        remark: command.remark.as_deref().unwrap_or_default().to_owned(),
                        fields: command.fields.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
                        body: command.body.to_vec(),
                        serialization: command.serialization,
                    };
                    return Some(heard);
                }
            }
            let within = Duration::from_secs(10);
            let read = tokio::time::timeout(within, self.stream.read_buf(&mut self.buffer)).await;
            // A reset is a close as well: bytes of ours were still unread.
            if read.expect("nothing was heard for 10 s").unwrap_or(0) == 0 {
                assert!(self.buffer.is_empty(), "closed within a frame");
                return None;
            }
        }
    }

    pub async fn answer(&mut self) -> Heard {
        self.hear().await.expect("an answer rather than the end")
    }

    /// Asks for an echo, which is answered out of turn, and thereby shows that nothing else was said.
    pub async fn nothing_else(&mut self) {
        self.send(&request(ECHO, i32::MAX, &[], b"")).await;
        let heard = self.answer().await;
        assert_eq!((heard.code, heard.opaque), (0, i32::MAX), "{heard:?}");
    }
}

/// Asks and waits for the answer.
pub async fn ask(peer: &mut Peer, code: i32, fields: &[(&str, &str)], body: &[u8]) -> Heard {
    peer.send(&request(code, 1, fields, body)).await;
    loop {
        let heard = peer.answer().await;
        // News of a group's members may come first.
        if heard.code != request_code::NOTIFY_CONSUMER_IDS_CHANGED {
            return heard;
        }
    }
}

pub async fn send(peer: &mut Peer, topic: &str, body: &[u8]) -> Heard {
    ask(peer, request_code::SEND_MESSAGE_V2, &send_fields(topic), body).await
}

/// SEND_V2 to queue 0 of a topic.
pub fn send_fields(topic: &str) -> [(&str, &str); 8] {
    [("a", "p"), ("b", topic), ("c", "TBW102"), ("d", "4"), ("e", "0"), ("f", "0"), ("g", "1"), ("h", "0")]
}

/// What this process has logged since somebody listened first.
#[derive(Clone, Default)]
pub struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    pub fn listen() -> Said {
        static SAID: OnceLock<Said> = OnceLock::new();
        let said = SAID.get_or_init(|| {
            let said = Said::default();
            let written = said.clone();
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || written.clone()).init();
            said
        });
        said.clone()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    pub async fn until(&self, part: &str) {
        until(part, async || self.text().contains(part)).await;
    }
}

impl io::Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..2_000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not happen within 20 s");
}
