//! Which machine has which addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Every machine has a second address, whose last bytes are its first.
pub fn second_address(machine: Ipv4Addr) -> Ipv6Addr {
    let [_, _, high, low] = machine.octets().map(u16::from);
    Ipv6Addr::new(0xFD00, 0, 0, 0, 0, 0, high, low)
}

/// The first address of the machine that has this one.
pub(super) fn machine_of(ip: IpAddr) -> Ipv4Addr {
    match ip {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(ip) => {
            let [.., high, low] = ip.segments().map(|part| part as u8);
            Ipv4Addr::new(10, 0, high, low)
        }
    }
}
