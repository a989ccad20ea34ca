//! Stage 10: an answer fitted to the client who asked.

use crate::dns::encode::{self, ClientShape};
use crate::dns::{Answer, Query};

/// Appends the bytes of `answer` for the client of `query`: its id, letter case, OPT and limits. Extended errors are
/// left out when `edns_errors` is off.
pub fn respond(query: &Query, answer: &Answer, udp_payload_bytes: u16, edns_errors: bool, out: &mut Vec<u8>) {
    let ede = answer.ede.as_ref().filter(|_| edns_errors).map(|ede| (ede.code, ede.text.as_ref()));
    encode::fit(out, &answer.message, &ClientShape::of(query, udp_payload_bytes), ede);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::wire::Message;
    use crate::dns::{Ede, Name, Rtype};

    #[test]
    fn letter_case_and_id_are_the_clients() {
        let mut query = Query::local(Name::parse("WwW.eXample").unwrap(), Rtype::A);
        query.id = 0x4242;
        let lower = query.question().qname;
        let answer = encode::servfail(&lower, Rtype::A, Ede::new(22, "silent"));
        let mut out = Vec::new();
        respond(&query, &answer, 1232, true, &mut out);
        let view = Message::parse(&out).unwrap();
        assert_eq!((view.id(), view.qname()), (0x4242, query.qname.as_wire()));
        assert!(view.edns().unwrap().unwrap().option(15).is_some());
        out.clear();
        respond(&query, &answer, 1232, false, &mut out);
        assert!(Message::parse(&out).unwrap().edns().unwrap().unwrap().option(15).is_none());
    }
}
