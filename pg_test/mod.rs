//! Tests that run in the server.

/// What the test framework asks for before it starts a cluster.
pub fn setup(_options: Vec<&str>) {}

/// Settings of that cluster.
pub fn postgresql_conf_options() -> Vec<&'static str> {
    vec![]
}
