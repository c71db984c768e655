//! Probe, decode, encode: synchronous and bounded, no tokio; runs in a child process.
