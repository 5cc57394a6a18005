//! Calls other processes: name servers, brokers. One connection per address, opened when needed.

pub struct Client {}
