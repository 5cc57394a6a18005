//! One connection's task: reads frames, dispatches them, holds answers back until they may be given, writes.
