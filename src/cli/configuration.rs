//! Where settings come from: defaults, then the file, then `--set`, then flags of their own; the later is the stronger.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{BrokerFlags, Common, exit};
use crate::{
    broker::config::{Config, FlushDiskType, Misfit},
    env::Env,
    model::settings::{KeyError, LineError, Notice, Settings, Source, file, value},
    namesrv::config::NamesrvConfig,
};

/// Which servers this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Standalone,
    Broker,
    Namesrv,
}

/// In standalone, keys of the name server stand behind this prefix.
const NAMESRV_PREFIX: &str = "namesrv.";

/// 128 MiB: reserving gigabytes on a developer's machine would be rude.
const STANDALONE_SEGMENT_BYTES: &str = "134217728";

/// Settings as they will be used.
#[derive(Debug)]
pub struct Loaded {
    pub part: Part,
    pub broker: Config,
    pub namesrv: NamesrvConfig,
    /// The file given with `-c`, and what it said.
    pub file: Option<(PathBuf, String)>,
    notices: Vec<Notice>,
}

/// Why the settings are not usable.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    #[error("{0}")]
    Unreadable(String),
    #[error("{}", lines(.0))]
    Lines(Vec<LineError>),
    #[error("{0}")]
    Misfit(Misfit),
    #[error("{flag} {error}")]
    Flag { flag: &'static str, error: KeyError },
    #[error("{flag} {value}: allowed is {allowed}")]
    FlagValue { flag: &'static str, value: String, allowed: &'static str },
}

fn lines(errors: &[LineError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\nkeelmq: ")
}

impl Wrong {
    /// Wrong on the command line is wrong usage, wrong in a file is a failed start.
    pub fn exit_code(&self) -> i32 {
        match self {
            Wrong::Unreadable(_) | Wrong::Lines(_) | Wrong::Misfit(_) => exit::FAILED,
            Wrong::Flag { .. } | Wrong::FlagValue { .. } => exit::USAGE,
        }
    }
}

pub(super) fn load(
    part: Part,
    common: &Common,
    flags: Option<&BrokerFlags>,
    more: impl FnOnce(&mut Loaded) -> Result<(), Wrong>,
    env: &Env,
) -> Result<Loaded, Wrong> {
    let mut loaded =
        Loaded { part, broker: Config::default(), namesrv: NamesrvConfig::default(), file: None, notices: Vec::new() };
    if part == Part::Standalone {
        loaded.standalone_defaults();
    }
    if part == Part::Broker
        && let Ok(addresses) = std::env::var("NAMESRV_ADDR")
    {
        loaded.broker_flag("NAMESRV_ADDR", "namesrvAddr", Some(&addresses))?;
    }
    if let Some(path) = &common.file {
        loaded.take_file(path, env)?;
    }
    for (key, value) in &common.set {
        loaded.set(key, value).map_err(|error| Wrong::Flag { flag: "--set", error })?;
    }
    if let Some(flags) = flags {
        loaded.broker_flag("-n", "namesrvAddr", flags.namesrv.as_deref())?;
        loaded.broker_flag("--port", "listenPort", flags.port.as_deref())?;
        loaded.broker_flag("--store", "storePathRootDir", flags.store.as_deref())?;
    }
    loaded.listen(common.listen.as_deref())?;
    loaded.advertise(flags.and_then(|flags| flags.advertise.as_deref()))?;
    more(&mut loaded)?;
    loaded.finish(env)?;
    Ok(loaded)
}

impl Loaded {
    fn standalone_defaults(&mut self) {
        let profile = Source::Profile("standalone");
        let local = "127.0.0.1";
        let broker = [
            ("bindAddress", local),
            ("mappedFileSizeCommitLog", STANDALONE_SEGMENT_BYTES),
            ("metricsExporterType", "PROM"),
            ("metricsPromExporterHost", local),
        ];
        for (key, value) in broker {
            self.broker.set(key, value, profile.clone()).expect("a default is an allowed value");
        }
        self.namesrv.set("bindAddress", local, profile).expect("a default is an allowed value");
    }

    fn take_file(&mut self, path: &Path, env: &Env) -> Result<(), Wrong> {
        let name = path.display().to_string();
        let bytes = env.storage.read(path).map_err(|error| Wrong::Unreadable(error.to_string()))?;
        let not_text = |_| Wrong::Unreadable(format!("cannot read {name}: it is not text in UTF-8"));
        let text = String::from_utf8(bytes).map_err(not_text)?;
        // Messages name the file as people do: without its directories.
        let short: Arc<str> =
            path.file_name().map_or_else(|| name.clone(), |file| file.to_string_lossy().into()).into();
        let mut errors = Vec::new();
        for line in file::lines(&text) {
            let taken = match self.part {
                Part::Namesrv => self.namesrv.take_line(&line, &short, NAMESRV_PREFIX),
                Part::Standalone if line.key.starts_with(NAMESRV_PREFIX) => {
                    self.namesrv.take_line(&line, &short, NAMESRV_PREFIX)
                }
                // A file printed for standalone may be given to a broker.
                Part::Broker if line.key.starts_with(NAMESRV_PREFIX) => Ok(None),
                Part::Standalone | Part::Broker => self.broker.take_line(&line, &short, ""),
            };
            match taken {
                Ok(notice) => self.notices.extend(notice),
                Err(error) => errors.push(error),
            }
        }
        self.file = Some((path.to_owned(), text));
        if errors.is_empty() { Ok(()) } else { Err(Wrong::Lines(errors)) }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), KeyError> {
        let notice = match (self.part, key.strip_prefix(NAMESRV_PREFIX)) {
            (Part::Namesrv, None) => self.namesrv.take(key, value, Source::Set)?,
            (Part::Namesrv | Part::Standalone, Some(key)) => self.namesrv.take(key, value, Source::Set)?,
            (Part::Broker, _) | (Part::Standalone, None) => self.broker.take(key, value, Source::Set)?,
        };
        self.notices.extend(notice);
        Ok(())
    }

    fn broker_flag(&mut self, flag: &'static str, key: &str, value: Option<&str>) -> Result<(), Wrong> {
        let Some(value) = value else { return Ok(()) };
        self.broker.set(key, value, Source::Flag(flag)).map_err(|error| Wrong::Flag { flag, error })
    }

    pub(super) fn namesrv_flag(&mut self, flag: &'static str, key: &str, value: Option<&str>) -> Result<(), Wrong> {
        let Some(value) = value else { return Ok(()) };
        self.namesrv.set(key, value, Source::Flag(flag)).map_err(|error| Wrong::Flag { flag, error })
    }

    pub(super) fn namesrv_store(&mut self, directory: Option<&str>) -> Result<(), Wrong> {
        let Some(directory) = directory else { return Ok(()) };
        let directory = directory.trim_end_matches('/');
        self.namesrv_flag("--store", "kvConfigPath", Some(&format!("{directory}/kvConfig.json")))?;
        self.namesrv_flag("--store", "configStorePath", Some(&format!("{directory}/namesrv.properties")))
    }

    fn listen(&mut self, host: Option<&str>) -> Result<(), Wrong> {
        let Some(host) = host else { return Ok(()) };
        let host = if host == "localhost" { "127.0.0.1" } else { host.trim_matches(['[', ']']) };
        self.broker_flag("--listen", "bindAddress", Some(host))?;
        self.namesrv_flag("--listen", "bindAddress", Some(host))
    }

    fn advertise(&mut self, address: Option<&str>) -> Result<(), Wrong> {
        let Some(address) = address else { return Ok(()) };
        let flag = "--advertise";
        let wrong = || Wrong::FlagValue { flag, value: address.to_owned(), allowed: "HOST or HOST:PORT" };
        let is_bare = address.parse::<IpAddr>().is_ok() || !address.contains(':');
        let (host, port) = if is_bare {
            (address, None)
        } else if value::is_host_and_port(address) {
            address.rsplit_once(':').map(|(host, port)| (host, Some(port))).ok_or_else(wrong)?
        } else {
            return Err(wrong());
        };
        if host.is_empty() {
            return Err(wrong());
        }
        self.broker_flag(flag, "brokerIP1", Some(host.trim_matches(['[', ']'])))?;
        self.broker_flag(flag, "advertisedPort", port)
    }

    /// What follows from the rest.
    fn finish(&mut self, env: &Env) -> Result<(), Wrong> {
        // Whoever listens on one address is reached at that address.
        let only = self.broker.bind_address.clone();
        let is_one = only.parse::<IpAddr>().is_ok_and(|address| !address.is_unspecified());
        if self.broker.broker_ip1.is_empty() && is_one {
            let source = self.broker.source_of("bindAddress");
            self.broker.set("brokerIP1", &only, source).expect("an address is an allowed value");
        }
        if self.part == Part::Standalone {
            let root = self.broker.store_path_root_dir.trim_end_matches('/').to_owned();
            let source = self.broker.source_of("storePathRootDir");
            let fill = [
                ("kvConfigPath", self.namesrv.kv_config_path.is_empty(), format!("{root}/namesrv/kvConfig.json")),
                (
                    "configStorePath",
                    self.namesrv.config_store_path.is_empty(),
                    format!("{root}/namesrv/namesrv.properties"),
                ),
            ];
            for (key, is_unset, path) in fill {
                if is_unset {
                    self.namesrv.set(key, &path, source.clone()).expect("a path is an allowed value");
                }
            }
        }
        if self.part == Part::Namesrv
            && self.namesrv.config_store_path.is_empty()
            && let Some((path, _)) = &self.file
        {
            let path = path.display().to_string();
            self.namesrv.set("configStorePath", &path, Source::Flag("-c")).expect("a path is an allowed value");
        }
        self.broker.resolve(&env.host);
        self.namesrv.resolve(&env.host);
        match self.part {
            Part::Namesrv => Ok(()),
            Part::Standalone | Part::Broker => self.broker.check().map_err(Wrong::Misfit),
        }
    }

    /// The settings as a file that `-c` reads.
    pub fn print(&self) -> String {
        match self.part {
            Part::Broker => self.broker.print(""),
            Part::Namesrv => self.namesrv.print(""),
            Part::Standalone => self.broker.print("") + &self.namesrv.print(NAMESRV_PREFIX),
        }
    }

    /// Logs what is to be said about keys that change nothing or are unknown.
    pub fn say_notices(&self) {
        for notice in &self.notices {
            if notice.is_warning {
                tracing::warn!("{notice}");
            } else {
                tracing::info!("{notice}");
            }
        }
    }

    pub fn is_sync(&self) -> bool {
        self.broker.flush_disk_type == FlushDiskType::Sync
    }

    /// What an acknowledgement promises, in a sentence.
    pub fn durability(&self) -> String {
        match self.broker.flush_disk_type {
            FlushDiskType::Sync => "SYNC_FLUSH: what is acknowledged survives a power cut".to_owned(),
            FlushDiskType::Async => format!(
                "ASYNC_FLUSH ({}): a power cut may lose the last {} ms",
                self.broker.source_of("flushDiskType"),
                self.broker.flush_interval_commit_log_ms
            ),
        }
    }
}
