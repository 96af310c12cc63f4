//! Bugs that are put in on purpose. A simulator that does not find them finds nothing.

/// A mistake in how an attempt is performed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// Nothing is read again after what the caller saw: neither when the attempt begins, nor before the token is sent.
    NoReread,
    /// The new pair is written over whatever is there.
    StoreUnguarded,
    /// The new pair is written only while the lease lasts.
    LeaseAsGuard,
    /// The attempt ends with the caller that began it.
    CancelWithCaller,
    /// `invalid_grant` breaks whatever is there.
    GiveUpUnguarded,
    /// `invalid_grant` breaks what another attempt is renewing by now.
    GiveUpWithoutLease,
    /// A lease is taken on whatever is there.
    ClaimWithoutVersion,
    /// A pair whose writing was not answered, and is there all the same, is taken for one that is not.
    StoreTwiceIsTwo,
    /// A pair that is not wanted is ended at the provider without a look at what else would end.
    DiscardWhateverLives,
    /// The life of a token is counted from when its answer came.
    LifeFromAnswer,
    /// The last look before the token is sent leaves the lease as it is, about to end or not.
    ConfirmIsALook,
    /// Nobody looks at the clock after that.
    ConfirmIsForEver,
}

impl Bug {
    pub const ALL: [Self; 12] = [
        Self::NoReread,
        Self::StoreUnguarded,
        Self::LeaseAsGuard,
        Self::CancelWithCaller,
        Self::GiveUpUnguarded,
        Self::GiveUpWithoutLease,
        Self::ClaimWithoutVersion,
        Self::StoreTwiceIsTwo,
        Self::DiscardWhateverLives,
        Self::LifeFromAnswer,
        Self::ConfirmIsALook,
        Self::ConfirmIsForEver,
    ];
}
