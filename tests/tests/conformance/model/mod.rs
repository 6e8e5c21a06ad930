//! A controller over a backend that exists in memory only. It is right in everything, but for the one fault that it
//! is given.

mod controller;
mod fixture;
mod service;
mod world;

pub use controller::Model;

/// What is wrong with a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// A second create of the same session makes a second object.
    DoublesObjects,
    /// A delete says success while the object is still being removed.
    ClaimsDeleteEarly,
    /// While the backend is away, sessions are not found and the listing is empty.
    NotFoundWhenUnreachable,
    /// Metrics are zeros.
    ZeroMetrics,
    /// Another spec under the same id is taken for the same.
    AcceptsOtherSpec,
    /// An error has the session's environment in it.
    LeaksSecret,
    /// Objects of somebody else's count as our own.
    TakesForeign,
    /// What was written to a home is gone after a wake.
    ForgetsHome,
    /// A lower epoch is as good as a higher one.
    IgnoresEpoch,
    /// Metrics are advertised and not there.
    AdvertisesTooMuch,
    /// Hibernation is not advertised and does something.
    AdvertisesTooLittle,
    /// A backend that hangs is waited for without end.
    IgnoresDeadlines,
    /// The cursor of a listing counts entries.
    CountsPages,
    /// A follower of logs gets what is there and no more.
    EndsFollowers,
    /// A wrong field is refused without being named.
    NamesNoField,
    /// What is created on a full backend stays behind in part.
    LeavesPartsWhenFull,
    /// Events that were lost are not told.
    HidesLostEvents,
    /// A handle may be of any length.
    TakesAnyHandle,
    /// A handle that it does not know is an error.
    RefusesHandles,
    /// An object that was renamed is not found, and made a second time.
    LosesRenamed,
    /// The watch says that it begins, and nothing more.
    TellsNothing,
    /// A watch with a cursor begins anew without saying so.
    SkipsGaps,
    /// Sizes of storage are taken and forgotten.
    IgnoresSizes,
    /// A service that a session does not have is answered with those that it has.
    AnyService,
    /// What sleeps while the backend restarts is gone.
    ForgetsSleepers,
    /// What is done by hand is not seen.
    MissesHands,
    /// Resources and environment are taken and forgotten.
    AppliesNothing,
    /// A session that failed says no word about it.
    FailsSilently,
    /// A hibernated session goes on using what it used.
    SleepsAwake,
    /// Hibernating and waking make another object each time.
    ChangesNodes,
    /// A hibernated session has a way in.
    LeavesTheDoorOpen,
    /// The health is good whatever the backend does.
    AlwaysHealthy,
    /// Of the logs there are always all lines.
    IgnoresTails,
    /// Any image will do.
    TakesAnyImage,
    /// Whose a session is, is not known.
    ForgetsUsers,
    /// Any setting will do.
    TakesAnySetting,
    /// It imports more than it says.
    ImportsMore,
    /// The way in leads nowhere.
    LeadsNowhere,
}
