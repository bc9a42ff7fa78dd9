"""The desktop's view of the daemon: an icon, a menu and windows. The only place that knows Qt."""
