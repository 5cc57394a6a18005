//! One request, one answer, on a connection of its own: enough for tools.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    env::{Env, timeout},
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
    let exchange = async {
        let mut stream = env.network.connect(address).await.map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        encode_call(call, 1, false, Serialization::Json, &mut bytes);
        stream.write_all(&bytes).await.map_err(|error| error.to_string())?;
        bytes.clear();
        loop {
            if stream.read_buf(&mut bytes).await.map_err(|error| error.to_string())? == 0 {
                return Err("it closed the connection".to_owned());
            }
            let Some((content, _)) = frame::split(&bytes, FRAME_SIZE_MAX_BYTES).map_err(|error| error.to_string())?
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
    };
    match timeout(&*env.clock, WITHIN, exchange).await {
        Ok(answer) => answer.map_err(|reason| format!("{address}: {reason}")),
        Err(elapsed) => Err(format!("{address}: {elapsed}")),
    }
}
