//! The configuration as it stands (26), and changes while running (25): what cannot change without a restart is refused
//! with a sentence, what can is durable in the file before it is answered.

use crate::{
    broker::config::{Change, Config},
    model::settings::{KeyError, Settings, Source, Standing, file},
    protocol::{body::Body, code::response, command::Response},
    remoting::{Answer, Request},
};

use super::{Admin, Refused};

/// What 5.x lets nobody change from afar.
const NEVER: [&str; 3] = ["brokerConfigPath", "rocketmqHome", "configBlackList"];

impl Admin {
    pub(super) fn config(&self) -> Response {
        let config = self.0.config();
        let mut lines: Vec<String> = config
            .entries()
            .iter()
            .filter(|entry| entry.is_listed)
            .map(|entry| format!("{}={}\n", entry.key, entry.value))
            .collect();
        lines.sort_unstable();
        let version = self.0.config_version().encode();
        Response::success()
            .with("version", String::from_utf8(version).expect("JSON is UTF-8"))
            .with_body(lines.concat().into_bytes())
    }

    /// All lines or none. Keys that nobody knows are ignored with a line in the log, as in Java.
    pub(super) fn update_config(&self, asked: &Request<'_>) -> Result<Answer, Refused> {
        let Ok(text) = str::from_utf8(asked.command.body) else {
            return Err(Refused::system("the configuration is not text in UTF-8"));
        };
        let core = &self.0;
        let mut changes: Vec<(String, String)> =
            file::lines(text).into_iter().map(|line| (present_name(line.key), line.value)).collect();
        if changes.iter().any(|(key, _)| NEVER.contains(&key.as_str())) {
            return Err(Refused::new(response::NO_PERMISSION, "Can not update config in black list."));
        }
        let _one_at_a_time = core.changing_config();
        let before = core.config();
        let mut config = (*before).clone();
        let mut refused = None;
        changes.retain(|(key, value)| match config.take(key, value, Source::RunTime) {
            Ok(notice) => {
                if let Some(notice) = notice {
                    tracing::info!("{notice}");
                }
                before.get_text(key) != config.get_text(key)
            }
            Err(error @ KeyError::Unknown { .. }) => {
                tracing::warn!("a tool changes the configuration: {error}; ignored");
                false
            }
            Err(error) => {
                refused = Some(error.to_string());
                false
            }
        });
        if let Some(error) = refused {
            return Err(Refused::system(error));
        }
        let entries = config.entries();
        let honoured =
            |key: &str| entries.iter().find(|entry| entry.key == key && entry.standing == Standing::Honoured);
        if let Some((key, _)) =
            changes.iter().find(|(key, _)| honoured(key).is_some_and(|entry| entry.change == Change::AtStart))
        {
            let now = before.get_text(key).unwrap_or_default();
            let remark = format!(
                "{key} is read when the broker starts; it stays {now:?}. Change it in the broker's file and restart"
            );
            return Err(Refused::system(remark));
        }
        config.check().map_err(Refused::system)?;
        if changes.is_empty() {
            return Ok(Answer::Now(Response::success()));
        }
        for (key, value) in &changes {
            tracing::info!("a tool changes the configuration: {key}={value}");
        }
        let announce =
            before.broker_permission != config.broker_permission || before.namesrv_addr != config.namesrv_addr;
        core.store.set_retention(config.retention());
        let written = core.change_config(config, &changes);
        if announce {
            core.registration.request();
        }
        Ok(Answer::Later(Box::pin(async move {
            let outcome = match written {
                Some((file, generation)) => file.written(generation).await,
                None => Ok(()),
            };
            Some(match outcome {
                Ok(()) => Response::success(),
                Err(failed) => {
                    let remark = format!("the change holds until the broker ends, its file is not written: {failed}");
                    Response::error(response::SYSTEM_ERROR, remark)
                }
            })
        })))
    }
}

/// The key's name of today, where it has an old spelling.
fn present_name(key: String) -> String {
    let alias = Config::aliases().iter().find(|(old, _)| *old == key);
    alias.map_or(key, |(_, new)| (*new).to_owned())
}
