//! Log lines on stderr. The only place that installs a subscriber.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::LogForm;

/// From now on events of level info and above are written; `KEELMQ_LOG` asks for others (`debug`, `keelmq::store=trace`).
pub fn start(form: LogForm) {
    let filter = EnvFilter::try_from_env("KEELMQ_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match form {
        LogForm::Json => lines.json().flatten_event(true).init(),
        LogForm::Text => lines.with_ansi(std::io::stderr().is_terminal()).with_target(false).init(),
    }
}
