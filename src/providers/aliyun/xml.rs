//! The little XML that MNS speaks: names without their namespaces, text without its escapes, nothing else.

use quick_xml::Reader;
use quick_xml::events::Event;

/// MNS nests three elements; more is not its XML.
const DEEPEST: usize = 16;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    /// The element's own text, escapes resolved.
    pub text: String,
    pub children: Vec<Node>,
}

impl Node {
    pub fn child(&self, name: &str) -> Option<&Node> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text of a child, without spaces around it; empty when there is none.
    pub fn text_of(&self, name: &str) -> &str {
        self.child(name).map_or("", |child| child.text.trim())
    }
}

/// Reads a document's root. Bytes that are not UTF-8 become U+FFFD, and a lone `&` stays one: a message that is
/// odd must not hide its neighbours. A document type is refused: MNS sends none, and entities are traps.
pub fn parse(bytes: &[u8]) -> Result<Node, String> {
    let text = String::from_utf8_lossy(bytes);
    let mut reader = Reader::from_str(&text);
    reader.config_mut().allow_dangling_amp = true;
    // The open elements below a nameless one that holds the root.
    let mut open = vec![Node::default()];
    loop {
        let event = reader
            .read_event()
            .map_err(|error| format!("not XML: {error}"))?;
        let add = |open: &mut Vec<Node>, text: &str| {
            if let Some(node) = open.last_mut() {
                node.text.push_str(text);
            }
        };
        match event {
            Event::Start(start) => {
                if open.len() > DEEPEST {
                    return Err(format!("elements nested deeper than {DEEPEST}"));
                }
                open.push(named(start.local_name().as_ref()));
            }
            Event::Empty(start) => {
                let node = named(start.local_name().as_ref());
                if let Some(parent) = open.last_mut() {
                    parent.children.push(node);
                }
            }
            Event::End(_) => close(&mut open),
            Event::Text(text) => add(&mut open, &text.decode().map_err(|e| e.to_string())?),
            Event::CData(text) => add(&mut open, &text.decode().map_err(|e| e.to_string())?),
            Event::GeneralRef(reference) => {
                let name = reference.decode().map_err(|e| e.to_string())?;
                match reference.resolve_char_ref() {
                    Ok(Some(c)) => add(&mut open, c.encode_utf8(&mut [0; 4])),
                    _ => match named_escape(&name) {
                        Some(text) => add(&mut open, text),
                        None => add(&mut open, &format!("&{name};")),
                    },
                }
            }
            Event::DocType(_) => return Err("a document type, which is refused".to_owned()),
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            Event::Eof => break,
        }
    }
    if open.len() > 1 {
        return Err(format!("ends inside of {:?}", open[open.len() - 1].name));
    }
    let mut roots = open.pop().unwrap_or_default().children.into_iter();
    match (roots.next(), roots.next()) {
        (Some(root), None) => Ok(root),
        _ => Err("no single root element".to_owned()),
    }
}

fn named(name: &[u8]) -> Node {
    Node {
        name: String::from_utf8_lossy(name).into_owned(),
        ..Node::default()
    }
}

fn close(open: &mut Vec<Node>) {
    if let Some(node) = open.pop()
        && let Some(parent) = open.last_mut()
    {
        parent.children.push(node);
    }
}

fn named_escape(name: &str) -> Option<&'static str> {
    Some(match name {
        "lt" => "<",
        "gt" => ">",
        "amp" => "&",
        "quot" => "\"",
        "apos" => "'",
        _ => return None,
    })
}

/// Text as it may stand in an element.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn namespaces_and_escapes_are_read_away() {
        let root = parse(
            b"<?xml version=\"1.0\"?><!-- x --><m:Message xmlns:m=\"http://mns.aliyuncs.com/doc/v1/\">\
              <m:MessageBody>{&quot;a&quot;:&#34;&lt;&amp;&#x26;&#39;</m:MessageBody>\
              <Empty/><CD><![CDATA[<&>]]></CD></m:Message>",
        )
        .unwrap();
        assert_eq!(root.name, "Message");
        assert_eq!(root.text_of("MessageBody"), "{\"a\":\"<&&'");
        assert_eq!(root.text_of("CD"), "<&>");
        assert_eq!((root.text_of("Empty"), root.text_of("None")), ("", ""));
    }

    #[test]
    fn traps_and_pages_are_refused_and_odd_text_is_not() {
        for bad in [
            "<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>",
            "<a><b></a>",
            "<a>",
            "<a/><b/>",
            "",
            "not xml",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let deep = "<a>".repeat(100) + &"</a>".repeat(100);
        assert!(parse(deep.as_bytes()).unwrap_err().contains("deeper"));
        let odd = parse(b"<a>x & y &foo; \xff &#0;</a>").unwrap();
        assert!(odd.text.starts_with("x & y &foo; \u{fffd}"), "{odd:?}");
    }

    proptest! {
        #[test]
        fn what_is_escaped_is_read_back_and_nothing_panics(text in "\\PC{0,60}", junk in proptest::collection::vec(any::<u8>(), 0..120)) {
            let root = parse(format!("<a>{}</a>", escaped(&text)).as_bytes()).unwrap();
            prop_assert_eq!(root.text, text);
            let _ = parse(&junk);
        }
    }
}
