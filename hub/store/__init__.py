"""What survives the hub's end: jobs, devices and the log of events, in a database."""
