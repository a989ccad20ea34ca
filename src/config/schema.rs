//! The JSON schema for editors, made from the table of keys.

use super::file::ROOT;
use super::keys::{Key, Kind, Presence, TableDef};
use super::read::default_json;
use serde_json::{Map, Value, json};

/// What the schema calls itself.
const ID: &str = "https://truename.example/schema/config-1.json";

/// Makes the schema (JSON Schema draft 2020-12).
#[must_use]
pub fn schema() -> Value {
    let mut schema = table(&ROOT);
    if let Value::Object(object) = &mut schema {
        object.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        object.insert("$id".to_owned(), json!(ID));
        object.insert("title".to_owned(), json!("truename.toml"));
    }
    schema
}

fn table(def: &'static TableDef) -> Value {
    let properties: Map<String, Value> = def.keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    let required: Vec<&str> =
        def.keys.iter().filter(|key| matches!(key.presence, Presence::Required(_))).map(|key| key.name).collect();
    let mut schema = json!({
        "type": "object",
        "description": def.doc,
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn property(key: &'static Key) -> Value {
    let mut schema = kind(&key.kind);
    if !key.doc.is_empty() {
        schema["description"] = json!(key.doc);
    }
    match key.presence {
        Presence::Default(text) => schema["default"] = default_json(text),
        Presence::Optional(text) | Presence::Required(text) if !text.is_empty() => {
            schema["examples"] = json!([default_json(text)]);
        }
        Presence::Optional(_) | Presence::Required(_) | Presence::Always => {}
    }
    schema
}

fn kind(kind_of: &'static Kind) -> Value {
    match kind_of {
        Kind::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Word(words) => json!({ "enum": words }),
        Kind::Duration { .. } => json!({ "type": "string", "pattern": "^[0-9]" }),
        Kind::Bytes { .. } => json!({ "type": "string", "pattern": "^[0-9.]+ *[A-Za-z]+$" }),
        Kind::Percent { .. } => json!({ "type": "string", "pattern": "^[0-9]+ *%$" }),
        Kind::Identifier => json!({ "type": "string", "pattern": "^[A-Za-z0-9_.-]{1,63}$" }),
        Kind::RecordType => json!({ "type": "string", "pattern": "^[A-Za-z0-9-]+$" }),
        Kind::Pin => json!({ "type": "string", "pattern": "^[A-Za-z0-9+/]{43}=$" }),
        Kind::Rung => json!({ "type": "string", "pattern": "^(udp|tcp|tls|https|quic|h3)(:[0-9]+)?(/.*)?$" }),
        Kind::Interface => json!({ "type": "string", "minLength": 1, "maxLength": 15 }),
        Kind::Proxy => json!({ "type": "string", "pattern": "^(none|env|(socks5h?|http)://.+)$" }),
        Kind::Listen
        | Kind::Server
        | Kind::Source
        | Kind::Bootstrap
        | Kind::Network
        | Kind::Pattern
        | Kind::DomainName
        | Kind::SocketPath
        | Kind::Text => json!({ "type": "string", "minLength": 1 }),
        Kind::Either(one, other) => json!({ "anyOf": [kind(one), kind(other)] }),
        Kind::List(item) => json!({ "type": "array", "items": kind(item) }),
        Kind::Table(def) => table(def),
        Kind::Tables(def) => json!({ "type": "array", "items": table(def) }),
        Kind::Named(def) => json!({
            "type": "object",
            "description": def.doc,
            "propertyNames": { "pattern": "^[A-Za-z0-9_.-]{1,63}$" },
            "additionalProperties": table(def),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validator() -> jsonschema::Validator {
        jsonschema::options().with_draft(jsonschema::Draft::Draft202012).build(&schema()).unwrap()
    }

    fn as_json(text: &str) -> Value {
        let value: toml::Value = toml::from_str(text).unwrap();
        serde_json::to_value(value).unwrap()
    }

    #[test]
    fn the_default_and_every_example_are_accepted() {
        let validator = validator();
        assert!(validator.is_valid(&json!({})));
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
        let examples = std::fs::read_dir(folder.join("examples")).unwrap().map(|entry| entry.unwrap().path());
        let examples = examples.filter(|path| path.extension().is_some_and(|end| end == "toml"));
        for path in examples.chain([folder.join("truename.toml")]) {
            let text = std::fs::read_to_string(&path).unwrap();
            let problems: Vec<String> = validator.iter_errors(&as_json(&text)).map(|error| error.to_string()).collect();
            assert_eq!(problems, Vec::<String>::new(), "{}", path.display());
        }
        let uncommented = crate::config::manual::uncomment(&crate::config::manual::default_text());
        assert!(validator.is_valid(&as_json(&uncommented)));
    }

    #[test]
    fn what_the_reader_refuses_by_its_shape_the_schema_refuses_too() {
        let validator = validator();
        for text in [
            "max_entires = 1",
            "[cache]\nmax_entires = 1",
            "[cache]\nmax_entries = \"1\"",
            "[server]\nworkers = 0",
            "[server]\nworkers = \"many\"",
            "[[route]]\nnames = [\"a.example\"]",
            "[upstream.x]\nservers = [{ name = \"a\" }]",
            "[log]\nlevel = \"loud\"",
            "[default]\nguard = \"on\"",
        ] {
            assert!(!validator.is_valid(&as_json(text)), "{text}");
            assert!(crate::config::load_text("x.toml", text).config.is_none(), "{text}");
        }
    }
}
