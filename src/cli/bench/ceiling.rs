//! `keelmq bench ceiling`: what this machine could do at most. Takes the same frames as a broker, answers sends without
//! storing them (or after appending the frames to one file and syncing it once per wake-up), pulls with the same bytes
//! again and again.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    task::Poll,
};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Ceiling, record};
use crate::{
    cli::{ask::FRAME_SIZE_MAX_BYTES, exit},
    env::{Env, File, Open, Stream},
    model::Watermark,
    protocol::{
        code::{request, response},
        command::{Command, Response, decode, encode_response},
        frame,
        header::SendMessage,
    },
};

/// Bytes read in one go.
const READ_BYTES: usize = 256 << 10;

/// The file that frames are appended to starts anew here, so that the disk does not fill up.
const FILE_BYTES: u64 = 1 << 30;

/// What all connections share.
struct Shared {
    appends: Option<Arc<Appends>>,
    /// The answer to every pull.
    records: Bytes,
    pull_count: u32,
}

/// Frames on their way into the file: one write and one sync take whatever has come together.
struct Appends {
    staged: Mutex<Staged>,
    /// Bytes handed in so far; moving it wakes the writer.
    wanted: Arc<Watermark>,
    synced: Arc<Watermark>,
}

#[derive(Default)]
struct Staged {
    bytes: Vec<u8>,
    end: u64,
}

pub async fn run(env: Env, args: &Ceiling) -> i32 {
    match serve(env, args).await {
        Ok(()) => exit::OK,
        Err(error) => {
            eprintln!("keelmq bench: {error}");
            exit::FAILED
        }
    }
}

async fn serve(env: Env, args: &Ceiling) -> io::Result<()> {
    let bound = env.network.bind(SocketAddr::from(([127, 0, 0, 1], args.port))).await?;
    let address = bound.local_address();
    let listener = bound.listen(1_024)?;
    let appends = match &args.append {
        None => None,
        Some(path) => Some(start_appending(&env, path)?),
    };
    let record = record::of(args.pull_size as usize);
    let records = Bytes::from(record.repeat(args.pull_count as usize));
    let shared = Arc::new(Shared { appends, records, pull_count: args.pull_count });
    println!("ready ceiling={address}");
    loop {
        let stream = listener.accept().await?;
        let shared = shared.clone();
        drop(env.spawner.task("ceiling connection", async move {
            // A connection that ends is the generator's business.
            let _ = answer(stream, shared).await;
        }));
    }
}

fn start_appending(env: &Env, path: &Path) -> io::Result<Arc<Appends>> {
    let path = PathBuf::from(path);
    if env.storage.exists(&path) {
        env.storage.remove(&path)?;
    }
    let file = env.storage.open(&path, Open::New { reserve: FILE_BYTES })?;
    let appends = Arc::new(Appends { staged: Mutex::default(), wanted: Watermark::new(0), synced: Watermark::new(0) });
    drop(env.spawner.service("ceiling sync", append(appends.clone(), file)));
    Ok(appends)
}

async fn append(appends: Arc<Appends>, file: Arc<dyn File>) {
    let mut at = 0;
    let mut spare = Vec::new();
    let mut waiter = appends.wanted.waiter();
    loop {
        let done = appends.synced.get();
        if poll_fn(|context| waiter.poll_reached(done + 1, context)).await.is_err() {
            return;
        }
        let end = {
            let mut staged = appends.staged.lock().expect("nothing panics while it is held");
            std::mem::swap(&mut staged.bytes, &mut spare);
            staged.end
        };
        if at + spare.len() as u64 > FILE_BYTES {
            at = 0;
        }
        let written = file.write(at, &[&spare]).map_err(|error| error.to_string());
        at += spare.len() as u64;
        spare.clear();
        let synced = match written {
            Ok(()) => file.sync().await.map_err(|error| error.to_string()),
            Err(reason) => Err(reason),
        };
        match synced {
            Ok(()) => appends.synced.advance(end),
            Err(reason) => return appends.synced.fail(&reason),
        }
    }
}

/// Answers in the order of the requests; those that wait for a sync keep nobody from reading on.
async fn answer(mut stream: Box<dyn Stream>, shared: Arc<Shared>) -> io::Result<()> {
    let mut input = vec![0; READ_BYTES];
    let mut filled = 0;
    let mut offset = 0;
    let mut waiting: VecDeque<(u64, Vec<u8>)> = VecDeque::new();
    let mut waiter = shared.appends.as_ref().map(|appends| appends.synced.waiter());
    loop {
        let front = waiting.front().map(|(end, _)| *end);
        let synced = poll_fn(|context| match (&mut waiter, front) {
            (Some(waiter), Some(end)) => waiter.poll_reached(end, context),
            _ => Poll::Pending,
        });
        let len = tokio::select! {
            biased;
            synced = synced => {
                synced.map_err(io::Error::other)?;
                let (_, out) = waiting.pop_front().expect("only the front is waited for");
                stream.write_all(&out).await?;
                continue;
            }
            len = stream.read(&mut input[filled..]) => len?,
        };
        if len == 0 {
            return Ok(());
        }
        filled += len;
        let (mut taken, mut out) = (0, Vec::new());
        while let Some((content, len)) =
            frame::split(&input[taken..filled], FRAME_SIZE_MAX_BYTES).map_err(io::Error::other)?
        {
            let command = decode(content).map_err(io::Error::other)?;
            respond(&command, &shared, &mut offset, &mut out);
            taken += len;
        }
        match &shared.appends {
            Some(appends) if taken > 0 => waiting.push_back((appends.stage(&input[..taken]), out)),
            _ => stream.write_all(&out).await?,
        }
        input.copy_within(taken..filled, 0);
        filled -= taken;
        if filled == input.len() {
            input.resize(input.len() * 2, 0);
        }
    }
}

impl Appends {
    /// Hands `frames` to the writer; the position that is synced once they are.
    fn stage(&self, frames: &[u8]) -> u64 {
        let end = {
            let mut staged = self.staged.lock().expect("nothing panics while it is held");
            staged.bytes.extend_from_slice(frames);
            staged.end += frames.len() as u64;
            staged.end
        };
        self.wanted.advance(end);
        end
    }
}

fn respond(command: &Command<'_>, shared: &Shared, offset: &mut i64, out: &mut Vec<u8>) {
    let response = match command.code {
        request::PULL_MESSAGE => {
            let from = command.fields.get("queueOffset").and_then(|text| text.parse::<i64>().ok()).unwrap_or_default();
            let next = from + i64::from(shared.pull_count);
            Response::success()
                .with("suggestWhichBrokerId", 0i64)
                .with("nextBeginOffset", next)
                .with("minOffset", 0i64)
                .with("maxOffset", next + 1_000_000)
                .with_body(shared.records.clone())
        }
        request::GET_MIN_OFFSET | request::GET_MAX_OFFSET => Response::success().with("offset", 0i64),
        code if SendMessage::is_v2(code) => match SendMessage::decode(code, &command.fields) {
            Ok(header) => {
                *offset += 1;
                Response::success()
                    .with("msgId", "7F00000100002A9F0000000000000000")
                    .with("queueId", header.queue_id)
                    .with("queueOffset", *offset)
                    .with("MSG_REGION", "DefaultRegion")
                    .with("TRACE_ON", true)
            }
            Err(error) => Response::error(response::SYSTEM_ERROR, error.to_string()),
        },
        _ => Response::error(response::REQUEST_CODE_NOT_SUPPORTED, "the ceiling stores nothing"),
    };
    encode_response(&response, command.opaque, command.serialization, out);
    for part in &response.body {
        out.extend_from_slice(part);
    }
}
