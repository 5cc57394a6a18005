//! What the table of routes answers after what it was told.

use super::*;

const BROKER: Registration<'static> = Registration {
    cluster: "C",
    broker_name: "a",
    broker_addr: "1:1",
    broker_id: MASTER,
    ha_server_addr: "1:2",
    expires_after: Duration::from_secs(120),
    enable_acting_master: None,
    body: &RegisterBrokerBody { filter_server_list: Vec::new(), topics: EMPTY },
    is_complete: false,
    channel: 1,
};
const EMPTY: crate::protocol::body::TopicConfigTable = crate::protocol::body::TopicConfigTable {
    data_version: DataVersion { counter: 0, state_version: None, timestamp: 0 },
    topic_config_table: BTreeMap::new(),
};

fn body(counter: i64, topics: &[&str]) -> RegisterBrokerBody {
    let mut body = RegisterBrokerBody::default();
    body.topics.data_version.counter = counter;
    for topic in topics {
        body.topics.topic_config_table.insert((*topic).into(), TopicConfig::new(*topic, 4, 6));
    }
    body
}

fn routes() -> Routes {
    Routes::new(16, 100)
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn topics(routes: &Routes) -> Vec<String> {
    routes.all_topics().topic_list.into_iter().collect()
}

#[test]
fn changes_are_merged_never_replaced() {
    let mut routes = routes();
    routes.register(&Registration { body: &body(1, &["t", "u"]), ..BROKER }, at(0)).unwrap();
    routes.register(&Registration { body: &body(2, &["v"]), ..BROKER }, at(1)).unwrap();
    assert_eq!(topics(&routes), ["t", "u", "v"]);
    let route = routes.route("v").unwrap();
    assert_eq!(route.broker_datas[0].broker_addrs, [(0, "1:1".to_owned())].into());
    assert_eq!((route.queue_datas[0].write_queue_nums, route.queue_datas[0].perm), (4, 6));
    assert_eq!(routes.route("w"), None);
    // An equal version says that nothing changed, whatever the body holds.
    routes.register(&Registration { body: &body(2, &["w"]), ..BROKER }, at(2)).unwrap();
    assert_eq!(topics(&routes), ["t", "u", "v"]);
    routes.register(&Registration { body: &body(3, &["t"]), is_complete: true, ..BROKER }, at(3)).unwrap();
    assert_eq!(topics(&routes), ["t"]);
}

/// A name server that restarts may first hear of a broker through the one topic that it has just created. Java's
/// 4.9.7 then takes the version for known and ignores the complete registration that follows.
#[test]
fn a_change_before_the_first_complete_registration_hides_nothing() {
    let mut routes = routes();
    routes.register(&Registration { body: &body(7, &["t"]), ..BROKER }, at(0)).unwrap();
    assert_eq!(topics(&routes), ["t"]);
    assert_eq!(routes.data_version("C", "1:1", &body(7, &[]).topics.data_version, at(0)), None);
    routes.register(&Registration { body: &body(7, &["t", "u"]), ..BROKER }, at(1)).unwrap();
    assert_eq!(topics(&routes), ["t", "u"]);
}

#[test]
fn slaves_learn_their_master() {
    let mut routes = routes();
    let slave = Registration { broker_addr: "2:1", broker_id: 1, ha_server_addr: "2:2", channel: 2, ..BROKER };
    let with_topics = body(1, &["t", "u"]);
    assert_eq!(routes.register(&Registration { body: &with_topics, ..slave }, at(0)), Ok(Registered::default()));
    assert_eq!(topics(&routes), Vec::<String>::new());
    routes.register(&BROKER, at(0)).unwrap();
    let registered = routes.register(&slave, at(0)).unwrap();
    assert_eq!(registered.master_addr.as_deref(), Some("1:1"));
    assert_eq!(registered.ha_server_addr.as_deref(), Some("1:2"));
    // The slave takes the master's place: one address, one id.
    routes.register(&Registration { broker_id: MASTER, ..slave }, at(1)).unwrap();
    assert_eq!(routes.cluster_info().broker_addr_table["a"].broker_addrs, [(0, "2:1".to_owned())].into());
}

#[test]
fn the_last_address_takes_name_and_topics_along() {
    let mut routes = routes();
    let with_topics = body(1, &["t", "u"]);
    routes.register(&Registration { body: &with_topics, ..BROKER }, at(0)).unwrap();
    routes.register(&Registration { broker_addr: "2:1", broker_id: 1, channel: 2, ..BROKER }, at(0)).unwrap();
    routes
        .register(
            &Registration { broker_name: "b", broker_addr: "3:1", channel: 3, body: &with_topics, ..BROKER },
            at(0),
        )
        .unwrap();
    assert_eq!(routes.channel_closed(1).len(), 1);
    assert_eq!(routes.route("t").unwrap().broker_datas[0].broker_addrs, [(1, "2:1".to_owned())].into());
    assert_eq!(routes.unregister("C", "2:1").unwrap().broker_name, "a");
    assert_eq!(routes.route("t").unwrap().queue_datas.len(), 1);
    assert_eq!(routes.unregister("C", "2:1"), None);
    assert_eq!(routes.channel_closed(3).len(), 1);
    assert_eq!(routes.cluster_info(), ClusterInfo::default());
    assert_eq!(topics(&routes), Vec::<String>::new());
}

/// A broker that connected anew has registered over its new connection before the old one's end is noticed.
#[test]
fn the_end_of_an_older_connection_changes_nothing() {
    let mut routes = routes();
    routes.register(&BROKER, at(0)).unwrap();
    routes.register(&Registration { channel: 9, ..BROKER }, at(1)).unwrap();
    assert_eq!(routes.channel_closed(1), []);
    assert_eq!(routes.cluster_info().broker_addr_table.len(), 1);
}

#[test]
fn silence_ends_a_registration() {
    let mut routes = routes();
    let with_topics = body(1, &["t", "u"]);
    let broker = Registration { body: &with_topics, ..BROKER };
    routes.register(&broker, at(0)).unwrap();
    assert_eq!(routes.expire(at(120)), []);
    let version = &with_topics.topics.data_version;
    assert_eq!(routes.data_version("C", "1:1", version, at(100)).as_ref(), Some(version));
    assert_eq!(routes.expire(at(220)), []);
    assert_eq!(routes.data_version("C", "1:1", &body(8, &[]).topics.data_version, at(219)).as_ref(), Some(version));
    routes.heard("C", "1:1", at(110));
    assert_eq!(routes.expire(at(231)).len(), 1);
    assert_eq!(routes.route("t"), None);
}

#[test]
fn what_a_broker_was_before_is_forgotten() {
    let mut routes = routes();
    let with_topics = body(1, &["t", "u"]);
    routes.register(&Registration { body: &with_topics, ..BROKER }, at(0)).unwrap();
    routes.register(&Registration { broker_name: "new", body: &with_topics, ..BROKER }, at(1)).unwrap();
    assert_eq!(routes.cluster_info().broker_addr_table.keys().collect::<Vec<_>>(), ["new"]);
    // The same id with another address replaces; the former address leaving later takes nothing along.
    routes
        .register(&Registration { broker_name: "new", broker_addr: "4:4", body: &with_topics, ..BROKER }, at(2))
        .unwrap();
    assert_eq!(routes.unregister("C", "1:1"), None);
    assert_eq!(routes.route("t").unwrap().broker_datas[0].broker_addrs, [(0, "4:4".to_owned())].into());
}

#[test]
fn a_higher_state_version_holds_its_place() {
    let mut routes = routes();
    let mut held = body(1, &["t", "u"]);
    held.topics.data_version.state_version = Some(5);
    routes.register(&Registration { body: &held, ..BROKER }, at(0)).unwrap();
    let former = Registration { broker_addr: "2:1", body: &body(9, &["x", "y"]), ..BROKER };
    assert_eq!(routes.register(&former, at(1)), Ok(Registered::default()));
    assert_eq!(routes.cluster_info().broker_addr_table["a"].broker_addrs, [(0, "1:1".to_owned())].into());
}

#[test]
fn bounds_are_kept() {
    let mut routes = Routes::new(1, 2);
    routes.register(&Registration { body: &body(1, &["t", "u"]), ..BROKER }, at(0)).unwrap();
    let more = body(2, &["v"]);
    assert_eq!(
        routes.register(&Registration { body: &more, ..BROKER }, at(0)),
        Err(RegisterError::TooManyTopics { max: 2 })
    );
    assert_eq!(
        routes.register(&Registration { broker_addr: "2:2", broker_name: "b", ..BROKER }, at(0)),
        Err(RegisterError::TooManyBrokers { max: 1 })
    );
}

#[test]
fn permissions_and_lists() {
    let mut routes = routes();
    let mut with_topics = body(1, &["t", "u"]);
    with_topics.topics.topic_config_table.get_mut("u").unwrap().topic_sys_flag = 3;
    routes.register(&Registration { body: &with_topics, ..BROKER }, at(0)).unwrap();
    assert_eq!(routes.set_writable("a", false), 2);
    assert_eq!(routes.route("t").unwrap().queue_datas[0].perm, perm::READ);
    assert_eq!(routes.set_writable("a", true), 2);
    assert_eq!(routes.set_writable("nobody", true), 0);
    assert_eq!(routes.route("t").unwrap().queue_datas[0].perm, 6);
    assert_eq!(routes.unit_topics().topic_list, ["u".to_owned()].into());
    assert_eq!(routes.unit_subscribed_topics().topic_list, ["u".to_owned()].into());
    assert!(routes.unit_subscribed_other_topics().topic_list.is_empty());
    assert_eq!(routes.topics_of_cluster("C").topic_list.len(), 2);
    assert!(routes.topics_of_cluster("D").topic_list.is_empty());
    assert_eq!(routes.system_topics().topic_list, ["C".to_owned(), "a".to_owned()].into());
    assert_eq!(routes.system_topics().broker_addr.as_deref(), Some("1:1"));
    routes.delete_topic("t", Some("D"));
    assert_eq!(topics(&routes), ["t", "u"]);
    routes.delete_topic("t", Some("C"));
    assert_eq!(topics(&routes), ["u"]);
    routes.delete_topic("u", None);
    assert!(topics(&routes).is_empty());
}

/// A broker that came back with another brokerClusterName within two minutes left its old address behind: when that fell
/// silent the name server looked for a broker that had gone with the new one, panicked, and from then on with every request.
#[test]
fn a_broker_that_changes_its_cluster_takes_its_addresses_along() {
    let mut routes = routes();
    routes.register(&Registration { body: &body(1, &["t"]), ..BROKER }, at(0)).unwrap();
    routes.register(&Registration { cluster: "D", body: &body(1, &["t"]), ..BROKER }, at(100)).unwrap();
    assert_eq!(routes.cluster_info().cluster_addr_table, [("D".to_owned(), ["a".to_owned()].into())].into());
    assert_eq!(routes.expire(at(130)), []);
    assert_eq!(routes.unregister("C", "1:1"), None);
    assert_eq!(routes.unregister("D", "1:1").map(|gone| gone.broker_name), Some("a".to_owned()));
    assert_eq!(routes.expire(at(1_000)), []);
    assert!(routes.brokers.is_empty() && routes.clusters.is_empty() && topics(&routes).is_empty());
}

/// Whatever comes in whatever order, the tables are about the same brokers.
#[test]
fn the_tables_agree_after_every_sequence() {
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Register(&'static str, &'static str, &'static str, i64),
        Unregister(&'static str, &'static str),
    }
    let (pairs, mut steps) = ([("C", "1:1"), ("C", "2:2"), ("D", "1:1"), ("D", "2:2")], Vec::new());
    for (cluster, addr) in pairs {
        steps.push(Step::Unregister(cluster, addr));
        for name in ["a", "b"] {
            steps.extend([0, 1].map(|id| Step::Register(cluster, name, addr, id)));
        }
    }
    let agree = |routes: &Routes, steps: &[Step]| {
        for (address, live) in &routes.live {
            let broker = routes.brokers.get(&live.broker_name).unwrap_or_else(|| panic!("{steps:?}: no {address:?}"));
            assert_eq!(broker.cluster, address.cluster, "{steps:?}");
            assert!(broker.broker_addrs.values().any(|addr| *addr == address.addr), "{steps:?}: {broker:?}");
        }
        let mut clusters = BTreeMap::<String, BTreeSet<String>>::new();
        for (name, broker) in &routes.brokers {
            assert!(!broker.broker_addrs.is_empty(), "{steps:?}: {broker:?}");
            for addr in broker.broker_addrs.values() {
                let address = Address { cluster: broker.cluster.clone(), addr: addr.clone() };
                let live = routes.live.get(&address).unwrap_or_else(|| panic!("{steps:?}: {broker:?} is not heard of"));
                assert_eq!(live.broker_name, *name, "{steps:?}");
            }
            clusters.entry(broker.cluster.clone()).or_default().insert(name.clone());
        }
        assert_eq!(routes.clusters, clusters, "{steps:?}");
    };
    let take = |routes: &mut Routes, step: Step| match step {
        Step::Register(cluster, broker_name, broker_addr, broker_id) => {
            let new = Registration { cluster, broker_name, broker_addr, broker_id, body: &body(1, &["t"]), ..BROKER };
            routes.register(&new, at(0)).unwrap();
        }
        Step::Unregister(cluster, addr) => drop(routes.unregister(cluster, addr)),
    };
    for sequence in 0..steps.len().pow(4) {
        let chosen = [0, 1, 2, 3].map(|place| steps[sequence / steps.len().pow(place) % steps.len()]);
        let mut routes = routes();
        for (taken, step) in chosen.into_iter().enumerate() {
            take(&mut routes, step);
            agree(&routes, &chosen[..=taken]);
        }
    }
}
