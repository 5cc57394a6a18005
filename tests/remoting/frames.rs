//! Frames in any pieces.

use keelmq::{protocol::command::Serialization, remoting::ServerConfig};
use tokio::io::AsyncWriteExt;

use crate::world::{ECHO, LONG, PANIC, Said, World, binary, flagged, request};

#[tokio::test]
async fn one_byte_per_write() {
    let world = World::start(ServerConfig::default()).await;
    let mut peer = world.connect().await;
    let bytes = [request(ECHO, 1, &[("a", "1")], b"body"), binary(ECHO as i16, 2, b"bin")].concat();
    for byte in bytes {
        peer.send(&[byte]).await;
    }
    let first = peer.answer().await;
    assert_eq!(
        (first.code, first.opaque, first.flag, &first.remark[..], &first.body[..]),
        (0, 1, 1, "a=1", &b"body"[..])
    );
    assert_eq!(first.serialization, Serialization::Json);
    let second = peer.answer().await;
    assert_eq!((second.opaque, second.flag, &second.body[..]), (2, 1, &b"bin"[..]));
    assert_eq!(second.serialization, Serialization::Binary, "an answer has its request's form");
}

#[tokio::test]
async fn ten_thousand_frames_in_one_write() {
    let world = World::start(ServerConfig::default()).await;
    let mut peer = world.connect().await;
    let count = 10_000;
    let bytes: Vec<u8> = (0..count).flat_map(|opaque| request(ECHO, opaque, &[("k", "v")], &[9; 33])).collect();
    peer.send(&bytes).await;
    for opaque in 0..count {
        let heard = peer.answer().await;
        assert_eq!((heard.opaque, heard.body.len()), (opaque, 33));
    }
    peer.nothing_else().await;
    assert_eq!(world.server.memory_bytes(), 0, "an idle connection holds nothing");
}

#[tokio::test]
async fn bodies_of_four_mebibytes_both_ways() {
    let world = World::start(ServerConfig::default()).await;
    let mut peer = world.connect().await;
    let body: Vec<u8> = (0..4u32 << 20).map(|at| (at % 251) as u8).collect();
    let mut bytes = request(ECHO, 1, &[], &body);
    bytes.extend(request(ECHO, 2, &[], b"behind it"));
    bytes.extend(request(ECHO, 3, &[], &body));
    let (mut from, mut to) = peer.stream.split();
    let writing = async {
        to.write_all(&bytes).await.unwrap();
    };
    let reading = async {
        let mut heard = Vec::new();
        while heard.len() < 8 << 20 {
            tokio::io::AsyncReadExt::read_buf(&mut from, &mut heard).await.unwrap();
        }
        heard
    };
    let ((), heard) = tokio::join!(writing, reading);
    let mut rest = &heard[..];
    let mut lens = Vec::new();
    while let Some(length) = rest.first_chunk::<4>() {
        let size = 4 + u32::from_be_bytes(*length) as usize;
        let Some(content) = rest.get(4..size) else { break };
        let command = keelmq::protocol::command::decode(content).unwrap();
        assert!(command.body.len() < 100 || command.body == body);
        lens.push((command.opaque, command.body.len()));
        rest = &rest[size..];
    }
    assert_eq!(lens[..2], [(1, 4 << 20), (2, 9)]);
}

#[tokio::test]
async fn a_long_answer_of_many_slices() {
    let world = World::start(ServerConfig::default()).await;
    let mut peer = world.connect().await;
    peer.send(&request(LONG, 5, &[("len", "9000001")], b"")).await;
    let heard = peer.answer().await;
    assert!(heard.body.len() == 9_000_001 && heard.body.iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn codes_without_a_processor_and_processors_that_panic() {
    let world = World::start(ServerConfig::default()).await;
    let mut peer = world.connect().await;
    peer.send(&request(4711, 1, &[], b"")).await;
    let heard = peer.answer().await;
    assert_eq!((heard.code, heard.opaque, &heard.remark[..]), (3, 1, " request type 4711 not supported"));
    peer.send(&request(PANIC, 2, &[], b"")).await;
    let heard = peer.answer().await;
    assert_eq!((heard.code, heard.opaque, &heard.remark[..]), (1, 2, "request 903 broke off: on purpose"));
    // The connection stays, and one-way requests are never answered.
    for code in [4711, PANIC, ECHO, LONG] {
        peer.send(&flagged(code, 3, 2, &[], b"")).await;
    }
    peer.nothing_else().await;
    // Nor is an answer that nobody asked for.
    peer.send(&flagged(0, 77, 1, &[], b"")).await;
    peer.nothing_else().await;
}

/// What the peer says first, and whether the connection outlives it.
async fn check_refused(bytes: &[u8]) {
    let world = World::start(ServerConfig { frame_size_max_bytes: 1 << 20, ..ServerConfig::default() }).await;
    let mut peer = world.connect().await;
    peer.send(&request(ECHO, 1, &[], b"before")).await;
    peer.send(bytes).await;
    assert_eq!(peer.answer().await.body, b"before");
    assert_eq!(peer.hear().await, None, "{:?}", &bytes[..bytes.len().min(20)]);
    world.until("closing", |world| world.server.connections() == 0).await;
    assert_eq!(world.closed.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_no_frame_closes_the_connection() {
    check_refused(&[0, 0x10, 0, 0]).await;
    check_refused(&[0xff, 0xff, 0xff, 0xff]).await;
    check_refused(&[0, 0, 0, 3, 1, 2, 3]).await;
    check_refused(&[0, 0, 0, 4, 0, 0, 0, 1]).await;
    check_refused(&[0, 0, 0, 5, 7, 0, 0, 1, b'{']).await;
    check_refused(&[0, 0, 0, 6, 0, 0, 0, 2, b'{', b'x']).await;
    check_refused(b"GET / HTTP/1.1\r\n\r\n").await;
}

#[tokio::test]
async fn the_largest_frame_is_served() {
    let size_max = 1 << 20;
    let world = World::start(ServerConfig { frame_size_max_bytes: size_max, ..ServerConfig::default() }).await;
    let mut peer = world.connect().await;
    let around = request(ECHO, 1, &[], b"").len();
    peer.send(&request(ECHO, 1, &[], &vec![3; size_max - around])).await;
    assert_eq!(peer.answer().await.body.len(), size_max - around);
    peer.send(&request(ECHO, 1, &[], &vec![3; size_max - around + 1])[..1000]).await;
    assert_eq!(peer.hear().await, None);
}

#[tokio::test]
async fn tls_is_not_served_yet() {
    let (world, said) = (World::start(ServerConfig::default()).await, Said::listen());
    let mut peer = world.connect().await;
    peer.send(&[0x16, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]).await;
    assert_eq!(peer.hear().await, None);
    said.until(&format!("connection of {} closed: ", peer.stream.local_addr().unwrap())).await;
    said.until("TLS").await;
}

/// It was said where nobody looks.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_waits_for_is_said_and_dropped() {
    let (world, said) = (World::start(ServerConfig::default()).await, Said::listen());
    let mut peer = world.connect().await;
    peer.respond(4_711, 0).await;
    said.until("opaque=4711").await;
    peer.send(&request(ECHO, 1, &[], b"still there")).await;
    assert_eq!(peer.answer().await.body, b"still there");
}
