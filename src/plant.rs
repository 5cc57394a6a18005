//! Bugs planted on purpose, to see that the simulator finds them. Compiled only with feature `plant`, which only `sim/`
//! enables; one is switched on for one thread, which is one run.

use std::cell::Cell;

macro_rules! plants {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Plant { $($(#[$doc])* $name,)* }

        impl Plant {
            pub const ALL: &[Plant] = &[$(Plant::$name),*];

            pub fn name(self) -> &'static str {
                match self { $(Plant::$name => stringify!($name),)* }
            }
        }
    };
}

plants! {
    /// What is written but not synced is acknowledged.
    AckBeforeSync,
    /// A failed sync moves the flushed position on, as Java's does.
    SyncErrorSwallowed,
    /// A group that spans two segments syncs only the newer one.
    OnlyNewestSegmentSynced,
    /// What was committed during the sync counts as synced too.
    WaiterOfNextGroupReleased,
    /// A request for a group commit is lost now and then.
    GroupCommitWakeUpLost,
    /// What stands behind the log's end is left there.
    TailNotWiped,
    /// Recovery trusts the page cache after a failed sync.
    UnflushedTailTrusted,
    /// Segments behind the end are removed without a directory sync between them.
    SegmentsRemovedUnordered,
    /// A new segment's name is not made durable.
    NewSegmentNameNotSynced,
    /// A record may take the place of the filler.
    OffByOneAtSegmentEnd,
    /// The checkpoint calls flushed what was appended.
    CheckpointAheadOfLog,
    /// The checkpoint calls derived what was dispatched.
    CheckpointAheadOfQueues,
    /// Consumers see what is not synced yet.
    ShownBeforeFlushed,
    /// After recovery a queue goes on with its last offset instead of the next.
    QueueOffsetReused,
    /// The record at which replay begins is not derived, as in Java's 5.x.
    ReplaySkipsFirst,
    /// A record whose properties never reached the disk is taken.
    TornPropertiesTaken,
    /// Bodies are not checked by recovery.
    ChecksumIgnored,
    /// An unclean stop is taken for a clean one.
    UncleanStopIgnored,
    /// A queue's new file is not made durable by name.
    QueueNamesNotSynced,
    /// A store timestamp may be smaller than the one before it.
    StoreTimestampGoesBack,
    /// A send is answered before its new topic is durable.
    TopicNotAwaited,
    /// A committed position is one too far.
    CommittedOneTooFar,
    /// An answer carries its neighbour's number.
    WrongOpaque,
}

thread_local! {
    static PLANTED: Cell<Option<Plant>> = const { Cell::new(None) };
}

/// Switches a bug on for this thread, or all off.
pub fn set(plant: Option<Plant>) {
    PLANTED.with(|planted| planted.set(plant));
}

pub fn on(plant: Plant) -> bool {
    PLANTED.with(|planted| planted.get() == Some(plant))
}
