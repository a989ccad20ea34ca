//! Questions that are answered by their type or class alone: transfers, ANY, meta types, CH.

use crate::dns::answer::ede;
use crate::dns::encode::{self, MessageBuilder};
use crate::dns::wire::{CLASS_CH, CLASS_IN, Section};
use crate::dns::{Answer, Ede, Name, Origin, Query, Rcode, Record, Rtype};

/// TTL of a minimal ANY answer, in seconds: the value RFC 8482 section 4.2 suggests is "large".
const ANY_TTL_S: u32 = 3600;

/// Answers what needs no look-up; `None` when the question is an ordinary one.
#[must_use]
pub fn answer(query: &Query) -> Option<Answer> {
    let refuse = |code, why| Some(encode::empty(&query.qname, query.qtype, Rcode::REFUSED, Some(Ede::new(code, why))));
    match query.qclass {
        CLASS_IN => {}
        CLASS_CH => return Some(chaos(query)),
        other => {
            // The question is echoed with its class: a client that compares them waits for another answer.
            let message = MessageBuilder::response(&query.qname, query.qtype, Rcode::REFUSED).class(other).finish();
            let why = Ede::new(ede::NOT_SUPPORTED, "only class IN is served");
            return Some(Answer { message, origin: Origin::Own, ede: Some(why) });
        }
    }
    match query.qtype {
        Rtype::AXFR | Rtype::IXFR => refuse(ede::PROHIBITED, "zones are not transferred"),
        Rtype::OPT | Rtype::TSIG | Rtype::TKEY => Some(encode::empty(&query.qname, query.qtype, Rcode::FORMERR, None)),
        Rtype::MAILA | Rtype::MAILB => Some(encode::empty(&query.qname, query.qtype, Rcode::NOTIMP, None)),
        _ => None,
    }
}

/// Answers ANY for a name that is not ours with one synthetic HINFO (RFC 8482 section 4.2), so that it neither
/// amplifies nor asks an upstream for everything.
#[must_use]
pub fn minimal_any(qname: &Name) -> Answer {
    let record = Record {
        owner: qname.clone(),
        rtype: Rtype::HINFO,
        class: CLASS_IN,
        ttl: ANY_TTL_S,
        rdata: b"\x07RFC8482\x00".as_slice().into(),
    };
    let mut builder = MessageBuilder::response(qname, Rtype::ANY, Rcode::NOERROR);
    builder.push(Section::Answer, &record);
    Answer { message: builder.finish(), origin: Origin::Own, ede: None }
}

/// Answers class CH: `version.bind` and `version.server` TXT (RFC 4892); everything else is refused.
fn chaos(query: &Query) -> Answer {
    let is = |text: &str| Name::parse(text).is_ok_and(|name| name == query.qname);
    let known = is("version.bind") || is("version.server");
    let rcode = if known { Rcode::NOERROR } else { Rcode::REFUSED };
    let mut builder = MessageBuilder::response(&query.qname, query.qtype, rcode).class(CLASS_CH);
    if known && matches!(query.qtype, Rtype::TXT | Rtype::ANY) {
        let text = concat!("truename ", env!("CARGO_PKG_VERSION"));
        let mut rdata = vec![u8::try_from(text.len()).unwrap_or(0)];
        rdata.extend_from_slice(text.as_bytes());
        let record =
            Record { owner: query.qname.clone(), rtype: Rtype::TXT, class: CLASS_CH, ttl: 0, rdata: rdata.into() };
        builder.push(Section::Answer, &record);
    }
    Answer { message: builder.finish(), origin: Origin::Own, ede: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(name: &str, qtype: Rtype, qclass: u16) -> Option<Answer> {
        answer(&Query { qclass, ..Query::local(Name::parse(name).unwrap(), qtype) })
    }

    #[test]
    fn another_class_is_refused_under_its_own_number() {
        let answer = ask("www.example.org", Rtype::A, 255).unwrap();
        assert_eq!((answer.rcode(), answer.view().qclass()), (Rcode::REFUSED, 255));
    }

    #[test]
    fn ordinary_questions_go_on() {
        assert!(ask("example.org", Rtype::A, 1).is_none());
        assert!(ask("example.org", Rtype(65280), 1).is_none());
    }

    #[test]
    fn transfers_and_other_classes_are_refused() {
        assert_eq!(ask("example.org", Rtype::AXFR, 1).unwrap().rcode(), Rcode::REFUSED);
        assert_eq!(ask("example.org", Rtype::A, 4).unwrap().rcode(), Rcode::REFUSED);
        assert_eq!(ask("example.org", Rtype::TSIG, 1).unwrap().rcode(), Rcode::FORMERR);
    }

    #[test]
    fn chaos_class_knows_only_the_version() {
        let version = ask("VERSION.bind", Rtype::TXT, 3).unwrap();
        assert_eq!((version.rcode(), version.records(Section::Answer).len()), (Rcode::NOERROR, 1));
        assert_eq!(version.view().qclass(), 3);
        assert_eq!(ask("id.server", Rtype::TXT, 3).unwrap().rcode(), Rcode::REFUSED);
    }

    #[test]
    fn any_is_small() {
        let answer = minimal_any(&Name::parse("example.org").unwrap());
        assert!(answer.message.len() < 64 && answer.has_records());
    }
}
