//! The seeded simulator: worlds made of nodes, disks and wires, in which the production broker runs as it is.
