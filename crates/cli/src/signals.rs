//! Signals that would end the command in the middle of a file.

/// A file that grows past its limit is an error of writing, like a full disk, and not the end.
pub(crate) fn survive_file_limits() {
    // Without it the file would stay behind unfinished, and nothing else is lost.
    #[cfg(unix)]
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Default::default());
}

/// From now on no unfinished output file is left behind when the command is interrupted.
pub(crate) fn clean_up_when_ended() {
    #[cfg(unix)]
    {
        use signal_hook::consts::{SIGINT, SIGTERM};
        use signal_hook::iterator::Signals;
        // Without it the files would stay behind, and nothing else is lost. SIGHUP is left alone: under
        // nohup(1) it is ignored, and a handler would end that.
        let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else {
            return;
        };
        let wait = move || {
            if let Some(signal) = signals.forever().next() {
                vmcore_pipeline::output::remove_unfinished();
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        };
        let _ = std::thread::Builder::new().spawn(wait);
    }
}
