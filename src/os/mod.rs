//! Keeps `env`'s promises with the kernel: tokio, threads, memory maps. Knows `env` alone.
