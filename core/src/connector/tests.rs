use super::builtin::BUILTIN;
use super::*;

#[test]
fn built_in_connectors_are_valid() {
    for builtin in BUILTIN {
        let json = serde_json::from_str(builtin.spec).unwrap_or_else(|error| {
            panic!("{}: {error}", builtin.name);
        });
        if let Err(problem) = Spec::parse(json) {
            panic!("{}: {problem}", builtin.name);
        }
    }
}
