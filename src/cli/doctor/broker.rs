//! One broker: whether it is reached where it says, what it says of itself, how it is set up.

use std::collections::BTreeMap;

use super::findings::{Findings, Level};
use crate::{
    cli::{cluster::Cluster, text::size},
    model::settings::file,
    protocol::{body::KvTable, code::request, command::Call},
};

/// A clock that is off by more makes delays, retention and lookups by time wrong.
const CLOCK_OFF_MAX_MS: i64 = 3_000;
/// Log that is not derived yet: consumers do not see it.
const BEHIND_MAX_BYTES: i64 = 64 << 20;
const MINUTE_MS: i64 = 60_000;

/// What is known of a broker that answers.
pub struct Facts {
    pub name: String,
    pub address: String,
    pub runtime: BTreeMap<String, String>,
    pub config: BTreeMap<String, String>,
}

impl Facts {
    pub fn about(&self) -> String {
        format!("broker {}", self.name)
    }

    pub fn number(&self, key: &str) -> Option<i64> {
        self.runtime.get(key)?.parse().ok()
    }

    fn fraction(&self, key: &str) -> Option<f64> {
        self.runtime.get(key)?.parse().ok()
    }

    pub fn setting(&self, key: &str) -> &str {
        self.config.get(key).map_or("", String::as_str)
    }
}

pub async fn examine(
    cluster: &Cluster<'_>,
    name: &str,
    address: &str,
    servers: &[&str],
    findings: &mut Findings,
) -> Option<Facts> {
    let about = format!("broker {name}");
    let asked_ms = cluster.env.clock.wall_ms();
    let runtime: KvTable = match cluster.body(address, &Call::new(request::GET_BROKER_RUNTIME_INFO)).await {
        Ok(runtime) => runtime,
        Err(reason) => {
            findings.say(
                Level::Wrong,
                about,
                format!("is not reached at {address}, the address that clients are told: {reason}"),
                "set brokerIP1 (or --advertise) to an address that clients can reach, and open its port",
            );
            return None;
        }
    };
    let config = match cluster.ask(address, &Call::new(request::GET_BROKER_CONFIG)).await {
        Ok(answered) => {
            let lines = file::lines(&String::from_utf8_lossy(&answered.body));
            lines.into_iter().map(|line| (line.key, line.value)).collect()
        }
        Err(_) => BTreeMap::new(),
    };
    let facts = Facts { name: name.to_owned(), address: address.to_owned(), runtime: runtime.table, config };
    let version = facts.runtime.get("brokerVersionDesc").map_or("", String::as_str);
    findings.good(facts.about(), format!("answers at {address} as {version}"));
    fast_port(cluster, &facts, findings).await;
    addresses(&facts, servers, findings);
    clock(&facts, asked_ms, findings);
    durability(&facts, findings);
    disk(&facts, findings);
    health(&facts, findings);
    Some(facts)
}

/// Java clients before 4.5.1 and the dashboard use the port two below.
async fn fast_port(cluster: &Cluster<'_>, facts: &Facts, findings: &mut Findings) {
    let Some((host, port)) = facts.address.rsplit_once(':') else { return };
    let Some(port) = port.parse::<u16>().ok().and_then(|port| port.checked_sub(2)) else { return };
    let call = Call::new(request::GET_MAX_OFFSET).with("topic", "SELF_TEST_TOPIC").with("queueId", 0);
    if let Err(reason) = crate::cli::ask::ask(cluster.env, &format!("{host}:{port}"), &call).await {
        findings.say(
            Level::Warning,
            facts.about(),
            format!("its fast port {port} is not reached: {reason}"),
            "open it as well: the dashboard and Java clients before 4.5.1 use it",
        );
    }
}

fn addresses(facts: &Facts, servers: &[&str], findings: &mut Findings) {
    let everywhere = matches!(facts.setting("bindAddress"), "0.0.0.0" | "::");
    if facts.address.starts_with("127.") && everywhere {
        findings.say(
            Level::Warning,
            facts.about(),
            format!("listens on every interface, but tells clients {}, which only this machine reaches", facts.address),
            "set brokerIP1 (or --advertise) to the address of this machine",
        );
    }
    let registered: Vec<&str> = facts.setting("namesrvAddr").split(';').filter(|address| !address.is_empty()).collect();
    let missing: Vec<&str> =
        servers.iter().copied().filter(|server| !registered.is_empty() && !registered.contains(server)).collect();
    if !missing.is_empty() && servers.len() > 1 {
        findings.say(
            Level::Warning,
            facts.about(),
            format!("registers with {}, not with {}", registered.join(", "), missing.join(", ")),
            "let brokers and clients be given the same name servers",
        );
    }
}

/// The start and how long ago it was make the broker's own time.
fn clock(facts: &Facts, asked_ms: i64, findings: &mut Findings) {
    let Some(booted) = facts.number("bootTimestamp") else { return };
    let Some(up_s) = facts.runtime.get("runtime").and_then(|text| seconds(text)) else { return };
    let off_ms = booted + up_s * 1_000 - asked_ms;
    // The broker cuts to seconds.
    if !(-CLOCK_OFF_MAX_MS - 1_000..=CLOCK_OFF_MAX_MS).contains(&off_ms) {
        let (by, way) = (off_ms.abs() as f64 / 1e3, if off_ms < 0 { "behind" } else { "ahead of" });
        findings.say(
            Level::Warning,
            facts.about(),
            format!("its clock is {by:.0} s {way} this machine's, or one of them jumped since it started"),
            "let chrony or ntpd run on both: delays, retention and lookups by time go by the clock",
        );
    }
}

/// `[ 0 days, 1 hours, 2 minutes, 3 seconds ]`
fn seconds(text: &str) -> Option<i64> {
    let numbers: Vec<i64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [days, hours, minutes, seconds] = numbers[..] else { return None };
    Some(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
}

fn durability(facts: &Facts, findings: &mut Findings) {
    match facts.setting("flushDiskType") {
        "SYNC_FLUSH" => findings.good(facts.about(), "SYNC_FLUSH: what it acknowledges survives a power cut"),
        "ASYNC_FLUSH" => findings.say(
            Level::Note,
            facts.about(),
            format!(
                "ASYNC_FLUSH: a power cut may lose the last {} ms of acknowledged messages",
                facts.setting("flushIntervalCommitLog")
            ),
            "set flushDiskType=SYNC_FLUSH where that must not be",
        ),
        _ => {}
    }
    if facts.setting("transientStorePoolEnable") == "true" {
        findings.say(
            Level::Warning,
            facts.about(),
            "transientStorePoolEnable: acknowledged messages are lost even if only the process dies",
            "set transientStorePoolEnable=false unless that is meant",
        );
    }
}

fn disk(facts: &Facts, findings: &mut Findings) {
    let percent = |key: &str, default: f64| facts.setting(key).parse::<f64>().unwrap_or(default);
    let (refused, forced, early) = (
        percent("diskSpaceWarningLevelRatio", 90.0),
        percent("diskSpaceCleanForciblyRatio", 85.0),
        percent("diskMaxUsedSpaceRatio", 75.0),
    );
    for (key, what) in [("commitLogDiskRatio", "commit log"), ("consumeQueueDiskRatio", "consume queues")] {
        let Some(used) = facts.fraction(key).map(|ratio| ratio * 100.0) else { continue };
        let text = format!("the disk of its {what} is {used:.0} % full");
        let keep = facts.setting("fileReservedTime");
        if used >= refused {
            let advice = "free space or add some: sends are refused until then";
            findings.say(Level::Wrong, facts.about(), text, advice);
        } else if used >= forced {
            let advice = "free space: the oldest messages are deleted before their time, consumed or not";
            findings.say(Level::Wrong, facts.about(), text, advice);
        } else if used >= early {
            let advice = format!("add space or lower fileReservedTime={keep} h: above {forced:.0} % messages go early");
            findings.say(Level::Warning, facts.about(), text, advice);
        } else {
            findings.good(facts.about(), text);
        }
    }
}

fn health(facts: &Facts, findings: &mut Findings) {
    if facts.runtime.get("brokerActive").is_some_and(|active| active == "false") {
        findings.say(
            Level::Wrong,
            facts.about(),
            "refuses sends",
            "its log says why (a failed or full disk, most often); after a failed sync it must be started again",
        );
    }
    if let Some(behind) = facts.number("dispatchBehindBytes").filter(|behind| *behind > BEHIND_MAX_BYTES) {
        findings.say(
            Level::Warning,
            facts.about(),
            format!("{} of its log are not in the queues yet, so consumers do not see them", size(behind as u64)),
            "its disk or processor is too slow for what is sent; look at its load",
        );
    }
    if let Some(failed) = facts.number("putMessageFailedTimes").filter(|failed| *failed > 0) {
        findings.say(
            Level::Note,
            facts.about(),
            format!("its store refused {failed} messages since it started"),
            "its log says why; producers got an error for each",
        );
    }
    let until = facts.number("startAcceptSendRequestTimeStamp").unwrap_or(0);
    if let Some(started) = facts.number("bootTimestamp").filter(|started| until > *started + MINUTE_MS) {
        findings.say(
            Level::Warning,
            facts.about(),
            format!(
                "startAcceptSendRequestTimeStamp refuses sends until {} s after the start",
                (until - started) / 1_000
            ),
            "set it to 0",
        );
    }
    match facts.setting("brokerPermission") {
        "" | "6" | "7" => {}
        permission => findings.say(
            Level::Warning,
            facts.about(),
            format!("brokerPermission={permission} does not allow both sends (2) and pulls (4)"),
            "set it to 6 when the maintenance is over",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(runtime: &[(&str, &str)], config: &[(&str, &str)]) -> Facts {
        let table = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let (name, address) = ("b".into(), "127.0.0.1:1".into());
        Facts { name, address, runtime: table(runtime), config: table(config) }
    }

    fn check(look: impl Fn(&Facts, &mut Findings), facts: &Facts, expect: &str) {
        let mut findings = Findings::default();
        look(facts, &mut findings);
        let said = findings.to_string();
        assert!(said.contains(expect), "{said:?} does not say {expect:?}");
    }

    #[test]
    fn what_a_broker_says_of_itself() {
        let runtime = "[ 1 days, 2 hours, 3 minutes, 4 seconds ]";
        assert_eq!(seconds(runtime), Some(93_784));
        assert_eq!(seconds("x"), None);
        let at = |boot: &str| {
            facts(&[("bootTimestamp", boot), ("runtime", "[ 0 days, 0 hours, 0 minutes, 10 seconds ]")], &[])
        };
        check(|facts, to| clock(facts, 11_000, to), &at("500"), "nothing has to be changed");
        check(|facts, to| clock(facts, 60_000, to), &at("500"), "its clock is 50 s behind");
        check(|facts, to| clock(facts, 0, to), &at("500"), "its clock is 10 s ahead of");
        let full = |ratio| facts(&[("commitLogDiskRatio", ratio)], &[("diskMaxUsedSpaceRatio", "70")]);
        check(disk, &full("0.69"), "ok      broker b: the disk of its commit log is 69 % full");
        check(disk, &full("0.7"), "warning broker b: the disk of its commit log is 70 % full");
        check(disk, &full("0.85"), "deleted before their time");
        check(disk, &full("0.95"), "sends are refused");
        check(
            durability,
            &facts(&[], &[("flushDiskType", "ASYNC_FLUSH"), ("flushIntervalCommitLog", "500")]),
            "last 500 ms",
        );
        check(health, &facts(&[("brokerActive", "false")], &[]), "wrong   broker b: refuses sends");
        check(health, &facts(&[], &[("brokerPermission", "4")]), "brokerPermission=4");
        let everywhere = facts(&[], &[("bindAddress", "0.0.0.0")]);
        check(|facts, to| addresses(facts, &["127.0.0.1:9876"], to), &everywhere, "which only this machine reaches");
    }
}
