//! What can go wrong with a request, whether it is tried again, and what people are told in the end.

use crate::progress::Event;
use crate::settings::Patience;
use peft_plan::Fault;
use std::mem::{Discriminant, discriminant};
use std::time::Duration;

/// A try that came to nothing.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// No connection, or none that answers.
    Unreachable(String),
    /// The certificate is not to be believed.
    Certificate(String),
    /// The connection ended before the answer did, or went silent.
    Interrupted(String),
    /// A status that says: later.
    Busy(u16),
    /// 429, with the seconds the server asks for.
    TooMany(Option<Duration>),
    /// A web page in place of what was asked for.
    WebPage,
    /// An answer that does not belong to the question: another range, another version, another encoding.
    Confused(String),
    /// All of it came, and it is not what the hub described.
    Damaged(String),
    /// Trying again would not help.
    Final(Box<Fault>),
}

impl Trouble {
    /// As [`Trouble::Final`].
    pub(crate) fn fault(fault: Fault) -> Self {
        Self::Final(Box::new(fault))
    }

    /// How often this may happen in a row, itself included, before it is told.
    fn tries(&self, patience: &Patience) -> u32 {
        match self {
            Self::Certificate(_) | Self::Final(_) => 1,
            Self::WebPage | Self::Damaged(_) => 2,
            Self::Unreachable(_) => 3.min(patience.attempts),
            Self::Interrupted(_) | Self::Busy(_) | Self::TooMany(_) | Self::Confused(_) => patience.attempts,
        }
    }

    /// For the line that says what is waited for.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Unreachable(why) => format!("the hub cannot be reached ({why})"),
            Self::Interrupted(why) => format!("the connection broke ({why})"),
            Self::Busy(status) => format!("the hub answered {status}"),
            Self::TooMany(_) => "the hub asks to wait (too many requests)".to_owned(),
            Self::WebPage => "a web page came in place of the file".to_owned(),
            Self::Confused(why) | Self::Damaged(why) | Self::Certificate(why) => why.clone(),
            Self::Final(fault) => fault.detail.clone(),
        }
    }

    /// What people are told. `what` was asked for, `host` was asked, `held` bytes of it are kept.
    pub(crate) fn into_fault(self, what: &str, host: &str, held: u64) -> Fault {
        let kept = if held > 0 { " What arrived is kept; the same command goes on from there." } else { "" };
        match self {
            Self::Unreachable(why) => Fault::new(
                "PS-NET-001",
                format!("{what} could not be fetched: {host} cannot be reached ({why}).{kept}"),
            ),
            Self::Busy(status) => Fault::new(
                "PS-NET-001",
                format!("{what} could not be fetched: {host} answered {status} every time.{kept}"),
            ),
            Self::Interrupted(why) => Fault::new(
                "PS-NET-002",
                format!("{what} did not arrive whole from {host}: the connection broke again and again ({why}).{kept}"),
            ),
            Self::TooMany(Some(wait)) => Fault::new(
                "PS-NET-005",
                format!("{host} asks to wait {} s before {what} is asked for again.{kept}", wait.as_secs()),
            ),
            Self::TooMany(None) => {
                Fault::new("PS-NET-005", format!("{host} asks to wait before {what} is asked for again.{kept}"))
            }
            Self::WebPage => Fault::new(
                "PS-NET-004",
                format!(
                    "In place of {what} a web page came, such as the sign-in page of a hotel or company network. \
                     Nothing of it was kept."
                ),
            ),
            Self::Confused(why) | Self::Damaged(why) => {
                Fault::new("PS-NET-003", format!("{what} is not what {host} described: {why}. It was not kept."))
            }
            Self::Certificate(why) => {
                Fault::new("PS-NET-006", format!("{host} could not prove that it is who it says it is: {why}."))
            }
            Self::Final(fault) => *fault,
        }
    }
}

/// What is left of the patience with one file or one question.
pub(crate) struct Budget<'a> {
    patience: &'a Patience,
    failures: u32,
    /// How often each kind was among them.
    kinds: Vec<(Discriminant<Trouble>, u32)>,
    waited: Duration,
}

impl<'a> Budget<'a> {
    pub(crate) fn new(patience: &'a Patience) -> Self {
        Self { patience, failures: 0, kinds: Vec::new(), waited: Duration::ZERO }
    }

    /// Something arrived since the last trouble: it begins anew.
    pub(crate) fn made_progress(&mut self) {
        self.failures = 0;
        self.kinds.clear();
    }

    /// How long to wait before the next try, or the trouble back where there is none.
    pub(crate) fn next(&mut self, trouble: Trouble) -> Result<(Duration, Event), Trouble> {
        self.failures += 1;
        let kind = discriminant(&trouble);
        let index = self.kinds.iter().position(|(known, _)| *known == kind).unwrap_or_else(|| {
            self.kinds.push((kind, 0));
            self.kinds.len() - 1
        });
        self.kinds[index].1 += 1;
        if self.kinds[index].1 >= trouble.tries(self.patience) || self.failures >= self.patience.attempts {
            return Err(trouble);
        }
        let doubled = self.patience.first_wait * 2_u32.saturating_pow(self.failures - 1).min(1 << 16);
        let mut wait = doubled.min(self.patience.longest_wait);
        if let Trouble::TooMany(asked) = trouble {
            wait = asked.unwrap_or(wait);
            if self.waited.saturating_add(wait) > self.patience.longest_retry_after {
                return Err(trouble);
            }
            self.waited += wait;
        }
        let event = Event::Waiting { seconds: wait.as_secs_f64(), reason: trouble.reason() };
        Ok((wait, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_end() {
        let patience = Patience::default();
        let mut budget = Budget::new(&patience);
        let mut waits = Vec::new();
        let end = loop {
            match budget.next(Trouble::Busy(503)) {
                Ok((wait, _)) => waits.push(wait.as_millis()),
                Err(trouble) => break trouble,
            }
        };
        assert_eq!(waits, [500, 1000, 2000, 4000]);
        assert_eq!(end.into_fault("`a`", "host", 0).code, "PS-NET-001");
    }

    #[test]
    fn a_server_may_name_its_wait_within_bounds() {
        let patience = Patience::default();
        let mut budget = Budget::new(&patience);
        let (wait, event) = budget.next(Trouble::TooMany(Some(Duration::from_secs(7)))).expect("waits");
        assert_eq!(wait.as_secs(), 7);
        assert!(matches!(event, Event::Waiting { seconds, .. } if (seconds - 7.0).abs() < 1e-9));
        let trouble = budget.next(Trouble::TooMany(Some(Duration::from_secs(u64::MAX)))).expect_err("too long");
        let fault = trouble.into_fault("`a`", "host", 5);
        assert_eq!(fault.code, "PS-NET-005");
        assert!(fault.detail.contains("goes on from there"), "{}", fault.detail);
    }

    #[test]
    fn a_false_certificate_is_never_tried_again() {
        let patience = Patience::default();
        assert!(Budget::new(&patience).next(Trouble::Certificate("expired".into())).is_err());
    }
}
