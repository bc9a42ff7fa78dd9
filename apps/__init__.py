"""What people run: the `edge` command and, beside it, trays, servers and bundles."""
