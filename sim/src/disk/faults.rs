//! What may go wrong on a disk, and how often; and the lies that a disk can be made to tell.

/// Chances per million operations, and times. All zero is a disk that only loses what was not synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// A write is followed by the write-back of one random dirty page of the file.
    pub write_back: u32,
    pub sync_fails: u32,
    pub open_fails: u32,
    pub write_fails: u32,
    pub read_fails: u32,
    pub create_no_space: u32,
    /// A sync takes so long, each order of magnitude equally likely.
    pub sync_us: (u64, u64),
    /// A sync goes in several batches instead of one.
    pub sync_in_batches: u32,
}

impl Default for Faults {
    fn default() -> Self {
        Faults {
            write_back: 0,
            sync_fails: 0,
            open_fails: 0,
            write_fails: 0,
            read_fails: 0,
            create_no_space: 0,
            sync_us: (50, 50),
            sync_in_batches: 0,
        }
    }
}

thread_local! {
    /// The lie that disks of this thread's run tell.
    static LIE: std::cell::Cell<Lies> = const { std::cell::Cell::new(Lies::NONE) };
}

/// Broken promises of the world, planted to see that the checks notice.
#[derive(Clone, Copy, Default, Debug)]
pub struct Lies {
    pub sync_does_nothing: bool,
    pub sync_dir_does_nothing: bool,
    pub new_file_is_dirty: bool,
    pub sync_forgets_last_page: bool,
    pub rename_before_content: bool,
    pub stale_handle_writes: bool,
}

impl Lies {
    const NONE: Lies = Lies {
        sync_does_nothing: false,
        sync_dir_does_nothing: false,
        new_file_is_dirty: false,
        sync_forgets_last_page: false,
        rename_before_content: false,
        stale_handle_writes: false,
    };
    pub const ALL: [(&str, Lies); 6] = [
        ("WorldSyncDoesNothing", Lies { sync_does_nothing: true, ..Lies::NONE }),
        ("WorldSyncDirDoesNothing", Lies { sync_dir_does_nothing: true, ..Lies::NONE }),
        ("WorldNewFileIsDirty", Lies { new_file_is_dirty: true, ..Lies::NONE }),
        ("WorldSyncForgetsLastPage", Lies { sync_forgets_last_page: true, ..Lies::NONE }),
        ("WorldRenameBeforeContent", Lies { rename_before_content: true, ..Lies::NONE }),
        ("WorldStaleHandleWrites", Lies { stale_handle_writes: true, ..Lies::NONE }),
    ];

    pub fn planted() -> Lies {
        LIE.with(std::cell::Cell::get)
    }

    /// Lets the disks made in this thread from now on tell this lie, or none.
    pub fn plant(lies: Option<Lies>) {
        LIE.with(|lie| lie.set(lies.unwrap_or(Lies::NONE)));
    }
}
