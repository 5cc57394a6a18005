//! Where a topic's broker is: one question to a name server, or the address given.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    env::{Env, timeout},
    protocol::{
        body::{Body, TopicRouteData},
        code::{request, response},
        command::{Answered, Call, Serialization, decode, encode_call},
        frame,
    },
};

/// Largest answer taken.
pub const FRAME_SIZE_MAX_BYTES: usize = 64 << 20;

const WITHIN: Duration = Duration::from_secs(5);

/// A broker and the queues that a topic has on it; 0 if the topic is not there yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub address: String,
    pub queues: u32,
}

/// Asks the name server for `topic`, then for the topic that new ones are made after.
pub async fn find(env: &Env, namesrv: &str, topic: &str) -> Result<Found, String> {
    for asked in [topic, "TBW102"] {
        let call = Call::new(request::GET_ROUTEINFO_BY_TOPIC).with("topic", asked.to_owned());
        let answer = ask(env, namesrv, &call).await?;
        if answer.code != response::SUCCESS {
            continue;
        }
        let route = TopicRouteData::decode(&answer.body)
            .map_err(|error| format!("name server {namesrv} gave a route that cannot be read: {error}"))?;
        for broker in &route.broker_datas {
            let Some(address) = broker.broker_addrs.get(&0) else { continue };
            let queues = route.queue_datas.iter().find(|queues| queues.broker_name == broker.broker_name);
            let queues = queues.filter(|_| asked == topic).map_or(0, |queues| queues.write_queue_nums.max(0) as u32);
            return Ok(Found { address: address.clone(), queues });
        }
    }
    Err(format!("name server {namesrv} knows no broker for topic {topic}, nor one that creates topics"))
}

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
