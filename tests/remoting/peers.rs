//! Peers that are slow, idle, many or gone; and the end.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use keelmq::{
    env::{BoxFuture, Listener, Stream},
    remoting::{Router, Server, ServerConfig},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{ECHO, KEPT, LATER, LONG, Peer, World, request};

#[tokio::test]
async fn one_who_does_not_read_is_cut_off() {
    let config =
        ServerConfig { connection_out_max_bytes: 1 << 20, write_stall_close_ms: 300, ..ServerConfig::default() };
    let world = World::start(config).await;
    let mut slow = world.connect().await;
    let mut other = world.connect().await;
    let asked = 1_000;
    for opaque in 0..asked {
        if slow.stream.write_all(&request(LONG, opaque, &[("len", "100000")], b"")).await.is_err() {
            break;
        }
    }
    world.until("cutting off", |world| world.server.connections() == 1).await;
    let served = world.processed.load(Ordering::SeqCst);
    assert!(served < asked as usize, "all {served} were read although nothing was taken");
    other.nothing_else().await;
    assert_eq!(world.server.memory_bytes(), 0);
    assert_eq!(world.closed.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn one_who_reads_slowly_gets_everything() {
    let config = ServerConfig { connection_out_max_bytes: 300_000, ..ServerConfig::default() };
    let world = World::start(config).await;
    let mut peer = world.connect().await;
    let requests: Vec<u8> = (0..100).flat_map(|opaque| request(LONG, opaque, &[("len", "150000")], b"")).collect();
    peer.send(&requests).await;
    for opaque in 0..100 {
        let heard = peer.answer().await;
        assert_eq!((heard.opaque, heard.body.len()), (opaque, 150_000));
        assert!(world.server.memory_bytes() < 1 << 20);
    }
}

#[tokio::test]
async fn the_idle_are_closed_and_the_busy_are_not() {
    let world = World::start(ServerConfig { idle_close_ms: 400, ..ServerConfig::default() }).await;
    let mut idle = world.connect().await;
    let mut busy = world.connect().await;
    idle.nothing_else().await;
    for _ in 0..12 {
        busy.nothing_else().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(idle.hear().await, None);
    busy.nothing_else().await;
}

#[tokio::test]
async fn one_who_leaves_within_a_frame() {
    let world = World::start(ServerConfig::default()).await;
    let mut peer = world.connect().await;
    let bytes = request(ECHO, 1, &[], &[1; 300_000]);
    peer.send(&bytes[..200_000]).await;
    world.until("a partial frame", |world| world.server.memory_bytes() >= 200_000).await;
    drop(peer);
    world.until("closing", |world| world.server.connections() == 0).await;
    assert_eq!((world.server.memory_bytes(), world.closed.lock().unwrap().len()), (0, 1));
}

#[tokio::test]
async fn one_who_says_everything_and_then_only_listens() {
    let world = World::start(ServerConfig::default()).await;
    let mut peer = world.connect().await;
    peer.send(&request(KEPT, 1, &[("at", "5")], b"")).await;
    peer.stream.shutdown().await.unwrap();
    world.until("dispatch", |world| world.lane.in_flight() == 1).await;
    world.kept.advance(5);
    assert_eq!(peer.answer().await.opaque, 1);
    assert_eq!(peer.hear().await, None);
}

#[tokio::test]
async fn one_too_many_is_refused() {
    let world = World::start(ServerConfig { connections_max: 2, ..ServerConfig::default() }).await;
    let mut peers = [world.connect().await, world.connect().await];
    for peer in &mut peers {
        peer.nothing_else().await;
    }
    assert_eq!(world.connect().await.hear().await, None);
    let [first, mut second] = peers;
    drop(first);
    world.until("room", |world| world.server.connections_in_all() == 1).await;
    world.connect().await.nothing_else().await;
    second.nothing_else().await;
}

#[tokio::test]
async fn memory_is_bounded_over_all_connections() {
    let config = ServerConfig { memory_max_bytes: 400_000, write_stall_close_ms: 400, ..ServerConfig::default() };
    let world = World::start(config).await;
    let bytes = request(ECHO, 1, &[], &[1; 900_000]);
    let mut hoarders = Vec::new();
    for _ in 0..4 {
        let mut peer = world.connect().await;
        peer.send(&bytes[..300_000]).await;
        hoarders.push(peer);
    }
    world.until("the bound", |world| world.server.memory_bytes() >= 400_000).await;
    // Whoever holds nothing is served all the same; the hoarders are cut off.
    let mut peer = world.connect().await;
    peer.nothing_else().await;
    world.until("the hoarders' end", |world| world.server.connections() < 5).await;
    peer.nothing_else().await;
}

#[tokio::test]
async fn a_shutdown_answers_what_was_read() {
    let world = World::start(ServerConfig::default()).await;
    let (mut kept, mut later, mut idle) = (world.connect().await, world.connect().await, world.connect().await);
    idle.nothing_else().await;
    kept.send(&request(KEPT, 1, &[("at", "5")], b"")).await;
    later.send(&request(LATER, 2, &[("at", "1")], b"")).await;
    world.until("dispatch", |world| world.lane.in_flight() == 2).await;
    let ending = async {
        assert_eq!(idle.hear().await, None);
        assert_eq!(world.server.connections(), 2);
        world.kept.advance(5);
        world.gate.advance(1);
        assert_eq!(kept.answer().await.code, 0);
        assert_eq!(kept.hear().await, None);
        assert_eq!(later.answer().await.code, 0);
        assert_eq!(later.hear().await, None);
    };
    tokio::join!(world.server.shutdown(Duration::from_secs(10)), ending);
    assert_eq!((world.server.connections(), world.closed.lock().unwrap().len()), (0, 3));
    let mut byte = [0];
    match tokio::net::TcpStream::connect(world.address).await {
        Err(_) => {}
        Ok(mut stream) => assert_eq!(stream.read(&mut byte).await.unwrap_or(0), 0, "nobody accepts any more"),
    }
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_ever() {
    let world = World::start(ServerConfig::default()).await;
    let mut peer = world.connect().await;
    peer.send(&request(LATER, 2, &[("at", "1")], b"")).await;
    world.until("dispatch", |world| world.lane.in_flight() == 1).await;
    tokio::join!(world.server.shutdown(Duration::from_millis(100)), async { assert_eq!(peer.hear().await, None) });
    assert_eq!(world.server.connections(), 0);
    // A second one has nothing to do.
    world.server.shutdown(Duration::from_secs(10)).await;
}

/// Fails a few times before each connection, as a process without free descriptors does.
struct Failing {
    listener: Box<dyn Listener>,
    failures: AtomicUsize,
}

impl Listener for Failing {
    fn local_address(&self) -> SocketAddr {
        self.listener.local_address()
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        if self.failures.fetch_add(1, Ordering::SeqCst) % 4 != 3 {
            return Box::pin(async { Err(io::Error::other("no descriptors left")) });
        }
        self.listener.accept()
    }
}

#[tokio::test]
async fn attempts_that_fail_do_not_end_the_accepting() {
    let world = World::start(ServerConfig::default()).await;
    let bound = world.env.network.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = bound.local_address();
    let listener = Box::new(Failing { listener: bound.listen(16).unwrap(), failures: AtomicUsize::new(0) });
    let _server = world.server.start_beside(listener, Arc::new(Router::new()));
    for _ in 0..3 {
        let mut peer = Peer::connect(address).await;
        peer.send(&request(ECHO, 1, &[], b"")).await;
        assert_eq!(peer.answer().await.code, 3);
    }
}

#[tokio::test]
async fn two_ports_share_their_limits_but_not_their_end() {
    let world = World::start(ServerConfig { connections_max: 2, ..ServerConfig::default() }).await;
    let bound = world.env.network.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = bound.local_address();
    let fast: Server = world.server.start_beside(bound.listen(16).unwrap(), Arc::new(Router::new()));
    let mut main_peer = world.connect().await;
    main_peer.nothing_else().await;
    let mut fast_peer = Peer::connect(address).await;
    fast_peer.send(&request(ECHO, 7, &[], b"")).await;
    assert_eq!(fast_peer.answer().await.code, 3, "its router serves less");
    assert_eq!((world.server.connections(), fast.connections(), fast.connections_in_all()), (1, 1, 2));
    assert_ne!(world.server.channels()[0].id(), fast.channels()[0].id());
    assert_eq!(world.connect().await.hear().await, None, "the limit is for both together");
    assert_eq!(Peer::connect(address).await.hear().await, None);
    fast.shutdown(Duration::from_secs(10)).await;
    assert_eq!(fast_peer.hear().await, None);
    main_peer.nothing_else().await;
}
