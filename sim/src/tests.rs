//! Toy processes in the simulated world: a log that acknowledges after its sync loses nothing, one that acknowledges
//! before is caught; bytes sent arrive or the stream breaks.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use keelmq::env::{Env, Open, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    clock::Wall,
    dice::Dice,
    run::run,
    trace::Trace,
    world::{Crash, World},
};

const LIMIT: Duration = Duration::from_secs(60);

/// Appends bytes 1, 2, 3 … to a file and says which it has acknowledged.
async fn toy_log(env: Env, acknowledged: Arc<Mutex<u64>>, sync_first: bool, sync_dir: bool) {
    let path = Path::new("/data/log");
    let file = match env.storage.open(path, Open::Existing) {
        Ok(file) => file,
        Err(_) => {
            env.storage.create_dir_all(Path::new("/data")).unwrap();
            env.storage.open(path, Open::New { reserve: 8192 }).unwrap()
        }
    };
    // Also of a file that was found: whoever made it may have been killed before it synced the directory.
    file.reserve(0..8192).unwrap();
    file.sync().await.unwrap();
    if sync_dir {
        env.storage.sync_dir(Path::new("/")).await.unwrap();
        env.storage.sync_dir(Path::new("/data")).await.unwrap();
    }
    let bytes = file.read(0..file.len()).unwrap();
    let start = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()) as u64;
    file.zero(start..file.len()).unwrap();
    for at in start..8192 {
        file.write(at, &[&[(at % 250) as u8 + 1]]).unwrap();
        if !sync_first {
            *acknowledged.lock().unwrap() = at + 1;
        }
        file.sync().await.unwrap();
        *acknowledged.lock().unwrap() = at + 1;
    }
}

/// (a seed that lost something, the digest)
fn storm(seed: u64, sync_first: bool, sync_dir: bool) -> (bool, (u64, u64)) {
    run(seed, LIMIT, move || async move {
        let mut world = World::new(seed, Trace::default());
        let machine = world.add_machine("log", Wall::default());
        let mut dice = Dice::new(seed, "toy");
        {
            let mut disk = machine.disk.lock().unwrap();
            disk.faults.write_back = 100_000;
            disk.faults.sync_us = (50, 5_000);
            disk.faults.sync_in_batches = 300_000;
        }
        let acknowledged = Arc::new(Mutex::new(0));
        let mut lost = false;
        for _ in 0..8 {
            let process = machine.boot(|env| toy_log(env, acknowledged.clone(), sync_first, sync_dir));
            world.time.sleep(Duration::from_micros(dice.within(1, 50_000))).await;
            machine.crash(if dice.coin() { Crash::Power } else { Crash::Process });
            drop(process);
            let found = machine.disk.lock().unwrap().peek(Path::new("/data/log")).unwrap_or_default();
            let promised = *acknowledged.lock().unwrap();
            lost |= (0..promised).any(|at| found.get(at as usize) != Some(&((at % 250) as u8 + 1)));
            if lost {
                break;
            }
        }
        world.end().await;
        (lost, world.trace.digest())
    })
    .unwrap()
}

#[test]
fn a_log_that_syncs_before_it_acknowledges_loses_nothing() {
    for seed in 0..200 {
        assert!(!storm(seed, true, true).0, "seed {seed}");
    }
}

#[test]
fn a_log_that_acknowledges_before_its_sync_is_caught() {
    assert!((0..50).any(|seed| storm(seed, false, true).0));
}

#[test]
fn a_log_that_forgets_its_directory_is_caught() {
    assert!((0..50).any(|seed| storm(seed, true, false).0));
}

#[test]
fn a_seed_repeats() {
    for seed in 0..20 {
        assert_eq!(storm(seed, true, true), storm(seed, true, true));
    }
}

async fn pour(mut stream: Box<dyn Stream>, bytes: Vec<u8>) {
    stream.write_all(&bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut end = Vec::new();
    stream.read_to_end(&mut end).await.unwrap();
    assert_eq!(end, b"thanks");
}

/// Ten kilobytes through a bad wire.
fn transfer(seed: u64) -> (u64, u64) {
    run(seed, LIMIT, move || async move {
        let mut world = World::new(seed, Trace::default());
        let (here, there) = (world.add_machine("here", Wall::default()), world.add_machine("there", Wall::default()));
        world.wires.set_faults(crate::network::Faults {
            latency_us: (10, 20_000),
            tiny_pieces: 500_000,
            pieces: 500_000,
            buffer_bytes: 3000,
            ..Default::default()
        });
        let mut server = there.boot(|env| async move {
            let bound = env.network.bind(SocketAddr::from(([0, 0, 0, 0], 9000))).await.unwrap();
            let listener = bound.listen(10).unwrap();
            let mut stream = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await.unwrap();
            stream.write_all(b"thanks").await.unwrap();
            stream.shutdown().await.unwrap();
            bytes
        });
        let sent: Vec<u8> = (0..10_000u32).map(|at| (at * 7 % 251) as u8).collect();
        let bytes = sent.clone();
        world.time.sleep(Duration::from_millis(1)).await;
        let mut client = here.boot(|env| async move {
            let stream = env.network.connect("there:9000").await.unwrap();
            pour(stream, bytes).await;
        });
        if seed.is_multiple_of(2) {
            world.wires.cut(here.node, there.node);
            world.time.sleep(Duration::from_millis(200)).await;
            world.wires.heal();
        }
        // A connection attempt into the cut has timed out; that is a panic of the client, and not ours.
        if seed % 2 == 1 {
            client.ended().await.unwrap();
            assert!(server.ended().await.unwrap() == sent);
        }
        world.end().await;
        assert_eq!(world.wires.open_connections(), 0);
        world.trace.digest()
    })
    .unwrap()
}

#[test]
fn streams_carry_every_byte_in_order() {
    for seed in 0..40 {
        assert_eq!(transfer(2 * seed + 1), transfer(2 * seed + 1));
    }
}

#[test]
fn streams_end_as_their_machines_do() {
    // What a client sees when the server's process dies, and when its machine does.
    for (seed, crash) in [(1, Crash::Process), (2, Crash::Power), (3, Crash::Process)] {
        run(seed, LIMIT, move || async move {
            let mut world = World::new(seed, Trace::default());
            let (here, there) =
                (world.add_machine("here", Wall::default()), world.add_machine("there", Wall::default()));
            let listen = |env: Env| async move {
                let bound = env.network.bind(SocketAddr::from(([0, 0, 0, 0], 9000))).await.unwrap();
                let listener = bound.listen(10).unwrap();
                let mut held = Vec::new();
                loop {
                    held.push(listener.accept().await.unwrap());
                }
            };
            let server: crate::world::Process<()> = there.boot(listen);
            world.time.sleep(Duration::from_millis(1)).await;
            let time = world.time.clone();
            let mut client = here.boot(|env| async move {
                let mut stream = env.network.connect("10.0.0.2:9000").await.unwrap();
                time.sleep(Duration::from_millis(10)).await;
                let mut byte = [0];
                let first = keelmq::env::timeout(&*env.clock, Duration::from_secs(1), stream.read(&mut byte)).await;
                let again = env.network.connect("there:9000").await.map(|_| ()).unwrap_err().kind();
                time.sleep(Duration::from_secs(10)).await;
                let written = stream.write(b"x").await.map_err(|error| error.kind());
                (first.map(|read| read.map_err(|error| error.kind())), again, written)
            });
            world.time.sleep(Duration::from_millis(5)).await;
            there.crash(crash);
            drop(server);
            world.time.sleep(Duration::from_secs(8)).await;
            let server = there.boot(listen);
            let (first, again, written) = client.ended().await.unwrap();
            match crash {
                Crash::Process => {
                    assert!(matches!(first, Ok(Ok(0) | Err(std::io::ErrorKind::ConnectionReset))), "{first:?}");
                    assert_eq!(again, std::io::ErrorKind::ConnectionRefused);
                }
                Crash::Power => {
                    assert!(first.is_err(), "nobody says that a machine is dark: {first:?}");
                    assert_eq!(again, std::io::ErrorKind::TimedOut);
                }
            }
            assert_eq!(written, Err(std::io::ErrorKind::ConnectionReset));
            drop(server);
            world.end().await;
        })
        .unwrap();
    }
}
