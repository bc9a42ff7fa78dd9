"""`edge serve`: one process that holds sound and models, told what to do over a Unix socket."""
