//! How many streams a client may have open. Knows nothing of frames.

use std::collections::VecDeque;

/// The announced limits and which of them the client has acknowledged.
#[derive(Debug)]
pub(crate) struct StreamLimit {
    announced: u32,
    acknowledged: Option<u32>,
    pending: VecDeque<u32>,
    refuse_excess: bool,
    /// A lower limit was acknowledged, and the client has not been seen to keep it yet: streams it had
    /// opened before may still be on their way, since an acknowledgement can overtake them.
    settling: bool,
}

/// What happens to a new stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Open,
    /// Above the announced limit: turned away unprocessed.
    Refuse,
    /// Above a limit the client has acknowledged.
    Violation,
}

impl StreamLimit {
    pub(crate) fn new(announced: u32, refuse_excess: bool) -> Self {
        let pending = VecDeque::from([announced]);
        Self {
            announced,
            acknowledged: None,
            pending,
            refuse_excess,
            settling: true,
        }
    }

    pub(crate) fn announce(&mut self, limit: u32) {
        self.announced = limit;
        self.pending.push_back(limit);
    }

    pub(crate) fn acknowledged(&mut self) {
        if let Some(limit) = self.pending.pop_front() {
            self.settling |= self.acknowledged.is_some_and(|before| limit < before);
            self.acknowledged = Some(limit);
        }
    }

    /// Decides on one more stream beside `open` ones.
    pub(crate) fn admit(&mut self, open: usize) -> Admission {
        // Until a client acknowledges a change it may go by either value; before it has acknowledged any it
        // cannot know of a limit at all, and what is above it is turned away without blame.
        let pending = &self.pending;
        let known = self
            .acknowledged
            .map(|limit| pending.iter().fold(limit, |most, next| most.max(*next)));
        if open < known.unwrap_or(self.announced) as usize {
            self.settling = known.is_none();
            Admission::Open
        } else if self.settling || self.refuse_excess {
            Admission::Refuse
        } else {
            Admission::Violation
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_binds_once_it_was_acknowledged_and_kept() {
        let mut limit = StreamLimit::new(1, false);
        assert_eq!(limit.admit(0), Admission::Open);
        assert_eq!(
            limit.admit(1),
            Admission::Refuse,
            "the client cannot know the limit yet"
        );
        limit.acknowledged();
        assert_eq!(
            limit.admit(1),
            Admission::Refuse,
            "opened before the acknowledgement, perhaps"
        );
        assert_eq!(limit.admit(0), Admission::Open);
        assert_eq!(limit.admit(1), Admission::Violation);
        limit.announce(1000);
        assert_eq!(limit.admit(1), Admission::Open, "a raise holds at once");
        limit.acknowledged();
        limit.announce(1);
        assert_eq!(
            limit.admit(500),
            Admission::Open,
            "still within the limit it acknowledged"
        );
        assert_eq!(limit.admit(1000), Admission::Violation);
        limit.acknowledged();
        assert_eq!(
            limit.admit(500),
            Admission::Refuse,
            "overtaken by the acknowledgement, perhaps"
        );
        assert_eq!(limit.admit(0), Admission::Open);
        assert_eq!(limit.admit(1), Admission::Violation);
    }

    #[test]
    fn excess_can_be_refused_instead() {
        let mut limit = StreamLimit::new(1, true);
        limit.acknowledged();
        assert_eq!(limit.admit(0), Admission::Open);
        assert_eq!(limit.admit(1), Admission::Refuse);
    }
}
