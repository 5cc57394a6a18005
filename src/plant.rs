//! Bugs planted on purpose, to see that the simulator finds them, and changes without harm, to see that it does not. Compiled only with feature `plant`, which only `sim/`
//! enables; one is switched on for one thread, which is one run.

use std::cell::Cell;

macro_rules! plants {
    (bugs { $($(#[$doc:meta])* $name:ident,)* } harmless { $($(#[$other_doc:meta])* $other:ident,)* }) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Plant { $($(#[$doc])* $name,)* $($(#[$other_doc])* $other,)* }

        impl Plant {
            pub const BUGS: &[Plant] = &[$(Plant::$name),*];
            /// Changes that break no promise: whoever finds one of these is wrong.
            pub const HARMLESS: &[Plant] = &[$(Plant::$other),*];

            pub fn name(self) -> &'static str {
                match self {
                    $(Plant::$name => stringify!($name),)*
                    $(Plant::$other => stringify!($other),)*
                }
            }
        }
    };
}

plants! {
    bugs {
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
        /// The first bytes of a record's size, cut off by the end of what was read at once, are taken for the log's end.
        ShortRestTakenForEnd,
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
        /// Both parts of the checkpoint are synced together: a tear may leave neither slot believable.
        CheckpointSyncedAtOnce,
        /// Damage in what was durable is taken for a torn tail and cut off.
        DamageCutOff,
        /// Units that are missing from a queue, though its message is in the log, are not noticed at a start.
        QueueLackIgnored,
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
        /// A sync that failed is tried again, and its success believed.
        FailedSyncRetried,
        /// After a crash the index keeps entries of records that the log has lost.
        IndexAheadOfLog,
        /// After the log's tail was cut off, deriving goes on behind the end.
        ReputSkipsAfterTruncation,
        /// The file of consumer offsets ends in the middle.
        OffsetFileHalfWritten,
        /// A held pull is not told of an arrival.
        LongPollWakeUpLost,
        /// A name server keeps the routes of brokers that fell silent.
        RouteNotExpired,
        /// A decision about a transaction leaves no op message.
        OpMessageLost,
        /// The end of a transaction is answered before its sync.
        CommitAnsweredBeforeSync,
        /// A second commit of a transaction delivers it once more.
        SecondCommitDelivers,
        /// A half message goes where consumers see it.
        HalfShownToConsumers,
        /// Producers are asked about their halves for ever.
        CheckBackForever,
        /// The stored progress of a delay level is one message ahead.
        DelayOffsetAhead,
        /// Delayed messages come after half of their time.
        DelayedTooEarly,
        /// A message becomes a dead letter one attempt too late.
        DeadLetterOneTryLate,
        /// A message that is sent back loses one of its own properties.
        RetryLosesProperty,
        /// Of two wanted tags with one hash only the first is delivered.
        FilterDropsOnHashCollision,
        /// A segment goes before the units of its queues are durable.
        SegmentGoneBeforeQueues,
        /// Segments that go are taken off the disk in one step.
        SegmentsGoneUnordered,
        /// Queues do not follow the log when its beginning moves.
        QueueMinNotMoved,
        /// An index entry does not lead to the one before it in its slot.
        IndexChainBroken,
        /// The lock of a queue never ends by itself.
        LockNotExpired,
        /// Locks stay when their owner gives them back.
        LockTableSurvivesOwner,
        /// A full table of transactions is looked through only as far as it had read.
        FullTableStopsAtHorizon,
        /// A message stored at the very time that is searched for does not count.
        TimeSearchMissesEqual,
        /// A group cannot go back.
        CommitNeverGoesBack,
        /// What a killed process wrote into the checkpoint counts as durable.
        KilledCheckpointTrusted,
        /// A disk that was full once is full for ever.
        FullForEver,
        /// ASYNC_FLUSH syncs only when enough has gathered.
        AsyncNeverThorough,
        /// A failed write of the log is answered, and the log goes on.
        FailedWriteForgotten,
        /// A failed sync of the log is answered, and the log goes on.
        FailedSyncForgotten,
        /// Who waits for the disk is not told that it failed.
        WaitersNotTold,
        /// The progress of delayed messages is written before what was delivered is durable.
        DelayOffsetBeforeFlush,
        /// What is said of a group is answered before it is durable.
        GroupNotAwaited,
        /// A group that may not consume may.
        ClosedGroupServed,
        /// A message that is sent back for good comes once more.
        GivenUpComesAgain,
        /// The delay that a consumer asks for when it sends a message back is not heard.
        RetryLevelNotHeard,
        /// Delayed messages are looked for too seldom.
        DelayedTooLate,
    }
    harmless {
        /// What was synced is synced once more.
        SegmentsSyncedTwice,
        /// Everything derived is synced in every pass.
        UpkeepAlwaysThorough,
    }
}

/// Stands in every binary that these bugs were compiled into, and in no other. No optimiser takes it away.
#[used]
static MARK: [u8; 36] = *b"KeelMQ with bugs planted on purpose.";

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
