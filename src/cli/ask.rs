//! One request, one answer, on a connection of its own: enough for tools.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    env::{Env, Stream, timeout},
    protocol::{
        command::{Answered, Call, Serialization, decode, encode_call},
        frame,
    },
};

/// Largest answer taken.
pub const FRAME_SIZE_MAX_BYTES: usize = 64 << 20;

const WITHIN: Duration = Duration::from_secs(5);

/// One request on a connection of its own.
pub async fn ask(env: &Env, address: &str, call: &Call) -> Result<Answered, String> {
    Asker::connect(env, address).await?.ask(call).await
}

/// A connection for one question after the other.
pub struct Asker<'a> {
    env: &'a Env,
    address: &'a str,
    stream: Box<dyn Stream>,
    bytes: Vec<u8>,
}

impl<'a> Asker<'a> {
    pub async fn connect(env: &'a Env, address: &'a str) -> Result<Self, String> {
        match timeout(&*env.clock, WITHIN, env.network.connect(address)).await {
            Ok(Ok(stream)) => Ok(Asker { env, address, stream, bytes: Vec::new() }),
            Ok(Err(error)) => Err(format!("{address}: {error}")),
            Err(elapsed) => Err(format!("{address}: {elapsed}")),
        }
    }

    pub async fn ask(&mut self, call: &Call) -> Result<Answered, String> {
        let (env, address) = (self.env, self.address);
        match timeout(&*env.clock, WITHIN, self.exchange(call)).await {
            Ok(answer) => answer.map_err(|reason| format!("{address}: {reason}")),
            Err(elapsed) => Err(format!("{address}: {elapsed}")),
        }
    }

    async fn exchange(&mut self, call: &Call) -> Result<Answered, String> {
        let Asker { stream, bytes, .. } = self;
        bytes.clear();
        encode_call(call, 1, false, Serialization::Json, bytes);
        stream.write_all(bytes).await.map_err(|error| error.to_string())?;
        bytes.clear();
        loop {
            if stream.read_buf(bytes).await.map_err(|error| error.to_string())? == 0 {
                return Err("it closed the connection".to_owned());
            }
            let Some((content, _)) = frame::split(bytes, FRAME_SIZE_MAX_BYTES).map_err(|error| error.to_string())?
            else {
                continue;
            };
            let command = decode(content).map_err(|error| error.to_string())?;
            return Ok(Answered {
                code: command.code,
                version: command.version,
                remark: command.remark.map(|remark| remark.into_owned()),
                fields: command.fields.into_owned(),
                body: bytes::Bytes::copy_from_slice(command.body),
            });
        }
    }
}
