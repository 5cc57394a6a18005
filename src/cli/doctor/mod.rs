//! `keelmq doctor`: looks at a running cluster through its name servers, and at this host where a broker of it runs here,
//! and says in sentences what to change. Speaks RocketMQ's protocol only, so that it knows Java's brokers, too.

mod broker;
mod findings;
mod groups;
mod host;

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;

use super::{cluster::Cluster, cluster::masters, exit};
use crate::env::Env;
use findings::{Findings, Level};

#[derive(Debug, Args)]
pub struct Doctor {
    /// Name servers of the cluster, separated by ';'
    #[arg(short = 'n', long = "namesrv", value_name = "ADDRS", default_value = "127.0.0.1:9876")]
    namesrv: String,
    /// One JSON array of {"level","about","text","advice"}
    #[arg(long)]
    json: bool,
}

/// Runs it and returns the exit code: 1 if something is wrong.
pub fn run(doctor: &Doctor) -> i32 {
    super::on_runtime(|env| async move {
        let findings = examine(&env, &doctor.namesrv).await;
        match doctor.json {
            true => print!("{}", findings.json()),
            false => print!("{findings}"),
        }
        if findings.worst() == Level::Wrong { exit::FAILED } else { exit::OK }
    })
}

async fn examine(env: &Env, namesrv: &str) -> Findings {
    let mut findings = Findings::default();
    let servers: Vec<&str> = namesrv.split(';').map(str::trim).filter(|address| !address.is_empty()).collect();
    let known = name_servers(env, &servers, &mut findings).await;
    let brokers: BTreeSet<(String, String)> = known.values().flatten().cloned().collect();
    let Some(first) = known.keys().next() else { return findings };
    let cluster = Cluster { env, namesrv: first };
    for (name, address) in &brokers {
        if let Some(facts) = broker::examine(&cluster, name, address, &servers, &mut findings).await {
            host::examine(env, &facts, &mut findings).await;
            groups::examine(&cluster, &facts, &mut findings).await;
        }
    }
    findings
}

/// The masters that each name server which answers knows.
async fn name_servers(
    env: &Env,
    servers: &[&str],
    findings: &mut Findings,
) -> BTreeMap<String, BTreeSet<(String, String)>> {
    let mut known = BTreeMap::new();
    for server in servers {
        let about = format!("name server {server}");
        match (Cluster { env, namesrv: server }).info().await {
            Ok(info) => {
                let masters: BTreeSet<_> = masters(info).into_iter().collect();
                match masters.is_empty() {
                    false => findings.good(about, format!("answers and knows {}", names(&masters))),
                    true => findings.say(
                        Level::Wrong,
                        about,
                        "answers, but no broker has registered with it",
                        "start a broker with this address in namesrvAddr, or look into its log for why it cannot register",
                    ),
                }
                known.insert((*server).to_owned(), masters);
            }
            Err(reason) => findings.say(
                Level::Wrong,
                about,
                format!("does not answer: {reason}"),
                "start it, or take it out of namesrvAddr of brokers and clients",
            ),
        }
    }
    let all: BTreeSet<_> = known.values().flatten().cloned().collect();
    for (server, masters) in &known {
        let missing: BTreeSet<_> = all.difference(masters).cloned().collect();
        if !missing.is_empty() && !masters.is_empty() {
            findings.say(
                Level::Wrong,
                format!("name server {server}"),
                format!("does not know {}, which others know: clients that ask it do not find it", names(&missing)),
                format!("put {server} into namesrvAddr of {}", names(&missing)),
            );
        }
    }
    known
}

fn names(brokers: &BTreeSet<(String, String)>) -> String {
    brokers.iter().map(|(name, address)| format!("{name} at {address}")).collect::<Vec<_>>().join(", ")
}
