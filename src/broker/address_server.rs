//! Asks an address server who the name servers are (fetchNamesrvAddrByAddressServer): one plain HTTP GET, whose body is
//! addresses with semicolons between. Only for a broker that was told of no name server.

use std::{io, sync::Arc, time::Duration};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::core::Core;
use crate::{
    env::{Clock, Network, timeout},
    store::stop::Stopping,
};

/// Before the first question, as in RocketMQ.
const FIRST: Duration = Duration::from_secs(10);
const ANSWER_WAIT: Duration = Duration::from_secs(3);
/// An answer of more is none.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("it did not answer within {} s", ANSWER_WAIT.as_secs())]
    TimedOut,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("its answer is no HTTP answer with code 200 but begins with {0:?}")]
    NotOk(String),
    #[error("its answer names no address")]
    Empty,
}

/// Asks every updateNameServerAddrPeriod. An answer that is none leaves everything as it was.
pub async fn run(core: Arc<Core>, mut stopping: Stopping) {
    let config = core.config();
    let (domain, group) = (&config.rmq_address_server_domain, &config.rmq_address_server_sub_group);
    let (address, path) = (host_and_port(domain), format!("/rocketmq/{group}"));
    let mut pause = FIRST;
    loop {
        let tick = core.env.clock.sleep(pause);
        tokio::select! { biased; () = stopping.stopped() => return, () = tick => {} }
        pause = Duration::from_millis(config.update_name_server_addr_period_ms);
        match ask(&*core.env.network, &*core.env.clock, &address, &path).await {
            Ok(found) => {
                if core.set_name_servers(&found) {
                    tracing::info!("the address server {address} names {} as name servers", found.join(";"));
                    core.registration.request();
                }
            }
            Err(error) => tracing::warn!("the address server http://{address}{path} is of no help: {error}"),
        }
    }
}

/// Port 8080 unless the domain says another.
fn host_and_port(domain: &str) -> String {
    if domain.contains(':') { domain.to_owned() } else { format!("{domain}:8080") }
}

/// The addresses that the server at `address` names under `path`.
pub async fn ask(network: &dyn Network, clock: &dyn Clock, address: &str, path: &str) -> Result<Vec<String>, AskError> {
    let asked = async {
        let mut stream = network.connect(address).await?;
        // HTTP 1.0: the answer ends with the connection and comes in one piece.
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: */*\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
        Ok::<_, io::Error>(answer)
    };
    let answer = timeout(clock, ANSWER_WAIT, asked).await.map_err(|_| AskError::TimedOut)??;
    read(&String::from_utf8_lossy(&answer))
}

fn read(answer: &str) -> Result<Vec<String>, AskError> {
    let first = answer.lines().next().unwrap_or_default();
    let is_ok = first.starts_with("HTTP/") && first.split(' ').nth(1) == Some("200");
    let body = answer.split_once("\r\n\r\n").or_else(|| answer.split_once("\n\n"));
    let Some((_, body)) = body.filter(|_| is_ok) else {
        return Err(AskError::NotOk(first.chars().take(64).collect()));
    };
    // As RocketMQ: the first line counts.
    let line = body.trim().lines().next().unwrap_or_default();
    let found: Vec<String> =
        line.split(';').map(str::trim).filter(|address| !address.is_empty()).map(str::to_owned).collect();
    if found.is_empty() { Err(AskError::Empty) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_java_reads_them() {
        let check = |answer: &str, expect: Result<&[&str], &str>| {
            let found = read(answer).map_err(|error| error.to_string());
            let expect = expect.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
            assert_eq!(found, expect.map_err(str::to_owned), "{answer:?}");
        };
        check(
            "HTTP/1.1 200 OK\r\nServer: x\r\n\r\n10.0.0.1:9876;10.0.0.2:9876\n",
            Ok(&["10.0.0.1:9876", "10.0.0.2:9876"]),
        );
        check("HTTP/1.0 200 OK\n\n a:1 ; ;b:2 \r\nmore", Ok(&["a:1", "b:2"]));
        check("HTTP/1.0 200 OK\r\n\r\n \n", Err("its answer names no address"));
        let not_ok = "its answer is no HTTP answer with code 200 but begins with ";
        check("HTTP/1.1 404 Not Found\r\n\r\na:1", Err(&format!("{not_ok}\"HTTP/1.1 404 Not Found\"")));
        check("a:1;b:2", Err(&format!("{not_ok}\"a:1;b:2\"")));
        check("", Err(&format!("{not_ok}\"\"")));
        assert_eq!((host_and_port("h"), host_and_port("h:1")), ("h:8080".to_owned(), "h:1".to_owned()));
    }
}
