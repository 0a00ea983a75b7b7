//! The same configuration in TOML.
//!
//! Keys are the keywords of hast.conf; sections are tables: `[on.<node>]`, `[resource.<name>]`,
//! `[resource.<name>.on.<node>]`. The values go through the same checks as those of hast.conf. The
//! tables are walked by hand rather than derived, so that one run finds every error in its place.

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::diagnostic::Sink;
use super::document::{
    Document, Fault, Keyword, Level, NodeSection, ResourceSection, Settings, Span, component_name,
    node_name,
};
use super::parser::report;

/// Reads the whole text; errors go to the sink.
pub(super) fn parse(text: &str, sink: &mut Sink<'_>) -> Document {
    let mut document = Document::default();
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        sink.syntax(&error.span().unwrap_or(0..0), error.message(), "");
    }
    if !errors.is_empty() {
        // What the parser made up to go on would only bring errors that are none.
        return document;
    }
    for (keyword, value) in statements(table.get_ref(), Level::Global, sink) {
        match keyword {
            Keyword::On => document.nodes.extend(nodes(value, Level::GlobalNode, sink)),
            Keyword::Resource => {
                for (name, span, body) in sections(value, Keyword::Resource, sink) {
                    document.resources.push(resource(name, span, body, sink));
                }
            }
            _ => statement(&mut document.settings, keyword, value, sink),
        }
    }
    document
}

type Value<'i> = Spanned<DeValue<'i>>;

/// The keys of a table in the file's order, without those that were reported.
fn statements<'t, 'i>(
    table: &'t DeTable<'i>,
    level: Level,
    sink: &mut Sink<'_>,
) -> Vec<(Keyword, &'t Value<'i>)> {
    let mut found = Vec::new();
    for (key, value) in table {
        match Keyword::from_name(key.get_ref()) {
            Some(keyword) if level.allows(keyword) => {
                found.push((key.span().start, keyword, value));
            }
            Some(_) => sink.syntax(&key.span(), "not allowed here", level.statements()),
            None => sink.syntax(&key.span(), "unknown key", level.statements()),
        }
    }
    found.sort_by_key(|&(start, _, _)| start);
    found
        .into_iter()
        .map(|(_, keyword, value)| (keyword, value))
        .collect()
}

/// The sections in a table of tables, in the file's order. A name that was reported is empty.
fn sections<'t, 'i>(
    value: &'t Value<'i>,
    keyword: Keyword,
    sink: &mut Sink<'_>,
) -> Vec<(String, Span, &'t DeTable<'i>)> {
    let Some(table) = value.get_ref().as_table() else {
        let expected = format!("a table for each: [{}.<name>]", keyword.as_str());
        sink.syntax(&value.span(), "not a table", expected);
        return Vec::new();
    };
    let mut found = Vec::new();
    for (key, value) in table {
        let name = match keyword {
            Keyword::Resource => component_name("Resource name", key.get_ref()),
            _ => node_name(key.get_ref()),
        };
        let name = name.unwrap_or_else(|fault| {
            report(sink, &key.span(), fault);
            String::new()
        });
        match value.get_ref().as_table() {
            Some(body) => found.push((name, key.span(), body)),
            None => sink.syntax(&value.span(), "not a table", format!("a table for {name}")),
        }
    }
    found.sort_by_key(|(_, span, _)| span.start);
    found
}

fn nodes(value: &Value<'_>, level: Level, sink: &mut Sink<'_>) -> Vec<NodeSection> {
    let mut nodes = Vec::new();
    for (name, span, body) in sections(value, Keyword::On, sink) {
        let mut settings = Settings::default();
        for (keyword, value) in statements(body, level, sink) {
            statement(&mut settings, keyword, value, sink);
        }
        nodes.push(NodeSection {
            name,
            span,
            settings,
        });
    }
    nodes
}

fn resource(name: String, span: Span, body: &DeTable<'_>, sink: &mut Sink<'_>) -> ResourceSection {
    let errors_before = sink.count();
    let mut resource = ResourceSection {
        damaged: name.is_empty(),
        name,
        span,
        settings: Settings::default(),
        nodes: Vec::new(),
    };
    for (keyword, value) in statements(body, Level::Resource, sink) {
        match keyword {
            Keyword::On => resource
                .nodes
                .extend(nodes(value, Level::ResourceNode, sink)),
            _ => statement(&mut resource.settings, keyword, value, sink),
        }
    }
    resource.damaged |= sink.count() > errors_before;
    resource
}

fn statement(settings: &mut Settings, keyword: Keyword, value: &Value<'_>, sink: &mut Sink<'_>) {
    if let (Keyword::Listen, DeValue::Array(addresses)) = (keyword, value.get_ref()) {
        for address in addresses {
            single(settings, keyword, address, sink);
        }
        return;
    }
    single(settings, keyword, value, sink);
}

fn single(settings: &mut Settings, keyword: Keyword, value: &Value<'_>, sink: &mut Sink<'_>) {
    let result = text_of(keyword, value.get_ref()).and_then(|text| settings.set(keyword, &text));
    if let Err(fault) = result {
        report(sink, &value.span(), fault);
    }
}

/// The value as hast.conf would write it.
fn text_of(keyword: Keyword, value: &DeValue<'_>) -> Result<String, Fault> {
    match (keyword, value) {
        (
            Keyword::Timeout | Keyword::Fencetimeout | Keyword::Syncrate,
            DeValue::Integer(number),
        ) => decimal(number),
        (Keyword::Metaflush, DeValue::Boolean(on)) => Ok(if *on { "on" } else { "off" }.to_owned()),
        (Keyword::Timeout | Keyword::Fencetimeout, _) => {
            Err(Fault::Syntax("not a number", keyword.argument()))
        }
        (Keyword::Metaflush, _) => Err(Fault::Syntax("not a truth value", "true or false")),
        (_, DeValue::String(text)) => Ok(text.to_string()),
        (Keyword::Listen, _) => Err(Fault::Syntax(
            "not a string",
            "an array of addresses in quotes",
        )),
        _ => Err(Fault::Syntax("not a string", keyword.argument())),
    }
}

fn decimal(number: &DeInteger<'_>) -> Result<String, Fault> {
    if number.radix() == 10 {
        Ok(number.as_str().trim_start_matches('+').to_owned())
    } else {
        Err(Fault::Syntax("not a decimal number", "decimal digits"))
    }
}
