//! What a monitoring system asks: `/metrics` (Prometheus' text format), `/healthz` (is a restart needed), `/readyz` (are
//! sends and pulls served). On a port of its own, which answers while the store still recovers.

mod http;
mod page;
mod series;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, OnceLock},
};

pub use page::Outside;
use tokio::sync::Mutex as Turn;

use super::{
    config::{Config, MetricsExporter},
    core::Core,
};
use crate::{
    env::{Env, Task},
    store::stop::{Stop, Stopping},
};
use http::{NOT_FOUND, OK, Said, UNAVAILABLE};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 16;
/// The exposition format that the page is in.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics port.
pub struct Metrics {
    address: SocketAddr,
    state: Arc<State>,
    stop: Stop,
    serving: Mutex<Option<Task>>,
}

/// Asked for connections and their memory.
type AskOutside = Box<dyn Fn() -> Outside + Send + Sync>;

struct State {
    env: Env,
    /// Set when the broker serves.
    broker: OnceLock<(Arc<Core>, AskOutside)>,
    stopping: OnceLock<()>,
    /// One page at a time is put together; others wait.
    turn: Arc<Turn<()>>,
}

impl Metrics {
    /// Takes the port, if metrics are wanted. A port that is taken is said, and the broker starts all the same.
    pub async fn start(env: &Env, config: &Config) -> Option<Metrics> {
        match config.metrics_exporter_type {
            MetricsExporter::Prom => {}
            MetricsExporter::Disable => return None,
            MetricsExporter::OtlpGrpc | MetricsExporter::Log => {
                tracing::warn!(
                    "metrics are served as a page that Prometheus reads, and in no other way: metricsExporterType=PROM"
                );
                return None;
            }
        }
        let host = match config.metrics_prom_exporter_host.as_str() {
            "" => &config.bind_address,
            host => host,
        };
        let ip: IpAddr = host.parse().ok()?;
        let wanted = SocketAddr::new(ip, config.metrics_prom_exporter_port);
        let listener = match env.network.bind(wanted).await {
            Ok(bound) => bound.listen(BACKLOG),
            Err(error) => Err(error),
        };
        let listener = match listener {
            Ok(listener) => listener,
            Err(error) => {
                tracing::warn!(
                    "metrics are not served: {error}; choose another port with metricsPromExporterPort, or \
                     metricsExporterType=DISABLE"
                );
                return None;
            }
        };
        let (_, wrong) = series::extra_labels(&config.metrics_label);
        if !wrong.is_empty() {
            tracing::warn!(
                "metricsLabel: {wrong:?} cannot be labels (name:value, the name of letters and digits); left out"
            );
        }
        let address = listener.local_address();
        let state = Arc::new(State {
            env: env.clone(),
            broker: OnceLock::new(),
            stopping: OnceLock::new(),
            turn: Arc::default(),
        });
        let (stop, stopping): (Stop, Stopping) = Stop::new();
        let asked = state.clone();
        let answer: http::Answer = Arc::new(move |path| {
            let (state, path) = (asked.clone(), path.to_owned());
            Box::pin(async move { state.answer(&path).await })
        });
        let serving = env.spawner.task("metrics", http::serve(env.clone(), listener, answer, stopping));
        Some(Metrics { address, state, stop, serving: Mutex::new(Some(serving)) })
    }

    /// The broker serves from now on.
    pub fn ready(&self, core: Arc<Core>, outside: impl Fn() -> Outside + Send + Sync + 'static) {
        // It is said once, at the start.
        let _ = self.state.broker.set((core, Box::new(outside)));
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whoever asks is told that the broker ends, until `end`.
    pub fn stopping(&self) {
        let _ = self.state.stopping.set(());
    }

    pub async fn end(&self) {
        self.stop.stop();
        let serving = self.serving.lock().expect("nothing panics while it is held").take();
        if let Some(serving) = serving
            && let Err(panicked) = serving.finished().await
        {
            tracing::error!("{panicked}");
        }
    }
}

impl State {
    async fn answer(self: &Arc<Self>, path: &str) -> Said {
        let broker = self.broker.get();
        match path {
            "/metrics" => match broker {
                Some(_) => Said { status: OK, content_type: FORMAT, body: self.page().await },
                None => Said::text(UNAVAILABLE, "the broker recovers its store\n"),
            },
            "/healthz" => match broker.and_then(|(core, _)| core.store.failure()) {
                None => Said::text(OK, "ok\n"),
                Some(reason) => Said::text(UNAVAILABLE, format!("{reason}; the broker must be started again\n")),
            },
            "/readyz" => match (self.stopping.get(), broker) {
                (Some(()), _) => Said::text(UNAVAILABLE, "the broker stops\n"),
                (None, None) => Said::text(UNAVAILABLE, "the broker recovers its store\n"),
                (None, Some((core, _))) => match not_ready(core) {
                    None => Said::text(OK, "ok\n"),
                    Some(reason) => Said::text(UNAVAILABLE, reason + "\n"),
                },
            },
            _ => Said::text(NOT_FOUND, "there are /metrics, /healthz and /readyz\n"),
        }
    }

    /// Put together on a thread of its own: it reads the store.
    async fn page(self: &Arc<Self>) -> String {
        let _turn = self.turn.lock().await;
        let page: Arc<Mutex<String>> = Arc::default();
        let (state, to) = (self.clone(), page.clone());
        let service = self.env.spawner.service("metrics page", async move {
            let text = state.broker.get().map(|(core, outside)| text(core, outside())).unwrap_or_default();
            *to.lock().expect("nothing panics while it is held") = text;
        });
        if let Err(panicked) = service.finished().await {
            tracing::error!("{panicked}");
        }
        std::mem::take(&mut *page.lock().expect("nothing panics while it is held"))
    }
}

fn text(core: &Core, outside: Outside) -> String {
    let config = core.config();
    let mut common = vec![
        ("cluster".to_owned(), config.broker_cluster_name.clone()),
        ("node_type".to_owned(), "broker".to_owned()),
        ("node_id".to_owned(), config.broker_name.clone()),
    ];
    common.extend(series::extra_labels(&config.metrics_label).0);
    series::page(page::families(core, outside), &common, config.metrics_cardinality_max as usize)
}

/// Why sends or pulls are refused at the moment, if they are.
fn not_ready(core: &Core) -> Option<String> {
    let config = core.config();
    if let Some(reason) = core.store.refusal() {
        return Some(format!("sends are refused: {reason}"));
    }
    let until = config.start_accept_send_request_timestamp_ms;
    if core.now_ms() < until {
        return Some(format!("sends are refused until {until} (startAcceptSendRequestTimeStamp)"));
    }
    match config.broker_permission & 6 {
        6 => None,
        permission => Some(format!("brokerPermission={permission} does not allow both sends and pulls")),
    }
}
