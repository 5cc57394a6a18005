//! Calls in both directions over one connection.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use keelmq::{
    protocol::command::{Call, Response},
    remoting::{Answer, CallError, Client, ClientConfig, Lane, Processor, Request, Router, ServerConfig},
};

use crate::world::{ECHO, HELD, LATER, World, flagged, request};

const WITHIN: Duration = Duration::from_secs(10);

struct Shout;

impl Processor for Shout {
    fn process(&self, request: &Request<'_>) -> Answer {
        Answer::Now(Response::success().with_body(request.command.body.to_ascii_uppercase()))
    }
}

fn client(world: &World, config: ClientConfig) -> Client {
    let mut router = Router::new();
    router.serve(&[1], Arc::new(Shout), &Lane::new("client", 10, 1_000));
    let env = &world.env;
    Client::serving(env.clock.clone(), env.spawner.clone(), env.network.clone(), Arc::new(router), config)
}

#[tokio::test]
async fn a_client_calls_and_is_called() {
    let world = World::start(ServerConfig::default()).await;
    let client = Arc::new(client(&world, ClientConfig::default()));
    let address = world.address.to_string();
    let calls: Vec<_> = (0..200)
        .map(|number| {
            let (client, address) = (client.clone(), address.clone());
            tokio::spawn(async move {
                let body = Bytes::from(vec![number as u8; number * 100]);
                let call = Call::new(ECHO).with("number", number as i64).with_body(body.clone());
                let answered = client.call(&address, call, WITHIN).await.unwrap();
                assert_eq!((answered.code, answered.remark), (0, Some(format!("number={number}"))));
                assert_eq!(answered.body, body);
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(world.server.connections(), 1, "callers share one connection");
    let channel = world.server.channels().remove(0);
    let answered = channel.call(Call::new(1).with_body("hello"), WITHIN).await.unwrap();
    assert_eq!((answered.code, &answered.body[..]), (0, &b"HELLO"[..]));
    assert_eq!(channel.call(Call::new(2), WITHIN).await.unwrap().code, 3, "what its router does not know");
    channel.oneway(Call::new(1));

    // A connection that was closed is replaced at the next call.
    channel.close();
    world.until("closing", |world| world.server.connections() == 0).await;
    let again = client.channel(&address).await.unwrap();
    world.until("noticing", |world| !again.is_open() || world.server.connections() == 1).await;
    client.call(&address, Call::new(ECHO), WITHIN).await.unwrap();
    client.close();
    world.until("closing", |world| world.server.connections() == 0).await;
}

#[tokio::test]
async fn calls_that_fail() {
    let world = World::start(ServerConfig::default()).await;
    let client = client(&world, ClientConfig { calls_max: 1, ..ClientConfig::default() });
    let address = world.address.to_string();
    let error = client.call(&address, Call::new(HELD), Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, CallError::TimedOut { .. }), "{error}");
    let channel = client.channel(&address).await.unwrap();
    {
        let mut first = std::pin::pin!(channel.call(Call::new(HELD), WITHIN));
        tokio::select! {
            biased;
            _ = &mut first => panic!("nobody answers"),
            second = channel.call(Call::new(ECHO), WITHIN) => {
                assert!(matches!(second, Err(CallError::TooMany { under_way: 1, max: 1, .. })), "{second:?}");
            }
        }
    }
    // The first gave up and made room.
    channel.call(Call::new(ECHO), WITHIN).await.unwrap();
    // The late answer to a call that gave up is dropped.
    let (held, opaque, serialization) = world.held.lock().unwrap().remove(0);
    held.respond(opaque, serialization, Response::success());
    channel.call(Call::new(ECHO), WITHIN).await.unwrap();
    // Whoever waits learns that the connection is gone.
    let waiting = channel.clone();
    let waiting = tokio::spawn(async move { waiting.call(Call::new(LATER).with("at", 9), WITHIN).await });
    world.until("dispatch", |world| world.lane.in_flight() == 1).await;
    held.close();
    assert!(matches!(waiting.await.unwrap(), Err(CallError::Closed { .. })));
    assert!(matches!(channel.call(Call::new(ECHO), WITHIN).await, Err(CallError::Closed { .. })));
    // Nobody listens there.
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = client.call(&nobody.to_string(), Call::new(ECHO), WITHIN).await.unwrap_err();
    assert!(matches!(&error, CallError::Connect { reason, .. } if reason.contains("refused")), "{error}");
}

#[tokio::test]
async fn a_server_calls_a_raw_peer() {
    let world = World::start(ServerConfig::default()).await;
    let mut peer = world.connect().await;
    peer.nothing_else().await;
    let channel = world.server.channels().remove(0);
    let calling = channel.clone();
    let calling = tokio::spawn(async move { calling.call(Call::new(307).with("group", "G"), WITHIN).await });
    let asked = peer.answer().await;
    assert_eq!((asked.code, asked.flag, &asked.fields["group"][..]), (307, 0, "G"));
    // Our own request under the same opaque is told apart by the response bit.
    peer.send(&request(ECHO, asked.opaque, &[], b"mine")).await;
    assert_eq!(peer.answer().await.body, b"mine");
    peer.send(&flagged(5, asked.opaque, 1, &[("a", "b")], b"yours")).await;
    let answered = calling.await.unwrap().unwrap();
    assert_eq!((answered.code, answered.fields.get("a"), &answered.body[..]), (5, Some("b"), &b"yours"[..]));
    channel.oneway(Call::new(40).with("consumerGroup", "G"));
    let told = peer.answer().await;
    assert_eq!((told.code, told.flag), (40, 2));
}
