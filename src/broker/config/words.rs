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

words! {
    MetricsExporter {
        Disable = "DISABLE",
        Prom = "PROM",
    }
}
