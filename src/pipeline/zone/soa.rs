//! SOA records: made ones, and the form they have in negative answers.

use super::rdata::CLASS_IN;
use crate::dns::{Name, Record, Rtype, wire};

/// REFRESH, RETRY, EXPIRE of a made SOA: nobody transfers these zones; the figures are the usual ones.
const TIMERS: [u32; 3] = [3_600, 600, 86_400];
/// MINIMUM of a made SOA: how long an absence is remembered while a zone is being written.
pub(super) const MADE_MINIMUM_SECONDS: u32 = 60;

/// Makes `APEX hostmaster.APEX SERIAL 3600 600 86400 MINIMUM`.
pub(super) fn made(apex: &Name, serial: u32, ttl: u32, minimum: u32) -> Record {
    // An apex of almost 255 octets has no room for the label; its contact is then the apex itself.
    let contact = apex.prepend(b"hostmaster").unwrap_or_else(|_| apex.clone());
    let mut rdata = apex.as_wire().to_vec();
    rdata.extend_from_slice(contact.as_wire());
    for number in [serial, TIMERS[0], TIMERS[1], TIMERS[2], minimum] {
        rdata.extend_from_slice(&number.to_be_bytes());
    }
    Record { owner: apex.clone(), rtype: Rtype::SOA, class: CLASS_IN, ttl, rdata: rdata.into() }
}

/// Returns the SOA as it stands in a negative answer: its TTL is min(TTL, MINIMUM) (RFC 2308 section 3).
pub(super) fn negative(soa: &Record) -> Record {
    let minimum = soa.rdata.len().checked_sub(4).and_then(|at| wire::u32_at(&soa.rdata, at)).unwrap_or(0);
    Record { ttl: soa.ttl.min(minimum), ..soa.clone() }
}

/// Makes the SOA for a negative answer about a name that no zone file stands behind.
pub(super) fn for_negative(apex: &Name, minimum: u32) -> Record {
    made(apex, 1, minimum, minimum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_ttl_is_the_smaller_of_ttl_and_minimum() {
        let apex = Name::parse("lab.example").unwrap();
        assert_eq!(negative(&made(&apex, 7, 3_600, 60)).ttl, 60);
        assert_eq!(negative(&made(&apex, 7, 30, 60)).ttl, 30);
    }

    #[test]
    fn made_soa_has_the_documented_fields() {
        let soa = made(&Name::parse("lab.example").unwrap(), 7, 60, 60);
        let line = super::super::presentation::record_line(&soa);
        assert_eq!(line, "lab.example. 60 IN SOA lab.example. hostmaster.lab.example. 7 3600 600 86400 60");
    }
}
