//! A link, opened for whoever sits at this machine.

/// Opens a link in the browser of whoever sits at this machine. `false`: there is none, or nobody does, as in a remote shell.
pub fn open_browser(link: &str) -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_remote = is_set("SSH_CONNECTION") || is_set("SSH_TTY");
    let has_screen = cfg!(not(target_os = "linux")) || is_set("DISPLAY") || is_set("WAYLAND_DISPLAY");
    // Whatever else a vault may answer as a link, no program is started for it.
    let is_link = url::Url::parse(link).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    is_link && has_screen && !is_remote && open::that_detached(link).is_ok()
}
