//! Settings whose values are words.

use crate::model::settings::{Allowed, Value};

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $( $(#[$variant_meta:meta])* $variant:ident = $text:literal, )* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $( $(#[$variant_meta])* $variant, )* }

        impl $name {
            pub const ALLOWED: Allowed = Allowed::OneOf(&[$($text),*]);

            pub fn text(self) -> &'static str {
                match self { $( $name::$variant => $text, )* }
            }
        }

        impl Value for $name {
            fn from_text(text: &str) -> Option<Self> {
                match text { $( $text => Some($name::$variant), )* _ => None }
            }
            fn to_text(&self) -> String {
                self.text().to_owned()
            }
        }
    };
}

words! {
    /// What an acknowledgement promises.
    FlushDiskType {
        /// The message is on disk.
        Sync = "SYNC_FLUSH",
        /// The message is in the page cache.
        Async = "ASYNC_FLUSH",
    }
}

/// Who takes metrics; RocketMQ 5 gives names or numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsExporter {
    Disable,
    Prom,
    /// Known, but not served: the same as `Disable`.
    OtlpGrpc,
    Log,
}

impl MetricsExporter {
    pub const ALLOWED: Allowed = Allowed::OneOf(&["DISABLE", "PROM", "OTLP_GRPC", "LOG", "0", "1", "2", "3"]);
}

impl Value for MetricsExporter {
    fn from_text(text: &str) -> Option<Self> {
        Some(match text {
            "DISABLE" | "0" => MetricsExporter::Disable,
            "OTLP_GRPC" | "1" => MetricsExporter::OtlpGrpc,
            "PROM" | "2" => MetricsExporter::Prom,
            "LOG" | "3" => MetricsExporter::Log,
            _ => return None,
        })
    }

    fn to_text(&self) -> String {
        match self {
            MetricsExporter::Disable => "DISABLE",
            MetricsExporter::Prom => "PROM",
            MetricsExporter::OtlpGrpc => "OTLP_GRPC",
            MetricsExporter::Log => "LOG",
        }
        .to_owned()
    }
}
