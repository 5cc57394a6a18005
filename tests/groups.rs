//! Consumer groups in their table: every change counts in its version, and what was set lasts.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[allow(dead_code)]
#[path = "remoting/world.rs"]
mod world;

use std::{path::Path, time::Duration};

use keelmq::{
    broker::{self, Broker, config::Config},
    os,
    protocol::code::request as code,
};
use world::{Peer, Said, ask};

async fn start(folder: &Path) -> (Broker, Peer) {
    let mut config = Config::tiny();
    config.store_path_root_dir = folder.display().to_string();
    let broker = broker::start(os::env(tokio::runtime::Handle::current()), config, None).await.unwrap();
    let peer = Peer::connect(broker.address()).await;
    (broker, peer)
}

/// The counter of the table's version, by which slaves and tools see that something changed.
async fn counter(peer: &mut Peer) -> u64 {
    let heard = ask(peer, code::GET_ALL_SUBSCRIPTIONGROUP_CONFIG, &[], b"").await;
    let text = String::from_utf8(heard.body).unwrap();
    let (_, rest) = text.split_once("\"counter\":").unwrap_or_else(|| panic!("no version in {text}"));
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_of_a_group_counts_and_lasts() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, mut peer) = start(folder.path()).await;
    let before = counter(&mut peer).await;
    let set = concat!(
        r#"{"groupName":"g","brokerId":1,"consumeBroadcastEnable":false,"consumeEnable":false,"#,
        r#""consumeFromMinEnable":false,"notifyConsumerIdsChangedEnable":false,"retryMaxTimes":3,"retryQueueNums":2,"#,
        r#""whichBrokerWhenConsumeSlowly":2}"#
    );
    assert_eq!(ask(&mut peer, code::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &[], set.as_bytes()).await.code, 0);
    assert_eq!(counter(&mut peer).await, before + 1);
    // Made by a consumer that comes.
    let comes = concat!(
        r#"{"clientID":"c","producerDataSet":[],"consumerDataSet":[{"groupName":"came","consumeType":"CONSUME_PASSIVELY","#,
        r#""messageModel":"CLUSTERING","consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","subscriptionDataSet":[]}]}"#
    );
    assert_eq!(ask(&mut peer, code::HEART_BEAT, &[], comes.as_bytes()).await.code, 0);
    assert_eq!(counter(&mut peer).await, before + 2);
    assert_eq!(ask(&mut peer, code::HEART_BEAT, &[], comes.as_bytes()).await.code, 0);
    assert_eq!(counter(&mut peer).await, before + 2, "nothing has changed");
    assert_eq!(ask(&mut peer, code::DELETE_SUBSCRIPTIONGROUP, &[("groupName", "came")], b"").await.code, 0);
    assert_eq!(counter(&mut peer).await, before + 3);
    broker.shutdown(Duration::from_secs(1)).await;
    drop(broker);

    let (broker, mut peer) = start(folder.path()).await;
    assert_eq!(counter(&mut peer).await, before + 3);
    let found = ask(&mut peer, code::GET_SUBSCRIPTIONGROUP_CONFIG, &[("group", "g")], b"").await;
    let found = String::from_utf8(found.body).unwrap();
    for part in set.trim_matches(['{', '}']).split(',') {
        assert!(found.contains(part), "{part} is not in {found}");
    }
    broker.shutdown(Duration::from_secs(1)).await;
}

/// Members of one group that want different things: one line names who wants what, another says that it is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_whose_members_disagree_is_named() {
    let (folder, said) = (tempfile::tempdir().unwrap(), Said::listen());
    let (broker, mut first) = start(folder.path()).await;
    let mut second = Peer::connect(broker.address()).await;
    let beat = |client: &str, expression: &str| {
        format!(
            r#"{{"clientID":"{client}","producerDataSet":[],"consumerDataSet":[{{"groupName":"torn","consumeType":
            "CONSUME_PASSIVELY","messageModel":"CLUSTERING","consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","unitMode":false,
            "subscriptionDataSet":[{{"topic":"T","subString":"{expression}","subVersion":1}}]}}]}}"#
        )
    };
    assert_eq!(ask(&mut first, code::HEART_BEAT, &[], beat("10.0.0.1@1", "red").as_bytes()).await.code, 0);
    assert!(!said.text().contains("group torn"), "one alone disagrees with nobody");
    assert_eq!(ask(&mut second, code::HEART_BEAT, &[], beat("10.0.0.2@2", "blue").as_bytes()).await.code, 0);
    said.until("the members of group torn subscribe to different things").await;
    let text = said.text();
    let line = text.lines().find(|line| line.contains("group torn subscribe to different")).unwrap();
    for part in ["WARN", "10.0.0.1@1: ", "red", "10.0.0.2@2: ", "blue", "give them the same subscriptions"] {
        assert!(line.contains(part), "no {part:?} in {line}");
    }
    assert_eq!(ask(&mut second, code::HEART_BEAT, &[], beat("10.0.0.2@2", "red").as_bytes()).await.code, 0);
    said.until("the members of group torn subscribe to the same again").await;
    broker.shutdown(Duration::from_secs(1)).await;
}
