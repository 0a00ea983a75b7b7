//! The grammar of hast.conf (spec/03).
//!
//! An error does not end the run: the parser skips to the next line or closing brace and goes on.
//! Keywords and numbers are names where a name is expected; only a keyword at the beginning of a
//! line is always a statement, or else `local` without its path would swallow the next line.

use super::diagnostic::Sink;
use super::document::{
    Document, Fault, Keyword, Level, NodeSection, ResourceSection, Settings, Span, component_name,
    node_name,
};
use super::lexer::{Kind, Lexer, Token};

/// Reads the whole text; errors go to the sink.
pub(super) fn parse(text: &str, sink: &mut Sink<'_>) -> Document {
    let mut parser = Parser {
        lexer: Lexer::new(text),
        peeked: None,
        sink,
    };
    parser.document()
}

struct Parser<'a, 's, 'f> {
    lexer: Lexer<'a>,
    peeked: Option<Token<'a>>,
    sink: &'s mut Sink<'f>,
}

/// The beginning of a section inside of another.
enum Section {
    Node(Header),
    Resource(Header),
}

/// A section's name. It is empty if that was missing or wrong, which was reported then.
struct Header {
    name: String,
    span: Span,
}

impl<'a> Parser<'a, '_, '_> {
    fn document(&mut self) -> Document {
        let mut document = Document::default();
        let no_header = 0..0;
        while let Some(section) =
            self.next_section(Level::Global, &no_header, &mut document.settings)
        {
            match section {
                Section::Node(header) => document.nodes.push(self.node(Level::GlobalNode, header)),
                Section::Resource(header) => {
                    let resource = self.resource(header);
                    document.resources.push(resource);
                }
            }
        }
        document
    }

    fn resource(&mut self, header: Header) -> ResourceSection {
        let errors_before = self.sink.count();
        let mut resource = ResourceSection {
            damaged: header.name.is_empty(),
            name: header.name,
            span: header.span.clone(),
            settings: Settings::default(),
            nodes: Vec::new(),
        };
        while let Some(section) =
            self.next_section(Level::Resource, &header.span, &mut resource.settings)
        {
            let (Section::Node(inner) | Section::Resource(inner)) = section;
            resource.nodes.push(self.node(Level::ResourceNode, inner));
        }
        resource.damaged |= self.sink.count() > errors_before;
        resource
    }

    fn node(&mut self, level: Level, header: Header) -> NodeSection {
        let mut settings = Settings::default();
        // No section may begin here, so this ends with the section.
        while self
            .next_section(level, &header.span, &mut settings)
            .is_some()
        {}
        NodeSection {
            name: header.name,
            span: header.span,
            settings,
        }
    }

    /// Takes statements in until a section begins inside of this one; `None` at its end.
    fn next_section(
        &mut self,
        level: Level,
        header: &Span,
        settings: &mut Settings,
    ) -> Option<Section> {
        loop {
            let token = self.next();
            let keyword = match token.kind {
                Kind::End if level == Level::Global => return None,
                Kind::End => {
                    self.sink
                        .syntax(header, "section is not closed", "} at its end");
                    return None;
                }
                Kind::Close if level == Level::Global => {
                    let expected = "no } here: no section is open";
                    self.sink.syntax(&token.span, "unexpected }", expected);
                    continue;
                }
                Kind::Close => return None,
                Kind::Open => {
                    self.sink
                        .syntax(&token.span, "unexpected {", level.statements());
                    self.skip_block();
                    continue;
                }
                Kind::Quoted => None,
                Kind::Word | Kind::Number => Keyword::from_name(&token.text),
            };
            match keyword {
                Some(keyword) if !level.allows(keyword) => {
                    self.sink
                        .syntax(&token.span, "not allowed here", level.statements());
                    self.recover();
                }
                Some(Keyword::On) => {
                    return Some(Section::Node(self.header(Keyword::On, &token.span)));
                }
                Some(Keyword::Resource) => {
                    return Some(Section::Resource(
                        self.header(Keyword::Resource, &token.span),
                    ));
                }
                Some(keyword) => self.statement(keyword, &token.span, settings),
                None if token.damaged => self.recover(),
                None => {
                    self.sink
                        .syntax(&token.span, "unknown statement", level.statements());
                    self.recover();
                }
            }
        }
    }

    fn statement(&mut self, keyword: Keyword, span: &Span, settings: &mut Settings) {
        let Some(argument) = self.argument(keyword, span) else {
            return self.recover();
        };
        if argument.damaged {
            return;
        }
        if let Err(fault) = settings.set(keyword, &argument.text) {
            report(self.sink, &argument.span, fault);
        }
    }

    /// The name and the opening brace of a section.
    fn header(&mut self, keyword: Keyword, span: &Span) -> Header {
        let mut header = Header {
            name: String::new(),
            span: span.clone(),
        };
        if let Some(token) = self.argument(keyword, span) {
            header.span = token.span.clone();
            let name = match keyword {
                Keyword::Resource => component_name("Resource name", &token.text),
                _ => node_name(&token.text),
            };
            match name {
                Ok(name) if !token.damaged => header.name = name,
                Ok(_) => {}
                Err(_) if token.damaged => {}
                Err(fault) => report(self.sink, &token.span, fault),
            }
        }
        if self.peek().kind != Kind::Open {
            let span = self.peek().span.clone();
            self.sink
                .syntax(&span, "section has no {", "{ after the name");
            // Whatever else is on this line is no part of the section. Its statements may follow,
            // so the section counts as begun.
            while self.peek().is_text() && !self.peek().first_on_line {
                self.next();
            }
            if self.peek().kind != Kind::Open {
                return header;
            }
        }
        self.next();
        header
    }

    /// What follows a keyword; reported if missing.
    fn argument(&mut self, keyword: Keyword, span: &Span) -> Option<Token<'a>> {
        let token = self.peek();
        let statement = token.kind == Kind::Word
            && token.first_on_line
            && Keyword::from_name(&token.text).is_some();
        if token.is_text() && !statement {
            return Some(self.next());
        }
        self.sink
            .syntax(span, "argument is missing", keyword.argument());
        None
    }

    /// Skips the rest of a statement that makes no sense, with the block that belongs to it.
    fn recover(&mut self) {
        loop {
            let token = self.peek();
            match token.kind {
                Kind::End | Kind::Close => return,
                Kind::Open => {
                    self.next();
                    return self.skip_block();
                }
                Kind::Word | Kind::Number | Kind::Quoted if token.first_on_line => return,
                Kind::Word | Kind::Number | Kind::Quoted => {
                    self.next();
                }
            }
        }
    }

    /// Skips everything up to the brace that closes the one just read.
    fn skip_block(&mut self) {
        let mut depth = 1_usize;
        while depth > 0 {
            match self.next().kind {
                Kind::Open => depth += 1,
                Kind::Close => depth -= 1,
                Kind::End => return,
                Kind::Word | Kind::Number | Kind::Quoted => {}
            }
        }
    }

    fn peek(&mut self) -> &Token<'a> {
        let lexer = &mut self.lexer;
        let sink = &mut *self.sink;
        self.peeked.get_or_insert_with(|| lexer.next(sink))
    }

    fn next(&mut self) -> Token<'a> {
        match self.peeked.take() {
            Some(token) => token,
            None => self.lexer.next(self.sink),
        }
    }
}

/// Notes what is wrong with the argument at `span`.
pub(super) fn report(sink: &mut Sink<'_>, span: &Span, fault: Fault) {
    match fault {
        Fault::Syntax(what, expected) => sink.syntax(span, what, expected),
        Fault::Said(message, expected) => sink.report(span, message, expected),
    }
}
