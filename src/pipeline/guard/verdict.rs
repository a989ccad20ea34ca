//! What the guard says of a reply: the eight verdicts, and the signs that lead to them with their weights.
//!
//! The weights are half decimal orders of how much likelier a sign is in a forged reply than in a true one, rounded, and
//! summed; docs/guard.md has where each number comes from and what happens without it. A sum of [`POISONED_FROM`] or more
//! accuses, one of [`LAWFUL_TO`] or less acquits, and what lies between is left undecided: recall bought with false
//! accusations is worth nothing.

use std::fmt;
use std::time::Duration;

/// From this sum on a reply is called forged: two soft signs that are rare in true replies, or a hard one.
pub const POISONED_FROM: i32 = 4;
/// Down to this sum a difference counts as explained: an explanation that outweighs the difference itself by as much again.
pub const LAWFUL_TO: i32 = -2;
/// How long an answer may be kept about which nothing could be decided.
pub const UNDECIDED_TTL: Duration = Duration::from_secs(30);

/// What a suspect's reply was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// The replies agree.
    Consistent,
    /// They differ, and lawfully: same network, same aliases, proved, split horizon, DNS64.
    BenignDivergent,
    /// They differ, and nothing explains or proves it.
    Undecidable,
    /// Timeout, SERVFAIL, REFUSED, FORMERR, garbage.
    UpstreamFailing,
    /// No data where there is data.
    EmptyVsPresent,
    /// Aliases that end in nothing, or loop.
    BrokenChain,
    /// Data where the name does not exist.
    NxdomainHijacked,
    /// A forged or overwritten answer.
    Poisoned,
}

impl Verdict {
    /// Every verdict, from the most harmless to the worst; of several replies of one upstream the worst counts.
    pub const ALL: [Self; 8] = [
        Self::Consistent,
        Self::BenignDivergent,
        Self::Undecidable,
        Self::UpstreamFailing,
        Self::EmptyVsPresent,
        Self::BrokenChain,
        Self::NxdomainHijacked,
        Self::Poisoned,
    ];

    /// Returns the word used in output, counters and the corpus.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consistent => "consistent",
            Self::BenignDivergent => "benign_divergent",
            Self::Poisoned => "poisoned",
            Self::NxdomainHijacked => "nxdomain_hijacked",
            Self::EmptyVsPresent => "empty_vs_present",
            Self::BrokenChain => "broken_chain",
            Self::UpstreamFailing => "upstream_failing",
            Self::Undecidable => "undecidable",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.as_str() == word)
    }

    /// Tells whether somebody made this answer up.
    #[must_use]
    pub fn is_manipulation(self) -> bool {
        matches!(self, Self::Poisoned | Self::NxdomainHijacked)
    }

    /// Tells whether a suspect's reply with this verdict may go to a client as it is.
    #[must_use]
    pub fn is_clean(self) -> bool {
        matches!(self, Self::Consistent | Self::BenignDivergent)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

macro_rules! signs {
    ($($variant:ident $weight:literal $word:literal $help:literal,)*) => {
        /// Something that was seen and speaks for or against a reply.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Sign { $(#[doc = $help] $variant,)* }

        impl Sign {
            /// Every sign.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Returns what it adds to the sum: above zero it speaks against the reply.
            #[must_use]
            pub const fn weight(self) -> i32 {
                match self { $(Self::$variant => $weight),* }
            }

            /// Returns its word in output and incidents.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }

            /// Returns what it means, in one sentence.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help),* }
            }
        }
    };
}

signs! {
    WrongType 6 "wrong-type" "A record of a type that was not asked for stands in place of the answer.",
    SpecialAddress 6 "special-address" "A private, loopback or otherwise special address, where trusted upstreams give public ones or none.",
    ListedAddress 6 "listed-address" "An address on the user's own list of forged ones.",
    TwoReplies 5 "two-replies" "Another reply to the same query shares no data with this one.",
    DecoyAnswered 5 "decoy-answered" "A query to an address where no resolver is was answered: something on the path answers for others.",
    ManyNames 5 "many-names" "This address was given for several unrelated names, and trusted upstreams gave others for them.",
    InventedAddress 5 "invented-address" "This address was given for a name that does not exist.",
    WrongCertificate 4 "wrong-certificate" "The address shows a certificate of another name, or one that no root signs.",
    Authoritative 3 "authoritative" "A resolver says that it is authoritative (AA).",
    NoRecursion 2 "no-recursion" "A resolver says that it offers no recursion (RA clear), which this one otherwise does.",
    TtlSpent 2 "ttl-spent" "A TTL of 0 or 1, where trusted upstreams give more.",
    TtlTooLong 2 "ttl-too-long" "A TTL far above what trusted upstreams give.",
    OptMissing 2 "opt-missing" "No OPT record, from a server that always sent one.",
    NothingInCommon 2 "nothing-in-common" "No data in common with what trusted upstreams agree on.",
    OptMissingHere 1 "opt-missing-here" "No OPT record, where other upstreams sent one.",
    CaseLost 1 "case-lost" "The letter case of the question did not come back.",
    LocalRoot 1 "local-root" "The address shows a certificate of the name by a root that was added on this machine: somebody reads along, and may be allowed to.",
    AliasOnlyHere 1 "alias-only-here" "An alias leads to another domain, where trusted upstreams give none.",
    DataOfProved -4 "partly-proved" "Some of the addresses have shown a valid certificate for the name.",
    SharedData -6 "shared-data" "An address or datum in common with a trusted reply.",
    SamePrefix -5 "same-prefix" "An address of the same /24 or /48 as a trusted one.",
    SameAliases -4 "same-aliases" "An alias into the same domain as in a trusted reply.",
    SameAliasesGuarded -2 "same-aliases-guarded" "The same for a guarded name: the resolver behind the alias may itself have been lied to.",
    SameNetwork -4 "same-network" "All addresses in networks (AS) of trusted ones.",
    MayDiffer -5 "may-differ" "The configuration says that replies about this name may differ (allow_divergent).",
    TrustedDiffer -1 "trusted-differ" "Trusted upstreams share no data among themselves: the name rotates.",
    SameTtl -1 "same-ttl" "Exactly the TTL that trusted upstreams give, as only the zone itself would set it.",
    Proved 0 "proved" "Every address has shown a valid certificate for the name.",
    Unproved 0 "unproved" "The address shows no certificate that says anything: the connection or the handshake failed, as it does where names are filtered in TLS too.",
    Dns64 0 "dns64" "NAT64 addresses of the name's own IPv4 addresses (RFC 6147).",
    Dns64Elsewhere 0 "dns64-elsewhere" "NAT64 addresses of the name's own IPv4 addresses, behind a prefix that may lead anywhere.",
    SplitHorizon 0 "split-horizon" "A private address from a resolver of the own network, for a name that is unknown outside.",
    Exempt 0 "exempt" "A local zone or a private route: not judged.",
    TrustedSecure 0 "trusted-secure" "The trusted answer is secured by DNSSEC.",
    SameAnswer 0 "same-answer" "A trusted upstream gave the same answer.",
    BothEmpty 0 "both-empty" "Neither side has data, though they say so differently.",
    NoData 0 "no-data" "No data, where trusted upstreams have some.",
    DeniedName 0 "denied-name" "The name is said not to exist, and trusted upstreams have data of it.",
    NameMissing 0 "name-missing" "Trusted upstreams say that the name does not exist.",
    NothingLeft 0 "nothing-left" "One trusted upstream says that there is nothing, where there was something before or must be.",
    ChainEnds 0 "chain-ends" "The aliases end in nothing.",
    ChainLoops 0 "chain-loops" "The aliases lead back to themselves.",
    Failure 0 "failure" "No reply, or one that says that the upstream failed.",
    NoTrustedReply 0 "no-trusted-reply" "No trusted upstream answered.",
    Filtered 0 "filtered" "The reply says itself that it was filtered (EDE 4, 15, 16, 17).",
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The verdict about one reply, with everything that led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    /// What it is.
    pub verdict: Verdict,
    /// The sum of the weights of `signs`.
    pub score: i32,
    /// What was seen, in the order it was looked for.
    pub signs: Vec<Sign>,
}

impl Assessment {
    /// Makes an assessment that follows from one sign alone, without weighing.
    #[must_use]
    pub fn plain(verdict: Verdict, sign: Sign) -> Self {
        Self { verdict, score: sign.weight(), signs: vec![sign] }
    }

    /// Weighs signs.
    #[must_use]
    pub fn weighed(signs: Vec<Sign>) -> Self {
        let score = signs.iter().map(|sign| sign.weight()).sum();
        let verdict = match score {
            POISONED_FROM.. => Verdict::Poisoned,
            ..=LAWFUL_TO => Verdict::BenignDivergent,
            _ => Verdict::Undecidable,
        };
        Self { verdict, score, signs }
    }

    /// Orders assessments: the worse verdict first, of equal ones the one that more speaks against.
    #[must_use]
    pub fn severity(&self) -> (Verdict, i32) {
        (self.verdict, self.score)
    }
}

/// Where a reply stands in the evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyAt {
    /// Which list its upstream stands in.
    pub side: Side,
    /// The upstream's place in that list.
    pub candidate: usize,
    /// The reply's place among those of its upstream.
    pub reply: usize,
}

/// Whose reply it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// An upstream that is judged.
    Suspect,
    /// An upstream that is believed.
    Trusted,
}

/// What a client gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serve {
    /// This reply.
    Reply(ReplyAt),
    /// This reply, which nothing confirms: for [`UNDECIDED_TTL`] at most, and marked.
    Unconfirmed(ReplyAt),
    /// None of the replies: the next group is asked, and when there is none, SERVFAIL.
    Nothing,
}

/// What a client was given, as incidents say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// A trusted upstream's reply.
    Trusted,
    /// Another one, whose addresses have proved themselves.
    Proved,
    /// The reply that is judged, as it came.
    Suspect,
    /// The same, marked and for a short time.
    Unconfirmed,
    /// SERVFAIL.
    Nothing,
}

impl Given {
    /// Returns the word used in output and on disk.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::Proved => "proved",
            Self::Suspect => "suspect",
            Self::Unconfirmed => "unconfirmed",
            Self::Nothing => "nothing",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Trusted, Self::Proved, Self::Suspect, Self::Unconfirmed, Self::Nothing]
            .into_iter()
            .find(|given| given.as_str() == word)
    }
}

impl Serve {
    /// Returns where the reply stands that goes out.
    #[must_use]
    pub fn at(self) -> Option<ReplyAt> {
        match self {
            Self::Reply(at) | Self::Unconfirmed(at) => Some(at),
            Self::Nothing => None,
        }
    }

    /// Returns what that gives a client.
    #[must_use]
    pub fn given(self) -> Given {
        match self {
            Self::Reply(at) | Self::Unconfirmed(at) if at.side == Side::Trusted => Given::Trusted,
            Self::Reply(_) => Given::Suspect,
            Self::Unconfirmed(_) => Given::Unconfirmed,
            Self::Nothing => Given::Nothing,
        }
    }
}

/// What the guard decided about a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The worst verdict about any reply of the suspects.
    pub verdict: Verdict,
    /// Its score and signs.
    pub assessment: Assessment,
    /// Whose reply it is about, when a suspect gave an answer.
    pub about: Option<ReplyAt>,
    /// What the client gets.
    pub serve: Serve,
    /// How long the answer may be kept, when that is less than its TTL says.
    pub keep_at_most: Option<Duration>,
}

impl Decision {
    /// Returns what that gives a client.
    #[must_use]
    pub fn given(&self) -> Given {
        let given = self.serve.given();
        if given == Given::Suspect && self.about != self.serve.at() { Given::Proved } else { given }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unique_and_read_back() {
        for verdict in Verdict::ALL {
            assert_eq!(Verdict::from_word(verdict.as_str()), Some(verdict));
        }
        let mut words: Vec<_> = Sign::ALL.iter().map(|sign| sign.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Sign::ALL.len());
    }

    #[test]
    fn no_soft_sign_accuses_alone_and_every_hard_one_does() {
        for sign in Sign::ALL {
            let accuses = Assessment::weighed(vec![*sign]).verdict == Verdict::Poisoned;
            assert_eq!(accuses, sign.weight() >= 4, "{sign}");
        }
        let two = vec![Sign::NothingInCommon, Sign::OptMissingHere];
        assert_eq!(Assessment::weighed(two).verdict, Verdict::Undecidable);
        assert_eq!(Assessment::weighed(vec![Sign::NothingInCommon, Sign::TtlSpent]).verdict, Verdict::Poisoned);
        assert_eq!(
            Assessment::weighed(vec![Sign::NothingInCommon, Sign::SameNetwork]).verdict,
            Verdict::BenignDivergent
        );
    }
}
