//! Requests to one cluster, found through its name server.

use super::ask::ask;
use crate::{
    env::Env,
    protocol::{
        body::{Body, BrokerData, ClusterInfo, TopicRouteData},
        code::{request, response},
        command::{Answered, Call},
    },
};

pub struct Cluster<'a> {
    pub env: &'a Env,
    pub namesrv: &'a str,
}

impl Cluster<'_> {
    /// An answer of code 0, or what was said instead.
    pub async fn ask(&self, address: &str, call: &Call) -> Result<Answered, String> {
        let answer = ask(self.env, address, call).await?;
        if answer.code == response::SUCCESS {
            return Ok(answer);
        }
        let name = response::name(answer.code).unwrap_or("unknown code");
        Err(format!("{address}: {} {name}: {}", answer.code, answer.remark.unwrap_or_default()))
    }

    pub async fn body<B: Body>(&self, address: &str, call: &Call) -> Result<B, String> {
        let answer = self.ask(address, call).await?;
        B::decode(&answer.body).map_err(|error| format!("{address}: its answer cannot be read: {error}"))
    }

    pub async fn info(&self) -> Result<ClusterInfo, String> {
        self.body(self.namesrv, &Call::new(request::GET_BROKER_CLUSTER_INFO)).await
    }

    /// Name and address of every master.
    pub async fn masters(&self) -> Result<Vec<(String, String)>, String> {
        let masters = masters(self.info().await?);
        if masters.is_empty() {
            return Err(format!("name server {} knows no broker", self.namesrv));
        }
        Ok(masters)
    }

    pub async fn route(&self, topic: &str) -> Result<TopicRouteData, String> {
        self.body(self.namesrv, &Call::new(request::GET_ROUTEINFO_BY_TOPIC).with("topic", topic.to_owned())).await
    }

    /// Name and address of the masters that have the topic.
    pub async fn masters_of(&self, topic: &str) -> Result<Vec<(String, String)>, String> {
        let route = self.route(topic).await?;
        let master = |data: &BrokerData| data.broker_addrs.get(&0).map(|it| (data.broker_name.clone(), it.clone()));
        Ok(route.broker_datas.iter().filter_map(master).collect())
    }
}

/// Name and address of every master.
pub fn masters(info: ClusterInfo) -> Vec<(String, String)> {
    let master = |(name, data): (String, BrokerData)| data.broker_addrs.get(&0).map(|address| (name, address.clone()));
    info.broker_addr_table.into_iter().filter_map(master).collect()
}
