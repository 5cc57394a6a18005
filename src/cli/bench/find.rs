//! Where a topic's broker is: one question to a name server, or the address given.

use crate::{
    cli::ask::ask,
    env::Env,
    protocol::{
        body::{Body, TopicRouteData},
        code::{request, response},
        command::Call,
    },
};

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
