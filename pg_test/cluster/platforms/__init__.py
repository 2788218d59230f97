"""Test servers that speak the protocols of ad platforms. pg_test/README.md says how they are used."""
