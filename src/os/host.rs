//! Facts about the machine, read once from the kernel.

use std::{
    env, fs,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    path::PathBuf,
    process, thread,
};

use rustix::{
    process::{Resource, getrlimit},
    system::uname,
};

use crate::env::Host;

pub(super) fn facts() -> Host {
    Host {
        name: uname().nodename().to_string_lossy().into_owned(),
        ipv4: default_route_ipv4().or_else(any_ipv4).unwrap_or(Ipv4Addr::LOCALHOST),
        pid: process::id(),
        cpus: thread::available_parallelism().map_or(1, usize::from),
        ram_bytes: ram_bytes(),
        files_max: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        home: env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from),
    }
}

/// The address that packets to the outside would carry. Connecting a UDP socket asks the routing table and sends nothing.
fn default_route_ipv4() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // TEST-NET-1 of RFC 5737: no host has it, so only the default route leads there.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(ip) if !ip.is_loopback() && !ip.is_unspecified() => Some(ip),
        _ => None,
    }
}

fn any_ipv4() -> Option<Ipv4Addr> {
    first_local(&fs::read_to_string("/proc/net/fib_trie").ok()?)
}

/// The first of our own addresses in the kernel's routing trie: an address line, then `/32 host LOCAL` below it.
fn first_local(trie: &str) -> Option<Ipv4Addr> {
    let mut address = None;
    for line in trie.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("|-- ") {
            address = text.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL"
            && let Some(ip) = address
            && !ip.is_loopback()
        {
            return Some(ip);
        }
    }
    None
}

/// The machine's memory, or the control group's limit where that is less.
fn ram_bytes() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| mem_total(&text));
    let group = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    match (machine, group) {
        (Some(machine), Some(group)) => std::cmp::min::<u64>(machine, group),
        (Some(bytes), None) | (None, Some(bytes)) => bytes,
        // Without /proc nothing is known: a small machine is the careful guess.
        (None, None) => 1 << 30,
    }
}

fn mem_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_plausible() {
        let host = facts();
        assert!(host.cpus >= 1 && host.ram_bytes >= 64 << 20 && host.files_max >= 64 && host.pid == process::id());
        assert!(!host.name.is_empty());
    }

    #[test]
    fn kernel_texts_are_read() {
        assert_eq!(mem_total("MemFree: 1 kB\nMemTotal:        8138564 kB\n"), Some(8_138_564 * 1024));
        assert_eq!(mem_total("nothing"), None);
        let trie = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 10.1.2.0\n        /24 link UNICAST\n     |-- 10.1.2.3\n        /32 host LOCAL\n";
        assert_eq!(first_local(trie), Some(Ipv4Addr::new(10, 1, 2, 3)));
    }
}
